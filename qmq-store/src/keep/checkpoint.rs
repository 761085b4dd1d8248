//! The state of all subjects and groups as of an offset, so that an open replays only what came after.
//!
//! A checkpoint is taken while the store works: subjects are written one after the other, each with what has been applied to it by then. A replay
//! from the checkpoint's offset therefore meets records that are in it already; messages carry their sequence and groups remember the end of
//! the last action applied, so that these are passed over. Before the file gets its name, the log is synced up to what the file refers to.
//!
//! ```text
//!  0 [u8;8] "QMQ-CKP\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..
//! 16 u64 file length     24 u128 store id   40 u64 replay from   48 u64 synced end   56 u64 start of the log   64 u64 last record time
//! 72 u32 incarnation     76 u32 incarnation of the last record before `replay from`
//! 80 u64 state end: of a replica that is not there yet, the offset as of which groups stand; else 0
//! 88 u32 count of sealed segments; each: u64 base, u64 end, u64 first and u64 last record time (ms)
//!    u32 count of epochs; each: u64 number, u64 offset of its record
//!    u32 count of subjects; each: u16 length, name, u64 next sequence, u64 pull floor, u32 count of groups; each: see `consume::snapshot`
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::write_whole;
use crate::consume::{Group, Names};
use crate::disk::{Access, Disk};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::Catalog;
use crate::log::Log;
use crate::log::epochs::Epoch;
use crate::log::role::Role;
use crate::log::segment::numbered;

/// Version of the checkpoint format.
pub(crate) const CHECKPOINT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"QMQ-CKP\n";
const PREFIX: &str = "checkpoint-";
const FIXED_LEN: usize = 88;
/// Checkpoints kept: the newest, and the one before in case the newest is damaged.
const KEPT: usize = 2;

/// The part of a checkpoint that is not about subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) store_id: u128,
    pub(crate) replay_from: u64,
    pub(crate) synced_end: u64,
    pub(crate) start: u64,
    pub(crate) last_time_ms: u64,
    pub(crate) incarnation: u32,
    /// Of the last record before `replay_from`.
    pub(crate) last_incarnation: u32,
    /// Beyond `replay_from` in a replica whose log has not reached the groups' state yet; else 0.
    pub(crate) state_end: u64,
    pub(crate) sealed: Vec<SealedSegment>,
    pub(crate) epochs: Vec<Epoch>,
}

/// A segment with its index file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) first_time_ms: u64,
    pub(crate) last_time_ms: u64,
}

/// Bytes of a [`SealedSegment`] in the file.
const SEALED_LEN: usize = 32;
/// Bytes of an [`Epoch`] in the file.
const EPOCH_LEN: usize = 16;
/// The least bytes of a subject in the file.
const SUBJECT_LEN_MIN: usize = 2 + 8 + 8 + 4;

/// A subject in a checkpoint.
#[derive(Debug)]
pub(crate) struct SubjectState {
    pub(crate) name: String,
    pub(crate) next: u64,
    /// Above all pull sequences of its groups that were dropped.
    pub(crate) pull_floor: u64,
    pub(crate) groups: Vec<Group>,
}

/// Name of the checkpoint that replays from `offset`.
pub(crate) fn checkpoint_name(offset: u64) -> String {
    format!("{PREFIX}{offset:020}")
}

/// Whether a file of this name is a checkpoint.
pub(crate) fn is_checkpoint(name: &str) -> bool {
    numbered(name, PREFIX).is_some()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[8..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// Takes a checkpoint and returns the offset it replays from.
pub(crate) fn take(log: &Log, catalog: &Catalog) -> Result<u64, Error> {
    let (replay_from, last_time_ms, last_incarnation) = log.settled();
    let mut subjects = Vec::new();
    // Read after the groups, so that no group refers to a message that this subject does not have yet.
    encode_subjects(catalog, &|subject| subject.index.lock().next, &mut subjects);
    let epochs = catalog.epochs.all();
    let referred = log.settled_end();
    log.sync_to(referred)?;
    let segments = log.segments();
    let sealed = segments
        .iter()
        .take_while(|segment| segment.sealed().is_some())
        .filter_map(|segment| {
            Some(SealedSegment {
                base: segment.base,
                end: segment.end()?,
                first_time_ms: segment.first_time_ms.load(Ordering::Relaxed),
                last_time_ms: segment.last_time_ms.load(Ordering::Relaxed),
            })
        })
        .collect();
    let summary = Summary {
        store_id: log.store_id,
        replay_from,
        synced_end: log.commit.synced(),
        start: log.start_offset(),
        last_time_ms,
        incarnation: log.incarnation(),
        last_incarnation,
        state_end: catalog.state_beyond(replay_from),
        sealed,
        epochs,
    };
    let out = encode(&summary, &subjects);
    let name = checkpoint_name(replay_from);
    let write = || {
        // Index files that this checkpoint counts on must have durable names first.
        log.sync_names()?;
        write_whole(&*log.disk, &name, &out)?;
        log.sync_names()?;
        prune(&*log.disk, spared(log, &summary))
    };
    log.with_reserve(write)
        .map_err(Error::io(format!("writing {name}")))?;
    Ok(replay_from)
}

/// All subjects with their groups, each as of some moment while this runs; `next_of` is asked for the next sequence after the groups.
pub(crate) fn encode_subjects(
    catalog: &Catalog,
    next_of: &dyn Fn(&Subject) -> u64,
    out: &mut Vec<u8>,
) {
    let subjects = catalog.all();
    out.extend_from_slice(&(subjects.len() as u32).to_le_bytes());
    for subject in subjects {
        put_name(out, &subject.name);
        let next_at = out.len();
        out.extend_from_slice(&[0; 8]);
        let consumption = subject.consumption.lock();
        out.extend_from_slice(&consumption.pull_floor.to_le_bytes());
        out.extend_from_slice(&(consumption.groups.len() as u32).to_le_bytes());
        for group in &consumption.groups {
            group.encode(out);
        }
        drop(consumption);
        let next = next_of(&subject);
        out[next_at..next_at + 8].copy_from_slice(&next.to_le_bytes());
    }
}

/// The bytes of a checkpoint.
pub(crate) fn encode(summary: &Summary, subjects: &[u8]) -> Vec<u8> {
    let lists = summary.sealed.len() * SEALED_LEN + summary.epochs.len() * EPOCH_LEN;
    let mut out = Vec::with_capacity(FIXED_LEN + 8 + lists + subjects.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&summary.store_id.to_le_bytes());
    for word in [
        summary.replay_from,
        summary.synced_end,
        summary.start,
        summary.last_time_ms,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&summary.incarnation.to_le_bytes());
    out.extend_from_slice(&summary.last_incarnation.to_le_bytes());
    out.extend_from_slice(&summary.state_end.to_le_bytes());
    out.extend_from_slice(&(summary.sealed.len() as u32).to_le_bytes());
    for segment in &summary.sealed {
        for word in [
            segment.base,
            segment.end,
            segment.first_time_ms,
            segment.last_time_ms,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out.extend_from_slice(&(summary.epochs.len() as u32).to_le_bytes());
    for epoch in &summary.epochs {
        out.extend_from_slice(&epoch.number.to_le_bytes());
        out.extend_from_slice(&epoch.start.to_le_bytes());
    }
    out.extend_from_slice(subjects);
    let len = out.len() as u64;
    out[16..24].copy_from_slice(&len.to_le_bytes());
    finish(&mut out);
    out
}

/// Of a replica, and of a log with epochs: offset that a third checkpoint is to reach at most. The log may be cut back behind what slaves hold,
/// but not before. While that is not known, the last epoch's begin is as good a guess as any.
fn spared(log: &Log, summary: &Summary) -> Option<u64> {
    let began = summary.epochs.last().map(|epoch| epoch.start);
    let replicated = Some(log.commit.replicated()).filter(|&end| end > 0);
    let replica = (log.role() != Role::Master).then_some(0);
    replicated.or(began).or(replica)
}

fn finish(bytes: &mut [u8]) {
    let crc = crc(bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Makes a copy of a checkpoint one of the store `store_id`.
pub(crate) fn hand_over(bytes: &mut [u8], store_id: u128) {
    bytes[24..40].copy_from_slice(&store_id.to_le_bytes());
    finish(bytes);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

/// Removes all but the newest checkpoints, and of the others one that is all before `spared`, if that is given.
fn prune(disk: &dyn Disk, spared: Option<u64>) -> io::Result<()> {
    let mut names = names(disk)?;
    names.truncate(names.len().saturating_sub(KEPT));
    if let Some(end) = spared
        && !names.is_empty()
    {
        let reaches = |name: &String| synced_end(disk, name).is_some_and(|synced| synced <= end);
        // After an open it is not known yet what slaves hold: then the oldest.
        names.remove(names.iter().rposition(reaches).unwrap_or(0));
    }
    for name in names {
        disk.remove(&name)?;
    }
    Ok(())
}

/// Where the state in a checkpoint ends at the latest, as its header says.
fn synced_end(disk: &dyn Disk, name: &str) -> Option<u64> {
    let mut fixed = [0; FIXED_LEN];
    let file = disk.open(name, Access::Read).ok()?;
    file.read_at(&mut fixed, 0).ok()?;
    take_u64(&mut &fixed[48..])
}

/// Names of all checkpoints, oldest first.
pub(crate) fn names(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = disk
        .list()?
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| is_checkpoint(name))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// A checkpoint as it was found.
#[derive(Debug)]
pub(crate) enum Found {
    Good(Summary, Vec<SubjectState>),
    /// Its bytes are not what was written.
    Damaged,
    /// Another store's.
    Foreign,
}

/// Reads a checkpoint. A file that does not give its bytes is an error, and says nothing about them.
pub(crate) fn read(
    disk: &dyn Disk,
    name: &str,
    store_id: u128,
    interner: &Names,
) -> io::Result<Found> {
    Ok(
        match read_bytes(disk, name)?.map(|bytes| decode(&bytes, interner)) {
            Some(Some((summary, _))) if summary.store_id != store_id => Found::Foreign,
            Some(Some((summary, subjects))) => Found::Good(summary, subjects),
            Some(None) | None => Found::Damaged,
        },
    )
}

/// All bytes of a checkpoint, if it is as long as it says: no memory is taken for what a length alone promises.
pub(crate) fn read_bytes(disk: &dyn Disk, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = disk.open(name, Access::Read)?;
    let len = file.len()?;
    let mut fixed = [0; FIXED_LEN];
    if len < FIXED_LEN as u64 {
        return Ok(None);
    }
    file.read_at(&mut fixed, 0)?;
    if take_u64(&mut &fixed[16..]) != Some(len) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let len = usize::try_from(len).map_err(io::Error::other)?;
    bytes.try_reserve_exact(len).map_err(io::Error::other)?;
    bytes.resize(len, 0);
    file.read_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Decodes the bytes of a checkpoint. Everything is checked against the bytes that are there before memory is taken for it.
pub(crate) fn decode(bytes: &[u8], interner: &Names) -> Option<(Summary, Vec<SubjectState>)> {
    if bytes.len() < FIXED_LEN + 4 || bytes[..8] != MAGIC {
        return None;
    }
    let mut input = &bytes[8..];
    let (version, stored_crc) = (take_u32(&mut input)?, take_u32(&mut input)?);
    if version != CHECKPOINT_VERSION
        || stored_crc != crc(bytes)
        || take_u64(&mut input)? != bytes.len() as u64
    {
        return None;
    }
    let mut summary = Summary {
        store_id: u128::from(take_u64(&mut input)?) | (u128::from(take_u64(&mut input)?) << 64),
        replay_from: take_u64(&mut input)?,
        synced_end: take_u64(&mut input)?,
        start: take_u64(&mut input)?,
        last_time_ms: take_u64(&mut input)?,
        incarnation: take_u32(&mut input)?,
        last_incarnation: take_u32(&mut input)?,
        state_end: take_u64(&mut input)?,
        sealed: Vec::new(),
        epochs: Vec::new(),
    };
    let sealed = take_u32(&mut input)? as usize;
    if sealed > input.len() / SEALED_LEN {
        return None;
    }
    summary.sealed.reserve_exact(sealed);
    for _ in 0..sealed {
        summary.sealed.push(SealedSegment {
            base: take_u64(&mut input)?,
            end: take_u64(&mut input)?,
            first_time_ms: take_u64(&mut input)?,
            last_time_ms: take_u64(&mut input)?,
        });
    }
    let epochs = take_u32(&mut input)? as usize;
    if epochs > input.len() / EPOCH_LEN {
        return None;
    }
    summary.epochs.reserve_exact(epochs);
    for _ in 0..epochs {
        summary.epochs.push(Epoch {
            number: take_u64(&mut input)?,
            start: take_u64(&mut input)?,
        });
    }
    let count = take_u32(&mut input)? as usize;
    if count > input.len() / SUBJECT_LEN_MIN {
        return None;
    }
    let mut subjects = Vec::with_capacity(count);
    let mut intern = |name: &str| -> Arc<str> { interner.intern(name) };
    for _ in 0..count {
        let name_len = usize::from(take_u16(&mut input)?);
        let (name, rest) = input.split_at_checked(name_len)?;
        input = rest;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let (next, pull_floor) = (take_u64(&mut input)?, take_u64(&mut input)?);
        let group_count = take_u32(&mut input)? as usize;
        if group_count > input.len() {
            return None;
        }
        let mut groups = Vec::with_capacity(group_count.min(input.len() / 16 + 1));
        for _ in 0..group_count {
            groups.push(Group::decode(&mut input, &mut intern).ok()?);
        }
        subjects.push(SubjectState {
            name,
            next,
            pull_floor,
            groups,
        });
    }
    input.is_empty().then_some((summary, subjects))
}

fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

fn take_u16(input: &mut &[u8]) -> Option<u16> {
    take_bytes(input, 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn take_u32(input: &mut &[u8]) -> Option<u32> {
    take_bytes(input, 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let low = take_u32(input)?;
    Some(u64::from(low) | (u64::from(take_u32(input)?) << 32))
}
