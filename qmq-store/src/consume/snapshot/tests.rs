//! Groups as bytes and back; damaged ones are refused.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use qmq_message::TagFilter;

use super::*;
use crate::consume::action::{Action, GroupKind};

fn snapshot(group: &Group) -> Vec<u8> {
    let mut bytes = Vec::new();
    group.encode(&mut bytes);
    bytes
}

fn restore(bytes: &[u8]) -> Result<Group, ActionError> {
    let mut rest = bytes;
    let group = Group::decode(&mut rest, &mut |name| name.into())?;
    assert!(rest.is_empty());
    Ok(group)
}

fn fresh() -> Group {
    Group::new("ticket".into(), GroupKind::Shared, None, 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn decoding_a_damaged_snapshot_never_panics(
        flips in vec((any::<Index>(), any::<u8>()), 1..5),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = snapshot(&busy());
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [bytes, noise] {
            if let Ok(mut group) = Group::decode(&mut &*bytes, &mut |name| name.into()) {
                let _ = group.settle("a", &[(0, u64::MAX)], &mut Vec::new());
                group.clamp(group.cursor(), u64::MAX);
                group.raise_floor(group.cursor() / 2);
            }
        }
    }
}

/// One with everything that a group can have.
fn busy() -> Group {
    let mut group = fresh();
    let tags = vec!["pay".to_owned(), "refund".to_owned()];
    group.extra = Some(Box::new(Extra {
        filter: Some(TagFilter::Any(tags)),
        ..Extra::default()
    }));
    let pull = |consumer, cursor: u64| Action::Pull {
        group: "ticket",
        consumer,
        pull_first: 0,
        cursor_before: cursor + 5,
        cursor_after: cursor + 20,
        redelivered: Vec::new().into(),
        runs: vec![(cursor + 5, 3), (cursor + 10, 10)].into(),
    };
    let ranges = vec![(4, 5)].into();
    let nack = Action::Nack {
        group: "ticket",
        consumer: "b",
        ranges,
        available_at_ms: 99,
    };
    for (action, end) in [(pull("b", 0), 100), (pull("a", 20), 200), (nack, 300)] {
        group.apply(&action, end, &mut |name| name.into());
    }
    group
}

#[test]
fn groups_stand_one_after_another_and_a_shortened_one_is_refused() {
    let mut bytes = snapshot(&busy());
    assert_eq!(restore(&bytes).unwrap(), busy());
    for len in 0..bytes.len() {
        assert!(Group::decode(&mut &bytes[..len], &mut |name| name.into()).is_err());
    }
    fresh().encode(&mut bytes);
    let mut rest = &*bytes;
    let both = [(); 2].map(|()| Group::decode(&mut rest, &mut |name| name.into()).unwrap());
    assert_eq!(both, [busy(), fresh()]);
    assert!(rest.is_empty());
}

#[test]
fn names_are_asked_of_the_interner() {
    let bytes = snapshot(&busy());
    let mut asked = Vec::new();
    let shared: Arc<str> = "a".into();
    let group = Group::decode(&mut &*bytes, &mut |name| {
        asked.push(name.to_owned());
        if name == "a" {
            Arc::clone(&shared)
        } else {
            name.into()
        }
    });
    assert_eq!(asked, ["ticket", "a", "b"]);
    assert!(Arc::ptr_eq(&group.unwrap().members[0].name, &shared));
}

#[test]
#[ignore = "a measurement: cargo test --release -p qmq-store --lib decoding_120_000 -- --ignored --nocapture"]
fn decoding_120_000_idle_groups() {
    let mut bytes = Vec::new();
    for subject in 0..40_000_u64 {
        for name in ["ticket", "refund", "search"] {
            let mut group = Group::new(name.into(), GroupKind::Shared, None, subject);
            let (redelivered, runs) = (Vec::new().into(), Vec::new().into());
            let (pull_first, cursor_before, cursor_after) = (subject, subject, subject);
            let pull = Action::Pull {
                group: name,
                consumer: "host-1",
                pull_first,
                cursor_before,
                cursor_after,
                redelivered,
                runs,
            };
            group.apply(&pull, subject + 1, &mut |name| name.into());
            group.encode(&mut bytes);
        }
    }
    for _ in 0..5 {
        let mut names = std::collections::HashMap::<String, Arc<str>>::new();
        let (mut rest, mut groups) = (&*bytes, Vec::with_capacity(120_000));
        let started = std::time::Instant::now();
        while !rest.is_empty() {
            let group = Group::decode(&mut rest, &mut |name| match names.get(name) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(names.entry(name.into()).or_insert(name.into())),
            });
            groups.push(group.unwrap());
        }
        let took = started.elapsed();
        eprintln!("{} groups, {} bytes: {took:?}", groups.len(), bytes.len());
    }
}
