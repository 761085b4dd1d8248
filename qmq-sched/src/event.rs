//! What the scheduler writes into the log: messages of a subject of its own, [`SUBJECT`], in one order with each other.
//!
//! The first byte of a body says what it is. Numbers are little-endian.
//!
//! ```text
//! 1 scheduled    due u64, slot u32, generation u32, number of the subject u32, its length u16, subject, the body as it was; the attributes
//!                are the message's own
//! 2 cancelled    place, sequence u64 of the record that put it where it is, subject u32, body length u32
//! 3 rescheduled  place, place that it leaves, place that it takes, sequence u64 of the record with the body, subject u32, body length u32,
//!                generation u32
//! 4 handed out   count u32, so many entries of 32 bytes, then a place for each of them that had been rescheduled
//! 5 dispatched   places
//! 6 dropped      as 4, of messages that were later than their time to live
//! 7 opened       segment.scale.minute u32
//! ```
//!
//! A place is a due time u64 and a slot u32: of a message, where it was scheduled first.

use qmq_store::{Message, MessageView};

use crate::entry::{ENTRY_LEN, Entry, Key, Origin};

/// The subject of all records of a scheduler in its store.
pub const SUBJECT: &str = "%SCHEDULE";

const SCHEDULED: u8 = 1;
const CANCELLED: u8 = 2;
const RESCHEDULED: u8 = 3;
const HANDED_OUT: u8 = 4;
const DISPATCHED: u8 = 5;
const DROPPED: u8 = 6;
const OPENED: u8 = 7;
pub(crate) const KEY_LEN: usize = 12;
/// Most bytes that one message takes in a record which names several.
pub(crate) const NAMED_LEN: usize = ENTRY_LEN + KEY_LEN;
const SCHEDULED_LEN: usize = 1 + KEY_LEN + 4 + 4 + 2;

/// A record of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Scheduled {
        key: Key,
        generation: u32,
        number: u32,
        subject: &'a str,
        body_len: u32,
    },
    Cancelled(Cancel),
    Rescheduled(Move),
    /// Entries, and where each was scheduled first.
    HandedOut(Vec<(Entry, Key)>),
    Dispatched(Vec<Key>),
    Dropped(Vec<(Entry, Key)>),
    Opened {
        segment_scale_minute: u32,
    },
}

/// A message is not to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    /// Where it was scheduled first.
    pub(crate) home: Key,
    /// Of the record that put it where it is.
    pub(crate) sequence: u64,
    pub(crate) subject: u32,
    pub(crate) body_len: u32,
}

/// A message goes from one due time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// Where it was scheduled first.
    pub(crate) home: Key,
    /// Where it is.
    pub(crate) from: Key,
    /// Where it goes.
    pub(crate) to: Key,
    /// Of the record that has its body.
    pub(crate) sequence: u64,
    pub(crate) subject: u32,
    pub(crate) body_len: u32,
    pub(crate) generation: u32,
}

/// The message of the log that stands for a scheduled one. `message` has been checked.
pub(crate) fn scheduled(message: &Message, number: u32, key: Key, generation: u32) -> Message {
    let subject = message.subject().as_bytes();
    let mut body = Vec::with_capacity(SCHEDULED_LEN + subject.len() + message.body().len());
    body.push(SCHEDULED);
    put_key(&mut body, key);
    body.extend_from_slice(&generation.to_le_bytes());
    body.extend_from_slice(&number.to_le_bytes());
    body.extend_from_slice(&(subject.len() as u16).to_le_bytes());
    body.extend_from_slice(subject);
    body.extend_from_slice(message.body());
    message.clone().with_subject(SUBJECT).with_body(body)
}

/// The scheduled message that a message of the log stands for; its body is shared with the log. `None`: it stands for none.
pub(crate) fn message_of(view: &MessageView<'_>) -> Option<Message> {
    let Event::Scheduled { subject, .. } = Event::decode(view.body())? else {
        return None;
    };
    let body = view.body_bytes().slice(SCHEDULED_LEN + subject.len()..);
    let attributes = view.to_message();
    Some(attributes.with_subject(subject).with_body(body))
}

pub(crate) fn cancelled(one: &Cancel) -> Message {
    let mut body = vec![CANCELLED];
    put_key(&mut body, one.home);
    body.extend_from_slice(&one.sequence.to_le_bytes());
    body.extend_from_slice(&one.subject.to_le_bytes());
    body.extend_from_slice(&one.body_len.to_le_bytes());
    Message::new(SUBJECT, body)
}

pub(crate) fn opened(segment_scale_minute: u32) -> Message {
    let mut body = vec![OPENED];
    body.extend_from_slice(&segment_scale_minute.to_le_bytes());
    Message::new(SUBJECT, body)
}

pub(crate) fn dispatched(homes: &[Key]) -> Message {
    let mut body = Vec::with_capacity(1 + homes.len() * KEY_LEN);
    body.push(DISPATCHED);
    homes.iter().for_each(|&home| put_key(&mut body, home));
    Message::new(SUBJECT, body)
}

pub(crate) fn rescheduled(one: &Move) -> Message {
    let mut body = vec![RESCHEDULED];
    for key in [one.home, one.from, one.to] {
        put_key(&mut body, key);
    }
    body.extend_from_slice(&one.sequence.to_le_bytes());
    body.extend_from_slice(&one.subject.to_le_bytes());
    body.extend_from_slice(&one.body_len.to_le_bytes());
    body.extend_from_slice(&one.generation.to_le_bytes());
    Message::new(SUBJECT, body)
}

pub(crate) fn handed_out(entries: &[(Entry, Key)]) -> Message {
    with_entries(HANDED_OUT, entries)
}

pub(crate) fn dropped(entries: &[(Entry, Key)]) -> Message {
    with_entries(DROPPED, entries)
}

fn with_entries(kind: u8, entries: &[(Entry, Key)]) -> Message {
    let mut body = Vec::with_capacity(5 + entries.len() * ENTRY_LEN);
    body.push(kind);
    body.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for (entry, _) in entries {
        body.extend_from_slice(&entry.encode());
    }
    for (_, home) in entries.iter().filter(|(entry, _)| is_moved(entry)) {
        put_key(&mut body, *home);
    }
    Message::new(SUBJECT, body)
}

fn is_moved(entry: &Entry) -> bool {
    entry.origin == Origin::Rescheduled
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: Key) {
    out.extend_from_slice(&key.due_ms.to_le_bytes());
    out.extend_from_slice(&key.slot.to_le_bytes());
}

impl<'a> Event<'a> {
    /// Decodes a body. `None`: not of this version of the scheduler.
    pub(crate) fn decode(body: &'a [u8]) -> Option<Self> {
        let (&kind, mut rest) = body.split_first()?;
        match kind {
            SCHEDULED => {
                let key = take_key(&mut rest)?;
                let generation = u32::from_le_bytes(take(&mut rest)?);
                let number = u32::from_le_bytes(take(&mut rest)?);
                let len = u16::from_le_bytes(take(&mut rest)?);
                let (subject, body) = rest.split_at_checked(usize::from(len))?;
                Some(Self::Scheduled {
                    key,
                    generation,
                    number,
                    subject: std::str::from_utf8(subject).ok()?,
                    body_len: u32::try_from(body.len()).ok()?,
                })
            }
            CANCELLED => {
                let one = Cancel {
                    home: take_key(&mut rest)?,
                    sequence: u64::from_le_bytes(take(&mut rest)?),
                    subject: u32::from_le_bytes(take(&mut rest)?),
                    body_len: u32::from_le_bytes(take(&mut rest)?),
                };
                rest.is_empty().then_some(Self::Cancelled(one))
            }
            RESCHEDULED => {
                let one = Move {
                    home: take_key(&mut rest)?,
                    from: take_key(&mut rest)?,
                    to: take_key(&mut rest)?,
                    sequence: u64::from_le_bytes(take(&mut rest)?),
                    subject: u32::from_le_bytes(take(&mut rest)?),
                    body_len: u32::from_le_bytes(take(&mut rest)?),
                    generation: u32::from_le_bytes(take(&mut rest)?),
                };
                rest.is_empty().then_some(Self::Rescheduled(one))
            }
            HANDED_OUT => Some(Self::HandedOut(take_entries(rest)?)),
            DISPATCHED => Some(Self::Dispatched(take_keys(rest)?)),
            DROPPED => Some(Self::Dropped(take_entries(rest)?)),
            OPENED => {
                let segment_scale_minute = u32::from_le_bytes(take(&mut rest)?);
                rest.is_empty().then_some(Self::Opened {
                    segment_scale_minute,
                })
            }
            _ => None,
        }
    }
}

fn take_entries(mut rest: &[u8]) -> Option<Vec<(Entry, Key)>> {
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    let (entries, mut homes) = rest.split_at_checked(count.checked_mul(ENTRY_LEN)?)?;
    let (entries, _) = entries.as_chunks::<ENTRY_LEN>();
    let mut all = Vec::with_capacity(count);
    for bytes in entries {
        let entry = Entry::decode(bytes)?;
        let home = if is_moved(&entry) {
            take_key(&mut homes)?
        } else {
            entry.key
        };
        all.push((entry, home));
    }
    homes.is_empty().then_some(all)
}

fn take_keys(mut rest: &[u8]) -> Option<Vec<Key>> {
    let mut keys = Vec::with_capacity(rest.len() / KEY_LEN);
    while !rest.is_empty() {
        keys.push(take_key(&mut rest)?);
    }
    Some(keys)
}

pub(crate) fn take_key(input: &mut &[u8]) -> Option<Key> {
    Some(Key {
        due_ms: u64::from_le_bytes(take(input)?),
        slot: u32::from_le_bytes(take(input)?),
    })
}

/// The next `N` bytes.
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*bytes)
}
