//! The scheduler's state in memory. Every change comes from a record of the log, live or replayed; nothing here does I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use crate::bodies::Bodies;
use crate::bucket::{Bucket, State};
use crate::entry::{Entry, Key, Origin};
use crate::needed::Needed;
use crate::run::{DamagedRun, Merge, Run};
use crate::scheduler::Checkpointed;
use crate::stage::Stage;
use crate::totals::Subjects;
use crate::window::Window;

/// How long after its time a settled message is known: 72 hours, as QMQ's `dispatch.log.keep.hour`.
const REMEMBERED_MS: u64 = 72 * 3_600_000;
/// How long a forgotten bucket is kept apart from all others of which nothing is known: a year.
const KEPT_MS: u64 = 366 * 86_400_000;

/// A message that was handed out and is neither dispatched nor dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outstanding {
    pub(crate) entry: Entry,
    /// How often it was refused.
    pub(crate) refusals: u32,
    /// When it is to be handed out again, if it is.
    pub(crate) again_ms: Option<u64>,
}

impl Outstanding {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            entry,
            refusals: 0,
            again_ms: None,
        }
    }
}

/// A message that comes again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    pub(crate) at_ms: u64,
    pub(crate) entry: Entry,
    pub(crate) home: Key,
}

/// Where a rescheduled message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: Key,
    /// Sequence of the record that put it there.
    pub(crate) record: u64,
    /// Sequence of the record that has its bytes.
    pub(crate) body: u64,
}

/// How far the newest checkpoint goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Sequence of the first record that is not in it.
    pub(crate) next_sequence: u64,
    /// Offset of the log.
    pub(crate) end_offset: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) bucket_ms: u64,
    /// Sequence of the next record.
    pub(crate) next_sequence: u64,
    /// First slot of a bucket of which nothing is known: one that was forgotten may have given out those below.
    pub(crate) first_slot: u32,
    pub(crate) buckets: BTreeMap<u32, Bucket>,
    pub(crate) subjects: Subjects,
    /// Where rescheduled messages are, by where they were scheduled first.
    pub(crate) moved: HashMap<Key, Place>,
    pub(crate) needed: Needed,
    /// The files that `needed` names, and those that they replaced since the last checkpoint.
    pub(crate) bodies: Vec<Arc<Bodies>>,
    /// By where they were scheduled first.
    pub(crate) outstanding: HashMap<Key, Outstanding>,
    /// Those of `outstanding` that are to be handed out again: when, and which. What no longer fits `Outstanding::again_ms` is passed over.
    pub(crate) again: BinaryHeap<Reverse<(u64, Key, Key)>>,
    /// Entries of no run yet, as they came.
    pub(crate) stage: Stage,
    /// Entries of the run that is being written.
    pub(crate) freezing: Arc<Stage>,
    pub(crate) runs: Vec<Arc<Run>>,
    /// What fell due before the scheduler was opened.
    pub(crate) backlog: Window,
    /// What falls due since.
    pub(crate) near: Window,
    /// Messages dropped for being too late, ever.
    pub(crate) dropped: u64,
    /// Sequence of the newest record that says the scale.
    pub(crate) opened: u64,
    pub(crate) saved: Saved,
    /// Sequences of records that could not be read, while the log is replayed.
    pub(crate) skipped: HashSet<u64>,
    /// What was dispatched while the log is replayed, and not handed out as far as could be read.
    pub(crate) unexplained: Vec<Key>,
}

impl Core {
    pub(crate) fn new(bucket_ms: u64, window_entries: usize, opened_ms: u64) -> Self {
        let opened = Key {
            due_ms: opened_ms,
            slot: 0,
        };
        Self {
            bucket_ms,
            next_sequence: 0,
            first_slot: 0,
            buckets: BTreeMap::new(),
            subjects: Subjects::default(),
            moved: HashMap::new(),
            needed: Needed::default(),
            bodies: Vec::new(),
            outstanding: HashMap::new(),
            again: BinaryHeap::new(),
            stage: Stage::default(),
            freezing: Arc::default(),
            runs: Vec::new(),
            backlog: Window::new(Key::default(), opened, window_entries),
            near: Window::new(opened, Key::MAX, window_entries),
            dropped: 0,
            opened: 0,
            saved: Saved::default(),
            skipped: HashSet::new(),
            unexplained: Vec::new(),
        }
    }

    /// The number of the bucket of a due time.
    pub(crate) fn bucket_of(&self, due_ms: u64) -> u32 {
        u32::try_from(due_ms / self.bucket_ms).unwrap_or(u32::MAX)
    }

    pub(crate) fn bucket(&self, key: Key) -> Option<&Bucket> {
        self.buckets.get(&self.bucket_of(key.due_ms))
    }

    pub(crate) fn bucket_mut(&mut self, key: Key) -> &mut Bucket {
        let number = self.bucket_of(key.due_ms);
        self.buckets.entry(number).or_default()
    }

    /// The key that the next message due at `due_ms` gets; `None`: its bucket is full.
    pub(crate) fn next_key(&self, due_ms: u64) -> Option<Key> {
        let bucket = self.buckets.get(&self.bucket_of(due_ms));
        let slot = bucket.map_or(self.first_slot, Bucket::slots);
        (slot < u32::MAX).then_some(Key { due_ms, slot })
    }

    /// What has become of the message that was scheduled first as `home`, if a generation that `is_generation` accepts gave it that place.
    pub(crate) fn state_of(&self, home: Key, is_generation: impl Fn(u32) -> bool) -> Option<State> {
        self.bucket(home)?.state_of(home.slot, is_generation)
    }

    /// The generation that gave a place out.
    pub(crate) fn generation_of(&self, home: Key) -> u32 {
        self.bucket(home)
            .map_or(0, |bucket| bucket.generation(home.slot))
    }

    fn state(&self, key: Key) -> State {
        self.bucket(key)
            .map_or(State::Gone, |bucket| bucket.state(key.slot))
    }

    /// Where the message that was scheduled first as `home` is now.
    pub(crate) fn place_of(&self, home: Key) -> Key {
        self.moved.get(&home).map_or(home, |place| place.key)
    }

    /// As [`Self::place_of`], the other way; a walk over all that have been rescheduled.
    pub(crate) fn home_of_moved(&self, key: Key) -> Option<Key> {
        let mut moved = self.moved.iter();
        moved.find_map(|(&home, place)| (place.key == key).then_some(home))
    }

    /// Sequence of the record that has the bytes of a message.
    pub(crate) fn body_of(&self, home: Key, entry: &Entry) -> u64 {
        self.moved
            .get(&home)
            .map_or(entry.sequence, |place| place.body)
    }

    /// Whether this entry is that of a message which is pending here.
    pub(crate) fn is_pending(&self, entry: &Entry) -> bool {
        let left = entry.origin == Origin::Scheduled
            && !self.moved.is_empty()
            && self.moved.contains_key(&entry.key);
        self.state(entry.key) == State::Pending && !left
    }

    /// The entry of the message that was scheduled first as `home`.
    pub(crate) fn entry_of(&self, home: Key) -> Result<Option<Entry>, DamagedRun> {
        if let Some(one) = self.outstanding.get(&home) {
            return Ok(Some(one.entry));
        }
        let place = self.place_of(home);
        let staged = self.stage.find(place).or_else(|| self.freezing.find(place));
        if staged.is_some() {
            return Ok(staged);
        }
        for run in self.runs.iter().rev() {
            if let Some(entry) = run.find(place)? {
                return Ok(Some(entry));
            }
        }
        // Whoever asks knows of the message, so what a run is looked up by may be damaged.
        for run in &self.runs {
            if let Some(entry) = run.find_checked(place)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// What a checkpoint of this state needs.
    pub(crate) fn checkpointed(&self) -> Checkpointed {
        let needed_from = self.needed.first().unwrap_or(self.next_sequence);
        Checkpointed {
            next_sequence: self.next_sequence,
            needed_from: needed_from.min(self.next_sequence).min(self.opened),
            bodies: self.needed.files().map(|(_, file)| file.number).collect(),
        }
    }

    /// No entry before this key is pending.
    pub(crate) fn frontier(&self) -> Key {
        let of = |window: &Window| window.first().map_or(window.end(), |entry| entry.key);
        let next = if self.backlog.first().is_some() || !self.backlog.is_complete() {
            of(&self.backlog)
        } else {
            of(&self.near)
        };
        let passed = [self.backlog.passed(), self.near.passed()];
        passed.into_iter().flatten().fold(next, Key::min)
    }

    /// Forgets what became of messages of buckets in which nothing is pending, some days after the last was due.
    pub(crate) fn forget_settled(&mut self, now_ms: u64) {
        let number = |kept_ms: u64| self.bucket_of(now_ms.saturating_sub(kept_ms));
        let (remembered, kept) = (number(REMEMBERED_MS), number(KEPT_MS));
        for (_, bucket) in self.buckets.range_mut(..remembered) {
            if bucket.is_settled() && !bucket.is_forgotten() {
                bucket.forget();
            }
        }
        let mut first_slot = self.first_slot;
        self.buckets.retain(|number, bucket| {
            let stays = *number >= kept || !bucket.is_forgotten();
            if !stays {
                // Should the clock go back: a slot that it has given out is not given out again.
                first_slot = first_slot.max(bucket.slots());
            }
            stays
        });
        self.first_slot = first_slot;
    }

    /// Hands out again what was handed out: at a time, but not before it is due, should the clock have gone back.
    pub(crate) fn hand_out_again(&mut self, home: Key, at_ms: u64) {
        if let Some(one) = self.outstanding.get_mut(&home) {
            let at_ms = at_ms.max(one.entry.key.due_ms);
            one.again_ms = Some(at_ms);
            self.again.push(Reverse((at_ms, one.entry.key, home)));
        }
    }

    /// What was taken out to be handed out is not, after all.
    pub(crate) fn take_back(&mut self, again: &[Again]) {
        for one in again {
            self.hand_out_again(one.home, one.at_ms);
        }
        self.backlog.rewind();
        self.near.rewind();
    }

    pub(crate) fn window(&mut self, backlog: bool) -> &mut Window {
        if backlog {
            &mut self.backlog
        } else {
            &mut self.near
        }
    }

    /// Takes the first of those that come again by `now_ms`.
    pub(crate) fn pop_again(&mut self, now_ms: u64) -> Option<Again> {
        while self
            .again
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now_ms)
        {
            let Reverse((at_ms, _, home)) = self.again.pop()?;
            if let Some(one) = self.outstanding.get_mut(&home)
                && one.again_ms == Some(at_ms)
            {
                one.again_ms = None;
                let entry = one.entry;
                return Some(Again { at_ms, entry, home });
            }
        }
        None
    }

    /// Fills an empty window with the next entries of its span: a part of what it can hold, as nothing else is done meanwhile.
    pub(crate) fn refill(&mut self, backlog: bool) -> Result<(), DamagedRun> {
        let window = if backlog { &self.backlog } else { &self.near };
        let (start, limit, capacity) = (window.end(), window.limit(), window.refill_entries());
        let staged = self.stage.iter().chain(self.freezing.iter());
        let mut staged: Vec<Entry> = staged
            .filter(|entry| (start..limit).contains(&entry.key) && self.is_pending(entry))
            .copied()
            .collect();
        if staged.len() > capacity {
            staged.select_nth_unstable(capacity);
            staged.truncate(capacity + 1);
        }
        staged.sort_unstable();
        let mut staged = staged.into_iter().peekable();
        let mut stored = Merge::new(&self.runs, start)?;
        let mut next_stored = stored.next()?;
        let mut entries = Vec::new();
        let end = loop {
            let stored_first = match (&next_stored, staged.peek()) {
                (Some(stored), Some(staged)) => stored.key < staged.key,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break limit,
            };
            let entry = if stored_first {
                std::mem::replace(&mut next_stored, stored.next()?)
            } else {
                staged.next()
            };
            let Some(entry) = entry.filter(|entry| entry.key < limit) else {
                break limit;
            };
            if entries.len() == capacity {
                break entry.key;
            }
            if self.is_pending(&entry) {
                entries.push(entry);
            }
        };
        self.window(backlog).refill(entries, end);
        Ok(())
    }
}
