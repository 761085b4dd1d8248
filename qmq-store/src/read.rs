//! Reading without a group: by sequence, by time, by id, and as it comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::consume::poll::park_until;
use crate::consume::wakeup::{ThreadWaker, Waiting};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::{DamagedIndex, floor, walk};
use crate::log::segment::Segment;
use crate::records::{Peeked, Records};
use crate::store::{Inner, Store};

/// A read ends with the message whose body reaches so many bytes: with one at least, and with up to one body more.
const READ_BYTES_MAX: u64 = 16 << 20;
/// Messages that the tailing iterator reads ahead.
const TAIL_AHEAD: usize = 256;

/// What is asked of subjects and segments by readers: the store, and a follower of one.
pub(crate) trait Source {
    fn list(&self) -> Arc<Vec<Arc<Segment>>>;
    fn visible_end(&self) -> u64;
    fn mend(&self, damaged: &DamagedIndex) -> Result<(), Error>;
}

impl Source for Inner {
    fn list(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments()
    }

    fn visible_end(&self) -> u64 {
        self.visible()
    }

    fn mend(&self, damaged: &DamagedIndex) -> Result<(), Error> {
        self.heal(damaged)
    }
}

/// Tries until no damaged index is in the way; one that is met is mended.
pub(crate) fn mending<T>(
    source: &dyn Source,
    mut attempt: impl FnMut() -> Result<T, DamagedIndex>,
) -> Result<T, Error> {
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(damaged) => source.mend(&damaged)?,
        }
    }
}

/// Reads up to `max` messages of a subject from sequence `from` on.
pub(crate) fn read(
    source: &dyn Source,
    subject: &Arc<Subject>,
    from: u64,
    max: usize,
) -> Result<Records, Error> {
    if max == 0 {
        return Ok(Records::new(subject));
    }
    let mut records = loop {
        let start = log_start(source);
        let (records, gap) = mending(source, || {
            let (mut bytes, mut gap) = (0, false);
            let records = peek_each(source, subject, from, |records, sequence, peeked| {
                gap |= records.next_sequence().is_some_and(|next| next != sequence);
                bytes += body_len(&peeked);
                records.push(sequence, 0, 0, peeked);
                records.len() < max && bytes < READ_BYTES_MAX
            })?;
            Ok((records, gap))
        })?;
        // Retention may have taken a segment from the middle of the walk, after the first was read: the walk begins again behind it.
        if !gap || log_start(source) == start {
            break records;
        }
    };
    records.verify_bodies();
    Ok(records)
}

/// Looks at the header of each visible message of a subject from sequence `from` on, until `each` says no.
fn peek_each(
    source: &dyn Source,
    subject: &Arc<Subject>,
    from: u64,
    mut each: impl FnMut(&mut Records, u64, Peeked) -> bool,
) -> Result<Records, DamagedIndex> {
    let mut records = Records::new(subject);
    walk(
        subject,
        &|| source.list(),
        from,
        source.visible_end(),
        |segment, sequence, entry| {
            let peeked = records.peek(segment, sequence, entry);
            each(&mut records, sequence, peeked)
        },
    )?;
    Ok(records)
}

fn body_len(peeked: &Peeked) -> u64 {
    peeked.header.map_or(0, |header| u64::from(header.body_len))
}

/// Bytes of bodies of the messages from `from` on.
pub(crate) fn body_bytes(
    source: &dyn Source,
    subject: &Arc<Subject>,
    from: u64,
) -> Result<u64, Error> {
    mending(source, || {
        let mut bytes = 0;
        peek_each(source, subject, from, |_, _, peeked| {
            bytes += body_len(&peeked);
            true
        })?;
        Ok(bytes)
    })
}

/// Offset at which the log begins now.
fn log_start(source: &dyn Source) -> u64 {
    source.list().first().map_or(0, |segment| segment.base)
}

/// First and next sequence of a subject.
pub(crate) fn bounds(source: &dyn Source, subject: &Subject) -> Result<(u64, u64), Error> {
    let floor = mending(source, || floor(subject, &source.list()))?;
    let next = subject.index.lock().next;
    Ok((floor.min(next), next))
}

/// First sequence whose record time is not before `time_ms`. Record times never decrease, so this is a bisection.
pub(crate) fn sequence_at(
    source: &dyn Source,
    subject: &Arc<Subject>,
    time_ms: u64,
) -> Result<u64, Error> {
    let (mut low, mut high) = bounds(source, subject)?;
    while low < high {
        let middle = low + (high - low) / 2;
        // A damaged message has no time: the next whole one stands for it.
        let mut probe = middle;
        let mut found = None;
        while probe < high && found.is_none() {
            let records = read(source, subject, probe, 1)?;
            let Some(one) = records.iter().next() else {
                break;
            };
            found = one.message().ok().map(|message| message.record_time_ms());
            probe += 1;
        }
        if found.is_some_and(|time| time < time_ms) {
            low = probe;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Newest message with this id among the last `among_last` of a subject.
pub(crate) fn find_by_id(
    source: &dyn Source,
    subject: &Arc<Subject>,
    id: &str,
    among_last: u64,
) -> Result<Option<u64>, Error> {
    const PIECE: u64 = 1_000;
    let (floor, next) = bounds(source, subject)?;
    let lowest = next.saturating_sub(among_last).max(floor);
    let mut high = next;
    while high > lowest {
        let mut from = high.saturating_sub(PIECE).max(lowest);
        let low = from;
        let mut newest = None;
        while from < high {
            let records = read(source, subject, from, (high - from) as usize)?;
            let Some(next) = records.next_sequence() else {
                break;
            };
            let mut matching = records
                .iter()
                .filter(|one| one.message().is_ok_and(|message| message.id() == Some(id)))
                .map(|one| one.sequence());
            newest = matching.next_back().or(newest);
            from = next;
        }
        if newest.is_some() {
            return Ok(newest);
        }
        high = low;
    }
    Ok(None)
}

impl Inner {
    pub(crate) fn known_subject(&self, name: &str) -> Result<Arc<Subject>, Error> {
        self.check_open()?;
        self.catalog.known(name)
    }

    pub(crate) fn sequence_at(&self, subject: &Arc<Subject>, time_ms: u64) -> Result<u64, Error> {
        sequence_at(self, subject, time_ms)
    }
}

impl Store {
    /// Reads up to `max` messages of a subject from sequence `from` on (from the oldest kept, if that is later). It stops at 16 MiB of
    /// bodies: at least one message is read, and up to one body more than that.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::Io`].
    pub fn read(&self, subject: &str, from: u64, max: usize) -> Result<Records, Error> {
        read(&*self.inner, &self.inner.known_subject(subject)?, from, max)
    }

    /// First sequence of the subject whose record time is not before `time_ms` (ms since the Unix epoch); its next sequence if there is none.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn sequence_at_time(&self, subject: &str, time_ms: u64) -> Result<u64, Error> {
        sequence_at(&*self.inner, &self.inner.known_subject(subject)?, time_ms)
    }

    /// Newest message with this id among the last `among_last` of the subject. Ids need not be unique.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn find_by_id(
        &self,
        subject: &str,
        id: &str,
        among_last: u64,
    ) -> Result<Option<u64>, Error> {
        find_by_id(
            &*self.inner,
            &self.inner.known_subject(subject)?,
            id,
            among_last,
        )
    }

    /// Follows a subject from sequence `from` on: messages as they come, for as long as the caller asks.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`].
    pub fn tail(&self, subject: &str, from: u64) -> Result<Tail, Error> {
        let subject = self.inner.known_subject(subject)?;
        Ok(Tail {
            store: self.clone(),
            subject,
            next: from,
        })
    }
}

/// Follows a subject; see [`Store::tail`].
#[derive(Debug)]
pub struct Tail {
    store: Store,
    subject: Arc<Subject>,
    next: u64,
}

impl Tail {
    /// Sequence of the message that comes next.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The next messages, waiting up to `timeout` for the first; empty if none came.
    ///
    /// # Errors
    /// As [`Store::read`]; [`Error::Closed`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Records, Error> {
        let deadline = Instant::now() + timeout;
        let thread = ThreadWaker::current();
        let waker = Waker::from(Arc::clone(&thread));
        let mut waiting = Waiting::default();
        loop {
            thread.woken.store(false, Ordering::SeqCst);
            if let Some(records) = self.take()? {
                return Ok(records);
            }
            waiting.enter(&self.subject, &waker);
            if let Some(records) = self.take()? {
                return Ok(records);
            }
            if !park_until(&thread, deadline) {
                return Ok(Records::new(&self.subject));
            }
        }
    }

    fn take(&mut self) -> Result<Option<Records>, Error> {
        self.store.inner.check_open()?;
        let records = read(&*self.store.inner, &self.subject, self.next, TAIL_AHEAD)?;
        let Some(next) = records.next_sequence() else {
            return Ok(None);
        };
        self.next = next;
        Ok(Some(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Background, Options};
    use qmq_message::Message;

    #[test]
    fn a_tail_whose_time_is_up_leaves_no_waker_behind() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            background: Background::Manual,
            ..Options::with_segment_bytes(64 << 10)
        };
        let store = Store::open(folder.path(), options).unwrap();
        store.append(&Message::new("s", "x")).unwrap();
        let mut tail = store.tail("s", 1).unwrap();
        for _ in 0..10 {
            assert!(tail.next_timeout(Duration::ZERO).unwrap().is_empty());
        }
        assert_eq!(tail.subject.consumption.lock().waiters.len(), 0);
    }
}
