//! From a folder to an open store, and back to a closed one.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::checkpoint::is_checkpoint;
use super::damage::DamageKind;
use super::files::set_aside;
use super::folder::{check_folder, tidy};
use super::housekeeper;
use super::identity::Identity;
use super::recovery::{Extent, OpenReport, Recovered, make_durable, recover};
use crate::consume::later::Later;
use crate::disk::{Access, Disk, Maps};
use crate::error::{Error, OpenError, is_full};
use crate::log::published::{self, PUBLISHED_FILE};
use crate::log::role::Role;
use crate::log::segment::SEGMENT_HEADER_LEN;
use crate::log::{Log, LogStart, SealJob};
use crate::options::Options;
use crate::replicate::{cutting, promise};
use crate::store::Inner;

/// A log that has more than this in its active segment at a clean close is sealed, so that the next open does not read it.
const REPLAYED_AT_OPEN_MAX: u64 = 2 << 20;

/// Holds the folder's lock.
pub(crate) struct FolderLock {
    _held: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for FolderLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FolderLock")
    }
}

pub(crate) fn not_writable(folder: &str, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable {
                folder: folder.to_owned(),
                source: Arc::new(error),
            }
        }
        _ => OpenError::Io {
            doing: format!("opening {folder}"),
            source: Arc::new(error),
        },
    }
}

/// As what a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenAs {
    Master,
    Replica,
    /// Whatever it was.
    Before,
}

/// Opens the store on `disk`. `lock`: the folder's, if the caller has it already.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    mut options: Options,
    open_as: OpenAs,
    lock: Option<FolderLock>,
) -> Result<Inner, OpenError> {
    options.check()?;
    check_folder(&**disk)?;
    // A newer format is refused before the lock file is touched.
    Identity::read(&**disk)?;
    let lock = match lock {
        Some(lock) => lock,
        None => lock_folder(&**disk)?,
    };
    let found = Identity::read(&**disk)?;
    let mut identity = identity_of(&options, found);
    if identity.replica && open_as == OpenAs::Master {
        return Err(OpenError::Replica {
            folder: disk.describe(),
        });
    }
    let promised = promise::read(&**disk, identity.store_id)?;
    if let Some(end) = identity.cut {
        cutting::finish(&**disk, identity.store_id, end)?;
    }
    let (clean_end, known_synced) = believed(&**disk, &identity)?;
    let maps = Maps::new(
        Arc::clone(disk),
        identity.store_id,
        options.mapped_files_max,
    );
    let extent = Extent {
        known_synced,
        until: clean_end.unwrap_or(u64::MAX),
        writable: true,
        own: !identity.replica,
        cut: identity.cut.is_some(),
    };
    let mut recovered = recover(&**disk, &maps, identity.store_id, extent)?;
    // The checkpoint may have proved the same as what is published.
    let clean_end = clean_end.filter(|&end| end >= recovered.synced);
    recovered.report.clean = clean_end == Some(recovered.end) && !recovered.lost_tail;
    // An older identity that was put back has an older one.
    identity.incarnation = identity.incarnation.max(recovered.incarnation);
    if !recovered.report.clean {
        // A loss of power may have taken back what consumers have seen: nothing that they hold may settle other messages.
        identity.incarnation += 1;
    }
    identity.replica |= open_as == OpenAs::Replica;
    identity.held |= options.retention_hold.is_some();
    if identity.held {
        // Whoever does not know what is needed of it lets nothing go.
        options.retention_hold.get_or_insert_default();
    }
    // The store is open, and durably says so, before anything is appended. What the recovery has removed before, an open that starts over
    // would remove again.
    identity.clean_end = None;
    identity
        .write(&**disk)
        .map_err(|error| not_writable(&disk.describe(), error))?;
    tidy(&**disk, clean_end.is_some(), &options).map_err(OpenError::io("tidying the folder"))?;
    recovered.report.incarnation = identity.incarnation;
    remove_damaged_checkpoints(&**disk, &recovered.report)
        .map_err(OpenError::io("removing a damaged checkpoint"))?;
    if !recovered.report.clean {
        make_durable(
            &**disk,
            &recovered.segments,
            recovered.synced,
            recovered.end,
        )
        .map_err(OpenError::io("syncing what was recovered"))?;
    }
    let no_room = |error: io::Error| {
        if is_full(&error) {
            let needed = 3 * (SEGMENT_HEADER_LEN + options.segment_bytes);
            OpenError::NoRoom {
                folder: disk.describe(),
                needed,
            }
        } else {
            OpenError::Io {
                doing: "preparing the log".to_owned(),
                source: Arc::new(error),
            }
        }
    };
    let start = log_start(&**disk, &identity, &mut recovered)
        .map_err(OpenError::io("opening a segment"))?;
    let log = Log::start(Arc::clone(disk), maps, &options, start).map_err(&no_room)?;
    log.adopt_reserve(clean_end.is_some()).map_err(&no_room)?;
    if !log.fill_reserve().map_err(&no_room)? && recovered.end == 0 {
        return Err(no_room(io::Error::from(io::ErrorKind::StorageFull)));
    }
    let last_checkpoint =
        AtomicU64::new(recovered.end - recovered.report.replayed_bytes.min(recovered.end));
    let now = options.clock.now_ms();
    let mut busy = HashSet::new();
    for subject in recovered.catalog.all() {
        for group in &mut subject.consumption.lock().groups {
            group.touch_all(now);
            if group.unacked() > 0 {
                busy.insert(subject.id);
            }
        }
    }
    let inner = Inner {
        log,
        catalog: recovered.catalog,
        names: recovered.names,
        report: recovered.report,
        created_ms: identity.created_ms,
        busy: Mutex::new(busy),
        wake_later: Mutex::new(Later::default()),
        retired: Mutex::new(Vec::new()),
        retention_held: AtomicUsize::new(0),
        keep_from: AtomicU64::new(u64::MAX),
        last_checkpoint,
        failures: Mutex::default(),
        housekeeping: Mutex::new(()),
        closed: AtomicBool::new(false),
        promised: Mutex::new(promised),
        lock: Mutex::new(Some(lock)),
        options,
    };
    if identity.cut.take().is_some() {
        // From here on no older checkpoint is needed; only then is the cut over.
        housekeeper::checkpoint(&inner)
            .and_then(|()| {
                identity
                    .write(&*inner.log.disk)
                    .map_err(Error::io("writing the identity"))
            })
            .map_err(|error| OpenError::Io {
                doing: "finishing a cut of the log".to_owned(),
                source: Arc::new(io::Error::other(error)),
            })?;
    }
    Ok(inner)
}

pub(crate) fn lock_folder(disk: &dyn Disk) -> Result<FolderLock, OpenError> {
    let lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked {
            folder: disk.describe(),
        },
        _ => not_writable(&disk.describe(), error),
    })?;
    Ok(FolderLock { _held: lock })
}

/// The clean end, unless more was synced since: then the identity is an older one that was put back. And how far the log is known to be synced.
fn believed(disk: &dyn Disk, identity: &Identity) -> Result<(Option<u64>, u64), OpenError> {
    let published =
        published::read(disk, identity.store_id).map_err(OpenError::unreadable(PUBLISHED_FILE))?;
    let synced = published.map_or(0, |end| end.synced);
    Ok(match (identity.clean_end, identity.cut) {
        // All that the cut has left was synced before.
        (_, Some(end)) => (None, end),
        (Some(end), None) if end < synced => (None, synced),
        // A replica's own records of what it has synced are few.
        (None, None) if identity.replica => (None, synced),
        (clean_end, None) => (clean_end, clean_end.unwrap_or(0)),
    })
}

/// The identity of the store that is being opened; of a new one if there was none.
fn identity_of(options: &Options, found: Option<Identity>) -> Identity {
    found.unwrap_or_else(|| Identity {
        store_id: new_store_id(options.identity_seed),
        created_ms: options.clock.now_ms(),
        incarnation: 1,
        clean_end: Some(0),
        replica: false,
        held: false,
        cut: None,
    })
}

/// A damaged checkpoint is of no use, and its name could outlive that of a good one; so could another store's.
fn remove_damaged_checkpoints(disk: &dyn Disk, report: &OpenReport) -> io::Result<()> {
    for damage in &report.damages {
        match damage.kind {
            DamageKind::Checkpoint => disk.remove(&damage.file)?,
            DamageKind::Foreign if is_checkpoint(&damage.file) => set_aside(disk, &damage.file)?,
            _ => {}
        }
    }
    Ok(())
}

/// 128 bits that no other store has: from the operating system's seed of the standard hasher, or from the caller.
pub(crate) fn new_store_id(seed: Option<u64>) -> u128 {
    let (high, low) = match seed {
        Some(seed) => (seed, seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15),
        None => (
            RandomState::new().hash_one(1_u8),
            RandomState::new().hash_one(2_u8),
        ),
    };
    (u128::from(high) << 64) | u128::from(low)
}

fn log_start(
    disk: &dyn Disk,
    identity: &Identity,
    recovered: &mut Recovered,
) -> io::Result<LogStart> {
    let subjects = recovered.catalog.len() as u32;
    let mut sealing = Vec::new();
    for segment in recovered
        .segments
        .iter()
        .filter(|segment| segment.sealed().is_none() && segment.end().is_some())
    {
        let file = match disk.open(segment.data().name(), Access::Write) {
            // A segment that is missing is reported; its index will be all holes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(segment.data().name(), SEGMENT_HEADER_LEN)?
            }
            file => file?,
        };
        let touched = recovered.touched.remove(&segment.base).unwrap_or_default();
        sealing.push(SealJob {
            segment: Arc::clone(segment),
            file,
            touched,
            subjects,
        });
    }
    let active = recovered
        .segments
        .last()
        .filter(|segment| segment.end().is_none())
        .map(|segment| segment.base);
    Ok(LogStart {
        store_id: identity.store_id,
        incarnation: identity.incarnation,
        role: if identity.replica {
            Role::Replica
        } else {
            Role::Master
        },
        touched: active
            .and_then(|base| recovered.touched.remove(&base))
            .unwrap_or_default(),
        segments: std::mem::take(&mut recovered.segments),
        end: recovered.end,
        last_time_ms: recovered.last_time_ms,
        last_incarnation: recovered.last_incarnation,
        subjects,
        sealing,
    })
}

/// Closes in order; the threads have stopped.
pub(crate) fn close(inner: &Inner) -> Result<(), Error> {
    let _step = inner.housekeeping.lock();
    if inner.lock.lock().is_none() {
        return Ok(());
    }
    let end = inner.log.close_for_appends();
    inner.sync_to(end)?;
    if inner.log.active_bytes() > REPLAYED_AT_OPEN_MAX {
        inner.log.finish_active();
    }
    housekeeper::seal_all(inner).map_err(Error::io("sealing a segment"))?;
    housekeeper::checkpoint(inner)?;
    inner
        .log
        .remove_spare()
        .map_err(Error::io("removing the spare segment"))?;
    let mut identity = inner.identity();
    identity.clean_end = Some(end);
    identity
        .write(&*inner.log.disk)
        .map_err(Error::io("writing the identity"))?;
    inner
        .last_checkpoint
        .store(inner.log.settled_end(), Ordering::Relaxed);
    Ok(())
}
