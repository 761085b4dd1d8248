//! Flights go through the broker, while the broker is killed and started again and consumers get lost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use indicatif::ProgressBar;
use qmq_client::{Client, Durability, Producer};
use qmq_wire::GroupStatus;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::broker::{self, Broker, Process};
use super::consumer::{Consumer, Tell, nanos};
use super::event::{Event, GROUPS, HUNG_IN, KILLED_IN, TAGGED};
use super::input::Input;
use super::ledger::{Ledger, RUNS};
use crate::cli::failure::{Failure, chain};

/// Producers that send flights, in order; each has its own routes.
const PRODUCERS: usize = 2;

/// Flights that one producer has sent and not yet seen acknowledged.
const IN_FLIGHT_MAX: usize = 256;

/// Nothing new for this long, and something has stopped working.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often the broker is asked whether all is done, once it looks so.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Hundredths of the flights that are stored when the broker is killed.
const KILLED_AT: [usize; RUNS - 1] = [25, 50, 75];

/// Hundredths of the flights that are sent before the broker has been killed so often.
const SENT_BEFORE: [usize; RUNS] = [45, 70, 95, 100];

/// Hundredths of the flights, at which stands the one whose route the process that hangs keeps.
const KEPT_AT: usize = 40;

const NEXT: &str = "run the demo again; if it stays so, this is a defect";

/// One event, and when it happened.
type Told = (Instant, Event);

/// A process that is to get lost, and how.
struct Lost {
    process: Process,
    signal: Signal,
}

/// What runs.
struct Stage<'a> {
    input: &'a Arc<Input>,
    broker: Broker,
    runtime: Runtime,
    consumers: Vec<(Consumer, Client)>,
    /// Of each group, the route that is left to the process that gets lost, until it has taken something there.
    spared: [Option<u32>; 3],
    lost: [Lost; 2],
    allowed: watch::Sender<usize>,
    told: Receiver<Told>,
    heard: Instant,
}

/// Streams all flights; `look` looks at the store after the first kill. The broker is dead in the end.
pub(super) fn stream(
    data: Option<&Path>,
    dir: &Path,
    input: &Arc<Input>,
    ledger: &mut Ledger<'_>,
    bar: &ProgressBar,
    look: &mut dyn FnMut(&Path, &Ledger<'_>) -> Result<(), Failure>,
) -> Result<Broker, Failure> {
    let mut stage = Stage::begin(data, dir, input)?;
    let flights = input.flights.len();
    for (run, share) in SENT_BEFORE.into_iter().enumerate() {
        let _ = stage.allowed.send(flights * share / 100);
        ledger.begin(run);
        loop {
            stage.hear(ledger, bar)?;
            let enough = match KILLED_AT.get(run) {
                Some(share) => {
                    ledger.stored() >= (flights * share / 100) as u64
                        && ledger.acked() > 0
                        && ledger.left.get(run).is_none_or(|left| left.is_some())
                }
                None => ledger.is_done() && stage.unsettled()?.is_none(),
            };
            if enough {
                break;
            }
        }
        stage.kill(run, ledger, bar)?;
        if run == 0 {
            look(&stage.broker.store(), ledger)?;
        }
        if run + 1 < RUNS {
            let took = stage.broker.restart()?;
            ledger.runs[run + 1].opened = Some(took);
        }
    }
    Ok(stage.broker)
}

impl<'a> Stage<'a> {
    fn begin(data: Option<&Path>, dir: &Path, input: &'a Arc<Input>) -> Result<Self, Failure> {
        let broker = Broker::start(dir, input)?;
        let (tell, told) = crossbeam_channel::unbounded();
        let runtime = super::runtime()?;
        let kept_at = input.flights.len() * KEPT_AT / 100;
        let kept = [input.flights[0].route, input.flights[kept_at].route];
        let (killed, hung) = (KILLED_IN, HUNG_IN);
        let lost = [
            lose(data, &broker, killed, kept[0], Signal::KILL, &tell)?,
            lose(data, &broker, hung, kept[1], Signal::STOP, &tell)?,
        ];
        let (allowed, gate) = watch::channel(0);
        let mut stage = Self {
            input,
            broker,
            runtime,
            consumers: Vec::new(),
            spared: [Some(kept[0]), Some(kept[1]), None],
            lost,
            allowed,
            told,
            heard: Instant::now(),
        };
        let tell: Tell = Arc::new(move |event| {
            let _ = tell.send((Instant::now(), event));
        });
        stage.consume(&tell)?;
        stage.produce(&tell, &gate)?;
        Ok(stage)
    }

    fn consume(&mut self, tell: &Tell) -> Result<(), Failure> {
        let _entered = self.runtime.enter();
        for (group, name) in [
            (KILLED_IN, "host-2"),
            (KILLED_IN, "host-3"),
            (HUNG_IN, "host-2"),
            (TAGGED, "host-1"),
        ] {
            let consumer = Consumer {
                group,
                name,
                input: Arc::clone(self.input),
                tell: Arc::clone(tell),
            };
            let client = broker::client(&self.broker.client_file())?;
            for route in 0..self.input.routes.len() as u32 {
                if self.spared[group] != Some(route) {
                    consumer
                        .handle(&client, route)
                        .map_err(|e| subscribing(&e))?;
                }
            }
            self.consumers.push((consumer, client));
        }
        Ok(())
    }

    fn produce(&self, tell: &Tell, gate: &watch::Receiver<usize>) -> Result<(), Failure> {
        let _entered = self.runtime.enter();
        let client = broker::client(&self.broker.client_file())?;
        for part in 0..PRODUCERS {
            let producer = client
                .producer()
                .ordered()
                .durability(Durability::Synced)
                .delivery_timeout(SILENCE_MAX)
                .retry_pause(Duration::from_millis(10), Duration::from_millis(100))
                .build()
                .map_err(|e| Failure::of("cannot make a producer", &e, NEXT))?;
            let (begin, begun) = mpsc::channel(IN_FLIGHT_MAX);
            let (input, gate) = (Arc::clone(self.input), gate.clone());
            tokio::spawn(send(producer, input, part, gate, begin));
            tokio::spawn(report(begun, Arc::clone(tell)));
        }
        Ok(())
    }

    /// Notes everything that has happened, after waiting a little for something.
    fn hear(&mut self, ledger: &mut Ledger<'_>, bar: &ProgressBar) -> Result<(), Failure> {
        match self.told.recv_timeout(ASK_EVERY) {
            Ok(told) => self.note(told, ledger)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if self.heard.elapsed() > SILENCE_MAX {
                    return Err(self.stuck(ledger));
                }
                return Ok(());
            }
        }
        while let Ok(told) = self.told.try_recv() {
            self.note(told, ledger)?;
        }
        self.heard = Instant::now();
        bar.set_position(ledger.stored() + ledger.acked());
        Ok(())
    }

    fn note(&mut self, (at, event): Told, ledger: &mut Ledger<'_>) -> Result<(), Failure> {
        if let Event::Failed(why) = &event {
            return Err(Failure::new(format!("the demo cannot go on: {why}"), NEXT));
        }
        if let Event::Held(work) = &event
            && let Some(route) = self.spared[work.group].take()
        {
            let _entered = self.runtime.enter();
            for (consumer, client) in &self.consumers {
                if consumer.group == work.group {
                    consumer
                        .handle(client, route)
                        .map_err(|e| subscribing(&e))?;
                }
            }
        }
        ledger.note(at, event);
        Ok(())
    }

    /// Loses a process of consumers, if it is its turn, and kills the broker.
    fn kill(
        &mut self,
        run: usize,
        ledger: &mut Ledger<'_>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        if let Some(lost) = self.lost.get(run) {
            lost.process.signal(lost.signal)?;
        }
        let start = Instant::now();
        self.broker.kill()?;
        ledger.killed(run, start, Instant::now());
        // What was promised before the kill may still be on its way here.
        self.hear(ledger, bar)
    }

    /// A group for which the broker has something left, in words.
    fn unsettled(&self) -> Result<Option<String>, Failure> {
        let failed = |e| Failure::of("cannot ask the broker", &e, NEXT);
        let Some((_, client)) = self.consumers.first() else {
            return Ok(None);
        };
        let admins = client.connections().into_iter();
        let admins = admins.filter_map(|(address, _)| client.admin(&address));
        self.runtime.block_on(async {
            for admin in admins {
                let subjects = admin.subjects("", "", 10_000).await.map_err(failed)?;
                let left = subjects.iter().find_map(|subject| {
                    let group = subject.groups.iter().find(|group| has_work(group))?;
                    Some(format!("{}: {group:?}", subject.subject))
                });
                if left.is_some() {
                    return Ok(left);
                }
            }
            Ok(None)
        })
    }

    fn stuck(&self, ledger: &Ledger<'_>) -> Failure {
        let (silence, missing) = (SILENCE_MAX.as_secs(), ledger.missing());
        let unsettled = match self.unsettled() {
            Ok(unsettled) => unsettled.unwrap_or_else(|| "nothing".to_owned()),
            Err(_) => "an unknown amount".to_owned(),
        };
        Failure::new(
            format!(
                "nothing happened for {silence} s; {missing}; the broker has left: {unsettled}"
            ),
            NEXT,
        )
    }
}

/// What a group's filter leaves out may stay in its lag.
fn has_work(group: &GroupStatus) -> bool {
    let lag = if group.group == GROUPS[TAGGED] {
        0
    } else {
        group.lag
    };
    lag + group.unacked + group.waiting > 0
}

fn subscribing(error: &qmq_client::ConfigError) -> Failure {
    Failure::of("cannot subscribe", error, NEXT)
}

/// Starts a process that will get lost, and listens to it.
fn lose(
    data: Option<&Path>,
    broker: &Broker,
    group: usize,
    keeps: u32,
    signal: Signal,
    tell: &Sender<Told>,
) -> Result<Lost, Failure> {
    let mut process = Process::start(|command| {
        command
            .arg("demo-worker")
            .arg("--client")
            .arg(broker.client_file());
        command.args(["--group", &group.to_string()]);
        command.args(["--keeps", &keeps.to_string()]);
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
    })?;
    let (stdout, tell) = (process.0.stdout.take(), tell.clone());
    thread::spawn(move || {
        let mut lines = BufReader::with_capacity(
            1 << 20,
            match stdout {
                Some(stdout) => stdout,
                None => return,
            },
        );
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            if read.is_err() || !line.ends_with(b"\n") {
                // The end, or a line that the kill cut short: whatever it was about to tell, it had not.
                return;
            }
            let event = serde_json::from_slice(&line)
                .unwrap_or_else(|e| Event::Failed(format!("cannot understand a process: {e}")));
            let _ = tell.send((Instant::now(), event));
        }
    });
    Ok(Lost { process, signal })
}

/// A flight that has been sent.
type Begun = (u32, Instant, qmq_client::Sent);

/// Sends the flights of some routes in their order, no more than are allowed.
async fn send(
    producer: Producer,
    input: Arc<Input>,
    part: usize,
    mut gate: watch::Receiver<usize>,
    begin: mpsc::Sender<Begun>,
) {
    for (index, flight) in input.flights.iter().enumerate() {
        if flight.route as usize % PRODUCERS != part {
            continue;
        }
        if gate.wait_for(|allowed| index < *allowed).await.is_err() {
            return;
        }
        let start = Instant::now();
        match producer.queue(input.message(flight)).await {
            Ok(sent) => drop(begin.send((index as u32, start, sent)).await),
            // Whoever listens finds that it is missing.
            Err(_) => return,
        }
    }
}

/// Tells which flights are acknowledged, in the order in which they were sent.
async fn report(mut begun: mpsc::Receiver<Begun>, tell: Tell) {
    while let Some((flight, start, sent)) = begun.recv().await {
        match sent.await {
            Ok(report) => tell(Event::Stored(vec![(
                flight,
                report.sequence,
                nanos(start.elapsed()),
            )])),
            Err(error) => return tell(Event::Failed(chain(&error))),
        }
    }
}
