//! The everyday path: append, pull, ack, reopen.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::sync::Arc;
use std::time::Duration;

use qmq_store::disk::SimulatedDisk;
use qmq_store::{
    Background, Durability, ManualClock, Message, Options, PullRequest, ResetTo, Store, TagFilter,
    VisibleAt,
};

fn options() -> Options {
    Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000)),
        identity_seed: Some(7),
        ..Options::with_segment_bytes(64 << 10)
    }
}

fn bodies(batch: &qmq_store::Records) -> Vec<String> {
    batch
        .iter()
        .map(|one| String::from_utf8(one.message().unwrap().body().to_vec()).unwrap())
        .collect()
}

#[test]
fn messages_come_back_in_order_after_a_clean_close_and_after_a_kill() {
    let mut disk = SimulatedDisk::new();
    let mut sent = Vec::new();
    for round in 0..6 {
        let store = Store::open_on(Arc::new(disk.clone()), options()).unwrap();
        for n in 0..500 {
            let body = format!("{round}-{n}-{}", "x".repeat(n % 300));
            let subject = format!("subject.{}", n % 7);
            let at = store
                .append_with(
                    &Message::new(&subject, body.clone()).tag("even"),
                    Durability::Buffered,
                )
                .unwrap();
            assert_eq!(
                at.sequence,
                sent.iter().filter(|(name, _)| *name == subject).count() as u64
            );
            sent.push((subject, body));
        }
        for n in 0..7 {
            let subject = format!("subject.{n}");
            let expected: Vec<&String> = sent
                .iter()
                .filter(|(name, _)| *name == subject)
                .map(|(_, body)| body)
                .collect();
            let read = store.read(&subject, 0, usize::MAX).unwrap();
            assert_eq!(
                bodies(&read).iter().collect::<Vec<_>>(),
                expected,
                "round {round}, {subject}"
            );
        }
        if round % 2 == 0 {
            store.close().unwrap();
            assert!(store_report(&disk).0);
        } else {
            drop(store);
            disk = disk.process_killed();
        }
    }
}

fn store_report(disk: &SimulatedDisk) -> (bool, u64) {
    let store = Store::open_on(Arc::new(disk.clone()), options()).unwrap();
    let report = store.open_report().clone();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    store.close().unwrap();
    (report.clean, report.cut_bytes)
}

#[test]
fn a_group_shares_messages_and_a_dead_consumers_messages_go_to_the_others() {
    let disk = SimulatedDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), options()).unwrap();
    let one = PullRequest::new("s", "g", "one").max(10);
    let two = PullRequest::new("s", "g", "two").max(100);
    assert!(store.pull(&one).unwrap().is_empty());
    for n in 0..30 {
        store
            .append_with(&Message::new("s", format!("{n}")), Durability::Buffered)
            .unwrap();
    }
    let first = store.pull(&one).unwrap();
    assert_eq!(first.len(), 10);
    let rest = store.pull(&two).unwrap();
    assert_eq!(rest.len(), 20);
    assert_eq!(store.ack(&rest).unwrap().acked, 20);
    assert!(store.pull(&two).unwrap().is_empty());
    assert_eq!(store.consumer_gone("s", "g", "one").unwrap(), 10);
    let again = store.pull(&two).unwrap();
    assert_eq!(
        bodies(&again),
        (0..10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert!(again.iter().all(|one| one.attempt() == 1));
    assert_eq!(store.ack(&first).unwrap().not_owned, 10);
    assert_eq!(store.ack(&again).unwrap().acked, 10);
    drop(store);
    let store = Store::open_on(Arc::new(disk.process_killed()), options()).unwrap();
    assert!(store.pull(&two).unwrap().is_empty());
    store.reset("s", "g", ResetTo::Sequence(25)).unwrap();
    assert_eq!(store.pull(&two).unwrap().len(), 5);
}

#[test]
fn a_tag_filter_lets_only_matching_messages_pass() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options()).unwrap();
    for n in 0..1000 {
        let tag = if n % 100 == 0 { "rare" } else { "usual" };
        store
            .append_with(
                &Message::new("s", format!("{n}")).tag(tag),
                Durability::Buffered,
            )
            .unwrap();
    }
    let request = PullRequest::new("s", "g", "c").filter(TagFilter::Any(vec!["rare".into()]));
    let batch = store.pull(&request).unwrap();
    assert_eq!(
        bodies(&batch),
        (0..10).map(|n| (n * 100).to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn synced_visibility_hides_what_a_power_loss_could_take_back() {
    let options = Options {
        visible_at: VisibleAt::Synced,
        ..options()
    };
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options).unwrap();
    store
        .append_with(&Message::new("s", "a"), Durability::Buffered)
        .unwrap();
    assert!(store.read("s", 0, 10).unwrap().is_empty());
    store.sync().unwrap();
    assert_eq!(store.read("s", 0, 10).unwrap().len(), 1);
}

#[test]
fn a_waiting_puller_is_woken() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20)).unwrap();
    let waiting = store.clone();
    let puller = std::thread::spawn(move || {
        waiting
            .pull_wait(&PullRequest::new("s", "g", "c"), Duration::from_secs(20))
            .unwrap()
            .len()
    });
    std::thread::sleep(Duration::from_millis(50));
    store.append(&Message::new("s", "a")).unwrap();
    assert_eq!(puller.join().unwrap(), 1);
    store.close().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20)).unwrap();
    assert!(store.open_report().clean);
}

#[test]
fn a_batch_spans_subjects_and_a_message_moves_to_its_retry_subject_in_one_step() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options()).unwrap();
    let batch = [
        Message::new("a", "1"),
        Message::new("b", "2"),
        Message::new("a", "3"),
    ];
    let appended = store.append_batch(&batch, Durability::Synced).unwrap();
    assert_eq!(appended.sequences, [0, 0, 1]);
    let pulled = store.pull(&PullRequest::new("a", "g", "c")).unwrap();
    let retry = qmq_store::message::retry_subject("a", "g");
    let second = pulled.iter().nth(1).unwrap().pull_sequence();
    store
        .copy_and_ack(pulled.member(), second, &retry, Durability::Synced)
        .unwrap();
    assert_eq!(bodies(&store.read(&retry, 0, 10).unwrap()), ["3"]);
    assert_eq!(store.ack(&pulled).unwrap().acked, 1);
}
