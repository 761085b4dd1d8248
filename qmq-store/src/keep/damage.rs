//! What was found broken, said in one way everywhere.

use std::fmt;

use crate::log::record::{Header, Kind};

/// What kind of thing is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// A message whose header is good and whose body is not.
    MessageBody,
    /// An action record whose body is not what was written: consumers may get messages again.
    ActionBody,
    /// A batch whose records do not all fit its checksum.
    Batch,
    /// Bytes that should be records and are not.
    Records,
    /// Bytes that the disk refuses to give.
    Unreadable,
    /// A log segment that is missing or too short.
    Segment,
    /// The header of a log segment.
    SegmentHeader,
    /// An index file; it is derived from the log and rebuilt.
    Index,
    /// A checkpoint; the one before it is used.
    Checkpoint,
    /// Synced records at the end of the log are gone.
    LostTail,
    /// A log segment or a checkpoint of another store: nothing of it is used, and it is not removed.
    Foreign,
}

/// A damaged stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub kind: DamageKind,
    /// File that it is in.
    pub file: String,
    /// For the log: offset in the log; else: offset in the file. Bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Subject and sequence, where one message is concerned.
    pub message: Option<(String, u64)>,
}

impl Damage {
    pub(crate) fn new(kind: DamageKind, file: impl Into<String>, offset: u64, len: u64) -> Self {
        Self {
            kind,
            file: file.into(),
            offset,
            len,
            message: None,
        }
    }

    /// A record whose header is good and whose body is not.
    pub(crate) fn of_body(file: &str, header: &Header, subject: &str) -> Self {
        let body = |kind| Self::new(kind, file, header.offset, header.record_len());
        match header.kind {
            Kind::Message => body(DamageKind::MessageBody).of_message(subject, header.sequence),
            Kind::Action | Kind::Batch | Kind::Epoch => body(DamageKind::ActionBody),
        }
    }

    pub(crate) fn of_message(mut self, subject: &str, sequence: u64) -> Self {
        self.message = Some((subject.to_owned(), sequence));
        self
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::MessageBody => "message body",
            DamageKind::ActionBody => "action",
            DamageKind::Batch => "batch",
            DamageKind::Records => "records",
            DamageKind::Unreadable => "unreadable bytes",
            DamageKind::Segment => "segment missing or too short",
            DamageKind::SegmentHeader => "segment header",
            DamageKind::Index => "index",
            DamageKind::Checkpoint => "checkpoint",
            DamageKind::LostTail => "synced records lost at the end",
            DamageKind::Foreign => "belongs to another store",
        };
        write!(
            f,
            "{}: {what} at offset {}, {} bytes",
            self.file, self.offset, self.len
        )?;
        if let Some((subject, sequence)) = &self.message {
            write!(f, " ({subject:?} sequence {sequence})")?;
        }
        Ok(())
    }
}
