//! A message copied to another subject and acknowledged, both or neither.

use std::borrow::Cow;

use super::settle::unknown;
use super::write::action_part;
use super::{Action, Member, wakeup};
use crate::error::Error;
use crate::log::part::{Body, Part};
use crate::log::record::Kind;
use crate::log::writer::{BATCH_OVERHEAD, How, Purpose};
use crate::options::{Durability, VisibleAt};
use crate::put::index_message;
use crate::records::Records;
use crate::store::{Appended, Inner, Store};

impl Store {
    /// Copies a message to another subject (QMQ's retry and dead-letter subjects, for example) and acknowledges it, both or neither.
    ///
    /// # Errors
    /// As [`Store::append`] and [`Store::ack`]; [`Error::NotHeld`] if the consumer does not hold it, [`Error::Damaged`] if it cannot be read.
    pub fn copy_and_ack(
        &self,
        member: &Member,
        pull_sequence: u64,
        to_subject: &str,
        durability: Durability,
    ) -> Result<Appended, Error> {
        let appended = self.inner.copy_and_ack(member, pull_sequence, to_subject)?;
        self.inner.after_append(appended.end_offset, durability)?;
        Ok(appended)
    }
}

impl Inner {
    fn copy_and_ack(
        &self,
        member: &Member,
        pull_sequence: u64,
        to: &str,
    ) -> Result<Appended, Error> {
        self.check_incarnation(member)?;
        let subject = self.known_subject(&member.subject)?;
        self.check_new_subjects([to])?;
        let not_held = || Error::NotHeld {
            consumer: member.consumer.clone(),
            pull_sequence,
        };
        let mut records;
        let (sequence, mut consumption) = loop {
            // All looked at again after the lock was let go: the message may be somebody else's by then.
            let mut consumption = subject.consumption.lock();
            let at = consumption
                .find(&member.group, &member.consumer)
                .ok_or_else(|| unknown(&subject, &member.group))?;
            let group = &mut consumption.groups[at];
            group.touch(&member.consumer, self.options.clock.now_ms());
            let held = group.sequence_of(&member.consumer, pull_sequence);
            let sequence = held.ok_or_else(not_held)?;
            records = Records::new(&subject);
            match self.locate(
                &subject,
                sequence,
                &mut records,
                (pull_sequence, 0),
                u64::MAX,
            ) {
                Ok(_) => break (sequence, consumption),
                Err(damaged) => {
                    drop(consumption);
                    self.heal(&damaged)?;
                }
            }
        };
        records.verify_bodies();
        let original = records.iter().next().ok_or_else(not_held)?;
        let view = original.message().map_err(|damaged| Error::Damaged {
            subject: subject.name.to_string(),
            sequence,
            offset: damaged.offset.unwrap_or(0),
        })?;
        let action = Action::Ack {
            group: &member.group,
            consumer: &member.consumer,
            ranges: Cow::Owned(vec![(pull_sequence, pull_sequence)]),
        };
        let mut action_body = Vec::new();
        action.encode(&mut action_body);
        let ack = action_part(&subject.name, &action_body);
        let mut copy = Part {
            attributes: view.raw_attributes(),
            tag_fingerprint: view.tag_fingerprint(),
            ..Part::new(Kind::Message, to, Body::one(view.body()))
        };
        let bytes = BATCH_OVERHEAD + copy.record_len() + ack.record_len();
        let mut appender = self.log.lock(bytes, Purpose::Message)?;
        self.check_new_subjects([to])?;
        appender.begin_batch(&[]);
        let target = match self.catalog.get(to) {
            Some(target) => target,
            None => self.create_subject(&mut appender, to),
        };
        copy.sequence = target.index.lock().next;
        let offset = appender.put(&copy, How::Store)?;
        index_message(&mut appender, &target, offset, copy.tag_fingerprint);
        if self.options.visible_at != VisibleAt::Written {
            self.wake_later.lock().add(offset, &target);
        }
        appender.put(&ack, How::Store)?;
        let end_offset = appender.publish()?;
        consumption.apply(&action, end_offset, &self.names);
        drop(consumption);
        if self.options.visible_at == VisibleAt::Written {
            wakeup::notify(&target);
        }
        Ok(Appended {
            sequence: copy.sequence,
            offset,
            end_offset,
        })
    }
}
