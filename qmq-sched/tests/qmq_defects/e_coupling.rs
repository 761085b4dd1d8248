//! E: one message in the way of others.

use std::collections::BTreeMap;

use qmq_sched::{Message, Options};

use crate::common::desk::{Desk, bodies, drain, files, ids, message};
use crate::common::{DAY, MINUTE, NOON, small_options};

/// E12: one unavailable group of brokers held a thread for minutes, four of them all subjects, and in the end the wheel.
#[test]
fn e12_who_cannot_be_reached_holds_up_nobody() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    for second in 0..600 {
        for subject in ["down", "up"] {
            let due = NOON + second * 1_000;
            let message = Message::new(subject, second.to_string());
            scheduler.schedule(due, &message).unwrap();
        }
    }
    let mut tries = BTreeMap::<String, u64>::new();
    for second in 0..600 {
        let now = NOON + second * 1_000;
        let fired = scheduler.due(now, 1_000).unwrap();
        let is_up = |one: &&qmq_sched::Fired| one.message.as_ref().unwrap().subject() == "up";
        let (up, down): (Vec<_>, Vec<_>) = fired.into_iter().partition(|one| is_up(&one));
        assert_eq!(bodies(&up), [second.to_string()], "in time, and once");
        scheduler.dispatched(&ids(&up)).unwrap();
        for body in bodies(&down) {
            *tries.entry(body).or_default() += 1;
        }
        scheduler.refused(now, &ids(&down));
    }
    assert_eq!(tries.len(), 600);
    // After 1, 2, 4 ... 32 s, and then once a minute.
    assert_eq!(tries["0"], 7 + (599 - 63) / 60);
}

/// E14: an entry in the wrong place ended the wheel's thread, and a bucket made while the cursors moved was skipped.
#[test]
fn e14_a_message_scheduled_while_its_bucket_passes_is_neither_skipped_nor_in_the_way() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let (mut expected, mut pending) = (0, BTreeMap::new());
    for step in 0..200_u64 {
        let now = NOON + step * 7_000;
        desk.clock.set(now);
        let edge = now / MINUTE * MINUTE + MINUTE;
        for due in [
            now - 1,
            now,
            now + 1,
            edge - 1,
            edge,
            edge + 1,
            edge + 3 * MINUTE,
        ] {
            let id = scheduler.schedule(due, &message("")).unwrap();
            pending.insert(id, due);
            expected += 1;
        }
        if step % 3 == 0 {
            let moved = *pending.keys().next_back().unwrap();
            pending.insert(moved, now + step % 5);
            let answer = scheduler.reschedule(moved, now + step % 5).unwrap();
            assert_eq!(answer, qmq_sched::Cancelled::Done);
        }
        for one in drain(&scheduler, now) {
            let due = pending.remove(&one.id).expect("once");
            assert!(due <= now && one.due_ms <= now);
            expected -= 1;
        }
        assert!(pending.values().all(|&due| due > now), "one was skipped");
    }
    assert_eq!(scheduler.totals().count, expected);
}

/// E15: all payloads of a bucket were read to get at 32 bytes for each message.
#[test]
fn e15_a_bucket_is_loaded_without_its_bodies() {
    const MESSAGES: u64 = 500;
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let body = "payload ".repeat(200);
    let mut some = None;
    for number in 0..MESSAGES {
        some = Some(scheduler.schedule(NOON + number, &message(&*body)).unwrap());
    }
    scheduler.checkpoint().unwrap();
    Desk::close(scheduler);
    let index = files(&desk.index, "").into_iter();
    let sizes = index.map(|name| crate::common::desk::content(&desk.index, &name).len());
    assert!(sizes.sum::<usize>() < MESSAGES as usize * 100);
    // Nothing but the bodies is damaged, so whoever read one would see it.
    desk.damage_log(body.as_bytes());
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().rebuilt, None);
    assert!(scheduler.open_report().replayed <= 1);
    assert_eq!(scheduler.totals().count, MESSAGES);
    assert_eq!(scheduler.next_due().unwrap(), Some(NOON));
    let page = scheduler.list(Some("s"), 0, u64::MAX, None, 1_000).unwrap();
    assert_eq!(page.messages.len() as u64, MESSAGES);
    let answer = scheduler.cancel(some.unwrap()).unwrap();
    assert_eq!(answer, qmq_sched::Cancelled::Done);
    let fired = drain(&scheduler, NOON + DAY);
    assert_eq!(fired.len() as u64, MESSAGES - 1);
    assert!(fired.iter().all(|one| one.message.is_err()));
}
