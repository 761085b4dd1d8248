//! The fuzz targets, as plain functions: each takes any bytes, and panics if a promise is broken.
//!
//! See `README.md` for how to run them.

mod damage;
mod operations;
mod repl_frame;
mod repl_group;
mod repl_node;
mod wire;

pub use damage::damaged_store;
pub use operations::operations;
pub use qmq_sched::fuzzing::{
    bodies as delay_bodies, bucket as delay_bucket, checkpoint as delay_checkpoint,
    entry as delay_entry, event as delay_event, run as delay_run,
};
pub use qmq_store::fuzzing::{
    action, attributes, checkpoint, group, identity, index, published_slot, record, scan,
    segment_header,
};
pub use repl_frame::repl_frame;
pub use repl_node::{repl_node, some_frames};
pub use wire::{
    wire_consume, wire_control, wire_frames, wire_hello, wire_payload, wire_produce, wire_target,
};

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: [(&str, Target); 25] = [
    ("action", action),
    ("attributes", attributes),
    ("checkpoint", checkpoint),
    ("damaged_store", damaged_store),
    ("delay_bodies", delay_bodies),
    ("delay_bucket", delay_bucket),
    ("delay_checkpoint", delay_checkpoint),
    ("delay_entry", delay_entry),
    ("delay_event", delay_event),
    ("delay_run", delay_run),
    ("group", group),
    ("identity", identity),
    ("index", index),
    ("operations", operations),
    ("published_slot", published_slot),
    ("record", record),
    ("repl_frame", repl_frame),
    ("repl_node", repl_node),
    ("scan", scan),
    ("segment_header", segment_header),
    ("wire_consume", wire_consume),
    ("wire_control", wire_control),
    ("wire_frames", wire_frames),
    ("wire_hello", wire_hello),
    ("wire_produce", wire_produce),
];

/// Takes bytes off the front of an input; zeros when there are no more.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let bytes = [self.byte(), self.byte(), self.byte()];
        u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])) % end.max(1)
    }
}
