//! One record after the other into the catalog: what recovery and a follower both do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qmq_message::{Attributes, TagFilter};

use crate::consume::{Action, Names};
use crate::index::active::{Entry, Subject};
use crate::index::catalog::{Catalog, floor, walk};
use crate::index::tags::FingerprintFilter;
use crate::log::record::{Header, Kind, Record};
use crate::log::segment::Segment;
use crate::records::Records;

/// Applies records to a catalog, one after the other.
pub(crate) struct Replay<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) names: &'a Names,
    /// Actions that end at or below this are in the checkpoint, or in the snapshot that a replica was made from.
    pub(crate) replay_from: u64,
    pub(crate) records: u64,
    pub(crate) last_time_ms: u64,
    /// All segments, once damage has been met: then a pull may be missing.
    pub(super) after_damage: Option<Arc<Vec<Arc<Segment>>>>,
    /// The last subject met: records of one subject often follow each other.
    last: Option<Arc<Subject>>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(catalog: &'a Catalog, names: &'a Names, replay_from: u64) -> Self {
        Self {
            catalog,
            names,
            replay_from: replay_from.max(catalog.state_end.load(Ordering::Relaxed)),
            records: 0,
            last_time_ms: 0,
            after_damage: None,
            last: None,
        }
    }

    /// The subject of that name; its number is given here, so this is called in the order of the log.
    pub(crate) fn subject(&mut self, name: &str) -> Arc<Subject> {
        if let Some(last) = self.last.as_ref().filter(|last| &*last.name == name) {
            return Arc::clone(last);
        }
        let subject = self
            .catalog
            .get(name)
            .unwrap_or_else(|| self.catalog.create(name, 0));
        self.last = Some(Arc::clone(&subject));
        subject
    }

    /// A good record, or a message with a good header: what is wrong with its body is found again when it is read.
    pub(crate) fn apply(
        &mut self,
        segment: &Segment,
        record: &Record<'_>,
        touched: &mut Vec<u32>,
    ) -> Result<(), &'static str> {
        let header = &record.header;
        self.records += 1;
        self.note_time(segment, header);
        match header.kind {
            Kind::Batch => Ok(()),
            Kind::Message => self.message(segment, header, record.subject, touched),
            Kind::Action => self.action(record),
            Kind::Epoch => self.catalog.epochs.note(header.sequence, header.offset),
        }
    }

    pub(crate) fn action(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let end = record.header.offset + record.header.record_len();
        let action = Action::decode(record.body).map_err(|_| "an action that cannot be decoded")?;
        let subject = self.subject(record.subject);
        if end > self.replay_from {
            self.return_gap(&subject, &action, end);
            subject.consumption.lock().apply(&action, end, self.names);
        }
        Ok(())
    }

    /// What a pull handed out whose record is damaged was given to nobody that is still known: it goes to the group again.
    fn return_gap(&self, subject: &Subject, action: &Action<'_>, end: u64) {
        let (
            Some(segments),
            Action::Pull {
                group,
                consumer,
                cursor_before,
                ..
            },
        ) = (&self.after_damage, action)
        else {
            return;
        };
        let mut consumption = subject.consumption.lock();
        let Some(at) = consumption.find(group, consumer) else {
            return;
        };
        let group = &mut consumption.groups[at];
        let from = group.cursor().max(floor(subject, segments).unwrap_or(0));
        if group.applied() >= end || from >= *cursor_before {
            return;
        }
        let lost = match group.filter() {
            None => (from..*cursor_before).collect(),
            Some(filter) => matching(subject, segments, filter, from, *cursor_before),
        };
        group.take_back(&lost, *cursor_before);
    }

    pub(crate) fn message(
        &mut self,
        segment: &Segment,
        header: &Header,
        subject: &str,
        touched: &mut Vec<u32>,
    ) -> Result<(), &'static str> {
        segment.publish(header.offset + header.record_len());
        let subject = self.subject(subject);
        let entry = Entry {
            position: ((header.offset - segment.base) / 8) as u32,
            tag_fingerprint: header.tag_fingerprint,
        };
        match subject
            .index
            .lock()
            .restore(segment.base, header.sequence, entry)
        {
            Some(true) => touched.push(subject.id),
            Some(false) => {}
            None => return Err("a sequence that was used before"),
        }
        Ok(())
    }

    pub(crate) fn note_time(&mut self, segment: &Segment, header: &Header) {
        self.last_time_ms = self.last_time_ms.max(header.time_ms);
        let first = segment.first_time_ms.load(Ordering::Relaxed);
        if first == 0 {
            segment
                .first_time_ms
                .store(header.time_ms, Ordering::Relaxed);
        }
        segment
            .last_time_ms
            .fetch_max(header.time_ms, Ordering::Relaxed);
    }
}

/// The messages in `from..until` that may pass a group's filter.
fn matching(
    subject: &Subject,
    segments: &Arc<Vec<Arc<Segment>>>,
    filter: &TagFilter,
    from: u64,
    until: u64,
) -> Vec<u64> {
    let fingerprints = FingerprintFilter::new(filter);
    let mut records = Records::new(subject);
    let mut found = Vec::new();
    let walked = walk(
        subject,
        &|| Arc::clone(segments),
        from,
        u64::MAX,
        |segment, sequence, entry| {
            if sequence >= until {
                return false;
            }
            if fingerprints.may_match(entry.tag_fingerprint) {
                let peeked = records.peek(segment, sequence, entry);
                let passes = records.record(&peeked).is_none_or(|record| {
                    Attributes::decode(record.attributes)
                        .map_or(true, |attributes| filter.matches(attributes.tags()))
                });
                if passes {
                    found.push(sequence);
                }
            }
            true
        },
    );
    match walked {
        Ok(()) => found,
        // Too many rather than too few.
        Err(_) => (from..until).collect(),
    }
}
