//! Looking without changing anything: one message, a range of them, and the totals.

use qmq_store::{Damaged, Message};

use crate::bucket::State;
use crate::core::Core;
use crate::entry::{Entry, Key};
use crate::error::Error;
use crate::id::DelayId;
use crate::run::{DamagedRun, Merge};
use crate::scheduler::{Inner, Scheduler};
use crate::totals::Totals;

/// Most entries that one page looks at, whether or not they are of the subject: nothing else is done meanwhile.
const LOOKED_AT_MAX: usize = 50_000;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its time has not come, or nobody has asked since.
    Pending,
    /// Handed out, and not dispatched.
    Fired,
}

/// A message that is pending or handed out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scheduled {
    /// When it is due, in ms since 1970 UTC.
    pub due_ms: u64,
    /// How far it has come.
    pub standing: Standing,
    /// The message; or where its record is, if that is damaged.
    pub message: Result<Message, Damaged>,
}

/// A line of a list: a message that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub id: DelayId,
    /// When it is due, in ms since 1970 UTC.
    pub due_ms: u64,
    /// Its subject.
    pub subject: String,
    /// Bytes of its body.
    pub body_len: u32,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their due times.
    pub messages: Vec<Listed>,
    /// Where the next page goes on; `None`: there is none.
    pub next: Option<(u64, u32)>,
}

impl Scheduler {
    /// The message of an id, if it is pending or handed out.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`], if a damaged run cannot be made anew.
    pub fn get(&self, id: DelayId) -> Result<Option<Scheduled>, Error> {
        let inner = &self.inner;
        let mut core = inner.core.lock();
        let Some((home, state)) = inner.home_of(&core, id) else {
            return Ok(None);
        };
        let standing = match state {
            State::Pending => Standing::Pending,
            State::HandedOut => Standing::Fired,
            State::Dispatched | State::Gone => return Ok(None),
        };
        let Some(entry) = inner.healing(&mut core, |core| core.entry_of(home))? else {
            return Ok(None);
        };
        let sequence = core.body_of(home, &entry);
        let moved = inner.bodies_with(&core, sequence);
        drop(core);
        Ok(Some(Scheduled {
            due_ms: entry.key.due_ms,
            standing,
            message: inner.message(moved.as_deref(), sequence),
        }))
    }

    /// Up to `max` pending messages due from `from_ms` to before `until_ms`, of one subject or of all, in the order of their due times. Give
    /// [`Page::next`] as `after` for the next page; a page may be short, or empty, and have a next one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`], if a damaged run cannot be made anew.
    pub fn list(
        &self,
        subject: Option<&str>,
        from_ms: u64,
        until_ms: u64,
        after: Option<(u64, u32)>,
        max: usize,
    ) -> Result<Page, Error> {
        let inner = &self.inner;
        let mut core = inner.core.lock();
        let number = match subject.map(|name| core.subjects.number(name)) {
            Some(None) => return Ok(Page::default()),
            Some(number) => number,
            None => None,
        };
        let start = after.map_or((from_ms, 0), |after| after.max((from_ms, 0)));
        let start = Key {
            due_ms: start.0,
            slot: start.1,
        };
        let (entries, next) = inner.healing(&mut core, |core| {
            pending_from(core, start, until_ms, number, max)
        })?;
        let named = entries.into_iter().filter_map(|entry| {
            let home = inner.home_of_entry(&core, &entry);
            Some(Listed {
                id: inner.id_of(home, core.generation_of(home)),
                due_ms: entry.key.due_ms,
                subject: core.subjects.name(entry.subject)?.to_string(),
                body_len: entry.body_len,
            })
        });
        Ok(Page {
            messages: named.collect(),
            next: next.map(|key| (key.due_ms, key.slot)),
        })
    }

    /// What is pending or handed out, of all subjects. In constant time.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let core = self.inner.core.lock();
        self.inner.told(&core, core.subjects.total())
    }

    /// What is pending or handed out of one subject; `None`: nothing ever was. In constant time.
    #[must_use]
    pub fn subject_totals(&self, subject: &str) -> Option<Totals> {
        let core = self.inner.core.lock();
        let totals = core.subjects.of(subject)?;
        Some(self.inner.told(&core, totals))
    }

    /// What is pending or handed out of each subject.
    #[must_use]
    pub fn subjects(&self) -> Vec<(String, Totals)> {
        let core = self.inner.core.lock();
        core.subjects
            .iter()
            .map(|(name, totals)| (name.to_owned(), self.inner.told(&core, totals)))
            .collect()
    }

    /// How many messages are handed out and not dispatched.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.inner.core.lock().outstanding.len()
    }

    /// How many messages were ever dropped for being later than [`Options::time_to_live`](crate::Options::time_to_live).
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.core.lock().dropped
    }

    /// Reads all runs and all records that were moved out of the log, and compares them with their checksums. A damaged run is made anew; a damaged
    /// record stays. Returns what was found.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`], if it cannot be made anew.
    pub fn verify(&self) -> Result<Vec<String>, Error> {
        let core = self.inner.core.lock();
        let (runs, bodies) = (core.runs.clone(), core.bodies.clone());
        drop(core);
        let damaged: Vec<DamagedRun> = runs.iter().filter_map(|run| run.verify().err()).collect();
        if !damaged.is_empty() {
            crate::rebuild::restage(&self.inner, &mut self.inner.core.lock())?;
        }
        let mut found: Vec<String> = damaged.iter().map(DamagedRun::to_string).collect();
        found.extend(bodies.iter().flat_map(|bodies| bodies.damages()));
        Ok(found)
    }
}

impl Inner {
    /// Totals with the first due time that is known now: what was due before the window has been handed out.
    fn told(&self, core: &Core, mut totals: Totals) -> Totals {
        if totals.count > 0 && core.outstanding.is_empty() {
            let first = core.frontier().due_ms;
            totals.first_due_ms = totals.first_due_ms.max(first).min(totals.last_due_ms);
        }
        totals
    }
}

/// Pending entries from `start` on, and where the next page begins.
fn pending_from(
    core: &Core,
    start: Key,
    until_ms: u64,
    subject: Option<u32>,
    max: usize,
) -> Result<(Vec<Entry>, Option<Key>), DamagedRun> {
    let wanted = |entry: &Entry| subject.is_none_or(|number| entry.subject == number);
    let in_range = |entry: &Entry| entry.key >= start && entry.key.due_ms < until_ms;
    let staged = core.stage.iter().chain(core.freezing.iter());
    let mut staged: Vec<Entry> = staged
        .filter(|entry| in_range(entry) && wanted(entry) && core.is_pending(entry))
        .copied()
        .collect();
    staged.sort_unstable();
    let mut stored = Merge::new(&core.runs, start)?;
    let mut found = Vec::new();
    let mut next = None;
    for looked_at in 0.. {
        let Some(entry) = stored.next()?.filter(in_range) else {
            break;
        };
        if looked_at == LOOKED_AT_MAX || found.len() > max {
            next = Some(entry.key);
            break;
        }
        if wanted(&entry) && core.is_pending(&entry) {
            found.push(entry);
        }
    }
    // What is staged beyond where the look into the runs ended belongs to a later page.
    found.extend(
        staged
            .into_iter()
            .filter(|entry| next.is_none_or(|next| entry.key < next)),
    );
    found.sort_unstable();
    found.dedup();
    if found.len() > max {
        next = Some(found[max].key);
        found.truncate(max);
    }
    Ok((found, next))
}
