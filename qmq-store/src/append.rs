//! Appending messages: one, or a batch of them.

use std::slice;

use qmq_message::{Attributes, Message};

use crate::error::Error;
use crate::index::tags;
use crate::log::part::{Body, Part};
use crate::log::record::Kind;
use crate::options::Durability;
use crate::store::{Inner, Store};

/// Where an appended message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position in its subject, from 0, without holes.
    pub sequence: u64,
    /// Offset of its record in the log.
    pub offset: u64,
    /// What to wait for: see [`Store::wait`].
    pub end_offset: u64,
}

/// Where the messages of a batch stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Position of each message in its subject, in the order of the batch.
    pub sequences: Vec<u64>,
    /// What to wait for: see [`Store::wait`].
    pub end_offset: u64,
}

impl Store {
    /// Appends a message and waits for `Options::durability`.
    ///
    /// # Errors
    /// A name, attribute or size that breaks a limit; [`Error::DiskFull`]; [`Error::Poisoned`] after a failed write or sync. Nothing has
    /// been appended then, unless the wait itself failed.
    pub fn append(&self, message: &Message) -> Result<Appended, Error> {
        self.append_with(message, self.inner.options.durability)
    }

    /// Appends a message and waits for `durability`.
    ///
    /// # Errors
    /// As [`Store::append`].
    #[inline]
    pub fn append_with(
        &self,
        message: &Message,
        durability: Durability,
    ) -> Result<Appended, Error> {
        let appended = self.inner.append(message, durability)?;
        self.inner.after_append(appended.end_offset, durability)?;
        Ok(appended)
    }

    /// Appends messages, also of different subjects, so that readers see all or none of them, and a crash keeps all or none.
    ///
    /// # Errors
    /// As [`Store::append`]; [`Error::EmptyBatch`], [`Error::BatchTooLarge`].
    pub fn append_batch(
        &self,
        messages: &[Message],
        durability: Durability,
    ) -> Result<AppendedBatch, Error> {
        let appended = self.inner.append_batch(messages)?;
        self.inner.after_append(appended.end_offset, durability)?;
        Ok(appended)
    }
}

impl Inner {
    /// Checks a message and appends its attributes, encoded, to those of others.
    fn encode(&self, message: &Message, attributes: &mut Vec<u8>) -> Result<(), Error> {
        self.check_body(message.body().len())?;
        Ok(Attributes::encode(message, attributes)?)
    }

    fn append(&self, message: &Message, durability: Durability) -> Result<Appended, Error> {
        let mut attributes = Vec::new();
        self.encode(message, &mut attributes)?;
        self.put_one(part(message, &attributes), durability)
    }

    fn append_batch(&self, messages: &[Message]) -> Result<AppendedBatch, Error> {
        let mut attributes = Vec::new();
        let mut ends = Vec::with_capacity(messages.len());
        for message in messages {
            self.encode(message, &mut attributes)?;
            ends.push(attributes.len());
        }
        let mut start = 0;
        let parts = messages.iter().zip(ends).map(|(message, end)| {
            let own = &attributes[start..end];
            start = end;
            part(message, own)
        });
        self.put_batch(&parts.collect::<Vec<_>>(), &[])
    }
}

/// The record of a message.
fn part<'a>(message: &'a Message, attributes: &'a [u8]) -> Part<'a> {
    Part {
        attributes,
        tag_fingerprint: tags::fingerprint(message.tags().iter().map(String::as_str)),
        ..Part::new(
            Kind::Message,
            message.subject(),
            Body::shared(slice::from_ref(message.body())),
        )
    }
}
