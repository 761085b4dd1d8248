//! Append, pull, acknowledge; a consumer dies; the store is closed and opened again.
//!
//! ```sh
//! cargo run -p qmq-examples --example quickstart
//! ```

use std::error::Error;

use qmq_store::{Batch, Message, Options, PullRequest, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Small segments, since three of them are allocated at open. The default is 64 MiB.
    let options = Options::with_segment_bytes(1 << 20);
    let store = Store::open(folder.path(), options.clone())?;

    // An append waits until the message is synced, unless asked otherwise. A subject is created by
    // its first message.
    for order in 0..10 {
        let message = Message::new("order.changed", format!("order {order}")).tag("paid");
        let at = store.append(&message)?;
        assert_eq!(at.sequence, order);
    }
    println!("appended 10 messages");

    // Two consumers of one group share them. There are no partitions: whoever asks gets the next.
    let host_1 = PullRequest::new("order.changed", "ticket", "host-1").max(4);
    let host_2 = PullRequest::new("order.changed", "ticket", "host-2");
    let first = store.pull(&host_1)?;
    let second = store.pull(&host_2)?;
    println!("host-1 got: {}", bodies(&first));
    println!("host-2 got: {}", bodies(&second));
    store.ack(&second)?;

    // host-1 dies before it has acknowledged. Its messages go to the others, and say that this is
    // another attempt. A service calls `Store::expire` on a timer instead, which finds the silent.
    store.consumer_gone("order.changed", "ticket", "host-1")?;
    let again = store.pull(&host_2)?;
    println!("host-2 got after host-1 had gone: {}", bodies(&again));
    assert!(again.iter().all(|one| one.attempt() == 1));
    store.ack(&again)?;

    // What a group has done is in the log too, so it survives like messages do.
    store.close()?;
    let store = Store::open(folder.path(), options)?;
    println!(
        "opened again; closed in order: {}",
        store.open_report().clean
    );
    assert!(store.pull(&host_2)?.is_empty());

    // Messages stay until retention takes them, whatever groups have done. Another group, or a
    // reader without a group, begins where it likes.
    let all = store.read("order.changed", 0, 100)?;
    println!("a reader without a group sees {} messages", all.len());
    assert_eq!(all.len(), 10);
    store.close()?;
    Ok(())
}

/// The bodies of a batch in one line. A damaged message keeps its place in the batch, so each
/// message is asked for on its own.
fn bodies(batch: &Batch) -> String {
    let body = |one: qmq_store::Delivered<'_>| match one.message() {
        Ok(message) => String::from_utf8_lossy(message.body()).into_owned(),
        Err(damaged) => damaged.to_string(),
    };
    batch.iter().map(body).collect::<Vec<_>>().join(", ")
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
