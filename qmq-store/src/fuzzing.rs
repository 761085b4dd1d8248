//! One door to each decoder, for the fuzz targets and for nobody else.
//!
//! A door must not panic whatever the bytes are. Where a checksum would keep all but a few inputs out, the bytes are tried twice: as they are,
//! and with the checksum made to fit.

use std::sync::Arc;

use qmq_message::Attributes;

use crate::consume::{Action, Group, Names};
use crate::disk::{Access, Disk, Maps, SimulatedDisk};
use crate::index::sealed::SealedIndex;
use crate::keep::checkpoint;
use crate::keep::identity::{IDENTITY_FILE, Identity};
use crate::log::published::{self, PUBLISHED_FILE};
use crate::log::record::{HEADER_LEN, Header, Record};
use crate::log::scan::{Found, Scan};
use crate::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader, index_name};

/// Makes the checksum at 12 fit that is taken over 8..12, if `versioned`, and 16..`end`.
fn seal(bytes: &mut [u8], end: usize, versioned: bool) {
    if bytes.len() < end || end < 16 {
        return;
    }
    let mut hasher = crc32fast::Hasher::new();
    if versioned {
        hasher.update(&bytes[8..12]);
    }
    hasher.update(&bytes[16..end]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// A disk with one file.
fn disk_with(name: &str, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let file = disk.create(name, 0).expect("an empty disk takes a file");
    file.write_at(bytes, 0).expect("and its bytes");
    disk
}

/// A record: its header, its parts, its body's checksum and its attributes.
pub fn record(bytes: &[u8]) {
    one_record(bytes);
    let mut sealed = bytes.to_vec();
    let header_len = usize::from(u64_at(bytes, 52) as u16);
    if (HEADER_LEN..=bytes.len()).contains(&header_len) {
        let crc = crc32fast::hash(&sealed[4..header_len]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        one_record(&sealed);
    }
}

fn one_record(bytes: &[u8]) {
    let Some(header) = Header::decode(bytes, u64_at(bytes, 8)) else {
        return;
    };
    assert!(header.frame_len() >= header.record_len() || header.body_len > 0);
    if let Some(record) = Record::assemble(bytes, header) {
        let parts = record.subject.len() + record.note.len() + record.attributes.len();
        assert_eq!(HEADER_LEN + parts, usize::from(header.header_len));
        attributes(record.attributes);
        action(record.body);
        let mut again = Vec::new();
        let parts = [record.subject.as_bytes(), record.note, record.attributes];
        let _ = header.encode(parts, &mut again);
        let back = Header::decode(&again, header.offset).expect("what was encoded decodes");
        assert_eq!((back.kind, back.sequence), (header.kind, header.sequence));
        assert_eq!(back.note_len, header.note_len);
    }
}

/// The attributes of a message: what passes as from outside is read, and encodes to what it was.
pub fn attributes(bytes: &[u8]) {
    let decoded = Attributes::decode(bytes);
    if let Ok(attributes) = decoded {
        let tags = attributes.tags().map(str::len);
        let properties = attributes.properties();
        let properties = properties.map(|(key, value)| key.len() + value.len());
        assert!(tags.chain(properties).sum::<usize>() <= bytes.len());
    }
    if let Ok(attributes) = Attributes::check(bytes) {
        assert_eq!(decoded, Ok(attributes));
        let mut again = Vec::new();
        Attributes::encode(&attributes.to_message("s", ""), &mut again)
            .expect("what passes the check is a message's");
        assert_eq!(again, bytes);
    }
}

/// A stretch of log, walked past damage.
pub fn scan(bytes: &[u8]) {
    // Where the first record claims to stand.
    let base = u64_at(bytes, 8) & 0xFFFF_FFF8;
    let mut scan = Scan::new(bytes, base);
    let mut at = base;
    let mut steps = 0;
    while let Some(found) = scan.next() {
        match found {
            Found::Record { record, .. } => assert_eq!(record.header.offset, at),
            Found::BadBody { header, .. } => assert_eq!(header.offset, at),
            Found::Garbage { offset, len } => {
                assert!(offset == at && len > 0);
            }
            Found::Zeros { offset } => assert_eq!(offset, at),
        }
        assert!(scan.offset() > at, "a scan moves on");
        at = scan.offset();
        steps += 1;
        assert!(steps <= bytes.len());
    }
    assert!(at - base >= bytes.len() as u64);
}

/// An action: what is accepted encodes to what it was decoded from.
pub fn action(bytes: &[u8]) {
    if let Ok(action) = Action::decode(bytes) {
        let mut again = Vec::new();
        action.encode(&mut again);
        assert_eq!(again, bytes);
    }
}

/// The snapshot of a group: what is accepted decodes to the same again.
pub fn group(bytes: &[u8]) {
    let mut input = bytes;
    let Ok(group) = Group::decode(&mut input, &mut |name| name.into()) else {
        return;
    };
    let mut again = Vec::new();
    group.encode(&mut again);
    let back = Group::decode(&mut &again[..], &mut |name| name.into());
    assert!(back.is_ok_and(|back| back == group));
}

/// A checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    let names = Names::default();
    let _ = checkpoint::decode(bytes, &names);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= 24 {
        let len = sealed.len() as u64;
        sealed[16..24].copy_from_slice(&len.to_le_bytes());
        let end = sealed.len();
        seal(&mut sealed, end, true);
        let _ = checkpoint::decode(&sealed, &names);
    }
}

/// The index file of a sealed segment.
pub fn index(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed, 80, false);
    for bytes in [bytes, &sealed] {
        // A segment knows where it begins and ends; an index that says otherwise is not its own.
        let (base, end) = (u64_at(bytes, 16), u64_at(bytes, 24));
        if end < base {
            continue;
        }
        let store_id = u128::from(u64_at(bytes, 56)) | (u128::from(u64_at(bytes, 64)) << 64);
        let name = index_name(base);
        let maps = Maps::new(Arc::new(disk_with(&name, bytes)), store_id, 16);
        if let Ok(index) = SealedIndex::open(maps.file(&name), base, end) {
            let _ = index.verify();
        }
    }
}

/// The header of a segment file: what is accepted encodes to what it was decoded from, but for bytes that mean nothing yet.
pub fn segment_header(bytes: &[u8]) {
    let mut fixed = [0; SEGMENT_HEADER_LEN as usize];
    let len = bytes.len().min(fixed.len());
    fixed[..len].copy_from_slice(&bytes[..len]);
    let _ = SegmentHeader::decode(&fixed);
    seal(&mut fixed, SEGMENT_HEADER_LEN as usize, true);
    if let Ok(header) = SegmentHeader::decode(&fixed) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
}

/// The identity of a store.
pub fn identity(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed, 64, true);
    for bytes in [bytes, &sealed] {
        let _ = Identity::read(&disk_with(IDENTITY_FILE, bytes));
    }
}

/// The slots in which a writer publishes its end.
pub fn published_slot(bytes: &[u8]) {
    let disk = disk_with(PUBLISHED_FILE, bytes);
    let _ = published::read(&disk, 0);
    let readable = disk.open(PUBLISHED_FILE, Access::Read).is_ok();
    assert!(readable);
}
