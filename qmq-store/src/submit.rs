//! Messages that come encoded, from a network for example: what another program has built is checked, and copied once.

use bytes::Bytes;
use qmq_message::Attributes;

use crate::append::AppendedBatch;
use crate::error::Error;
use crate::index::tags;
use crate::log::part::{Body, Part, record_len};
use crate::log::record::Kind;
use crate::log::writer::BATCH_OVERHEAD;
use crate::options::Durability;
use crate::store::{Inner, Store};

/// The longest note for which every message's header has room. A message with a longer one is a batch.
const BESIDE_ATTRIBUTES_MAX: usize = 16_000;

/// A message as it comes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its attributes, encoded as by [`Attributes::encode`].
    pub attributes: &'a [u8],
    /// Its body, in any number of pieces that follow each other.
    pub body: &'a [Bytes],
}

impl Submission<'_> {
    /// Bytes of a batch besides its messages and its note, to be compared with [`Options::batch_bytes_max`](crate::Options::batch_bytes_max).
    pub const BATCH_BYTES: u64 = BATCH_OVERHEAD;

    /// Bytes that it takes in the log.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        record_len(self.subject, self.attributes, Body::shared(self.body).len())
    }
}

impl Store {
    /// Appends messages that come from outside: one as a record of its own, several as a batch, of which readers see all or none and a crash
    /// keeps all or none. Attributes are checked with [`Attributes::check`]. Long pieces of bodies go into the log from where they lie.
    ///
    /// It returns once all is written, and never waits for a sync, nor for what is not synced to become less: `durability` only chooses how
    /// the bytes are written best for what the caller is going to wait for, with [`Store::when`] or [`Store::wait`]. So the caller keeps
    /// [`Store::unsynced_bytes`] in bounds. From half of [`Options::flush_bytes`](crate::Options::flush_bytes) on `qmq-flush` is asked to
    /// sync; with [`Background::Manual`](crate::Background::Manual) only [`Store::maintain`] and those who wait do.
    ///
    /// What it can wait for: the append lock; at the end of a segment, when `qmq-keep` has not prepared the next one yet, the allocation of
    /// its file; and the operating system where it slows down who writes more than the disk takes. Those who wait for the
    /// messages are woken by the caller's thread if they are visible at once
    /// ([`VisibleAt::Written`](crate::VisibleAt::Written)).
    ///
    /// # Errors
    /// As [`Store::append_batch`]; nothing has been appended then. [`Store::check_submission`] says which message is at fault.
    pub fn submit(
        &self,
        messages: &[Submission<'_>],
        durability: Durability,
    ) -> Result<AppendedBatch, Error> {
        self.submit_noted(messages, &[], durability)
    }

    /// Bytes of a note at most.
    pub const NOTE_BYTES_MAX: usize = 60_000;

    /// As [`Store::submit`], with a note: bytes that mean nothing to the store and that no consumer sees. It is kept and lost with the messages,
    /// at a crash and when they are retired, and goes to replicas with them; [`Store::notes`] gives it back. It takes its own length in the log.
    ///
    /// # Errors
    /// As [`Store::submit`]; [`Error::NoteTooLong`].
    pub fn submit_noted(
        &self,
        messages: &[Submission<'_>],
        note: &[u8],
        durability: Durability,
    ) -> Result<AppendedBatch, Error> {
        let appended = self.inner.submit(messages, note, durability)?;
        self.inner.flush_soon(appended.end_offset);
        Ok(appended)
    }

    /// Whether a message may be submitted, alone: its subject, its attributes and its length. Changes nothing.
    ///
    /// # Errors
    /// The rule that it breaks: [`Error::Name`], [`Error::TooManySubjects`], [`Error::BodyTooLarge`], [`Error::RecordTooLarge`],
    /// [`Error::Message`].
    pub fn check_submission(&self, message: &Submission<'_>) -> Result<(), Error> {
        self.inner.check_new_subjects([message.subject])?;
        self.inner.check_submission(message).map(|_| ())
    }
}

impl Inner {
    /// All but the subject, which is checked where the others are known.
    fn check_submission<'a>(&self, message: &Submission<'a>) -> Result<Attributes<'a>, Error> {
        self.check_body(Body::shared(message.body).len())?;
        let attributes = Attributes::check(message.attributes)?;
        let (bytes, max) = (message.log_bytes(), self.options.segment_bytes);
        if bytes > max {
            return Err(Error::RecordTooLarge { bytes, max });
        }
        Ok(attributes)
    }

    fn submitted<'a>(&self, message: &Submission<'a>) -> Result<Part<'a>, Error> {
        let attributes = self.check_submission(message)?;
        Ok(Part {
            attributes: message.attributes,
            tag_fingerprint: tags::fingerprint(attributes.tags()),
            ..Part::new(Kind::Message, message.subject, Body::shared(message.body))
        })
    }

    fn submit(
        &self,
        messages: &[Submission<'_>],
        note: &[u8],
        durability: Durability,
    ) -> Result<AppendedBatch, Error> {
        let (bytes, max) = (note.len(), Store::NOTE_BYTES_MAX);
        if bytes > max {
            return Err(Error::NoteTooLong { bytes, max });
        }
        if let [message] = messages
            && bytes <= BESIDE_ATTRIBUTES_MAX
        {
            let part = self.submitted(message)?;
            let appended = self.put_one(Part { note, ..part }, durability)?;
            return Ok(AppendedBatch {
                sequences: vec![appended.sequence],
                end_offset: appended.end_offset,
            });
        }
        let parts = messages.iter().map(|message| self.submitted(message));
        self.put_batch(&parts.collect::<Result<Vec<_>, _>>()?, note)
    }
}
