//! Which records of the log are needed still: how many of each stretch of it.

use std::collections::BTreeMap;

use crate::event::take;

/// Sequences of a stretch.
const STRETCH: u64 = 4_096;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed(BTreeMap<u64, u32>);

impl Needed {
    pub(crate) fn add(&mut self, sequence: u64) {
        *self.0.entry(sequence / STRETCH).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        let stretch = sequence / STRETCH;
        if let Some(count) = self.0.get_mut(&stretch) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&stretch);
            }
        }
    }

    /// No record before this sequence is needed; `None`: none is at all.
    pub(crate) fn first(&self) -> Option<u64> {
        self.0.keys().next().map(|stretch| stretch * STRETCH)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        for (stretch, count) in &self.0 {
            out.extend_from_slice(&stretch.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut needed = Self::default();
        for _ in 0..u32::from_le_bytes(take(input)?) {
            let stretch = u64::from_le_bytes(take(input)?);
            let count = u32::from_le_bytes(take(input)?);
            needed.0.insert(stretch, count);
        }
        Some(needed)
    }
}
