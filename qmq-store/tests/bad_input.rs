//! What comes from outside meets limits with names: a clear error each, and nothing changed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use qmq_store::message::subject_from_bytes;
use qmq_store::{
    Durability, Error, Message, OpenError, Options, PullRequest, Start, Store, TagFilter,
};
use support::{House, everything, request, small_options};

fn bad_names() -> Vec<(String, &'static str)> {
    let with = |name: &str, rule| (name.to_owned(), rule);
    vec![
        with("", "empty"),
        with(".", "only dots"),
        with("..", "only dots"),
        with("../../etc/passwd", "'/'"),
        with("/etc/passwd", "'/'"),
        with("a\\b", "'\\\\'"),
        with("a b", "' '"),
        with("a\nb", "'\\n'"),
        with("a\0b", "'\\0'"),
        ("x".repeat(256), "256 bytes"),
        ("x".repeat(70_000), "70000 bytes"),
        ("\u{e9}".repeat(128), "256 bytes"),
    ]
}

#[test]
fn a_bad_name_is_refused_with_the_rule_it_breaks_wherever_it_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    let store = Store::open(&inside, small_options()).unwrap();
    store.append(&Message::new("good", "x")).unwrap();
    let batch = store.pull(&PullRequest::new("good", "g", "c")).unwrap();
    let number = batch.iter().next().unwrap().pull_sequence();
    let before = (store.watermarks(), everything(folder.path()));
    for (name, rule) in bad_names() {
        let good = || Message::new("good", "x");
        let bad = Message::new(&name, "x");
        let outcomes = [
            store.append(&bad).map(drop),
            store.append_with(&bad, Durability::Buffered).map(drop),
            store
                .append_batch(&[good(), bad.clone()], Durability::Synced)
                .map(drop),
            store.pull(&PullRequest::new(&name, "g", "c")).map(drop),
            store.pull(&PullRequest::new("good", &name, "c")).map(drop),
            store.pull(&PullRequest::new("good", "g", &name)).map(drop),
            store
                .copy_and_ack(batch.member(), number, &name, Durability::Synced)
                .map(drop),
        ];
        for (way, outcome) in outcomes.into_iter().enumerate() {
            let error = outcome.expect_err(&format!("{name:?} by way {way}"));
            assert!(matches!(error, Error::Name(_)), "way {way}: {error:?}");
            assert!(error.to_string().contains(rule), "way {way}: {error}");
        }
    }
    assert_eq!(store.watermarks(), before.0);
    assert!(everything(folder.path()) == before.1);
    assert_eq!(store.ack(&batch).unwrap().acked, 1);
}

#[test]
fn a_name_that_is_not_utf_8_is_refused() {
    let error = subject_from_bytes(b"ab\xffcd").unwrap_err();
    assert!(
        error.to_string().contains("not UTF-8 from byte 2"),
        "{error}"
    );
    assert_eq!(
        subject_from_bytes("\u{8ba2}\u{5355}".as_bytes()),
        Ok("\u{8ba2}\u{5355}")
    );
}

#[test]
fn a_name_up_to_the_limit_works_whatever_it_looks_like() {
    let mut house = House::new();
    let names = [
        "x".repeat(255),
        "\u{8ba2}".repeat(85),
        "...".to_owned(),
        "-rf".to_owned(),
        "NUL:".to_owned(),
        "%RETRY%a%b".to_owned(),
    ];
    for name in &names {
        house.send(name, name.as_bytes());
        let request = PullRequest::new(name, "g".repeat(100), name);
        assert_eq!(house.store().pull(&request).unwrap().len(), 1);
    }
    house.kill();
    for name in &names {
        let read = house.store().read(name, 0, 10).unwrap();
        assert_eq!(support::bodies(&read), std::slice::from_ref(name));
    }
}

#[test]
fn a_body_up_to_the_limit_works_and_one_byte_more_is_refused_with_the_limit() {
    let house = House::with(|options| options.body_bytes_max = 10_000);
    for good in [0, 1, 9_999, 10_000] {
        house.send("s", vec![1; good]);
    }
    for bad in [10_001, 1 << 20] {
        let message = Message::new("s", vec![1; bad]);
        let error = house.store().append(&message).unwrap_err();
        assert!(matches!(error, Error::BodyTooLarge { max: 10_000, .. }));
        assert!(error.to_string().contains("10000"), "{error}");
    }
    assert_eq!(house.store().read("s", 0, 10).unwrap().len(), 4);
}

#[test]
fn a_batch_up_to_the_limit_works_a_larger_one_is_refused_whole_and_an_empty_one_too() {
    let house = House::with(|options| options.batch_bytes_max = 8_192);
    let send = |count, len| {
        let batch = vec![Message::new("s", vec![1; len]); count];
        house.store().append_batch(&batch, Durability::Buffered)
    };
    // A batch takes 64 bytes, and a message of subject "s" 65 and its body, up to a multiple of 8.
    assert_eq!(send(8, 951).unwrap().sequences.len(), 8);
    let large = send(8, 952).unwrap_err();
    assert!(
        matches!(large, Error::BatchTooLarge { bytes, max: 8_192 } if bytes > 8_192),
        "{large:?}"
    );
    assert!(matches!(send(0, 0), Err(Error::EmptyBatch)));
    assert_eq!(house.store().read("s", 0, 100).unwrap().len(), 8);
}

#[test]
fn attributes_and_filters_have_limits() {
    let house = House::new();
    let message = || Message::new("s", "x");
    let many = (0..65).fold(message(), |message, tag| message.tag(tag.to_string()));
    let refused = [
        message().with_id(""),
        message().with_id("i".repeat(256)),
        message().tag(""),
        message().tag("t".repeat(256)),
        many,
        message().with_order_key(vec![]),
        message().with_order_key(vec![0; 256]),
    ];
    for message in refused {
        let error = house.store().append(&message).unwrap_err();
        assert!(matches!(error, Error::Message(_)), "{error:?}");
    }
    let full = (0..64).fold(message(), |message, _| message.tag("t".repeat(255)));
    let full = full.with_id("i".repeat(255)).with_order_key(vec![0; 255]);
    house.send_message(&full);
    let read = house.store().read("s", 0, 1).unwrap();
    let back = read.iter().next().unwrap().message().unwrap().to_message();
    assert_eq!(back, full);
    let too_many = (0..65).map(|tag| tag.to_string()).collect();
    for filter in [
        TagFilter::Any(vec![]),
        TagFilter::Every(vec![]),
        TagFilter::Any(too_many),
        TagFilter::Every(vec![String::new()]),
    ] {
        let error = house
            .store()
            .pull(&request("c").filter(filter))
            .unwrap_err();
        assert!(matches!(error, Error::Message(_)), "{error:?}");
    }
}

#[test]
fn there_are_as_many_subjects_as_allowed_whoever_creates_them() {
    let mut house = House::with(|options| options.subjects_max = 3);
    for subject in ["a", "b", "c"] {
        house.send(subject, "x");
    }
    for _ in 0..2 {
        let full = |outcome: Result<(), Error>| {
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, Error::TooManySubjects { max: 3, .. }),
                "{error:?}"
            );
        };
        let store = house.store();
        full(store.append(&Message::new("d", "x")).map(drop));
        full(store.pull(&PullRequest::new("d", "g", "c")).map(drop));
        let batch = [Message::new("a", "x"), Message::new("d", "x")];
        full(store.append_batch(&batch, Durability::Buffered).map(drop));
        house.send("a", "x");
        house.kill();
    }
}

#[test]
fn the_new_subjects_of_one_batch_count_together() {
    let house = House::with(|options| options.subjects_max = 3);
    let batch: Vec<Message> = (0..4).map(|n| Message::new(n.to_string(), "x")).collect();
    let refused = house.store().append_batch(&batch, Durability::Buffered);
    assert!(
        matches!(refused, Err(Error::TooManySubjects { .. })),
        "{refused:?}"
    );
}

#[test]
fn an_option_out_of_its_range_is_named_with_its_range_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 14] = [
        ("segment_bytes", |o| o.segment_bytes = (64 << 10) - 1),
        ("segment_bytes", |o| o.segment_bytes = (4 << 30) + 1),
        ("body_bytes_max", |o| o.body_bytes_max = 0),
        ("body_bytes_max", |o| o.body_bytes_max = (16 << 10) + 1),
        ("batch_bytes_max", |o| o.batch_bytes_max = (32 << 10) + 1),
        ("subjects_max", |o| o.subjects_max = 0),
        ("subjects_max", |o| o.subjects_max = (1 << 24) + 1),
        ("flush_interval", |o| o.flush_interval = Duration::ZERO),
        ("flush_bytes", |o| o.flush_bytes = 0),
        ("unacked_max", |o| o.unacked_max = 0),
        ("lease", |o| o.lease = Duration::from_millis(99)),
        ("checkpoint_bytes", |o| o.checkpoint_bytes = 0),
        ("mapped_files_max", |o| o.mapped_files_max = 15),
        ("scan_max", |o| o.scan_max = 999),
    ];
    for (name, change) in changes {
        let mut options = small_options();
        change(&mut options);
        let error = Store::open(&inside, options).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!inside.exists());
    }
}

#[test]
fn asking_for_what_is_not_there_creates_nothing() {
    let house = House::new();
    house.send("s", "x");
    let written = house.store().watermarks();
    let store = house.store();
    let unknown_subject = [
        store.read("no", 0, 1).map(drop),
        store.tail("no", 0).map(drop),
        store.sequence_at_time("no", 0).map(drop),
        store.find_by_id("no", "id", 1).map(drop),
        store.consumer_gone("no", "g", "c").map(drop),
        store.reset("no", "g", qmq_store::ResetTo::Latest).map(drop),
        store.drop_group("no", "g"),
    ];
    for outcome in unknown_subject {
        assert!(
            matches!(outcome, Err(Error::UnknownSubject { .. })),
            "{outcome:?}"
        );
    }
    let unknown_group = [
        store.consumer_gone("s", "no", "c").map(drop),
        store.reset("s", "no", qmq_store::ResetTo::Latest).map(drop),
        store.drop_group("s", "no"),
    ];
    for outcome in unknown_group {
        assert!(
            matches!(outcome, Err(Error::UnknownGroup { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(store.watermarks(), written);
}

#[test]
fn ranges_that_make_no_sense_settle_nothing_more_than_they_name() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let batch = house.pull("c", 10);
    let first = batch.iter().next().unwrap().pull_sequence();
    assert_eq!(house.ack(&batch, &[]), 0);
    assert_eq!(house.ack(&batch, &[first + 5..=first]), 0);
    assert_eq!(house.ack(&batch, &[u64::MAX..=u64::MAX, 0..=first]), 1);
    let overlapping = [
        first + 1..=first + 3,
        first..=first + 2,
        first + 2..=first + 2,
    ];
    assert_eq!(house.ack(&batch, &overlapping), 3);
    assert_eq!(house.ack(&batch, &[0..=u64::MAX, 0..=u64::MAX]), 6);
    assert_eq!(house.ack(&batch, &[0..=u64::MAX]), 0);
    assert!(
        house
            .store()
            .pull(&request("c").start(Start::Latest))
            .unwrap()
            .is_empty()
    );
}
