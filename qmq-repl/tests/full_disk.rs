//! What a full disk does to a slave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file takes its part")]
#[path = "common/stores.rs"]
mod group;

use group::Group3;
use qmq_repl::Log;
use qmq_store::{Durability, Message};

#[test]
fn a_slave_whose_disk_was_full_goes_on_when_there_is_room() {
    let mut group = Group3::new(1, false, None);
    let append = |group: &mut Group3| {
        let now = group.now;
        let node = group.nodes[0].as_mut().unwrap();
        let store = node.log().store().clone();
        for _ in 0..40 {
            let message = Message::new("s", "y".repeat(5_000));
            store.append_with(&message, Durability::Synced).unwrap();
        }
        node.log_moved(now);
    };
    append(&mut group);
    group.run(500);
    assert!(group.equal());
    group.disks[2].disk.lock().unwrap().set_capacity(0);
    append(&mut group);
    append(&mut group);
    group.run(2_000);
    let written = |n: usize| group.nodes[n].as_ref().unwrap().log().written();
    assert!(written(2) < written(0));
    assert_eq!(written(1), written(0), "the others go on");
    group.disks[2].disk.lock().unwrap().set_capacity(u64::MAX);
    group.run(2_000);
    assert!(group.equal(), "{:#?}", group.trace);
}
