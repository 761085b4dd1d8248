//! What is asked about messages that wait: by their producers, with their ids, and by operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use qmq_sched::{Cancelled, DelayId, Error, Listed, Scheduler, Standing};
use qmq_wire::{
    Code, ControlRequest, ControlResponse, DelayOutcome, DelayRequest, DelayResponse,
    DelayedMessage, NodeStatus, Refusal,
};

use super::dispatch;
use super::letters::{self, Letters};
use crate::access::{Principal, Right};
use crate::rooms::schedule::{self, Scheduling};
use crate::rooms::{AnswersControl, Caller};

/// The store's reserve has two, and it needs one for messages.
const SEGMENTS_NEEDED: u64 = 3;
/// Most messages of a page.
const PAGE_MAX: usize = 10_000;
/// Most dead letters of a page.
const LETTERS_MAX: usize = 1_000;
/// Most dead letters that one request names.
const NUMBERS_MAX: usize = 100_000;
/// Bytes of the place where a page ends.
const PLACE_LEN: usize = 12;

/// The room. Its answers may take long: the caller's thread must be one that may block.
pub struct Controlling {
    pub(super) scheduler: Scheduler,
    pub(super) letters: Arc<Letters>,
    pub(super) scheduling: Scheduling,
    pub(super) dispatched: Arc<dispatch::Counters>,
    pub(super) delay_max: Duration,
    pub(super) node: String,
    pub(super) group: RwLock<String>,
    pub(super) since: Instant,
    pub(super) connections: Arc<AtomicU64>,
    pub(super) draining: Arc<AtomicBool>,
}

impl std::fmt::Debug for Controlling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controlling")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl AnswersControl for Controlling {
    fn answer(
        &self,
        number: u32,
        request: &ControlRequest,
        caller: &Caller,
    ) -> Result<ControlResponse, Refusal> {
        let asked = Asked { number, caller };
        match request {
            ControlRequest::Status => {
                // Whoever has a name may know how the node is.
                if *caller.principal() == Principal::Anonymous {
                    asked.must(Right::Administer, "*")?;
                }
                Ok(ControlResponse::Status(self.status()))
            }
            ControlRequest::Delay(request) => {
                self.delay(request, &asked).map(ControlResponse::Delay)
            }
            _ => Err(Refusal::new(
                number,
                Code::UnknownRequest,
                "a delay server does not know the request; ask a broker or a meta server",
            )),
        }
    }
}

/// A request's number, and who asks.
struct Asked<'a> {
    number: u32,
    caller: &'a Caller,
}

impl Asked<'_> {
    fn must(&self, right: Right, subject: &str) -> Result<(), Refusal> {
        let checked = self.caller.check(right, subject);
        checked.map_err(|refused| Refusal::new(self.number, Code::Denied, refused.to_string()))
    }

    fn refused(&self, error: &Error) -> Refusal {
        Refusal::new(self.number, schedule::code(error), error.to_string())
    }

    fn bad(&self, text: &str) -> Refusal {
        Refusal::new(self.number, Code::Malformed, text)
    }
}

impl Controlling {
    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let store = self.scheduler.store();
        let stats = store.stats();
        let arrived = self.dispatched.dispatched.load(Ordering::Relaxed);
        NodeStatus {
            node: self.node.clone(),
            group: self.group.read().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: self.connections.load(Ordering::Relaxed),
            subscriptions: 0,
            subjects: self.subjects(),
            log_bytes: stats.log_bytes,
            unsynced_bytes: stats
                .watermarks
                .written
                .saturating_sub(stats.watermarks.synced),
            free_bytes: stats.free_bytes,
            produced: self.scheduling.counters().accepted.load(Ordering::Relaxed),
            delivered: arrived,
            acked: arrived,
            draining: self.draining.load(Ordering::Relaxed),
            trouble: store
                .health()
                .err()
                .map_or_else(String::new, |error| error.to_string()),
        }
    }

    /// Subjects of which something waits.
    fn subjects(&self) -> u64 {
        let all = self.scheduler.subjects();
        let waiting = all
            .iter()
            .filter(|(name, totals)| totals.count > 0 && name != letters::SUBJECT);
        waiting.count() as u64
    }

    /// Messages that wait or are on their way, and dead letters.
    #[must_use]
    pub fn pending(&self) -> (u64, u64) {
        let letters = self.letters.total();
        (
            self.scheduler.totals().count.saturating_sub(letters),
            letters,
        )
    }

    /// Messages in.
    #[must_use]
    pub fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }

    /// Messages out.
    #[must_use]
    pub fn dispatched(&self) -> &dispatch::Counters {
        &self.dispatched
    }

    /// Whether a message found no room, and there is still less than the store needs.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let was_full = self.scheduling.counters().disk_full.load(Ordering::Relaxed);
        let store = self.scheduler.store();
        // With room on the disk it is sent to again: else nobody would ever try.
        was_full && store.stats().free_bytes < store.options().segment_bytes * SEGMENTS_NEEDED
    }

    /// Whether messages are taken, as far as is known without one.
    pub(super) fn takes_messages(&self) -> bool {
        self.scheduler.store().health().is_ok() && !self.is_disk_full()
    }

    fn delay(&self, request: &DelayRequest, asked: &Asked<'_>) -> Result<DelayResponse, Refusal> {
        match request {
            DelayRequest::Cancel { id } => {
                let id = DelayId::from_bytes(*id);
                if self.of_letter(id, asked)? {
                    return Ok(DelayResponse::Changed(DelayOutcome::Unknown));
                }
                let outcome = self.scheduler.cancel(id);
                Ok(changed(outcome.map_err(|error| asked.refused(&error))?))
            }
            DelayRequest::Reschedule { id, due_ms } => {
                let id = DelayId::from_bytes(*id);
                let now_ms = self.scheduler.store().options().clock.now_ms();
                let latest = now_ms.saturating_add(self.delay_max.as_millis() as u64);
                if *due_ms > latest {
                    let text = schedule::too_far(*due_ms, now_ms, self.delay_max.as_secs());
                    return Err(Refusal::new(asked.number, Code::DueTooFar, text));
                }
                if self.of_letter(id, asked)? {
                    return Ok(DelayResponse::Changed(DelayOutcome::Unknown));
                }
                let outcome = self.scheduler.reschedule(id, *due_ms);
                Ok(changed(outcome.map_err(|error| asked.refused(&error))?))
            }
            DelayRequest::Get { id } => self.get(DelayId::from_bytes(*id), asked),
            DelayRequest::List {
                subject,
                from_ms,
                after,
                max,
            } => {
                let all = if subject.is_empty() { "*" } else { subject };
                asked.must(Right::Administer, all)?;
                let max = (*max as usize).clamp(1, PAGE_MAX);
                self.list(subject, *from_ms, after, max, asked)
            }
            DelayRequest::DeadLetters { after, max } => {
                asked.must(Right::Administer, "*")?;
                let max = (*max as usize).clamp(1, LETTERS_MAX);
                let letters = self.letters.list(*after, max);
                Ok(DelayResponse::DeadLetters {
                    letters: letters.map_err(|error| asked.refused(&error))?,
                    total: self.letters.total(),
                    forgotten: self.letters.forgotten(),
                })
            }
            DelayRequest::RetryDeadLetters { numbers } => {
                self.change_letters(numbers, asked, |numbers| self.letters.retry(numbers))
            }
            DelayRequest::DropDeadLetters { numbers } => {
                self.change_letters(numbers, asked, |numbers| self.letters.forget(numbers))
            }
            _ => Err(Refusal::new(
                asked.number,
                Code::UnknownRequest,
                "this delay server does not know the request; it is older than the tool that asks",
            )),
        }
    }

    /// Checks that whoever asks may change the message. Whether it is a dead letter's record, which is not to be seen by its id.
    fn of_letter(&self, id: DelayId, asked: &Asked<'_>) -> Result<bool, Refusal> {
        let found = self
            .scheduler
            .get(id)
            .map_err(|error| asked.refused(&error))?;
        match found.map(|found| found.message) {
            Some(Ok(message)) if message.subject() == letters::SUBJECT => Ok(true),
            Some(Ok(message)) => {
                asked.must(Right::Produce, message.subject())?;
                Ok(false)
            }
            // Nobody knows its subject.
            Some(Err(_)) => {
                asked.must(Right::Administer, "*")?;
                Ok(false)
            }
            // It is settled, or was never there: nothing will be changed.
            None => Ok(false),
        }
    }

    fn get(&self, id: DelayId, asked: &Asked<'_>) -> Result<DelayResponse, Refusal> {
        let found = self
            .scheduler
            .get(id)
            .map_err(|error| asked.refused(&error))?;
        let Some(found) = found else {
            return Ok(DelayResponse::Message(None));
        };
        let standing = match found.standing {
            Standing::Pending => "pending",
            Standing::Fired => "fired",
        };
        let (subject, body_bytes) = match &found.message {
            Ok(message) if message.subject() == letters::SUBJECT => {
                return Ok(DelayResponse::Message(None));
            }
            Ok(message) => {
                asked.must(Right::Produce, message.subject())?;
                let len = u32::try_from(message.body().len()).unwrap_or(u32::MAX);
                (message.subject().to_owned(), len)
            }
            Err(_) => {
                asked.must(Right::Administer, "*")?;
                (String::new(), 0)
            }
        };
        Ok(DelayResponse::Message(Some(DelayedMessage {
            id: id.to_bytes(),
            subject,
            due_ms: found.due_ms,
            body_bytes,
            standing: standing.to_owned(),
        })))
    }

    fn list(
        &self,
        subject: &str,
        from_ms: u64,
        after: &[u8],
        max: usize,
        asked: &Asked<'_>,
    ) -> Result<DelayResponse, Refusal> {
        let after = match after {
            [] => None,
            place => Some(read_place(place).ok_or_else(|| {
                asked.bad("`after` is not what a page ended with; give back `next` as it came")
            })?),
        };
        let now_ms = self.scheduler.store().options().clock.now_ms();
        // Dead letters are later than all that a client may schedule.
        let until_ms = now_ms.saturating_add(letters::OFFSET_MS / 2);
        let subject = (!subject.is_empty()).then_some(subject);
        let page = self.scheduler.list(subject, from_ms, until_ms, after, max);
        let page = page.map_err(|error| asked.refused(&error))?;
        Ok(DelayResponse::Page {
            messages: page.messages.into_iter().map(line).collect(),
            next: page.next.map_or_else(Vec::new, put_place),
        })
    }

    fn change_letters(
        &self,
        numbers: &[u64],
        asked: &Asked<'_>,
        change: impl FnOnce(&[u64]) -> Result<u64, Error>,
    ) -> Result<DelayResponse, Refusal> {
        asked.must(Right::Administer, "*")?;
        if numbers.len() > NUMBERS_MAX {
            let text = format!("more than {NUMBERS_MAX} numbers; name fewer, or none for all");
            return Err(Refusal::new(asked.number, Code::TooLarge, text));
        }
        let done = change(numbers).map_err(|error| asked.refused(&error))?;
        Ok(DelayResponse::Done(done))
    }
}

fn changed(outcome: Cancelled) -> DelayResponse {
    DelayResponse::Changed(match outcome {
        Cancelled::Done => DelayOutcome::Done,
        Cancelled::AlreadyFired => DelayOutcome::Fired,
        Cancelled::AlreadyCancelled => DelayOutcome::Cancelled,
        Cancelled::Unknown => DelayOutcome::Unknown,
    })
}

fn line(one: Listed) -> DelayedMessage {
    DelayedMessage {
        id: one.id.to_bytes(),
        subject: one.subject,
        due_ms: one.due_ms,
        body_bytes: one.body_len,
        standing: "pending".to_owned(),
    }
}

fn put_place((due_ms, slot): (u64, u32)) -> Vec<u8> {
    [&due_ms.to_le_bytes()[..], &slot.to_le_bytes()].concat()
}

fn read_place(bytes: &[u8]) -> Option<(u64, u32)> {
    let bytes: &[u8; PLACE_LEN] = bytes.try_into().ok()?;
    let (due_ms, slot) = bytes.split_first_chunk()?;
    Some((
        u64::from_le_bytes(*due_ms),
        u32::from_le_bytes(slot.try_into().ok()?),
    ))
}
