//! Actions as bytes and back; what cannot have been done is refused.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn bytes_of(action: &Action<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    action.encode(&mut out);
    out
}

fn one_of_each() -> Vec<Action<'static>> {
    let (group, consumer) = ("ticket", "host-1");
    let any = Some(TagFilter::Any(vec!["pay".into(), "refund".into()]));
    let every = Some(TagFilter::Every(vec!["pay".into()]));
    vec![
        Action::Create {
            group,
            consumer: "",
            kind: GroupKind::Shared,
            filter: any,
            cursor: 7,
            pull_floor: 0,
        },
        Action::Create {
            group,
            consumer,
            kind: GroupKind::Broadcast,
            filter: every,
            cursor: 0,
            pull_floor: 1 << 40,
        },
        Action::Create {
            group,
            consumer,
            kind: GroupKind::Broadcast,
            filter: None,
            cursor: 0,
            pull_floor: 0,
        },
        Action::Pull {
            group,
            consumer,
            pull_first: 1 << 40,
            cursor_before: 10,
            cursor_after: 20,
            redelivered: vec![3, 4, 9].into(),
            runs: vec![(10, 2), (15, 5)].into(),
        },
        Action::Ack {
            group,
            consumer,
            ranges: vec![(0, 4), (6, u64::MAX)].into(),
        },
        Action::AckSkipped {
            group,
            consumer,
            ranges: vec![(2, 2)].into(),
            skipped: vec![(1, 1), (3, 9)].into(),
        },
        Action::Nack {
            group,
            consumer,
            ranges: vec![(5, 5)].into(),
            available_at_ms: 1_700_000_000_000,
        },
        Action::Release {
            group,
            consumer,
            ranges: vec![(5, 5), (7, 8)].into(),
            available_at_ms: 1_700_000_000_000,
        },
        Action::Gone { group, consumer },
        Action::Reset {
            group,
            consumer: "",
            cursor: 99,
        },
        Action::Drop { group },
    ]
}

#[test]
fn every_action_reads_back_as_written() {
    for action in one_of_each() {
        assert_eq!(Action::decode(&bytes_of(&action)), Ok(action));
    }
}

#[test]
fn a_shortened_or_lengthened_action_is_refused() {
    for action in one_of_each() {
        let mut bytes = bytes_of(&action);
        for len in 0..bytes.len() {
            assert!(
                Action::decode(&bytes[..len]).is_err(),
                "{action:?} cut to {len}"
            );
        }
        bytes.push(0);
        assert_eq!(
            Action::decode(&bytes),
            Err(ActionError::Trailing { bytes: 1 })
        );
    }
}

#[test]
fn a_count_is_checked_before_memory_is_taken_for_it() {
    let mut bytes = bytes_of(&Action::Ack {
        group: "g",
        consumer: "c",
        ranges: Cow::Borrowed(&[]),
    });
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        Action::decode(&bytes),
        Err(ActionError::TooMany {
            count: u32::MAX as usize,
            left: 0
        })
    );
}

#[test]
fn zeros_and_unknown_versions_and_kinds_are_refused() {
    assert_eq!(
        Action::decode(&[0; 64]),
        Err(ActionError::Version { found: 0 })
    );
    assert_eq!(
        Action::decode(&[2; 64]),
        Err(ActionError::Version { found: 2 })
    );
    let unknown = Err(ActionError::Unknown {
        what: "the kind of action",
        found: 10,
    });
    assert_eq!(Action::decode(&[1, 10, 0, 0, 0, 0]), unknown);
}

#[test]
fn a_pull_that_cannot_have_happened_is_refused() {
    let pull = |pull_first, cursor_after, runs: &'static [(u64, u32)]| Action::Pull {
        group: "g",
        consumer: "c",
        pull_first,
        cursor_before: 10,
        cursor_after,
        redelivered: Cow::Borrowed(&[]),
        runs: Cow::Borrowed(runs),
    };
    assert!(Action::decode(&bytes_of(&pull(0, 20, &[(10, 5), (17, 3)]))).is_ok());
    for impossible in [
        pull(0, 9, &[]),
        pull(0, 20, &[(9, 2)]),
        pull(0, 20, &[(19, 2)]),
        pull(0, 20, &[(15, 2), (10, 2)]),
        pull(0, u64::MAX, &[(u64::MAX, 2)]),
        pull(u64::MAX, 20, &[(10, 2)]),
    ] {
        assert!(
            Action::decode(&bytes_of(&impossible)).is_err(),
            "{impossible:?}"
        );
    }
}

proptest! {
    #[test]
    fn decoding_never_panics_and_what_it_accepts_is_canonical(
        which in 0..9_usize,
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = bytes_of(&one_of_each()[which]);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [bytes, noise] {
            if let Ok(action) = Action::decode(&bytes) {
                prop_assert_eq!(bytes_of(&action), bytes);
            }
        }
    }
}
