//! The message: a subject, a body, and attributes.

use bytes::Bytes;
use thiserror::Error;

use crate::attributes::{Attributes, check_total};

/// Most bytes of a message's id.
pub const ID_BYTES_MAX: usize = 255;

/// Most tags of a message or of a filter.
pub const TAGS_MAX: usize = 64;

/// Most bytes of one tag.
pub const TAG_BYTES_MAX: usize = 255;

/// Most bytes of an order key.
pub const ORDER_KEY_BYTES_MAX: usize = 255;

/// Most properties of a message.
pub const PROPERTIES_MAX: usize = 64;

/// Most bytes of a property's key.
pub const PROPERTY_KEY_BYTES_MAX: usize = 255;

/// Most bytes of a property's value.
pub const PROPERTY_VALUE_BYTES_MAX: usize = 32 << 10;

/// Why the attributes of a message, or a filter, were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// An attribute is set but has no bytes.
    #[error("the {what} is empty; give it at least one byte or leave it out")]
    Empty {
        /// The attribute: `message id`, `tag`, `property key` or `order key`.
        what: &'static str,
    },
    /// An attribute is longer than allowed.
    #[error(
        "the {what} has {bytes} bytes, and at most {max} are allowed; shorten it, or put it in the body"
    )]
    TooLong {
        /// The attribute: `message id`, `tag`, `property key`, `property value`, `order key`, or all of them together.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The longest length that is allowed, in bytes.
        max: usize,
    },
    /// There are more tags than allowed.
    #[error(
        "there are {count} tags, and at most {max} are allowed; drop some, or put them in the body"
    )]
    TooManyTags {
        /// How many there are.
        count: usize,
        /// The most that are allowed.
        max: usize,
    },
    /// There are more properties than allowed.
    #[error(
        "there are {count} properties, and at most {max} are allowed; drop some, or put them in the body"
    )]
    TooManyProperties {
        /// How many there are.
        count: usize,
        /// The most that are allowed.
        max: usize,
    },
    /// Two properties have one key.
    #[error("there are two properties {key:?}; give each key one value")]
    RepeatedProperty {
        /// The key.
        key: String,
    },
    /// Encoded attributes that are not what any message's would be.
    #[error(
        "the {what} is not as it would be written; encode attributes with Attributes::encode, or as docs/format.md says"
    )]
    Malformed {
        /// The part of the encoding.
        what: &'static str,
    },
    /// A filter by tags names none.
    #[error(
        "the filter names no tag; name at least one, or let all messages pass with TagFilter::All"
    )]
    NoTags,
}

/// A message, as a producer makes it.
///
/// Only the subject and the body are required. The limits of the attributes are checked by [`Message::check`], those
/// of the subject by [`check_subject`](crate::check_subject), and that of the body by the store that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    subject: String,
    body: Bytes,
    id: Option<String>,
    tags: Vec<String>,
    properties: Vec<(String, String)>,
    create_time_ms: Option<u64>,
    due_time_ms: Option<u64>,
    order_key: Option<Bytes>,
}

impl Message {
    /// A message of `subject` without attributes.
    #[must_use]
    pub fn new(subject: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            body: body.into(),
            id: None,
            tags: Vec::new(),
            properties: Vec::new(),
            create_time_ms: None,
            due_time_ms: None,
            order_key: None,
        }
    }

    /// Sets the id that the producer knows the message by: 1 to [`ID_BYTES_MAX`] bytes.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a tag of 1 to [`TAG_BYTES_MAX`] bytes; a message takes up to [`TAGS_MAX`].
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets a property of the application's own, such as the context of a trace, in place of one with the same key. A message takes up to
    /// [`PROPERTIES_MAX`], with keys of 1 to [`PROPERTY_KEY_BYTES_MAX`] and values of up to [`PROPERTY_VALUE_BYTES_MAX`] bytes.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        match self.properties.iter_mut().find(|(known, _)| *known == key) {
            Some((_, before)) => *before = value,
            None => self.properties.push((key, value)),
        }
        self
    }

    /// Sets when the message was made, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn with_create_time_ms(mut self, time_ms: u64) -> Self {
        self.create_time_ms = Some(time_ms);
        self
    }

    /// Sets the time before which the message is not delivered, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn with_due_time_ms(mut self, time_ms: u64) -> Self {
        self.due_time_ms = Some(time_ms);
        self
    }

    /// Takes the due time away: the message is delivered at once.
    #[must_use]
    pub fn without_due_time(mut self) -> Self {
        self.due_time_ms = None;
        self
    }

    /// Sets the key among whose messages the order of delivery matters: 1 to [`ORDER_KEY_BYTES_MAX`] bytes.
    #[must_use]
    pub fn with_order_key(mut self, key: impl Into<Bytes>) -> Self {
        self.order_key = Some(key.into());
        self
    }

    /// The same message for another subject.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// The same message with another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The body. A clone of it shares the bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The producer's id, if it gave one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The tags, in the order in which they were added.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The properties, key and value, in the order in which they were first set.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        let properties = self.properties.iter();
        properties.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// When the message was made, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn create_time_ms(&self) -> Option<u64> {
        self.create_time_ms
    }

    /// The time before which the message is not delivered, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn due_time_ms(&self) -> Option<u64> {
        self.due_time_ms
    }

    /// The key among whose messages the order of delivery matters.
    #[must_use]
    pub fn order_key(&self) -> Option<&[u8]> {
        self.order_key.as_deref()
    }

    /// Whether it has no attributes at all.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.id.is_none()
            && self.order_key.is_none()
            && self.create_time_ms.is_none()
            && self.due_time_ms.is_none()
            && self.properties.is_empty()
            && self.tags.is_empty()
    }

    /// Checks the limits of the attributes: those of the id, the tags, the properties, the order key and of all together
    /// ([`ATTRIBUTES_BYTES_MAX`](crate::ATTRIBUTES_BYTES_MAX)), not those of the subject and the body. Names the first
    /// attribute that breaks one.
    pub fn check(&self) -> Result<(), MessageError> {
        check_limits(
            self.id(),
            self.tags.iter().map(String::as_str),
            self.properties(),
            self.order_key(),
        )?;
        check_total(Attributes::encoded_len(self))
    }
}

/// Checks each attribute against its limit.
pub(crate) fn check_limits<'a>(
    id: Option<&str>,
    tags: impl Iterator<Item = &'a str> + Clone,
    properties: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    order_key: Option<&[u8]>,
) -> Result<(), MessageError> {
    if let Some(id) = id {
        check_length("message id", id.len(), ID_BYTES_MAX)?;
    }
    check_tags(tags)?;
    check_properties(properties)?;
    if let Some(key) = order_key {
        check_length("order key", key.len(), ORDER_KEY_BYTES_MAX)?;
    }
    Ok(())
}

/// Checks the number and the lengths of tags; none at all is fine.
pub(crate) fn check_tags<'a>(
    mut tags: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), MessageError> {
    let (count, max) = (tags.clone().count(), TAGS_MAX);
    if count > max {
        return Err(MessageError::TooManyTags { count, max });
    }
    tags.try_for_each(|tag| check_length("tag", tag.len(), TAG_BYTES_MAX))
}

fn check_properties<'a>(
    properties: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), MessageError> {
    let all = properties.clone();
    let (count, max) = (all.clone().count(), PROPERTIES_MAX);
    if count > max {
        return Err(MessageError::TooManyProperties { count, max });
    }
    for (at, (key, value)) in properties.enumerate() {
        check_length("property key", key.len(), PROPERTY_KEY_BYTES_MAX)?;
        if !value.is_empty() {
            check_length("property value", value.len(), PROPERTY_VALUE_BYTES_MAX)?;
        }
        if all.clone().take(at).any(|(known, _)| known == key) {
            let key = key.to_owned();
            return Err(MessageError::RepeatedProperty { key });
        }
    }
    Ok(())
}

fn check_length(what: &'static str, bytes: usize, max: usize) -> Result<(), MessageError> {
    match bytes {
        0 => Err(MessageError::Empty { what }),
        bytes if bytes > max => Err(MessageError::TooLong { what, bytes, max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accessors_give_back_what_the_builders_took() {
        let message = Message::new("a", "body")
            .with_id("7")
            .tag("x")
            .tag("y")
            .with_create_time_ms(1)
            .with_due_time_ms(2)
            .with_order_key("key")
            .with_subject("b");
        assert_eq!(message.subject(), "b");
        assert_eq!(message.body().as_ref(), b"body");
        assert_eq!(message.id(), Some("7"));
        assert_eq!(message.tags(), ["x", "y"]);
        assert_eq!(message.create_time_ms(), Some(1));
        assert_eq!(message.due_time_ms(), Some(2));
        assert_eq!(message.order_key(), Some(&b"key"[..]));
        assert_eq!(message.check(), Ok(()));
    }

    #[test]
    fn a_bare_message_has_no_attributes_and_passes() {
        let message = Message::new("a", Bytes::new());
        assert_eq!((message.id(), message.order_key()), (None, None));
        assert_eq!(
            (message.create_time_ms(), message.due_time_ms()),
            (None, None)
        );
        assert!(message.tags().is_empty() && message.body().is_empty());
        assert_eq!(message.check(), Ok(()));
    }

    #[test]
    fn the_subject_is_not_among_the_checked_attributes() {
        assert_eq!(Message::new("not / a subject", "").check(), Ok(()));
    }

    #[test]
    fn an_empty_attribute_is_refused_by_its_name() {
        let bare = || Message::new("a", "");
        let cases = [
            (bare().with_id(""), "message id"),
            (bare().tag("x").tag(""), "tag"),
            (bare().with_order_key(""), "order key"),
        ];
        for (message, what) in cases {
            assert_eq!(message.check(), Err(MessageError::Empty { what }));
        }
    }

    #[test]
    fn attributes_take_255_bytes_and_not_256() {
        type Build = fn(String) -> Message;
        let cases: [(Build, &str); 3] = [
            (|text| Message::new("a", "").with_id(text), "message id"),
            (|text| Message::new("a", "").tag(text), "tag"),
            (
                |text| Message::new("a", "").with_order_key(text),
                "order key",
            ),
        ];
        for (build, what) in cases {
            assert_eq!(build("x".repeat(255)).check(), Ok(()));
            let refused = build("x".repeat(256)).check();
            assert_eq!(
                refused,
                Err(MessageError::TooLong {
                    what,
                    bytes: 256,
                    max: 255
                })
            );
        }
    }

    #[test]
    fn a_message_takes_64_tags_and_not_65() {
        let tagged =
            |count: usize| (0..count).fold(Message::new("a", ""), |m, n| m.tag(n.to_string()));
        assert_eq!(tagged(64).check(), Ok(()));
        assert_eq!(
            tagged(65).check(),
            Err(MessageError::TooManyTags { count: 65, max: 64 })
        );
    }

    proptest! {
        #[test]
        fn a_message_passes_exactly_within_the_limits(id in 0_usize..300, tags in 0_usize..80, key in 0_usize..300) {
            let message = (0..tags)
                .fold(Message::new("a", ""), |m, n| m.tag(format!("t{n}")))
                .with_id("x".repeat(id))
                .with_order_key(vec![0; key]);
            let within = (1..=255).contains(&id) && tags <= 64 && (1..=255).contains(&key);
            prop_assert_eq!(message.check().is_ok(), within);
        }
    }
}
