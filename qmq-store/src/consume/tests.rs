//! All groups of a subject: what becomes of one that is dropped.

use super::*;

/// A group of two life times, as actions with the ends of their records.
fn dropped_and_created_again(kind: GroupKind) -> Vec<(Action<'static>, u64)> {
    let (group, consumer) = ("ticket", "host-1");
    let part = match kind {
        GroupKind::Shared => "",
        GroupKind::Broadcast => consumer,
    };
    let create = |pull_floor| Action::Create {
        group,
        consumer: part,
        kind,
        filter: None,
        cursor: 0,
        pull_floor,
    };
    let pull = |pull_first| Action::Pull {
        group,
        consumer,
        pull_first,
        cursor_before: 0,
        cursor_after: 5,
        redelivered: Vec::new().into(),
        runs: vec![(0, 5)].into(),
    };
    let actions = [
        create(0),
        pull(1 << 40),
        Action::Drop { group },
        create((1 << 40) + 5),
        pull((1 << 40) + 5),
    ];
    actions.into_iter().zip((100..).step_by(100)).collect()
}

fn apply(consumption: &mut Consumption, actions: &[(Action<'_>, u64)]) {
    for (action, end) in actions {
        consumption.apply(action, *end, &Names::default());
    }
}

#[test]
fn a_replay_from_before_a_drop_that_a_checkpoint_holds_already_comes_to_the_same_pull_sequences() {
    for kind in [GroupKind::Shared, GroupKind::Broadcast] {
        let actions = dropped_and_created_again(kind);
        let mut once = Consumption::default();
        apply(&mut once, &actions);
        assert_eq!(once.pull_floor, (1 << 40) + 5);
        assert_eq!(once.groups[0].sequence_of("host-1", (1 << 40) + 5), Some(0));
        for saved in 0..=actions.len() {
            let mut restored = Consumption::default();
            apply(&mut restored, &actions[..saved]);
            apply(&mut restored, &actions);
            assert_eq!(restored.groups, once.groups, "saved after {saved}");
            assert_eq!(restored.pull_floor, once.pull_floor, "saved after {saved}");
        }
    }
}
