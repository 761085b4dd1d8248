//! The whole disk: names, files, space, and what is planned to go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::super::{FileEntry, Region};
use super::faults::{SimulatedFaults, SyncOutcome, input_output};
use super::history::{History, Rng};
use super::inode::Inode;

/// What a name stands for, and what it stood for since the names were last synced.
#[derive(Clone, Default)]
pub(super) struct Name {
    pub(super) inode: Option<u64>,
    pub(super) history: History<Option<u64>>,
}

pub(super) struct State {
    pub(super) names: BTreeMap<String, Name>,
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// Counts versions, so that a crash can cut all of them at one moment.
    pub(super) tick: u64,
    pub(super) next_inode: u64,
    pub(super) capacity: u64,
    pub(super) seed: u64,
    pub(super) operations: u64,
    pub(super) power_off_after: u64,
    pub(super) faults: SimulatedFaults,
    pub(super) locked: bool,
}

impl State {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            names: BTreeMap::new(),
            inodes: BTreeMap::new(),
            tick: 0,
            next_inode: 0,
            capacity,
            seed: 0,
            operations: 0,
            power_off_after: u64::MAX,
            faults: SimulatedFaults::default(),
            locked: false,
        }
    }

    /// What is left of the disk when the process that used it is gone.
    pub(super) fn survivor(&self) -> Self {
        let mut left = Self {
            names: self.names.clone(),
            inodes: self.inodes.clone(),
            tick: self.tick,
            next_inode: self.next_inode,
            seed: self.seed,
            ..Self::new(self.capacity)
        };
        for inode in left.inodes.values_mut() {
            inode.regions.clear();
            inode.handles = 0;
        }
        left
    }

    /// Counts an operation, or refuses it because the power is off.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.operations >= self.power_off_after {
            return Err(io::Error::other("the simulated disk has lost its power"));
        }
        self.operations += 1;
        Ok(())
    }

    fn rng(&self) -> Rng {
        // One step apart would give overlapping sequences; the product keeps operations far from each other.
        Rng::new(self.seed ^ self.operations.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        let named = self.names.get(name).and_then(|name| name.inode);
        named.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A file that a name or a handle keeps.
    pub(super) fn inode(&self, inode: u64) -> &Inode {
        &self.inodes[&inode]
    }

    /// A file that a name or a handle keeps.
    pub(super) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a name or a handle keeps the file")
    }

    pub(super) fn list(&self) -> Vec<FileEntry> {
        let entry = |(name, inode): (&String, u64)| FileEntry {
            name: name.clone(),
            len: self.inode(inode).len,
        };
        self.named().map(entry).collect()
    }

    fn named(&self) -> impl Iterator<Item = (&String, u64)> {
        self.names
            .iter()
            .filter_map(|(name, to)| to.inode.map(|inode| (name, inode)))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let inodes: BTreeSet<u64> = self.named().map(|(_, inode)| inode).collect();
        let used = inodes
            .iter()
            .map(|&inode| self.inode(inode).allocated())
            .sum::<u64>();
        self.capacity.saturating_sub(used)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        if bytes > 0 && bytes > self.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn point(&mut self, name: &str, inode: Option<u64>) {
        let entry = self.names.entry(name.to_owned()).or_default();
        entry.history.replace(entry.inode, self.tick);
        entry.inode = inode;
    }

    pub(super) fn create(&mut self, name: &str, len: u64) -> io::Result<u64> {
        if self.find(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.reserve(len)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.tick += 1;
        self.point(name, Some(inode));
        let mut file = Inode::default();
        file.set_len(&mut self.tick, len);
        self.inodes.insert(inode, file);
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.find(from)?;
        // Two names of one file are left alone, as POSIX has it.
        if self.find(to).is_ok_and(|there| there == inode) {
            return Ok(());
        }
        self.tick += 1;
        self.point(to, Some(inode));
        self.point(from, None);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.tick += 1;
        self.point(name, None);
        Ok(())
    }

    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        match self.faults.sync_of_names() {
            SyncOutcome::Fails => {
                let names = self.names.values_mut();
                names.for_each(|name| name.history.strand());
                return Err(input_output());
            }
            SyncOutcome::Lies => return Ok(()),
            SyncOutcome::Covers => {}
        }
        for name in self.names.values_mut() {
            if name.history.is_dirty() {
                name.history = History::default();
            }
        }
        self.names
            .retain(|_, name| name.inode.is_some() || name.history.is_pending());
        let stranded = self
            .names
            .values_mut()
            .flat_map(|name| name.history.older_mut())
            .filter_map(|inode| *inode);
        let mut reachable: BTreeSet<u64> = stranded.collect();
        reachable.extend(self.named().map(|(_, inode)| inode));
        self.inodes
            .retain(|inode, file| file.handles > 0 || reachable.contains(inode));
        Ok(())
    }

    pub(super) fn check_readable(&self, inode: u64, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len);
        if self.faults.has_read_errors()
            && self
                .named()
                .any(|(name, of)| of == inode && self.faults.fails_read(name, offset, end))
        {
            return Err(input_output());
        }
        Ok(())
    }

    pub(super) fn write_at(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.faults.write();
        let count = match fault {
            Some(_) => self.rng().below(bytes.len() as u64) as usize,
            None => bytes.len(),
        };
        let bytes = &bytes[..count];
        let end = offset
            .checked_add(count as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.reserve(self.inode(inode).needs(offset, count as u64))?;
        let tick = &mut self.tick;
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("a handle keeps the file");
        if count > 0 && end > file.len {
            file.set_len(tick, end);
        }
        file.write(tick, offset, bytes, None);
        fault.map_or(Ok(()), Err)
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) -> io::Result<()> {
        self.reserve(len.saturating_sub(self.inode(inode).len))?;
        let tick = &mut self.tick;
        self.inodes
            .get_mut(&inode)
            .expect("a handle keeps the file")
            .set_len(tick, len);
        Ok(())
    }

    pub(super) fn punch(&mut self, inode: u64, offset: u64, len: u64) {
        let tick = &mut self.tick;
        self.inodes
            .get_mut(&inode)
            .expect("a handle keeps the file")
            .punch(tick, offset, len);
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let outcome = self.faults.sync_of_file();
        let file = self.inode_mut(inode);
        match outcome {
            SyncOutcome::Covers => file.sync(),
            SyncOutcome::Lies => {}
            SyncOutcome::Fails => {
                file.strand();
                return Err(input_output());
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, inode: u64, region: &Region, offset: u64, bytes: &[u8]) {
        assert!(
            self.inode(inode).owns(region),
            "store into a region of another file"
        );
        let end = offset.saturating_add(bytes.len() as u64);
        assert!(
            end <= region.len() as u64,
            "store outside of the reserved region"
        );
        if self.begin().is_err() {
            self.inode(inode).show(offset, bytes);
            return;
        }
        assert!(
            end <= self.inode(inode).len,
            "store beyond the end of the file"
        );
        let torn = Some(self.rng());
        let tick = &mut self.tick;
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("a handle keeps the file");
        file.write(tick, offset, bytes, torn);
    }
}
