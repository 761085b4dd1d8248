//! Handing messages out.

use std::borrow::Cow;
use std::sync::Arc;

use qmq_message::{Attributes, TagFilter};

use super::{Action, Batch, Consumption, Group, Member, PullRequest};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::{DamagedIndex, floor, walk};
use crate::index::tags::FingerprintFilter;
use crate::records::Records;
use crate::store::{Inner, Store};

/// A pull that found nothing records how far it looked only if it looked this far: the next one would look again.
const LOOKED_WORTH_RECORDING: u64 = 1_000;

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
}

/// How [`Inner::locate`] fared.
pub(super) enum Located {
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
    pub(super) fn pull(&self, request: &PullRequest) -> Result<Batch, Error> {
        self.check_open()?;
        self.log.check_master()?;
        request.check()?;
        let mut at_time = None;
        loop {
            let subject = match self.catalog.get(&request.subject) {
                Some(subject) => subject,
                None => self.create_with_group(request)?,
            };
            let mut consumption = subject.consumption.lock();
            match self.pull_from(request, &subject, &mut consumption, at_time) {
                Ok(mut batch) => {
                    drop(consumption);
                    batch.records.verify_bodies();
                    return Ok(batch);
                }
                Err(PullFailure::Index(damaged)) => {
                    drop(consumption);
                    self.heal(&damaged)?;
                }
                // Messages are read for it: not with the lock.
                Err(PullFailure::SequenceAt(time_ms)) => {
                    drop(consumption);
                    at_time = Some(self.sequence_at(&subject, time_ms)?);
                }
                Err(PullFailure::Error(error)) => return Err(error),
            }
        }
    }

    fn pull_from(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        consumption: &mut Consumption,
        at_time: Option<u64>,
    ) -> Result<Batch, PullFailure> {
        let member = Member {
            subject: request.subject.clone(),
            group: request.group.clone(),
            consumer: request.consumer.clone(),
            incarnation: self.log.incarnation(),
        };
        if request.is_ended() {
            let records = Records::new(subject);
            return Ok(Batch { member, records });
        }
        let at = self.find_group(request, subject, consumption, at_time)?;
        let now = self.options.clock.now_ms();
        let floor = floor(subject, &self.segments())?;
        let group = &mut consumption.groups[at];
        if group.lowest_unsettled() < floor {
            group.raise_floor(floor);
        }
        if request.returning {
            group.came_back(&request.consumer);
        }
        if request.max == 0 {
            group.touch(&request.consumer, now);
            let records = Records::new(subject);
            return Ok(Batch { member, records });
        }
        if let Some(records) = self.give_again(request, subject, group)? {
            group.touch(&request.consumer, now);
            return Ok(Batch { member, records });
        }
        self.prune_members(request, subject, consumption, at, now)?;
        let group = &consumption.groups[at];
        let room = group.room(self.options.unacked_max);
        if room == 0 {
            return Err(self.too_many(request, group));
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
        if taken.records.is_empty() && room_for_new == 0 && group.lag(subject.index.lock().next) > 0
        {
            let refused = self.too_many(request, group);
            consumption.groups[at].touch_pulled(&request.consumer, now);
            return Err(refused);
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
        } else {
            consumption.groups[at].looked_in_vain(taken.cursor_after);
        }
        consumption.groups[at].touch_pulled(&request.consumer, now);
        Ok(Batch {
            member,
            records: taken.records,
        })
    }

    fn too_many(&self, request: &PullRequest, group: &Group) -> PullFailure {
        PullFailure::Error(Error::TooManyUnacked {
            subject: request.subject.clone(),
            group: request.group.clone(),
            unacked: group.unacked(),
            waiting: group.waiting() as u64,
            max: self.options.unacked_max,
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

    /// Adds one message by its sequence, under a pull sequence and with its attempts, if its body has at most `left` bytes or it is the
    /// first.
    pub(super) fn locate(
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
                    let bytes = peeked.payload_len();
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
                            Attributes::decode(record.attributes).map_or(true, |attributes| {
                                request.filter.matches(attributes.tags())
                            })
                        });
                    if passes {
                        let bytes = peeked.payload_len();
                        if !taken.records.is_empty() && taken.bytes + bytes > request.max_bytes {
                            return false;
                        }
                        taken.bytes += bytes;
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

pub(super) enum PullFailure {
    Index(DamagedIndex),
    /// A group is to start at this time: its sequence there has to be found first.
    SequenceAt(u64),
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
