//! Open: the newest checkpoint, its runs, and the records of the log since. Where any of it is damaged, all of it is made anew from the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use qmq_store::disk::Disk;
use qmq_store::{Durability, Store};

use crate::alarm::Alarm;
use crate::backup::NO_RUNS;
use crate::bodies::{self, Bodies, bodies_name};
use crate::checkpoint::{self, LogStart, Summary};
use crate::core::{Core, Saved};
use crate::entry::Key;
use crate::error::Error;
use crate::event::{self, Event, SUBJECT};
use crate::keeper::Bell;
use crate::options::Options;
use crate::pace::Pace;
use crate::primary::PART;
use crate::rebuild::{from_nothing, restage, write_if_full};
use crate::run::{self, Run};
use crate::scheduler::{FolderLock, Inner};

/// Behind the name of a checkpoint of another log than the one that is there.
pub(crate) const AHEAD: &str = ".ahead";
/// Records read at a time.
pub(crate) const READ_AT_ONCE: usize = 4_096;

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
    /// Files with bodies of pending messages that are gone or not the scheduler's. Their messages come as damaged.
    pub lost_files: Vec<String>,
    /// Files with bodies of pending messages whose header or index is damaged: their records were searched for, and are written anew.
    pub damaged_files: Vec<String>,
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
        backups: AtomicUsize::new(0),
        spilling: Mutex::new(()),
        next_run: AtomicU64::new(0),
        checkpoints: Mutex::default(),
        pace: Mutex::new(Pace::new(options.catch_up_per_second, opened_ms)),
        alarm: Alarm::default(),
        bell: Bell::default(),
        report: OpenReport {
            opened_ms,
            ..OpenReport::default()
        },
        options,
        _lock: FolderLock { _held: lock },
    };
    let mut report = inner.report.clone();
    let (mut core, is_new) = match load(&inner, &mut report)? {
        Some(core) => (*core, false),
        None => (from_nothing(&inner, &mut report)?, true),
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
    )?;
    *inner.core.lock() = core;
    inner.report = report;
    if is_new || inner.report.rebuilt.is_some() {
        // From here on the scale is fixed, and what was damaged is no longer in the way.
        inner.spill()?;
    }
    Ok(inner)
}

pub(crate) fn empty(store: &Store, options: &Options, opened_ms: u64) -> Core {
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
        let is_unfinished = |name: &str| name.ends_with(".tmp") || name.ends_with(PART);
        let ours = ["run-", "bodies-", "checkpoint-"];
        if ours.iter().any(|prefix| file.name.starts_with(prefix)) && is_unfinished(&file.name) {
            disk.remove(&file.name)?;
        }
    }
    Ok(())
}

/// The newest checkpoint that is whole, and its files. An error of the disk is no damage: what cannot be read now may be whole.
fn load(inner: &Inner, report: &mut OpenReport) -> Result<Option<Box<Core>>, Error> {
    let disk = &*inner.disk;
    let listing = || Error::io("listing the index");
    let runs = run::numbers(disk).map_err(listing())?;
    let bodies = bodies::numbers(disk).map_err(listing())?;
    let last = runs.into_iter().chain(bodies).max();
    inner
        .next_run
        .store(last.map_or(0, |number| number + 1), Ordering::Relaxed);
    let mut names = checkpoint::names(disk).map_err(listing())?.into_iter();
    while let Some(name) = names.next() {
        let reading = || Error::io(format!("reading {name}"));
        let bytes = checkpoint::read(disk, &name).map_err(reading())?;
        let mut core = empty(&inner.store, &inner.options, inner.report.opened_ms);
        let first_sequence = core.next_sequence;
        let Some(summary) = checkpoint::decode(&bytes, &mut core) else {
            report.rebuilt = Some(format!("{name} is damaged"));
            disk.remove(&name).map_err(reading())?;
            continue;
        };
        check(inner, &summary)?;
        check_log_end(inner, &core)?;
        let end = log_end(&inner.store);
        if !(first_sequence..=end).contains(&core.next_sequence) {
            let next = core.next_sequence;
            report.rebuilt = Some(format!(
                "{name} goes up to record {next}, and the log has {first_sequence} to {end}"
            ));
            // Once the log has grown as far it would be believed.
            disk.rename(&name, &format!("{name}{AHEAD}"))
                .map_err(reading())?;
            continue;
        }
        let log = LogStart {
            first_sequence,
            offset: inner.store.stats().start_offset,
        };
        if summary.is_stale(&core, log) {
            report.rebuilt = Some(format!(
                "{name} needs the log from before record {first_sequence}, where it begins"
            ));
            disk.remove(&name).map_err(reading())?;
            continue;
        }
        inner
            .next_run
            .fetch_max(summary.next_run, Ordering::Relaxed);
        core.saved = Saved {
            next_sequence: core.next_sequence,
            end_offset: offset_of(&inner.store, core.next_sequence)
                .unwrap_or(inner.store.watermarks().written),
        };
        open_files(inner, &mut core, &summary, report)?;
        // What older ones need is not known to be there.
        for older in names {
            disk.remove(&older).map_err(reading())?;
        }
        return Ok(Some(Box::new(core)));
    }
    Ok(None)
}

/// Sequence of the log's next record.
fn log_end(store: &Store) -> u64 {
    let stats = store.subject_stats(SUBJECT);
    stats.map_or(0, |stats| stats.next_sequence)
}

/// New records must not get the sequences of those whose bodies lie in files.
pub(crate) fn check_log_end(inner: &Inner, core: &Core) -> Result<(), Error> {
    let (log_end, index_end) = (log_end(&inner.store), core.needed.moved_below());
    if index_end <= log_end {
        return Ok(());
    }
    Err(Error::LogBehind {
        folder: inner.disk.describe(),
        log_end,
        index_end,
    })
}

/// Where a record is in the log, if it can be read.
pub(crate) fn offset_of(store: &Store, sequence: u64) -> Option<u64> {
    let records = store.read(SUBJECT, sequence, 1).ok()?;
    let one = records.iter().next()?;
    one.message().ok().map(|view| view.offset())
}

/// Opens what a checkpoint names. Runs are made anew if one is damaged; bodies that are lost are reported, and come as damaged messages.
fn open_files(
    inner: &Inner,
    core: &mut Core,
    summary: &Summary,
    report: &mut OpenReport,
) -> Result<(), Error> {
    let files: Vec<u64> = core.needed.files().map(|(_, file)| file.number).collect();
    for &number in &files {
        match Bodies::open(&*inner.disk, number, inner.store_id) {
            Ok(Some(bodies)) => {
                if bodies.is_damaged() {
                    report.damaged_files.push(bodies_name(number));
                }
                core.bodies.push(Arc::new(bodies));
            }
            Ok(None) => report.lost_files.push(bodies_name(number)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.lost_files.push(bodies_name(number));
            }
            Err(error) => return Err(Error::io(format!("opening {}", bodies_name(number)))(error)),
        }
    }
    *inner.checkpoints.lock() = vec![core.checkpointed()];
    if summary.runs == [NO_RUNS] {
        report.rebuilt = Some("this is a backup: runs are not copied".into());
        return restage(inner, core);
    }
    for &number in &summary.runs {
        let opened = Run::open(&*inner.disk, number, inner.store_id)
            .map_err(Error::io(format!("opening {}", run::run_name(number))))?;
        match opened {
            Ok(run) => core.runs.push(Arc::new(run)),
            Err(damaged) => {
                report.rebuilt = Some(damaged.to_string());
                return restage(inner, core);
            }
        }
    }
    inner.remove_unnamed(summary)
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
        write_if_full(inner, core)?;
    }
    inner.healing(core, Core::settle_unexplained)?;
    if report.damaged > 0 {
        core.leave_out(u32::try_from(report.damaged).unwrap_or(u32::MAX));
    }
    Ok(())
}
