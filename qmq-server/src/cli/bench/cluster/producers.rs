//! Producers under load.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use qmq_client::{Client, Message, Producer, Sent};
use tokio::sync::mpsc;

use super::pace::{self, Clock};
use super::report::Measured;
use super::{Plan, WARM_UP, connect};
use crate::cli::client::Settings;
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

pub(super) async fn run(
    plan: &Plan,
    target: &Settings,
    clock: &Clock,
) -> Result<Measured, Failure> {
    let mut tasks = Vec::new();
    let mut paced = Vec::new();
    let begin = clock.now();
    let end = begin + WARM_UP + plan.load;
    for number in 0..plan.producers.max(1) {
        let client = connect(target).await?;
        let producer = producer(plan, &client)?;
        let load = Load {
            plan: plan.clone(),
            clock: *clock,
            measure_from: begin + WARM_UP,
            number,
        };
        if plan.rate == 0 {
            tasks.push(tokio::spawn(load.closed(client, producer, end)));
        } else {
            let (due, dues) = mpsc::unbounded_channel();
            paced.push(due);
            tasks.push(tokio::spawn(load.open(client, producer, dues)));
        }
    }
    if plan.rate > 0 {
        pace::start(*clock, plan.rate, WARM_UP + plan.load, paced)
            .map_err(|error| Failure::of("starting a thread", &error, "try again"))?;
    }
    let mut measured = Measured::new(plan.load);
    for task in tasks {
        let one = task
            .await
            .map_err(|error| Failure::of("a producer", &error, "try again"))?;
        measured.add(&one);
    }
    // What was answered after the end of the load counts for the time that it took.
    measured.elapsed = (clock.now() - begin - WARM_UP).max(plan.load);
    Ok(measured)
}

fn producer(plan: &Plan, client: &Client) -> Result<Producer, Failure> {
    // An open loop must not be slowed down by a full queue: it waits in front of it, and its time counts.
    let queued = match plan.in_hand {
        0 if plan.batch == 1 && plan.rate == 0 => plan.in_flight,
        0 => (plan.batch * plan.in_flight * 2).clamp(plan.in_flight, 1_000_000),
        in_hand => in_hand.min(1_000_000),
    };
    client
        .producer()
        .durability(plan.durability)
        .batch(plan.batch, 4 << 20)
        .in_flight(plan.in_flight)
        .queue(queued as u32, 1 << 30, Duration::from_secs(60))
        .build()
        .map_err(|error| Failure::of("the producer", &error, "give other numbers"))
}

struct Load {
    plan: Plan,
    clock: Clock,
    measure_from: Duration,
    number: usize,
}

impl Load {
    /// As many as are answered.
    async fn closed(self, client: Client, producer: Producer, end: Duration) -> Measured {
        let (answers, waiting) = mpsc::unbounded_channel();
        let reaper = tokio::spawn(reap(waiting, self.clock, self.measure_from));
        let mut template = Template::new(&self.plan, self.number);
        loop {
            let now = self.clock.now();
            if now >= end {
                break;
            }
            match producer.queue(template.message(now)).await {
                Ok(sent) => drop(answers.send((now, Ok(sent)))),
                Err(error) => drop(answers.send((now, Err(error.to_string())))),
            }
        }
        drop(answers);
        finish(client, producer, reaper).await
    }

    /// When they are due.
    async fn open(
        self,
        client: Client,
        producer: Producer,
        mut dues: mpsc::UnboundedReceiver<Duration>,
    ) -> Measured {
        let (answers, waiting) = mpsc::unbounded_channel();
        let reaper = tokio::spawn(reap(waiting, self.clock, self.measure_from));
        let mut template = Template::new(&self.plan, self.number);
        while let Some(due) = dues.recv().await {
            match producer.queue(template.message(due)).await {
                Ok(sent) => drop(answers.send((due, Ok(sent)))),
                Err(error) => drop(answers.send((due, Err(error.to_string())))),
            }
        }
        drop(answers);
        finish(client, producer, reaper).await
    }
}

async fn finish(
    client: Client,
    producer: Producer,
    reaper: tokio::task::JoinHandle<Measured>,
) -> Measured {
    let measured = reaper.await.unwrap_or_default();
    let _ = producer.close().await;
    client.close(Duration::from_secs(5)).await;
    measured
}

/// Waits for the answers, in the order in which the messages were sent: they come in about that order.
async fn reap(
    mut waiting: mpsc::UnboundedReceiver<(Duration, Result<Sent, String>)>,
    clock: Clock,
    measure_from: Duration,
) -> Measured {
    let mut measured = Measured::default();
    let mut latency = Latency::new();
    let mut some = Vec::with_capacity(256);
    let mut queue: VecDeque<(Duration, Result<Sent, String>)> = VecDeque::new();
    while waiting.recv_many(&mut some, 256).await > 0 {
        queue.extend(some.drain(..));
        while let Some((due, sent)) = queue.pop_front() {
            let outcome = match sent {
                Ok(sent) => sent.await.map(drop).map_err(|error| error.to_string()),
                Err(reason) => Err(reason),
            };
            let done = outcome.is_ok();
            measured.all += u64::from(done);
            measured.reason = measured.reason.or(outcome.err());
            if due < measure_from {
                continue;
            }
            if done {
                measured.messages += 1;
                latency.record(clock.now().saturating_sub(due));
            } else {
                measured.failed += 1;
            }
        }
    }
    measured.latency = latency;
    measured
}

/// Makes messages: the body begins with the time at which the message is due.
struct Template {
    subjects: Vec<String>,
    next: usize,
    /// Bodies are cut from one piece of memory, so that making them costs little.
    filler: Bytes,
    room: BytesMut,
    size: usize,
}

impl Template {
    fn new(plan: &Plan, number: usize) -> Self {
        // Not all zeros: a network, or a disk, must not find it easy.
        let filler: Vec<u8> = (0..plan.size).map(|n| (n * 31 + number) as u8).collect();
        Self {
            subjects: plan.subjects.clone(),
            next: number,
            filler: filler.into(),
            room: BytesMut::new(),
            size: plan.size,
        }
    }

    fn message(&mut self, due: Duration) -> Message {
        if self.room.capacity() < self.size {
            self.room = BytesMut::with_capacity(self.size * 1024);
        }
        self.room.put_u64_le(due.as_nanos() as u64);
        self.room.put_slice(&self.filler[8..]);
        let body = self.room.split().freeze();
        let subject = &self.subjects[self.next % self.subjects.len()];
        self.next += 1;
        Message::new(subject.as_str(), body)
    }
}
