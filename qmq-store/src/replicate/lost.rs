//! The tail of a log that was cut off, in a file of its own: nobody's log any more, and there to be looked at.
//!
//! ```text
//!  0 [u8;8] "QMQ-LST\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..64
//! 16 u64 offset of the first byte   24 u64 end   32 u128 store id   48 u32 crc of all bytes from 64 on   52 u32 incarnation   56..64 zero
//! 64 the log's bytes, from the offset to the end
//! ```

use std::io;
use std::path::Path;

use crate::disk::{Access, Disk, DiskFile, MappedDisk};
use crate::error::{Error, named};
use crate::keep::files::read_records;
use crate::le::{header_crc, u32_at, u64_at, u128_at};
use crate::offline::{Dumped, dump_bytes};
use crate::store::Inner;

const PREFIX: &str = "lost-";
const MAGIC: [u8; 8] = *b"QMQ-LST\n";
const VERSION: u32 = 1;
const LEN: usize = 64;

/// What was cut off a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostTail {
    /// Name of the file in the store's folder that has it; `None` if there was nothing to cut.
    pub file: Option<String>,
    /// Offset of its first byte.
    pub offset: u64,
    /// Offset behind its last byte.
    pub end: u64,
}

/// Whether a file of this name is a lost tail.
pub(crate) fn is_lost(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        rest.len() >= 41
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-')
    })
}

/// The header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    offset: u64,
    end: u64,
    store_id: u128,
    bytes_crc: u32,
    incarnation: u32,
}

impl Head {
    fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.end.to_le_bytes());
        out[32..48].copy_from_slice(&self.store_id.to_le_bytes());
        out[48..52].copy_from_slice(&self.bytes_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.incarnation.to_le_bytes());
        let crc = header_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn read(file: &dyn DiskFile) -> io::Result<Self> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut bytes = [0; LEN];
        file.read_at(&mut bytes, 0)?;
        if bytes[..8] != MAGIC || header_crc(&bytes) != u32_at(&bytes, 12) {
            return Err(wrong("it is no lost tail, or its header is damaged"));
        }
        if u32_at(&bytes, 8) > VERSION {
            return Err(wrong("a newer qmq wrote it; use that"));
        }
        let head = Self {
            offset: u64_at(&bytes, 16),
            end: u64_at(&bytes, 24),
            store_id: u128_at(&bytes, 32),
            bytes_crc: u32_at(&bytes, 48),
            incarnation: u32_at(&bytes, 52),
        };
        // No memory is taken for what a length alone promises.
        let len = head.end.checked_sub(head.offset);
        if len.and_then(|len| len.checked_add(LEN as u64)) != Some(file.len()?) {
            return Err(wrong("it is not as long as it says"));
        }
        Ok(head)
    }
}

/// Writes the log's bytes from `offset` to `end` into a file, durably. One that is there already, from a cut that was interrupted, is left.
pub(super) fn write(inner: &Inner, offset: u64, end: u64) -> io::Result<LostTail> {
    let disk = &*inner.log.disk;
    let first = format!("{PREFIX}{offset:020}-{end:020}");
    let temporary = format!("{first}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let head = inner
        .log
        .with_reserve(|| write_to(inner, &temporary, offset, end))?;
    let mut name = first.clone();
    for number in 1.. {
        match disk
            .open(&name, Access::Read)
            .map(|file| Head::read(&*file))
        {
            Ok(Ok(there)) if there == head => {
                disk.remove(&temporary)?;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.rename(&temporary, &name)?;
                break;
            }
            Ok(_) => name = format!("{first}-{number}"),
            // It may be there, and another's: it stays.
            Err(error) => return Err(named(&error, &name)),
        }
    }
    disk.sync_names()?;
    Ok(LostTail {
        file: Some(name),
        offset,
        end,
    })
}

fn write_to(inner: &Inner, name: &str, offset: u64, end: u64) -> io::Result<Head> {
    let disk = &*inner.log.disk;
    let file = disk.create(name, LEN as u64 + (end - offset))?;
    let mut crc = crc32fast::Hasher::new();
    let mut at = LEN as u64;
    for segment in inner.segments().iter() {
        let until = segment.end().unwrap_or(end).min(end);
        if until <= offset || segment.base >= end {
            continue;
        }
        // What the disk does not give stays zero.
        let (mut bytes, _) = read_records(disk, segment.base, until)?;
        bytes.resize((until - segment.base) as usize, 0);
        let piece = &bytes[offset.saturating_sub(segment.base) as usize..];
        crc.update(piece);
        file.write_at(piece, at)?;
        at += piece.len() as u64;
    }
    let head = Head {
        offset,
        end,
        store_id: inner.log.store_id,
        bytes_crc: crc.finalize(),
        incarnation: inner.log.incarnation(),
    };
    file.write_at(&head.encode(), 0)?;
    file.sync()?;
    Ok(head)
}

fn folder(path: &Path) -> Result<MappedDisk, Error> {
    MappedDisk::open(path, false).map_err(Error::io(format!("opening {}", path.display())))
}

/// The lost tails in the folder of a store, in the order of their offsets.
///
/// # Errors
/// [`Error::Io`].
pub fn lost_tails(path: impl AsRef<Path>) -> Result<Vec<LostTail>, Error> {
    let disk = folder(path.as_ref())?;
    let listed = disk.list().map_err(Error::io("listing the folder"))?;
    let mut names: Vec<String> = listed.into_iter().map(|file| file.name).collect();
    names.retain(|name| is_lost(name));
    names.sort_unstable();
    let tail = |name: String| {
        let head = disk
            .open(&name, Access::Read)
            .and_then(|file| Head::read(&*file))
            .map_err(Error::io(format!("reading {name}")))?;
        Ok(LostTail {
            file: Some(name),
            offset: head.offset,
            end: head.end,
        })
    };
    names.into_iter().map(tail).collect()
}

/// Shows every record of a lost tail, as [`offline::dump`](crate::offline::dump) does those of a log; `file` is its name in the folder `path`.
/// Needs nothing else of the store.
///
/// # Errors
/// [`Error::Io`], also if the file is no lost tail or is damaged. A record that is damaged within is shown as such.
pub fn dump_lost(
    path: impl AsRef<Path>,
    file: &str,
    sink: &mut dyn FnMut(&Dumped<'_>) -> bool,
) -> Result<(), Error> {
    dump_lost_on(&folder(path.as_ref())?, file, sink)
}

/// As [`dump_lost`], from any [`Disk`].
///
/// # Errors
/// As [`dump_lost`].
pub fn dump_lost_on(
    disk: &dyn Disk,
    file: &str,
    sink: &mut dyn FnMut(&Dumped<'_>) -> bool,
) -> Result<(), Error> {
    let read = || {
        let handle = disk.open(file, Access::Read)?;
        let head = Head::read(&*handle)?;
        let mut bytes = vec![0; (head.end - head.offset) as usize];
        handle.read_at(&mut bytes, LEN as u64)?;
        Ok((head.offset, bytes))
    };
    let (offset, bytes) = read().map_err(Error::io(format!("reading {file}")))?;
    dump_bytes(&bytes, offset, sink);
    Ok(())
}
