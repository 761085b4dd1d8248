//! One door to each decoder, for the fuzz targets and for nobody else.
//!
//! A door must not panic whatever the bytes are. Where a checksum would keep all but a few inputs out, the bytes are tried twice: as they are,
//! and with the checksums made to fit.

use std::sync::Arc;

use qmq_store::Message;
use qmq_store::disk::{Access, Disk, SimulatedDisk};

use crate::bodies::{self, Bodies, Writer, bodies_name};
use crate::bucket::Bucket;
use crate::checkpoint;
use crate::core::Core;
use crate::entry::{ENTRY_LEN, Entry, Key};
use crate::event::{self, Event};
use crate::run::{
    BLOCK_ENTRIES, BLOCK_LEN, FENCE_LEN, HEADER_LEN, RANGE_LEN, Run, TAIL_CRC_LEN, run_name,
};

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

/// Makes the checksum at 12 fit that is taken over all bytes but its own.
fn seal(bytes: &mut [u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// A record of the log: what is accepted encodes to what it was decoded from.
pub fn event(bytes: &[u8]) {
    let Some(event) = Event::decode(bytes) else {
        return;
    };
    let again = match event {
        Event::Scheduled {
            key,
            generation,
            number,
            subject,
            body_len,
        } => {
            let body = bytes[bytes.len() - body_len as usize..].to_vec();
            event::scheduled(&Message::new(subject, body), number, key, generation)
        }
        Event::Cancelled(one) => event::cancelled(&one),
        Event::Rescheduled(one) => event::rescheduled(&one),
        Event::HandedOut(entries) => event::handed_out(&entries),
        Event::Dispatched(homes) => event::dispatched(&homes),
        Event::Dropped(entries) => event::dropped(&entries),
        Event::Opened {
            segment_scale_minute,
        } => event::opened(segment_scale_minute),
    };
    assert_eq!(again.body()[..], *bytes);
}

/// An index entry: what is accepted encodes to what it was decoded from.
pub fn entry(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<ENTRY_LEN>()
        && let Some(entry) = Entry::decode(bytes)
    {
        assert_eq!(entry.encode(), *bytes);
    }
}

/// A bucket of a checkpoint: what is accepted decodes to the same again, and answers for all its slots.
pub fn bucket(bytes: &[u8]) {
    let Some(bucket) = Bucket::decode(&mut &bytes[..]) else {
        return;
    };
    let mut again = Vec::new();
    bucket.encode(&mut again);
    assert_eq!(Bucket::decode(&mut &again[..]).as_ref(), Some(&bucket));
    let slots = bucket.slots();
    for slot in (0..slots.min(9_000)).chain([slots.saturating_sub(1), slots, u32::MAX]) {
        let _ = bucket.state(slot);
        let known = bucket.state_of(slot, |_| true);
        assert!(slot < slots || known.is_none());
    }
}

/// A run: what is whole is in order, and is found.
pub fn run(bytes: &[u8]) {
    one_run(bytes);
    let blocks = bytes.len().saturating_sub(HEADER_LEN + TAIL_CRC_LEN) / (BLOCK_LEN + FENCE_LEN);
    if blocks == 0 {
        return;
    }
    let rest = bytes.len() - (HEADER_LEN + TAIL_CRC_LEN) - blocks * (BLOCK_LEN + FENCE_LEN);
    let ranges = rest / RANGE_LEN;
    let mut sealed = bytes[..bytes.len() - rest % RANGE_LEN].to_vec();
    let (header, rest) = sealed.split_at_mut(HEADER_LEN);
    let (all, tail) = rest.split_at_mut(blocks * BLOCK_LEN);
    let mut count = 0;
    for (number, block) in all.chunks_mut(BLOCK_LEN).enumerate() {
        let is_last = number + 1 == blocks;
        let entries = if is_last {
            1 + u64_at(block, 4) % BLOCK_ENTRIES as u64
        } else {
            BLOCK_ENTRIES as u64
        };
        count += entries;
        block[4..8].copy_from_slice(&(entries as u32).to_le_bytes());
        let crc = crc32fast::hash(&block[4..]);
        block[..4].copy_from_slice(&crc.to_le_bytes());
    }
    header[32..40].copy_from_slice(&count.to_le_bytes());
    let bucket_ms = 1 + u64_at(header, 56) % 86_400_000;
    header[56..64].copy_from_slice(&bucket_ms.to_le_bytes());
    header[64..72].copy_from_slice(&(ranges as u64).to_le_bytes());
    seal(header);
    let (tail, crc) = tail.split_at_mut(blocks * FENCE_LEN + ranges * RANGE_LEN);
    crc.copy_from_slice(&u64::from(crc32fast::hash(tail)).to_le_bytes());
    one_run(&sealed);
}

fn one_run(bytes: &[u8]) {
    let disk = SimulatedDisk::new();
    let file = disk
        .create(&run_name(7), 0)
        .expect("an empty disk takes a file");
    file.write_at(bytes, 0).expect("and its bytes");
    let store_id = u128::from(u64_at(bytes, 24)) << 64 | u128::from(u64_at(bytes, 16));
    let opened = Run::open(&disk, 7, store_id).expect("the disk is whole");
    let Ok(run) = opened.map(Arc::new) else {
        return;
    };
    let is_whole = run.verify().is_ok();
    let first = run.block(0).map(|entries| entries[0].key);
    if let (true, Some(key)) = (is_whole, first.as_ref().ok()) {
        assert_eq!(
            run.find(*key).map(|found| found.map(|one| one.key)),
            Ok(Some(*key))
        );
    }
    for key in [Key::default(), first.unwrap_or_default(), Key::MAX] {
        let Ok(mut cursor) = run.from(key) else {
            assert!(!is_whole);
            continue;
        };
        let mut last = None;
        while let Ok(Some(entry)) = cursor.next() {
            assert!(!is_whole || last < Some(entry.key) && entry.key >= key);
            last = Some(entry.key);
        }
    }
}

/// A file of bodies: whatever is found in it is found under its sequence, and nothing is read twice or without end.
pub fn bodies(bytes: &[u8]) {
    one_bodies(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() < bodies::HEADER_LEN + 8 {
        return;
    }
    let records = sealed.len() - bodies::HEADER_LEN - 8;
    let count = u64_at(&sealed, 32) % (records as u64 / 16 + 1);
    let index_at = sealed.len() - 8 - count as usize * 16;
    sealed[32..40].copy_from_slice(&count.to_le_bytes());
    sealed[40..48].copy_from_slice(&(index_at as u64).to_le_bytes());
    seal(&mut sealed[..bodies::HEADER_LEN]);
    let (all, crc) = sealed.split_at_mut(bytes.len() - 8);
    crc.copy_from_slice(&u64::from(crc32fast::hash(&all[index_at..])).to_le_bytes());
    one_bodies(&sealed);
}

fn one_bodies(bytes: &[u8]) {
    let disk = SimulatedDisk::new();
    let file = disk
        .create(&bodies_name(7), 0)
        .expect("an empty disk takes a file");
    file.write_at(bytes, 0).expect("and its bytes");
    let store_id = u128::from(u64_at(bytes, 24)) << 64 | u128::from(u64_at(bytes, 16));
    let opened = Bodies::open(&disk, 7, store_id).expect("the disk is whole");
    let Some(bodies) = opened else {
        return;
    };
    let found = bodies
        .sequences()
        .filter(|&sequence| bodies.get(sequence).is_some());
    let found = found.count();
    assert!(found <= bytes.len());
    if bodies.is_damaged() {
        assert!(found <= bodies.sequences().count());
        assert!(bodies.sequences().is_sorted());
    }
    let _ = bodies.damages();
}

/// A file of bodies to begin with.
pub fn some_bodies() -> Vec<u8> {
    let disk = SimulatedDisk::new();
    let written = || {
        let mut writer = Writer::create(&disk, 7)?;
        for sequence in [3, 4, 9] {
            let message = Message::new(event::SUBJECT, vec![sequence as u8; 5]).tag("t");
            writer.push(sequence, &message)?;
        }
        writer.finish(42)?;
        let file = disk.open(&bodies_name(7), Access::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(&mut bytes, 0)?;
        Ok::<_, std::io::Error>(bytes)
    };
    written().expect("the disk is whole")
}

/// A checkpoint: what is accepted encodes to as many bytes, and these to the same state.
pub fn checkpoint(bytes: &[u8]) {
    one_checkpoint(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= 24 {
        let len = sealed.len() as u64;
        sealed[16..24].copy_from_slice(&len.to_le_bytes());
        seal(&mut sealed);
        one_checkpoint(&sealed);
    }
}

fn one_checkpoint(bytes: &[u8]) {
    let empty = || Core::new(60_000, 16, 0);
    let mut core = empty();
    let Some(summary) = checkpoint::decode(bytes, &mut core) else {
        return;
    };
    let again = checkpoint::encode(&core, &summary);
    let mut back = empty();
    assert_eq!(checkpoint::decode(&again, &mut back), Some(summary));
    assert_eq!(
        (back.next_sequence, back.dropped),
        (core.next_sequence, core.dropped)
    );
    assert_eq!((back.moved, back.needed), (core.moved, core.needed));
    assert_eq!(
        (back.buckets, back.outstanding),
        (core.buckets, core.outstanding)
    );
}
