//! What must be true in the end, by name.

use super::audit::{Audit, Findings};
use super::event::{GROUPS, HUNG_IN, KILLED_IN, TAGGED};
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
pub(super) fn checks(input: &Input, ledger: &Ledger<'_>, audits: &[Audit; 2]) -> Vec<Check> {
    let [first, last] = audits;
    let flights = input.flights.len() as u64;
    vec![
        Check::new(
            "every_flight_stored",
            last.messages - last.twice.count == flights && last.incomplete.none(),
            format!(
                "{} of {} in {} subjects{}",
                count(last.messages - last.twice.count),
                count(flights),
                count(input.routes.len() as u64),
                first_of(&last.incomplete)
            ),
        ),
        Check::nothing(
            "bodies_identical",
            &[&first.different, &last.different, &ledger.foreign],
            "every body, tag and id as it was sent, stored and delivered".to_owned(),
        ),
        Check::nothing(
            "sequences_dense",
            &[&first.gaps, &last.gaps],
            "each subject from 0, none skipped, none twice".to_owned(),
        ),
        Check::nothing(
            "order_kept",
            &[&first.disorder, &last.disorder],
            "each route's flights in the order in which they were sent".to_owned(),
        ),
        Check::nothing(
            "stored_once",
            &[&first.twice, &last.twice],
            "none twice, though kills took answers and it was sent again".to_owned(),
        ),
        group_complete("group_all_1_complete", KILLED_IN, input, ledger),
        group_complete("group_all_2_complete", HUNG_IN, input, ledger),
        group_complete("tag_group_exact", TAGGED, input, ledger),
        left_work("killed_consumer_work_finished", 0, ledger, last),
        left_work("hung_consumer_work_finished", 1, ledger, last),
        nothing_lost(ledger, first, last),
        progress_kept(ledger, last),
        Check::nothing(
            "handed_out_twice_only_by_kills",
            &[&ledger.unexplained],
            "none without a kill, or a lost consumer, in between".to_owned(),
        ),
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
    Check::new(
        name,
        handled > 0 && missed == 0 && unwanted == 0,
        format!(
            "{} handled, {} missed, {} unwanted, {} of them handed out again",
            count(handled),
            count(missed),
            count(unwanted),
            count(again)
        ),
    )
}

/// What one consumer took and left, others have handled, and the store counts it as done.
fn left_work(name: &'static str, which: usize, ledger: &Ledger<'_>, last: &Audit) -> Check {
    let Some(left) = &ledger.left[which] else {
        return Check::new(name, false, "no consumer left work behind".to_owned());
    };
    let taken = left.work.messages.len();
    Check::new(
        name,
        taken > 0 && left.open.is_empty() && last.unfinished.none(),
        format!(
            "{} of the {} messages that {} of {} left were finished by others",
            taken - left.open.len(),
            taken,
            left.work.consumer,
            GROUPS[left.work.group]
        ),
    )
}

/// The ends that were looked at were really without notice, and everything acknowledged is there.
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
            "killed {RUNS} times; all {} flights that were acknowledged are there",
            count(ledger.stored())
        ),
    )
}

/// What was acknowledged is never handed out again, whatever happens.
fn progress_kept(ledger: &Ledger<'_>, last: &Audit) -> Check {
    const NAME: &str = "progress_kept";
    let kept = ledger.acked_before_kill;
    if kept == 0 {
        let detail = "nothing was acknowledged before the first kill".to_owned();
        return Check::new(NAME, false, detail);
    }
    Check::nothing(
        NAME,
        &[&ledger.after_ack, &last.unfinished],
        format!(
            "none of {} acknowledged came again, {} of them from before the first kill",
            count(ledger.acked()),
            count(kept)
        ),
    )
}
