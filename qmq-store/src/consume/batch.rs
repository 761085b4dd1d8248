//! What a consumer gets: messages, and as whom it settles them.

use std::ops::Deref;

use crate::records::Records;

/// A consumer of a group on a subject, as of an incarnation of the store: as whom a caller settles.
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
    pub(super) member: Member,
    pub(super) records: Records,
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
