//! What this machine could do at best, measured beside what the store does. The only unsafe code of the binary:
//! the limits are about memory mappings.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapMut};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

/// More than this is not copied for a limit: it would only take longer.
const BYTES_MAX: u64 = 1 << 30;

/// As for copying, where each part waits for the disk.
const SYNCED_BYTES_MAX: u64 = 128 << 20;

/// No part of a limit is measured for longer.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Where a record stands in the store's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Offset in the log.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u32,
}

/// Records a second that `threads` threads can copy into one mapped file whose blocks are allocated.
pub(super) fn copy_rate(
    scratch: &Path,
    records: u64,
    record_bytes: usize,
    threads: usize,
) -> io::Result<f64> {
    let share = (records.min(BYTES_MAX / record_bytes as u64) / threads as u64).max(1) as usize;
    let bytes = share * record_bytes * threads;
    let file = allocated(scratch, bytes as u64)?;
    // SAFETY: the file was made by this function under a name of its own and nothing else opens it, so nobody
    // changes or shortens it while it is mapped.
    let mut map = unsafe { MmapMut::map_mut(&file)? };
    let source = sample(record_bytes);
    let start = Instant::now();
    thread::scope(|scope| {
        for part in map[..bytes].chunks_exact_mut(share * record_bytes) {
            let source = &source;
            scope.spawn(move || {
                for slot in part.chunks_exact_mut(record_bytes) {
                    slot.copy_from_slice(black_box(source));
                }
            });
        }
    });
    let took = start.elapsed();
    black_box(&map[..]);
    drop(map);
    fs::remove_file(scratch)?;
    Ok((share * threads) as f64 / took.as_secs_f64())
}

/// Records a second that one thread can make durable by writing `group` of them and then syncing, over and over:
/// into blocks that are allocated, or into blocks that were written before, whichever is faster here.
pub(super) fn sync_rate(
    scratch: &Path,
    records: u64,
    record_bytes: usize,
    group: u64,
) -> io::Result<f64> {
    let source = sample(record_bytes * group as usize);
    let group_bytes = source.len() as u64;
    let rounds = (records / group).clamp(1, (SYNCED_BYTES_MAX / group_bytes).max(1));
    let file = allocated(scratch, rounds * group_bytes)?;
    file.sync_all()?;
    let allocated = sync_groups(&file, &source, rounds)?;
    for round in 0..rounds {
        file.write_all_at(&source, round * group_bytes)?;
    }
    file.sync_all()?;
    let written = sync_groups(&file, &source, rounds)?;
    drop(file);
    fs::remove_file(scratch)?;
    Ok(group as f64 * allocated.max(written))
}

/// Groups a second.
fn sync_groups(file: &File, group: &[u8], rounds: u64) -> io::Result<f64> {
    let start = Instant::now();
    let mut done = 0;
    while done < rounds && start.elapsed() < TIME_MAX {
        file.write_all_at(group, done * group.len() as u64)?;
        file.sync_data()?;
        done += 1;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Records a second that threads can checksum straight from the store's files, each thread its own list, in the
/// order in which it pulled them. Places that have no file any more are left out.
pub(super) fn checksum_rate(dir: &Path, places: &[Vec<Place>]) -> io::Result<f64> {
    let segments = Segments::map(dir)?;
    let start = Instant::now();
    let records = thread::scope(|scope| {
        let threads: Vec<_> = places
            .iter()
            .map(|list| {
                let segments = &segments;
                scope.spawn(move || {
                    let mut records = 0_u64;
                    for record in list.iter().filter_map(|place| segments.get(*place)) {
                        black_box(crc32fast::hash(record));
                        records += 1;
                    }
                    records
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(0))
            .sum::<u64>()
    });
    Ok(records as f64 / start.elapsed().as_secs_f64())
}

/// How long reading and checksumming these parts of files takes: (file, from, length).
pub(super) fn read_time(parts: &[(std::path::PathBuf, u64, u64)]) -> io::Result<Duration> {
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    for (path, from, len) in parts {
        let file = File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let (mut at, end) = (*from, from + len);
        while at < end {
            let want = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let got = file.read_at(&mut buffer[..want], at)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            at += got as u64;
        }
        black_box(hasher.finalize());
    }
    Ok(start.elapsed())
}

/// Bytes a second that one thread reads and writes in sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequential {
    pub(super) read: f64,
    pub(super) write: f64,
}

/// Writes a file of so many bytes and syncs it; then reads it, once the system was asked to forget it.
pub(super) fn sequential(scratch: &Path, bytes: u64) -> io::Result<Sequential> {
    let mut piece = sample(1 << 20);
    let lens = |step: u64| {
        let starts = (0..bytes.max(1)).step_by(step as usize);
        starts.map(move |at| (at, (bytes.max(1) - at).min(step) as usize))
    };
    let file = allocated(scratch, bytes.max(1))?;
    let start = Instant::now();
    for (at, len) in lens(piece.len() as u64) {
        file.write_all_at(&piece[..len], at)?;
    }
    file.sync_data()?;
    let write = bytes as f64 / start.elapsed().as_secs_f64();
    forget(scratch)?;
    let start = Instant::now();
    for (at, len) in lens(piece.len() as u64) {
        file.read_exact_at(&mut piece[..len], at)?;
    }
    black_box(&piece);
    let read = bytes as f64 / start.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(scratch)?;
    Ok(Sequential { read, write })
}

/// Asks the system to keep nothing of a file in memory that is not dirty.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

/// Names of the log's segments, with the offset at which each begins. The layout is that of the format's page:
/// `log-` and the offset in 20 digits.
pub(super) fn segment_files(dir: &Path) -> io::Result<Vec<(u64, std::path::PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name
            .to_str()
            .and_then(|name| name.strip_prefix("log-")?.parse().ok());
        if let Some(base) = base {
            files.push((base, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Bytes of a segment file before its first record.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;

/// All segments, mapped.
struct Segments(Vec<(u64, Mmap)>);

impl Segments {
    fn map(dir: &Path) -> io::Result<Self> {
        let mut maps = Vec::new();
        for (base, path) in segment_files(dir)? {
            let file = File::open(path)?;
            // SAFETY: published bytes of a segment never change and only the store of this process, which is idle
            // now, could cut or remove the file.
            maps.push((base, unsafe { Mmap::map(&file)? }));
        }
        Ok(Self(maps))
    }

    fn get(&self, place: Place) -> Option<&[u8]> {
        let after = self.0.partition_point(|(base, _)| *base <= place.offset);
        let (base, map) = &self.0[after.checked_sub(1)?];
        let at = usize::try_from(place.offset - base + SEGMENT_HEADER_BYTES).ok()?;
        map.get(at..at + place.len as usize)
    }
}

fn allocated(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(file)
}

/// Bytes without a pattern, the same every time.
pub(super) fn sample(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("scratch");
        assert!(copy_rate(&scratch, 1_000, 200, 2).unwrap() > 0.0);
        assert!(sync_rate(&scratch, 10, 200, 2).unwrap() > 0.0);
        let sequential = sequential(&scratch, (1 << 20) + 7).unwrap();
        assert!(sequential.read > 0.0 && sequential.write > 0.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let name = "log-00000000000000000100";
        fs::write(dir.path().join(name), sample(1_064)).unwrap();
        let places = [vec![
            Place {
                offset: 100,
                len: 500,
            },
            Place {
                offset: 1_000,
                len: 100,
            },
        ]];
        assert!(checksum_rate(dir.path(), &places).unwrap() > 0.0);
        assert!(read_time(&[(dir.path().join(name), 64, 1_000)]).unwrap() > Duration::ZERO);
    }
}
