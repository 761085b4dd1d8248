//! Messages that come encoded, from a network: checked like others, written like others, and never waited for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_store::message::Attributes;
use qmq_store::{Background, Durability, Error, Message, Options, Store, Submission, TagFilter};
use support::{House, contents, everything, request, sequences};

const DURABILITIES: [Durability; 2] = [Durability::Buffered, Durability::Synced];

/// A message as a network would bring it: its attributes encoded, its body in pieces of `piece` bytes.
struct Arrived {
    subject: String,
    attributes: Vec<u8>,
    body: Vec<Bytes>,
}

impl Arrived {
    fn new(message: &Message, piece: usize) -> Self {
        let mut attributes = Vec::new();
        Attributes::encode(message, &mut attributes).unwrap();
        Self {
            subject: message.subject().to_owned(),
            attributes,
            body: message
                .body()
                .chunks(piece)
                .map(Bytes::copy_from_slice)
                .collect(),
        }
    }

    fn submission(&self) -> Submission<'_> {
        Submission {
            subject: &self.subject,
            attributes: &self.attributes,
            body: &self.body,
        }
    }
}

fn submit(
    store: &Store,
    messages: &[Message],
    piece: usize,
    durability: Durability,
) -> Result<Vec<u64>, Error> {
    let arrived: Vec<Arrived> = messages.iter().map(|m| Arrived::new(m, piece)).collect();
    let submissions: Vec<Submission<'_>> = arrived.iter().map(Arrived::submission).collect();
    Ok(store.submit(&submissions, durability)?.sequences)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn some_messages() -> Vec<Message> {
    let full = Message::new("a", pattern(3_001))
        .with_id("id")
        .with_order_key("key")
        .with_create_time_ms(1)
        .with_due_time_ms(2)
        .property("trace", "00-4bf9")
        .tag("paid");
    vec![
        full,
        Message::new("a", ""),
        Message::new("b", pattern(9_000)),
        Message::new("a", "short"),
    ]
}

#[test]
fn what_is_submitted_in_pieces_leaves_the_same_bytes_as_what_is_appended_whole() {
    // Shorter and longer than what is copied together first, and more pieces than one call of the system takes.
    for piece in [1, 3, 700, 1_024, 2_500, 100_000] {
        for durability in DURABILITIES {
            let (appended, submitted) = (House::new(), House::new());
            for message in some_messages() {
                let at = appended.store().append_with(&message, durability).unwrap();
                let one = std::slice::from_ref(&message);
                let sequences = submit(submitted.store(), one, piece, durability).unwrap();
                assert_eq!(sequences, [at.sequence]);
            }
            let batch = appended.store().append_batch(&some_messages(), durability);
            let sequences = submit(submitted.store(), &some_messages(), piece, durability);
            assert_eq!(sequences.unwrap(), batch.unwrap().sequences);
            appended.store().sync().unwrap();
            submitted.store().sync().unwrap();
            // Records say how far the log was synced when they were written, so one durability is compared only.
            if durability == Durability::Buffered {
                assert!(contents(&appended.disk) == contents(&submitted.disk));
            }
            let read = |house: &House, subject: &str| -> Vec<Message> {
                let read = house.store().read(subject, 0, 100).unwrap();
                read.iter()
                    .map(|one| one.message().unwrap().to_message())
                    .collect()
            };
            for subject in ["a", "b"] {
                assert_eq!(read(&appended, subject), read(&submitted, subject));
            }
        }
    }
}

#[test]
fn on_a_real_disk_thousands_of_pieces_arrive_in_order_and_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        background: Background::Manual,
        ..Options::with_segment_bytes(32 << 20)
    };
    let store = Store::open(folder.path(), options()).unwrap();
    let sent: Vec<Message> = [3_000_001, 10, 1_500_000]
        .map(|len| Message::new("s", pattern(len)))
        .into();
    for durability in DURABILITIES {
        submit(&store, &sent, 1_200, durability).unwrap();
        for message in &sent {
            let one = std::slice::from_ref(message);
            submit(&store, one, 1_200, durability).unwrap();
        }
    }
    let check = |store: &Store| {
        for sequence in 0..12 {
            let read = store.read("s", sequence, 1).unwrap();
            let body = read.iter().next().unwrap().message().unwrap().body();
            assert!(body == sent[sequence as usize % 3].body(), "{sequence}");
        }
    };
    check(&store);
    drop(store);
    check(&Store::open(folder.path(), options()).unwrap());
}

#[test]
fn one_takes_no_batch_header_and_says_beforehand_what_it_takes() {
    let house = House::new();
    let end = || house.store().watermarks().written;
    let messages = some_messages();
    let bytes = |messages: &[Message]| -> u64 {
        let bytes = messages.iter().map(|m| Arrived::new(m, 10));
        bytes.map(|arrived| arrived.submission().log_bytes()).sum()
    };
    let before = end();
    submit(house.store(), &messages[..1], 10, Durability::Buffered).unwrap();
    assert_eq!(end() - before, bytes(&messages[..1]));
    let before = end();
    submit(house.store(), &messages, 10, Durability::Buffered).unwrap();
    assert_eq!(end() - before, Submission::BATCH_BYTES + bytes(&messages));
}

#[test]
fn a_submission_waits_for_no_sync_however_much_is_not_synced() {
    let house = House::with(|options| options.flush_bytes = 64 << 10);
    let message = Message::new("s", pattern(10_000));
    let batch = vec![message.clone(); 2];
    for _ in 0..20 {
        for durability in [
            Durability::Buffered,
            Durability::Synced,
            Durability::Replicated,
        ] {
            let one = std::slice::from_ref(&message);
            submit(house.store(), one, 1_000, durability).unwrap();
            submit(house.store(), &batch, 1_000, durability).unwrap();
        }
    }
    let marks = house.store().watermarks();
    assert_eq!(marks.synced, 0);
    assert_eq!(house.store().unsynced_bytes(), marks.written);
    assert!(marks.written > 20 * 90_000);
    // It is there all the same, and may be waited for.
    assert_eq!(house.pull("c", 1_000).len(), 180);
    house
        .store()
        .wait(marks.written, Durability::Synced)
        .unwrap();
    assert_eq!(house.store().unsynced_bytes(), 0);
}

#[test]
fn somebody_else_is_asked_to_sync_before_much_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        flush_interval: Duration::from_secs(3_600),
        flush_bytes: 64 << 10,
        ..Options::with_segment_bytes(1 << 20)
    };
    let store = Store::open(folder.path(), options).unwrap();
    let message = [Message::new("s", pattern(40_000))];
    submit(&store, &message, 1_000, Durability::Buffered).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.unsynced_bytes() > 0 {
        assert!(Instant::now() < deadline, "nobody syncs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_breaks_a_rule_is_refused_beforehand_and_with_all_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        body_bytes_max: 1_000,
        batch_bytes_max: 4_096,
        subjects_max: 2,
        ..support::small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    let before = everything(folder.path());
    let good = Submission {
        subject: "s",
        attributes: b"\x02\x01t",
        body: &[Bytes::from_static(b"good")],
    };
    assert!(store.check_submission(&good).is_ok());
    let halves = [vec![0; 501].into(), vec![0; 500].into()];
    let bad = [
        (
            Submission {
                subject: "../x",
                ..good
            },
            "subject name",
        ),
        (
            Submission {
                attributes: b"\x02\x00",
                ..good
            },
            "tag is empty",
        ),
        (
            Submission {
                attributes: b"\x40",
                ..good
            },
            "mark of which",
        ),
        (
            Submission {
                attributes: b"\x02\x01",
                ..good
            },
            "list of tags",
        ),
        (
            Submission {
                body: &halves,
                ..good
            },
            "1001",
        ),
    ];
    for (bad, rule) in bad {
        let refusals = [
            store.check_submission(&bad).unwrap_err(),
            store.submit(&[bad], Durability::Buffered).unwrap_err(),
            store
                .submit(&[good, bad, good], Durability::Buffered)
                .unwrap_err(),
        ];
        for refused in refusals {
            assert!(refused.to_string().contains(rule), "{refused}");
        }
    }
    let none = store.submit(&[], Durability::Buffered);
    assert!(matches!(none, Err(Error::EmptyBatch)));
    let body = [vec![0; 1_000].into()];
    let large = Submission {
        body: &body,
        ..good
    };
    let batch = store.submit(&[large; 4], Durability::Buffered);
    assert!(matches!(
        batch,
        Err(Error::BatchTooLarge { max: 4_096, .. })
    ));
    let new = |subject| Submission { subject, ..good };
    assert!(store.check_submission(&new("t")).is_ok());
    let both = store.submit(&[new("t"), new("u")], Durability::Buffered);
    assert!(matches!(both, Err(Error::TooManySubjects { max: 2, .. })));
    assert!(everything(folder.path()) == before);
    assert_eq!(store.subjects(), ["s"]);
}

/// Attributes may be long, and segments short: what fits into no segment is told before it is tried.
#[test]
fn a_record_that_no_segment_holds_is_refused_beforehand() {
    let house = House::new();
    let long = Message::new("s", pattern(16 << 10))
        .property("a", "v".repeat(32_768))
        .property("b", "v".repeat(16_370));
    let arrived = Arrived::new(&long, 1_000);
    let refused = house.store().check_submission(&arrived.submission());
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })));
    let short = long.with_body("short");
    let one = std::slice::from_ref(&short);
    submit(house.store(), one, 1_000, Durability::Buffered).unwrap();
    let read = house.store().read("s", 0, 1).unwrap();
    let back = read.iter().next().unwrap().message().unwrap();
    assert_eq!(back.to_message(), short);
    assert_eq!(back.property("b").map(str::len), Some(16_370));
    assert_eq!(back.properties().count(), 2);
}

#[test]
fn submitted_tags_are_filtered_by_and_messages_wake_who_waits() {
    let house = House::new();
    let paid = request("c").filter(TagFilter::Any(vec!["paid".into()]));
    assert!(house.store().pull(&paid).unwrap().is_empty());
    let messages = [
        Message::new("s", "0"),
        Message::new("s", "1").tag("paid"),
        Message::new("s", "2").tag("open"),
    ];
    submit(house.store(), &messages, 10, Durability::Buffered).unwrap();
    submit(house.store(), &messages[1..2], 10, Durability::Buffered).unwrap();
    assert_eq!(sequences(&house.store().pull(&paid).unwrap()), [1, 3]);
    let (bell, waker) = support::Bell::new();
    let mut waiting = qmq_store::Waiting::default();
    house
        .store()
        .poll_pull(&paid, &waker, &mut waiting)
        .unwrap();
    submit(house.store(), &messages[1..2], 10, Durability::Buffered).unwrap();
    assert_eq!(bell.rung(), 1);
}
