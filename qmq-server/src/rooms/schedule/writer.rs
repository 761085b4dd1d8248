//! The thread that schedules.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use crossbeam_channel::Receiver;
use qmq_message::{Attributes, Message};
use qmq_sched::{DelayId, Error, Scheduler};
use qmq_store::Durability;
use qmq_wire::{AcceptedDelay, Code, Produce, Refused, Scheduled};

use super::asked;
use super::repeats::Repeats;
use super::{Counters, Reply, ScheduleOptions};
use crate::rooms::refusals;

/// Bytes of messages that are scheduled in one go.
const TOGETHER_BYTES_MAX: u64 = 4 << 20;
/// Requests that are scheduled in one go.
const TOGETHER_MAX: usize = 1024;

/// A request on its way to the thread.
pub(super) struct Job {
    pub(super) produce: Produce,
    /// Indexes of messages without the right, in order.
    pub(super) denied: Vec<u32>,
    pub(super) deadline: Option<Instant>,
    pub(super) held: Box<dyn Any + Send>,
    pub(super) reply: Reply,
}

/// A request that has been looked at.
struct Looked {
    answer: Scheduled,
    durability: Durability,
    /// Its messages to be scheduled: index and number.
    new: Vec<(u32, u64)>,
    producer: u128,
    reply: Reply,
}

pub(super) fn start(
    scheduler: Scheduler,
    options: ScheduleOptions,
    reserved: &'static str,
    jobs: Receiver<Job>,
    counters: Arc<Counters>,
) -> std::io::Result<()> {
    let mut writer = Writer {
        repeats: Repeats::new(options.repeats_max),
        scheduler,
        options,
        reserved,
        counters,
    };
    std::thread::Builder::new()
        .name("qmq-schedule".into())
        .spawn(move || {
            let mut waiting = None;
            while let Some(first) = waiting.take().or_else(|| jobs.recv().ok()) {
                waiting = writer.round(first, &jobs);
            }
        })?;
    Ok(())
}

struct Writer {
    scheduler: Scheduler,
    options: ScheduleOptions,
    reserved: &'static str,
    repeats: Repeats,
    counters: Arc<Counters>,
}

/// What is to be scheduled, and when.
type Due = (u64, Message);
type Outcome = Result<DelayId, (Code, String)>;

impl Writer {
    /// Schedules `first` and what has come behind it. Returns a request that must wait for the next round: it repeats numbers of this one, and what
    /// became of them is not known yet.
    fn round(&mut self, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
        let mut round: Vec<Looked> = Vec::new();
        let mut dues: Vec<Due> = Vec::new();
        let mut claimed: HashSet<(u128, u64)> = HashSet::new();
        let (mut bytes, mut next, mut left_over) = (0, Some(first), None);
        while let Some(job) = next.take() {
            let (producer, first) = (job.produce.header.producer, job.produce.header.first);
            let mut numbers = first..first + job.produce.messages.len() as u64;
            if producer != 0 && numbers.any(|number| claimed.contains(&(producer, number))) {
                left_over = Some(job);
                break;
            }
            bytes += job_bytes(&job.produce);
            let looked = self.look(job, &mut dues);
            if producer != 0 {
                claimed.extend(looked.new.iter().map(|(_, number)| (producer, *number)));
            }
            round.push(looked);
            if round.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX {
                next = jobs.try_recv().ok();
            }
        }
        let outcomes = schedule(&self.scheduler, &dues);
        self.count(&dues, &outcomes);
        let mut outcomes = outcomes.into_iter();
        for looked in round {
            self.answer(looked, &mut outcomes);
        }
        left_over
    }

    /// Checks the messages of a request; those to be scheduled go to `dues`.
    fn look(&self, job: Job, dues: &mut Vec<Due>) -> Looked {
        let header = job.produce.header;
        let durability = match header.durability {
            qmq_wire::Durability::Default => self.options.durability,
            qmq_wire::Durability::Buffered => Durability::Buffered,
            qmq_wire::Durability::Synced => Durability::Synced,
            qmq_wire::Durability::Replicated => Durability::Replicated,
        };
        let is_late = job.deadline.is_some_and(|end| Instant::now() > end);
        let unsafe_as_asked = self.why_not_as_safe(durability);
        let now_ms = self.scheduler.store().options().clock.now_ms();
        let mut answer = Scheduled {
            number: header.number,
            ..Scheduled::default()
        };
        let mut denied = job.denied.iter().copied().peekable();
        let mut new = Vec::new();
        for index in 0..job.produce.messages.len() as u32 {
            let number = header.first + u64::from(index);
            let is_denied = denied.next_if_eq(&index).is_some();
            if let Some(id) = self.repeats.id(header.producer, number) {
                let id = id.to_bytes();
                answer.accepted.push(AcceptedDelay { index, id });
                self.counters.repeated.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let refusal = if is_late {
                Some((Code::TooLate, LATE.to_owned()))
            } else if is_denied {
                Some((Code::Denied, denial(&job.produce, index)))
            } else {
                unsafe_as_asked.clone()
            };
            let checked = match refusal {
                Some(refusal) => Err(refusal),
                None => self.check(&job.produce, index, now_ms),
            };
            match checked {
                Ok(due) => {
                    dues.push(due);
                    new.push((index, number));
                }
                Err((code, text)) => answer.refused.push(Refused { index, code, text }),
            }
        }
        // Packets and budget go back now, not when the disk is done.
        drop((job.produce, job.held));
        Looked {
            answer,
            durability,
            new,
            producer: header.producer,
            reply: job.reply,
        }
    }

    /// Why messages cannot be as safe as that at present.
    fn why_not_as_safe(&self, durability: Durability) -> Option<(Code, String)> {
        let error = (durability == Durability::Replicated)
            .then(|| self.scheduler.store().check_replicated().err())
            .flatten()?;
        Some((refusals::code(&error), error.to_string()))
    }

    /// The message to be kept, and when it is due; or what is wrong with it.
    fn check(
        &self,
        produce: &Produce,
        index: u32,
        now_ms: u64,
    ) -> Result<(u64, Message), (Code, String)> {
        let bad = |text: String| (Code::BadMessage, text);
        let incoming = &produce.messages[index as usize];
        let subject = qmq_message::subject_from_bytes(&incoming.subject)
            .map_err(|error| bad(error.to_string()))?;
        if subject == self.reserved {
            let text = format!("{subject} is the delay server's own; use another subject");
            return Err(bad(text));
        }
        let attributes =
            Attributes::check(&incoming.attributes).map_err(|error| bad(error.to_string()))?;
        let (len, max) = (u64::from(incoming.body_len), self.options.body_bytes_max);
        if len > max {
            let text = format!(
                "the body has {len} bytes, and at most {max} are allowed (message.max.bytes); send less, or raise the limit"
            );
            return Err((Code::TooLarge, text));
        }
        let Some(due_ms) = attributes.due_time_ms() else {
            let text = "the message has no due time, and a delay server takes no other; give it one, or send it to a real-time broker";
            return Err((Code::NotDelayed, text.to_owned()));
        };
        let delay_max = self.options.delay_max;
        let latest = now_ms.saturating_add(delay_max.as_millis() as u64);
        if due_ms > latest {
            return Err((
                Code::DueTooFar,
                too_far(due_ms, now_ms, delay_max.as_secs()),
            ));
        }
        let message = attributes.to_message(subject, body(produce, index));
        let kept = asked::kept(&message, produce.header.durability);
        if !asked::has_room(&kept) {
            let text = "there is no room left for one property of the delay server's, which says the durability that was asked for; leave out a property";
            return Err(bad(text.to_owned()));
        }
        Ok((due_ms, kept))
    }

    fn count(&self, dues: &[Due], outcomes: &[Outcome]) {
        let (mut accepted, mut bytes, mut past) = (0, 0, 0);
        let now_ms = self.scheduler.store().options().clock.now_ms();
        for ((due_ms, message), outcome) in dues.iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    accepted += 1;
                    past += u64::from(*due_ms <= now_ms);
                    bytes += (Attributes::encoded_len(message) + message.body().len()) as u64;
                    self.counters.disk_full.store(false, Ordering::Relaxed);
                }
                Err((Code::DiskFull, _)) => self.counters.disk_full.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
        }
        let counters = &self.counters;
        counters.accepted.fetch_add(accepted, Ordering::Relaxed);
        counters.accepted_bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.past.fetch_add(past, Ordering::Relaxed);
    }

    /// Answers once the messages are as safe as was asked. With too much that is not synced, buffered ones wait as well: this is what slows
    /// producers down to what the disk takes.
    fn answer(&mut self, looked: Looked, outcomes: &mut impl Iterator<Item = Outcome>) {
        let Looked {
            mut answer,
            durability,
            new,
            producer,
            reply,
        } = looked;
        for ((index, number), outcome) in new.into_iter().zip(outcomes) {
            match outcome {
                Ok(id) => {
                    self.repeats.note(producer, number, id);
                    let id = id.to_bytes();
                    answer.accepted.push(AcceptedDelay { index, id });
                }
                Err((code, text)) => answer.refused.push(Refused { index, code, text }),
            }
        }
        answer.accepted.sort_unstable_by_key(|one| one.index);
        answer.refused.sort_unstable_by_key(|one| one.index);
        let store = self.scheduler.store();
        let marks = store.watermarks();
        let flush_bytes = store.options().flush_bytes;
        let wait = match durability {
            _ if answer.accepted.is_empty() => None,
            Durability::Buffered => {
                let unsynced = marks.written.saturating_sub(marks.synced);
                (unsynced > flush_bytes)
                    .then(|| (marks.written - flush_bytes / 2, Durability::Synced))
            }
            durability => Some((marks.written, durability)),
        };
        match wait {
            None => reply(answer),
            Some((end, durability)) => store.when(end, durability, move |outcome| {
                if let Err(error) = outcome {
                    // They are in the log, but not as safe as was asked.
                    let text = error.to_string();
                    for one in std::mem::take(&mut answer.accepted) {
                        answer.refused.push(Refused {
                            index: one.index,
                            code: Code::StoreFailed,
                            text: text.clone(),
                        });
                    }
                    answer.refused.sort_unstable_by_key(|one| one.index);
                }
                reply(answer);
            }),
        }
    }
}

/// Schedules all, buffered: together if that is possible, else in parts, so that one that is refused takes no other with it.
fn schedule(scheduler: &Scheduler, dues: &[Due]) -> Vec<Outcome> {
    if dues.is_empty() {
        return Vec::new();
    }
    match scheduler.schedule_batch(dues, Durability::Buffered) {
        Ok(ids) => ids.into_iter().map(Ok).collect(),
        Err(error) if dues.len() == 1 || is_for_all(&error) => {
            vec![Err((code(&error), error.to_string())); dues.len()]
        }
        Err(_) => {
            let (first, second) = dues.split_at(dues.len() / 2);
            let mut outcomes = schedule(scheduler, first);
            outcomes.extend(schedule(scheduler, second));
            outcomes
        }
    }
}

/// Whether no part of a batch would do better.
fn is_for_all(error: &Error) -> bool {
    use qmq_store::Error as Store;
    matches!(
        error,
        Error::Store(Store::Poisoned { .. } | Store::Closed | Store::DiskFull { .. })
            | Error::ForeignRecord { .. }
    )
}

/// The code for an error of the scheduler.
pub(crate) fn code(error: &Error) -> Code {
    match error {
        Error::TooFar { .. } => Code::DueTooFar,
        Error::TooManySubjects { .. }
        | Error::TooManyRescheduled { .. }
        | Error::BucketFull { .. } => Code::TooMany,
        Error::Message(_) => Code::BadMessage,
        Error::Store(error) => refusals::code(error),
        _ => Code::Internal,
    }
}

const LATE: &str = "the deadline passed before the request was looked at; nothing was scheduled: send fewer at a time, or wait longer";

pub(crate) fn too_far(due_ms: u64, now_ms: u64, max_seconds: u64) -> String {
    format!(
        "due at {}, and at {} at most {} days of delay are allowed (delay.due.max.days); choose an earlier time, or raise the limit",
        date(due_ms),
        date(now_ms),
        max_seconds / 86_400
    )
}

/// As RFC 3339 in UTC; what no calendar has, in ms.
fn date(ms: u64) -> String {
    let time = i64::try_from(ms).ok();
    let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{ms} ms since 1970"), |time| time.to_string())
}

fn denial(produce: &Produce, index: u32) -> String {
    let subject = produce.messages.get(index as usize);
    let subject = String::from_utf8_lossy(subject.map_or(&[], |message| &message.subject[..]));
    format!(
        "no right to produce to {subject:?}; it takes `produce:{subject}` among the rights of the token or certificate"
    )
}

/// The body in one piece, copied: what it came in is the door's.
fn body(produce: &Produce, index: u32) -> Bytes {
    let pieces = produce.body(&produce.messages[index as usize]);
    let mut body = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        body.extend_from_slice(piece);
    }
    body.freeze()
}

fn job_bytes(produce: &Produce) -> u64 {
    let bytes = |message: &qmq_wire::Incoming| {
        message.attributes.len() as u64 + u64::from(message.body_len)
    };
    produce.messages.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates() {
        let told = too_far(1_893_456_000_000, 0, 86_400);
        let dates = "due at 2030-01-01T00:00:00Z, and at 1970-01-01T00:00:00Z at most 1 days";
        assert!(told.starts_with(dates), "{told}");
        let told = too_far(u64::MAX, 0, 86_400);
        assert!(
            told.contains("18446744073709551615 ms since 1970"),
            "{told}"
        );
    }
}
