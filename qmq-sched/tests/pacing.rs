//! How fast what is due comes: a backlog at its rate, what is too late not at all, what was refused after its pause.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::desk::{Desk, bodies, drain, ids, message};
use common::{DAY, NOON, small_options};
use qmq_sched::{Options, Scheduler};

fn late(count: u64, scheduler: &Scheduler) {
    for number in 0..count {
        let message = message(format!("late {number}"));
        scheduler.schedule(NOON + number, &message).unwrap();
    }
}

/// A scheduler that is opened a day after messages fell due.
fn opened_late(count: u64, options: Options) -> (Desk, Scheduler) {
    let desk = Desk::new(options);
    let scheduler = desk.open();
    late(count, &scheduler);
    drop(scheduler);
    desk.clock.advance(DAY);
    let desk = desk.killed();
    let scheduler = desk.open();
    (desk, scheduler)
}

#[test]
fn a_backlog_comes_at_its_rate_in_due_order_and_delays_nothing_fresh() {
    let options = Options {
        catch_up_per_second: Some(10),
        ..small_options()
    };
    let (desk, scheduler) = opened_late(35, options);
    let opened = desk.now();
    let mut next = 0;
    for second in 0..4 {
        let now = opened + second * 1_000;
        desk.clock.set(now);
        let fresh = format!("fresh {second}");
        scheduler.schedule(now, &message(fresh.clone())).unwrap();
        let mut fired = bodies(&drain(&scheduler, now));
        assert_eq!(
            fired.pop(),
            Some(fresh),
            "it is later than all of the backlog"
        );
        let expected = (next..35.min(next + 10)).map(|number| format!("late {number}"));
        assert!(fired.into_iter().eq(expected), "second {second}");
        next += 10;
    }
    assert_eq!(scheduler.totals().count, 0);
}

#[test]
fn the_next_due_time_counts_the_rate_in_and_no_share_is_saved_up() {
    let options = Options {
        catch_up_per_second: Some(10),
        ..small_options()
    };
    let (desk, scheduler) = opened_late(50, options);
    let opened = desk.now();
    assert_eq!(scheduler.next_due().unwrap(), Some(opened));
    assert_eq!(drain(&scheduler, opened).len(), 10);
    assert_eq!(scheduler.next_due().unwrap(), Some(opened + 100));
    assert!(drain(&scheduler, opened + 99).is_empty());
    assert_eq!(drain(&scheduler, opened + 100).len(), 1);
    // An hour in which nobody asks.
    assert_eq!(drain(&scheduler, opened + 3_600_000).len(), 10);
    assert_eq!(
        scheduler.next_due().unwrap(),
        Some(opened + 3_600_000 + 100)
    );
}

#[test]
fn with_all_that_may_be_out_nothing_is_due_until_one_is_dispatched() {
    let options = Options {
        outstanding_max: 2,
        ..small_options()
    };
    let desk = Desk::new(options);
    let scheduler = desk.open();
    late(3, &scheduler);
    let now = NOON + 10;
    let fired = scheduler.due(now, 10).unwrap();
    assert_eq!(fired.len(), 2);
    assert_eq!(scheduler.next_due().unwrap(), None);
    scheduler.refused(now, &[fired[0].id]);
    assert_eq!(scheduler.next_due().unwrap(), Some(now + 1_000));
    assert_eq!(scheduler.dispatched(&[fired[1].id]).unwrap(), 1);
    assert_eq!(scheduler.next_due().unwrap(), Some(NOON + 2));
}

/// A clock that was ahead when the scheduler was opened, and is set right.
#[test]
fn a_clock_set_back_behind_the_open_stops_no_backlog_and_nothing_fresh() {
    let options = Options {
        catch_up_per_second: Some(10),
        ..small_options()
    };
    let (desk, scheduler) = opened_late(35, options);
    assert_eq!(drain(&scheduler, desk.now()).len(), 10);
    for second in 0..5 {
        let now = NOON + 1_000 + second * 1_000;
        desk.clock.set(now);
        scheduler.schedule(now, &message("fresh")).unwrap();
        drain(&scheduler, now);
    }
    assert_eq!(scheduler.totals().count, 0);
}

#[test]
fn what_is_later_than_its_time_to_live_is_dropped_and_counted_over_restarts() {
    let options = Options {
        time_to_live: Some(Duration::from_millis(DAY - 3)),
        ..small_options()
    };
    // At the open, number 3 is as late as it may be.
    let (desk, scheduler) = opened_late(50, options);
    let fired = bodies(&drain(&scheduler, desk.now()));
    assert!(
        fired
            .into_iter()
            .eq((3..50).map(|number| format!("late {number}")))
    );
    assert_eq!((scheduler.dropped(), scheduler.totals().count), (3, 0));
    Desk::close(scheduler);
    let scheduler = desk.open();
    assert_eq!(scheduler.dropped(), 3);
    assert!(drain(&scheduler, desk.now()).is_empty());
}

#[test]
fn a_refused_message_comes_after_1_2_4_to_60_s_and_alone() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    for body in ["left", "refused", "right"] {
        scheduler.schedule(NOON, &message(body)).unwrap();
    }
    let fired = scheduler.due(NOON, 10).unwrap();
    let refused = fired[1].id;
    let mut now = NOON;
    for (number, seconds) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        scheduler.refused(now, &[refused]);
        now += seconds * 1_000;
        assert!(scheduler.due(now - 1, 10).unwrap().is_empty());
        assert_eq!(scheduler.next_due().unwrap(), Some(now));
        let again = scheduler.due(now, 10).unwrap();
        assert_eq!((ids(&again), again[0].refusals), (vec![refused], number));
    }
    // The neighbours are still with whoever has them.
    assert_eq!(scheduler.outstanding(), 3);
    assert_eq!(scheduler.dispatched(&ids(&fired)).unwrap(), 3);
    scheduler.refused(now, &ids(&fired));
    assert!(scheduler.due(now + DAY, 10).unwrap().is_empty());
}

/// By less than has passed since the open.
#[test]
fn a_clock_set_back_a_little_stops_no_backlog() {
    let options = Options {
        catch_up_per_second: Some(10),
        ..small_options()
    };
    let (desk, scheduler) = opened_late(60, options);
    let opened = desk.now();
    assert_eq!(drain(&scheduler, opened + 3_600_000).len(), 10);
    let back = opened + 60_000;
    assert!(drain(&scheduler, back).is_empty());
    assert_eq!(drain(&scheduler, back + 1_000).len(), 10);
}
