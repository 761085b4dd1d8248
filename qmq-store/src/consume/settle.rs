//! Acknowledging, refusing, going away, starting over.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{AckOutcome, Action, Batch, Group, GroupKind, Member, wakeup};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::floor;
use crate::options::Durability;
use crate::read::mending;
use crate::store::{Inner, Store};

/// Where a group is to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// At the oldest message kept.
    Earliest,
    /// Behind the newest message.
    Latest,
    /// At this sequence, or the nearest that is kept.
    Sequence(u64),
    /// At the first message whose record time is not before this, in ms since the Unix epoch.
    Time(u64),
}

/// What becomes of messages that a consumer holds.
#[derive(Clone, Copy, Debug)]
enum Settle {
    Ack,
    /// They come again from this time on, in ms, with one more attempt counted.
    Fail(u64),
    /// They come again from this time on, in ms.
    Release(u64),
}

/// A consumer that `Store::expire` declared gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The subject.
    pub subject: String,
    /// The group.
    pub group: String,
    /// The consumer.
    pub consumer: String,
    /// Messages that went back to the group.
    pub messages: u64,
}

impl Store {
    /// Acknowledges all messages of a batch.
    ///
    /// # Errors
    /// [`Error::StaleIncarnation`], [`Error::UnknownGroup`], [`Error::DiskFull`], [`Error::Poisoned`].
    pub fn ack(&self, batch: &Batch) -> Result<AckOutcome, Error> {
        self.inner
            .ack(batch.member(), &batch.pull_ranges(), Durability::Buffered)
    }

    /// Acknowledges all messages of a batch and waits for `durability`.
    ///
    /// # Errors
    /// As [`Store::ack`].
    pub fn ack_with(&self, batch: &Batch, durability: Durability) -> Result<AckOutcome, Error> {
        self.inner
            .ack(batch.member(), &batch.pull_ranges(), durability)
    }

    /// Acknowledges pull sequences, in any order, with holes; ranges may overlap what was settled before.
    ///
    /// # Errors
    /// As [`Store::ack`].
    pub fn ack_ranges(
        &self,
        member: &Member,
        pull_sequences: &[RangeInclusive<u64>],
        durability: Durability,
    ) -> Result<AckOutcome, Error> {
        self.inner.ack(member, &pairs(pull_sequences), durability)
    }

    /// Refuses messages: they come again, to any member of the group, after `delay`, with one more attempt counted.
    ///
    /// # Errors
    /// As [`Store::ack`].
    pub fn nack(
        &self,
        member: &Member,
        pull_sequences: &[RangeInclusive<u64>],
        delay: Duration,
        durability: Durability,
    ) -> Result<AckOutcome, Error> {
        let how = Settle::Fail(self.inner.due_in(delay));
        self.inner
            .let_come_again(member, &pairs(pull_sequences), how, durability)
    }

    /// Gives back messages that nobody has looked at: they come again, to any member of the group, after `delay`, and no attempt is counted.
    ///
    /// # Errors
    /// As [`Store::ack`].
    pub fn release(
        &self,
        member: &Member,
        pull_sequences: &[RangeInclusive<u64>],
        delay: Duration,
        durability: Durability,
    ) -> Result<AckOutcome, Error> {
        let how = Settle::Release(self.inner.due_in(delay));
        self.inner
            .let_come_again(member, &pairs(pull_sequences), how, durability)
    }

    /// Declares a consumer gone: its unacknowledged messages go to the group's other members at once.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::UnknownGroup`], [`Error::DiskFull`], [`Error::Poisoned`].
    pub fn consumer_gone(&self, subject: &str, group: &str, consumer: &str) -> Result<u64, Error> {
        let subject = self.inner.known_subject(subject)?;
        self.inner.gone(&subject, group, consumer, |_| true)
    }

    /// Declares all consumers gone that hold messages and have neither pulled nor settled for `Options::lease` before `now_ms` (ms since the
    /// Unix epoch).
    ///
    /// # Errors
    /// As [`Store::consumer_gone`].
    pub fn expire(&self, now_ms: u64) -> Result<Vec<Expired>, Error> {
        self.inner.expire(now_ms)
    }

    /// Starts a group over at another place. What was handed out before is no longer waited for.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::UnknownGroup`], [`Error::DiskFull`], [`Error::Poisoned`].
    pub fn reset(&self, subject: &str, group: &str, to: ResetTo) -> Result<u64, Error> {
        self.inner.reset(subject, group, to)
    }

    /// Deletes a group on a subject; a later pull of that name creates a new one.
    ///
    /// # Errors
    /// As [`Store::reset`].
    pub fn drop_group(&self, subject: &str, group: &str) -> Result<(), Error> {
        let subject = self.inner.known_subject(subject)?;
        let mut consumption = subject.consumption.lock();
        if consumption.named(group).is_none() {
            return Err(unknown(&subject, group));
        }
        self.inner
            .act(&subject, &mut consumption, &Action::Drop { group })?;
        Ok(())
    }
}

fn pairs(ranges: &[RangeInclusive<u64>]) -> Vec<(u64, u64)> {
    ranges
        .iter()
        .filter(|range| !range.is_empty())
        .map(|range| (*range.start(), *range.end()))
        .collect()
}

pub(super) fn unknown(subject: &Subject, group: &str) -> Error {
    Error::UnknownGroup {
        subject: subject.name.to_string(),
        group: group.to_owned(),
    }
}

impl Inner {
    pub(super) fn check_incarnation(&self, member: &Member) -> Result<(), Error> {
        self.log.check_master()?;
        let current = self.log.incarnation();
        if member.incarnation == current {
            Ok(())
        } else {
            Err(Error::StaleIncarnation {
                given: member.incarnation,
                current,
            })
        }
    }

    fn ack(
        &self,
        member: &Member,
        ranges: &[(u64, u64)],
        durability: Durability,
    ) -> Result<AckOutcome, Error> {
        let (_, outcome, end) = self.settle(member, ranges, Settle::Ack)?;
        if let Some(end) = end {
            self.after_append(end, durability)?;
        }
        Ok(outcome)
    }

    fn due_in(&self, delay: Duration) -> u64 {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.options.clock.now_ms().saturating_add(delay)
    }

    fn let_come_again(
        &self,
        member: &Member,
        ranges: &[(u64, u64)],
        how: Settle,
        durability: Durability,
    ) -> Result<AckOutcome, Error> {
        let (subject, outcome, end) = self.settle(member, ranges, how)?;
        if let Some(end) = end {
            // Those who wait must learn when the message is due again, also if the wait for durability fails.
            wakeup::notify(&subject);
            self.after_append(end, durability)?;
        }
        Ok(outcome)
    }

    /// Settles what of `ranges` is pending. With the subject, and the end of the action's
    /// record if there was something to write.
    ///
    /// Of what is acked and not pending, retention may have taken the messages. A replica that still keeps them must not hand them out again: it is
    /// told too. What was refused may come again.
    fn settle(
        &self,
        member: &Member,
        ranges: &[(u64, u64)],
        how: Settle,
    ) -> Result<(Arc<Subject>, AckOutcome, Option<u64>), Error> {
        self.check_incarnation(member)?;
        let subject = self.known_subject(&member.subject)?;
        let mut consumption = subject.consumption.lock();
        let at = consumption
            .find(&member.group, &member.consumer)
            .ok_or_else(|| unknown(&subject, &member.group))?;
        let mut pending = Vec::new();
        let group = &mut consumption.groups[at];
        group.touch(&member.consumer, self.options.clock.now_ms());
        let outcome = group.settle(&member.consumer, ranges, &mut pending);
        let skipped = match (how, outcome.already) {
            (Settle::Fail(_) | Settle::Release(_), _) | (Settle::Ack, 0) => Vec::new(),
            (Settle::Ack, _) => group.maybe_skipped(&member.consumer, ranges),
        };
        let (group, consumer) = (&*member.group, &*member.consumer);
        let nothing = pending.is_empty() && skipped.is_empty();
        let ranges = Cow::Owned(pending);
        let action = match how {
            Settle::Ack if skipped.is_empty() => Action::Ack {
                group,
                consumer,
                ranges,
            },
            Settle::Ack => Action::AckSkipped {
                group,
                consumer,
                ranges,
                skipped: Cow::Owned(skipped),
            },
            Settle::Fail(available_at_ms) => Action::Nack {
                group,
                consumer,
                ranges,
                available_at_ms,
            },
            Settle::Release(available_at_ms) => Action::Release {
                group,
                consumer,
                ranges,
                available_at_ms,
            },
        };
        let end = match nothing {
            true => None,
            false => Some(self.act(&subject, &mut consumption, &action)?),
        };
        drop(consumption);
        Ok((subject, outcome, end))
    }

    /// Declares a consumer gone if the group still says so.
    fn gone(
        &self,
        subject: &Arc<Subject>,
        group: &str,
        consumer: &str,
        still: impl FnOnce(&Group) -> bool,
    ) -> Result<u64, Error> {
        let mut consumption = subject.consumption.lock();
        let at = consumption
            .find(group, consumer)
            .ok_or_else(|| unknown(subject, group))?;
        let held = consumption.groups[at]
            .members()
            .find(|member| &**member.name == consumer)
            .map(|member| member.unacked);
        let Some(held) = held.filter(|_| still(&consumption.groups[at])) else {
            return Ok(0);
        };
        self.act(subject, &mut consumption, &Action::Gone { group, consumer })?;
        drop(consumption);
        wakeup::notify(subject);
        Ok(held)
    }

    fn expire(&self, now_ms: u64) -> Result<Vec<Expired>, Error> {
        self.check_open()?;
        self.log.check_master()?;
        let lease_ms = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        let busy: Vec<u32> = self.busy.lock().iter().copied().collect();
        let mut expired = Vec::new();
        for id in busy {
            let Some(subject) = self.catalog.by_id(id) else {
                continue;
            };
            let silent: Vec<(Arc<str>, Arc<str>)> = {
                let consumption = subject.consumption.lock();
                if consumption.groups.iter().all(|group| group.unacked() == 0) {
                    self.busy.lock().remove(&id);
                }
                let of_group = |group: &Group| {
                    let name = Arc::clone(group.name());
                    group
                        .expired(now_ms, lease_ms)
                        .into_iter()
                        .map(move |consumer| (Arc::clone(&name), consumer))
                };
                consumption.groups.iter().flat_map(of_group).collect()
            };
            for (group, consumer) in silent {
                // It may have come back since, or its group have been dropped.
                let still = |group: &Group| group.expired(now_ms, lease_ms).contains(&consumer);
                let messages = match self.gone(&subject, &group, &consumer, still) {
                    Ok(0) | Err(Error::UnknownGroup { .. }) => continue,
                    Ok(messages) => messages,
                    Err(error) => return Err(error),
                };
                expired.push(Expired {
                    subject: subject.name.to_string(),
                    group: group.to_string(),
                    consumer: consumer.to_string(),
                    messages,
                });
            }
        }
        Ok(expired)
    }

    fn reset(&self, subject: &str, group: &str, to: ResetTo) -> Result<u64, Error> {
        let subject = self.known_subject(subject)?;
        let next = subject.index.lock().next;
        let wanted = match to {
            ResetTo::Earliest => 0,
            ResetTo::Latest => next,
            ResetTo::Sequence(sequence) => sequence,
            ResetTo::Time(time_ms) => self.sequence_at(&subject, time_ms)?,
        };
        let floor = mending(self, || floor(&subject, &self.segments()))?;
        let mut consumption = subject.consumption.lock();
        let next = subject.index.lock().next;
        let cursor = wanted.clamp(floor.min(next), next);
        let kind = consumption
            .named(group)
            .ok_or_else(|| unknown(&subject, group))?
            .kind();
        let consumers: Vec<Arc<str>> = match kind {
            GroupKind::Shared => vec!["".into()],
            GroupKind::Broadcast => consumption
                .groups
                .iter()
                .filter(|candidate| &**candidate.name() == group)
                .flat_map(|candidate| {
                    candidate
                        .members()
                        .map(|member| Arc::clone(member.name))
                        .collect::<Vec<_>>()
                })
                .collect(),
        };
        for consumer in consumers {
            let action = Action::Reset {
                group,
                consumer: &consumer,
                cursor,
            };
            self.act(&subject, &mut consumption, &action)?;
        }
        drop(consumption);
        wakeup::notify(&subject);
        Ok(cursor)
    }
}
