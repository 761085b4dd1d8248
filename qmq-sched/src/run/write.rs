//! Writing a run, front to back.

use std::io;

use qmq_store::disk::{Disk, DiskFile};

use super::ranges::Ranges;
use super::{
    BLOCK_ENTRIES, BLOCK_HEADER_LEN, BLOCK_LEN, HEADER_LEN, MAGIC, VERSION, file_len, header_crc,
    run_name,
};
use crate::entry::{ENTRY_LEN, Entry};

/// Writes a run of at most `most` entries, which come in order, and gives it its name. Memory does not grow with it, but for 16 bytes a block and
/// what [`Ranges`] takes.
/// The name becomes durable with the disk's next sync of names.
pub(crate) fn write<E: From<io::Error>>(
    disk: &dyn Disk,
    number: u64,
    store_id: u128,
    bucket_ms: u64,
    most: u64,
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> Result<u64, E> {
    let name = run_name(number);
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let blocks = most.div_ceil(BLOCK_ENTRIES as u64);
    let file = disk.create(&temporary, file_len(blocks, 0))?;
    match write_into(&*file, store_id, bucket_ms, entries) {
        Ok(count) => {
            disk.rename(&temporary, &name)?;
            Ok(count)
        }
        Err(error) => {
            // What is left behind would only take room; the next open removes it as well.
            let _ = disk.remove(&temporary);
            Err(error)
        }
    }
}

fn write_into<E: From<io::Error>>(
    file: &dyn DiskFile,
    store_id: u128,
    bucket_ms: u64,
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> Result<u64, E> {
    const PIECE: usize = 256 * BLOCK_LEN;
    let (mut out, mut at) = (Vec::with_capacity(PIECE), HEADER_LEN as u64);
    let (mut fences, mut ranges) = (Vec::new(), Ranges::new(bucket_ms));
    let (mut count, mut first_due_ms, mut last_due_ms) = (0_u64, 0, 0);
    let mut in_block = 0;
    for entry in entries {
        let entry = entry?;
        if in_block == 0 {
            fences.extend_from_slice(&entry.key.due_ms.to_le_bytes());
            fences.extend_from_slice(&u64::from(entry.key.slot).to_le_bytes());
            out.resize(out.len() + BLOCK_HEADER_LEN, 0);
        }
        if count == 0 {
            first_due_ms = entry.key.due_ms;
        }
        last_due_ms = entry.key.due_ms;
        ranges.add(entry.key);
        out.extend_from_slice(&entry.encode());
        (count, in_block) = (count + 1, in_block + 1);
        if in_block == BLOCK_ENTRIES {
            end_block(&mut out, in_block);
            in_block = 0;
            if out.len() >= PIECE {
                file.write_at(&out, at)?;
                at += out.len() as u64;
                out.clear();
            }
        }
    }
    if in_block > 0 {
        end_block(&mut out, in_block);
    }
    let mut tail = fences;
    let ranges = ranges.encode(&mut tail);
    let crc = crc32fast::hash(&tail);
    out.append(&mut tail);
    out.extend_from_slice(&u64::from(crc).to_le_bytes());
    file.write_at(&out, at)?;
    file.set_len(at + out.len() as u64)?;
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&store_id.to_le_bytes());
    for word in [count, first_due_ms, last_due_ms, bucket_ms, ranges] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header.resize(HEADER_LEN, 0);
    let crc = header_crc(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0)?;
    file.sync()?;
    Ok(count)
}

/// Fills the block up whose entries end `out`, and its header.
fn end_block(out: &mut Vec<u8>, entries: usize) {
    let start = out.len() - BLOCK_HEADER_LEN - entries * ENTRY_LEN;
    out[start + 4..start + 8].copy_from_slice(&(entries as u32).to_le_bytes());
    out.resize(start + BLOCK_LEN, 0);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}
