//! A replica takes in what its master wrote: all of it verified, then written at the same offsets, indexed, and its actions applied.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use qmq_message::{Attributes, check_subject};

use super::ReplicaError;
use super::unit::{self, Bad};
use crate::consume::{Action, wakeup};
use crate::error::Error;
use crate::index::active::Subject;
use crate::keep::recovery::Replay;
use crate::log::record::{Header, Kind, Record};
use crate::log::segment::Segment;
use crate::log::writer::Purpose;
use crate::options::{Durability, VisibleAt};
use crate::store::{Inner, Store};

impl Store {
    /// Appends whole commit units of the master's log, at exactly the end of this one; returns the new end. They are verified before anything is
    /// written: checksums, offsets, order of times and incarnations, sequences without holes. They are buffered then; [`Store::sync`] or
    /// [`Store::wait`] makes them durable. What overlaps the end and is the same is passed over.
    ///
    /// # Errors
    /// [`Error::NotReplica`]; [`ReplicaError::Gap`], [`ReplicaError::Differs`], [`ReplicaError::Refused`], [`ReplicaError::Damaged`] if
    /// this log is bad where the bytes overlap it, with nothing written;
    /// [`Error::DiskFull`], [`Error::Poisoned`], after which the end ([`Store::watermarks`]) says how much was taken.
    pub fn append_raw(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        self.inner.check_open()?;
        let end = self.inner.take(offset, bytes)?;
        self.inner.after_append(end, Durability::Buffered)?;
        Ok(end)
    }
}

/// Units that have been verified.
#[derive(Default)]
struct Verified {
    /// Of all records, those of a batch behind its header.
    headers: Vec<Header>,
    /// Length of each unit, and how many of the headers are its.
    units: Vec<(usize, usize)>,
}

impl Inner {
    fn take(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        let _taking = self.log.taking.lock();
        self.log.check_replica()?;
        self.log.commit.check()?;
        let (end, last_time_ms, last_incarnation) = self.log.last();
        if offset > end {
            return Err(ReplicaError::Gap { offset, end }.into());
        }
        let known = (end - offset).min(bytes.len() as u64) as usize;
        self.check_same(offset, &bytes[..known])?;
        let bytes = &bytes[known..];
        if bytes.is_empty() {
            return Ok(end);
        }
        let mut follows = Follows {
            inner: self,
            damaged: !self.report.damages.is_empty(),
            time_ms: last_time_ms,
            incarnation: last_incarnation,
            epoch: self.catalog.epochs.last(),
            state_end: self.catalog.state_beyond(end),
            next: HashMap::default(),
        };
        let verified = verify(bytes, end, &mut follows).map_err(|bad| ReplicaError::Refused {
            offset: bad.offset,
            reason: bad.reason,
        })?;
        self.write_units(bytes, &verified)?;
        Ok(self.log.commit.written())
    }

    /// Whether the log has these bytes at `offset`, all of which it reaches.
    fn check_same(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < bytes.len() {
            let from = offset + at as u64;
            let Some(segment) = self.segment_at(from)? else {
                break;
            };
            let name = segment.data().name();
            let region = segment
                .region()
                .map_err(Error::io(format!("reading {name}")))?;
            let len = (segment.published_end() - from).min((bytes.len() - at) as u64) as usize;
            let given = &bytes[at..at + len];
            let there = region
                .bytes(segment.position(from), len)
                .unwrap_or_default();
            if there != given {
                let same = there.iter().zip(given).take_while(|(a, b)| a == b).count();
                return Err(self.why_other(&segment, from + same as u64)?.into());
            }
            at += len;
        }
        Ok(())
    }

    /// Why the log has another byte at `offset`: its history is another, or it is damaged there.
    fn why_other(&self, segment: &Segment, offset: u64) -> Result<ReplicaError, Error> {
        let end = segment.end().unwrap_or(self.log.commit.written());
        let bad = self.first_bad_in(segment.base, end, offset)?;
        Ok(match bad.filter(|bad| bad.contains(&offset)) {
            Some(bad) => ReplicaError::Damaged {
                offset: bad.start,
                len: bad.end - bad.start,
            },
            None => ReplicaError::Differs { offset },
        })
    }

    /// Writes verified units, as many at a time as the active segment takes.
    fn write_units(&self, bytes: &[u8], verified: &Verified) -> Result<(), Error> {
        let (mut bytes, mut headers, mut units) =
            (bytes, &verified.headers[..], &verified.units[..]);
        while let Some(&(first_len, _)) = units.first() {
            let mut appender = self
                .log
                .lock_as_replicator(first_len as u64, Purpose::Message)?;
            let room = appender.room();
            let (mut len, mut records, mut count) = (0, 0, 0);
            for &(unit, of_unit) in units {
                if (len + unit) as u64 > room {
                    break;
                }
                len += unit;
                records += of_unit;
                count += 1;
            }
            let (piece, rest) = bytes.split_at(len);
            let (run, later) = headers.split_at(records);
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                return Ok(());
            };
            appender.put_raw(piece, (first.time_ms, last.time_ms), last.incarnation)?;
            let segment = appender.active();
            let mut replay = Replay::new(&self.catalog, &self.names, 0);
            let (mut touched, mut woken) = (Vec::new(), Vec::new());
            let each = |header: &Header| record_of(piece, first.offset, header);
            // Subjects get their numbers in the order of the log, so those of actions too. Verified units fit, so none of this fails.
            for header in run {
                let Some(record) = each(header) else { continue };
                match header.kind {
                    Kind::Message => {
                        let _ = replay.message(&segment, header, record.subject, &mut touched);
                        self.note_woken(&mut woken, replay.subject(record.subject), header.offset);
                    }
                    Kind::Action => drop(replay.subject(record.subject)),
                    Kind::Epoch => {
                        let _ = self.catalog.epochs.note(header.sequence, header.offset);
                    }
                    Kind::Batch => {}
                }
            }
            appender.indexed(&mut touched, self.catalog.len() as u32);
            appender.publish()?;
            for header in run.iter().filter(|header| header.kind == Kind::Action) {
                if let Some(record) = each(header) {
                    let _ = replay.action(&record);
                }
            }
            for subject in woken {
                wakeup::notify(&subject);
            }
            (bytes, headers, units) = (rest, later, &units[count..]);
        }
        Ok(())
    }

    /// Enters a subject that has a new message at `offset` among those to wake, now or when the message becomes visible.
    fn note_woken(&self, woken: &mut Vec<Arc<Subject>>, subject: Arc<Subject>, offset: u64) {
        if self.options.visible_at != VisibleAt::Written {
            self.wake_later.lock().add(offset, &subject);
        } else if woken.last().is_none_or(|last| !Arc::ptr_eq(last, &subject)) {
            woken.push(subject);
        }
    }
}

/// A record that has been verified, in bytes that begin at offset `base`.
fn record_of<'a>(bytes: &'a [u8], base: u64, header: &Header) -> Option<Record<'a>> {
    Record::assemble(bytes.get((header.offset - base) as usize..)?, *header)
}

fn verify<'a>(bytes: &'a [u8], offset: u64, follows: &mut Follows<'a>) -> Result<Verified, Bad> {
    let mut verified = Verified::default();
    let mut at = 0;
    while at < bytes.len() {
        let before = verified.headers.len();
        let mut each = |record: &Record<'a>| {
            verified.headers.push(record.header);
            follows.check(record)
        };
        let unit = unit::check(&bytes[at..], offset + at as u64, usize::MAX, &mut each)?;
        let len = unit.unwrap_or(bytes.len());
        at += len;
        let of_unit = verified.headers.len() - before;
        verified.units.push((len, of_unit));
    }
    Ok(verified)
}

/// Whether one record may follow the other in a log.
struct Follows<'a> {
    inner: &'a Inner,
    /// The log has lost records, so that sequences may go on with a gap.
    damaged: bool,
    time_ms: u64,
    incarnation: u32,
    epoch: u64,
    /// The epochs are as of this already.
    state_end: u64,
    /// Next sequence of the subjects met.
    next: HashMap<&'a str, u64, RandomState>,
}

impl<'a> Follows<'a> {
    fn check(&mut self, record: &Record<'a>) -> Result<(), &'static str> {
        let header = &record.header;
        if header.time_ms < self.time_ms {
            return Err("its time is before that of the record before it");
        }
        if header.incarnation < self.incarnation {
            return Err("its incarnation is below that of the record before it");
        }
        if header.synced_end > header.offset {
            return Err("it claims to be synced before it was written");
        }
        (self.time_ms, self.incarnation) = (header.time_ms, header.incarnation);
        match header.kind {
            Kind::Message => self.message(record),
            Kind::Action => {
                Action::decode(record.body).map_err(|_| "an action that cannot be decoded")?;
                self.next_of(record.subject).map(|_| ())
            }
            Kind::Epoch if header.offset < self.state_end => Ok(()),
            Kind::Epoch if header.sequence <= self.epoch => {
                Err("an epoch that is not above the one before")
            }
            Kind::Epoch => {
                self.epoch = header.sequence;
                Ok(())
            }
            Kind::Batch => Ok(()),
        }
    }

    fn message(&mut self, record: &Record<'a>) -> Result<(), &'static str> {
        if Attributes::decode(record.attributes).is_err() {
            return Err("attributes that cannot be decoded");
        }
        let damaged = self.damaged;
        let next = self.next_of(record.subject)?;
        let sequence = record.header.sequence;
        if sequence < *next || (sequence > *next && !damaged) {
            return Err("its sequence does not follow");
        }
        *next = sequence + 1;
        Ok(())
    }

    /// Where the subject stands; a name that breaks a rule is refused, however it came into a log.
    fn next_of(&mut self, subject: &'a str) -> Result<&mut u64, &'static str> {
        use std::collections::hash_map::Entry;
        let catalog = &self.inner.catalog;
        match self.next.entry(subject) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let next = match catalog.get(subject) {
                    Some(subject) => subject.index.lock().next,
                    None if check_subject(subject).is_err() => {
                        return Err("a subject whose name breaks a rule");
                    }
                    None => 0,
                };
                Ok(new.insert(next))
            }
        }
    }
}
