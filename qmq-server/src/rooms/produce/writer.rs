//! The thread that appends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use qmq_store::{Durability, Error, Store, Submission};
use qmq_wire::{Accepted, Code, Produce, Produced, Refused};

use super::dedup::{Dedup, Known, Run};
use super::note::{self, Note};
use super::{Counters, Held, ProduceOptions, Reply};
use crate::rooms::administer::{Activity, SubjectActivity};
use crate::rooms::refusals::code;

/// Bytes of messages that are appended in one go.
const TOGETHER_BYTES_MAX: usize = 4 << 20;
/// Requests that are appended in one go.
const TOGETHER_MAX: usize = 1024;

/// A request on its way to the thread.
pub(super) struct Job {
    pub(super) produce: Produce,
    /// Indexes of messages without the right, in order.
    pub(super) denied: Vec<u32>,
    pub(super) deadline: Option<Instant>,
    pub(super) held: Held,
    pub(super) reply: Reply,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("produce", &self.produce.header)
            .finish_non_exhaustive()
    }
}

/// A request that has been looked at.
struct Looked {
    job: Job,
    answer: Produced,
    /// Indexes of messages to be appended, in order.
    new: Vec<u32>,
    /// End of what a repeat found in the log already.
    end_offset: u64,
}

pub(super) fn start(
    store: Store,
    options: ProduceOptions,
    jobs: Receiver<Job>,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    passed_over: PassedOver,
) -> std::io::Result<()> {
    let dedup = Dedup::new(options.dedup_window, options.dedup_producers_max);
    let mut writer = Writer {
        store,
        options,
        dedup,
        counters,
        activity,
        passed_over,
    };
    std::thread::Builder::new()
        .name("qmq-append".into())
        .spawn(move || {
            writer.recall();
            let mut waiting = None;
            while let Some(first) = waiting.take().or_else(|| jobs.recv().ok()) {
                waiting = writer.round(first, &jobs);
            }
        })?;
    Ok(())
}

struct Writer {
    store: Store,
    options: ProduceOptions,
    dedup: Dedup,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    passed_over: PassedOver,
}

/// Ordered producers whose message of that number was refused before it came to the thread, which may not know them.
pub(super) type PassedOver = Arc<Mutex<HashMap<u128, u64>>>;

impl Writer {
    /// Remembers what the log tells of producers, before anything is appended.
    fn recall(&mut self) {
        let (bytes, began) = (self.options.dedup_log_bytes, Instant::now());
        if self.options.dedup_window == 0 || bytes == 0 {
            return;
        }
        match note::recall(&self.store, bytes, &mut self.dedup) {
            Ok(requests) => {
                tracing::info!(requests, took = ?began.elapsed(), "remembers what producers had sent before");
            }
            Err(error) => {
                tracing::warn!(%error, "the end of the log cannot be read: what producers send again may be stored twice");
            }
        }
    }

    /// What the log is to remember of a round.
    fn note_of(&self, round: &[Looked]) -> Note {
        let mut note = Note::default();
        for looked in round.iter().filter(|_| self.options.dedup_window > 0) {
            let header = &looked.job.produce.header;
            note.add(header.producer, header.first, &looked.new);
        }
        note
    }

    /// Appends `first` and what has come behind it. Returns a request that must wait for the next round: it is about a producer whose messages
    /// are in this one, and what became of them is not known yet.
    fn round(&mut self, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
        let mut round: Vec<Looked> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let mut left_over = None;
        while let Some(job) = next.take() {
            let producer = job.produce.header.producer;
            let overlaps = producer != 0
                && round
                    .iter()
                    .any(|looked| looked.job.produce.header.producer == producer)
                && !self.continues(&round, &job);
            if overlaps {
                left_over = Some(job);
                break;
            }
            bytes += job_bytes(&job);
            let looked = self.look(job);
            round.push(looked);
            if round.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX {
                next = jobs.try_recv().ok();
            }
        }
        self.append(round);
        left_over
    }

    /// Whether a request only has numbers above all that its producer has in this round, so that neither is a repeat of the other.
    fn continues(&self, round: &[Looked], job: &Job) -> bool {
        let header = &job.produce.header;
        !header.ordered
            && round
                .iter()
                .map(|looked| &looked.job.produce)
                .filter(|before| before.header.producer == header.producer)
                .all(|before| before.header.first + before.messages.len() as u64 <= header.first)
    }

    fn look(&mut self, job: Job) -> Looked {
        let header = job.produce.header;
        let mut looked = Looked {
            answer: Produced {
                number: header.number,
                ..Produced::default()
            },
            new: Vec::with_capacity(job.produce.messages.len()),
            end_offset: 0,
            job,
        };
        let late = looked
            .job
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline);
        let mut denied = std::mem::take(&mut looked.job.denied)
            .into_iter()
            .peekable();
        if header.ordered
            && let Some(number) = self.passed_over.lock().remove(&header.producer)
        {
            self.dedup.refused_in_order(header.producer, number);
        }
        let mut next = header
            .ordered
            .then(|| self.dedup.next(header.producer))
            .flatten();
        let unsafe_as_asked = self.why_not_as_safe(self.durability(&looked));
        for index in 0..looked.job.produce.messages.len() as u32 {
            let number = header.first.wrapping_add(u64::from(index));
            let is_denied = denied.next_if_eq(&index).is_some();
            let known = match header.producer {
                0 => Known::New,
                _ if self.options.dedup_window == 0 => Known::New,
                producer => self.dedup.look(producer, number, next),
            };
            let refusal = match known {
                Known::Accepted {
                    sequence,
                    end_offset,
                } => {
                    push_accepted(&mut looked.answer.accepted, index, sequence);
                    looked.end_offset = looked.end_offset.max(end_offset);
                    self.counters.repeated.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Known::Forgotten => Some((Code::Forgotten, FORGOTTEN.to_owned())),
                Known::Expected(expected) => Some((
                    Code::OutOfOrder,
                    format!(
                        "message {number} of an ordered producer came before {expected}; send {expected} first"
                    ),
                )),
                Known::New if late => Some((Code::TooLate, LATE.to_owned())),
                Known::New if is_denied => Some((Code::Denied, denial(&looked.job.produce, index))),
                Known::New => match &unsafe_as_asked {
                    Some(refusal) => Some(refusal.clone()),
                    None => self.check(&looked.job.produce, index),
                },
            };
            match refusal {
                Some((code, text)) => {
                    looked.answer.refused.push(Refused { index, code, text });
                    if header.ordered {
                        // What follows must not overtake it, in this request or a later one.
                        self.dedup.refused_in_order(header.producer, number);
                        next = next.or(Some(number));
                    }
                }
                None => {
                    looked.new.push(index);
                    next = header.ordered.then_some(number + 1);
                }
            }
        }
        looked
    }

    /// Why messages cannot be as safe as that at present: better not appended than in the log and refused.
    fn why_not_as_safe(&self, durability: Durability) -> Option<(Code, String)> {
        let error = (durability == Durability::Replicated)
            .then(|| self.store.check_replicated().err())
            .flatten()?;
        Some((code(&error), error.to_string()))
    }

    /// What would be wrong with a message.
    fn check(&self, produce: &Produce, index: u32) -> Option<(Code, String)> {
        let message = produce.messages.get(index as usize)?;
        let subject = match qmq_message::subject_from_bytes(&message.subject) {
            Ok(subject) => subject,
            Err(error) => return Some((Code::BadMessage, error.to_string())),
        };
        let submission = Submission {
            subject,
            attributes: &message.attributes,
            body: produce.body(message),
        };
        if let Err(error) = self.store.check_submission(&submission) {
            return Some((code(&error), error.to_string()));
        }
        if !self.options.auto_create.load(Ordering::Relaxed) && !self.store.has_subject(subject) {
            let text =
                format!("no subject {subject:?}, and subject.auto.create is off; create it first");
            return Some((Code::UnknownSubject, text));
        }
        let due = qmq_message::attributes::Attributes::decode(&message.attributes)
            .ok()
            .and_then(|attributes| attributes.due_time_ms());
        if due.is_some_and(|due| due > self.store.options().clock.now_ms()) {
            let text = "a real-time broker takes no message with a due time in the future; send it to a delay server";
            return Some((Code::Delayed, text.to_owned()));
        }
        None
    }

    fn append(&mut self, mut round: Vec<Looked>) {
        let durability = round
            .iter()
            .map(|looked| self.durability(looked))
            .max()
            .unwrap_or(Durability::Buffered);
        let note = self.note_of(&round);
        let outcome = {
            let submissions: Vec<Submission<'_>> = round.iter().flat_map(submissions).collect();
            match submissions.is_empty() {
                true => Ok(None),
                false => self
                    .store
                    .submit_noted(&submissions, note.bytes(), durability)
                    .map(Some),
            }
        };
        match &outcome {
            Ok(None) => {}
            Ok(Some(_)) => self.counters.disk_full.store(false, Ordering::Relaxed),
            Err(Error::DiskFull { .. }) => self.counters.disk_full.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        match outcome {
            Ok(appended) => {
                let mut sequences = appended
                    .as_ref()
                    .map_or(&[][..], |appended| &appended.sequences[..])
                    .iter()
                    .copied();
                let end_offset = appended.as_ref().map(|appended| appended.end_offset);
                for looked in &mut round {
                    self.note(looked, &mut sequences, end_offset);
                }
                for looked in round {
                    self.answer(looked);
                }
            }
            // One of them may be the reason: then the others must not suffer.
            Err(error) if round.len() > 1 && !matches!(error, Error::Poisoned { .. }) => {
                for looked in round {
                    self.append(vec![looked]);
                }
            }
            Err(error) => {
                for looked in round {
                    match error {
                        Error::BatchTooLarge { .. } if looked.new.len() > 1 => {
                            self.append_in_parts(looked);
                        }
                        _ => self.refuse(looked, &error),
                    }
                }
            }
        }
    }

    /// Appends a request that is larger than a batch of the log may be: nobody was promised that it is one.
    fn append_in_parts(&mut self, mut looked: Looked) {
        let durability = self.durability(&looked);
        let ordered = looked.job.produce.header.ordered;
        let mut parts = vec![std::mem::take(&mut looked.new)];
        while let Some(part) = parts.pop() {
            looked.new = part;
            let note = self.note_of(std::slice::from_ref(&looked));
            let appended = {
                let submissions: Vec<Submission<'_>> = submissions(&looked).collect();
                self.store
                    .submit_noted(&submissions, note.bytes(), durability)
            };
            match appended {
                Ok(appended) => {
                    let mut sequences = appended.sequences.iter().copied();
                    self.note(&mut looked, &mut sequences, Some(appended.end_offset));
                }
                Err(Error::BatchTooLarge { .. }) if looked.new.len() > 1 => {
                    let behind = looked.new.split_off(looked.new.len() / 2);
                    parts.push(behind);
                    parts.push(std::mem::take(&mut looked.new));
                }
                Err(error) => {
                    if ordered {
                        // What follows must not overtake it.
                        looked.new.extend(parts.drain(..).rev().flatten());
                    }
                    self.give_up(&mut looked, &error);
                }
            }
        }
        self.answer(looked);
    }

    /// The messages of a request are in the log.
    fn note(
        &mut self,
        looked: &mut Looked,
        sequences: &mut impl Iterator<Item = u64>,
        end_offset: Option<u64>,
    ) {
        let header = looked.job.produce.header;
        let mut bytes = 0;
        let mut runs: Vec<Run> = Vec::new();
        let mut last: Option<(&[u8], Arc<SubjectActivity>)> = None;
        for (&index, sequence) in looked.new.iter().zip(sequences) {
            let message = &looked.job.produce.messages[index as usize];
            let len = message.attributes.len() as u64 + u64::from(message.body_len);
            bytes += len;
            let known = last
                .take()
                .filter(|(subject, _)| *subject == message.subject);
            let (_, activity) = last.insert(known.unwrap_or_else(|| {
                let subject = std::str::from_utf8(&message.subject).unwrap_or_default();
                (&message.subject, self.activity.of(subject))
            }));
            activity.produced.fetch_add(1, Ordering::Relaxed);
            activity.produced_bytes.fetch_add(len, Ordering::Relaxed);
            push_accepted(&mut looked.answer.accepted, index, sequence);
            let number = header.first.wrapping_add(u64::from(index));
            let last = runs.last_mut();
            if !last.is_some_and(|run| run.takes(number, sequence)) {
                runs.push(Run {
                    first: number,
                    len: 1,
                    sequence,
                    end_offset: end_offset.unwrap_or(0),
                });
            }
        }
        if header.producer != 0 && self.options.dedup_window > 0 {
            for run in runs {
                self.dedup.accepted(header.producer, run);
            }
        }
        if let (Some(end), false) = (end_offset, looked.new.is_empty()) {
            looked.end_offset = looked.end_offset.max(end);
        }
        let counters = &self.counters;
        counters
            .accepted
            .fetch_add(looked.new.len() as u64, Ordering::Relaxed);
        counters.accepted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn durability(&self, looked: &Looked) -> Durability {
        match looked.job.produce.header.durability {
            qmq_wire::Durability::Default => self.options.durability,
            qmq_wire::Durability::Buffered => Durability::Buffered,
            qmq_wire::Durability::Synced => Durability::Synced,
            qmq_wire::Durability::Replicated => Durability::Replicated,
        }
    }

    /// Answers once the messages are as safe as was asked. With too much that is not synced, buffered ones wait as well: this is what slows
    /// producers down to what the disk takes.
    fn answer(&self, looked: Looked) {
        let durability = self.durability(&looked);
        let Looked {
            job,
            mut answer,
            end_offset,
            ..
        } = looked;
        let Job {
            produce,
            held,
            reply,
            ..
        } = job;
        // Packets and budget go back now, not when the disk is done.
        drop((produce, held));
        answer.refused.sort_unstable_by_key(|refused| refused.index);
        let wait = match durability {
            _ if answer.accepted.is_empty() => None,
            Durability::Buffered => {
                let unsynced_max = self.store.options().flush_bytes;
                let unsynced = end_offset.saturating_sub(self.store.watermarks().synced);
                (unsynced > unsynced_max)
                    .then(|| (end_offset - unsynced_max / 2, Durability::Synced))
            }
            durability => Some((end_offset, durability)),
        };
        match wait {
            None => reply(answer),
            Some((end, durability)) => self.store.when(end, durability, move |outcome| {
                if let Err(error) = outcome {
                    turn_into_refusals(&mut answer, &error);
                }
                reply(answer);
            }),
        }
    }

    fn refuse(&mut self, mut looked: Looked, error: &Error) {
        self.give_up(&mut looked, error);
        let Looked {
            job, mut answer, ..
        } = looked;
        answer.refused.sort_unstable_by_key(|refused| refused.index);
        (job.reply)(answer);
    }

    /// The messages that were to be appended are refused.
    fn give_up(&mut self, looked: &mut Looked, error: &Error) {
        let header = looked.job.produce.header;
        if let (true, Some(index)) = (header.ordered, looked.new.first()) {
            let number = header.first + u64::from(*index);
            self.dedup.refused_in_order(header.producer, number);
        }
        let new = std::mem::take(&mut looked.new);
        let refused = super::refused(new, code(error), &error.to_string());
        looked.answer.refused.extend(refused);
    }
}

const LATE: &str = "the deadline passed before the request was looked at; nothing was appended: send fewer at a time, or wait longer";
const FORGOTTEN: &str =
    "the number is older than producer.dedup.window; whether it was appended is not known any more";

fn denial(produce: &Produce, index: u32) -> String {
    let subject = produce.messages.get(index as usize);
    let subject = String::from_utf8_lossy(subject.map_or(&[], |message| &message.subject[..]));
    format!(
        "no right to produce to {subject:?}; it takes `produce:{subject}` among the rights of the token or certificate"
    )
}

fn job_bytes(job: &Job) -> usize {
    let bytes = |message: &qmq_wire::Incoming| message.attributes.len() + message.body_len as usize;
    job.produce.messages.iter().map(bytes).sum()
}

/// What is to be appended of a request. Names have been checked.
fn submissions(looked: &Looked) -> impl Iterator<Item = Submission<'_>> {
    let produce = &looked.job.produce;
    looked.new.iter().filter_map(|index| {
        let message = produce.messages.get(*index as usize)?;
        Some(Submission {
            subject: std::str::from_utf8(&message.subject).ok()?,
            attributes: &message.attributes,
            body: produce.body(message),
        })
    })
}

fn push_accepted(accepted: &mut Vec<Accepted>, index: u32, sequence: u64) {
    match accepted.last_mut() {
        Some(run)
            if run.index + run.len == index && run.sequence + u64::from(run.len) == sequence =>
        {
            run.len += 1;
        }
        _ => accepted.push(Accepted {
            index,
            len: 1,
            sequence,
        }),
    }
}

/// They are in the log, but not as safe as was asked.
fn turn_into_refusals(answer: &mut Produced, error: &Error) {
    let code = match code(error) {
        // Not "elsewhere", not "never": it may be there.
        Code::Draining
        | Code::NotMaster
        | Code::NotReplicated
        | Code::TooFewInSync
        | Code::Internal => Code::StoreFailed,
        other => other,
    };
    let accepted = std::mem::take(&mut answer.accepted);
    let indexes = accepted
        .iter()
        .flat_map(|run| run.index..run.index + run.len);
    answer
        .refused
        .extend(super::refused(indexes, code, &error.to_string()));
    answer.refused.sort_unstable_by_key(|refused| refused.index);
}
