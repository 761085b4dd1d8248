//! What outlives the log: records that pending messages need are moved into files of their own before retention takes their segments. Also
//! the one place that reads a record, wherever it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use qmq_store::{Damaged, Message};

use crate::bodies::{Bodies, Writer, bodies_name};
use crate::core::Core;
use crate::error::Error;
use crate::event::{Event, SUBJECT};
use crate::needed::{Moved, Needed};
use crate::scheduler::Inner;

/// Records looked at with one lock.
const AT_ONCE: usize = 1_024;
/// Files of bodies that lie side by side; beyond that neighbours are merged.
const FILES_MAX: usize = 1_024;
/// Sequences that one file covers when records are moved: 24 bytes of memory each while it is written.
const FILE_SEQUENCES: u64 = 1 << 20;

/// A record that is not what was written.
pub(crate) fn lost(sequence: u64) -> Damaged {
    Damaged {
        subject: SUBJECT.into(),
        sequence,
        offset: None,
        cause: None,
    }
}

impl Inner {
    /// Moves what is needed of the records that retention is to take, and files of which little is needed into smaller ones. The next
    /// checkpoint says so; only after that may the old places go.
    pub(crate) fn move_out(&self) -> Result<(), Error> {
        let due = self.store.retention_due()?;
        let core = self.core.lock();
        let (start, needed) = (core.needed.moved_below(), core.needed.first());
        drop(core);
        if let Some(mut first) = needed {
            let end = Needed::stretch_start(self.first_from_offset(first, due)?);
            let mut start = start;
            while first < end {
                let part_end = Needed::stretch_end(first + FILE_SEQUENCES - 1).min(end);
                self.move_records(start, first, part_end)?;
                (start, first) = (part_end, part_end);
            }
        }
        self.core.lock().needed.drop_empty();
        self.compact()
    }

    /// Whether there is something that [`Self::move_out`] moves: `first` is needed, and retention would take what is before `due`.
    pub(crate) fn can_move_out(&self, first: Option<u64>, due: u64) -> Result<bool, Error> {
        let Some(first) = first else {
            return Ok(false);
        };
        Ok(Needed::stretch_start(self.first_from_offset(first, due)?) > first)
    }

    /// The first sequence from `first` on whose record is not before an offset of the log.
    fn first_from_offset(&self, first: u64, offset: u64) -> Result<u64, Error> {
        let (mut low, mut high) = (first, self.core.lock().next_sequence);
        while low < high {
            let middle = low + (high - low) / 2;
            let records = self.store.read(SUBJECT, middle, 1)?;
            let found = records.iter().next().and_then(|one| one.message().ok());
            // A damaged record tells no offset; its neighbours are taken to be where it is, and stay.
            if found.is_some_and(|view| view.offset() < offset) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn move_records(&self, start: u64, first: u64, end: u64) -> Result<(), Error> {
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let writing = || Error::io(format!("writing {}", bodies_name(number)));
        let mut writer = Writer::create(&*self.disk, number).map_err(writing())?;
        let mut at = first;
        while at < end {
            let most = AT_ONCE.min((end - at) as usize);
            let records = self.store.read(SUBJECT, at, most)?;
            if records.is_empty() {
                break;
            }
            let mut kept = Vec::new();
            let core = self.core.lock();
            for one in &records {
                at = one.sequence() + 1;
                let Ok(view) = one.message() else { continue };
                if at <= end && core.needs(one.sequence(), view.body()) {
                    kept.push((one.sequence(), view));
                }
            }
            drop(core);
            for (sequence, view) in kept {
                let message = view.to_message();
                writer.push(sequence, &message).map_err(writing())?;
            }
        }
        let count = writer.finish(self.store_id).map_err(writing())?;
        let bodies = self.open_bodies(number)?;
        let mut core = self.core.lock();
        let live = core.needed.count_before(end);
        let file = Moved {
            number,
            live,
            count,
        };
        core.needed.moved(start, end, file);
        core.bodies.push(Arc::new(bodies));
        Ok(())
    }

    pub(crate) fn open_bodies(&self, number: u64) -> Result<Bodies, Error> {
        let opening = || Error::io(format!("opening {}", bodies_name(number)));
        let opened = Bodies::open(&*self.disk, number, self.store_id).map_err(opening())?;
        let whole = opened.filter(|bodies| !bodies.is_damaged());
        whole.ok_or_else(|| opening()(io::Error::other("it is not what was written")))
    }

    /// Rewrites a file of which less than half is needed, or the two neighbours of which least is, if there are many.
    fn compact(&self) -> Result<(), Error> {
        let core = self.core.lock();
        let files: Vec<(u64, Moved)> = core.needed.files().collect();
        // One that is not there may come back; nothing is put in its place.
        let opened: Vec<_> = files
            .iter()
            .map(|(_, file)| core.bodies_of(file.number))
            .collect();
        drop(core);
        let is_there = |at: usize| opened.get(at).is_some_and(Option::is_some);
        let sparse = |at: &usize| {
            let is_damaged = opened[*at].as_ref().map(|bodies| bodies.is_damaged());
            is_damaged.is_some_and(|is| is || files[*at].1.live * 2 < files[*at].1.count)
        };
        let (at, len) = match (0..files.len()).find(sparse) {
            Some(at) => (at, 1),
            None if files.len() > FILES_MAX => {
                let live = |at: &usize| files[*at].1.live + files[at + 1].1.live;
                let pairs = (0..files.len() - 1).filter(|&at| is_there(at) && is_there(at + 1));
                match pairs.min_by_key(live) {
                    Some(at) => (at, 2),
                    None => return Ok(()),
                }
            }
            None => return Ok(()),
        };
        let old = &files[at..at + len];
        let old_bodies: Vec<Arc<Bodies>> = opened[at..at + len].iter().flatten().cloned().collect();
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let writing = || Error::io(format!("writing {}", bodies_name(number)));
        let mut writer = Writer::create(&*self.disk, number).map_err(writing())?;
        for bodies in &old_bodies {
            let sequences: Vec<u64> = bodies.sequences().collect();
            for piece in sequences.chunks(AT_ONCE) {
                let read = |&sequence: &u64| Some((sequence, bodies.get(sequence)?));
                let mut messages: Vec<(u64, Message)> = piece.iter().filter_map(read).collect();
                let core = self.core.lock();
                messages.retain(|(sequence, message)| core.needs(*sequence, message.body()));
                drop(core);
                for (sequence, message) in messages {
                    writer.push(sequence, &message).map_err(writing())?;
                }
            }
        }
        let count = writer.finish(self.store_id).map_err(writing())?;
        let bodies = self.open_bodies(number)?;
        let mut core = self.core.lock();
        let now = |first: u64| core.needed.files().find(|(at, _)| *at == first);
        let live: u64 = old
            .iter()
            .filter_map(|(first, _)| now(*first))
            .map(|(_, file)| file.live)
            .sum();
        let file = Moved {
            number,
            live,
            count,
        };
        let behind = old.get(1).map(|(first, _)| *first);
        core.needed.replaced(old[0].0, behind, file);
        core.bodies.push(Arc::new(bodies));
        Ok(())
    }

    /// The file that has a record, if it was moved.
    pub(crate) fn bodies_with(&self, core: &Core, sequence: u64) -> Option<Arc<Bodies>> {
        core.bodies_of(core.needed.file_of(sequence)?)
    }

    /// A record of the log, wherever it is.
    pub(crate) fn record(&self, moved: Option<&Bodies>, sequence: u64) -> Result<Message, Damaged> {
        if let Some(bodies) = moved {
            return bodies.get(sequence).ok_or_else(|| lost(sequence));
        }
        let read = self.store.read(SUBJECT, sequence, 1);
        let records = read.map_err(|error| Damaged {
            cause: Some(error.to_string().into()),
            ..lost(sequence)
        })?;
        // A read begins with the oldest record that is left, if that is a later one.
        let one = records.iter().next();
        let one = one.filter(|one| one.sequence() == sequence);
        let one = one.ok_or_else(|| lost(sequence))?;
        one.message().map(|view| view.to_message())
    }
}

impl Core {
    fn bodies_of(&self, number: u64) -> Option<Arc<Bodies>> {
        let mut bodies = self.bodies.iter();
        bodies.find(|bodies| bodies.number == number).cloned()
    }

    /// Whether a record is one that a pending message needs.
    fn needs(&self, sequence: u64, body: &[u8]) -> bool {
        match Event::decode(body) {
            Some(Event::Scheduled { key, .. }) => self.is_open(key),
            Some(Event::Rescheduled(one)) => {
                let place = self.moved.get(&one.home);
                place.is_some_and(|place| place.record == sequence)
            }
            _ => false,
        }
    }
}
