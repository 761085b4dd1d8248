//! The versions that one thing has had since it was last made durable, and the generator that chooses among them.

/// Versions of a sector, a length or a name. The newest is kept where the thing itself is; here are the ones before
/// it, the durable one first.
#[derive(Clone)]
pub(super) struct History<T> {
    older: Vec<(u64, T)>,
    newest_tick: u64,
    dirty: bool,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self {
            older: Vec::new(),
            newest_tick: 0,
            dirty: false,
        }
    }
}

impl<T> History<T> {
    /// Notes that `was` has been replaced at `tick`.
    pub(super) fn replace(&mut self, was: T, tick: u64) {
        self.older.push((self.newest_tick, was));
        self.newest_tick = tick;
        self.dirty = true;
    }

    /// Notes that the newest version was written again: a sync that succeeds covers it.
    pub(super) fn rewrite(&mut self) {
        self.dirty = true;
    }

    /// Notes a failed sync: the system takes the data for clean, so that later syncs do not cover it.
    pub(super) fn strand(&mut self) {
        self.dirty = false;
    }

    /// Whether a sync that succeeds makes the newest version durable.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether a crash has a choice.
    pub(super) fn is_pending(&self) -> bool {
        !self.older.is_empty()
    }

    /// The durable version, or `None` if that is the newest.
    pub(super) fn durable(&self) -> Option<&T> {
        self.older.first().map(|(_, value)| value)
    }

    /// How many versions there are before the newest.
    pub(super) fn older_count(&self) -> u64 {
        self.older.len() as u64
    }

    /// The older version of this index.
    pub(super) fn older(&self, index: u64) -> Option<&T> {
        self.older.get(index as usize).map(|(_, value)| value)
    }

    /// The version at `tick`, or `None` if that is the newest.
    pub(super) fn as_of(&self, tick: u64) -> Option<&T> {
        if self.newest_tick <= tick {
            return None;
        }
        self.older
            .iter()
            .rev()
            .find(|(since, _)| *since <= tick)
            .map(|(_, value)| value)
    }

    /// The tick of the first change since the durable version.
    pub(super) fn first_change(&self) -> u64 {
        self.older
            .get(1)
            .map_or(self.newest_tick, |(tick, _)| *tick)
    }

    pub(super) fn older_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.older.iter_mut().map(|(_, value)| value)
    }
}

/// A small generator (splitmix64): the same seed gives the same numbers for ever.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }
}
