//! What is cut off a log never takes the place of what was cut off before.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use qmq_store::{Background, Durability, Message, Options, Store};

#[test]
fn a_lost_tail_that_cannot_be_opened_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        background: Background::Manual,
        ..Options::with_segment_bytes(64 << 10)
    };
    let store = Store::open_replica(folder.path(), options.clone()).unwrap();
    let common = store.promote(1).unwrap() + 64;
    let appended = store.append_with(&Message::new("s", "lost"), Durability::Synced);
    let end = appended.unwrap().end_offset;
    assert_eq!(store.demote().unwrap(), end);
    // A link to itself is there, and no open ever gets to what is behind it.
    let name = format!("lost-{common:020}-{end:020}");
    let there = folder.path().join(&name);
    std::os::unix::fs::symlink(&name, &there).unwrap();
    let refused = store.cut(common).unwrap_err().to_string();
    assert!(refused.contains(&name), "{refused}");
    assert!(there.is_symlink());
    drop(store);

    // The log is whole; with the name free it is cut.
    std::fs::remove_file(&there).unwrap();
    let store = Store::open_replica(folder.path(), options).unwrap();
    assert_eq!(store.watermarks().written, end);
    let (store, lost) = store.cut(common).unwrap();
    assert_eq!(lost.file.as_ref(), Some(&name));
    assert_eq!(store.watermarks().written, common);
    let tails = qmq_store::offline::lost_tails(folder.path()).unwrap();
    assert_eq!(tails, [lost]);
}
