//! No kind of frame is without a target, a recorded frame and a seed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod recorded;

use std::collections::BTreeSet;
use std::path::Path;

use qmq_fuzz::{TARGETS, wire_payload, wire_target};
use qmq_wire::Kind;

#[test]
fn every_kind_has_a_target_a_recorded_frame_and_a_seed() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut recorded = BTreeSet::new();
    for (name, frame) in recorded::frames() {
        let kind = Kind::from_byte(frame[4]).unwrap();
        recorded.insert(frame[4]);
        let target = wire_target(kind);
        assert!(TARGETS.iter().any(|(name, _)| *name == target), "{target}");
        let seed = std::fs::read(corpora.join(target).join(&name));
        assert_eq!(seed.ok(), Some(recorded::input(&frame)), "{target}/{name}");
        assert!(wire_payload(kind, &frame[8..]), "{name} is refused");
    }
    let known: BTreeSet<u8> = (0..=u8::MAX)
        .filter(|kind| Kind::from_byte(*kind).is_some())
        .collect();
    assert_eq!(recorded, known);
}
