//! What travels with a message that waits, and what of it a broker gets to see.

use qmq_message::{Attributes, Message, PROPERTIES_MAX};
use qmq_wire::Durability;

/// Property of a message that waits: what its producer asked that it survive at the broker. Not there: what the broker is configured for.
const DURABILITY: &str = "qmq.delay.durability";
/// Property that a delivered message has if there is room for it: when it was due, in ms since 1970 UTC.
pub const DUE: &str = "qmq.delay.due";

/// The message as it is kept: without its due time, which the scheduler has, and with the durability that is asked for.
#[must_use]
pub(super) fn kept(message: &Message, durability: Durability) -> Message {
    let plain = plain(message);
    match word(durability) {
        Some(word) => plain.property(DURABILITY, word),
        None => plain,
    }
}

/// The message as a broker gets it, and at which durability.
#[must_use]
pub fn for_broker(kept: &Message, due_ms: u64) -> (Message, Durability) {
    let asked = kept.properties().find(|(key, _)| *key == DURABILITY);
    let durability = asked.map_or(Durability::Default, |(_, word)| of_word(word));
    let plain = plain(kept);
    let has_room = plain.properties().len() < PROPERTIES_MAX;
    let with_due = plain.clone().property(DUE, due_ms.to_string());
    let message = if has_room && with_due.check().is_ok() {
        with_due
    } else {
        plain
    };
    (message, durability)
}

/// The message without its due time and the properties of this module: a producer may have received it from a delay server itself.
fn plain(message: &Message) -> Message {
    let mut plain = Message::new(message.subject(), message.body().clone());
    if let Some(id) = message.id() {
        plain = plain.with_id(id);
    }
    for tag in message.tags() {
        plain = plain.tag(tag);
    }
    for (key, value) in message.properties() {
        if key != DURABILITY && key != DUE {
            plain = plain.property(key, value);
        }
    }
    if let Some(time) = message.create_time_ms() {
        plain = plain.with_create_time_ms(time);
    }
    if let Some(key) = message.order_key() {
        plain = plain.with_order_key(key.to_vec());
    }
    plain
}

fn word(durability: Durability) -> Option<&'static str> {
    match durability {
        Durability::Default => None,
        Durability::Buffered => Some("buffered"),
        Durability::Synced => Some("synced"),
        Durability::Replicated => Some("replicated"),
    }
}

fn of_word(word: &str) -> Durability {
    match word {
        "buffered" => Durability::Buffered,
        "synced" => Durability::Synced,
        "replicated" => Durability::Replicated,
        _ => Durability::Default,
    }
}

/// Bytes of attributes that a message to be kept may have at most.
#[must_use]
pub(super) fn has_room(kept: &Message) -> bool {
    kept.properties().len() <= PROPERTIES_MAX
        && Attributes::encoded_len(kept) <= qmq_message::ATTRIBUTES_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Message {
        (0..PROPERTIES_MAX).fold(Message::new("s", "body"), |message, n| {
            message.property(format!("p{n}"), "v")
        })
    }

    #[test]
    fn a_broker_gets_the_message_as_it_was_with_its_due_time_as_a_property() {
        let message = Message::new("s", "body")
            .with_id("7")
            .tag("a")
            .property("own", "x")
            .with_create_time_ms(5)
            .with_order_key("k");
        for durability in [
            Durability::Default,
            Durability::Buffered,
            Durability::Synced,
            Durability::Replicated,
        ] {
            let kept = kept(&message.clone().with_due_time_ms(99), durability);
            assert_eq!(kept.due_time_ms(), None);
            let (sent, asked) = for_broker(&kept, 100);
            assert_eq!(asked, durability);
            assert_eq!(sent, message.clone().property(DUE, "100"));
        }
    }

    #[test]
    fn a_message_that_comes_a_second_time_carries_nothing_of_the_first() {
        let first = kept(&Message::new("s", "body"), Durability::Replicated);
        let (sent, _) = for_broker(&first, 100);
        let again = kept(&sent, Durability::Default);
        assert_eq!(
            for_broker(&again, 200),
            (
                Message::new("s", "body").property(DUE, "200"),
                Durability::Default
            )
        );
        let forged = Message::new("s", "").property(DURABILITY, "replicated");
        assert_eq!(
            for_broker(&kept(&forged, Durability::Default), 1).1,
            Durability::Default
        );
    }

    #[test]
    fn a_message_with_as_many_properties_as_there_may_be_goes_without_the_due_time() {
        let (sent, _) = for_broker(&kept(&full(), Durability::Default), 100);
        assert_eq!(sent, full());
        assert!(has_room(&kept(&full(), Durability::Default)));
        assert!(!has_room(&kept(&full(), Durability::Synced)));
    }
}
