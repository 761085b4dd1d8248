//! What the options and the roles promise, one test each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Faults, Setup, Sim};
use qmq_repl::{
    AckPolicy, Event, Frame, Group, Hello, Log, Message, Node, NotAccepting, Options, Peer,
    PromotionError, Refused, Role, Scrubbed, SwitchError,
};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A master and its slaves, with some messages that all of them have.
fn running(setup: Setup) -> Sim {
    let mut sim = Sim::with_master(setup);
    for _ in 0..30 {
        sim.produce(0, 100, true);
        sim.sync(0);
        sim.run_for(2);
    }
    sim.run_for(1_000);
    assert!(sim.is_equal());
    sim
}

#[test]
fn a_planned_switch_loses_nothing_and_refuses_writes_for_less_than_a_second() {
    let mut setup = Setup::new(3, 1);
    setup.options = Options::default();
    setup.faults = Faults {
        delay: (1_000, 5_000),
        ..Faults::NONE
    };
    let mut sim = running(setup);
    let now = sim.now;
    sim.node(0).switch_to(now, Peer(2)).unwrap();
    sim.drive(0);
    let (mut refused, began) = (millis(0), sim.now);
    for _ in 0..2_000 {
        let taken = (0..3)
            .filter(|&n| sim.produce(n, 50, true).is_some())
            .count();
        assert!(taken <= 1);
        if taken == 0 {
            refused += millis(1);
        }
        for n in 0..3 {
            sim.sync(n);
        }
        sim.run_for(1);
    }
    assert!(began < sim.now);
    assert!(
        refused > millis(0) && refused < millis(1_000),
        "{refused:?}"
    );
    assert_eq!(sim.master(), Some(2));
    sim.run_for(2_000);
    assert!(sim.is_equal());
    sim.check_nothing_lost();
    assert!(sim.acknowledged.len() > 1_500);
    for n in 0..3 {
        assert!(
            sim.log(n).0.borrow().lost_tails.is_empty(),
            "nobody had to cut"
        );
    }
}

#[test]
fn a_switch_that_does_not_come_about_is_called_off() {
    let mut sim = running(Setup::new(2, 1));
    let now = sim.now;
    assert_eq!(
        sim.node(1).switch_to(now, Peer(0)),
        Err(SwitchError::NotMaster)
    );
    sim.produce(0, 50, false);
    sim.partition(0, 1);
    sim.node(0).switch_to(now, Peer(1)).unwrap();
    sim.drive(0);
    assert_eq!(sim.node(0).may_accept(now), Err(NotAccepting::Switching));
    assert!(sim.produce(0, 50, false).is_none());
    sim.run_for(600);
    assert!(sim.events(0).contains(&Event::SwitchFailed { to: Peer(1) }));
    assert!(sim.produce(0, 50, false).is_some());
    let now = sim.now;
    assert_eq!(
        sim.node(0).switch_to(now, Peer(1)),
        Err(SwitchError::NotFollowing)
    );
}

#[test]
fn an_isolated_master_with_a_lease_stops_before_another_one_begins() {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    sim.isolate(0);
    sim.stand(1, false);
    let (cut, mut stopped, mut began) = (sim.now, None, None);
    for _ in 0..2_000 {
        let old = sim.produce(0, 10, false).is_some();
        let new = sim.produce(1, 10, false).is_some();
        assert!(
            !(old && new),
            "two masters take appends at {:?}",
            sim.now - cut
        );
        if !old && stopped.is_none() {
            stopped = Some(sim.now - cut);
        }
        if new && began.is_none() {
            began = Some(sim.now - cut);
        }
        sim.run_for(1);
    }
    let (stopped, began) = (stopped.unwrap(), began.unwrap());
    assert!(
        stopped <= millis(400) && stopped < began,
        "{stopped:?} {began:?}"
    );
    let now = sim.now;
    assert_eq!(sim.node(0).may_accept(now), Err(NotAccepting::LeaseRanOut));
    assert!(sim.events(0).contains(&Event::Paused));
}

/// How long a master that is cut off goes on.
fn stops_after(cut_after: u64) -> Duration {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    sim.run_for(cut_after);
    sim.isolate(0);
    let cut = sim.now;
    while sim.produce(0, 10, false).is_some() {
        sim.run_for(1);
    }
    sim.now - cut
}

#[test]
fn a_master_leaves_a_tenth_of_the_lease_to_clocks_of_another_speed() {
    let longest = (0..50).step_by(5).map(stops_after).max().unwrap();
    assert!(
        (millis(350)..=millis(361)).contains(&longest),
        "{longest:?}"
    );
}

#[test]
fn as_many_slaves_as_must_be_in_sync_must_grant_the_lease() {
    let mut setup = Setup::new(4, 2);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    for (one, other) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        sim.partition(one, other);
    }
    sim.run_for(500);
    let now = sim.now;
    assert!(sim.node(0).lag(now).iter().any(|lag| lag.follows));
    assert_eq!(sim.node(0).may_accept(now), Err(NotAccepting::LeaseRanOut));
}

#[test]
fn a_candidate_waits_for_the_lease_that_it_has_granted_itself() {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    sim.partition(0, 2);
    sim.run_for(1_000);
    let now = sim.now;
    assert_eq!(sim.node(0).may_accept(now), Ok(()), "1 grants it");
    sim.isolate(0);
    sim.stand(1, false);
    let mut began = None;
    for _ in 0..1_000 {
        let (old, new) = (sim.produce(0, 10, false), sim.produce(1, 10, false));
        assert!(old.is_none() || new.is_none(), "at {:?}", sim.now - now);
        began = began.or(new);
        sim.run_for(1);
    }
    assert!(began.is_some());
}

#[test]
fn who_accepts_loss_waits_for_a_whole_lease_of_those_who_do_not_answer() {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let (answers, lease) = (setup.options.promotion_timeout, millis(400));
    let mut sim = running(setup);
    sim.isolate(1);
    sim.run_for(1_000);
    sim.loss_accepted = true;
    let now = sim.now;
    sim.stand(1, true);
    sim.run_until(now + answers + lease - millis(1));
    assert_eq!(sim.node(1).role(), Role::Candidate);
    sim.run_for(2);
    assert_eq!(sim.node(1).role(), Role::Master);
}

#[test]
fn slaves_that_restart_remember_no_lease_and_wait_one_out() {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    sim.isolate(0);
    for n in [1, 2] {
        sim.crash(n, 0);
        sim.start(n);
    }
    sim.stand(1, false);
    let mut new = 0;
    for _ in 0..1_500 {
        let taken: Vec<bool> = (0..2)
            .map(|n| sim.produce(n, 10, false).is_some())
            .collect();
        assert!(taken != [true, true], "two masters take appends");
        new += u32::from(taken[1]);
        sim.run_for(1);
    }
    assert!(new > 500, "the new one does");
}

#[test]
fn a_member_that_has_lost_its_disk_does_not_count_in_a_promotion() {
    let mut sim = running(Setup::new(3, 1));
    sim.isolate(2);
    let id = sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    sim.run_for(500);
    assert!(sim.acknowledged.contains(&id), "on 0 and 1");
    sim.crash(0, 0);
    sim.crash(1, 0);
    sim.log(1).wipe();
    sim.start(1);
    sim.cut.clear();
    sim.events(2);
    // Again and again: the asking must not make it look like one that remembers.
    for _ in 0..3 {
        sim.stand(2, false);
        sim.run_for(1_000);
        let few = PromotionError::TooFewAnswers {
            answered: 1,
            needed: 2,
        };
        assert!(sim.events(2).contains(&Event::PromotionFailed(few)));
        sim.stand(1, false);
        sim.run_for(1_000);
        assert!(
            sim.events(1)
                .contains(&Event::PromotionFailed(PromotionError::Blank))
        );
    }
    sim.start(0);
    sim.stand(2, false);
    sim.run_for(3_000);
    assert_eq!(sim.master(), Some(2));
    assert!(sim.is_equal());
    sim.check_nothing_lost();
}

#[test]
fn an_isolated_master_without_a_lease_goes_on_below_replicated_and_its_tail_is_kept() {
    let mut sim = running(Setup::new(3, 1));
    sim.isolate(0);
    sim.stand(1, false);
    sim.run_for(1_000);
    let alone = sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    assert!(sim.produce(1, 10, true).is_some());
    sim.sync(1);
    sim.run_for(1_000);
    assert!(!sim.acknowledged.contains(&alone));
    sim.cut.clear();
    sim.run_for(3_000);
    assert!(
        sim.events(0)
            .iter()
            .any(|event| matches!(event, Event::Deposed { .. }))
    );
    assert!(sim.is_equal());
    sim.check_nothing_lost();
    assert_eq!(sim.log(0).0.borrow().lost_tails.len(), 1);
    assert!(!sim.log(0).messages().contains(&alone));
}

#[test]
fn too_few_answers_promote_nobody_unless_loss_is_accepted() {
    let mut sim = running(Setup::new(4, 1));
    sim.crash(0, 0);
    sim.partition(1, 2);
    sim.partition(1, 3);
    sim.events(1);
    sim.stand(1, false);
    sim.run_for(1_000);
    let few = PromotionError::TooFewAnswers {
        answered: 1,
        needed: 3,
    };
    assert!(sim.events(1).contains(&Event::PromotionFailed(few)));
    sim.loss_accepted = true;
    sim.stand(1, true);
    sim.run_for(1_000);
    assert_eq!(sim.master(), Some(1));
}

#[test]
fn a_candidate_that_is_behind_fetches_what_it_lacks() {
    let mut sim = running(Setup::new(3, 1));
    sim.partition(0, 1);
    for _ in 0..20 {
        sim.produce(0, 150, true);
        sim.sync(0);
        sim.run_for(2);
    }
    sim.run_for(100);
    assert!(sim.log(1).written() < sim.log(2).written());
    sim.crash(0, 0);
    sim.cut.clear();
    sim.stand(1, false);
    sim.run_for(500);
    assert_eq!(sim.master(), Some(1));
    assert!(sim.acknowledged.len() == 50 && sim.acknowledged.is_subset(&sim.log(1).messages()));
}

#[test]
fn a_member_of_a_greater_epoch_fences_the_old_master_at_once() {
    let mut sim = running(Setup::new(2, 1));
    let old = sim.produce(0, 10, true).unwrap();
    // The slave stands, and only its question arrives.
    sim.cut.insert((0, 1));
    sim.stand(1, false);
    sim.run_for(5);
    assert_eq!(sim.node(0).role(), Role::Slave);
    assert!(sim.produce(0, 10, true).is_none());
    sim.sync(0);
    sim.run_for(100);
    assert!(!sim.acknowledged.contains(&old));
}

#[test]
fn a_master_acknowledges_nothing_of_former_epochs_before_its_own_record_is_replicated() {
    // What a former master wrote may still be replaced by a third one, until a record of this epoch is behind it (Raft, figure 8).
    let mut sim = running(Setup::new(3, 1));
    sim.crash(0, 0);
    sim.stand(1, false);
    let began = sim.now;
    while sim.now - began < millis(1_000) {
        sim.run_until(sim.now + Duration::from_micros(50));
        let Some(replicated) = sim.node(1).replicated() else {
            continue;
        };
        let epoch = *sim.log(1).epochs().last().unwrap();
        assert!(replicated == 0 || replicated > epoch.start);
    }
    let epoch = *sim.log(1).epochs().last().unwrap();
    assert!(sim.node(1).replicated().unwrap() > epoch.start);
}

#[test]
fn a_snapshot_is_taken_up_where_the_connection_broke_while_the_master_serves() {
    let mut setup = Setup::new(2, 0);
    setup.options.catch_up_bytes_per_second = Some(400_000);
    let mut sim = Sim::with_master(setup);
    sim.crash(1, 0);
    sim.log(1).wipe();
    for _ in 0..300 {
        sim.produce(0, 100, false);
        sim.sync(0);
    }
    let size = 200_000;
    sim.log(0).0.borrow_mut().longest_snapshot_filler = size;
    let retired = sim.log(0).middle();
    sim.log(0).retire(retired);
    sim.start(1);
    sim.bytes = 0;
    for _ in 0..20 {
        sim.run_for(100);
        let now = sim.now;
        for (n, other) in [(0, Peer(1)), (1, Peer(0))] {
            sim.node(n).disconnected(now, other);
            sim.drive(n);
        }
        assert!(sim.produce(0, 100, false).is_some(), "the master serves");
        sim.sync(0);
    }
    sim.run_for(5_000);
    assert!(sim.is_equal());
    let installed = |event: &Event| matches!(event, Event::Installed { .. });
    assert!(sim.events(1).iter().any(installed));
    assert_eq!(sim.log(1).messages(), sim.log(0).messages());
    assert!(sim.bytes < size as u64 * 2, "{} bytes went out", sim.bytes);
}

#[test]
fn a_master_that_can_make_no_snapshot_stays_master() {
    let mut sim = running(Setup::new(3, 1));
    sim.crash(2, 0);
    sim.log(2).wipe();
    let retired = sim.log(0).middle();
    sim.log(0).retire(retired);
    sim.log(0).0.borrow_mut().no_snapshot = true;
    sim.start(2);
    sim.run_for(2_000);
    assert_eq!(sim.master(), Some(0));
    let refused = |event: &&Event| matches!(event, Event::NoSnapshot { slave: Peer(2), .. });
    let refusals = sim.events(0).iter().filter(refused).count();
    assert!((1..10).contains(&refusals), "{refusals}");
    assert!(sim.produce(0, 100, true).is_some());
    sim.log(0).0.borrow_mut().no_snapshot = false;
    sim.sync(0);
    sim.run_for(3_000);
    assert!(sim.is_equal());
}

#[test]
fn catching_up_keeps_to_its_rate() {
    let mut setup = Setup::new(2, 0);
    setup.options.catch_up_bytes_per_second = Some(50_000);
    setup.options.hold_bytes_max = 1 << 20;
    let mut sim = Sim::with_master(setup);
    sim.partition(0, 1);
    for _ in 0..1_000 {
        sim.produce(0, 100, false);
    }
    sim.sync(0);
    sim.cut.clear();
    let seconds = sim.log(0).written() as f64 / 50_000.0;
    let began = sim.now;
    while !sim.is_equal() {
        sim.run_for(10);
        assert!(sim.now - began < Duration::from_secs(10));
    }
    let took = (sim.now - began).as_secs_f64();
    assert!(
        (0.9 * seconds..1.3 * seconds).contains(&took),
        "{took} s for {seconds} s"
    );
}

#[test]
fn a_slave_that_takes_nothing_costs_a_window_and_blocks_nobody() {
    let mut setup = Setup::new(3, 1);
    setup.options.silence = Duration::from_secs(5);
    let mut sim = running(setup);
    sim.bytes = 0;
    sim.isolate(2);
    for _ in 0..1_000 {
        sim.produce(0, 200, true);
        sim.sync(0);
        sim.run_for(1);
    }
    assert!(sim.acknowledged.len() > 1_000, "the other slave is enough");
    let now = sim.now;
    let lag = sim.node(0).lag(now);
    let (healthy, stuck) = (lag[0], lag[1]);
    assert!(healthy.in_sync && healthy.behind_bytes < 1_000);
    assert!(!stuck.in_sync && stuck.behind_bytes > 200_000);
    assert!(stuck.stalled >= millis(900) && stuck.stalled <= millis(1_100));
    // What was sent again and again to the stuck one is a window each time, at most every `retry`.
    let window = sim.setup.options.window_bytes;
    // With a header for every message of 200 bytes, and an acknowledgement.
    let once = sim.log(0).written() * 8 / 5;
    assert!(sim.bytes < once + 25 * 2 * window, "{}", sim.bytes);
}

#[test]
fn too_few_slaves_are_told_after_the_timeout_and_never_as_a_success() {
    let mut sim = running(Setup::new(2, 1));
    sim.events(0);
    sim.partition(0, 1);
    let id = sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    sim.run_for(299);
    assert!(!sim.node(0).too_few_in_sync());
    sim.run_for(2);
    assert!(sim.node(0).too_few_in_sync());
    sim.run_for(5_000);
    let told = sim.events(0);
    let told = told
        .iter()
        .filter(|event| matches!(event, Event::TooFewInSync { .. }));
    assert_eq!(told.count(), 1);
    assert!(!sim.acknowledged.contains(&id));
    sim.cut.clear();
    sim.run_for(1_000);
    assert!(!sim.node(0).too_few_in_sync());
    assert!(sim.acknowledged.contains(&id));
}

#[test]
fn the_option_says_which_end_of_a_slave_counts() {
    for (policy, counts) in [(AckPolicy::Buffered, true), (AckPolicy::Synced, false)] {
        let mut setup = Setup::new(2, 1);
        setup.options.ack_policy = policy;
        setup.options.slave_flush = millis(200);
        let mut sim = running(setup);
        let id = sim.produce(0, 10, true).unwrap();
        sim.sync(0);
        sim.run_for(50);
        assert_eq!(sim.acknowledged.contains(&id), counts, "{policy:?}");
        sim.run_for(300);
        assert!(sim.acknowledged.contains(&id));
    }
}

#[test]
fn a_slave_whose_disk_fails_acknowledges_nothing_more() {
    let mut sim = running(Setup::new(2, 1));
    sim.log(1).0.borrow_mut().broken = true;
    let id = sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    sim.run_for(2_000);
    assert!(!sim.acknowledged.contains(&id));
    assert!(
        sim.events(1)
            .iter()
            .any(|event| matches!(event, Event::LogFailed { .. }))
    );
    sim.stand(1, false);
    assert_eq!(
        sim.node(1).role(),
        Role::Slave,
        "and does not become master"
    );
}

#[test]
fn a_master_whose_disk_fails_is_master_no_more_and_closes_its_log() {
    let mut sim = running(Setup::new(2, 1));
    sim.log(0).0.borrow_mut().unreadable = true;
    sim.produce(0, 10, false).unwrap();
    sim.run_for(100);
    let failed = |event: &Event| matches!(event, Event::LogFailed { .. });
    assert!(sim.events(0).iter().any(failed));
    assert_eq!(sim.node(0).role(), Role::Slave);
    assert!(!sim.log(0).0.borrow().accepting);
}

#[test]
fn a_promotion_that_fails_at_its_last_step_leaves_the_log_closed() {
    let mut setup = Setup::new(3, 1);
    setup.options.fence_lease = Some(millis(400));
    let mut sim = running(setup);
    sim.isolate(0);
    sim.stand(1, false);
    sim.run_for(50);
    assert_eq!(
        sim.node(1).role(),
        Role::Candidate,
        "it waits the lease out"
    );
    sim.log(1).0.borrow_mut().broken = true;
    sim.run_for(2_000);
    let failed = |event: &Event| matches!(event, Event::PromotionFailed(PromotionError::Log(_)));
    assert!(sim.events(1).iter().any(failed));
    assert_eq!(sim.node(1).role(), Role::Slave);
    assert!(!sim.log(1).0.borrow().accepting);
}

#[test]
fn a_damaged_range_is_found_by_halving_and_fetched_from_the_other_side() {
    for (asks, damaged) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut setup = Setup::new(2, 1);
        setup.options.hold_bytes_max = 1 << 30;
        let mut sim = running(setup);
        for _ in 0..800 {
            sim.produce(0, 100, false);
        }
        sim.sync(0);
        sim.run_for(2_000);
        let (start, middle, end) = (0, sim.log(0).middle(), sim.log(0).written());
        sim.log(damaged).damage(middle, 0x10);
        let (now, other) = (sim.now, Peer(1 - asks as u16));
        let before = sim.bytes;
        assert!(sim.node(asks).scrub(now, other, start, end));
        sim.drive(asks);
        sim.run_for(500);
        let events = sim.events(asks);
        let healed = u32::from(asks == damaged);
        let outcome = Scrubbed::Equal { healed };
        let done = Event::Scrubbed {
            peer: other,
            outcome,
        };
        assert!(events.contains(&done), "{asks} {damaged} {events:?}");
        assert!(sim.log(damaged).is_whole() && sim.is_equal());
        assert!(
            sim.bytes - before < 8_000,
            "digests, not the log, went over: {}",
            sim.bytes - before
        );
    }
}

#[test]
fn two_whole_logs_that_differ_are_told_and_left_alone() {
    let mut sim = running(Setup::new(2, 1));
    let middle = sim.log(1).middle();
    sim.log(1).forge(middle);
    let before = (sim.log(0).content(), sim.log(1).content());
    let (now, end) = (sim.now, sim.log(0).written());
    sim.node(0).scrub(now, Peer(1), 0, end);
    sim.drive(0);
    sim.run_for(1_000);
    let told = |event: &Event| matches!(event, Event::Scrubbed { outcome: Scrubbed::Differs { offset }, .. } if *offset <= middle);
    assert!(sim.events(0).iter().any(told));
    assert_eq!(before, (sim.log(0).content(), sim.log(1).content()));
}

#[test]
fn a_slave_whose_common_end_is_damaged_is_healed_before_it_follows() {
    let mut sim = running(Setup::new(2, 1));
    sim.crash(1, 0);
    let near_end = sim.log(1).written() - 200;
    sim.log(1).damage(near_end, 0x10);
    sim.events(0);
    sim.start(1);
    sim.run_for(3_000);
    assert!(sim.log(1).is_whole());
    let differs = Refused::Differs;
    let refused = Event::Refused {
        peer: Peer(0),
        reason: differs,
    };
    assert!(sim.events(1).contains(&refused));
    sim.produce(0, 10, true).unwrap();
    sim.sync(0);
    sim.run_for(200);
    assert!(sim.is_equal());
}

#[test]
fn a_master_that_cannot_read_its_log_fetches_it_from_a_slave_and_goes_on() {
    let mut sim = running(Setup::new(3, 1));
    sim.crash(2, 0);
    sim.log(2).wipe();
    let middle = sim.log(0).middle();
    sim.log(0).damage(middle, 0x10);
    sim.start(2);
    sim.run_for(3_000);
    assert!(sim.log(0).is_whole());
    assert!(sim.is_equal());
}

fn hello(group: &str, log_id: u128, versions: (u8, u8)) -> Frame {
    let hello = Hello {
        version_min: versions.0,
        version_max: versions.1,
        log_id,
        group: group.to_owned(),
        node: "node-1".to_owned(),
        nonce: 5,
        start: 0,
        written: 0,
        synced: 0,
        epochs: Vec::new(),
    };
    Frame {
        epoch: 0,
        session: 0,
        group: common::group(2, 0, 1).tag(),
        message: Message::Hello(hello),
    }
}

#[test]
fn a_member_of_another_kind_gets_a_clear_refusal() {
    let mut sim = Sim::with_master(Setup::new(2, 1));
    sim.isolate(0);
    sim.run_for(1_000);
    let now = sim.now;
    while sim.node(0).poll_transmit(now).is_some() {}
    let version = Refused::Version { min: 1, max: 1 };
    let log_id = sim.log(0).id();
    let mut other_header = hello("group", log_id, (1, 1)).encode().to_vec();
    other_header[2] = 9;
    let crc = crc32fast::hash(&other_header[..32]);
    other_header[32..36].copy_from_slice(&crc.to_le_bytes());
    let cases = [
        (hello("group", log_id, (2, 3)).encode(), version),
        (other_header.into(), version),
        (hello("other", log_id, (1, 1)).encode(), Refused::OtherGroup),
        (
            hello("group", log_id + 99, (1, 1)).encode(),
            Refused::OtherLog,
        ),
    ];
    for (bytes, reason) in cases {
        sim.node(0).handle(now, Peer(1), &bytes);
        let (to, answer) = sim.node(0).poll_transmit(now).unwrap();
        assert_eq!(to, Peer(1));
        let answer = Frame::decode(&answer).unwrap();
        assert_eq!(answer.message, Message::Refused(reason));
    }
}

#[test]
fn a_member_with_a_new_disk_never_acknowledges_for_a_master_that_was_replaced() {
    let mut sim = running(Setup::new(3, 1));
    sim.isolate(0);
    sim.stand(1, false);
    sim.run_for(20);
    assert_eq!(sim.master(), Some(1));
    // The disk that goes has the promise on it, and the member finds the old master first.
    sim.crash(2, 0);
    sim.log(2).wipe();
    sim.cut.clear();
    sim.isolate(1);
    sim.start(2);
    sim.run_for(2_000);
    if let Some(id) = sim.produce(0, 10, true) {
        sim.sync(0);
        sim.run_for(500);
        assert!(!sim.acknowledged.contains(&id));
    }
    assert_eq!(
        sim.node(0).epoch(),
        None,
        "it has heard that it was replaced"
    );
}

#[test]
fn a_stranger_with_a_greater_epoch_deposes_nobody() {
    let mut sim = Sim::with_master(Setup::new(3, 1));
    sim.crash(2, 0);
    let log = common::ModelLog::default();
    log.promise(50).unwrap();
    let group = Group {
        name: "other".to_owned(),
        ..common::group(3, 2, 1)
    };
    let mut stranger = Node::new(group, Options::default(), log, sim.now, 9).unwrap();
    let now = sim.now;
    stranger.follow(now, Peer(0));
    stranger.latest_epoch(now, 50);
    stranger.stand(now, true);
    stranger.epoch_granted(now, 51);
    let said = std::iter::from_fn(|| stranger.poll_transmit_to(now, Peer(0)));
    let frames: Vec<_> = said.collect();
    assert!(!frames.is_empty());
    for frame in frames {
        sim.node(0).handle(now, Peer(2), &frame);
    }
    sim.drive(0);
    assert_eq!(sim.node(0).epoch(), Some(1));
    let reason = Refused::OtherGroup;
    let refused = Event::Refused {
        peer: Peer(2),
        reason,
    };
    assert!(sim.events(0).contains(&refused));
}

#[test]
fn a_slave_that_was_stuck_takes_no_role_that_was_called_off() {
    let mut setup = Setup::new(3, 1);
    setup.options.switch_timeout = millis(200);
    let mut sim = running(setup);
    let now = sim.now;
    sim.node(0).switch_to(now, Peer(1)).unwrap();
    sim.drive(0);
    sim.members[1].stuck_until = sim.now + millis(250);
    sim.run_for(220);
    assert!(sim.produce(0, 10, false).is_some(), "it was called off");
    sim.sync(0);
    sim.cut.insert((1, 0));
    sim.partition(0, 2);
    sim.run_for(1_000);
    assert_eq!(sim.master(), Some(0));
}

/// Reads all frames that a member has for another.
fn said(sim: &mut Sim, n: usize, to: Peer) -> Vec<Frame> {
    let now = sim.now;
    let frames = std::iter::from_fn(|| sim.node(n).poll_transmit_to(now, to));
    frames.map(|bytes| Frame::decode(&bytes).unwrap()).collect()
}

#[test]
fn nobody_has_a_master_read_more_than_16_mib_to_follow() {
    let mut sim = Sim::with_master(Setup::new(2, 0));
    sim.crash(1, 0);
    sim.run_for(2_000);
    for _ in 0..17 {
        sim.log(0).produce(1, 1 << 20).unwrap();
    }
    let (now, end) = (sim.now, sim.log(0).written());
    let mut frame = hello("group", sim.log(0).id(), (1, 1));
    let Message::Hello(hello) = &mut frame.message else {
        panic!()
    };
    hello.written = end;
    hello.epochs = sim.log(0).epochs();
    let least = end - (16 << 20);
    for (from, reason) in [(least - 1, Refused::Conflict), (least, Refused::Differs)] {
        sim.node(0).handle(now, Peer(1), &frame.encode());
        let welcome = said(&mut sim, 0, Peer(1)).pop().unwrap();
        let follow = Frame {
            epoch: welcome.epoch,
            session: welcome.session,
            group: welcome.group,
            message: Message::Follow {
                at: end,
                from,
                digest: 0,
            },
        };
        sim.node(0).handle(now, Peer(1), &follow.encode());
        let said = said(&mut sim, 0, Peer(1));
        assert_eq!(said[0].message, Message::Refused(reason), "{welcome:?}");
    }
}

#[test]
fn options_out_of_range_are_named() {
    let group = Group {
        name: "group".to_owned(),
        members: vec!["a".to_owned(), "b".to_owned()],
        me: Peer(0),
        min_insync: 2,
    };
    let new = |group, options| Node::new(group, options, common::ModelLog::default(), millis(0), 1);
    let error = new(group.clone(), Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "min_insync is 2, and 0 to 1 are allowed");
    let options = Options {
        frame_bytes: 2 << 20,
        ..Options::default()
    };
    let group = Group {
        min_insync: 1,
        ..group
    };
    assert_eq!(new(group, options).unwrap_err().name, "frame_bytes");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut setup = Setup::new(3, 1);
        setup.seed = 99;
        let mut sim = running(setup);
        sim.crash(0, 1);
        sim.stand(1, false);
        sim.run_for(1_000);
        (sim.frames, sim.bytes, sim.log(1).content())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_log_that_cannot_be_cut_so_deep_begins_anew() {
    let mut sim = running(Setup::new(3, 1));
    sim.isolate(0);
    sim.produce(0, 50, false);
    sim.sync(0);
    sim.stand(1, false);
    sim.run_for(1_000);
    let end = sim.log(0).written();
    sim.log(0).0.borrow_mut().known_from = end;
    sim.cut.clear();
    sim.run_for(3_000);
    let events = sim.events(0);
    let installed = |event: &Event| matches!(event, Event::Installed { .. });
    assert!(events.iter().any(installed));
    let lost = |event: &&Event| matches!(event, Event::LostTail { to, .. } if *to == end);
    assert_eq!(events.iter().filter(lost).count(), 1);
    assert!(sim.is_equal());
    sim.check_nothing_lost();
    assert_eq!(sim.log(0).incomplete_until(), 0, "it has caught up");
}

#[test]
fn a_slave_of_a_newer_master_tells_the_old_one() {
    let mut sim = running(Setup::new(3, 1));
    // The new master and the old one do not hear of each other.
    sim.partition(0, 1);
    sim.stand(1, false);
    sim.run_for(1_000);
    assert_eq!(sim.node(1).role(), Role::Master);
    assert_eq!(sim.node(0).role(), Role::Slave);
    assert!(sim.events(0).contains(&Event::Deposed { by: 2 }));
}

#[test]
fn what_is_damaged_on_two_members_is_healed_from_the_third() {
    let mut sim = running(Setup::new(3, 1));
    let middle = sim.log(0).middle();
    sim.log(0).damage(middle, 0x10);
    sim.log(1).damage(middle, 0x20);
    for _ in 0..3 {
        let (now, end) = (sim.now, sim.log(1).written());
        sim.node(1).scrub(now, Peer(0), 0, end);
        sim.drive(1);
        sim.run_for(2_000);
    }
    assert!(sim.log(0).is_whole() && sim.log(1).is_whole() && sim.is_equal());
}
