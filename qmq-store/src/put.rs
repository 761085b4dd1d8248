//! Messages on their way into the log: all that can be checked is, before the append lock is taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use qmq_message::check_subject;

use crate::append::{Appended, AppendedBatch};
use crate::consume::wakeup;
use crate::error::Error;
use crate::index::active::{Entry, Subject};
use crate::log::part::Part;
use crate::log::writer::{Appender, How, Purpose, batch_overhead};
use crate::options::{Durability, VisibleAt};
use crate::store::Inner;

impl Inner {
    pub(crate) fn check_body(&self, bytes: usize) -> Result<(), Error> {
        let (bytes, max) = (bytes as u64, self.options.body_bytes_max);
        if bytes > max {
            return Err(Error::BodyTooLarge { bytes, max });
        }
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

    /// Appends one message. Its body and attributes have been checked.
    pub(crate) fn put_one(
        &self,
        mut part: Part<'_>,
        durability: Durability,
    ) -> Result<Appended, Error> {
        self.check_open()?;
        let mut subject = self.catalog.get(part.subject);
        if subject.is_none() {
            self.check_new_subjects([part.subject])?;
        }
        // Where syncs follow closely, a store into the mapping would take a page fault after each of them.
        let how = if durability == Durability::Buffered && !self.log.commit.sync_is_awaited() {
            How::Store
        } else {
            How::Call
        };
        let mut appender = self.log.lock(part.record_len(), Purpose::Message)?;
        if subject.is_none() {
            // Somebody may have created it since, or as many others as there may be.
            subject = self.catalog.get(part.subject);
            if subject.is_none() {
                self.check_new_subjects([part.subject])?;
            }
        }
        part.sequence = subject
            .as_ref()
            .map_or(0, |subject| subject.index.lock().next);
        let offset = appender.put(&part, how)?;
        let subject = subject.unwrap_or_else(|| self.create_subject(&mut appender, part.subject));
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

    /// Appends messages that become visible, and survive, together. Their bodies and attributes have been checked.
    pub(crate) fn put_batch(
        &self,
        parts: &[Part<'_>],
        note: &[u8],
    ) -> Result<AppendedBatch, Error> {
        self.check_open()?;
        if parts.is_empty() {
            return Err(Error::EmptyBatch);
        }
        let bytes = batch_overhead(note) + parts.iter().map(Part::record_len).sum::<u64>();
        let new_subjects = self.new_subjects(parts);
        self.check_new_subjects(new_subjects.iter().copied())?;
        let max = self.options.batch_bytes_max;
        if bytes > max {
            return Err(Error::BatchTooLarge { bytes, max });
        }
        let mut appender = self.log.lock(bytes, Purpose::Message)?;
        self.check_new_subjects(new_subjects)?;
        appender.begin_batch(note);
        let mut sequences = Vec::with_capacity(parts.len());
        let mut subjects = Vec::new();
        let mut entries = Vec::with_capacity(parts.len());
        // Messages of one subject often follow each other: one look-up and one entry into the index for each such run.
        for run in parts.chunk_by(|one, next| one.subject == next.subject) {
            let name = run[0].subject;
            let subject = match self.catalog.get(name) {
                Some(subject) => subject,
                None => self.create_subject(&mut appender, name),
            };
            let next = subject.index.lock().next;
            entries.clear();
            for (part, sequence) in run.iter().zip(next..) {
                let part = Part { sequence, ..*part };
                let offset = appender.put(&part, How::Store)?;
                entries.push((offset, part.tag_fingerprint));
                sequences.push(sequence);
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

    /// Subjects of messages that do not exist yet.
    fn new_subjects<'a>(&self, parts: &[Part<'a>]) -> BTreeSet<&'a str> {
        let runs = parts.chunk_by(|one, next| one.subject == next.subject);
        let names = runs.map(|run| run[0].subject);
        names
            .filter(|name| self.catalog.get(name).is_none())
            .collect()
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
