//! Flights are called to the gate some seconds later: by way of the delay server, while everything is killed and started again.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qmq_client::{Client, DelayOutcome, Delayed, Message, Start, Subscription};
use tokio::time::{sleep, timeout};

use super::audit::Findings;
use super::broker::{self, Broker};
use super::checks::Check;
use super::input::Input;
use crate::cli::failure::Failure;
use crate::cli::output::count;

const SUBJECT: &str = "gate.call";
const GROUP: &str = "gates";
/// Flights that are called, at most.
const CALLS_MAX: usize = 600;
/// The first call is due so long after it was scheduled, and the last one after both.
const FIRST: Duration = Duration::from_millis(1_500);
const SPREAD: Duration = Duration::from_millis(3_000);
/// When everything is killed: some calls are out by then, and some are not.
const KILLED_AFTER: Duration = Duration::from_millis(2_500);
/// Of so many calls one is cancelled: none of the first, which are out soon.
const CANCELLED_OF: usize = 10;
/// Nothing more comes after such a silence.
const SILENCE_MAX: Duration = Duration::from_secs(15);
const NEXT: &str = "run the demo again; if it stays so, this is a defect";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Departures {
    pub(super) scheduled: u64,
    pub(super) cancelled: u64,
    /// Calls that came, each counted once.
    pub(super) called: u64,
    /// Calls that came again: handed out and not yet recorded when everything was killed.
    pub(super) again: u64,
    /// The longest time between the moment at which a call was due and its arrival, but for those that the kill held up.
    pub(super) late_max: Duration,
    pub(super) took: Duration,
    early: Findings,
    missing: Findings,
    /// Cancelled and called, or never scheduled and called.
    unwanted: Findings,
    /// Cancels that were answered otherwise than they should.
    answers: Findings,
}

/// Schedules the calls, kills and restarts everything, and counts what comes.
pub(super) fn call(broker: &mut Broker, input: &Input) -> Result<Departures, Failure> {
    let began = Instant::now();
    let runtime = super::runtime()?;
    let entered = runtime.enter();
    let client = broker::client(&broker.client_file())?;
    drop(entered);
    let mut seen = Departures::default();
    let expected = runtime.block_on(schedule(&client, input, &mut seen))?;
    let subscription = Subscription::new(SUBJECT, GROUP).start(Start::Earliest);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let entered = runtime.enter();
    let mut consumer = client
        .subscribe(subscription)
        .map_err(|e| Failure::of("cannot subscribe", &e, NEXT))?;
    drop(entered);
    runtime.spawn(async move {
        while let Ok(received) = consumer.next().await {
            let id = received.attributes().id().unwrap_or_default().to_owned();
            let _ = tell.send((id, now_ms()));
            // What is lost with the broker comes again, and is counted.
            tokio::spawn(received.ack());
        }
    });
    std::thread::sleep(KILLED_AFTER.saturating_sub(began.elapsed()));
    broker.kill()?;
    let killed_at = now_ms();
    broker.restart()?;
    let back_at = now_ms();
    let mut calls: HashMap<String, u64> = HashMap::new();
    let wanted = expected.values().filter(|call| !call.cancelled).count();
    runtime.block_on(async {
        while calls.len() < wanted {
            let Ok(Some((id, at))) = timeout(SILENCE_MAX, told.recv()).await else {
                break;
            };
            let held_up = |due: u64| due + 1_000 > killed_at && due < back_at + 1_000;
            match expected.get(&id) {
                Some(call) if at < call.due_ms => {
                    seen.early.add(|| format!("{id}, {} ms", call.due_ms - at));
                }
                Some(call)
                    if !call.cancelled && !held_up(call.due_ms) && !calls.contains_key(&id) =>
                {
                    let late = Duration::from_millis(at - call.due_ms);
                    seen.late_max = seen.late_max.max(late);
                }
                Some(_) => {}
                None => seen.unwanted.add(|| format!("{id:?} was never scheduled")),
            }
            *calls.entry(id).or_default() += 1;
        }
        // What should not come has some time to come.
        sleep(Duration::from_millis(300)).await;
        while let Ok((id, _)) = told.try_recv() {
            *calls.entry(id).or_default() += 1;
        }
    });
    for (id, call) in &expected {
        match (calls.get(id), call.cancelled) {
            (None, false) => seen.missing.add(|| id.clone()),
            (Some(_), true) => seen.unwanted.add(|| format!("{id} was cancelled")),
            (Some(times), false) => {
                seen.called += 1;
                seen.again += times - 1;
            }
            (None, true) => {}
        }
    }
    runtime.block_on(client.close(Duration::from_secs(1)));
    seen.took = began.elapsed();
    Ok(seen)
}

struct Call {
    due_ms: u64,
    cancelled: bool,
}

async fn schedule(
    client: &Client,
    input: &Input,
    seen: &mut Departures,
) -> Result<HashMap<String, Call>, Failure> {
    let failed = |e: qmq_client::SendError| Failure::of("cannot schedule a call", &e, NEXT);
    let producer = client
        .producer()
        .build()
        .map_err(|e| Failure::of("cannot make a producer", &e, NEXT))?;
    let calls = input.flights.len().min(CALLS_MAX);
    let first = now_ms() + ms(FIRST);
    let mut expected = HashMap::new();
    let mut sent = Vec::new();
    for number in 0..calls {
        let id = format!("call-{number}");
        let due_ms = first + ms(SPREAD) * number as u64 / calls.max(1) as u64;
        let message = Message::new(SUBJECT, format!("flight {number} is called"))
            .with_id(&id)
            .with_due_time_ms(due_ms);
        sent.push((id, due_ms, producer.queue(message).await.map_err(failed)?));
    }
    for (number, (id, due_ms, sent)) in sent.into_iter().enumerate() {
        let delayed = sent.await.map_err(failed)?.delay;
        let cancelled = number > calls / 2 && number % CANCELLED_OF == 0;
        if cancelled {
            cancel(client, delayed, &id, seen).await?;
        }
        expected.insert(id, Call { due_ms, cancelled });
    }
    seen.scheduled = calls as u64;
    Ok(expected)
}

async fn cancel(
    client: &Client,
    delayed: Option<Delayed>,
    id: &str,
    seen: &mut Departures,
) -> Result<(), Failure> {
    let Some(delayed) = delayed else {
        seen.answers
            .add(|| format!("{id} did not go to a delay server"));
        return Ok(());
    };
    let outcome = client.delay(&delayed.group).cancel(delayed.id).await;
    match outcome.map_err(|e| Failure::of("cannot cancel a call", &e, NEXT))? {
        DelayOutcome::Done => seen.cancelled += 1,
        other => seen.answers.add(|| format!("{id}: {other:?}")),
    }
    Ok(())
}

impl Departures {
    /// What must be true of them.
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            Check::nothing(
                "delayed_none_early",
                &[&self.early],
                format!(
                    "{} calls; the latest that no kill held up came {} ms after its time",
                    count(self.called),
                    self.late_max.as_millis()
                ),
            ),
            Check::nothing(
                "delayed_none_lost",
                &[&self.missing],
                format!("{} came again after the kill", count(self.again)),
            ),
            Check::nothing(
                "delayed_cancelled_exactly",
                &[&self.unwanted, &self.answers],
                format!("{} cancelled, none of them called", count(self.cancelled)),
            ),
        ]
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms)
}
