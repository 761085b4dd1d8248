//! Waiting for a watermark, and being called back at it.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use qmq_store::disk::SimulatedDisk;
use qmq_store::{
    Background, Durability, Error, ManualClock, Message, Options, PollPull, Store, VisibleAt,
    Waiting,
};
use support::{Bell, House, request};

const SOON: Duration = Duration::from_secs(20);

fn manual() -> Options {
    Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000)),
        ..Options::with_segment_bytes(64 << 10)
    }
}

#[test]
fn callbacks_come_in_the_order_of_the_log_once_it_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20)).unwrap();
    let (answer, answers) = channel();
    for n in 0..1000 {
        let at = store
            .append_with(&Message::new("s", "x"), Durability::Buffered)
            .unwrap();
        let (answer, watched) = (answer.clone(), store.clone());
        store.when(at.end_offset, Durability::Synced, move |outcome| {
            let synced = watched.watermarks().synced;
            answer
                .send((n, outcome.is_ok() && synced >= at.end_offset))
                .unwrap();
        });
    }
    let mut came: Vec<u64> = (0..1000)
        .map(|_| {
            let (n, synced) = answers.recv_timeout(SOON).unwrap();
            assert!(synced, "called back before the sync");
            n
        })
        .collect();
    came.sort_unstable();
    assert_eq!(came, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_callback_may_append_also_when_it_is_told_of_a_failure() {
    let disk = SimulatedDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), manual()).unwrap();
    let at = store
        .append_with(&Message::new("s", "x"), Durability::Buffered)
        .unwrap();
    let (answer, answers) = channel();
    let again = store.clone();
    store.when(at.end_offset, Durability::Synced, move |outcome| {
        let appended = again.append_with(&Message::new("s", "y"), Durability::Buffered);
        answer.send((outcome.is_err(), appended.is_err())).unwrap();
    });
    disk.faults(|faults| faults.fail_every_sync(true));
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(answers.recv_timeout(SOON), Ok((true, true)));
}

#[test]
fn a_callback_that_panics_takes_nobody_else_down() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20)).unwrap();
    let first = store
        .append_with(&Message::new("s", "x"), Durability::Buffered)
        .unwrap();
    store.when(first.end_offset, Durability::Synced, |_| {
        panic!("on purpose")
    });
    let second = store
        .append_with(&Message::new("s", "y"), Durability::Buffered)
        .unwrap();
    let (answer, answers) = channel();
    store.when(second.end_offset, Durability::Synced, move |outcome| {
        answer.send(outcome.is_ok()).unwrap();
    });
    assert_eq!(answers.recv_timeout(SOON), Ok(true));
}

#[test]
fn what_slaves_hold_is_replicated_only_once_it_is_synced_here() {
    let options = Options {
        visible_at: VisibleAt::Replicated,
        ..manual()
    };
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options).unwrap();
    let at = store
        .append_with(&Message::new("s", "x"), Durability::Buffered)
        .unwrap();
    store.advance_replicated(at.end_offset);
    assert_eq!(store.watermarks().replicated, 0);
    assert!(store.read("s", 0, 10).unwrap().is_empty());
    let (answer, answers) = channel();
    store.when(at.end_offset, Durability::Replicated, move |outcome| {
        answer.send(outcome.is_ok()).unwrap();
    });
    assert!(answers.try_recv().is_err(), "called back too early");
    store.sync().unwrap();
    assert_eq!(answers.try_recv(), Ok(true));
    assert_eq!(store.watermarks().replicated, at.end_offset);
    assert_eq!(store.read("s", 0, 10).unwrap().len(), 1);

    // And what is written later is not replicated before anybody has it.
    let next = store.append(&Message::new("s", "y")).unwrap();
    assert!(store.watermarks().replicated < next.end_offset);
}

#[test]
fn callbacks_come_in_the_order_of_the_log_whatever_order_they_were_asked_in() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), manual()).unwrap();
    store.advance_replicated(0);
    let ends: Vec<u64> = (0..3)
        .map(|_| {
            let at = store.append_with(&Message::new("s", "x"), Durability::Buffered);
            at.unwrap().end_offset
        })
        .collect();
    let (answer, answers) = channel();
    let (synced, replicated) = (Durability::Synced, Durability::Replicated);
    for (n, durability) in [
        (2, replicated),
        (1, synced),
        (0, replicated),
        (0, synced),
        (1, replicated),
    ] {
        let answer = answer.clone();
        store.when(ends[n], durability, move |outcome| {
            outcome.unwrap();
            answer.send((durability, n)).unwrap();
        });
    }
    let told = || answers.try_iter().collect::<Vec<_>>();
    store.advance_replicated(ends[1]);
    assert_eq!(told(), [], "called back too early");
    store.sync().unwrap();
    let both = [(synced, 0), (synced, 1), (replicated, 0), (replicated, 1)];
    assert_eq!(told(), both);
    store.advance_replicated(ends[2]);
    assert_eq!(told(), [(replicated, 2)]);
    // What is there already is told at once; where nothing replicates, so is that.
    store.end_replication();
    let (sender, refused) = channel();
    let end = store
        .append_with(&Message::new("s", "y"), Durability::Buffered)
        .unwrap()
        .end_offset;
    store.when(end, replicated, move |outcome| {
        sender.send(outcome).unwrap();
    });
    assert!(matches!(refused.try_recv(), Ok(Err(Error::NotReplicated))));
}

/// A slave that holds more than this log ever had is of another history: nothing of what it says is about this one.
#[test]
fn a_slave_that_is_ahead_replicates_nothing() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), manual()).unwrap();
    let at = store.append(&Message::new("s", "x")).unwrap();
    store.advance_replicated(0);
    let (answer, answers) = channel();
    store.when(at.end_offset, Durability::Replicated, move |outcome| {
        answer.send(outcome.is_ok()).unwrap();
    });
    for ahead in [at.end_offset + 8, u64::MAX] {
        store.advance_replicated(ahead);
        assert_eq!(store.watermarks().replicated, 0);
        let next = store.append(&Message::new("s", "y")).unwrap();
        assert!(store.watermarks().replicated < next.end_offset);
    }
    assert!(answers.try_recv().is_err(), "called back too early");
    store.advance_replicated(at.end_offset);
    assert_eq!(answers.try_recv(), Ok(true));
    assert_eq!(store.watermarks().replicated, at.end_offset);
}

#[test]
fn who_waits_for_slaves_is_told_when_none_will_come() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), manual()).unwrap();
    let held = store.append(&Message::new("s", "x")).unwrap();
    store.advance_replicated(held.end_offset);
    let at = store.append(&Message::new("s", "y")).unwrap();
    let (answer, answers) = channel();
    store.when(at.end_offset, Durability::Replicated, {
        let answer = answer.clone();
        move |outcome| answer.send(outcome).unwrap()
    });
    let waiting = store.clone();
    std::thread::spawn(move || answer.send(waiting.wait(at.end_offset, Durability::Replicated)));
    std::thread::sleep(Duration::from_millis(50));
    store.end_replication();
    for _ in 0..2 {
        let told = answers.recv_timeout(SOON).unwrap();
        assert!(matches!(told, Err(Error::NotReplicated)), "{told:?}");
    }
    // What slaves had, they have.
    store.wait(held.end_offset, Durability::Replicated).unwrap();
    store.advance_replicated(at.end_offset);
    store.wait(at.end_offset, Durability::Replicated).unwrap();
}

#[test]
fn who_waits_for_slaves_that_do_not_keep_up_is_told_so() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), manual()).unwrap();
    // Nothing replicates it: that is said.
    store.too_few_in_sync(true);
    let held = store.append(&Message::new("s", "x")).unwrap();
    let told = store.wait(held.end_offset, Durability::Replicated);
    assert!(matches!(told, Err(Error::NotReplicated)), "{told:?}");
    store.advance_replicated(held.end_offset);
    store.wait(held.end_offset, Durability::Replicated).unwrap();
    let at = store.append(&Message::new("s", "y")).unwrap();
    let (answer, answers) = channel();
    let call_back = || {
        let answer = answer.clone();
        store.when(at.end_offset, Durability::Replicated, move |outcome| {
            answer.send(outcome).unwrap();
        });
    };
    call_back();
    let (waiting, waiter) = (store.clone(), answer.clone());
    std::thread::spawn(move || waiter.send(waiting.wait(at.end_offset, Durability::Replicated)));
    std::thread::sleep(Duration::from_millis(50));
    assert!(answers.try_recv().is_err(), "told too early");
    store.too_few_in_sync(true);
    // Also who comes now, and whatever a slave says.
    store.advance_replicated(held.end_offset);
    call_back();
    for _ in 0..3 {
        let told = answers.recv_timeout(SOON).unwrap();
        assert!(matches!(told, Err(Error::TooFewInSync)), "{told:?}");
    }
    let refused = store.append_with(&Message::new("s", "z"), Durability::Replicated);
    assert!(matches!(refused, Err(Error::TooFewInSync)), "{refused:?}");
    // What is replicated all the same is.
    store.advance_replicated(at.end_offset);
    store.wait(at.end_offset, Durability::Replicated).unwrap();

    store.too_few_in_sync(false);
    let at = store.append(&Message::new("s", "z")).unwrap();
    store.when(at.end_offset, Durability::Replicated, move |outcome| {
        answer.send(outcome).unwrap();
    });
    assert!(answers.try_recv().is_err(), "told too early");
    store.advance_replicated(at.end_offset);
    answers.recv_timeout(SOON).unwrap().unwrap();
}

#[test]
fn a_close_or_a_drop_answers_every_wait() {
    for closed in [true, false] {
        let disk: Arc<dyn qmq_store::disk::Disk> = Arc::new(SimulatedDisk::new());
        let store = Store::open_on(disk, manual()).unwrap();
        store.advance_replicated(0);
        let at = store.append(&Message::new("s", "x")).unwrap();
        let (answer, answers) = channel();
        store.when(at.end_offset, Durability::Replicated, {
            let answer = answer.clone();
            move |outcome| answer.send(outcome).unwrap()
        });
        if closed {
            let waiting = store.clone();
            std::thread::spawn(move || {
                answer.send(waiting.wait(at.end_offset, Durability::Replicated))
            });
            std::thread::sleep(Duration::from_millis(100));
            store.close().unwrap();
            assert!(matches!(answers.recv_timeout(SOON), Ok(Err(Error::Closed))));
        } else {
            drop(store);
        }
        assert!(matches!(answers.recv_timeout(SOON), Ok(Err(Error::Closed))));
    }
}

#[test]
fn a_closed_store_takes_no_checkpoint() {
    let disk = SimulatedDisk::new();
    let store = Store::open_on(Arc::new(disk), manual()).unwrap();
    let other = store.clone();
    store.close().unwrap();
    assert!(matches!(other.checkpoint(), Err(Error::Closed)));
}

#[test]
fn replicated_waits_for_the_replicator_and_is_refused_without_one() {
    let options = Options {
        visible_at: VisibleAt::Replicated,
        ..manual()
    };
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options).unwrap();
    let at = store
        .append_with(&Message::new("s", "x"), Durability::Buffered)
        .unwrap();
    let refused = store.wait(at.end_offset, Durability::Replicated);
    assert!(matches!(refused, Err(Error::NotReplicated)), "{refused:?}");
    assert!(
        store.read("s", 0, 10).unwrap().is_empty(),
        "seen before it was replicated"
    );

    store.advance_replicated(0);
    let (answer, answers) = channel();
    store.when(at.end_offset, Durability::Replicated, move |outcome| {
        answer.send(outcome.is_ok()).unwrap();
    });
    let waiting = store.clone();
    let waiter = std::thread::spawn(move || waiting.wait(at.end_offset, Durability::Replicated));
    assert!(
        answers.recv_timeout(Duration::from_millis(100)).is_err(),
        "called back too early"
    );
    store.advance_replicated(at.end_offset);
    assert_eq!(answers.recv_timeout(SOON), Ok(true));
    waiter.join().unwrap().unwrap();
    assert_eq!(store.read("s", 0, 10).unwrap().len(), 1);
}

#[test]
fn who_waits_for_a_sync_is_woken_by_that_of_a_seal_and_of_a_checkpoint() {
    let house = House::with(|options| options.visible_at = VisibleAt::Synced);
    let (bell, waker) = Bell::new();
    let store = house.store();
    let mut waiting = Waiting::default();
    let mut poll = || {
        store
            .poll_pull(&request("c"), &waker, &mut waiting)
            .unwrap()
    };
    let called = Arc::new(AtomicU64::new(0));
    // More than a segment takes: the append that begins the next one seals it.
    let seal: &dyn Fn() = &|| house.send_kilobytes("t", 70);
    let checkpoint: &dyn Fn() = &|| store.checkpoint().unwrap();
    for (turn, step) in [(1, seal), (2, checkpoint)] {
        assert!(matches!(poll(), PollPull::Pending { .. }));
        let at = house.send("s", "x");
        let counter = Arc::clone(&called);
        store.when(at.end_offset, Durability::Synced, move |outcome| {
            counter.fetch_add(u64::from(outcome.is_ok()), Ordering::SeqCst);
        });
        assert_eq!(
            (bell.rung(), called.load(Ordering::SeqCst)),
            (turn - 1, turn - 1)
        );
        step();
        assert_eq!((bell.rung(), called.load(Ordering::SeqCst)), (turn, turn));
        assert!(matches!(poll(), PollPull::Ready(_)));
    }
}

#[test]
fn a_callback_of_a_sync_by_housekeeping_may_ask_for_housekeeping() {
    let house = House::new();
    let store = house.store();
    let (answer, answers) = channel();
    for step in [Store::checkpoint, Store::maintain] {
        let at = house.send("s", "x");
        let (again, answer) = (store.clone(), answer.clone());
        store.when(at.end_offset, Durability::Synced, move |_| {
            again.checkpoint().unwrap();
            answer.send(()).unwrap();
        });
        step(store).unwrap();
        answers.recv_timeout(SOON).unwrap();
    }
}
