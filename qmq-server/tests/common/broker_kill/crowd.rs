//! Many connections, a tenth of which is killed each second without a word.
//!
//! Connections are clients of their own, a tenth of them in each process: a process that is killed takes its connections with it, and no end is sent.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use qmq_client::{Client, Message, Pem, Start, Subscription};
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::history::{Event, Writer, body, id_of, read};
use super::oracle::log;
use super::process::{Broker, Player, wait_until_drained};
use super::role::{Kind, Role, told_to_end};
use super::{DRAINED, Failed};
use crate::sudden::random;
use qmq_store::{Options, Store};

/// Processes, each with a tenth of the connections.
const PROCESSES: usize = 10;
const SUBJECTS: usize = 10;
const GROUP: &str = "crowd";
/// What a calm client produces to.
const CALM: &str = "calm";
/// Every so many seconds a process is stopped, and goes on two seconds later.
const STOP_EVERY: u64 = 4;
/// How long the calm client waits for an answer before it is none.
const CALM_MAX: Duration = Duration::from_secs(10);

/// What to do.
pub(crate) struct Crowd {
    /// The binary.
    pub(crate) qmq: PathBuf,
    /// Starts this program again, to play a role.
    pub(crate) player: fn() -> Command,
    /// Folder of everything; empty.
    pub(crate) dir: PathBuf,
    /// In all.
    pub(crate) connections: usize,
    /// For how long.
    pub(crate) seconds: u64,
    /// How long a connection pauses between two messages.
    pub(crate) pause: Duration,
    /// Decides who is killed.
    pub(crate) seed: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowded {
    /// Connections killed.
    pub(crate) killed: usize,
    /// Times that a process was stopped.
    pub(crate) stopped: usize,
    /// Messages answered: all were received.
    pub(crate) answered: usize,
    /// Messages received, those that came again among them.
    pub(crate) received: usize,
    /// The broker's own memory with all connections there before the first kill, and the most later, in KiB.
    pub(crate) kib_before: u64,
    pub(crate) kib_max: u64,
    /// The most in each second.
    pub(crate) kib_by_second: Vec<u64>,
    /// The same of its threads.
    pub(crate) threads_before: u64,
    pub(crate) threads_max: u64,
    /// Most connections that it knew at a time.
    pub(crate) connections_max: u64,
    /// Answers to a calm client's messages: how many, the median, the 95th and 99th percentile, the longest.
    pub(crate) calm_answers: usize,
    pub(crate) calm_median: Duration,
    pub(crate) calm_p95: Duration,
    pub(crate) calm_p99: Duration,
    pub(crate) calm_max: Duration,
}

impl Crowd {
    pub(crate) fn run(&self) -> Result<Crowded, Failed> {
        std::fs::create_dir_all(self.dir.join("history"))?;
        let sets = ["connection.idle.ms=3000"];
        let mut broker = Broker::start(&self.qmq, &self.dir, None, 1, &sets)?;
        let mut crowded = Crowded::default();
        let mut players = Vec::new();
        for n in 0..PROCESSES {
            players.push(Player::start(self.player, self.role(n, &broker))?);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            Client::builder()
                .broker(broker.address.to_string())
                .authorities(Pem::File(self.dir.join("tls").join("ca.pem")))
                .server_name("localhost")
                .connect()
                .await
        })?;
        self.wait_until_connected(&runtime, &client, &broker)?;
        (crowded.kib_before, crowded.threads_before) = broker.size()?;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let calm = runtime.spawn(calm(client.clone(), stopped));
        let admin = client
            .admin(&broker.address.to_string())
            .ok_or("no such broker")?;
        let mut waiting: Option<(usize, u64)> = None;
        for second in 0..self.seconds {
            let until = Instant::now() + Duration::from_secs(1);
            if let Some((at, _)) = waiting.take_if(|(_, until)| *until <= second) {
                players[at].signal(Signal::CONT)?;
            }
            let at = random(self.seed, second, 1) as usize % PROCESSES;
            if waiting.is_none() && second % STOP_EVERY == 1 {
                let other = (at + 1) % PROCESSES;
                players[other].signal(Signal::STOP)?;
                waiting = Some((other, second + 5));
                crowded.stopped += 1;
            }
            if waiting.is_some_and(|(waiting, _)| waiting == at) {
                // Killed as it stands.
                waiting = None;
            }
            players[at].kill()?;
            players[at] = players[at].again(self.player)?;
            crowded.killed += self.connections / PROCESSES;
            let mut kib_max = 0;
            while Instant::now() < until {
                thread::sleep(Duration::from_millis(100));
                let (kib, threads) = broker.size()?;
                kib_max = kib_max.max(kib);
                crowded.threads_max = crowded.threads_max.max(threads);
            }
            crowded.kib_by_second.push(kib_max);
            crowded.kib_max = crowded.kib_max.max(kib_max);
            let status = runtime.block_on(admin.status())?;
            crowded.connections_max = crowded.connections_max.max(status.connections);
        }
        if let Some((at, _)) = waiting {
            players[at].signal(Signal::CONT)?;
        }
        stop.send_replace(true);
        let mut took = runtime.block_on(calm)??;
        took.sort();
        crowded.calm_answers = took.len();
        let at = |share: usize| {
            took.get(took.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        (crowded.calm_median, crowded.calm_p95, crowded.calm_p99) = (at(50), at(95), at(99));
        crowded.calm_max = took.last().copied().unwrap_or_default();
        // All but one end, and then what is left is that one's.
        let (last, others) = players.split_last_mut().ok_or("nobody")?;
        for player in others {
            player.finish()?;
        }
        last.signal(Signal::HUP)?;
        wait_until_drained(&broker, DRAINED, SUBJECTS, &|subject| {
            subject == CALM || subject.starts_with(GROUP)
        })?;
        last.finish()?;
        runtime.block_on(client.close(Duration::from_secs(2)));
        broker.terminate()?;
        self.check(&mut crowded)?;
        Ok(crowded)
    }

    fn role(&self, n: usize, broker: &Broker) -> Role {
        Role {
            name: format!("crowd{n}"),
            life: 0,
            kind: Kind::Crowd {
                connections: self.connections / PROCESSES,
            },
            address: broker.address.to_string(),
            authorities: self.dir.join("tls").join("ca.pem"),
            folder: self.dir.join("history"),
            seed: self.seed,
            pause_us: u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn wait_until_connected(
        &self,
        runtime: &tokio::runtime::Runtime,
        client: &Client,
        broker: &Broker,
    ) -> Result<(), Failed> {
        let admin = client
            .admin(&broker.address.to_string())
            .ok_or("no such broker")?;
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let connections = runtime.block_on(admin.status())?.connections;
            if connections as usize > self.connections / PROCESSES * PROCESSES {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{connections} connections after a minute").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Everything that was answered is there, and came to somebody.
    fn check(&self, crowded: &mut Crowded) -> Result<(), Failed> {
        let store = Store::open(self.dir.join("store"), Options::with_segment_bytes(2 << 20))?;
        let mut logs = HashMap::new();
        for n in 0..SUBJECTS {
            logs.insert(subject(n), log(&store, &subject(n))?);
        }
        store.close()?;
        let mut received: HashSet<(String, u64)> = HashSet::new();
        let mut answered = Vec::new();
        for file in std::fs::read_dir(self.dir.join("history"))? {
            for line in read(&file?.path())? {
                match line.event {
                    Event::Received { sequence, id, .. } => {
                        crowded.received += 1;
                        if logs[&line.subject].get(sequence as usize) != Some(&id) {
                            return Err(format!("{} {sequence}: {id:?} came", line.subject).into());
                        }
                        received.insert((line.subject, sequence));
                    }
                    Event::Answered { id, sequence } => {
                        crowded.answered += 1;
                        if logs[&line.subject].get(sequence as usize) != Some(&id) {
                            return Err(format!("{} {sequence} is not {id}", line.subject).into());
                        }
                        answered.push((line.subject, sequence));
                    }
                    Event::GivenUp { id, why } => {
                        return Err(format!("given up: {id}: {why}").into());
                    }
                    Event::Stopped { why } => return Err(format!("stopped: {why}").into()),
                    _ => {}
                }
            }
        }
        match answered.iter().find(|place| !received.contains(place)) {
            Some((subject, sequence)) => {
                Err(format!("{subject} {sequence} was answered and never came").into())
            }
            None => Ok(()),
        }
    }
}

fn subject(n: usize) -> String {
    format!("{GROUP}.{}", n % SUBJECTS)
}

/// A client that has nothing to do with the others: how long each of its messages took to be answered.
async fn calm(
    client: Client,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<Vec<Duration>, Failed> {
    let producer = client.producer().delivery_timeout(CALM_MAX).build()?;
    let mut took = Vec::new();
    while !*stopped.borrow() {
        let asked = Instant::now();
        producer.send(Message::new(CALM, "calm")).await?;
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(took)
}

/// A process of the crowd: each connection produces and consumes. A SIGHUP ends producing.
pub(super) async fn play(
    role: &Role,
    connections: usize,
    writer: &Arc<Writer>,
) -> Result<(), Failed> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (end_producing, producing_ended) = tokio::sync::watch::channel(false);
    let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut all = JoinSet::new();
    for n in 0..connections {
        let client = role.client()?;
        let (writer, who) = (Arc::clone(writer), format!("{}.{n}", role.who()));
        let pause = Duration::from_micros(role.pause_us);
        let number = random(role.seed, role.life * 1_000 + n as u64, 7) as usize;
        let (produced, consumed) = (subject(number), subject(n));
        let (ended, mut stopped) = (producing_ended.clone(), stopped.clone());
        all.spawn(async move {
            let subscription = Subscription::new(&consumed, GROUP)
                .start(Start::Earliest)
                .window(100, 1 << 20);
            let mut consumer = client.subscribe(subscription)?;
            let producer = client.producer().delivery_timeout(Duration::from_secs(60));
            let producer = producer.build()?;
            let produce = produce(producer, who, produced, pause, ended, &writer);
            let consume = async {
                loop {
                    let received = tokio::select! {
                        received = consumer.next() => received,
                        _ = stopped.wait_for(|stop| *stop) => break,
                    };
                    let received = match received {
                        Ok(received) => received,
                        Err(error) => {
                            let why = error.to_string();
                            writer.write(&consumed, Event::Stopped { why });
                            break;
                        }
                    };
                    let event = Event::Received {
                        sequence: received.sequence(),
                        attempt: u64::from(received.attempt()),
                        id: id_of(received.body()).unwrap_or_default().to_owned(),
                    };
                    writer.write(&consumed, event);
                    received.ack_soon();
                }
            };
            tokio::join!(produce, consume);
            consumer.close().await?;
            client.close(Duration::from_secs(2)).await;
            Ok::<_, Failed>(())
        });
    }
    let told = told_to_end();
    tokio::pin!(told);
    tokio::select! {
        () = &mut told => {}
        _ = hang_up.recv() => {
            end_producing.send_replace(true);
            told.await;
        }
    }
    end_producing.send_replace(true);
    stop.send_replace(true);
    while let Some(ended) = all.join_next().await {
        ended??;
    }
    Ok(())
}

async fn produce(
    producer: qmq_client::Producer,
    who: String,
    subject: String,
    pause: Duration,
    ended: tokio::sync::watch::Receiver<bool>,
    writer: &Writer,
) {
    for n in 0_u64.. {
        if *ended.borrow() {
            break;
        }
        let id = format!("{who}/{n}");
        let event = match producer.send(Message::new(&subject, body(&id))).await {
            Ok(report) => Event::Answered {
                id,
                sequence: report.sequence,
            },
            Err(error) => Event::GivenUp {
                id,
                why: error.to_string(),
            },
        };
        writer.write(&subject, event);
        tokio::time::sleep(pause).await;
    }
}

/// Anonymous memory in KiB, and threads, of a process.
pub(super) fn size(pid: u32) -> Result<(u64, u64), Failed> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .ok_or("no such line")
    };
    Ok((of("RssAnon:")?, of("Threads:")?))
}
