//! A bucket: how many messages it has numbered, and what has become of each, in two bits.

use crate::event::take;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending = 0,
    HandedOut = 1,
    Dispatched = 2,
    /// Cancelled, dropped for being too late, or left for another due time.
    Gone = 3,
}

impl State {
    fn of(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Pending,
            1 => Self::HandedOut,
            2 => Self::Dispatched,
            _ => Self::Gone,
        }
    }

    /// Nothing more becomes of it.
    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::Dispatched | Self::Gone)
    }
}

const SLOTS_A_WORD: usize = 32;
const WORDS: usize = 8;
/// Slots whose states lie together: 64 bytes, taken once one of them is not pending.
const SLOTS_A_CHUNK: u32 = (SLOTS_A_WORD * WORDS) as u32;
/// Bytes of an encoded chunk.
const CHUNK_LEN: usize = WORDS * 8;

type Chunk = Box<[u64; WORDS]>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Slots given out.
    slots: u32,
    /// Slots that are settled.
    settled: u32,
    /// Slots below are settled, and nobody remembers how.
    forgotten: u32,
    /// From which slot on which generation gave them out.
    generations: Vec<(u32, u32)>,
    chunks: Vec<Option<Chunk>>,
}

impl Bucket {
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether nothing of it is pending or handed out.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled == self.slots
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten == self.slots
    }

    /// Notes that `slot` has been given out. Slots that were left out before it are settled: their records are gone.
    pub(crate) fn give_out(&mut self, slot: u32, generation: u32) {
        if self
            .generations
            .last()
            .is_none_or(|&(_, last)| last != generation)
        {
            self.generations.push((slot, generation));
        }
        if self.slots == 0 {
            (self.slots, self.settled, self.forgotten) = (slot, slot, slot);
        }
        self.leave_out(slot.saturating_sub(self.slots));
        self.slots = self.slots.max(slot + 1);
    }

    /// Gives the next slots to nobody.
    pub(crate) fn leave_out(&mut self, count: u32) {
        let left_out = self.slots..self.slots.saturating_add(count);
        self.slots = left_out.end;
        left_out.for_each(|slot| self.set(slot, State::Gone));
    }

    /// What has become of a slot. `None`: it was not given out by this generation, or is forgotten.
    pub(crate) fn state_of(&self, slot: u32, is_generation: impl Fn(u32) -> bool) -> Option<State> {
        let known = (self.forgotten..self.slots).contains(&slot);
        let generation = self.generation(slot);
        (known && generation != 0 && is_generation(generation)).then(|| self.state(slot))
    }

    /// The generation that gave a slot out; 0: none did.
    pub(crate) fn generation(&self, slot: u32) -> u32 {
        let after = self.generations.partition_point(|&(from, _)| from <= slot);
        after.checked_sub(1).map_or(0, |at| self.generations[at].1)
    }

    /// As [`Self::state_of`], of whichever generation; a forgotten slot is gone.
    pub(crate) fn state(&self, slot: u32) -> State {
        if slot < self.forgotten {
            return State::Gone;
        }
        let (chunk, word, shift) = place(slot);
        match self.chunks.get(chunk) {
            Some(Some(words)) => State::of(words[word] >> shift),
            _ => State::Pending,
        }
    }

    pub(crate) fn set(&mut self, slot: u32, state: State) {
        let was = self.state(slot);
        if slot < self.forgotten || slot >= self.slots || was == state {
            return;
        }
        self.settled += u32::from(state.is_settled());
        self.settled -= u32::from(was.is_settled());
        let (chunk, word, shift) = place(slot);
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let words = self.chunks[chunk].get_or_insert_with(|| Box::new([0; WORDS]));
        words[word] = words[word] & !(3 << shift) | (state as u64) << shift;
    }

    /// Forgets what became of its slots, all of which are settled.
    pub(crate) fn forget(&mut self) {
        self.forgotten = self.slots;
        self.chunks = Vec::new();
        self.generations = Vec::new();
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let counts = [
            self.slots,
            self.settled,
            self.forgotten,
            self.generations.len() as u32,
        ];
        let pairs = self.generations.iter().flat_map(|&(from, of)| [from, of]);
        for word in counts.into_iter().chain(pairs) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let chunks = || self.chunks.iter().zip(0_u32..);
        let there = chunks().filter(|(chunk, _)| chunk.is_some()).count();
        out.extend_from_slice(&(there as u32).to_le_bytes());
        for (chunk, number) in chunks() {
            let Some(words) = chunk else { continue };
            out.extend_from_slice(&number.to_le_bytes());
            words
                .iter()
                .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// Decodes one; `None`: it is none.
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut number = || take(input).map(u32::from_le_bytes);
        let (slots, settled, forgotten, generations) =
            (number()?, number()?, number()?, number()? as usize);
        let mut bucket = Self {
            slots,
            settled,
            forgotten,
            ..Self::default()
        };
        if generations > input.len() / 8 {
            return None;
        }
        for _ in 0..generations {
            let from = u32::from_le_bytes(take(input)?);
            bucket
                .generations
                .push((from, u32::from_le_bytes(take(input)?)));
        }
        let chunks = u32::from_le_bytes(take(input)?) as usize;
        if chunks > input.len() / CHUNK_LEN {
            return None;
        }
        for _ in 0..chunks {
            let number = u32::from_le_bytes(take(input)?);
            if number > slots / SLOTS_A_CHUNK || (number as usize) < bucket.chunks.len() {
                return None;
            }
            let mut words = Box::new([0; WORDS]);
            for word in words.iter_mut() {
                *word = u64::from_le_bytes(take(input)?);
            }
            bucket.chunks.resize(number as usize, None);
            bucket.chunks.push(Some(words));
        }
        (settled <= slots && forgotten <= slots).then_some(bucket)
    }
}

fn place(slot: u32) -> (usize, usize, usize) {
    let within = (slot % SLOTS_A_CHUNK) as usize;
    let chunk = (slot / SLOTS_A_CHUNK) as usize;
    (chunk, within / SLOTS_A_WORD, within % SLOTS_A_WORD * 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const STATES: [State; 4] = [
        State::Pending,
        State::HandedOut,
        State::Dispatched,
        State::Gone,
    ];

    proptest! {
        #[test]
        fn a_bucket_is_a_map_from_slots_to_states(changes in prop::collection::vec((0_u32..9_000, 0_usize..4), 0..200)) {
            let mut bucket = Bucket::default();
            (0..9_000).for_each(|slot| bucket.give_out(slot, 7));
            let mut map = BTreeMap::new();
            for (slot, state) in changes {
                bucket.set(slot, STATES[state]);
                map.insert(slot, STATES[state]);
            }
            let settled = map.values().filter(|state| state.is_settled()).count();
            prop_assert_eq!(bucket.settled as usize, settled);
            for slot in 0..9_000 {
                let expected = map.get(&slot).copied().unwrap_or(State::Pending);
                prop_assert_eq!(bucket.state_of(slot, |one| one == 7), Some(expected));
            }
            prop_assert_eq!(bucket.state_of(9_000, |_| true), None);
            prop_assert_eq!(bucket.state_of(1, |one| one == 8), None);
            let mut bytes = Vec::new();
            bucket.encode(&mut bytes);
            let mut input = &bytes[..];
            prop_assert_eq!(Bucket::decode(&mut input), Some(bucket));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Bucket::decode(&mut &bytes[..]);
        }
    }

    #[test]
    fn slots_that_were_left_out_are_gone_and_generations_are_told_apart() {
        let mut bucket = Bucket::default();
        bucket.give_out(2, 1);
        bucket.give_out(3, 1);
        bucket.give_out(4, 2);
        assert_eq!(bucket.state_of(1, |_| true), None);
        assert_eq!(bucket.state(1), State::Gone);
        assert_eq!(bucket.state_of(3, |one| one == 1), Some(State::Pending));
        assert_eq!(bucket.state_of(4, |one| one == 1), None);
        assert_eq!(bucket.settled, 2);
    }
}
