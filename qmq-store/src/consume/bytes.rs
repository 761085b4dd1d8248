//! What the bytes of an action and of a group's snapshot are made of: numbers, counts, names and filters. Nothing that is read is believed.

use qmq_message::TagFilter;

use super::action::{GroupKind, VERSION};

/// Why bytes are not an action, or not the snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("it ends {missing} bytes too early")]
    Truncated { missing: usize },
    #[error("{bytes} bytes follow its end")]
    Trailing { bytes: usize },
    #[error("its version is {found}; this program reads version {VERSION}")]
    Version { found: u8 },
    #[error("{what} is {found}, which has no meaning")]
    Unknown { what: &'static str, found: u8 },
    #[error("it announces {count} entries, but only {left} bytes follow")]
    TooMany { count: usize, left: usize },
    #[error("a name in it is not UTF-8")]
    NotUtf8,
    #[error("{0}")]
    Impossible(&'static str),
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A count of things in memory: 2^32 of the smallest, 8 bytes each, would be 32 GiB in one action.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    debug_assert!(u32::try_from(count).is_ok());
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

/// Names and tags are at most 255 bytes (checked at the door), so their length always fits.
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    debug_assert!(u16::try_from(text.len()).is_ok());
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_kind(out: &mut Vec<u8>, kind: GroupKind) {
    out.push(match kind {
        GroupKind::Shared => 0,
        GroupKind::Broadcast => 1,
    });
}

pub(super) fn put_filter(out: &mut Vec<u8>, filter: Option<&TagFilter>) {
    let (kind, tags) = match filter {
        None | Some(TagFilter::All) => return out.push(0),
        Some(TagFilter::Any(tags)) => (1, tags),
        Some(TagFilter::Every(tags)) => (2, tags),
    };
    out.push(kind);
    debug_assert!(u16::try_from(tags.len()).is_ok());
    out.extend_from_slice(&(tags.len() as u16).to_le_bytes());
    for tag in tags {
        put_str(out, tag);
    }
}

/// Bytes not read yet.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ActionError> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(ActionError::Truncated {
                missing: N - self.0.len(),
            });
        };
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ActionError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, ActionError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ActionError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ActionError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, ActionError> {
        let len = usize::from(self.u16()?);
        let Some((head, rest)) = self.0.split_at_checked(len) else {
            return Err(ActionError::Truncated {
                missing: len - self.0.len(),
            });
        };
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| ActionError::NotUtf8)
    }

    /// A count of entries of at least `each` bytes, checked against what is left before anyone
    /// allocates for it.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, ActionError> {
        let count = self.u32()? as usize;
        self.fits(count, each)
    }

    fn fits(&self, count: usize, each: usize) -> Result<usize, ActionError> {
        if count > self.0.len() / each {
            return Err(ActionError::TooMany {
                count,
                left: self.0.len(),
            });
        }
        Ok(count)
    }

    pub(super) fn kind(&mut self) -> Result<GroupKind, ActionError> {
        match self.u8()? {
            0 => Ok(GroupKind::Shared),
            1 => Ok(GroupKind::Broadcast),
            found => Err(ActionError::Unknown {
                what: "the kind of group",
                found,
            }),
        }
    }

    pub(super) fn filter(&mut self) -> Result<Option<TagFilter>, ActionError> {
        let kind = self.u8()?;
        if kind == 0 {
            return Ok(None);
        }
        let count = usize::from(self.u16()?);
        let count = self.fits(count, 2)?;
        let tags = (0..count)
            .map(|_| self.str().map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()?;
        match kind {
            1 => Ok(Some(TagFilter::Any(tags))),
            2 => Ok(Some(TagFilter::Every(tags))),
            found => Err(ActionError::Unknown {
                what: "the kind of filter",
                found,
            }),
        }
    }
}
