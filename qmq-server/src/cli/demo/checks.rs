//! What must be true in the end, by name.

use super::audit::{Audit, Findings};
use super::event::{DEAD_IN, GROUPS, KILLED_IN, TAGGED};
use super::input::Input;
use super::ledger::{Ledger, RUNS, wanted};
use crate::cli::output::count;

/// One thing that must be true.
#[derive(Debug)]
pub(super) struct Check {
    /// Stable name, for programs.
    pub(super) name: &'static str,
    /// Whether it is.
    pub(super) ok: bool,
    /// What was seen.
    pub(super) detail: String,
}

impl Check {
    pub(super) fn new(name: &'static str, ok: bool, detail: String) -> Self {
        Self { name, ok, detail }
    }

    /// Holds if nothing was found; otherwise the detail is the first finding.
    pub(super) fn nothing(name: &'static str, found: &[&Findings], good: String) -> Self {
        let bad = found.iter().map(|f| f.count).sum::<u64>();
        let first = found
            .iter()
            .find_map(|f| f.first.as_deref())
            .unwrap_or_default();
        if bad == 0 {
            return Self::new(name, true, good);
        }
        Self::new(name, false, format!("{}, first: {first}", count(bad)))
    }
}

/// All checks, in the order in which a person would ask.
pub(super) fn checks(input: &Input, ledger: &Ledger<'_>, audits: &[Audit; RUNS]) -> Vec<Check> {
    let [first, last] = audits;
    let flights = input.flights.len() as u64;
    vec![
        Check::new(
            "every_flight_stored",
            last.messages == flights && last.incomplete.none(),
            format!(
                "{} of {} in {} subjects{}",
                count(last.messages),
                count(flights),
                count(input.routes.len() as u64),
                first_of(&last.incomplete)
            ),
        ),
        Check::nothing(
            "bodies_identical",
            &[&first.different, &last.different],
            "every body, tag and id as it was sent".to_owned(),
        ),
        Check::nothing(
            "sequences_dense",
            &[&first.gaps, &last.gaps],
            "each subject from 0, none skipped, none twice".to_owned(),
        ),
        group_complete("group_all_1_complete", KILLED_IN, input, ledger),
        group_complete("group_all_2_complete", DEAD_IN, input, ledger),
        group_complete("tag_group_exact", TAGGED, input, ledger),
        left_work("killed_consumer_work_finished", 0, ledger),
        left_work("dead_consumer_work_finished", 1, ledger),
        nothing_lost(ledger, first, last),
        progress_kept(input, ledger, last),
        Check::nothing(
            "store_verifies",
            &[&last.damage],
            "no damage found".to_owned(),
        ),
    ]
}

fn first_of(findings: &Findings) -> String {
    findings
        .first
        .as_deref()
        .map(|first| format!(", first: {first}"))
        .unwrap_or_default()
}

/// Every flight that the group wants was handled, and no other.
fn group_complete(name: &'static str, group: usize, input: &Input, ledger: &Ledger<'_>) -> Check {
    let (mut handled, mut missed, mut unwanted) = (0, 0, 0);
    for (index, flight) in input.flights.iter().enumerate() {
        match (wanted(group, &flight.carrier), ledger.handled(group, index)) {
            (true, true) => handled += 1,
            (true, false) => missed += 1,
            (false, true) => unwanted += 1,
            (false, false) => {}
        }
    }
    let again = ledger.runs.iter().map(|run| run.again[group]).sum::<u64>();
    let unknown = ledger.unknown;
    Check::new(
        name,
        handled > 0 && missed == 0 && unwanted == 0 && unknown == 0,
        format!(
            "{} handled, {} missed, {} unwanted, {} of them handed out again",
            count(handled),
            count(missed),
            count(unwanted + unknown),
            count(again)
        ),
    )
}

/// What one consumer took and left, others have acknowledged.
fn left_work(name: &'static str, run: usize, ledger: &Ledger<'_>) -> Check {
    let Some(left) = &ledger.left[run] else {
        return Check::new(name, false, "no consumer left work behind".to_owned());
    };
    let taken = left.work.sequences.len();
    Check::new(
        name,
        taken > 0 && left.open.is_empty(),
        format!(
            "{} of the {} messages that {} of {} left were finished by others",
            taken - left.open.len(),
            taken,
            left.work.consumer,
            GROUPS[left.work.group]
        ),
    )
}

/// Both closes were really without notice, and everything reported durable is there.
fn nothing_lost(ledger: &Ledger<'_>, first: &Audit, last: &Audit) -> Check {
    const NAME: &str = "nothing_lost_after_unclean_close";
    if first.clean || last.clean {
        return Check::new(
            NAME,
            false,
            "the store says that it was closed properly".to_owned(),
        );
    }
    Check::nothing(
        NAME,
        &[&first.lost, &last.lost, &last.different],
        format!(
            "killed twice; all {} flights reported durable are there",
            count(ledger.stored())
        ),
    )
}

/// Nothing acknowledged before a kill was handed out after it.
fn progress_kept(input: &Input, ledger: &Ledger<'_>, last: &Audit) -> Check {
    let mut kept = 0;
    let mut twice = Findings::default();
    for (group, name) in GROUPS.into_iter().enumerate() {
        let runs = ledger.marks[0][group].iter().zip(&ledger.marks[1][group]);
        for ((before, after), flight) in runs.zip(&input.flights) {
            kept += u64::from(before.acked);
            if before.acked && after.handled {
                let subject = &input.routes[flight.route as usize].subject;
                twice.add(|| format!("{name}: {subject} sequence {}", flight.sequence));
            }
        }
    }
    let check = Check::nothing(
        "progress_kept",
        &[&twice, &last.unfinished],
        format!(
            "none of {} acknowledged before the first kill came again",
            count(kept)
        ),
    );
    if kept == 0 {
        return Check::new(
            check.name,
            false,
            "nothing was acknowledged before the kill".into(),
        );
    }
    check
}
