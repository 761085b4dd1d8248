//! A log in memory, as a disk would have it: a crash takes what was not synced, and only that.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use qmq_repl::{Epoch, Log, LogError, MasterLog, SlaveLog, Snapshot};
use qmq_store::{PrimaryFile, PrimaryFiles, PrimarySet, Store};

const HEADER: usize = 24;
const MESSAGE: u8 = 1;
const EPOCH: u8 = 2;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Of the log: another one for each disk that was ever put in, until a snapshot gives it the master's.
    id: u128,
    start: u64,
    bytes: Vec<u8>,
    /// Where units begin.
    units: Vec<u64>,
    synced: u64,
    epochs: Vec<Epoch>,
    promised: u64,
    incomplete_until: u64,
    /// Files beside the log, with the messages that it has retired.
    files: BTreeMap<String, Vec<u8>>,
    /// Files that come from a master.
    coming: HashMap<PrimaryFile, Vec<u8>>,
    files_version: u64,
    /// What is before this may be retired.
    hold: u64,
    is_master: bool,
    replicated: u64,
    pub(crate) accepting: bool,
    pub(crate) lost_tails: Vec<(u64, Vec<u8>)>,
    /// Every sync fails from now on.
    pub(crate) broken: bool,
    /// The next so many appends answer with another end than they should, or are refused.
    pub(crate) bad_appends: u32,
    pub(crate) reads: u64,
    /// The state as of offsets below this is not known: a cut there is refused.
    pub(crate) known_from: u64,
    pub(crate) longest_snapshot_filler: usize,
    /// Every read fails.
    pub(crate) unreadable: bool,
    /// No snapshot can be made.
    pub(crate) no_snapshot: bool,
}

/// A handle: the simulation keeps one beside the member.
#[derive(Clone, Debug)]
pub(crate) struct ModelLog(pub(crate) Rc<RefCell<Disk>>);

impl Default for ModelLog {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Disk::new())))
    }
}

fn unit(kind: u8, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&[0; 7]);
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Length of the unit at the head of these bytes, if it is good and belongs there.
fn good(bytes: &[u8], offset: u64) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let length = HEADER + u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize;
    let unit = bytes.get(..length)?;
    let crc = u32::from_le_bytes(header[..4].try_into().unwrap());
    (u64_at(unit, 16) == offset && crc32fast::hash(&unit[4..]) == crc).then_some(length)
}

impl Disk {
    fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed).into(),
            ..Self::default()
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn at(&self, offset: u64) -> usize {
        (offset - self.start) as usize
    }

    /// End of the unit that begins at the n-th place.
    fn unit_end(&self, n: usize) -> u64 {
        self.units.get(n + 1).copied().unwrap_or(self.end())
    }

    fn slice(&self, from: u64, to: u64) -> &[u8] {
        &self.bytes[self.at(from)..self.at(to)]
    }

    fn is_good(&self, n: usize) -> bool {
        let (from, to) = (self.units[n], self.unit_end(n));
        good(self.slice(from, to), from) == Some((to - from) as usize)
    }

    /// The damaged stretch that begins with this unit.
    fn damage(&self, n: usize) -> LogError {
        let mut last = n;
        while last + 1 < self.units.len() && !self.is_good(last + 1) {
            last += 1;
        }
        LogError::Damaged {
            from: self.units[n],
            to: self.unit_end(last),
        }
    }

    fn in_range(&self, from: u64, to: u64) -> Result<(), LogError> {
        if from < self.start {
            return Err(LogError::Retired {
                offset: from,
                start: self.start,
            });
        }
        if to > self.end() {
            return Err(LogError::BeyondEnd {
                offset: to,
                end: self.end(),
            });
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        let offset = self.end();
        self.units.push(offset);
        if bytes[8] == EPOCH {
            self.epochs.push(Epoch {
                number: u64_at(bytes, HEADER),
                start: offset,
            });
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn truncate(&mut self, offset: u64) {
        let at = self.at(offset);
        self.bytes.truncate(at);
        self.units.retain(|&unit| unit < offset);
        self.epochs.retain(|epoch| epoch.start < offset);
        self.synced = self.synced.min(offset);
    }

    /// In a new file; many are merged into one.
    fn keep_in_file(&mut self, messages: &[u64]) {
        const FILES: usize = 3;
        let number = |name: &String| name["bodies-".len()..].parse().unwrap_or(0);
        let last = self.files.keys().map(number).max().unwrap_or(0);
        let mut bytes: Vec<u8> = messages.iter().flat_map(|id| id.to_le_bytes()).collect();
        if self.files.len() >= FILES {
            let old = std::mem::take(&mut self.files);
            bytes.extend(old.into_values().flatten());
        }
        self.files_version += 1;
        let name = format!("bodies-{}", last + 1);
        if !bytes.is_empty() {
            self.files.insert(name, bytes);
        }
    }

    fn messages_in(&self, from: u64) -> Vec<u64> {
        (0..self.units.len())
            .filter(|&n| self.units[n] >= from)
            .map(|n| self.slice(self.units[n], self.unit_end(n)))
            .filter(|unit| unit[8] == MESSAGE)
            .map(|unit| u64_at(unit, HEADER))
            .collect()
    }
}

impl ModelLog {
    /// Appends a message as a producer would. Answers its end, or nothing while appends are refused.
    pub(crate) fn produce(&self, id: u64, filler: usize) -> Option<u64> {
        let mut disk = self.0.borrow_mut();
        if !disk.accepting {
            return None;
        }
        let mut payload = id.to_le_bytes().to_vec();
        payload.resize(8 + filler, id as u8);
        let bytes = unit(MESSAGE, disk.end(), &payload);
        disk.push(&bytes);
        Some(disk.end())
    }

    pub(crate) fn sync_all(&self) {
        let mut disk = self.0.borrow_mut();
        disk.synced = disk.end();
    }

    /// How far a caller may claim that a message is replicated.
    pub(crate) fn replicated(&self) -> u64 {
        let disk = self.0.borrow();
        disk.replicated.min(disk.synced)
    }

    /// The power goes: of what was not synced, the first `keep` units are there afterwards.
    pub(crate) fn crash(&self, keep: usize) {
        let mut disk = self.0.borrow_mut();
        let synced = disk.synced;
        let kept = (disk.units.iter())
            .filter(|&&unit| unit >= synced)
            .nth(keep)
            .copied();
        if let Some(end) = kept {
            disk.truncate(end);
        }
        disk.synced = disk.end();
        disk.replicated = 0;
        disk.accepting = false;
        disk.is_master = false;
        // The hold is in memory.
        disk.hold = 0;
    }

    /// Another disk, empty, with nothing remembered.
    pub(crate) fn wipe(&self) {
        *self.0.borrow_mut() = Disk::new();
    }

    /// Retires whole units before `offset`: a master moves their messages into a file, a slave goes no further than files that have come allow.
    pub(crate) fn retire(&self, offset: u64) {
        let mut disk = self.0.borrow_mut();
        let mut offset = offset.min(disk.synced);
        if !disk.is_master {
            offset = offset.min(disk.hold);
        }
        let Some(&to) = disk.units.iter().rev().find(|&&unit| unit <= offset) else {
            return;
        };
        if to <= disk.start {
            return;
        }
        let gone: Vec<u64> = {
            let kept: BTreeSet<u64> = disk.messages_in(to).into_iter().collect();
            let all = disk.messages_in(disk.start);
            all.into_iter().filter(|id| !kept.contains(id)).collect()
        };
        if disk.is_master {
            disk.keep_in_file(&gone);
            disk.hold = to;
        }
        let at = disk.at(to);
        disk.bytes.drain(..at);
        disk.units.retain(|&unit| unit >= to);
        disk.start = to;
    }

    /// Flips a bit of the checksum of the unit that holds this byte: the message can still be told from others by the test.
    pub(crate) fn damage(&self, offset: u64, bits: u8) {
        let mut disk = self.0.borrow_mut();
        if offset >= disk.start && offset < disk.end() {
            let n = disk.units.iter().rposition(|&unit| unit <= offset).unwrap();
            let at = disk.at(disk.units[n]) + (offset % 4) as usize;
            disk.bytes[at] ^= bits;
        }
    }

    /// Replaces a byte and makes the unit good again: another content.
    pub(crate) fn forge(&self, offset: u64) {
        let mut disk = self.0.borrow_mut();
        let n = disk.units.iter().rposition(|&unit| unit <= offset).unwrap();
        let (from, to) = (disk.units[n], disk.unit_end(n));
        let (from, to) = (disk.at(from), disk.at(to));
        disk.bytes[to - 1] ^= 0xFF;
        let crc = crc32fast::hash(&disk.bytes[from + 4..to]);
        disk.bytes[from..from + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// All messages that this log knows, also those that it has retired.
    pub(crate) fn messages(&self) -> BTreeSet<u64> {
        let disk = self.0.borrow();
        let mut all: BTreeSet<u64> = (disk.files.values().flatten())
            .copied()
            .collect::<Vec<u8>>()
            .chunks(8)
            .map(|id| u64_at(id, 0))
            .collect();
        all.extend(disk.messages_in(disk.start));
        all
    }

    /// From where on, and which bytes.
    pub(crate) fn content(&self) -> (u64, Vec<u8>) {
        let disk = self.0.borrow();
        (disk.start, disk.bytes.clone())
    }

    /// The unit boundary in the middle.
    pub(crate) fn middle(&self) -> u64 {
        let disk = self.0.borrow();
        disk.units.get(disk.units.len() / 2).copied().unwrap_or(0)
    }

    pub(crate) fn is_whole(&self) -> bool {
        let disk = self.0.borrow();
        (0..disk.units.len()).all(|n| disk.is_good(n))
    }
}

impl Log for ModelLog {
    fn id(&self) -> u128 {
        self.0.borrow().id
    }

    fn start(&self) -> u64 {
        self.0.borrow().start
    }

    fn written(&self) -> u64 {
        self.0.borrow().end()
    }

    fn synced(&self) -> u64 {
        self.0.borrow().synced
    }

    fn epochs(&self) -> Vec<Epoch> {
        let disk = self.0.borrow();
        let first = (disk.epochs.iter())
            .rposition(|epoch| epoch.start < disk.start)
            .unwrap_or(0);
        disk.epochs[first..].to_vec()
    }

    fn state_ahead(&self) -> u64 {
        // A snapshot has what stands before its base, and no more.
        0
    }

    fn read(&self, offset: u64, max: usize) -> Result<Bytes, LogError> {
        let mut disk = self.0.borrow_mut();
        disk.reads += 1;
        if disk.unreadable {
            let what = "the read failed".to_owned();
            return Err(LogError::Failed { what });
        }
        disk.in_range(offset, offset)?;
        if offset == disk.end() {
            return Ok(Bytes::new());
        }
        let Ok(first) = disk.units.binary_search(&offset) else {
            return Err(LogError::NotABoundary { offset });
        };
        let mut end = offset;
        for n in first..disk.units.len() {
            let next = disk.unit_end(n);
            if n > first && (next - offset) as usize > max {
                break;
            }
            if !disk.is_good(n) {
                if n == first {
                    return Err(disk.damage(n));
                }
                break;
            }
            end = next;
        }
        Ok(Bytes::copy_from_slice(disk.slice(offset, end)))
    }

    fn digest(&self, from: u64, to: u64) -> Result<u64, LogError> {
        let disk = self.0.borrow();
        disk.in_range(from, to)?;
        Ok(u64::from(crc32fast::hash(disk.slice(from, to))))
    }

    fn verify(&self, from: u64, to: u64) -> Result<(), LogError> {
        let disk = self.0.borrow();
        disk.in_range(from, to)?;
        let touched = |n: &usize| disk.units[*n] < to && disk.unit_end(*n) > from;
        match (0..disk.units.len())
            .filter(touched)
            .find(|&n| !disk.is_good(n))
        {
            Some(n) => Err(disk.damage(n)),
            None => Ok(()),
        }
    }

    fn replace(&self, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        let mut disk = self.0.borrow_mut();
        let bad = Err(LogError::BadBytes { offset });
        let mut at = 0;
        while at < bytes.len() {
            let Some(length) = good(&bytes[at..], offset + at as u64) else {
                return bad;
            };
            at += length;
        }
        let end = offset + bytes.len() as u64;
        if offset < disk.start || end > disk.end() {
            return bad;
        }
        let (from, to) = (disk.at(offset), disk.at(end));
        disk.bytes[from..to].copy_from_slice(bytes);
        Ok(())
    }

    fn promised(&self) -> u64 {
        self.0.borrow().promised
    }

    fn promise(&self, epoch: u64) -> Result<(), LogError> {
        let mut disk = self.0.borrow_mut();
        assert!(epoch >= disk.promised, "promises never go back");
        disk.promised = epoch;
        Ok(())
    }

    fn files(&self) -> Option<&dyn PrimaryFiles> {
        Some(self)
    }

    fn incomplete_until(&self) -> u64 {
        self.0.borrow().incomplete_until
    }

    fn mark_incomplete(&self, until: u64) -> Result<(), LogError> {
        self.0.borrow_mut().incomplete_until = until;
        Ok(())
    }
}

impl MasterLog for ModelLog {
    fn begin_epoch(&self, epoch: u64) -> Result<u64, LogError> {
        let mut disk = self.0.borrow_mut();
        assert!(disk.epochs.last().is_none_or(|last| last.number < epoch));
        let bytes = unit(EPOCH, disk.end(), &epoch.to_le_bytes());
        disk.push(&bytes);
        disk.replicated = 0;
        disk.accepting = true;
        disk.is_master = true;
        Ok(disk.end())
    }

    fn advance_replicated(&self, end: u64) {
        let mut disk = self.0.borrow_mut();
        assert!(end <= disk.end());
        disk.replicated = disk.replicated.max(end);
    }

    fn accept(&self, accepting: bool) {
        self.0.borrow_mut().accepting = accepting;
    }

    fn too_few_in_sync(&self, _: bool) {}

    /// A test retires where it likes.
    fn keep_from(&self, _: u64) {}

    fn demote(&self) {
        let mut disk = self.0.borrow_mut();
        disk.accepting = false;
        disk.is_master = false;
    }

    fn snapshot(&self) -> Result<Snapshot, LogError> {
        let epochs = self.epochs();
        let disk = self.0.borrow();
        if disk.no_snapshot {
            let what = "an index is damaged".to_owned();
            return Err(LogError::Failed { what });
        }
        let mut bytes = disk.start.to_le_bytes().to_vec();
        let before: Vec<&Epoch> = epochs.iter().filter(|it| it.start < disk.start).collect();
        bytes.extend_from_slice(&(before.len() as u64).to_le_bytes());
        for epoch in before {
            bytes.extend_from_slice(&epoch.number.to_le_bytes());
            bytes.extend_from_slice(&epoch.start.to_le_bytes());
        }
        bytes.extend_from_slice(&disk.id.to_le_bytes());
        // As a store's: it has the state as of the end of the log, so no two are the same while the master works.
        bytes.extend_from_slice(&disk.end().to_le_bytes());
        bytes.resize(bytes.len() + disk.longest_snapshot_filler, 7);
        Ok(Snapshot {
            base: disk.start,
            bytes: bytes.into(),
        })
    }
}

impl SlaveLog for ModelLog {
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        let mut disk = self.0.borrow_mut();
        assert!(!disk.accepting, "a slave's log takes nothing else");
        if disk.bad_appends > 0 {
            disk.bad_appends -= 1;
            return Err(LogError::BadBytes { offset });
        }
        let end = disk.end();
        if offset != end {
            return Err(LogError::NotTheEnd { offset, end });
        }
        let mut at = 0;
        while at < bytes.len() {
            let Some(length) = good(&bytes[at..], offset + at as u64) else {
                return Err(LogError::BadBytes { offset });
            };
            at += length;
        }
        at = 0;
        while let Some(length) = good(&bytes[at..], offset + at as u64) {
            disk.push(&bytes[at..at + length]);
            at += length;
        }
        Ok(disk.end())
    }

    fn sync(&mut self) -> Result<u64, LogError> {
        let mut disk = self.0.borrow_mut();
        if disk.broken {
            let what = "the sync failed".to_owned();
            return Err(LogError::Failed { what });
        }
        disk.synced = disk.end();
        Ok(disk.synced)
    }

    fn cut(&mut self, offset: u64) -> Result<(), LogError> {
        let mut disk = self.0.borrow_mut();
        assert!(offset >= disk.start && offset <= disk.end());
        if offset < disk.known_from {
            return Err(LogError::CutTooDeep { offset });
        }
        let tail = disk.slice(offset, disk.end()).to_vec();
        disk.lost_tails.push((offset, tail));
        disk.truncate(offset);
        disk.synced = offset;
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let bytes = &snapshot.bytes;
        assert_eq!(u64_at(bytes, 0), snapshot.base);
        let (mut at, mut epochs) = (16, Vec::new());
        for _ in 0..u64_at(bytes, 8) {
            epochs.push(Epoch {
                number: u64_at(bytes, at),
                start: u64_at(bytes, at + 8),
            });
            at += 16;
        }
        let id = u128::from_le_bytes(bytes[at..at + 16].try_into().unwrap());
        let mut disk = self.0.borrow_mut();
        disk.known_from = 0;
        disk.id = id;
        disk.start = snapshot.base;
        disk.synced = snapshot.base;
        disk.bytes.clear();
        disk.units.clear();
        disk.epochs = epochs;
        disk.hold = 0;
        Ok(())
    }
}

impl PrimaryFiles for ModelLog {
    fn version(&self) -> io::Result<u64> {
        let disk = self.0.borrow();
        Ok(disk.files_version + 1)
    }

    fn latest(&self, until: u64) -> io::Result<Option<PrimarySet>> {
        let disk = self.0.borrow();
        let entry = |(name, bytes): (&String, &Vec<u8>)| PrimaryFile {
            name: name.clone(),
            len: bytes.len() as u64,
            tag: crc32fast::hash(bytes),
        };
        // What was retired was synced, but perhaps nowhere else.
        if disk.start > until {
            return Ok(None);
        }
        Ok(Some(PrimarySet {
            version: self.version()?,
            hold: disk.hold,
            end: disk.start,
            files: disk.files.iter().map(entry).collect(),
        }))
    }

    fn hold(&self) -> u64 {
        self.0.borrow().hold
    }

    fn hold_all(&self) {
        self.0.borrow_mut().hold = 0;
    }

    fn read(&self, file: &PrimaryFile, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let disk = self.0.borrow();
        let named = (disk.files.get(&file.name)).filter(|it| it.len() as u64 == file.len);
        let part = named.and_then(|bytes| bytes.get(offset as usize..offset as usize + len));
        Ok(part.map(Bytes::copy_from_slice))
    }

    fn read_coming(
        &self,
        file: &PrimaryFile,
        offset: u64,
        len: usize,
    ) -> io::Result<Option<Bytes>> {
        let disk = self.0.borrow();
        let named = (disk.files.get(&file.name)).filter(|it| it.len() as u64 == file.len);
        let bytes = disk.coming.get(file).or(named);
        let at = offset as usize;
        let part = bytes.and_then(|bytes| bytes.get(at..at + len));
        Ok(part.map(Bytes::copy_from_slice))
    }

    fn put(&self, file: &PrimaryFile, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let mut disk = self.0.borrow_mut();
        let at = offset as usize;
        if !disk.coming.contains_key(file) && at > 0 {
            disk.coming.insert(file.clone(), Vec::new());
            return Ok(0);
        }
        let kept = disk.coming.entry(file.clone()).or_default();
        kept.truncate(at);
        kept.extend_from_slice(bytes);
        Ok(kept.len() as u64)
    }

    fn take(&self, set: &PrimarySet) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        assert!(
            disk.start.max(disk.hold) <= set.hold,
            "the log has let go of what the files have not"
        );
        let mut coming = std::mem::take(&mut disk.coming);
        let mut old = std::mem::take(&mut disk.files);
        for file in &set.files {
            let bytes = coming.remove(file).or_else(|| old.remove(&file.name));
            let bytes = bytes.expect("every file has come");
            assert_eq!(
                (bytes.len() as u64, crc32fast::hash(&bytes)),
                (file.len, file.tag)
            );
            disk.files.insert(file.name.clone(), bytes);
        }
        disk.files_version += 1;
        disk.hold = set.hold;
        Ok(())
    }

    fn forget_beyond(&self, _store: &Store) -> io::Result<bool> {
        Ok(true)
    }
}
