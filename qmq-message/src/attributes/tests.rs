use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn full() -> Message {
    Message::new("s", "body")
        .with_id("id-1")
        .with_order_key(vec![0, 9])
        .with_create_time_ms(77)
        .with_due_time_ms(78)
        .property("trace", "00-4bf9")
        .property("empty", "")
        .tag("pay")
        .tag("vip")
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    Attributes::encode(message, &mut bytes).unwrap();
    bytes
}

fn malformed(what: &'static str) -> Result<Attributes<'static>, MessageError> {
    Err(MessageError::Malformed { what })
}

/// The example in docs/format.md's words: who writes a reader from it reads these bytes.
#[test]
fn the_encoding_is_the_documented_one() {
    let message = Message::new("s", "")
        .with_id("i")
        .with_order_key("k")
        .with_create_time_ms(1)
        .with_due_time_ms(2)
        .property("p", "vv")
        .tag("t");
    let expected = b"\x3f\x01i\x01k\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\x01p\x02\0vv\x01t";
    assert_eq!(encoded(&message), expected);
    assert_eq!(encoded(&Message::new("s", "body")), b"");
}

#[test]
fn accessors_give_back_what_was_encoded() {
    let bytes = encoded(&full());
    let attributes = Attributes::check(&bytes).unwrap();
    assert_eq!(attributes, Attributes::decode(&bytes).unwrap());
    assert_eq!(attributes.id(), Some("id-1"));
    assert_eq!(attributes.order_key(), Some(&[0, 9][..]));
    assert_eq!(attributes.create_time_ms(), Some(77));
    assert_eq!(attributes.due_time_ms(), Some(78));
    assert_eq!(attributes.tags().collect::<Vec<_>>(), ["pay", "vip"]);
    let properties = [("trace", "00-4bf9"), ("empty", "")];
    assert_eq!(attributes.properties().collect::<Vec<_>>(), properties);
    assert_eq!(attributes.property("trace"), Some("00-4bf9"));
    assert_eq!(attributes.property("empty"), Some(""));
    assert_eq!(attributes.property("vip"), None);
    assert_eq!(attributes.to_message("s", "body"), full());
}

#[test]
fn no_bytes_are_no_attributes() {
    let none = Attributes::check(&[]).unwrap();
    assert_eq!(none, Attributes::default());
    assert_eq!(none.to_message("s", "b"), Message::new("s", "b"));
}

#[test]
fn a_message_that_check_refuses_is_not_encoded() {
    let mut bytes = vec![1, 2, 3];
    let refused = Attributes::encode(&full().tag(""), &mut bytes);
    assert_eq!(refused, Err(MessageError::Empty { what: "tag" }));
    assert_eq!(bytes, [1, 2, 3]);
}

#[test]
fn an_attribute_of_a_later_version_is_refused() {
    for bit in [64, 128] {
        let mut bytes = encoded(&full());
        bytes[0] |= bit;
        let refused = malformed("mark of which attributes there are");
        assert_eq!(Attributes::decode(&bytes), refused);
        assert_eq!(Attributes::check(&bytes), refused);
    }
}

#[test]
fn what_no_message_encodes_to_is_refused() {
    let cases: [(&[u8], &str); 10] = [
        (b"\0", "mark of which attributes there are"),
        (b"\0\x01t", "list of tags"),
        (b"\x01\x02i", "message id"),
        (b"\x01\x01\xff", "message id"),
        (b"\x10", "order key"),
        (b"\x04\0\0\0\0\0\0\0", "create time"),
        (b"\x20\0", "list of properties"),
        (b"\x20\x02\x01p\0\0", "list of properties"),
        (b"\x02", "list of tags"),
        (b"\x01\x01i\0", "list of tags"),
    ];
    for (bytes, what) in cases {
        assert_eq!(Attributes::check(bytes), malformed(what), "{bytes:?}");
    }
}

#[test]
fn from_outside_every_limit_of_a_message_counts() {
    let empty = |what| Err(MessageError::Empty { what });
    assert_eq!(Attributes::check(b"\x01\0"), empty("message id"));
    assert_eq!(Attributes::check(b"\x10\0"), empty("order key"));
    assert_eq!(Attributes::check(b"\x02\0"), empty("tag"));
    assert_eq!(
        Attributes::check(b"\x20\x01\0\x01\0v"),
        empty("property key")
    );
    let tags = [&b"\x02"[..], &b"\x01t".repeat(65)].concat();
    let refused = MessageError::TooManyTags { count: 65, max: 64 };
    assert_eq!(Attributes::check(&tags), Err(refused));
    let twice = b"\x20\x02\x01p\x01\0a\x01p\x01\0b";
    let key = "p".to_owned();
    assert_eq!(
        Attributes::check(twice),
        Err(MessageError::RepeatedProperty { key })
    );
    // The same bytes are read, if they stand in a log all the same.
    assert_eq!(Attributes::decode(twice).unwrap().property("p"), Some("a"));
}

#[test]
fn properties_stay_within_their_limits() {
    let bare = || Message::new("s", "");
    let long = |what, bytes, max| Err(MessageError::TooLong { what, bytes, max });
    let (key, value) = ("property key", "property value");
    let with = |key: usize, value: usize| bare().property("k".repeat(key), "v".repeat(value));
    assert_eq!(with(255, 32_768).check(), Ok(()));
    assert_eq!(with(256, 0).check(), long(key, 256, 255));
    assert_eq!(with(1, 32_769).check(), long(value, 32_769, 32_768));
    assert_eq!(with(0, 1).check(), Err(MessageError::Empty { what: key }));
    let many = |count: usize| (0..count).fold(bare(), |m, n| m.property(n.to_string(), ""));
    assert_eq!(many(64).check(), Ok(()));
    let refused = MessageError::TooManyProperties { count: 65, max: 64 };
    assert_eq!(many(65).check(), Err(refused));
    let replaced = bare()
        .property("a", "1")
        .property("b", "2")
        .property("a", "3");
    assert_eq!(
        replaced.properties().collect::<Vec<_>>(),
        [("a", "3"), ("b", "2")]
    );
}

#[test]
fn all_attributes_together_take_48_kib_and_not_one_byte_more() {
    // Mark, count, and 3 bytes and the key of each property.
    let filled = |last: usize| {
        Message::new("s", "")
            .property("a", "v".repeat(32_768))
            .property("b", "v".repeat(last))
    };
    let fits = 49_152 - 2 - 2 * 4 - 32_768;
    assert_eq!(encoded(&filled(fits)).len(), ATTRIBUTES_BYTES_MAX);
    let refused = MessageError::TooLong {
        what: "encoding of all attributes together",
        bytes: 49_153,
        max: 49_152,
    };
    assert_eq!(filled(fits + 1).check(), Err(refused.clone()));
    let mut bytes = Vec::new();
    put_all(&filled(fits + 1), &mut bytes);
    assert_eq!(Attributes::check(&bytes), Err(refused));
}

prop_compose! {
    /// Messages whose lengths and counts fit their fields, inside and outside of the limits.
    fn messages()(
        id in option::of("[a-zé]{0,6}"),
        key in option::of(vec(any::<u8>(), 0..4)),
        (create, due) in (option::of(any::<u64>()), option::of(any::<u64>())),
        properties in prop_oneof![
            8 => vec(("[a-z]{1,4}", 0_usize..40), 0..5),
            1 => vec(("[a-z]{0,3}", 0_usize..40), 0..5),
            1 => vec(("[a-z]{1,3}", 16_000_usize..33_000), 1..4),
            1 => vec(("[a-z]{4}", 0_usize..3), 60..70),
        ],
        tags in prop_oneof![
            8 => vec("[a-zü]{1,5}", 0..5),
            1 => vec("[a-z]{0,2}", 0..5),
            1 => vec("[a-z]{1,3}", 60..70),
        ],
    ) -> Message {
        let mut message = Message::new("s", "body");
        if let Some(id) = id {
            message = message.with_id(id);
        }
        if let Some(key) = key {
            message = message.with_order_key(key);
        }
        if let Some(time) = create {
            message = message.with_create_time_ms(time);
        }
        if let Some(time) = due {
            message = message.with_due_time_ms(time);
        }
        for (key, len) in properties {
            message = message.property(key, "v".repeat(len));
        }
        tags.into_iter().fold(message, Message::tag)
    }
}

proptest! {
    #[test]
    fn the_encoding_passes_exactly_when_the_message_does(message in messages()) {
        let mut bytes = Vec::new();
        put_all(&message, &mut bytes);
        prop_assert_eq!(bytes.len(), Attributes::encoded_len(&message));
        prop_assert_eq!(Attributes::check(&bytes).is_ok(), message.check().is_ok());
        let mut out = Vec::new();
        let encoded = Attributes::encode(&message, &mut out);
        prop_assert_eq!(&encoded, &message.check());
        let expected = if encoded.is_ok() { &bytes[..] } else { &[] };
        prop_assert_eq!(&out, expected);
        let back = Attributes::decode(&bytes).unwrap();
        prop_assert_eq!(back.to_message("s", "body"), message);
    }

    #[test]
    fn what_passes_is_what_would_be_written(message in messages(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in 0_usize..3) {
        let mut bytes = Vec::new();
        put_all(&message, &mut bytes);
        bytes.truncate(bytes.len().saturating_sub(cut));
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(attributes) = Attributes::check(&bytes) {
            let message = attributes.to_message("s", "");
            prop_assert_eq!(message.check(), Ok(()));
            prop_assert_eq!(encoded(&message), bytes);
        }
    }
}
