//! Retention by options, and a policy of one's own on top.
//!
//! The options say what the store does by itself: here it keeps at most 1 MiB, but nothing goes
//! that some group has not acknowledged. One forgotten group would then fill the disk, so a policy
//! of the program's own gives up on groups that lag too far behind.
//!
//! ```sh
//! cargo run -p qmq-examples --example custom_retention
//! ```

use std::error::Error;

use qmq_store::{
    Background, Durability, Error as StoreError, Message, Options, PullRequest, ResetTo, Retention,
    Store,
};

const SUBJECT: &str = "click";
const BODY_BYTES: usize = 1_000;

/// Whole segments are retired, so small segments free space in small steps. This is far smaller
/// than is sensible outside of an example.
const SEGMENT_BYTES: u64 = 256 << 10;
const KEEP_BYTES: u64 = 1 << 20;

/// The policy of this program: a group may be so far behind, in bytes of bodies.
const LAG_BYTES_MAX: u64 = 2 << 20;

fn options() -> Options {
    Options {
        retention: Retention {
            max_age: None,
            max_bytes: Some(KEEP_BYTES),
            min_free_bytes: None,
            keep_unconsumed: true,
        },
        // The program has a timer of its own for housekeeping. With `Background::Threads`, the
        // default, retention happens by itself.
        background: Background::Manual,
        ..Options::with_segment_bytes(SEGMENT_BYTES)
    }
}

fn append(store: &Store, messages: usize) -> Result<(), StoreError> {
    let message = Message::new(SUBJECT, vec![b'.'; BODY_BYTES]);
    for _ in 0..messages {
        store.append_with(&message, Durability::Buffered)?;
    }
    Ok(())
}

/// A group takes and acknowledges all there is.
fn consume(store: &Store, group: &str) -> Result<u64, StoreError> {
    let request = PullRequest::new(SUBJECT, group, "host-1").max(1_000);
    let mut acked = 0;
    loop {
        let batch = store.pull(&request)?;
        if batch.is_empty() {
            return Ok(acked);
        }
        acked += store.ack(&batch)?.acked;
    }
}

/// Lets groups that lag too far go on with the newest messages. Returns their names.
fn give_up_on_laggards(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut given_up = Vec::new();
    for subject in store.subjects() {
        for group in store.subject_stats(&subject)?.groups {
            if store.subject_bytes(&subject, group.cursor)? > LAG_BYTES_MAX {
                store.reset(&subject, &group.group, ResetTo::Latest)?;
                given_up.push(group.group);
            }
        }
    }
    Ok(given_up)
}

fn show(store: &Store, when: &str) -> Result<(), StoreError> {
    let stats = store.stats();
    let first = store.subject_stats(SUBJECT)?.first_sequence;
    println!(
        "{when:<38} {:>5} KiB in {:>2} segments, oldest message {first}",
        stats.log_bytes >> 10,
        stats.segments,
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), options())?;

    // Two groups know the subject; from then on one of them sleeps.
    append(&store, 10)?;
    consume(&store, "billing")?;
    consume(&store, "forgotten")?;

    append(&store, 1_500)?;
    consume(&store, "billing")?;
    store.maintain()?;
    show(&store, "1,500 messages, one group asleep:")?;
    assert!(store.stats().log_bytes > KEEP_BYTES, "kept for the group");
    assert!(give_up_on_laggards(&store)?.is_empty());

    append(&store, 1_500)?;
    consume(&store, "billing")?;
    store.maintain()?;
    show(&store, "3,000 messages, one group asleep:")?;

    let given_up = give_up_on_laggards(&store)?;
    println!("given up on: {}", given_up.join(", "));
    assert_eq!(given_up, ["forgotten"]);
    store.maintain()?;
    show(&store, "after that:")?;
    assert!(store.stats().log_bytes <= KEEP_BYTES);

    // A reader that holds messages keeps their bytes, also when retention takes the segment: the
    // blocks are given back when the reader lets go.
    let first = store.subject_stats(SUBJECT)?.first_sequence;
    let held = store.read(SUBJECT, first, 10)?;
    append(&store, 3_000)?;
    consume(&store, "billing")?;
    consume(&store, "forgotten")?;
    store.maintain()?;
    show(&store, "3,000 more, all consumed:")?;
    println!("held by a reader: {} KiB", store.stats().pinned_bytes >> 10);
    for one in &held {
        assert_eq!(one.message()?.body().len(), BODY_BYTES);
    }
    store.close()?;
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
