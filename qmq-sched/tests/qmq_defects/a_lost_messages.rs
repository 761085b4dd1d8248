//! A: messages lost, or delivered wrongly, in normal failure handling.

use qmq_sched::{Error, Options};
use qmq_store::Durability;

use crate::common::desk::{Desk, bodies, drain, ids, message};
use crate::common::{DAY, MINUTE, NOON};

/// A3: a restart looked at the two newest dispatch buckets alone, and forgot what was not dispatched in older ones.
#[test]
fn a3_a_restart_forgets_nothing_of_older_buckets() {
    let options = Options {
        segment_scale_minute: 10,
        ..Options::default()
    };
    let mut desk = Desk::new(options);
    let scheduler = desk.open();
    for bucket in 0..6 {
        for body in ["undelivered", "delivered"] {
            let due = NOON + bucket * 10 * MINUTE;
            let body = format!("{bucket} {body}");
            scheduler.schedule(due, &message(body)).unwrap();
        }
    }
    desk.clock.advance(DAY);
    let fired = scheduler.due(desk.now(), 100).unwrap();
    let delivered: Vec<_> = ids(&fired).into_iter().skip(1).step_by(2).collect();
    scheduler.dispatched(&delivered).unwrap();
    scheduler.checkpoint().unwrap();
    Desk::close(scheduler);
    for _ in 0..3 {
        let scheduler = desk.open();
        let again = bodies(&scheduler.due(desk.now(), 100).unwrap());
        let all: Vec<_> = (0..6)
            .map(|bucket| format!("{bucket} undelivered"))
            .collect();
        assert_eq!(again, all);
        desk = desk.killed();
    }
}

/// A4: a message over the limit was dropped, the rest of the segment with it, and the producer was told SUCCESS.
#[test]
fn a4_a_message_too_large_is_refused_and_takes_nothing() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    scheduler.schedule(NOON, &message("before")).unwrap();
    let max = scheduler.store().options().body_bytes_max as usize;
    let written = scheduler.store().watermarks().written;
    let large = message(vec![b'x'; max]);
    let refused = scheduler.schedule(NOON, &large).unwrap_err();
    assert!(refused.to_string().contains(&max.to_string()), "{refused}");
    let batch = [(NOON, message("beside")), (NOON, large)];
    assert!(
        scheduler
            .schedule_batch(&batch, Durability::Synced)
            .is_err()
    );
    assert_eq!(scheduler.store().watermarks().written, written);
    assert_eq!(scheduler.totals().count, 1);
    scheduler.schedule(NOON, &message("after")).unwrap();
    drop(scheduler);
    let desk = desk.killed();
    assert_eq!(bodies(&drain(&desk.open(), NOON)), ["before", "after"]);
}

/// A9: a record that could not be read at its time was left out with a line in a log, neither tried again nor dispatched.
#[test]
fn a9_an_unreadable_message_is_handed_out_as_such_and_its_neighbours_unharmed() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    for body in ["left", "damaged", "right"] {
        scheduler.schedule(NOON, &message(body)).unwrap();
    }
    desk.damage_log(b"damaged");
    let fired = scheduler.due(NOON, 10).unwrap();
    let whole = |fired: &[qmq_sched::Fired]| {
        let whole = fired.iter().map(|one| one.message.is_ok());
        whole.collect::<Vec<_>>()
    };
    assert_eq!(whole(&fired), [true, false, true]);
    assert!(fired[1].message.as_ref().unwrap_err().offset.is_some());
    scheduler.dispatched(&[fired[0].id, fired[2].id]).unwrap();
    scheduler.refused(NOON, &[fired[1].id]);
    let again = scheduler.due(NOON + 1_000, 10).unwrap();
    assert_eq!(
        (ids(&again), whole(&again)),
        (vec![fired[1].id], vec![false])
    );
    assert_eq!(scheduler.dispatched(&ids(&again)).unwrap(), 1);
    assert_eq!(scheduler.totals().count, 0);
}

/// A13: a delay beyond two years was cut to two years, and the message delivered early.
#[test]
fn a13_a_due_time_beyond_the_limit_is_refused_with_the_limit() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let limit = desk.options.max_delay.as_millis() as u64;
    let id = scheduler.schedule(NOON + limit, &message("last")).unwrap();
    for due in [NOON + limit + 1, u64::MAX] {
        let refused = scheduler.schedule(due, &message("beyond")).unwrap_err();
        assert!(
            matches!(refused, Error::TooFar { due_ms, max_delay_ms, .. } if due_ms == due && max_delay_ms == limit)
        );
        assert!(refused.to_string().contains(&limit.to_string()));
        assert!(scheduler.reschedule(id, due).is_err());
    }
    assert_eq!(scheduler.totals().count, 1);
    assert!(scheduler.due(NOON + limit - 1, 10).unwrap().is_empty());
    assert_eq!(bodies(&drain(&scheduler, NOON + limit)), ["last"]);
}
