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
const FILES_MAX: usize = 64;

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
        if let Some(first) = needed {
            let end = Needed::stretch_start(self.first_from_offset(first, due)?);
            if end > first {
                self.move_records(start, first, end)?;
            }
        }
        self.core.lock().needed.drop_empty();
        self.compact()
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
        let live = core.needed.count_before(end).min(count);
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
        opened.ok_or_else(|| opening()(io::Error::other("it is not what was written")))
    }

    /// Rewrites a file of which less than half is needed, or the two neighbours of which least is, if there are many.
    fn compact(&self) -> Result<(), Error> {
        let files: Vec<(u64, Moved)> = self.core.lock().needed.files().collect();
        let sparse = files
            .iter()
            .position(|(_, file)| file.live * 2 < file.count);
        let (at, len) = match sparse {
            Some(at) => (at, 1),
            None if files.len() > FILES_MAX => {
                let live = |at: &usize| files[*at].1.live + files[at + 1].1.live;
                let least = (0..files.len() - 1).min_by_key(live);
                (least.unwrap_or(0), 2)
            }
            None => return Ok(()),
        };
        let old = &files[at..at + len];
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let writing = || Error::io(format!("writing {}", bodies_name(number)));
        let mut writer = Writer::create(&*self.disk, number).map_err(writing())?;
        for (_, file) in old {
            let Some(bodies) = self.core.lock().bodies_of(file.number) else {
                continue;
            };
            let sequences: Vec<u64> = bodies.sequences().collect();
            for piece in sequences.chunks(AT_ONCE) {
                let core = self.core.lock();
                for &sequence in piece {
                    let message = bodies.get(sequence);
                    if let Some(message) = message.filter(|m| core.needs(sequence, m.body())) {
                        writer.push(sequence, &message).map_err(writing())?;
                    }
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
            live: live.min(count),
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
        let one = records.iter().next().ok_or_else(|| lost(sequence))?;
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
