//! What a caller passes over stays pending: nothing is lost of it, and nothing waits for it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::desk::{Desk, bodies};
use common::{NOON, small_options};
use qmq_sched::{Cancelled, Choice, Fired, Message, Options, Scheduler, Standing};

fn options() -> Options {
    Options {
        outstanding_max: 1_000,
        ..small_options()
    }
}

fn of(subject: &str, body: impl std::fmt::Display) -> Message {
    Message::new(subject, body.to_string())
}

/// What is due now, but for one subject.
fn due_without(scheduler: &Scheduler, now: u64, max: usize, left: &str) -> Vec<Fired> {
    let mut choose = |subject: &str, _: u32| match subject == left {
        true => Choice::PassOver,
        false => Choice::Take,
    };
    scheduler.due_where(now, max, &mut choose).unwrap()
}

#[test]
fn what_is_passed_over_holds_nothing_up_and_comes_when_it_is_looked_at_again() {
    let desk = Desk::new(options());
    let scheduler = desk.open();
    for n in 0..300_u64 {
        scheduler.schedule(NOON + n, &of("away", n)).unwrap();
        scheduler.schedule(NOON + n, &of("here", n)).unwrap();
    }
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let came = due_without(&scheduler, NOON + 300, 1_000, "away");
    assert_eq!(bodies(&came), expected);
    assert!(
        came.iter()
            .all(|one| one.message.as_ref().unwrap().subject() == "here")
    );
    let none = scheduler.due(NOON + 300, 1_000).unwrap();
    assert!(none.is_empty(), "not before it is looked at again");
    assert!(scheduler.look_again());
    assert_eq!(bodies(&scheduler.due(NOON + 300, 1_000).unwrap()), expected);
    assert!(!scheduler.look_again());
    assert_eq!(scheduler.next_due().unwrap(), None);
}

#[test]
fn what_is_passed_over_is_pending_and_can_be_cancelled_and_rescheduled() {
    let desk = Desk::new(options());
    let scheduler = desk.open();
    let ids = [0, 1, 2].map(|n| scheduler.schedule(NOON + n, &of("away", n)).unwrap());
    assert!(due_without(&scheduler, NOON + 9, 10, "away").is_empty());
    let standing = scheduler.get(ids[1]).unwrap().unwrap().standing;
    assert_eq!(standing, Standing::Pending);
    assert_eq!(scheduler.cancel(ids[0]).unwrap(), Cancelled::Done);
    let moved = scheduler.reschedule(ids[1], NOON + 20).unwrap();
    assert_eq!(moved, Cancelled::Done);
    scheduler.look_again();
    assert_eq!(bodies(&scheduler.due(NOON + 9, 10).unwrap()), ["2"]);
    assert_eq!(bodies(&scheduler.due(NOON + 20, 10).unwrap()), ["1"]);
}

#[test]
fn a_restart_looks_again_by_itself() {
    for in_order in [true, false] {
        let desk = Desk::new(options());
        let scheduler = desk.open();
        for n in 0..300_u64 {
            scheduler.schedule(NOON + n, &of("away", n)).unwrap();
            scheduler.schedule(NOON + n, &of("here", n)).unwrap();
        }
        let here = due_without(&scheduler, NOON + 300, 1_000, "away");
        let ids: Vec<_> = here.iter().map(|one| one.id).collect();
        scheduler.dispatched(&ids).unwrap();
        let desk = match in_order {
            true => {
                Desk::close(scheduler);
                desk
            }
            false => desk.killed(),
        };
        let scheduler = desk.open();
        assert_eq!(scheduler.totals().count, 300);
        let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let came = scheduler.due(NOON + 300, 1_000).unwrap();
        assert_eq!(bodies(&came), expected);
    }
}

#[test]
fn runs_with_what_is_passed_over_are_kept_while_others_come_and_go() {
    let desk = Desk::new(options());
    let scheduler = desk.open();
    for n in 0..40_u64 {
        scheduler.schedule(NOON, &of("away", n)).unwrap();
    }
    // So much that runs are written, merged and left out, again and again.
    for round in 1..60_u64 {
        let now = NOON + round * 60_000;
        desk.clock.advance(60_000);
        for n in 0..50_u64 {
            scheduler.schedule(now, &of("here", n)).unwrap();
        }
        let here = due_without(&scheduler, now, 1_000, "away");
        assert_eq!(here.len(), 50, "round {round}");
        let ids: Vec<_> = here.iter().map(|one| one.id).collect();
        scheduler.dispatched(&ids).unwrap();
    }
    scheduler.look_again();
    let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&scheduler.due(NOON, 1_000).unwrap()), expected);
}

#[test]
fn a_stop_leaves_everything_behind_it_for_the_next_call() {
    let desk = Desk::new(options());
    let scheduler = desk.open();
    for n in 0..10_u64 {
        scheduler.schedule(NOON + n, &of("s", n)).unwrap();
    }
    let mut room = 3;
    let mut choose = |_: &str, _: u32| {
        room -= 1;
        if room < 0 { Choice::Stop } else { Choice::Take }
    };
    let came = scheduler.due_where(NOON + 9, 10, &mut choose).unwrap();
    assert_eq!(bodies(&came), ["0", "1", "2"]);
    assert_eq!(scheduler.next_due().unwrap(), Some(NOON + 3));
    assert_eq!(scheduler.due(NOON + 9, 10).unwrap().len(), 7);
}
