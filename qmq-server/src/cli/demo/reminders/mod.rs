//! A reminder for each flight, on a virtual clock that goes from one moment at which something happens to the next.

mod courier;
mod expected;
mod plan;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use qmq_sched::{Cancelled, DelayId, Fired, Message, Options, Scheduler};
use qmq_store::{Clock, Durability, ManualClock};

use super::audit::Findings;
use super::broker::Broker;
use super::checks::Check;
use super::input::Input;
use crate::cli::delay::folder;
use crate::cli::failure::Failure;
use crate::cli::output::count;
use courier::Courier;
use expected::Expected;
use plan::{Act, Step};

/// Reminders taken at once.
const DUE_MAX: usize = 100;

/// Steps between two movements of the progress bar.
const STEPS_A_MOVE: usize = 256;

const NEXT: &str = "keep the folder with --dir and look into it with `qmq delay verify --dir`";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) scheduled: u64,
    /// Cancelled in time.
    pub(super) cancelled: u64,
    /// Re-timed in time.
    pub(super) retimed: u64,
    /// Cancelled or re-timed when the reminder was out.
    pub(super) too_late: u64,
    /// Reminders handed out, each counted once.
    pub(super) fired: u64,
    /// Reminders that the restart handed out again.
    pub(super) again: u64,
    /// From the first moment to the last.
    pub(super) virtual_time: Duration,
    pub(super) took: Duration,
    /// Handed out at another moment than the one it was due at.
    off_time: Findings,
    /// Handed out after one that is due later, or that had the same due time later.
    off_order: Findings,
    /// Handed out and not to be, or twice, or never, or with another text.
    wrong: Findings,
    /// Answers to a cancel or a re-timing other than the right one.
    answers: Findings,
    /// Out of the caller's hands by the restart.
    lost: Findings,
    /// What is left in the end, and damage.
    left: Findings,
    /// Messages that consumers of the broker got.
    delivered: u64,
    /// Delivered otherwise than it was sent.
    delivery: Findings,
}

/// The replay under way.
struct Stage<'a> {
    input: &'a Input,
    scheduler: Scheduler,
    clock: Arc<ManualClock>,
    expected: Expected,
    flights: HashMap<DelayId, u32>,
    /// By flight.
    ids: Vec<Option<DelayId>>,
    /// Handed out and not settled when the scheduler was dropped.
    unsettled: Vec<DelayId>,
    courier: Courier,
    /// Sent to the broker twice, since the scheduler was dropped before it was told of the first time.
    sent_twice: HashSet<DelayId>,
    seen: Replay,
}

/// Replays the time of the data in a new folder; what is due goes to the broker.
pub(super) fn replay(
    dir: &Path,
    broker: &Broker,
    input: &Input,
    bar: &ProgressBar,
) -> Result<Replay, Failure> {
    let start = Instant::now();
    let steps = plan::steps(input);
    let begin_ms = steps.first().map_or(0, |step| step.at_ms);
    let clock = Arc::new(ManualClock::at(begin_ms));
    let mut stage = Stage {
        input,
        scheduler: open(dir, input, &clock)?,
        clock: Arc::clone(&clock),
        expected: Expected::new(input.flights.len()),
        flights: HashMap::new(),
        ids: vec![None; input.flights.len()],
        unsettled: Vec::new(),
        courier: Courier::new(broker)?,
        sent_twice: HashSet::new(),
        seen: Replay::default(),
    };
    let (mut done, mut restarted) = (0, false);
    loop {
        let due_ms = stage.scheduler.next_due().map_err(|e| failed(&e))?;
        let step_ms = steps.get(done).map(|step| step.at_ms);
        let Some(at_ms) = step_ms.into_iter().chain(due_ms).min() else {
            break;
        };
        clock.set(at_ms.max(clock.now_ms()));
        while let Some(step) = steps.get(done).filter(|step| step.at_ms <= at_ms) {
            stage.act(*step)?;
            done += 1;
        }
        if done % STEPS_A_MOVE == 0 {
            bar.set_position(done as u64);
        }
        let fired = stage.take(!restarted && done >= steps.len() / 2)?;
        if !restarted && !stage.unsettled.is_empty() {
            restarted = true;
            drop(stage.scheduler);
            stage.scheduler = open(dir, input, &clock)?;
        } else if fired == 0 && step_ms != Some(at_ms) {
            return Err(Failure::new(
                format!("a reminder is due at {at_ms} ms since 1970 and does not come"),
                NEXT,
            ));
        }
    }
    stage.settle(true)?;
    stage.look_for_rest()?;
    stage.look_for_delivered()?;
    let mut seen = stage.seen;
    seen.virtual_time = Duration::from_millis(clock.now_ms() - begin_ms);
    seen.took = start.elapsed();
    folder::close(stage.scheduler)?;
    Ok(seen)
}

/// Opens it with a store of several segments, and with so little memory that most is on disk.
fn open(dir: &Path, input: &Input, clock: &Arc<ManualClock>) -> Result<Scheduler, Failure> {
    let store = qmq_store::Options {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ..super::options(input)
    };
    let options = Options {
        stage_entries: 1_024,
        window_entries: 256,
        ..Options::default()
    };
    folder::open(dir, store, &options, false)
        .map_err(|e| Failure::of("cannot open the reminders", &*e, NEXT))
}

fn failed(error: &qmq_sched::Error) -> Failure {
    Failure::of("cannot replay the reminders", error, NEXT)
}

impl Stage<'_> {
    fn act(&mut self, step: Step) -> Result<(), Failure> {
        let flight = &self.input.flights[step.flight as usize];
        let (scheduler, buffered) = (&self.scheduler, Durability::Buffered);
        let answer = match (step.act, self.ids[step.flight as usize]) {
            (Act::Schedule, _) => {
                let due_ms = plan::due_ms(flight);
                let message = Message::new(self.subject(step.flight), flight.body.clone());
                let id = scheduler
                    .schedule_with(due_ms, &message, buffered)
                    .map_err(|e| failed(&e))?;
                self.flights.insert(id, step.flight);
                self.ids[step.flight as usize] = Some(id);
                self.expected.schedule(step.flight, due_ms);
                self.seen.scheduled += 1;
                return Ok(());
            }
            (Act::Cancel, Some(id)) => scheduler.cancel_with(id, buffered),
            (Act::Retime { due_ms }, Some(id)) => scheduler.reschedule_with(id, due_ms, buffered),
            (_, None) => return Ok(()),
        };
        let answer = answer.map_err(|e| failed(&e))?;
        let right = match step.act {
            Act::Retime { due_ms } => self.expected.retime(step.flight, due_ms),
            _ => self.expected.cancel(step.flight),
        };
        let told = match (right, step.act) {
            (Cancelled::Done, Act::Retime { .. }) => &mut self.seen.retimed,
            (Cancelled::Done, _) => &mut self.seen.cancelled,
            _ => &mut self.seen.too_late,
        };
        *told += 1;
        if answer != right {
            let id = &flight.id;
            self.seen
                .answers
                .add(|| format!("{id}: {answer:?} instead of {right:?}"));
        }
        Ok(())
    }

    /// Takes what is due now; returns how many. If it is the one to be interrupted, the first are left unsettled.
    fn take(&mut self, interrupted: bool) -> Result<u64, Failure> {
        let now_ms = self.clock.now_ms();
        let mut taken = 0;
        loop {
            let fired = self
                .scheduler
                .due(now_ms, DUE_MAX)
                .map_err(|e| failed(&e))?;
            if fired.is_empty() {
                return Ok(taken);
            }
            taken += fired.len() as u64;
            for one in &fired {
                self.note(one, now_ms);
            }
            if interrupted {
                self.settle(true)?;
            }
            for one in &fired {
                if let Ok(message) = &one.message {
                    self.courier.send(one.id, message.clone())?;
                }
            }
            if interrupted {
                // The broker has them, and the scheduler is not told.
                self.unsettled = self.courier.acknowledged(true)?;
                self.sent_twice.extend(&self.unsettled);
                return Ok(taken);
            }
            self.settle(false)?;
        }
    }

    /// Tells the scheduler what the broker has.
    fn settle(&mut self, all: bool) -> Result<(), Failure> {
        let ids = self.courier.acknowledged(all)?;
        if ids.is_empty() {
            return Ok(());
        }
        let told = self.scheduler.dispatched(&ids);
        told.map(drop).map_err(|e| failed(&e))
    }

    /// Each reminder that fired is delivered, once, or twice if it was sent twice.
    fn look_for_delivered(&mut self) -> Result<(), Failure> {
        let routes = self.input.routes.iter();
        let subjects = routes.map(|route| format!("reminder.{}", route.subject));
        let sent = self.seen.fired + self.sent_twice.len() as u64;
        let times = self.courier.consume(subjects, sent)?;
        self.seen.delivered = times.values().sum();
        let known: HashMap<String, u64> = self
            .ids
            .iter()
            .flatten()
            .map(|id| (id.to_string(), 1 + u64::from(self.sent_twice.contains(id))))
            .collect();
        for (id, times) in &times {
            if known.get(id) != Some(times) {
                self.seen
                    .delivery
                    .add(|| format!("{id}: delivered {times} times"));
            }
        }
        if self.seen.delivered != sent {
            let delivered = self.seen.delivered;
            self.seen
                .delivery
                .add(|| format!("{delivered} of {sent} were delivered"));
        }
        Ok(())
    }

    fn note(&mut self, one: &Fired, now_ms: u64) {
        let Some(&index) = self.flights.get(&one.id) else {
            self.seen.wrong.add(|| format!("{}: no flight", one.id));
            return;
        };
        let flight = &self.input.flights[index as usize];
        let id = &flight.id;
        if let Some(place) = self.unsettled.iter().position(|id| *id == one.id) {
            self.unsettled.swap_remove(place);
            self.seen.again += 1;
            return;
        }
        self.seen.fired += 1;
        let right = one.message.as_ref().is_ok_and(|message| {
            message.subject() == self.subject(index) && *message.body() == flight.body
        });
        if !right {
            self.seen.wrong.add(|| format!("{id}: another text"));
        }
        match self.expected.fire(index) {
            None => self
                .seen
                .wrong
                .add(|| format!("{id}: cancelled, or out before")),
            Some(fire) => {
                if (fire.due_ms, fire.due_ms) != (one.due_ms, now_ms) {
                    let (due, told) = (fire.due_ms, one.due_ms);
                    self.seen
                        .off_time
                        .add(|| format!("{id}: due at {due}, came at {now_ms} for {told}"));
                }
                if !fire.in_order {
                    self.seen.off_order.add(|| id.clone());
                }
            }
        }
    }

    fn subject(&self, flight: u32) -> String {
        let route = self.input.flights[flight as usize].route;
        format!("reminder.{}", self.input.routes[route as usize].subject)
    }

    fn look_for_rest(&mut self) -> Result<(), Failure> {
        for flight in self.expected.pending() {
            let id = &self.input.flights[flight as usize].id;
            self.seen.wrong.add(|| format!("{id}: never came"));
        }
        for id in &self.unsettled {
            self.seen.lost.add(|| id.to_string());
        }
        let (totals, out) = (self.scheduler.totals(), self.scheduler.outstanding());
        if (totals.count, totals.bytes, out) != (0, 0, 0) {
            self.seen
                .left
                .add(|| format!("{totals:?}, {out} handed out"));
        }
        for damage in self.scheduler.verify().map_err(|e| failed(&e))? {
            self.seen.left.add(|| damage);
        }
        Ok(())
    }
}

impl Replay {
    /// How many steps a replay has.
    pub(super) fn steps(input: &Input) -> u64 {
        plan::steps(input).len() as u64
    }

    /// What must be true, by name.
    pub(super) fn checks(&self) -> Vec<Check> {
        let restart = Check::nothing(
            "reminders_survive_restart",
            &[&self.lost],
            format!(
                "{} in the caller's hands when the scheduler was dropped came again",
                count(self.again)
            ),
        );
        vec![
            Check::nothing(
                "reminders_on_time",
                &[&self.off_time],
                "each at the millisecond it was due at".to_owned(),
            ),
            Check::nothing(
                "reminders_in_order",
                &[&self.off_order],
                "by due time, equal ones as they were given it".to_owned(),
            ),
            Check::nothing(
                "reminders_exact",
                &[&self.wrong],
                format!(
                    "{} of {}, each once; {} cancelled and silent",
                    count(self.fired),
                    count(self.scheduled),
                    count(self.cancelled)
                ),
            ),
            Check::nothing(
                "reminders_answers_exact",
                &[&self.answers],
                format!(
                    "{} cancelled, {} re-timed, {} too late",
                    count(self.cancelled),
                    count(self.retimed),
                    count(self.too_late)
                ),
            ),
            Check {
                ok: restart.ok && self.again > 0,
                ..restart
            },
            Check::nothing(
                "reminders_delivered",
                &[&self.delivery],
                format!(
                    "{} consumed from the broker, {} of them sent twice",
                    count(self.delivered),
                    count(self.again)
                ),
            ),
            Check::nothing(
                "reminders_settled",
                &[&self.left],
                "nothing is left, and no damage found".to_owned(),
            ),
        ]
    }
}
