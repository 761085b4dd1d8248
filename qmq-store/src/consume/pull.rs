//! Handing messages out.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use qmq_message::{TagFilter, check_consumer, check_group, check_subject};

use super::wakeup::{self, ThreadWaker};
use super::{Action, Consumption, Group, GroupKind};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::{DamagedIndex, floor, walk};
use crate::index::tags::FingerprintFilter;
use crate::log::record::{Attributes, Kind};
use crate::log::writer::{How, Part, Purpose};
use crate::records::Records;
use crate::store::{Inner, Store};

/// Where a group begins that has never pulled before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message kept.
    #[default]
    Earliest,
    /// Behind the newest message, as groups do in QMQ.
    Latest,
}

/// Messages that a pull hands out at most, if the request does not say.
const MAX_DEFAULT: usize = 100;
/// Bytes of bodies that a pull hands out at most, if the request does not say.
const MAX_BYTES_DEFAULT: u64 = 16 << 20;
/// Messages that a pull hands out at most, whatever the request says (QMQ's limit).
const MAX_LIMIT: usize = 10_000;
/// A pull that found nothing records how far it looked only if it looked this far: the next one would look again.
const LOOKED_WORTH_RECORDING: u64 = 1_000;
/// From so many consumers of a group on, those that hold nothing and are silent are forgotten.
const MEMBERS_WORTH_PRUNING: usize = 256;

/// Who pulls what, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    subject: String,
    group: String,
    consumer: String,
    max: usize,
    max_bytes: u64,
    filter: TagFilter,
    broadcast: bool,
    returning: bool,
    start: Start,
}

impl PullRequest {
    /// At most 100 messages and 16 MiB for `consumer` of `group`.
    pub fn new(
        subject: impl Into<String>,
        group: impl Into<String>,
        consumer: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            group: group.into(),
            consumer: consumer.into(),
            max: MAX_DEFAULT,
            max_bytes: MAX_BYTES_DEFAULT,
            filter: TagFilter::All,
            broadcast: false,
            returning: false,
            start: Start::Earliest,
        }
    }

    /// At most so many messages: 1 to 10,000.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max.clamp(1, MAX_LIMIT);
        self
    }

    /// At most so many bytes of bodies; the first message is handed out whatever its size.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Only messages that pass `filter`. It belongs to the group: all its members pull with the same one.
    #[must_use]
    pub fn filter(mut self, filter: TagFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Whether every consumer of the group gets every message.
    #[must_use]
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = broadcast;
        self
    }

    /// Whether the consumer has started anew and wants what it still holds once more, under the same pull sequences. For its first
    /// pull only; after an open of the store it is understood.
    #[must_use]
    pub fn returning(mut self, returning: bool) -> Self {
        self.returning = returning;
        self
    }

    /// Where the group begins if it has never pulled before.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    fn check(&self) -> Result<(), Error> {
        check_subject(&self.subject)?;
        check_group(&self.group)?;
        check_consumer(&self.consumer)?;
        Ok(self.filter.check()?)
    }

    fn kind(&self) -> GroupKind {
        if self.broadcast {
            GroupKind::Broadcast
        } else {
            GroupKind::Shared
        }
    }

    fn filter_if_any(&self) -> Option<&TagFilter> {
        Some(&self.filter).filter(|filter| **filter != TagFilter::All)
    }

    /// In a group's own part only broadcast groups name the consumer.
    fn part_of(&self) -> &str {
        if self.broadcast { &self.consumer } else { "" }
    }
}

/// A consumer of a group on a subject, as of an incarnation of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The subject.
    pub subject: String,
    /// The group.
    pub group: String,
    /// The consumer.
    pub consumer: String,
    /// Incarnation of the store that handed the messages out; settling under another one is refused.
    pub incarnation: u32,
}

/// Messages handed out to a consumer. Dereferences to [`Records`].
#[derive(Debug)]
pub struct Batch {
    member: Member,
    records: Records,
}

impl Batch {
    /// To whom they were handed out.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }
}

impl Deref for Batch {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = crate::Delivered<'a>;
    type IntoIter = Box<dyn Iterator<Item = crate::Delivered<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.records.iter())
    }
}

/// Answer to [`Store::poll_pull`].
#[derive(Debug)]
pub enum PollPull {
    /// Messages.
    Ready(Batch),
    /// None yet: the waker is entered. It is not woken for messages that become due again by time; the earliest such time is here.
    Pending {
        /// When the next refused message becomes due, in ms since the Unix epoch.
        next_due_ms: Option<u64>,
    },
}

impl Store {
    /// Hands out the next messages for a consumer: first what it got before and has neither acked nor refused, if it comes back after the store was
    /// opened or says so; then what others refused or left behind; then new ones. Empty if there is nothing.
    ///
    /// # Errors
    /// [`Error::TooManyUnacked`], [`Error::FilterMismatch`], [`Error::KindMismatch`], a bad name, [`Error::DiskFull`] when not even the
    /// reserve is left, [`Error::Poisoned`].
    pub fn pull(&self, request: &PullRequest) -> Result<Batch, Error> {
        self.inner.pull(request)
    }

    /// As [`Store::pull`], and waits up to `timeout` for the first message.
    ///
    /// # Errors
    /// As [`Store::pull`].
    pub fn pull_wait(&self, request: &PullRequest, timeout: Duration) -> Result<Batch, Error> {
        let thread = ThreadWaker::current();
        let waker = Waker::from(Arc::clone(&thread));
        let outcome = self.pull_woken(request, Instant::now() + timeout, &thread, &waker);
        if let Some(subject) = self.inner.catalog.get(&request.subject) {
            wakeup::leave(&subject, &waker);
        }
        outcome
    }

    fn pull_woken(
        &self,
        request: &PullRequest,
        deadline: Instant,
        thread: &ThreadWaker,
        waker: &Waker,
    ) -> Result<Batch, Error> {
        loop {
            thread.woken.store(false, Ordering::SeqCst);
            let next_due_ms = match self.poll_pull(request, waker)? {
                PollPull::Ready(batch) => return Ok(batch),
                PollPull::Pending { next_due_ms } => next_due_ms,
            };
            let now_ms = self.inner.options.clock.now_ms();
            let due =
                next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(1)));
            let wake_at = due.map_or(deadline, |due| deadline.min(Instant::now() + due));
            while !thread.woken.load(Ordering::SeqCst) {
                let left = wake_at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left);
            }
            if Instant::now() >= deadline {
                return self.inner.pull(request);
            }
        }
    }

    /// As [`Store::pull`]; if there is nothing, `waker` is woken once when there may be. For async shells and selectors: no thread waits.
    ///
    /// # Errors
    /// As [`Store::pull`].
    pub fn poll_pull(&self, request: &PullRequest, waker: &Waker) -> Result<PollPull, Error> {
        let batch = self.inner.pull(request)?;
        if !batch.is_empty() {
            return Ok(PollPull::Ready(batch));
        }
        let Some(subject) = self.inner.catalog.get(&request.subject) else {
            return Ok(PollPull::Ready(batch));
        };
        wakeup::enter(&subject, waker);
        // What came between the first look and the entry is seen now.
        let batch = self.inner.pull(request)?;
        if !batch.is_empty() {
            return Ok(PollPull::Ready(batch));
        }
        let consumption = subject.consumption.lock();
        let group = consumption
            .find(&request.group, &request.consumer)
            .map(|at| &consumption.groups[at]);
        Ok(PollPull::Pending {
            next_due_ms: group.and_then(Group::next_due),
        })
    }
}

/// How [`Inner::locate`] fared.
pub(crate) enum Located {
    /// Added: the length of its body.
    Found(u64),
    /// Not added: its body is too long.
    TooLong,
    /// It is not there any more.
    Retired,
}

/// What a pull decided to hand out.
struct Taken {
    records: Records,
    redelivered: Vec<u64>,
    runs: Vec<(u64, u32)>,
    /// Beyond the group's cursor if retention came in between.
    cursor_before: u64,
    cursor_after: u64,
    bytes: u64,
}

impl Taken {
    fn new(subject: &Subject, cursor: u64) -> Self {
        Self {
            records: Records::new(subject),
            redelivered: Vec::new(),
            runs: Vec::new(),
            cursor_before: cursor,
            cursor_after: cursor,
            bytes: 0,
        }
    }

    fn extend_run(&mut self, sequence: u64) {
        match self.runs.last_mut() {
            Some((first, len)) if *first + u64::from(*len) == sequence => *len += 1,
            _ => self.runs.push((sequence, 1)),
        }
    }
}

impl Inner {
    fn pull(&self, request: &PullRequest) -> Result<Batch, Error> {
        self.check_open()?;
        request.check()?;
        loop {
            let subject = match self.catalog.get(&request.subject) {
                Some(subject) => subject,
                None => self.create_with_group(request)?,
            };
            let mut consumption = subject.consumption.lock();
            match self.pull_from(request, &subject, &mut consumption) {
                Ok(mut batch) => {
                    drop(consumption);
                    batch.records.verify_bodies();
                    return Ok(batch);
                }
                Err(PullFailure::Index(damaged)) => {
                    drop(consumption);
                    self.heal(&damaged)?;
                }
                Err(PullFailure::Error(error)) => return Err(error),
            }
        }
    }

    /// A consumer may come before the first message: its group creates the subject.
    fn create_with_group(&self, request: &PullRequest) -> Result<Arc<Subject>, Error> {
        self.check_new_subject(&request.subject)?;
        let action = create_action(request, 0);
        let mut body = Vec::new();
        action.encode(&mut body);
        let part = action_part(&request.subject, &body);
        let mut appender = self.log.lock(part.record_len(), Purpose::Action)?;
        if let Some(subject) = self.catalog.get(&request.subject) {
            return Ok(subject);
        }
        appender.put(&part, How::Store)?;
        appender.subject_created();
        let subject = self.catalog.prepare(&request.subject, 0);
        // Locked before anybody can find the subject: all others take this lock first and the append lock second.
        let mut consumption = subject.consumption.lock();
        self.catalog.admit(&subject);
        let end = appender.publish()?;
        consumption.apply(&action, end, &self.names);
        drop(consumption);
        Ok(subject)
    }

    /// Writes an action and makes its change.
    pub(crate) fn act(
        &self,
        subject: &Subject,
        consumption: &mut Consumption,
        action: &Action<'_>,
    ) -> Result<u64, Error> {
        let mut body = Vec::with_capacity(128);
        action.encode(&mut body);
        let part = action_part(&subject.name, &body);
        let mut appender = self.log.lock(part.record_len(), Purpose::Action)?;
        appender.put(&part, How::Store)?;
        let end = appender.publish()?;
        consumption.apply(action, end, &self.names);
        Ok(end)
    }

    /// Finds the group of a request, or creates it.
    fn find_group(
        &self,
        request: &PullRequest,
        subject: &Subject,
        consumption: &mut Consumption,
    ) -> Result<usize, PullFailure> {
        if let Some(kind) = consumption.kind_of(&request.group)
            && kind != request.kind()
        {
            return Err(Error::KindMismatch {
                subject: request.subject.clone(),
                group: request.group.clone(),
                broadcast: kind == GroupKind::Broadcast,
            }
            .into());
        }
        if consumption
            .find(&request.group, &request.consumer)
            .is_none()
        {
            if consumption.groups.len() >= self.options.groups_max as usize {
                return Err(Error::TooManyGroups {
                    subject: request.subject.clone(),
                    max: self.options.groups_max,
                }
                .into());
            }
            let cursor = match request.start {
                Start::Earliest => floor(subject, &self.segments())?,
                Start::Latest => subject.index.lock().next,
            };
            self.act(subject, consumption, &create_action(request, cursor))?;
        }
        let Some(at) = consumption.find(&request.group, &request.consumer) else {
            return Err(Error::UnknownGroup {
                subject: request.subject.clone(),
                group: request.group.clone(),
            }
            .into());
        };
        if consumption.groups[at].filter() != request.filter_if_any() {
            return Err(Error::FilterMismatch {
                subject: request.subject.clone(),
                group: request.group.clone(),
            }
            .into());
        }
        Ok(at)
    }

    fn pull_from(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        consumption: &mut Consumption,
    ) -> Result<Batch, PullFailure> {
        let at = self.find_group(request, subject, consumption)?;
        let now = self.options.clock.now_ms();
        let floor = floor(subject, &self.segments())?;
        let group = &mut consumption.groups[at];
        if group.lowest_unsettled() < floor {
            group.raise_floor(floor);
        }
        if request.returning {
            group.came_back(&request.consumer);
        }
        let member = Member {
            subject: request.subject.clone(),
            group: request.group.clone(),
            consumer: request.consumer.clone(),
            incarnation: self.log.incarnation(),
        };
        if let Some(records) = self.give_again(request, subject, group)? {
            group.touch(&request.consumer, now);
            return Ok(Batch { member, records });
        }
        self.prune_members(request, subject, consumption, at, now)?;
        let group = &consumption.groups[at];
        let room = group.room(self.options.unacked_max);
        if room == 0 {
            return Err(Error::TooManyUnacked {
                subject: request.subject.clone(),
                group: request.group.clone(),
                unacked: group.unacked(),
                max: self.options.unacked_max,
            }
            .into());
        }
        let max = request.max.min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut taken = Taken::new(subject, group.cursor());
        for sequence in group.due(now, max) {
            let attempt = group.attempt(sequence);
            let left = request.max_bytes.saturating_sub(taken.bytes);
            match self.locate(subject, sequence, &mut taken.records, (0, attempt), left)? {
                Located::Found(bytes) => taken.bytes += bytes,
                Located::TooLong => break,
                Located::Retired => continue,
            }
            taken.redelivered.push(sequence);
        }
        // What waits to be handed out again counts for the group as well: refusing makes no room for new messages.
        let waiting = group.waiting() - taken.redelivered.len();
        let room_for_new = usize::try_from(room)
            .unwrap_or(usize::MAX)
            .saturating_sub(waiting);
        let max = max.min(room_for_new);
        let bytes_left = taken.redelivered.is_empty() || taken.bytes < request.max_bytes;
        if taken.records.len() < max && bytes_left {
            self.take_new(request, subject, max, &mut taken)?;
        }
        let cursor_before = taken.cursor_before;
        let looked = taken.cursor_after - cursor_before;
        if !taken.records.is_empty() || looked >= LOOKED_WORTH_RECORDING {
            let pull_first = group.next_pull_sequence(&request.consumer, self.log.incarnation());
            taken.records.number(pull_first);
            let action = Action::Pull {
                group: &request.group,
                consumer: &request.consumer,
                pull_first,
                cursor_before,
                cursor_after: taken.cursor_after,
                redelivered: Cow::Borrowed(&taken.redelivered),
                runs: Cow::Borrowed(&taken.runs),
            };
            self.act(subject, consumption, &action)?;
            self.busy.lock().insert(subject.id);
        }
        consumption.groups[at].touch_pulled(&request.consumer, now);
        Ok(Batch {
            member,
            records: taken.records,
        })
    }

    /// What a consumer that came back holds; `None` if there is nothing that it has not been given again.
    fn give_again(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        group: &mut Group,
    ) -> Result<Option<Records>, DamagedIndex> {
        let mut records = Records::new(subject);
        let mut bytes = 0;
        let mut last = None;
        for (pull_sequence, sequence, attempt) in group.to_resend(&request.consumer, request.max) {
            let left = request.max_bytes.saturating_sub(bytes);
            let number = (pull_sequence, attempt);
            match self.locate(subject, sequence, &mut records, number, left)? {
                Located::Found(body) => bytes += body,
                Located::TooLong => break,
                Located::Retired => {}
            }
            last = Some(pull_sequence);
        }
        if let Some(last) = last {
            group.resent(&request.consumer, last);
        }
        Ok(Some(records).filter(|records| !records.is_empty()))
    }

    /// Consumers come and go under new names: before a group gets too many, those that hold nothing and have been silent go.
    fn prune_members(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        consumption: &mut Consumption,
        at: usize,
        now: u64,
    ) -> Result<(), PullFailure> {
        let group = &consumption.groups[at];
        if group.members().count() < MEMBERS_WORTH_PRUNING {
            return Ok(());
        }
        let lease = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        for idle in group.idle_members(now, lease) {
            let action = Action::Gone {
                group: &request.group,
                consumer: &idle,
            };
            self.act(subject, consumption, &action)?;
        }
        Ok(())
    }

    /// Adds one message by its sequence, under a pull sequence and with its attempts, if its body has at most `left` bytes or it is the
    /// first.
    pub(crate) fn locate(
        &self,
        subject: &Arc<Subject>,
        sequence: u64,
        records: &mut Records,
        (pull_sequence, attempt): (u64, u32),
        left: u64,
    ) -> Result<Located, DamagedIndex> {
        let mut located = Located::Retired;
        walk(
            subject,
            &|| self.segments(),
            sequence,
            u64::MAX,
            |segment, found, entry| {
                if found == sequence {
                    let peeked = records.peek(segment, sequence, entry);
                    let bytes = peeked.header.map_or(0, |header| u64::from(header.body_len));
                    if records.is_empty() || bytes <= left {
                        records.push(sequence, pull_sequence, attempt, peeked);
                        located = Located::Found(bytes);
                    } else {
                        located = Located::TooLong;
                    }
                }
                false
            },
        )?;
        Ok(located)
    }

    /// Takes new messages from the group's cursor on.
    fn take_new(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        max: usize,
        taken: &mut Taken,
    ) -> Result<(), DamagedIndex> {
        let fingerprints = FingerprintFilter::new(&request.filter);
        let all = request.filter == TagFilter::All;
        let mut looked = 0;
        walk(
            subject,
            &|| self.segments(),
            taken.cursor_after,
            self.visible(),
            |segment, sequence, entry| {
                if sequence != taken.cursor_after {
                    // Retention came in between: what it took counts as skipped.
                    if looked > 0 {
                        return false;
                    }
                    taken.cursor_before = sequence;
                }
                looked += 1;
                let rejected = !fingerprints.may_match(entry.tag_fingerprint);
                if !rejected {
                    let peeked = taken.records.peek(segment, sequence, entry);
                    // A damaged message is handed out as such: nobody can say that it would not have passed.
                    let passes = all
                        || taken.records.record(&peeked).is_none_or(|record| {
                            Attributes::decode(record.attributes)
                                .is_none_or(|attributes| request.filter.matches(attributes.tags()))
                        });
                    if passes {
                        let body = peeked.header.map_or(0, |header| u64::from(header.body_len));
                        if !taken.records.is_empty() && taken.bytes + body > request.max_bytes {
                            return false;
                        }
                        taken.bytes += body;
                        taken.records.push(sequence, 0, 0, peeked);
                        taken.extend_run(sequence);
                    }
                }
                taken.cursor_after = sequence + 1;
                taken.records.len() < max && looked < self.options.scan_max
            },
        )
    }
}

fn create_action(request: &PullRequest, cursor: u64) -> Action<'_> {
    Action::Create {
        group: &request.group,
        consumer: request.part_of(),
        kind: request.kind(),
        filter: request.filter_if_any().cloned(),
        cursor,
    }
}

/// The record of an action.
pub(crate) fn action_part<'a>(subject: &'a str, body: &'a [u8]) -> Part<'a> {
    Part {
        kind: Kind::Action,
        sequence: 0,
        subject,
        attributes: &[],
        tag_fingerprint: 0,
        body,
        body_crc: crc32fast::hash(body),
    }
}

enum PullFailure {
    Index(DamagedIndex),
    Error(Error),
}

impl From<Error> for PullFailure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<DamagedIndex> for PullFailure {
    fn from(damaged: DamagedIndex) -> Self {
        Self::Index(damaged)
    }
}
