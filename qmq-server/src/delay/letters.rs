//! Dead letters: messages that brokers refused for good.
//!
//! They are kept where all other messages are: each is a message of a subject of its own, due a hundred years after it was refused. So the scheduler
//! keeps them over restarts and longer than the log, backs them up, and lists them in the order in which they came. A letter's number is its place in
//! that order: about the time at which it was refused, in ms since 1970 UTC.
//!
//! The body of such a message, numbers little-endian:
//!
//! ```text
//! u8 version, 1
//! u64 when the message was due; u64 when it was refused; both in ms since 1970 UTC
//! 16 bytes id that the message had
//! u16 length, subject
//! u16 length, why
//! the body as it was; the attributes are the message's own
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use qmq_message::Message;
use qmq_sched::{Cancelled, DelayId, Error, Scheduler};
use qmq_store::Durability;
use qmq_wire::DeadLetter;

/// The subject of dead letters; no client may produce to it.
pub(crate) const SUBJECT: &str = "%DELAY_DEAD_LETTER";
/// A hundred years: letters are due that much later than they were refused.
pub(crate) const OFFSET_MS: u64 = 36_525 * 86_400_000;
/// Most bytes that a letter's body has besides that of its message.
pub(crate) const OVERHEAD_BYTES: u64 = 4_096;
const VERSION: u8 = 1;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1_024;
/// Letters of one page.
const PAGE_MAX: usize = 1_000;

/// A message on its way to the others.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) id: DelayId,
    pub(super) due_ms: u64,
    /// As it was kept; `None`: it cannot be read.
    pub(super) message: Option<Message>,
    pub(super) reason: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Letters {
    scheduler: Scheduler,
    max: u64,
    /// Due time of the newest. Held by whoever changes letters.
    newest_ms: Mutex<u64>,
    forgotten: AtomicU64,
}

impl Letters {
    /// Those of a scheduler, the newest `max` of them.
    pub(crate) fn open(scheduler: Scheduler, max: u64) -> Self {
        let newest = scheduler
            .subject_totals(SUBJECT)
            .map_or(0, |totals| totals.last_due_ms);
        Self {
            scheduler,
            max: max.max(1),
            newest_ms: Mutex::new(newest),
            forgotten: AtomicU64::new(0),
        }
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.scheduler
            .subject_totals(SUBJECT)
            .map_or(0, |totals| totals.count)
    }

    /// How many were forgotten since the start because there were too many.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Adds letters; they are synced when this returns. The oldest go if there are too many.
    pub(super) fn add(&self, refused: &[Refused]) -> Result<(), Error> {
        let now_ms = self.scheduler.store().options().clock.now_ms();
        let mut newest = self.newest_ms.lock();
        let mut at = *newest;
        let letters: Vec<(u64, Message)> = refused
            .iter()
            .map(|one| {
                at = (at + 1).max(now_ms + OFFSET_MS);
                (at, encode(one, now_ms))
            })
            .collect();
        match self.scheduler.schedule_batch(&letters, Durability::Synced) {
            Ok(_) => {}
            // Together they may be too large for a batch.
            Err(Error::Store(qmq_store::Error::BatchTooLarge { .. })) if letters.len() > 1 => {
                for (due_ms, letter) in &letters {
                    self.scheduler.schedule(*due_ms, letter)?;
                }
            }
            Err(error) => return Err(error),
        }
        *newest = at;
        self.forget_oldest()
    }

    fn forget_oldest(&self) -> Result<(), Error> {
        loop {
            let excess = self.total().saturating_sub(self.max);
            if excess == 0 {
                return Ok(());
            }
            let most = (excess as usize).min(PAGE_MAX);
            let page = self
                .scheduler
                .list(Some(SUBJECT), OFFSET_MS, u64::MAX, None, most)?;
            if page.messages.is_empty() {
                return Ok(());
            }
            for one in page.messages {
                if self.scheduler.cancel_with(one.id, Durability::Buffered)? == Cancelled::Done {
                    self.forgotten.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Letters behind a number, in order.
    pub(crate) fn list(&self, after: u64, max: usize) -> Result<Vec<DeadLetter>, Error> {
        let max = max.min(PAGE_MAX);
        let mut letters = Vec::new();
        for (number, id) in self.ids(after, max)? {
            if let Some((letter, _)) = self.read(number, id)? {
                letters.push(letter);
            }
        }
        Ok(letters)
    }

    /// Schedules the messages of these letters anew, due now, and forgets the letters; `numbers` empty: of all. How many.
    pub(crate) fn retry(&self, numbers: &[u64]) -> Result<u64, Error> {
        let _changing = self.newest_ms.lock();
        let now_ms = self.scheduler.store().options().clock.now_ms();
        self.each(numbers, |number, id| {
            let Some((_, Some(message))) = self.read(number, id)? else {
                return Ok(false);
            };
            // First the message, then the letter: should the process end in between, there are both.
            self.scheduler
                .schedule_with(now_ms, &message, Durability::Synced)?;
            Ok(self.scheduler.cancel(id)? == Cancelled::Done)
        })
    }

    /// Forgets these letters; `numbers` empty: all. How many.
    pub(crate) fn forget(&self, numbers: &[u64]) -> Result<u64, Error> {
        let _changing = self.newest_ms.lock();
        self.each(numbers, |_, id| {
            Ok(self.scheduler.cancel_with(id, Durability::Buffered)? == Cancelled::Done)
        })
    }

    fn each(
        &self,
        numbers: &[u64],
        mut act: impl FnMut(u64, DelayId) -> Result<bool, Error>,
    ) -> Result<u64, Error> {
        let mut done = 0;
        if numbers.is_empty() {
            let mut after = 0;
            loop {
                let page = self.ids(after, PAGE_MAX)?;
                let Some((last, _)) = page.last() else {
                    break;
                };
                after = *last;
                for (number, id) in page {
                    done += u64::from(act(number, id)?);
                }
            }
        }
        for number in numbers {
            let before = number.saturating_sub(1);
            if let Some((found, id)) = self.ids(before, 1)?.first()
                && found == number
            {
                done += u64::from(act(*number, *id)?);
            }
        }
        // What was cancelled buffered is synced with this.
        let store = self.scheduler.store();
        store.wait(store.watermarks().written, Durability::Synced)?;
        Ok(done)
    }

    /// Numbers behind `after`, and under which id the scheduler has each letter.
    fn ids(&self, after: u64, max: usize) -> Result<Vec<(u64, DelayId)>, Error> {
        let from = after.saturating_add(1).saturating_add(OFFSET_MS);
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let left = max - found.len();
            let page = self
                .scheduler
                .list(Some(SUBJECT), from, u64::MAX, next, left)?;
            let each = page.messages.into_iter();
            found.extend(each.map(|one| (one.due_ms.saturating_sub(OFFSET_MS), one.id)));
            next = page.next;
            if next.is_none() || found.len() >= max {
                return Ok(found);
            }
        }
    }

    /// A letter, and its message as it was kept; `None` of the message: it could not be read when it was refused.
    fn read(
        &self,
        number: u64,
        id: DelayId,
    ) -> Result<Option<(DeadLetter, Option<Message>)>, Error> {
        let Some(Ok(record)) = self.scheduler.get(id)?.map(|found| found.message) else {
            return Ok(None);
        };
        Ok(decode(number, &record))
    }
}

fn encode(refused: &Refused, now_ms: u64) -> Message {
    let subject = refused.message.as_ref().map_or("", Message::subject);
    let mut reason = refused.reason.as_str();
    if reason.len() > REASON_BYTES_MAX {
        reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    }
    let mut body = BytesMut::new();
    body.put_u8(VERSION);
    body.put_u64_le(refused.due_ms);
    body.put_u64_le(now_ms);
    body.put_slice(&refused.id.to_bytes());
    for text in [subject, reason] {
        body.put_u16_le(text.len() as u16);
        body.put_slice(text.as_bytes());
    }
    match &refused.message {
        Some(message) => {
            body.put_slice(message.body());
            message.clone().with_subject(SUBJECT).with_body(body)
        }
        None => Message::new(SUBJECT, body),
    }
}

fn decode(number: u64, record: &Message) -> Option<(DeadLetter, Option<Message>)> {
    let mut rest = record.body().clone();
    if rest.try_get_u8().ok()? != VERSION {
        return None;
    }
    let due_ms = rest.try_get_u64_le().ok()?;
    let refused_ms = rest.try_get_u64_le().ok()?;
    let mut id = [0; 16];
    rest.try_copy_to_slice(&mut id).ok()?;
    let subject = text(&mut rest)?;
    let reason = text(&mut rest)?;
    let message = (!subject.is_empty()).then(|| {
        let original = record.clone().with_subject(subject.clone());
        original.with_body(rest)
    });
    let letter = DeadLetter {
        number,
        id,
        subject,
        due_ms,
        refused_ms,
        reason,
    };
    Some((letter, message))
}

fn text(rest: &mut Bytes) -> Option<String> {
    let len = usize::from(rest.try_get_u16_le().ok()?);
    if rest.len() < len {
        return None;
    }
    String::from_utf8(rest.split_to(len).to_vec()).ok()
}
