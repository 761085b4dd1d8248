//! Files of records that were moved out of the log because their messages outlive it. They are primary data: nothing else has these bytes.
//!
//! ```text
//! header   4,096 bytes: magic, version u32, checksum u32, store id u128, count u64, where the index begins u64, zeros
//! records  checksum u32 of what follows, length u32 of the message, sequence u64, message
//! index    sequence u64 and position u64 of each record, in order; 8 bytes with their checksum
//! ```
//!
//! A message is a length u16, so many bytes of attributes as in a record of the log, and its body.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use qmq_store::Message;
use qmq_store::disk::{Access, Disk, DiskFile, Region};
use qmq_store::message::Attributes;

use crate::event::{SUBJECT, take};

const MAGIC: [u8; 8] = *b"QMQ-BOD\n";
const VERSION: u32 = 2;
pub(crate) const HEADER_LEN: usize = 4_096;
const STORE_ID_AT: usize = 16;
const RECORD_HEADER_LEN: usize = 16;
const INDEX_LEN: usize = 16;
const PREFIX: &str = "bodies-";

pub(crate) fn bodies_name(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

/// Numbers of the files that there are.
pub(crate) fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let number = |name: &str| {
        let digits = name.strip_prefix(PREFIX)?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    };
    let files = disk.list()?;
    Ok(files.iter().filter_map(|file| number(&file.name)).collect())
}

/// Writes a file, record by record in the order of their sequences.
pub(crate) struct Writer<'a> {
    disk: &'a dyn Disk,
    number: u64,
    file: Arc<dyn DiskFile>,
    out: Vec<u8>,
    /// Where `out` goes.
    at: u64,
    index: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn create(disk: &'a dyn Disk, number: u64) -> io::Result<Self> {
        let temporary = format!("{}.tmp", bodies_name(number));
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            disk,
            number,
            file: disk.create(&temporary, HEADER_LEN as u64)?,
            out: Vec::new(),
            at: HEADER_LEN as u64,
            index: Vec::new(),
        })
    }

    pub(crate) fn push(&mut self, sequence: u64, message: &Message) -> io::Result<()> {
        const PIECE: usize = 1 << 20;
        let position = self.at + self.out.len() as u64;
        self.index.extend_from_slice(&sequence.to_le_bytes());
        self.index.extend_from_slice(&position.to_le_bytes());
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 8]);
        self.out.extend_from_slice(&sequence.to_le_bytes());
        put_message(&mut self.out, message);
        let len = (self.out.len() - start - RECORD_HEADER_LEN) as u32;
        self.out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&self.out[start + 4..]);
        self.out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        if self.out.len() >= PIECE {
            self.file.write_at(&self.out, self.at)?;
            self.at += self.out.len() as u64;
            self.out.clear();
        }
        Ok(())
    }

    /// Ends the file and gives it its name, which becomes durable with the disk's next sync of names. Returns how many records it has.
    pub(crate) fn finish(mut self, store_id: u128) -> io::Result<u64> {
        let count = (self.index.len() / INDEX_LEN) as u64;
        let index_at = self.at + self.out.len() as u64;
        let crc = u64::from(crc32fast::hash(&self.index));
        self.out.append(&mut self.index);
        self.out.extend_from_slice(&crc.to_le_bytes());
        self.file.write_at(&self.out, self.at)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&store_id.to_le_bytes());
        header.extend_from_slice(&count.to_le_bytes());
        header.extend_from_slice(&index_at.to_le_bytes());
        header.resize(HEADER_LEN, 0);
        let crc = header_crc(&header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        self.file.write_at(&header, 0)?;
        self.file.sync()?;
        let name = bodies_name(self.number);
        self.disk.rename(&format!("{name}.tmp"), &name)?;
        Ok(count)
    }
}

/// Copies a file to another disk, for another store.
pub(crate) fn copy(from: &dyn Disk, to: &dyn Disk, number: u64, store_id: u128) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let name = bodies_name(number);
    let temporary = format!("{name}.tmp");
    let source = from.open(&name, Access::Read)?;
    let len = source.len()?;
    let target = to.create(&temporary, len)?;
    let mut bytes = vec![0; PIECE];
    for at in (0..len).step_by(PIECE) {
        let piece = &mut bytes[..PIECE.min((len - at) as usize)];
        source.read_at(piece, at)?;
        if at == 0 {
            piece[STORE_ID_AT..STORE_ID_AT + 16].copy_from_slice(&store_id.to_le_bytes());
            let crc = header_crc(piece);
            piece[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        target.write_at(piece, at)?;
    }
    target.sync()?;
    to.rename(&temporary, &name)
}

fn header_crc(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&header[16..HEADER_LEN]);
    crc.finalize()
}

/// An open file of bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    pub(crate) number: u64,
    region: Arc<Region>,
    index: Index,
}

/// Where the records are.
#[derive(Debug)]
enum Index {
    /// As it stands in the file.
    Stored { at: u64, count: usize },
    /// Made anew from the records, since the header or the index is damaged.
    Searched {
        end: u64,
        entries: Vec<[u8; INDEX_LEN]>,
    },
}

impl Bodies {
    /// Opens a file. Where the header or the index is damaged its records are searched for. `Ok(None)`: it is of another store, or holds none.
    pub(crate) fn open(disk: &dyn Disk, number: u64, store_id: u128) -> io::Result<Option<Self>> {
        let file = disk.open(&bodies_name(number), Access::Read)?;
        let region = file.map()?;
        let index = match header_of(&region) {
            Some(header) if header.store_id != store_id => return Ok(None),
            Some(header) => stored_index(&region, &header)
                .unwrap_or_else(|| searched_index(&region, header.index_at)),
            None => searched_index(&region, u64::MAX),
        };
        let is_lost = matches!(&index, Index::Searched { entries, .. } if entries.is_empty());
        Ok((!is_lost).then_some(Self {
            number,
            region,
            index,
        }))
    }

    /// Whether its header or its index is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.index, Index::Searched { .. })
    }

    fn index(&self) -> &[[u8; INDEX_LEN]] {
        match &self.index {
            Index::Stored { at, count } => {
                let bytes = self.region.bytes(*at, count * INDEX_LEN);
                bytes.unwrap_or_default().as_chunks().0
            }
            Index::Searched { entries, .. } => entries,
        }
    }

    /// Reads everything, and says what is not as it was written.
    pub(crate) fn damages(&self) -> Vec<String> {
        let name = bodies_name(self.number);
        let header = self.is_damaged();
        let header = header.then(|| format!("{name}: its header or its index is damaged"));
        let is_damaged = |sequence: &u64| self.get(*sequence).is_none();
        let records = self.sequences().filter(is_damaged);
        let records = records.map(|sequence| format!("{name}: record {sequence} is damaged"));
        header.into_iter().chain(records).collect()
    }

    /// Sequences of all records, in order.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.index().iter().map(|entry| word(entry, 0))
    }

    /// The record with this sequence. `None`: it is not there, or damaged.
    pub(crate) fn get(&self, sequence: u64) -> Option<Message> {
        let index = self.index();
        let at = index.binary_search_by_key(&sequence, |entry| word(entry, 0));
        let position = word(&index[at.ok()?], 8);
        let end = match self.index {
            Index::Stored { at, .. } => at,
            Index::Searched { end, .. } => end,
        };
        let found = record_at(&self.region, position, end)?;
        take_message(found.message).filter(|_| found.sequence == sequence)
    }
}

struct Header {
    store_id: u128,
    count: u64,
    index_at: u64,
}

/// The header, if it is whole.
fn header_of(region: &Region) -> Option<Header> {
    let header = region.bytes(0, HEADER_LEN)?;
    let mut input = &header[8..];
    let (version, crc) = (u32::from_le_bytes(take(&mut input)?), take(&mut input)?);
    let fields = Header {
        store_id: u128::from_le_bytes(take(&mut input)?),
        count: u64::from_le_bytes(take(&mut input)?),
        index_at: u64::from_le_bytes(take(&mut input)?),
    };
    let is_whole =
        header[..8] == MAGIC && version == VERSION && u32::from_le_bytes(crc) == header_crc(header);
    is_whole.then_some(fields)
}

/// The index that a header tells of, if it is whole.
fn stored_index(region: &Region, header: &Header) -> Option<Index> {
    let len = region.len() as u64;
    let index_len = header.count.checked_mul(INDEX_LEN as u64)?;
    let end = index_len.checked_add(header.index_at)?.checked_add(8)?;
    if end != len {
        return None;
    }
    let bytes = region.bytes(header.index_at, index_len as usize)?;
    let crc = region.bytes(len - 8, 8)?;
    let is_whole = *crc == u64::from(crc32fast::hash(bytes)).to_le_bytes();
    is_whole.then_some(Index::Stored {
        at: header.index_at,
        count: header.count as usize,
    })
}

/// Searches for records that are whole, before `end`. Two of one sequence count for nothing: one of them can be a forgery, within a body.
fn searched_index(region: &Region, end: u64) -> Index {
    let end = end.min(region.len() as u64);
    let mut found = BTreeMap::<u64, Vec<u64>>::new();
    let mut at = HEADER_LEN as u64;
    while at < end {
        match record_at(region, at, end) {
            Some(record) => {
                found.entry(record.sequence).or_default().push(at);
                at += (RECORD_HEADER_LEN + record.message.len()) as u64;
            }
            None => at += 1,
        }
    }
    let once = found.into_iter().filter_map(|(sequence, at)| match at[..] {
        [at] => Some((sequence, at)),
        _ => None,
    });
    let entries = once.map(|(sequence, at)| {
        let mut entry = [0; INDEX_LEN];
        entry[..8].copy_from_slice(&sequence.to_le_bytes());
        entry[8..].copy_from_slice(&at.to_le_bytes());
        entry
    });
    let entries = entries.collect();
    Index::Searched { end, entries }
}

/// A record that is whole.
struct Found<'a> {
    sequence: u64,
    message: &'a [u8],
}

fn record_at(region: &Region, position: u64, end: u64) -> Option<Found<'_>> {
    let mut header = region.bytes(position, RECORD_HEADER_LEN)?;
    let (crc, len) = (
        u32::from_le_bytes(take(&mut header)?),
        u32::from_le_bytes(take(&mut header)?),
    );
    let sequence = u64::from_le_bytes(take(&mut header)?);
    // Cheap to see, and not so of most places where no record begins.
    if len == 0 || sequence >= 1 << 56 || position + RECORD_HEADER_LEN as u64 + u64::from(len) > end
    {
        return None;
    }
    let checked = region.bytes(position + 4, RECORD_HEADER_LEN - 4 + len as usize)?;
    (crc32fast::hash(checked) == crc).then_some(Found {
        sequence,
        message: &checked[RECORD_HEADER_LEN - 4..],
    })
}

fn word(entry: &[u8; INDEX_LEN], at: usize) -> u64 {
    let mut input = &entry[at..];
    take(&mut input).map_or(0, u64::from_le_bytes)
}

/// `u16 length, attributes` as in a record of the log, then the body.
fn put_message(out: &mut Vec<u8>, message: &Message) {
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    // It came from the log, where nothing is that breaks a rule; an attribute that did would be left out, and not the message.
    let _ = Attributes::encode(message, out);
    let len = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    out.extend_from_slice(message.body());
}

/// A message of the scheduler's subject.
fn take_message(mut input: &[u8]) -> Option<Message> {
    let len = u16::from_le_bytes(take(&mut input)?);
    let (attributes, body) = input.split_at_checked(usize::from(len))?;
    let attributes = Attributes::decode(attributes).ok()?;
    Some(attributes.to_message(SUBJECT, body.to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use qmq_store::disk::SimulatedDisk;

    use super::*;

    fn message(number: u64) -> Message {
        let message = Message::new(SUBJECT, vec![number as u8; number as usize]);
        match number % 3 {
            0 => message,
            1 => message.with_id("id").tag("a").tag("b"),
            _ => message
                .with_order_key("key")
                .property("trace", "00-1")
                .with_create_time_ms(number)
                .with_due_time_ms(7),
        }
    }

    fn written(disk: &SimulatedDisk) -> Option<Bodies> {
        let mut writer = Writer::create(disk, 3).unwrap();
        for number in 0..20 {
            writer.push(number * 10, &message(number)).unwrap();
        }
        assert_eq!(writer.finish(42).unwrap(), 20);
        Bodies::open(disk, 3, 42).unwrap()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let disk = SimulatedDisk::new();
        let bodies = written(&disk).unwrap();
        for number in 0..20 {
            assert_eq!(bodies.get(number * 10), Some(message(number)));
            assert_eq!(bodies.get(number * 10 + 1), None);
        }
        assert!(bodies.sequences().eq((0..20).map(|number| number * 10)));
        assert!(Bodies::open(&disk, 3, 43).unwrap().is_none());
    }

    /// Which records cannot be read.
    fn lost(bodies: &Bodies) -> Vec<u64> {
        let is_lost = |number: &u64| match bodies.get(number * 10) {
            Some(found) => {
                assert_eq!(found, message(*number));
                false
            }
            None => true,
        };
        (0..20).filter(is_lost).collect()
    }

    #[test]
    fn a_flipped_bit_costs_at_most_its_own_record() {
        let disk = SimulatedDisk::new();
        let index_at = match written(&disk).unwrap().index {
            Index::Stored { at, .. } => at,
            Index::Searched { .. } => panic!("it is whole"),
        };
        let name = bodies_name(3);
        let len = disk.open(&name, Access::Read).unwrap().len().unwrap();
        let flip = |at| disk.flip_bit(&name, at, (at % 8) as u8).unwrap();
        for at in 0..len {
            flip(at);
            let bodies = Bodies::open(&disk, 3, 42).unwrap().unwrap();
            let of_a_record = (HEADER_LEN as u64..index_at).contains(&at);
            assert_eq!(lost(&bodies).len(), usize::from(of_a_record), "byte {at}");
            assert_eq!(bodies.is_damaged(), !of_a_record, "byte {at}");
            assert_eq!(bodies.damages().len(), 1, "byte {at}");
            // With the header gone as well, no other record is lost.
            flip(100);
            if let Some(bodies) = Bodies::open(&disk, 3, 42).unwrap()
                && at != 100
            {
                assert!(lost(&bodies).len() <= 1, "byte {at}: {:?}", lost(&bodies));
            }
            flip(100);
            flip(at);
        }
    }
}
