//! Appending: one message, or a batch of them, checked before the append lock is taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use qmq_message::{Message, check_subject};

use crate::consume::wakeup;
use crate::error::Error;
use crate::index::active::{Entry, Subject};
use crate::index::tags;
use crate::log::record::{Kind, encode_attributes};
use crate::log::writer::{Appender, BATCH_OVERHEAD, How, Part, Purpose, record_len};
use crate::options::{Durability, VisibleAt};
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
    /// Checks a message and returns its attributes, encoded.
    fn check_message(&self, message: &Message, attributes: &mut Vec<u8>) -> Result<(), Error> {
        let bytes = message.body().len() as u64;
        if bytes > self.options.body_bytes_max {
            return Err(Error::BodyTooLarge {
                bytes,
                max: self.options.body_bytes_max,
            });
        }
        message.check()?;
        encode_attributes(message, attributes);
        Ok(())
    }

    /// Whether those of `names` that are no subjects yet, each named once, may all become some. Certain only with the append lock.
    pub(crate) fn check_new_subjects<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let max = self.options.subjects_max;
        let mut count = self.catalog.len();
        for name in names {
            if self.catalog.get(name).is_some() {
                continue;
            }
            check_subject(name)?;
            count += 1;
            if count > max as usize {
                return Err(Error::TooManySubjects {
                    subject: name.to_owned(),
                    max,
                });
            }
        }
        Ok(())
    }

    fn append(&self, message: &Message, durability: Durability) -> Result<Appended, Error> {
        self.check_open()?;
        let mut attributes = Vec::new();
        self.check_message(message, &mut attributes)?;
        let mut subject = self.catalog.get(message.subject());
        if subject.is_none() {
            self.check_new_subjects([message.subject()])?;
        }
        let mut part = message_part(message, &attributes);
        // Where syncs follow closely, a store into the mapping would take a page fault after each of them.
        let how = if durability == Durability::Buffered && !self.log.commit.sync_is_awaited() {
            How::Store
        } else {
            How::Call
        };
        let mut appender = self.log.lock(part.record_len(), Purpose::Message)?;
        if subject.is_none() {
            // Somebody may have created it since, or as many others as there may be.
            subject = self.catalog.get(message.subject());
            if subject.is_none() {
                self.check_new_subjects([message.subject()])?;
            }
        }
        part.sequence = subject
            .as_ref()
            .map_or(0, |subject| subject.index.lock().next);
        let offset = appender.put(&part, how)?;
        let subject =
            subject.unwrap_or_else(|| self.create_subject(&mut appender, message.subject()));
        index_message(&mut appender, &subject, offset, part.tag_fingerprint);
        if self.options.visible_at != VisibleAt::Written {
            self.wake_later.lock().add(offset, &subject);
        }
        let end_offset = appender.publish()?;
        if self.options.visible_at == VisibleAt::Written {
            wakeup::notify(&subject);
        }
        Ok(Appended {
            sequence: part.sequence,
            offset,
            end_offset,
        })
    }

    /// Only with the append lock, and right before or after the subject's first record is put: numbers follow the order of the log.
    pub(crate) fn create_subject(&self, appender: &mut Appender<'_>, name: &str) -> Arc<Subject> {
        appender.subject_created();
        self.catalog.create(name, 0)
    }

    fn append_batch(&self, messages: &[Message]) -> Result<AppendedBatch, Error> {
        self.check_open()?;
        let prepared = self.prepare_batch(messages)?;
        if prepared.bytes > self.options.batch_bytes_max {
            let max = self.options.batch_bytes_max;
            return Err(Error::BatchTooLarge {
                bytes: prepared.bytes,
                max,
            });
        }
        let mut appender = self.log.lock(prepared.bytes, Purpose::Message)?;
        self.check_new_subjects(prepared.new_subjects)?;
        appender.begin_batch();
        let mut sequences = Vec::with_capacity(messages.len());
        let mut subjects = Vec::new();
        let mut entries = Vec::with_capacity(messages.len());
        let mut each = messages.iter().zip(&prepared.messages).peekable();
        let mut attributes_start = 0;
        // Messages of one subject often follow each other: one look-up and one entry into the index for each such run.
        while let Some(&(first, _)) = each.peek() {
            let subject = match self.catalog.get(first.subject()) {
                Some(subject) => subject,
                None => self.create_subject(&mut appender, first.subject()),
            };
            let mut sequence = subject.index.lock().next;
            entries.clear();
            while let Some((message, ready)) =
                each.next_if(|(message, _)| message.subject() == &*subject.name)
            {
                let part = Part {
                    kind: Kind::Message,
                    sequence,
                    subject: message.subject(),
                    attributes: &prepared.attributes[attributes_start..ready.attributes_end],
                    tag_fingerprint: ready.tag_fingerprint,
                    body: message.body(),
                    body_crc: ready.body_crc,
                };
                let offset = appender.put(&part, How::Store)?;
                entries.push((offset, ready.tag_fingerprint));
                sequences.push(sequence);
                sequence += 1;
                attributes_start = ready.attributes_end;
            }
            index_messages(&mut appender, &subject, &entries);
            subjects.push(subject);
        }
        let visible_at_once = self.options.visible_at == VisibleAt::Written;
        if !visible_at_once {
            let offset = appender.batch_start();
            let mut later = self.wake_later.lock();
            for subject in &subjects {
                later.add(offset, subject);
            }
        }
        let end_offset = appender.publish()?;
        if visible_at_once {
            for subject in &subjects {
                wakeup::notify(subject);
            }
        }
        Ok(AppendedBatch {
            sequences,
            end_offset,
        })
    }

    /// Everything about a batch that needs no lock.
    fn prepare_batch<'a>(&self, messages: &'a [Message]) -> Result<PreparedBatch<'a>, Error> {
        if messages.is_empty() {
            return Err(Error::EmptyBatch);
        }
        let mut prepared = PreparedBatch {
            bytes: BATCH_OVERHEAD,
            attributes: Vec::new(),
            messages: Vec::with_capacity(messages.len()),
            new_subjects: BTreeSet::new(),
        };
        let mut last_subject = "";
        for message in messages {
            let start = prepared.attributes.len();
            self.check_message(message, &mut prepared.attributes)?;
            if message.subject() != last_subject {
                if self.catalog.get(message.subject()).is_none() {
                    prepared.new_subjects.insert(message.subject());
                }
                last_subject = message.subject();
            }
            let attributes_end = prepared.attributes.len();
            prepared.bytes += record_len(message, attributes_end - start);
            prepared.messages.push(PreparedMessage {
                attributes_end,
                body_crc: crc32fast::hash(message.body()),
                tag_fingerprint: tags::fingerprint(message.tags().iter().map(String::as_str)),
            });
        }
        self.check_new_subjects(prepared.new_subjects.iter().copied())?;
        Ok(prepared)
    }
}

/// The record of a message; its sequence is not known yet.
fn message_part<'a>(message: &'a Message, attributes: &'a [u8]) -> Part<'a> {
    Part {
        kind: Kind::Message,
        sequence: 0,
        subject: message.subject(),
        attributes,
        tag_fingerprint: tags::fingerprint(message.tags().iter().map(String::as_str)),
        body: message.body(),
        body_crc: crc32fast::hash(message.body()),
    }
}

/// Enters a message that has been put into its subject's index.
#[inline]
pub(crate) fn index_message(
    appender: &mut Appender<'_>,
    subject: &Subject,
    offset: u64,
    tag_fingerprint: u32,
) {
    index_messages(appender, subject, &[(offset, tag_fingerprint)]);
}

/// Enters messages that have been put, in order, as offset and tag fingerprint.
#[inline]
fn index_messages(appender: &mut Appender<'_>, subject: &Subject, messages: &[(u64, u32)]) {
    let segment = appender.segment();
    let mut first_here = false;
    {
        let mut index = subject.index.lock();
        for &(offset, tag_fingerprint) in messages {
            let position = ((offset - segment) / 8) as u32;
            first_here |= index.push(
                segment,
                Entry {
                    position,
                    tag_fingerprint,
                },
            );
        }
    }
    if first_here {
        appender.touched(subject.id);
    }
}

/// A batch before the append lock is taken.
struct PreparedBatch<'a> {
    /// Bytes that it takes in the log.
    bytes: u64,
    /// Attributes of all messages, one after the other.
    attributes: Vec<u8>,
    messages: Vec<PreparedMessage>,
    /// Subjects that did not exist yet.
    new_subjects: BTreeSet<&'a str>,
}

struct PreparedMessage {
    attributes_end: usize,
    body_crc: u32,
    tag_fingerprint: u32,
}
