//! Waiting for messages: who is woken, when, and what is left of those who give up.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use qmq_store::{
    Durability, Message, Options, PollPull, PullRequest, Start, Store, TagFilter, VisibleAt,
    Waiting,
};
use support::{Bell, House, NOON, attempts, request, sequences, small_options};

#[test]
fn a_task_is_woken_by_what_it_waits_for_and_by_nothing_else() {
    let house = House::new();
    let (bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    let mut poll = || house.poll("c", &waker, &mut waiting);
    assert!(poll().is_none());
    house.send("another", "x");
    assert_eq!(bell.rung(), 0);
    house.send("s", "x");
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll().expect("woken for something").len(), 1);
    // Once is once: who is not waiting is not woken.
    house.send("s", "y");
    assert_eq!(bell.rung(), 1);
}

#[test]
fn who_looks_for_a_rare_tag_is_woken_until_it_has_seen_everything() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        scan_max: 1_000,
        ..Options::default()
    };
    let store = Store::open(folder.path(), options).unwrap();
    let common: Vec<_> = (0..5_500)
        .map(|_| Message::new("s", "x").tag("common"))
        .collect();
    store.append_batch(&common, Durability::Buffered).unwrap();
    let rare = Message::new("s", "y").tag("rare");
    store.append_batch(&[rare], Durability::Buffered).unwrap();
    let request = PullRequest::new("s", "g", "c")
        .start(Start::Earliest)
        .filter(TagFilter::Any(vec!["rare".to_owned()]));
    let (bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    let mut polls = 0;
    let found = loop {
        polls += 1;
        match store.poll_pull(&request, &waker, &mut waiting).unwrap() {
            PollPull::Ready(batch) => break batch,
            PollPull::Pending { .. } => assert_eq!(bell.rung(), polls, "there is more to look at"),
        }
    };
    assert_eq!(found.len(), 1);
    let polled = store.poll_pull(&request, &waker, &mut waiting).unwrap();
    assert!(matches!(polled, PollPull::Pending { .. }));
    assert_eq!(bell.rung(), polls - 1, "nothing more to look at");
}

#[test]
fn a_wait_that_is_given_up_leaves_no_waker_behind_and_takes_no_other_along() {
    let house = House::new();
    let (bell, waker) = Bell::new();
    let (others, another) = Bell::new();
    let held = || (Arc::strong_count(&bell), Arc::strong_count(&others));
    for _ in 0..10 {
        assert!(house.poll("c", &waker, &mut Waiting::default()).is_none());
    }
    assert_eq!(held(), (2, 2));
    // Two that wait with one waker, of which one gives up; and one that was polled with another waker last.
    let mut places = [(); 3].map(|()| Waiting::default());
    for waiting in &mut places {
        assert!(house.poll("c", &waker, waiting).is_none());
    }
    assert!(house.poll("c", &another, &mut places[2]).is_none());
    assert_eq!(held(), (4, 3));
    places[0] = Waiting::default();
    assert_eq!(held(), (3, 3));
    house.send("s", "x");
    assert_eq!((bell.rung(), others.rung()), (1, 1));
    assert_eq!(held(), (2, 2));
    // On another subject it waits no more on the first; what is ready ends the wait.
    assert!(house.poll("c", &waker, &mut places[0]).is_some());
    assert!(house.poll("c", &waker, &mut places[0]).is_none());
    let elsewhere = PullRequest::new("t", "g", "c");
    let polled = house.store().poll_pull(&elsewhere, &waker, &mut places[0]);
    assert!(matches!(polled.unwrap(), PollPull::Pending { .. }));
    house.send("s", "y");
    assert_eq!(bell.rung(), 1);
    assert!(house.poll("c", &waker, &mut places[0]).is_some());
    assert_eq!(held(), (2, 2));
}

/// A task that waits in two places, one of which is its own.
struct Task {
    waiting: Mutex<Waiting>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_task_that_goes_with_its_last_waker_leaves_where_no_lock_is_held() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let house = House::new();
        let (_bell, another) = Bell::new();
        for given_up in [false, true] {
            let mut elsewhere = Waiting::default();
            let task = Arc::new(Task {
                waiting: Mutex::default(),
            });
            let waker = Waker::from(Arc::clone(&task));
            assert!(house.poll("c", &waker, &mut elsewhere).is_none());
            let mut own = task.waiting.lock().unwrap();
            assert!(house.poll("c", &another, &mut own).is_none());
            drop(own);
            drop((task, waker));
            if given_up {
                drop(elsewhere);
            } else {
                assert!(house.poll("c", &another, &mut elsewhere).is_none());
            }
        }
        done.send(()).unwrap();
    });
    let told = finished.recv_timeout(Duration::from_secs(20));
    told.expect("it waits for a lock that it holds");
}

#[test]
fn a_task_is_told_when_a_refused_message_is_due_and_woken_when_one_is_left_behind() {
    let house = House::new();
    house.send_numbers("s", 0..2);
    let batch = house.pull("c", 1);
    let other = house.pull("other", 1);
    let (bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    let mut poll = || {
        house
            .store()
            .poll_pull(&request("waiting"), &waker, &mut waiting)
            .unwrap()
    };
    assert!(matches!(poll(), PollPull::Pending { next_due_ms: None }));
    let all = [0..=u64::MAX];
    let delay = Duration::from_secs(5);
    house
        .store()
        .nack(batch.member(), &all, delay, Durability::Buffered)
        .unwrap();
    assert_eq!(bell.rung(), 1, "the time to wait until has changed");
    let due = NOON + 5_000;
    assert!(matches!(poll(), PollPull::Pending { next_due_ms: Some(at) } if at == due));
    house
        .store()
        .consumer_gone("s", "g", &other.member().consumer)
        .unwrap();
    assert_eq!(bell.rung(), 2);
    assert!(matches!(poll(), PollPull::Ready(left) if sequences(&left) == [1]));
}

/// What comes back was visible before: it waits for no sync and no slave again.
#[test]
fn what_others_leave_behind_wakes_at_once_whatever_messages_are_visible_at() {
    for visible_at in [VisibleAt::Written, VisibleAt::Synced, VisibleAt::Replicated] {
        let house = House::with(|options| {
            options.visible_at = visible_at;
            options.lease = Duration::from_secs(30);
        });
        house.send_numbers("s", 0..3);
        house.store().sync().unwrap();
        house
            .store()
            .advance_replicated(house.store().watermarks().written);
        let (gone, silent) = (house.pull("gone", 1), house.pull("silent", 1));
        let refusing = house.pull("refusing", 1);
        assert_eq!([gone.len(), silent.len(), refusing.len()], [1; 3]);
        let (bell, waker) = Bell::new();
        let mut waiting = Waiting::default();
        let mut rung = 0;
        let mut woken_for = |sequence: u64, change: &dyn Fn()| {
            assert!(house.poll("waiting", &waker, &mut waiting).is_none());
            change();
            rung += 1;
            assert_eq!(bell.rung(), rung, "{visible_at:?}");
            let again = house.poll("waiting", &waker, &mut waiting).unwrap();
            assert_eq!(
                (sequences(&again), attempts(&again)),
                (vec![sequence], vec![1])
            );
        };
        let store = house.store();
        woken_for(0, &|| {
            store.consumer_gone("s", "g", "gone").unwrap();
        });
        woken_for(2, &|| {
            let all = [0..=u64::MAX];
            let now = Duration::ZERO;
            store
                .nack(refusing.member(), &all, now, Durability::Buffered)
                .unwrap();
        });
        house.clock.advance(30_001);
        // Who waits pulls, and so has not gone silent.
        woken_for(1, &|| {
            assert_eq!(store.expire(NOON + 30_001).unwrap().len(), 1);
        });
    }
}

#[test]
fn a_waiting_thread_wakes_up_when_a_refused_message_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        clock: Options::default().clock,
        ..small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    let batch = store.pull(&request("c")).unwrap();
    let start = Instant::now();
    let delay = Duration::from_millis(60);
    store
        .nack(batch.member(), &[0..=u64::MAX], delay, Durability::Buffered)
        .unwrap();
    let again = store
        .pull_wait(&request("c"), Duration::from_secs(30))
        .unwrap();
    assert_eq!(attempts(&again), [1]);
    assert!(start.elapsed() >= delay - Duration::from_millis(2));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_waiting_thread_gives_up_after_its_time() {
    let house = House::new();
    let start = Instant::now();
    let batch = house
        .store()
        .pull_wait(&request("c"), Duration::from_millis(30))
        .unwrap();
    assert!(batch.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(30));
}
