//! What a loss of power leaves of a disk.

use std::collections::{BTreeMap, BTreeSet};

use super::content::BLOCK_BYTES;
use super::history::{History, Rng};
use super::inode::{Inode, SECTOR_BYTES};
use super::state::{Name, State};

/// Which of their versions the sectors, lengths and names hold after a crash. Those that a sync covered hold their
/// newest in every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashImage {
    /// All hold their newest: nothing is lost.
    Newest,
    /// All hold their durable one: nothing is left that was not synced.
    Oldest,
    /// Each holds any of its versions, independently, with a leaning that the seed chooses.
    Random,
    /// All are as they were at one moment, perhaps in the middle of a copy.
    Prefix,
    /// All hold their newest, but for a single one.
    AllButOne,
    /// All hold their durable one, but for a single one.
    OnlyOne,
    /// Each file, and the names together, are of a kind of their own among the first four.
    PerFile,
}

impl CrashImage {
    /// The shapes that break engines most often are the likeliest.
    fn choose(rng: &mut Rng) -> Self {
        match rng.below(16) {
            0 => Self::Newest,
            1 => Self::Oldest,
            2..=5 => Self::Random,
            6..=8 => Self::Prefix,
            9..=10 => Self::AllButOne,
            11..=12 => Self::OnlyOne,
            _ => Self::PerFile,
        }
    }

    fn choose_of_file(rng: &mut Rng) -> Self {
        match rng.below(4) {
            0 => Self::Newest,
            1 => Self::Oldest,
            2 => Self::Random,
            _ => Self::Prefix,
        }
    }
}

/// A new disk that holds one seeded choice; of the kind given, or of one that the seed chooses.
pub(super) fn crash(state: &State, image: Option<CrashImage>, seed: u64) -> State {
    let mut rng = Rng::new(seed);
    let image = image.unwrap_or_else(|| CrashImage::choose(&mut rng));
    let mut picker = Picker::new(state, image, rng);
    let mut left = State::new(state.capacity);
    left.seed = state.seed;
    left.next_inode = state.next_inode;
    for (name, inode) in names(state, &mut picker) {
        left.names.insert(
            name,
            Name {
                inode: Some(inode),
                history: History::default(),
            },
        );
    }
    // Every file takes its turn in the choice, so that the same seed leaves the same of the others, named or not.
    let named: BTreeSet<u64> = left.names.values().filter_map(|name| name.inode).collect();
    for (&id, inode) in &state.inodes {
        picker.next_file();
        let file = file(inode, &mut picker);
        if named.contains(&id) {
            left.inodes.insert(id, file);
        }
    }
    left
}

fn names(state: &State, picker: &mut Picker) -> BTreeMap<String, u64> {
    picker.next_file();
    let mut chosen: BTreeMap<String, u64> = BTreeMap::new();
    for (name, to) in &state.names {
        if let Some(inode) = picker.pick(&to.history).copied().unwrap_or(to.inode) {
            chosen.insert(name.clone(), inode);
        }
    }
    // Names choose independently, but no file system loses a file by a rename: one that had a durable name and still
    // has a name gets the newest. That may take the name from another such file, hence the repetition.
    let durable: BTreeSet<u64> = state
        .names
        .values()
        .filter_map(|to| to.history.durable().copied().unwrap_or(to.inode))
        .collect();
    loop {
        let present: BTreeSet<u64> = chosen.values().copied().collect();
        let lost = state.names.iter().find_map(|(name, to)| {
            let inode = to.inode.filter(|inode| durable.contains(inode))?;
            (!present.contains(&inode)).then_some((name, inode))
        });
        let Some((name, inode)) = lost else {
            return chosen;
        };
        chosen.insert(name.clone(), inode);
    }
}

fn file(inode: &Inode, picker: &mut Picker) -> Inode {
    let mut content = inode.content.clone();
    let mut holes = inode.holes.clone();
    let len = picker.pick(&inode.lengths).copied().unwrap_or(inode.len);
    for (&sector, history) in &inode.sectors {
        if let Some(bytes) = picker.pick(history) {
            content.write(sector * SECTOR_BYTES, bytes.as_slice());
            holes.remove(&(sector * SECTOR_BYTES / BLOCK_BYTES));
        }
    }
    content.truncate(len);
    holes.split_off(&len.div_ceil(BLOCK_BYTES));
    Inode {
        content,
        len,
        holes,
        ..Inode::default()
    }
}

struct Picker {
    rng: Rng,
    image: CrashImage,
    /// The kind of the file at hand; differs from `image` only within [`CrashImage::PerFile`].
    current: CrashImage,
    /// How many of 8 hold their newest in a random image.
    newest_of_8: u64,
    /// The moment of a prefix image.
    moment: u64,
    /// Which one is the single one.
    single: u64,
    seen: u64,
}

impl Picker {
    fn new(state: &State, image: CrashImage, mut rng: Rng) -> Self {
        let (mut pending, mut first) = (0, state.tick);
        let mut note = |is_pending: bool, change: u64| {
            if is_pending {
                pending += 1;
                first = first.min(change);
            }
        };
        for name in state.names.values() {
            note(name.history.is_pending(), name.history.first_change());
        }
        for inode in state.inodes.values() {
            note(inode.lengths.is_pending(), inode.lengths.first_change());
            for history in inode.sectors.values() {
                note(history.is_pending(), history.first_change());
            }
        }
        let newest_of_8 = 1 + rng.below(7);
        // From just before the first change to just after the last.
        let before = first.saturating_sub(1);
        let moment = before + rng.below(state.tick - before + 1);
        let single = rng.below(pending);
        Self {
            rng,
            image,
            current: image,
            newest_of_8,
            moment,
            single,
            seen: 0,
        }
    }

    fn next_file(&mut self) {
        if self.image == CrashImage::PerFile {
            self.current = CrashImage::choose_of_file(&mut self.rng);
        }
    }

    /// The older version to hold, or `None` for the newest.
    fn pick<'a, T>(&mut self, history: &'a History<T>) -> Option<&'a T> {
        if !history.is_pending() {
            return None;
        }
        let is_single = self.seen == self.single;
        self.seen += 1;
        match self.current {
            CrashImage::Newest | CrashImage::PerFile => None,
            CrashImage::Oldest => history.durable(),
            CrashImage::Random if self.rng.below(8) < self.newest_of_8 => None,
            CrashImage::Random => history.older(self.rng.below(history.older_count())),
            CrashImage::Prefix => history.as_of(self.moment),
            CrashImage::AllButOne if is_single => {
                history.older(self.rng.below(history.older_count()))
            }
            CrashImage::AllButOne => None,
            CrashImage::OnlyOne if is_single => None,
            CrashImage::OnlyOne => history.durable(),
        }
    }
}
