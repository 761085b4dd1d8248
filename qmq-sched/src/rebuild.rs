//! Making the index anew: all of it, from what is left of the log and of the files of bodies; or only the runs, of what the state says is pending.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bodies::{self, Bodies, bodies_name};
use crate::core::Core;
use crate::entry::{Entry, Origin};
use crate::error::Error;
use crate::event::{Event, SUBJECT};
use crate::needed::{Moved, Needed};
use crate::recovery::{OpenReport, READ_AT_ONCE, check_log_end, empty};
use crate::scheduler::Inner;
use crate::stage::Stage;

/// Behind the name of a file of bodies in which nothing was found.
const LOST: &str = ".lost";

/// The state of a new scheduler; or, if there is one whose checkpoints are all lost, what its records say that are left.
pub(crate) fn from_nothing(inner: &Inner, report: &mut OpenReport) -> Result<Core, Error> {
    let mut core = empty(&inner.store, &inner.options, inner.report.opened_ms);
    let first_sequence = core.next_sequence;
    let numbers = bodies::numbers(&*inner.disk).map_err(Error::io("listing the index"))?;
    if core.next_sequence > 0 || !numbers.is_empty() {
        report
            .rebuilt
            .get_or_insert_with(|| "there is no checkpoint".into());
    }
    for (first, last, bodies) in newest_bodies(inner, numbers, report)? {
        let mut count = 0;
        for sequence in bodies.sequences() {
            if let Some(record) = bodies.get(sequence)
                && let Some(event) = Event::decode(record.body())
            {
                core.next_sequence = sequence;
                core.apply(&event);
                count += 1;
                write_if_full(inner, &mut core)?;
            }
        }
        let end = Needed::stretch_end(last);
        let file = Moved {
            number: bodies.number,
            live: core.needed.count_before(end),
            count,
        };
        core.needed.moved(first, end, file);
        core.bodies.push(bodies);
    }
    check_log_end(inner, &core)?;
    core.next_sequence = first_sequence.max(core.needed.moved_below());
    Ok(core)
}

/// Files of bodies in the order of their records, each with its first and its last sequence. One that was rewritten into a newer one may be there
/// still: it covers what the newer one does, and is left out.
fn newest_bodies(
    inner: &Inner,
    mut numbers: Vec<u64>,
    report: &mut OpenReport,
) -> Result<Vec<(u64, u64, Arc<Bodies>)>, Error> {
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut newest = Vec::<(u64, u64, Arc<Bodies>)>::new();
    for number in numbers {
        let opened = Bodies::open(&*inner.disk, number, inner.store_id)
            .map_err(Error::io(format!("opening {}", bodies_name(number))))?;
        let Some(bodies) = opened else {
            // Nothing names it from now on, and what nothing names is removed.
            let name = bodies_name(number);
            inner
                .disk
                .rename(&name, &format!("{name}{LOST}"))
                .map_err(Error::io(format!("setting {name} aside")))?;
            report.lost_files.push(name);
            continue;
        };
        if bodies.is_damaged() {
            report.damaged_files.push(bodies_name(number));
        }
        let (first, last) = (bodies.sequences().next(), bodies.sequences().last());
        let (Some(first), Some(last)) = (first, last) else {
            continue;
        };
        let covers = |other: &(u64, u64, _)| first <= other.1 && other.0 <= last;
        if !newest.iter().any(covers) {
            newest.push((first, last, Arc::new(bodies)));
        }
    }
    newest.sort_unstable_by_key(|&(first, ..)| first);
    Ok(newest)
}

/// Writes what is staged as a run, if it is enough.
pub(crate) fn write_if_full(inner: &Inner, core: &mut Core) -> Result<(), Error> {
    if core.stage.len() < inner.options.stage_entries {
        return Ok(());
    }
    inner.store.sync()?;
    let number = inner.next_run.fetch_add(1, Ordering::Relaxed);
    let pending = core.stage.sorted().filter(|entry| core.is_pending(entry));
    let run = inner.write_run(number, core.stage.len() as u64, pending.map(Ok))?;
    core.runs.push(Arc::new(run));
    core.stage = Stage::default();
    Ok(())
}

/// Makes all entries anew, from the records that are needed: the state knows which are pending. After an error all is as it was, and who
/// comes upon the damage again tries again.
pub(crate) fn restage(inner: &Inner, core: &mut Core) -> Result<(), Error> {
    let runs = std::mem::take(&mut core.runs);
    let staged = std::mem::take(&mut core.stage);
    let made = stage_all(inner, core);
    if made.is_err() {
        (core.runs, core.stage) = (runs, staged);
    }
    core.take_back(&[]);
    made
}

fn stage_all(inner: &Inner, core: &mut Core) -> Result<(), Error> {
    for bodies in core.bodies.clone() {
        for sequence in bodies.sequences() {
            if let Some(record) = bodies.get(sequence) {
                stage(core, sequence, record.body());
                write_if_full(inner, core)?;
            }
        }
    }
    let stats = inner.store.subject_stats(SUBJECT);
    let first = stats.map_or(0, |stats| stats.first_sequence);
    let mut at = first.max(core.needed.moved_below());
    while at < core.next_sequence {
        let most = READ_AT_ONCE.min((core.next_sequence - at) as usize);
        let records = inner.store.read(SUBJECT, at, most)?;
        if records.is_empty() {
            break;
        }
        for one in &records {
            at = one.sequence() + 1;
            if let Ok(view) = one.message() {
                stage(core, one.sequence(), view.body());
            }
        }
        write_if_full(inner, core)?;
    }
    Ok(())
}

/// Stages the entry of a record, if it has one that is pending.
fn stage(core: &mut Core, sequence: u64, body: &[u8]) {
    let entry = match Event::decode(body) {
        Some(Event::Scheduled {
            key,
            number,
            body_len,
            ..
        }) => Entry {
            key,
            sequence,
            subject: number,
            body_len,
            origin: Origin::Scheduled,
        },
        Some(Event::Rescheduled(one)) => Entry {
            key: one.to,
            sequence,
            subject: one.subject,
            body_len: one.body_len,
            origin: Origin::Rescheduled,
        },
        _ => return,
    };
    if core.is_pending(&entry) {
        core.stage.push(entry);
    }
}
