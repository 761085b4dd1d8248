//! The index's primary files, as replication sends them: the newest checkpoint and the files of bodies that it names. Runs are not sent; who opens the
//! scheduler there makes them anew.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use qmq_store::disk::{Access, Disk, DiskFile};
use qmq_store::{PrimaryFile, PrimaryFiles, PrimarySet, RetentionHold, Store};

use crate::bodies::{self, Bodies, bodies_name};
use crate::checkpoint::{self, LogStart, checkpoint_name};
use crate::core::Core;
use crate::event::SUBJECT;
use crate::recovery::AHEAD;
use crate::run::{self, run_name};

/// Behind the name of a file that is coming.
pub(crate) const PART: &str = ".part";
/// So much of a file's beginning tells it from others: its header, with its checksum.
const TAG_BYTES: u64 = 4_096;
/// How often the files are listed again while the scheduler removes some of them.
const TRIES: usize = 5;

/// The primary files in the folder of an index, whether a scheduler works on it (on a master) or not (on a replica).
#[derive(Debug)]
pub struct IndexFiles {
    disk: Arc<dyn Disk>,
    hold: RetentionHold,
}

impl IndexFiles {
    /// Files on `disk`, the folder of an index. `hold` is the one that the store was opened with.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, hold: RetentionHold) -> Self {
        Self { disk, hold }
    }

    fn list(&self, hold: u64, until: u64) -> io::Result<Option<PrimarySet>> {
        let disk = &*self.disk;
        let version = self.version()?;
        let checkpoints = checkpoint::names(disk)?;
        let is_new = checkpoints.is_empty() && bodies::numbers(disk)?.is_empty();
        let mut latest = None;
        for name in checkpoints {
            let mut core = Core::new(1, 1, 0);
            let summary = checkpoint::decode(&checkpoint::read(disk, &name)?, &mut core);
            if let Some(summary) = summary.filter(|it| it.end_offset <= until) {
                latest = Some((name, summary.end_offset, core));
                break;
            }
        }
        let (names, end) = match latest {
            Some((name, end, core)) => {
                let bodies = core
                    .needed
                    .files()
                    .map(|(_, file)| bodies_name(file.number));
                (bodies.chain([name]).collect(), end)
            }
            // Nothing was ever scheduled, or no checkpoint has been taken yet: it is all in the log.
            None if is_new => (Vec::new(), 0),
            None => return Ok(None),
        };
        let mut files = Vec::new();
        for name in names {
            let file = disk.open(&name, Access::Read)?;
            let len = file.len()?;
            if len > 0 {
                let tag = tag_of(&*file, len)?;
                files.push(PrimaryFile { name, len, tag });
            }
        }
        Ok(Some(PrimarySet {
            version,
            hold,
            end,
            files,
        }))
    }

    /// The file of this name, if it has this length.
    fn open(&self, name: &str, len: u64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match self.disk.open(name, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            open => {
                let file = open?;
                Ok((file.len()? == len).then_some(file))
            }
        }
    }

    fn read_from(
        &self,
        name: &str,
        file: &PrimaryFile,
        offset: u64,
        len: usize,
    ) -> io::Result<Option<Bytes>> {
        let fits = (offset.checked_add(len as u64)).is_some_and(|end| end <= file.len);
        let Some(open) = self.open(name, file.len)?.filter(|_| fits) else {
            return Ok(None);
        };
        let mut bytes = vec![0; len];
        open.read_at(&mut bytes, offset)?;
        Ok(Some(bytes.into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn remove_all(&self, names: &[String]) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        names.iter().try_for_each(|name| self.remove(name))?;
        self.disk.sync_names()
    }

    /// Files with records that the log, which has these now, does not have any more. What they have of records that the log had let go of goes with them:
    /// another member has it.
    fn forget_bodies(&self, store: &Store, log: Range<u64>) -> io::Result<()> {
        let store_id = store.stats().store_id;
        for number in bodies::numbers(&*self.disk)? {
            let name = bodies_name(number);
            let Some(bodies) = Bodies::open(&*self.disk, number, store_id)? else {
                continue;
            };
            let (first, last) = (bodies.sequences().next(), bodies.sequences().last());
            if last.is_none_or(|last| last < log.end) {
                continue;
            }
            if first.is_some_and(|first| first >= log.start) {
                self.remove(&name)?;
            } else {
                self.disk.rename(&name, &format!("{name}{AHEAD}"))?;
            }
        }
        self.disk.sync_names()
    }

    /// What would be read with other files than it was made with: runs are named alike on every master, and a checkpoint that is newer would be preferred.
    fn remove_misleading(&self, set: &PrimarySet, is_mixed: bool) -> io::Result<()> {
        for number in run::numbers(&*self.disk)? {
            self.remove(&run_name(number))?;
        }
        let newest = set.files.last().map(|file| &file.name);
        for name in checkpoint::names(&*self.disk)? {
            if is_mixed || Some(&name) > newest {
                self.remove(&name)?;
            }
        }
        self.disk.sync_names()
    }
}

fn tag_of(file: &dyn DiskFile, len: u64) -> io::Result<u32> {
    let mut head = vec![0; TAG_BYTES.min(len) as usize];
    file.read_at(&mut head, 0)?;
    Ok(crc32fast::hash(&head))
}

fn part_name(file: &PrimaryFile) -> String {
    format!("{}{PART}", file.name)
}

/// Refuses names that are not of primary files.
fn check(file: &PrimaryFile) -> io::Result<()> {
    let digits = ["bodies-", "checkpoint-"]
        .iter()
        .find_map(|prefix| file.name.strip_prefix(prefix));
    let is_one =
        digits.is_some_and(|it| it.len() == 20 && it.bytes().all(|byte| byte.is_ascii_digit()));
    if is_one && file.len > 0 {
        return Ok(());
    }
    let what = format!("{:?} is no primary file of an index", file.name);
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

impl PrimaryFiles for IndexFiles {
    fn version(&self) -> io::Result<u64> {
        let mut listed: Vec<_> = (self.disk.list()?.into_iter())
            .filter(|file| {
                let file = PrimaryFile {
                    name: file.name.clone(),
                    len: file.len,
                    tag: 0,
                };
                check(&file).is_ok()
            })
            .collect();
        listed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut crc = crc32fast::Hasher::new();
        for file in &listed {
            crc.update(file.name.as_bytes());
            crc.update(&file.len.to_le_bytes());
        }
        // A checkpoint may be written anew under the same name. It is the last one.
        let newest = listed.last().map(|file| {
            let open = self.disk.open(&file.name, Access::Read)?;
            tag_of(&*open, open.len()?)
        });
        let newest = match newest {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => 0,
            Some(tag) => tag?,
            None => 0,
        };
        Ok(u64::from(crc.finalize()) << 32 | u64::from(newest))
    }

    fn latest(&self, until: u64) -> io::Result<Option<PrimarySet>> {
        // First the hold: it only grows, and is for the older checkpoint too.
        let hold = self.hold.offset();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.list(hold, until) {
                // The scheduler has just removed a file that the listing named.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                listed => return listed,
            }
        }
    }

    fn hold(&self) -> u64 {
        self.hold.offset()
    }

    fn hold_all(&self) {
        self.hold.hold_all();
    }

    fn read(&self, file: &PrimaryFile, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        check(file)?;
        self.read_from(&file.name, file, offset, len)
    }

    fn read_coming(
        &self,
        file: &PrimaryFile,
        offset: u64,
        len: usize,
    ) -> io::Result<Option<Bytes>> {
        check(file)?;
        match self.read_from(&part_name(file), file, offset, len)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.read_from(&file.name, file, offset, len),
        }
    }

    fn put(&self, file: &PrimaryFile, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        check(file)?;
        let _lock = self.disk.lock()?;
        let name = part_name(file);
        let part = match self.open(&name, file.len)? {
            Some(part) => part,
            None => {
                self.remove(&name)?;
                let part = self.disk.create(&name, file.len)?;
                if offset > 0 {
                    // What is before was compared with the file that has the name, which is to be replaced.
                    return Ok(0);
                }
                part
            }
        };
        part.write_at(bytes, offset)?;
        Ok(offset + bytes.len() as u64)
    }

    fn take(&self, set: &PrimarySet) -> io::Result<()> {
        set.files.iter().try_for_each(check)?;
        let _lock = self.disk.lock()?;
        let (mut parts, mut is_mixed) = (Vec::new(), false);
        for file in &set.files {
            let named = self.open(&file.name, file.len)?;
            match self.open(&part_name(file), file.len)? {
                Some(part) => {
                    part.sync()?;
                    parts.push(file);
                    // A name may be taken by a file of another length, too.
                    is_mixed |= self.disk.open(&file.name, Access::Read).is_ok();
                }
                None if named.is_some() => {}
                None => {
                    let what = format!("{} has not come", file.name);
                    return Err(io::Error::new(io::ErrorKind::NotFound, what));
                }
            }
        }
        self.remove_misleading(set, is_mixed)?;
        // The checkpoint is the last one: when it has its name, all that it names has.
        for file in parts {
            if file.name.starts_with("checkpoint-") {
                self.disk.sync_names()?;
            }
            self.disk.rename(&part_name(file), &file.name)?;
        }
        self.disk.sync_names()?;
        let is_listed = |name: &String| set.files.iter().any(|file| file.name == *name);
        let bodies = bodies::numbers(&*self.disk)?.into_iter().map(bodies_name);
        let old: Vec<String> = (bodies.chain(checkpoint::names(&*self.disk)?))
            .filter(|name| !is_listed(name))
            .collect();
        self.remove_all(&old)?;
        self.hold.release_below(set.hold);
        Ok(())
    }

    fn forget_beyond(&self, store: &Store) -> io::Result<bool> {
        let _lock = self.disk.lock()?;
        let offset = store.stats().start_offset;
        // A log without the subject has nothing, and had nothing.
        let (first_sequence, next_sequence) = (store.subject_stats(SUBJECT))
            .map_or((0, 0), |stats| (stats.first_sequence, stats.next_sequence));
        let log = LogStart {
            first_sequence,
            offset,
        };
        let last = checkpoint_name(next_sequence);
        let names = checkpoint::names(&*self.disk)?;
        let (beyond, left): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| *name > last);
        self.remove_all(&beyond)?;
        for name in left {
            let mut core = Core::new(1, 1, 0);
            let bytes = checkpoint::read(&*self.disk, &name)?;
            let summary = checkpoint::decode(&bytes, &mut core);
            if summary.is_some_and(|summary| !summary.is_stale(&core, log)) {
                return Ok(true);
            }
            // It was removed, and a loss of power has brought it back.
            self.remove_all(&[name])?;
        }
        self.forget_bodies(store, first_sequence..next_sequence)?;
        // Without a checkpoint, what was settled in records that are gone would come again.
        Ok(first_sequence == 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use qmq_store::disk::SimulatedDisk;

    use super::*;

    const OLD_BODIES: &str = "bodies-00000000000000000001";
    const NEW_BODIES: &str = "bodies-00000000000000000002";
    const OLD_CHECKPOINT: &str = "checkpoint-00000000000000000005";
    const NEW_CHECKPOINT: &str = "checkpoint-00000000000000000009";
    const RUN: &str = "run-00000000000000000003";

    fn bytes_of(name: &str) -> Vec<u8> {
        name.repeat(100).into_bytes()
    }

    fn is_whole(disk: &SimulatedDisk, name: &str) -> bool {
        let Ok(file) = disk.open(name, Access::Read) else {
            return false;
        };
        let mut found = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut found, 0).unwrap();
        found == bytes_of(name)
    }

    /// An index with the old set and a run, and all of the new set in parts.
    fn index() -> (SimulatedDisk, IndexFiles, PrimarySet) {
        let disk = SimulatedDisk::new();
        for name in [OLD_BODIES, OLD_CHECKPOINT, RUN] {
            let file = disk.create(name, 0).unwrap();
            file.write_at(&bytes_of(name), 0).unwrap();
            file.sync().unwrap();
        }
        disk.sync_names().unwrap();
        let files = IndexFiles::new(Arc::new(disk.clone()), RetentionHold::default());
        let listed = [OLD_BODIES, NEW_BODIES, NEW_CHECKPOINT].map(|name| PrimaryFile {
            name: name.to_owned(),
            len: bytes_of(name).len() as u64,
            tag: 0,
        });
        for file in &listed[1..] {
            files.put(file, 0, &bytes_of(&file.name)).unwrap();
        }
        let set = PrimarySet {
            version: 1,
            hold: 700,
            end: 900,
            files: listed.to_vec(),
        };
        (disk, files, set)
    }

    #[test]
    fn taking_a_set_that_loses_power_at_any_operation_leaves_the_old_one_or_the_new_one() {
        let (mut cut, mut done) = (0, false);
        while !done {
            for seed in 0..40 {
                let (disk, files, set) = index();
                disk.power_off_after(disk.operations() + cut);
                done = files.take(&set).is_ok();
                assert_eq!(files.hold(), if done { 700 } else { 0 }, "cut {cut}");
                let left = disk.crash(cut * 1_000 + seed);
                let newest = checkpoint::names(&left).unwrap();
                if newest[0] == NEW_CHECKPOINT {
                    let all = [OLD_BODIES, NEW_BODIES, NEW_CHECKPOINT];
                    assert!(all.iter().all(|name| is_whole(&left, name)), "cut {cut}");
                    let runs = run::numbers(&left).unwrap();
                    assert!(runs.is_empty(), "cut {cut}: a run of another master");
                } else {
                    assert!(!done, "cut {cut}: it was taken");
                    let all = [OLD_BODIES, OLD_CHECKPOINT];
                    assert!(all.iter().all(|name| is_whole(&left, name)), "cut {cut}");
                }
            }
            cut += 1;
        }
        assert!(cut > 5, "{cut} operations are not all");
    }
}
