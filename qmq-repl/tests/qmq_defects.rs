//! QMQ's defects of replication, one test each, by the names of the study: D1 to D8 and A11.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Faults, Setup, Sim};
use qmq_repl::{Event, Frame, Log, Message, Options, Peer, Role};

/// The sessions of the slaves that came to a master are counted from 1 in each epoch.
fn ack(epoch: u64, session: u64, end: u64) -> Bytes {
    let message = Message::Ack {
        buffered: end,
        synced: end,
        received: end,
        echo: Duration::ZERO,
        gap: false,
        partial: false,
    };
    let frame = Frame {
        epoch,
        session,
        group: common::group(2, 0, 1).tag(),
        message,
    };
    frame.encode()
}

/// A slave that has more than its master, which has lost its tail and is master again.
fn master_without_tail() -> Sim {
    let mut sim = Sim::with_master(Setup::new(2, 1));
    for _ in 0..5 {
        sim.produce(0, 50, false);
    }
    sim.sync(0);
    for _ in 0..5 {
        sim.produce(0, 50, false);
    }
    sim.run_for(100);
    assert_eq!(sim.log(1).synced(), sim.log(0).written());
    sim.crash(0, 0);
    assert!(sim.log(0).written() < sim.log(1).written());
    sim.start(0);
    sim
}

#[test]
fn d1_a_master_that_has_lost_its_tail_never_counts_its_slave_as_caught_up() {
    let mut sim = master_without_tail();
    let shorter = sim.log(0).written();
    sim.stand(0, false);
    // While the slave has not found out, nothing that it has counts.
    sim.isolate(0);
    sim.run_for(200);
    assert_eq!(sim.node(0).epoch(), Some(2));
    assert_eq!(sim.node(0).replicated(), Some(0));
    let now = sim.now;
    assert!(sim.node(0).lag(now).iter().all(|it| !it.in_sync));
    sim.cut.clear();
    sim.run_for(3_000);
    // It has parted where the master's log ended, kept its tail, and has the same bytes.
    let parted = |event: &Event| matches!(event, Event::LostTail { from, .. } if *from == shorter);
    assert!(sim.events(1).iter().any(parted));
    for _ in 0..20 {
        sim.produce(0, 50, true);
        sim.sync(0);
        sim.run_for(5);
    }
    sim.run_for(1_000);
    assert!(sim.is_equal());
    assert!(sim.acknowledged.len() >= 20);
    assert_eq!(sim.log(0).messages(), sim.log(1).messages());
}

#[test]
fn d1_a_slave_that_claims_more_than_its_master_has_does_not_count() {
    let mut sim = Sim::with_master(Setup::new(2, 1));
    sim.partition(0, 1);
    let (now, written) = (sim.now, sim.log(0).written());
    let before = sim.node(0).replicated();
    sim.node(0)
        .handle(now, Peer(1), &ack(1, 2, written + 1_000));
    assert_eq!(sim.node(0).replicated(), before);
    assert!(!sim.node(0).lag(now)[0].follows);
}

#[test]
fn d2_a_stale_larger_offset_never_satisfies_a_wait() {
    let mut sim = master_without_tail();
    let longer = sim.log(1).written();
    sim.stand(0, false);
    sim.run_for(3_000);
    sim.partition(0, 1);
    let id = sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    assert!(
        sim.log(0).written() <= longer,
        "the old offset would be large enough"
    );
    let (now, end) = (sim.now, sim.log(0).written());
    for epoch in [1, 2] {
        for session in [0, 1, 2, 7] {
            let live = (epoch, session) == (2, 1);
            if !live {
                sim.node(0).handle(now, Peer(1), &ack(epoch, session, end));
            }
        }
    }
    sim.run_for(1_000);
    assert!(!sim.acknowledged.contains(&id));
    sim.cut.clear();
    sim.run_for(3_000);
    assert!(sim.acknowledged.contains(&id));
    assert!(sim.log(1).messages().contains(&id));
}

#[test]
fn d3_a_slave_checks_the_offset_and_the_result_of_each_append() {
    let mut sim = Sim::with_master(Setup::new(2, 1));
    sim.log(1).0.borrow_mut().bad_appends = 3;
    sim.events(1);
    sim.produce(0, 50, true).unwrap();
    sim.sync(0);
    sim.run_for(20);
    let refused = |event: &Event| matches!(event, Event::AppendRefused { .. });
    assert!(sim.events(1).iter().any(refused), "it is said");
    assert!(sim.acknowledged.is_empty());
    sim.run_for(3_000);
    assert_eq!(
        sim.acknowledged.len(),
        1,
        "it is tried again, and not for ever"
    );
    assert!(sim.is_equal());

    // Bytes for another place than the end are not appended, wherever they come from.
    let now = sim.now;
    let written = sim.log(1).written();
    let bytes = sim.log(0).read(0, 100).unwrap();
    for session in 0..9 {
        for offset in [written - 1, written + 8] {
            let message = Message::Data {
                offset,
                rest: 0,
                bytes: bytes.clone(),
            };
            let frame = Frame {
                epoch: 1,
                session,
                group: common::group(2, 0, 1).tag(),
                message,
            };
            sim.node(1).handle(now, Peer(0), &frame.encode());
            assert_eq!(sim.log(1).written(), written);
        }
    }
}

#[test]
fn d4_a_dead_slave_never_pins_retention_for_ever() {
    let mut sim = Sim::with_master(Setup::new(2, 0));
    let hold_max = sim.setup.options.hold_bytes_max;
    sim.crash(1, 0);
    for _ in 0..500 {
        sim.produce(0, 100, false);
        sim.sync(0);
    }
    let written = sim.log(0).written();
    let hold = sim.node(0).retention_hold().unwrap();
    assert_eq!(hold, written - hold_max, "what is kept for it is bounded");
    sim.log(0).retire(hold);
    assert!(sim.log(0).start() > 0);
    sim.start(1);
    sim.run_for(5_000);
    assert!(
        sim.events(1)
            .iter()
            .any(|event| matches!(event, Event::Installed { .. }))
    );
    assert!(sim.is_equal());
    assert_eq!(sim.log(1).messages(), sim.log(0).messages());
    // A slave that is there holds what it needs.
    sim.run_for(200);
    assert_eq!(sim.node(0).retention_hold(), Some(sim.log(0).written()));
}

#[test]
fn d5_streaming_is_pipelined_and_an_append_goes_out_at_once() {
    let mut setup = Setup::new(2, 1);
    setup.options = Options::default();
    setup.faults = Faults {
        delay: (10_000, 10_000),
        ..Faults::NONE
    };
    let mut sim = Sim::with_master(setup);
    let round_trip = Duration::from_millis(20);
    sim.partition(0, 1);
    for _ in 0..60 {
        sim.produce(0, 100_000, false);
    }
    sim.sync(0);
    sim.run_for(10_000);
    sim.cut.clear();
    // From the hello on: two round trips to agree, then 6 MB within one window. 100 KB a round trip would take sixty.
    while sim.log(1).written() == sim.log(0).epochs()[0].start + 32 {
        sim.run_for(1);
    }
    let began = sim.now;
    while !sim.is_equal() {
        sim.run_for(1);
    }
    assert!(sim.now - began <= round_trip * 2, "{:?}", sim.now - began);
    // One append: there and back, no polling.
    sim.run_for(1_000);
    let id = sim.produce(0, 100, true).unwrap();
    sim.sync(0);
    sim.run_for(21);
    assert!(sim.acknowledged.contains(&id));
}

#[test]
fn d6_a_dead_master_is_replaced_and_nothing_that_was_replicated_is_lost() {
    let mut sim = Sim::with_master(Setup::new(3, 1));
    for _ in 0..30 {
        sim.produce(0, 100, true);
        sim.sync(0);
        sim.run_for(2);
    }
    sim.run_for(100);
    assert_eq!(sim.acknowledged.len(), 30);
    sim.crash(0, 0);
    sim.stand(2, false);
    sim.run_for(500);
    assert_eq!(sim.master(), Some(2));
    assert!(sim.acknowledged.is_subset(&sim.log(2).messages()));
    sim.produce(2, 100, true).unwrap();
    sim.sync(2);
    sim.run_for(1_000);
    assert_eq!(
        sim.acknowledged.len(),
        31,
        "the other slave follows, so the group goes on"
    );
    sim.start(0);
    sim.run_for(1_000);
    assert_eq!(sim.node(0).role(), Role::Slave);
    assert!(sim.is_equal());
}

#[test]
fn d7_a_record_is_acknowledged_only_when_its_end_is_there() {
    // The record is longer than a window and comes in pieces, a few milliseconds apart.
    let mut setup = Setup::new(2, 1);
    setup.options.catch_up_bytes_per_second = Some(20_000);
    let mut sim = Sim::with_master(setup);
    let start = sim.log(0).written();
    let id = sim.produce(0, 8_000, true).unwrap();
    sim.sync(0);
    let end = sim.log(0).written();
    sim.run_for(150);
    assert!(sim.bytes > 3_000, "pieces have gone out");
    assert_eq!(sim.log(1).written(), start, "pieces are no record");
    for _ in 0..5_000 {
        let there = sim.log(1).synced();
        assert!(sim.node(0).replicated().unwrap() <= there.max(start));
        if there < end {
            assert!(!sim.acknowledged.contains(&id));
        }
        sim.run_until(sim.now + Duration::from_micros(100));
    }
    assert!(sim.acknowledged.contains(&id));
}

#[test]
fn d8_several_slaves_and_as_many_of_them_as_asked_for() {
    let mut sim = Sim::with_master(Setup::new(4, 2));
    let first = sim.produce(0, 100, true).unwrap();
    sim.sync(0);
    sim.run_for(100);
    assert!(sim.acknowledged.contains(&first));
    sim.partition(0, 1);
    sim.partition(0, 2);
    sim.run_for(1_000);
    sim.events(0);
    let second = sim.produce(0, 100, true).unwrap();
    sim.sync(0);
    sim.run_for(1_000);
    assert!(!sim.acknowledged.contains(&second), "one slave is not two");
    let few = Event::TooFewInSync {
        in_sync: 1,
        needed: 2,
        before: sim.log(0).written(),
    };
    assert!(sim.events(0).contains(&few));
    sim.cut.clear();
    sim.run_for(3_000);
    assert!(sim.acknowledged.contains(&second));
    assert!(sim.events(0).contains(&Event::EnoughInSync));
}

#[test]
fn a11_a_new_slave_of_an_old_master_has_what_the_log_has_retired_and_can_take_over() {
    let mut sim = Sim::with_master(Setup::new(2, 1));
    for _ in 0..200 {
        sim.produce(0, 100, true);
        sim.sync(0);
        sim.run_for(1);
    }
    sim.run_for(500);
    sim.crash(1, 0);
    sim.log(1).wipe();
    let retired = sim.log(0).middle();
    sim.log(0).retire(retired);
    sim.start(1);
    sim.run_for(100);
    // The master goes on while the new slave comes in.
    sim.produce(0, 100, true).unwrap();
    sim.sync(0);
    sim.run_for(3_000);
    assert_eq!(sim.acknowledged.len(), 201);
    assert!(sim.is_equal());
    sim.crash(0, 0);
    sim.stand(1, false);
    sim.run_for(1_000);
    assert_eq!(sim.master(), Some(1));
    assert!(sim.acknowledged.is_subset(&sim.log(1).messages()));
}
