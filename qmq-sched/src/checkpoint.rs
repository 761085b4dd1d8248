//! The checkpoint: the scheduler's state between two records of the log, in one file.
//!
//! ```text
//! magic, version u32, checksum u32, length u64, store id u128, scale u32, next sequence u64, next run u64, dropped u64, end offset u64, held from u64, first slot u32
//! runs          count u32, numbers u64
//! buckets       count u32, each: number u32, bucket
//! subjects
//! moved         count u32, each: place, place, sequences u64 of the records that put it there and that has its bytes
//! needed
//! outstanding   count u32, each: place, entry
//! ```

use std::io;

use qmq_store::disk::{Access, Disk};

use crate::bucket::Bucket;
use crate::core::{Core, Outstanding, Place};
use crate::entry::{ENTRY_LEN, Entry};
use crate::event::{KEY_LEN, put_key, take, take_key};
use crate::needed::Needed;
use crate::totals::Subjects;

const MAGIC: [u8; 8] = *b"QMQ-DLY\n";
const VERSION: u32 = 2;
const FIXED_LEN: usize = 8 + 4 + 4 + 8 + 16;
const PREFIX: &str = "checkpoint-";

/// What a checkpoint says besides the state itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) store_id: u128,
    pub(crate) segment_scale_minute: u32,
    pub(crate) next_run: u64,
    pub(crate) runs: Vec<u64>,
    /// The state is as of this offset of the log, or an earlier one.
    pub(crate) end_offset: u64,
    /// The log was held from there on when it was taken, or began there.
    pub(crate) held_from: u64,
}

impl Summary {
    /// Whether the log has let go of what the state needs: a removed checkpoint that a loss of power has brought back. What it needs is known
    /// by stretches of sequences, of which the log may have had the end alone.
    pub(crate) fn is_stale(&self, core: &Core, log: LogStart) -> bool {
        let needed = core.needed.first().unwrap_or(core.next_sequence);
        needed < log.first_sequence && self.held_from < log.offset
    }
}

/// Where the log begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogStart {
    /// Of the scheduler's subject.
    pub(crate) first_sequence: u64,
    pub(crate) offset: u64,
}

pub(crate) fn checkpoint_name(next_sequence: u64) -> String {
    format!("{PREFIX}{next_sequence:020}")
}

/// Encodes the state as it is, but for what is staged.
pub(crate) fn encode(core: &Core, summary: &Summary) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&summary.store_id.to_le_bytes());
    out.extend_from_slice(&summary.segment_scale_minute.to_le_bytes());
    let words = [
        core.next_sequence,
        summary.next_run,
        core.dropped,
        summary.end_offset,
        summary.held_from,
    ];
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&core.first_slot.to_le_bytes());
    put_count(&mut out, summary.runs.len());
    for run in &summary.runs {
        out.extend_from_slice(&run.to_le_bytes());
    }
    put_count(&mut out, core.buckets.len());
    for (number, bucket) in &core.buckets {
        out.extend_from_slice(&number.to_le_bytes());
        bucket.encode(&mut out);
    }
    core.subjects.encode(&mut out);
    put_count(&mut out, core.moved.len());
    for (&home, &place) in &core.moved {
        put_key(&mut out, home);
        put_key(&mut out, place.key);
        out.extend_from_slice(&place.record.to_le_bytes());
        out.extend_from_slice(&place.body.to_le_bytes());
    }
    core.needed.encode(&mut out);
    put_count(&mut out, core.outstanding.len());
    for (&home, one) in &core.outstanding {
        put_key(&mut out, home);
        out.extend_from_slice(&one.entry.encode());
    }
    let len = out.len() as u64;
    out[16..24].copy_from_slice(&len.to_le_bytes());
    let crc = crc(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Makes an encoded state that of another store.
pub(crate) fn set_store_id(encoded: &mut [u8], store_id: u128) {
    encoded[24..FIXED_LEN].copy_from_slice(&store_id.to_le_bytes());
    let crc = crc(encoded);
    encoded[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

/// Decodes a checkpoint into an empty core. `None`: it is not what was written. No memory is taken for what the bytes do not hold.
pub(crate) fn decode(bytes: &[u8], core: &mut Core) -> Option<Summary> {
    if bytes.len() < FIXED_LEN || bytes[..8] != MAGIC {
        return None;
    }
    let mut input = &bytes[8..];
    let (version, stored) = (u32::from_le_bytes(take(&mut input)?), take(&mut input)?);
    let len = u64::from_le_bytes(take(&mut input)?);
    if version != VERSION || u32::from_le_bytes(stored) != crc(bytes) || len != bytes.len() as u64 {
        return None;
    }
    let mut summary = Summary {
        store_id: u128::from_le_bytes(take(&mut input)?),
        segment_scale_minute: u32::from_le_bytes(take(&mut input)?),
        ..Summary::default()
    };
    core.next_sequence = u64::from_le_bytes(take(&mut input)?);
    summary.next_run = u64::from_le_bytes(take(&mut input)?);
    core.dropped = u64::from_le_bytes(take(&mut input)?);
    summary.end_offset = u64::from_le_bytes(take(&mut input)?);
    summary.held_from = u64::from_le_bytes(take(&mut input)?);
    core.first_slot = core.first_slot.max(u32::from_le_bytes(take(&mut input)?));
    for _ in 0..take_count(&mut input, 8)? {
        summary.runs.push(u64::from_le_bytes(take(&mut input)?));
    }
    for _ in 0..take_count(&mut input, 4)? {
        let number = u32::from_le_bytes(take(&mut input)?);
        core.buckets.insert(number, Bucket::decode(&mut input)?);
    }
    core.subjects = Subjects::decode(&mut input)?;
    for _ in 0..take_count(&mut input, 2 * KEY_LEN + 16)? {
        let home = take_key(&mut input)?;
        let place = Place {
            key: take_key(&mut input)?,
            record: u64::from_le_bytes(take(&mut input)?),
            body: u64::from_le_bytes(take(&mut input)?),
        };
        core.moved.insert(home, place);
    }
    core.needed = Needed::decode(&mut input)?;
    for _ in 0..take_count(&mut input, KEY_LEN + ENTRY_LEN)? {
        let home = take_key(&mut input)?;
        let entry = Entry::decode(&take(&mut input)?)?;
        core.outstanding.insert(home, Outstanding::new(entry));
    }
    input.is_empty().then_some(summary)
}

/// A count of things of at least `len` bytes each, all of which are there.
fn take_count(input: &mut &[u8], len: usize) -> Option<usize> {
    let count = u32::from_le_bytes(take(input)?) as usize;
    (count <= input.len() / len).then_some(count)
}

/// Writes a checkpoint whole. Its name becomes durable with the disk's next sync of names.
pub(crate) fn write(disk: &dyn Disk, next_sequence: u64, bytes: &[u8]) -> io::Result<()> {
    let name = checkpoint_name(next_sequence);
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary, bytes.len() as u64)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, &name)
}

/// Names of all checkpoints, newest first.
pub(crate) fn names(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let files = disk.list()?.into_iter().map(|entry| entry.name);
    let is_ours = |name: &String| {
        let number = name.strip_prefix(PREFIX);
        number.is_some_and(|text| text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut names: Vec<_> = files.filter(is_ours).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

pub(crate) fn read(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name, Access::Read)?;
    let len = file.len()?;
    // The declared length is believed only if it is that of the file, and then no more is read than was written.
    let mut fixed = [0; FIXED_LEN];
    if len < FIXED_LEN as u64 {
        return Ok(Vec::new());
    }
    file.read_at(&mut fixed, 0)?;
    if fixed[16..24] != len.to_le_bytes() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
