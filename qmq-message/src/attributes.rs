//! The attributes of a message as bytes: what stands in the log beside a body, and what travels with it.
//!
//! A message without attributes has no bytes here at all. Otherwise, integers little-endian:
//!
//! | | |
//! |---|---|
//! | u8 | which are there: 1 id, 2 tags, 4 create time, 8 due time, 16 order key, 32 properties |
//! | u8 length, bytes | id, UTF-8 |
//! | u8 length, bytes | order key |
//! | u64 | create time in ms |
//! | u64 | due time in ms |
//! | u8 count, then for each: u8 length, UTF-8, u16 length, UTF-8 | properties: key and value |
//! | (u8 length, UTF-8) repeated | tags, up to the end |
//!
//! Every message has one encoding only. What was written by this crate is read with [`Attributes::decode`]; what comes from outside goes
//! through [`Attributes::check`] first.

use std::str::from_utf8;

use bytes::Bytes;

use crate::message::{Message, MessageError, check_limits};

/// Most bytes of all attributes of a message together, encoded.
pub const ATTRIBUTES_BYTES_MAX: usize = 48 << 10;

const HAS_ID: u8 = 1;
const HAS_TAGS: u8 = 2;
const HAS_CREATE_TIME: u8 = 4;
const HAS_DUE_TIME: u8 = 8;
const HAS_ORDER_KEY: u8 = 16;
const HAS_PROPERTIES: u8 = 32;
const KNOWN: u8 =
    HAS_ID | HAS_TAGS | HAS_CREATE_TIME | HAS_DUE_TIME | HAS_ORDER_KEY | HAS_PROPERTIES;

/// The attributes of a message, borrowed from their encoding. Nothing is allocated.
///
/// ```
/// use qmq_message::{Attributes, Message};
///
/// let message = Message::new("order.changed", "4711").with_id("7").property("trace", "00-4bf9");
/// let mut bytes = Vec::new();
/// Attributes::encode(&message, &mut bytes)?;
///
/// let attributes = Attributes::check(&bytes)?;
/// assert_eq!(attributes.id(), Some("7"));
/// assert_eq!(attributes.property("trace"), Some("00-4bf9"));
/// assert_eq!(attributes.to_message("order.changed", "4711"), message);
/// # Ok::<(), qmq_message::MessageError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    id: Option<&'a str>,
    order_key: Option<&'a [u8]>,
    create_time_ms: Option<u64>,
    due_time_ms: Option<u64>,
    /// Keys and values one after the other, without their count.
    properties: &'a [u8],
    /// Tags one after the other.
    tags: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Appends the attributes of `message` to `out`; nothing at all when it has none.
    ///
    /// # Errors
    /// What [`Message::check`] says; `out` is as it was then.
    pub fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), MessageError> {
        // Most messages have none, and an append is short.
        if message.is_bare() {
            return Ok(());
        }
        message.check()?;
        put_all(message, out);
        Ok(())
    }

    /// Bytes that [`Attributes::encode`] appends for `message`.
    #[must_use]
    pub fn encoded_len(message: &Message) -> usize {
        let short = |len: Option<usize>| len.map_or(0, |len| 1 + len);
        let time = |time: Option<u64>| time.map_or(0, |_| 8);
        let properties = message.properties();
        let properties = properties.map(|(key, value)| 3 + key.len() + value.len());
        let len = short(message.id().map(str::len))
            + short(message.order_key().map(<[u8]>::len))
            + time(message.create_time_ms())
            + time(message.due_time_ms())
            + properties
                .reduce(|sum, len| sum + len)
                .map_or(0, |sum| 1 + sum)
            + message
                .tags()
                .iter()
                .map(|tag| 1 + tag.len())
                .sum::<usize>();
        if len == 0 { 0 } else { 1 + len }
    }

    /// Takes apart what [`Attributes::encode`] has written, all of `bytes`. Lengths and texts are checked, limits are not.
    ///
    /// # Errors
    /// [`MessageError::Malformed`] if the bytes do not fit their own lengths, a text is not UTF-8, or there is an attribute that this
    /// version does not know.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut attributes = Self::default();
        let Some((&present, mut rest)) = bytes.split_first() else {
            return Ok(attributes);
        };
        let has = |bit| present & bit != 0;
        let malformed = |what| MessageError::Malformed { what };
        if present & !KNOWN != 0 {
            return Err(malformed("mark of which attributes there are"));
        }
        if has(HAS_ID) {
            attributes.id = Some(take_text(&mut rest).ok_or(malformed("message id"))?);
        }
        if has(HAS_ORDER_KEY) {
            attributes.order_key = Some(take_short(&mut rest).ok_or(malformed("order key"))?);
        }
        if has(HAS_CREATE_TIME) {
            attributes.create_time_ms = Some(take_u64(&mut rest).ok_or(malformed("create time"))?);
        }
        if has(HAS_DUE_TIME) {
            attributes.due_time_ms = Some(take_u64(&mut rest).ok_or(malformed("due time"))?);
        }
        if has(HAS_PROPERTIES) {
            attributes.properties =
                take_properties(&mut rest).ok_or(malformed("list of properties"))?;
        }
        attributes.tags = rest;
        while !rest.is_empty() {
            take_text(&mut rest).ok_or(malformed("list of tags"))?;
        }
        if has(HAS_TAGS) == attributes.tags.is_empty() {
            return Err(malformed("list of tags"));
        }
        Ok(attributes)
    }

    /// As [`Attributes::decode`], for bytes from outside: refuses also what [`Message::check`] would refuse of the same attributes, and
    /// whatever [`Attributes::encode`] would have written in another way. Nothing is allocated unless something is refused.
    ///
    /// # Errors
    /// [`MessageError`], which names the attribute and the rule.
    pub fn check(bytes: &'a [u8]) -> Result<Self, MessageError> {
        // First, so that a huge field costs no look at it.
        check_total(bytes.len())?;
        if bytes == [0] {
            // None marked: then there are no bytes at all.
            return Err(MessageError::Malformed {
                what: "mark of which attributes there are",
            });
        }
        let attributes = Self::decode(bytes)?;
        check_limits(
            attributes.id,
            attributes.tags(),
            attributes.properties(),
            attributes.order_key,
        )?;
        Ok(attributes)
    }

    /// The producer's id, if it gave one.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.id
    }

    /// The tags, in the order in which they were added.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let mut rest = self.tags;
        // Texts have been looked at when this was decoded.
        std::iter::from_fn(move || take_text(&mut rest))
    }

    /// The properties, key and value, in the order in which they were added.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let mut rest = self.properties;
        std::iter::from_fn(move || take_property(&mut rest))
    }

    /// The value of a property, if there is one of that key.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&'a str> {
        let mut properties = self.properties();
        properties.find_map(|(known, value)| (known == key).then_some(value))
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
    pub fn order_key(&self) -> Option<&'a [u8]> {
        self.order_key
    }

    /// A message of `subject` with these attributes.
    #[must_use]
    pub fn to_message(&self, subject: impl Into<String>, body: impl Into<Bytes>) -> Message {
        let mut message = Message::new(subject, body);
        if let Some(id) = self.id {
            message = message.with_id(id);
        }
        if let Some(key) = self.order_key {
            message = message.with_order_key(key.to_vec());
        }
        if let Some(time) = self.create_time_ms {
            message = message.with_create_time_ms(time);
        }
        if let Some(time) = self.due_time_ms {
            message = message.with_due_time_ms(time);
        }
        for (key, value) in self.properties() {
            message = message.property(key, value);
        }
        self.tags().fold(message, Message::tag)
    }
}

/// Checks the length of all attributes together.
pub(crate) fn check_total(bytes: usize) -> Result<(), MessageError> {
    let max = ATTRIBUTES_BYTES_MAX;
    if bytes > max {
        let what = "encoding of all attributes together";
        return Err(MessageError::TooLong { what, bytes, max });
    }
    Ok(())
}

/// The encoding of a message whose lengths and counts fit their fields; what does not is cut.
fn put_all(message: &Message, out: &mut Vec<u8>) {
    let mut present = 0;
    let mut mark = |has: bool, bit: u8| present |= if has { bit } else { 0 };
    mark(message.id().is_some(), HAS_ID);
    mark(!message.tags().is_empty(), HAS_TAGS);
    mark(message.create_time_ms().is_some(), HAS_CREATE_TIME);
    mark(message.due_time_ms().is_some(), HAS_DUE_TIME);
    mark(message.order_key().is_some(), HAS_ORDER_KEY);
    mark(message.properties().len() > 0, HAS_PROPERTIES);
    if present == 0 {
        return;
    }
    out.push(present);
    if let Some(id) = message.id() {
        put_short(id.as_bytes(), out);
    }
    if let Some(key) = message.order_key() {
        put_short(key, out);
    }
    let times = [message.create_time_ms(), message.due_time_ms()];
    for time in times.into_iter().flatten() {
        out.extend_from_slice(&time.to_le_bytes());
    }
    if present & HAS_PROPERTIES != 0 {
        let count = u8::try_from(message.properties().len()).unwrap_or(u8::MAX);
        out.push(count);
        for (key, value) in message.properties().take(count.into()) {
            put_short(key.as_bytes(), out);
            let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&value.as_bytes()[..len.into()]);
        }
    }
    for tag in message.tags() {
        put_short(tag.as_bytes(), out);
    }
}

fn put_short(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(&bytes[..len.into()]);
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(bytes)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&len, tail) = rest.split_first()?;
    *rest = tail;
    take(rest, len.into())
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    from_utf8(take_short(rest)?).ok()
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?))
}

fn take_property<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a str)> {
    let key = take_text(rest)?;
    let len = u16::from_le_bytes(take(rest, 2)?.try_into().ok()?);
    let value = from_utf8(take(rest, len.into())?).ok()?;
    Some((key, value))
}

/// Count and properties; the bytes behind the count. None of them at all is not written, and is refused.
fn take_properties<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&count, all) = rest.split_first().filter(|(count, _)| **count > 0)?;
    let mut tail = all;
    for _ in 0..count {
        take_property(&mut tail)?;
    }
    *rest = tail;
    all.get(..all.len() - tail.len())
}

#[cfg(test)]
mod tests;
