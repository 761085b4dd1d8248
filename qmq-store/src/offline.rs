//! What an operator does to a folder when no program has the store open: look, verify, repair, dump.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use qmq_message::Attributes;

use crate::disk::{Access, Disk, MappedDisk};
use crate::error::{Error, OpenError};
use crate::keep::damage::Damage;
use crate::keep::files::read_records;
use crate::keep::folder::{check_finished, check_regular};
use crate::keep::identity::Identity;
use crate::keep::opening::OpenAs;
use crate::keep::recovery::OpenReport;
use crate::keep::stats::SubjectStats;
use crate::keep::verify::VerifyReport;
use crate::log::record::Kind;
use crate::log::scan::{Found, Scan};
use crate::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader, log_base, log_name};
use crate::options::{Background, Options, Retention};
use crate::read::Source;
pub use crate::replicate::lost::{dump_lost, dump_lost_on, lost_tails};
use crate::store::Store;

fn folder(path: &Path) -> Result<Arc<dyn Disk>, Error> {
    let disk =
        MappedDisk::open(path, false).map_err(Error::io(format!("opening {}", path.display())))?;
    Ok(Arc::new(disk))
}

/// A store that is only looked at or put in order: no threads, and nothing is retired.
fn quiet_options(segment_bytes: u64) -> Options {
    Options {
        background: Background::Manual,
        retention: Retention {
            max_age: None,
            ..Retention::default()
        },
        ..Options::with_segment_bytes(segment_bytes)
    }
}

/// Reads the whole store in `path` back and compares it with its checksums. Writes nothing; works on a live store too, up to what its writer
/// has published.
///
/// # Errors
/// What opening it says. Damage is not an error but in the report.
pub fn verify(
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, Error> {
    let disk = folder(path.as_ref())?;
    let store = Store::open_read_only_on(disk, &Options::default())?;
    let mut report = store.verify(progress)?;
    for damage in &store.open_report().damages {
        if !report.damages.contains(damage) {
            report.damages.push(damage.clone());
        }
    }
    Ok(report)
}

/// What [`repair`] did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// The identity file was made anew.
    pub identity_rebuilt: bool,
    /// What opening the store found and mended.
    pub opened: OpenReport,
    /// Index files rebuilt besides: their checksums were bad, or their entries did not lead to the records.
    pub indexes_rebuilt: u64,
    /// What is still damaged: records that no copy in this folder can bring back. They are reported by reads and cost no others.
    pub remaining: Vec<Damage>,
}

/// Puts a store in order as far as its log allows: a damaged identity, damaged or missing checkpoints and indexes are made anew. Records are never
/// changed.
///
/// # Errors
/// [`OpenError::Locked`] if a program has the store open; [`OpenError::NotAStore`] if there is no segment whose header can be read, and
/// [`OpenError::NoStore`] if there is nothing at all; then nothing is changed.
pub fn repair(
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RepairReport, Error> {
    let disk = folder(path.as_ref())?;
    check_regular(&*disk)?;
    check_finished(&*disk)?;
    let identity_rebuilt = repair_identity(&*disk)?;
    let options = quiet_options(Options::default().segment_bytes);
    let store = Store::open_as(&disk, options, OpenAs::Before, None)?;
    let mut verified = store.verify(progress)?;
    let indexes_rebuilt = store.rebuild_indexes(&verified.damages)?;
    if indexes_rebuilt > 0 {
        verified = store.verify(progress)?;
    }
    let opened = store.open_report().clone();
    store.checkpoint()?;
    store.close()?;
    Ok(RepairReport {
        identity_rebuilt,
        opened,
        indexes_rebuilt,
        remaining: verified.damages,
    })
}

/// Makes a damaged or missing identity anew, from the segments' headers.
fn repair_identity(disk: &dyn Disk) -> Result<bool, Error> {
    match Identity::read(disk) {
        Ok(Some(_)) => return Ok(false),
        Ok(None) | Err(OpenError::DamagedIdentity { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // Before the lock file is made: nothing is changed in a folder without a log.
    let store_id = store_id_of_log(disk)?;
    let _lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::from(OpenError::Locked {
            folder: disk.describe(),
        }),
        _ => Error::io("locking the folder")(error),
    })?;
    let mut incarnation = 0;
    for base in log_bases(disk)? {
        incarnation = incarnation.max(highest_incarnation(disk, base)?);
    }
    let identity = Identity {
        store_id,
        created_ms: 0,
        incarnation: incarnation + 1,
        clean_end: None,
        replica: false,
        held: false,
        cut: None,
    };
    identity
        .write(disk)
        .map_err(Error::io("writing the identity"))?;
    Ok(true)
}

/// The store id that most segments have whose headers can be read: one may be another store's.
fn store_id_of_log(disk: &dyn Disk) -> Result<u128, Error> {
    let mut found: BTreeMap<u128, usize> = BTreeMap::new();
    for base in log_bases(disk)? {
        let name = log_name(base);
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        let file = disk
            .open(&name, Access::Read)
            .map_err(Error::io(format!("opening {name}")))?;
        if file.read_at(&mut bytes, 0).is_ok()
            && let Ok(header) = SegmentHeader::decode(&bytes)
        {
            *found.entry(header.store_id).or_default() += 1;
        }
    }
    if let Some((store_id, _)) = found.into_iter().max_by_key(|(_, segments)| *segments) {
        return Ok(store_id);
    }
    let folder = disk.describe();
    let listed = disk.list().map_err(Error::io("listing the folder"))?;
    let refusal = match listed.into_iter().next() {
        Some(file) => OpenError::NotAStore {
            folder,
            found: file.name,
        },
        None => OpenError::NoStore { folder },
    };
    Err(refusal.into())
}

/// Base offsets of the segments that are there, in order.
fn log_bases(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let listed = disk.list().map_err(Error::io("listing the folder"))?;
    let mut bases: Vec<u64> = listed
        .iter()
        .filter_map(|file| log_base(&file.name))
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

fn highest_incarnation(disk: &dyn Disk, base: u64) -> Result<u32, Error> {
    let mut highest = 0;
    scan_segment(disk, base, &mut |dumped| {
        highest = highest.max(dumped.incarnation);
        true
    })?;
    Ok(highest)
}

/// A store as [`inspect`] shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// Identity of the store.
    pub store_id: u128,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: u64,
    /// Its incarnation.
    pub incarnation: u32,
    /// It was closed in order.
    pub clean: bool,
    /// End of the log.
    pub end_offset: u64,
    /// What reading the end of the log showed.
    pub opened: OpenReport,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Its subjects and groups.
    pub subjects: Vec<SubjectStats>,
}

/// A segment as [`inspect`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// File name.
    pub file: String,
    /// Offset of its first record.
    pub base: u64,
    /// Offset of its end; `None` while it is active.
    pub end: Option<u64>,
    /// Whether it has its index file.
    pub sealed: bool,
    /// Record time of its first and last record, in ms since the Unix epoch; 0 if there is none.
    pub first_time_ms: u64,
    /// See `first_time_ms`.
    pub last_time_ms: u64,
}

/// Describes the store in `path`. Writes nothing.
///
/// # Errors
/// What opening it says.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, Error> {
    use std::sync::atomic::Ordering::Relaxed;
    let disk = folder(path.as_ref())?;
    let store = Store::open_read_only_on(Arc::clone(&disk), &Options::default())?;
    let identity = Identity::read(&*disk)?.ok_or_else(|| OpenError::NoStore {
        folder: disk.describe(),
    })?;
    let segments = store.list();
    let segments = segments.iter().map(|segment| SegmentInfo {
        file: segment.data().name().to_owned(),
        base: segment.base,
        end: segment.end(),
        sealed: segment.sealed().is_some(),
        first_time_ms: segment.first_time_ms.load(Relaxed),
        last_time_ms: segment.last_time_ms.load(Relaxed),
    });
    let subjects: Result<Vec<_>, _> = store
        .subjects()
        .iter()
        .map(|subject| store.subject_stats(subject))
        .collect();
    Ok(Inspection {
        store_id: identity.store_id,
        created_ms: identity.created_ms,
        incarnation: identity.incarnation,
        clean: store.open_report().clean,
        end_offset: store.end_offset(),
        opened: store.open_report().clone(),
        segments: segments.collect(),
        subjects: subjects?,
    })
}

/// What a dumped record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpedKind {
    /// A message.
    Message,
    /// What a consumer did.
    Action,
    /// The header of a batch; its records follow.
    Batch,
    /// A master's term begins.
    Epoch,
    /// A record whose body does not fit its checksum.
    BadBody,
    /// Bytes that are no record.
    Garbage,
}

/// One record, or one stretch of bytes that is none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dumped<'a> {
    /// What it is.
    pub kind: DumpedKind,
    /// Offset in the log.
    pub offset: u64,
    /// Bytes in the log.
    pub len: u64,
    /// Subject, if it has one.
    pub subject: &'a str,
    /// Message: sequence. Batch: number of records. Epoch: its number.
    pub sequence: u64,
    /// Record time in ms since the Unix epoch.
    pub time_ms: u64,
    /// Incarnation of the store that wrote it.
    pub incarnation: u32,
    /// Id of the message, if it has one.
    pub id: Option<&'a str>,
    /// Tags of the message.
    pub tags: Vec<&'a str>,
    /// Properties of the message, key and value, in the order in which they were added.
    pub properties: Vec<(&'a str, &'a str)>,
    /// Body of the message; of an action, its encoding.
    pub body: &'a [u8],
    /// An action in words.
    pub action: Option<String>,
    /// What was submitted along with the message, or with all of the batch: see [`Store::submit_noted`].
    pub note: &'a [u8],
}

/// Shows every record of the log in `path` whose offset is in `from..to` to `sink`, until it answers `false`. Needs no index, no checkpoint and no identity,
/// and writes nothing.
///
/// # Errors
/// [`Error::Io`].
pub fn dump(
    path: impl AsRef<Path>,
    from: u64,
    to: u64,
    sink: &mut dyn FnMut(&Dumped<'_>) -> bool,
) -> Result<(), Error> {
    let disk = folder(path.as_ref())?;
    check_regular(&*disk)?;
    let bases = log_bases(&*disk)?;
    for (at, &base) in bases.iter().enumerate() {
        let ends_before = bases.get(at + 1).is_some_and(|&next| next <= from);
        if ends_before || base >= to {
            continue;
        }
        let mut more = true;
        scan_segment(&*disk, base, &mut |dumped| {
            if dumped.offset >= from && dumped.offset < to {
                more = sink(dumped);
            }
            more
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

fn scan_segment(
    disk: &dyn Disk,
    base: u64,
    sink: &mut dyn FnMut(&Dumped<'_>) -> bool,
) -> Result<(), Error> {
    let name = log_name(base);
    let (bytes, _) =
        read_records(disk, base, u64::MAX).map_err(Error::io(format!("reading {name}")))?;
    dump_bytes(&bytes, base, sink);
    Ok(())
}

/// Shows what is in bytes that stand at `base` of a log.
pub(crate) fn dump_bytes(bytes: &[u8], base: u64, sink: &mut dyn FnMut(&Dumped<'_>) -> bool) {
    let mut scan = Scan::new(bytes, base);
    while let Some(found) = scan.next() {
        let dumped = match &found {
            Found::Record { record, .. } => describe(record, kind_of(record.header.kind)),
            Found::BadBody { header, subject } => Dumped {
                kind: DumpedKind::BadBody,
                offset: header.offset,
                len: header.record_len(),
                subject,
                sequence: header.sequence,
                time_ms: header.time_ms,
                incarnation: header.incarnation,
                id: None,
                tags: Vec::new(),
                properties: Vec::new(),
                body: &[],
                action: None,
                note: &[],
            },
            Found::Garbage { offset, len } => Dumped {
                kind: DumpedKind::Garbage,
                offset: *offset,
                len: *len,
                subject: "",
                sequence: 0,
                time_ms: 0,
                incarnation: 0,
                id: None,
                tags: Vec::new(),
                properties: Vec::new(),
                body: &bytes[(offset - base) as usize..(offset - base + len) as usize],
                action: None,
                note: &[],
            },
            Found::Zeros { .. } => break,
        };
        if !sink(&dumped) {
            break;
        }
    }
}

fn kind_of(kind: Kind) -> DumpedKind {
    match kind {
        Kind::Message => DumpedKind::Message,
        Kind::Action => DumpedKind::Action,
        Kind::Batch => DumpedKind::Batch,
        Kind::Epoch => DumpedKind::Epoch,
    }
}

fn describe<'a>(record: &crate::log::record::Record<'a>, kind: DumpedKind) -> Dumped<'a> {
    let attributes = Attributes::decode(record.attributes).unwrap_or_default();
    let action =
        (kind == DumpedKind::Action).then(|| match crate::consume::Action::decode(record.body) {
            Ok(action) => format!("{action:?}"),
            Err(error) => error.to_string(),
        });
    Dumped {
        kind,
        offset: record.header.offset,
        len: record.header.record_len(),
        subject: record.subject,
        sequence: record.header.sequence,
        time_ms: record.header.time_ms,
        incarnation: record.header.incarnation,
        id: attributes.id(),
        tags: attributes.tags().collect(),
        properties: attributes.properties().collect(),
        body: record.body,
        action,
        note: record.note,
    }
}
