//! Open: the newest checkpoint, its runs, and the records of the log since. Where any of it is damaged, all of it is made anew from the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use qmq_store::disk::Disk;
use qmq_store::{Durability, Store};

use crate::checkpoint::{self, Summary};
use crate::core::Core;
use crate::dispatch::Pace;
use crate::entry::Key;
use crate::error::Error;
use crate::event::{self, Event, SUBJECT};
use crate::options::Options;
use crate::run::{self, DamagedRun, Run};
use crate::scheduler::{FolderLock, Inner};

/// Records read at a time.
const READ_AT_ONCE: usize = 4_096;

/// What an open found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// When it was opened, in ms since 1970 UTC.
    pub opened_ms: u64,
    /// Records of the log that were read.
    pub replayed: u64,
    /// Records among them that could not be read: what they said is lost.
    pub damaged: u64,
    /// Why the index was made anew from the log, if it was.
    pub rebuilt: Option<String>,
}

pub(crate) fn open(store: Store, disk: Arc<dyn Disk>, options: Options) -> Result<Inner, Error> {
    options.check()?;
    if store.options().retention_hold.is_none() {
        return Err(Error::NoHold);
    }
    let lock = disk.lock().map_err(Error::io(format!(
        "locking the index in {}",
        disk.describe()
    )))?;
    remove_unfinished(&*disk).map_err(Error::io("removing an unfinished file"))?;
    let opened_ms = store.options().clock.now_ms();
    let stats = store.stats();
    let mut inner = Inner {
        store_id: stats.store_id,
        generation: stats.incarnation,
        core: Mutex::new(empty(&store, &options, opened_ms)),
        store,
        disk,
        spilling: Mutex::new(()),
        next_run: AtomicU64::new(0),
        pace: Mutex::new(Pace::new(opened_ms)),
        report: OpenReport {
            opened_ms,
            ..OpenReport::default()
        },
        options,
        _lock: FolderLock { _held: lock },
    };
    let mut report = inner.report.clone();
    let (mut core, is_new) = match load(&inner)? {
        Loaded::Good(core) => (*core, false),
        Loaded::None => (empty(&inner.store, &inner.options, opened_ms), true),
        Loaded::Damaged(why) => {
            let numbers = run::numbers(&*inner.disk).map_err(Error::io("listing the runs"))?;
            let unused = numbers.into_iter().max().map_or(0, |number| number + 1);
            inner.next_run.store(unused, Ordering::Relaxed);
            report.rebuilt = Some(why);
            (empty(&inner.store, &inner.options, opened_ms), true)
        }
    };
    replay(&inner, &mut core, &mut report)?;
    // Whoever had what is handed out is gone.
    let homes: Vec<Key> = core.outstanding.keys().copied().collect();
    homes
        .into_iter()
        .for_each(|home| core.hand_out_again(home, 0));
    let opened = event::opened(inner.options.segment_scale_minute);
    let appended = inner.store.append_with(&opened, Durability::Buffered)?;
    let segment_scale_minute = inner.options.segment_scale_minute;
    inner.took(
        &mut core,
        appended.sequence,
        &Event::Opened {
            segment_scale_minute,
        },
    );
    *inner.core.lock() = core;
    inner.report = report;
    if is_new {
        // From here on the scale is fixed.
        inner.spill()?;
    }
    Ok(inner)
}

fn empty(store: &Store, options: &Options, opened_ms: u64) -> Core {
    let mut core = Core::new(options.bucket_ms(), options.window_entries, opened_ms);
    // The subject is not known before its first record.
    core.next_sequence = store
        .subject_stats(SUBJECT)
        .map_or(0, |stats| stats.first_sequence);
    core.first_slot = first_slot(core.next_sequence);
    core
}

/// A slot that the records before `first_sequence`, which are gone, did not give out: there are not so many of them. Beyond 2^31 records no
/// bucket has had as many, and the rest tells one time that an index is made anew from another.
fn first_slot(first_sequence: u64) -> u32 {
    const HALF: u64 = 1 << 31;
    if first_sequence < HALF {
        first_sequence as u32
    } else {
        (HALF + first_sequence % (HALF / 2)) as u32
    }
}

/// Removes what an interrupted step left behind.
fn remove_unfinished(disk: &dyn Disk) -> io::Result<()> {
    for file in disk.list()? {
        let ours = ["run-", "checkpoint-"];
        if ours.iter().any(|prefix| file.name.starts_with(prefix)) && file.name.ends_with(".tmp") {
            disk.remove(&file.name)?;
        }
    }
    Ok(())
}

enum Loaded {
    None,
    Good(Box<Core>),
    Damaged(String),
}

/// The newest checkpoint and its runs. An error of the disk is no damage: what cannot be read now may be whole.
fn load(inner: &Inner) -> Result<Loaded, Error> {
    let reading = || Error::io("reading a checkpoint");
    let names = checkpoint::names(&*inner.disk).map_err(reading())?;
    let Some(name) = names.first() else {
        return Ok(Loaded::None);
    };
    let bytes = checkpoint::read(&*inner.disk, name).map_err(reading())?;
    let mut core = empty(&inner.store, &inner.options, inner.report.opened_ms);
    let first_sequence = core.next_sequence;
    let Some(summary) = checkpoint::decode(&bytes, &mut core) else {
        return Ok(Loaded::Damaged(format!("{name} is damaged")));
    };
    check(inner, &summary)?;
    let end = inner
        .store
        .subject_stats(SUBJECT)
        .map_or(0, |stats| stats.next_sequence);
    if !(first_sequence..=end).contains(&core.next_sequence) {
        return Ok(Loaded::Damaged(format!(
            "{name} goes up to record {}, and the log has {first_sequence} to {end}",
            core.next_sequence
        )));
    }
    for &number in &summary.runs {
        let opened = Run::open(&*inner.disk, number, inner.store_id)
            .map_err(Error::io(format!("opening {}", run::run_name(number))))?;
        match opened {
            Ok(run) => core.runs.push(Arc::new(run)),
            Err(damaged) => return Ok(Loaded::Damaged(damaged.to_string())),
        }
    }
    inner.next_run.store(summary.next_run, Ordering::Relaxed);
    inner.remove_unnamed(&summary.runs)?;
    Ok(Loaded::Good(Box::new(core)))
}

fn check(inner: &Inner, summary: &Summary) -> Result<(), Error> {
    if summary.store_id != inner.store_id {
        let folder = inner.disk.describe();
        return Err(Error::OtherStore { folder });
    }
    check_scale(inner, summary.segment_scale_minute)
}

fn check_scale(inner: &Inner, found: u32) -> Result<(), Error> {
    let asked = inner.options.segment_scale_minute;
    if found == asked {
        Ok(())
    } else {
        Err(Error::OtherScale { found, asked })
    }
}

/// Takes the records of the log from where the state ends.
fn replay(inner: &Inner, core: &mut Core, report: &mut OpenReport) -> Result<(), Error> {
    loop {
        let records = match inner.store.read(SUBJECT, core.next_sequence, READ_AT_ONCE) {
            Err(qmq_store::Error::UnknownSubject { .. }) => break,
            records => records?,
        };
        if records.is_empty() {
            break;
        }
        for one in &records {
            report.replayed += 1;
            let view = one.message().ok();
            match view.as_ref().and_then(|view| Event::decode(view.body())) {
                Some(event) => {
                    if let Event::Opened {
                        segment_scale_minute,
                    } = event
                    {
                        check_scale(inner, segment_scale_minute)?;
                    }
                    core.apply(&event);
                }
                None => {
                    report.damaged += 1;
                    core.skip();
                }
            }
        }
        if core.stage.len() >= inner.options.stage_entries {
            let mut entries = std::mem::take(&mut core.stage).into_sorted();
            entries.retain(|entry| core.is_pending(entry));
            inner.store.sync()?;
            let number = inner.next_run.fetch_add(1, Ordering::Relaxed);
            core.runs.push(Arc::new(inner.write_run(number, &entries)?));
        }
    }
    if report.damaged > 0 {
        core.leave_out(u32::try_from(report.damaged).unwrap_or(u32::MAX));
    }
    Ok(())
}

/// Makes the state anew from the log, in place of one with a damaged run.
pub(crate) fn heal(inner: &Inner, core: &mut Core, _damaged: &DamagedRun) -> Result<(), Error> {
    let mut fresh = empty(&inner.store, &inner.options, inner.report.opened_ms);
    replay(inner, &mut fresh, &mut OpenReport::default())?;
    // What is with whoever delivers it stays there.
    fresh.outstanding = std::mem::take(&mut core.outstanding);
    fresh.again = std::mem::take(&mut core.again);
    *core = fresh;
    Ok(())
}
