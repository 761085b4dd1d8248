//! A member joins an old master with a snapshot, and that master is gone before the member has all the log that belongs to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file takes its part")]
#[path = "common/stores.rs"]
mod group;

use group::Group3;
use qmq_repl::{Event, Log, PromotionError, Role};
use qmq_store::{Durability, GroupStats, Message, PullRequest};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn append(group: &mut Group3, n: usize, count: usize, bytes: usize) {
    let now = group.now;
    let node = group.nodes[n].as_mut().unwrap();
    let store = node.log().store().clone();
    for _ in 0..count {
        let message = Message::new("s", "y".repeat(bytes));
        store.append_with(&message, Durability::Synced).unwrap();
    }
    node.log_moved(now);
}

fn groups(group: &Group3, n: usize) -> Vec<GroupStats> {
    let log = group.nodes[n].as_ref().unwrap().log();
    log.store().subject_stats("s").unwrap().groups
}

/// B has what was replicated. A has a tail beyond that, which a consumer has read, perhaps in an epoch that only A has begun; C has the state as
/// of A's end, and nothing of the log that belongs to it. Then A is gone.
fn joined_behind_a_tail(new_epoch: bool) -> Group3 {
    let mut group = Group3::new(1, true, None);
    append(&mut group, A, 3, 1_000);
    group.run(200);
    group.nodes[C] = None;
    for _ in 0..4 {
        append(&mut group, A, 8, 10_000);
        group.run(50);
        let log = group.nodes[A].as_ref().unwrap().log();
        log.store().maintain().unwrap();
    }
    group.run(200);
    if new_epoch {
        group.nodes[A] = None;
        let disk = group.disks[A].disk.lock().unwrap().process_killed();
        *group.disks[A].disk.lock().unwrap() = disk;
        group.open(A, 77);
        let now = group.now;
        group.nodes[A].as_mut().unwrap().stand(now, false);
        group.cut_at = |n, event| match event {
            Event::Promoted { .. } if n == A => Some((A, B)),
            _ => None,
        };
        group.run(1_000);
    } else {
        group.cut.push((A, B));
    }
    group.cut.push((B, C));
    assert_eq!(group.nodes[A].as_ref().unwrap().role(), Role::Master);
    append(&mut group, A, 5, 1_000);
    let store = group.nodes[A].as_ref().unwrap().log().store().clone();
    let request = PullRequest::new("s", "g", "c").max(1_000);
    store.ack(&store.pull(&request).unwrap()).unwrap();
    store.sync().unwrap();
    drop(store);
    group.cut_at = |n, event| match event {
        Event::Installed { .. } if n == C => Some((A, C)),
        _ => None,
    };
    group.open(C, 99);
    group.run(1_000);
    let log = group.nodes[C].as_ref().unwrap().log();
    assert!(log.start() > 0 && log.start() == log.written());
    assert!(log.state_ahead() > log.written());
    group.nodes[A] = None;
    group.cut_at = |_, _| None;
    group.cut.clear();
    group
}

fn follows_another(new_epoch: bool) {
    let mut group = joined_behind_a_tail(new_epoch);
    let now = group.now;
    group.nodes[B].as_mut().unwrap().stand(now, false);
    group.run(1_000);
    assert_eq!(group.nodes[B].as_ref().unwrap().role(), Role::Master);
    append(&mut group, B, 10, 1_000);
    group.run(3_000);
    let log = |n: usize| group.nodes[n].as_ref().unwrap().log();
    assert_eq!(log(B).written(), log(C).written(), "{:#?}", group.trace);
    assert_eq!(log(B).epochs(), log(C).epochs());
    assert_eq!(log(C).state_ahead(), 0);
    assert_eq!(groups(&group, B), groups(&group, C));
    assert_eq!(
        groups(&group, B),
        [],
        "what was read is gone with its master"
    );
}

#[test]
fn what_consumers_did_in_a_lost_tail_is_nowhere_afterwards() {
    follows_another(false);
}

#[test]
fn an_epoch_that_only_a_snapshot_has_told_of_is_forgotten() {
    follows_another(true);
}

#[test]
fn a_member_whose_groups_are_ahead_of_its_log_is_not_promoted_and_goes_on() {
    let mut group = joined_behind_a_tail(false);
    let now = group.now;
    group.nodes[C].as_mut().unwrap().stand(now, false);
    group.run(1_000);
    let behind = group
        .trace
        .iter()
        .any(|line| line.contains("PromotionFailed(Behind"));
    assert!(behind, "{:#?}", group.trace);
    // Nobody else is there: not even then.
    group.nodes[B] = None;
    let now = group.now;
    group.nodes[C].as_mut().unwrap().stand(now, true);
    group.run(2_000);
    let end = group.nodes[C].as_ref().unwrap().log().written();
    let needed = group.nodes[C].as_ref().unwrap().log().state_ahead();
    let failed = Event::PromotionFailed(PromotionError::Unfinished { end, needed });
    let failed = format!(" {C} {failed:?}");
    let told = group.trace.iter().any(|line| line.ends_with(&failed));
    assert!(told, "{:#?}", group.trace);
    group.open(B, 5);
    let now = group.now;
    group.nodes[B].as_mut().unwrap().stand(now, false);
    group.run(3_000);
    assert_eq!(groups(&group, B), groups(&group, C));
    let log = |n: usize| group.nodes[n].as_ref().unwrap().log();
    assert_eq!(log(B).written(), log(C).written(), "{:#?}", group.trace);
}
