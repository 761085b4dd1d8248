//! The end of the log as the writer last published it, for followers in other processes.
//!
//! A file of two slots, stored in turn, each
//! `u64 written, u64 synced, u64 turn, u32 incarnation, u32 check`. It is never synced: it tells a follower of a live writer how far to read. To
//! recovery it only proves that an identity is an older one: what it says was synced, was.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, Region};
use crate::le::{u32_at, u64_at};

/// Name of the file.
pub(crate) const PUBLISHED_FILE: &str = "published";
const SLOT_LEN: usize = 32;
const FILE_LEN: u64 = 4096;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishedEnd {
    pub(crate) written: u64,
    pub(crate) synced: u64,
    pub(crate) incarnation: u32,
    turn: u64,
}

impl PublishedEnd {
    fn check(&self, store_id: u128) -> u32 {
        let mut hash = self.written ^ 0x9E37_79B9_7F4A_7C15;
        let (low, high) = (store_id as u64, (store_id >> 64) as u64);
        for word in [
            self.synced,
            self.turn,
            u64::from(self.incarnation),
            low,
            high,
        ] {
            hash = (hash ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            hash ^= hash >> 31;
        }
        (hash >> 16) as u32 | 1
    }

    fn encode(&self, store_id: u128) -> [u8; SLOT_LEN] {
        let mut out = [0; SLOT_LEN];
        out[..8].copy_from_slice(&self.written.to_le_bytes());
        out[8..16].copy_from_slice(&self.synced.to_le_bytes());
        out[16..24].copy_from_slice(&self.turn.to_le_bytes());
        out[24..28].copy_from_slice(&self.incarnation.to_le_bytes());
        out[28..].copy_from_slice(&self.check(store_id).to_le_bytes());
        out
    }

    fn decode(slot: &[u8], store_id: u128) -> Option<Self> {
        let end = Self {
            written: u64_at(slot, 0),
            synced: u64_at(slot, 8),
            turn: u64_at(slot, 16),
            incarnation: u32_at(slot, 24),
        };
        (end.check(store_id) == u32_at(slot, 28)).then_some(end)
    }
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Publisher {
    file: Arc<dyn DiskFile>,
    region: Arc<Region>,
    store_id: u128,
    turn: u64,
}

impl Publisher {
    pub(crate) fn open(disk: &dyn Disk, store_id: u128) -> io::Result<Self> {
        let file = match disk.open(PUBLISHED_FILE, Access::Write) {
            Ok(file) if file.len()? == FILE_LEN => file,
            Ok(_) => {
                disk.remove(PUBLISHED_FILE)?;
                disk.create(PUBLISHED_FILE, FILE_LEN)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(PUBLISHED_FILE, FILE_LEN)?
            }
            Err(error) => return Err(error),
        };
        let region = file.map()?;
        let turn = read_from(&*file, store_id)?.map_or(0, |end| end.turn);
        Ok(Self {
            file,
            region,
            store_id,
            turn,
        })
    }

    pub(crate) fn publish(&mut self, written: u64, synced: u64, incarnation: u32) {
        self.turn += 1;
        let end = PublishedEnd {
            written,
            synced,
            incarnation,
            turn: self.turn,
        };
        let slot = (self.turn & 1) * SLOT_LEN as u64;
        self.file
            .store(&self.region, slot, &end.encode(self.store_id));
    }
}

fn read_from(file: &dyn DiskFile, store_id: u128) -> io::Result<Option<PublishedEnd>> {
    let mut slots = [0; 2 * SLOT_LEN];
    if file.len()? < slots.len() as u64 {
        return Ok(None);
    }
    file.read_at(&mut slots, 0)?;
    let (first, second) = slots.split_at(SLOT_LEN);
    let ends = [first, second].map(|slot| PublishedEnd::decode(slot, store_id));
    Ok(ends.into_iter().flatten().max_by_key(|end| end.turn))
}

/// What a follower reads: the newest whole slot. `None` if there is none, or both were being written: try again.
pub(crate) fn read(disk: &dyn Disk, store_id: u128) -> io::Result<Option<PublishedEnd>> {
    match disk.open(PUBLISHED_FILE, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => read_from(&*file?, store_id),
    }
}
