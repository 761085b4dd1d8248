//! Following a live store from another process, without a group and without writing anything.
//!
//! A follower takes no lock and leaves no trace in the store: no acknowledgements, no cursor. It
//! reads up to the end that the writer has published, which is at most a few milliseconds old. So
//! it suits exports, debugging and search, and a mount that is read-only. Here the writer is a
//! thread of the same process; nothing would be different if it were another one.
//!
//! ```sh
//! cargo run -p qmq-examples --example follow_read_only
//! ```

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use qmq_store::{Durability, Error as StoreError, Message, Options, ReadOnlyStore, Store};

const SUBJECT: &str = "sensor.reading";
const MESSAGES: u64 = 500;

fn write(store: &Store) -> Result<(), StoreError> {
    for n in 0..MESSAGES {
        let message = Message::new(SUBJECT, format!("reading {n}"));
        store.append_with(&message, Durability::Buffered)?;
        if n % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn open(folder: &Path) -> Result<ReadOnlyStore, qmq_store::OpenError> {
    // What a writer needs and a follower does not is ignored: nothing is allocated or reserved.
    Store::open_read_only(folder, &Options::default())
}

fn follow(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut follower = open(folder)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut next = 0;
    let mut looks = 0;
    while next < MESSAGES && Instant::now() < deadline {
        match follower.wait(Duration::from_secs(1)) {
            Ok(_) => looks += 1,
            // The writer crashed, and its log may be shorter now. Sequences below what was synced
            // still name the same messages, so a follower that asked for more opens again.
            Err(StoreError::WriterRestarted { .. }) => {
                follower = open(folder)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        // The subject comes into being with its first message.
        if !follower.subjects().iter().any(|name| name == SUBJECT) {
            continue;
        }
        loop {
            let records = follower.read(SUBJECT, next, 100)?;
            for one in &records {
                assert_eq!(one.sequence(), next);
                assert_eq!(one.message()?.body(), format!("reading {next}").as_bytes());
                next += 1;
            }
            if records.is_empty() {
                break;
            }
        }
    }
    println!("followed {next} messages in {looks} looks");
    Ok(next)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20))?;
    let followed = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&store));
        let followed = follow(folder.path());
        let written = writer.join();
        assert!(written.is_ok_and(|outcome| outcome.is_ok()), "the writer");
        followed
    })?;
    assert_eq!(followed, MESSAGES);
    store.close()?;

    // It also reads what nobody has open.
    let closed = open(folder.path())?;
    println!(
        "after the close: {:?} {:?}",
        closed.subjects(),
        closed.bounds(SUBJECT)?
    );
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
