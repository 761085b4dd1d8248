//! Consumers under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_client::{Client, Consumer, Start, Subscription};
use tokio::task::JoinHandle;

use super::pace::Clock;
use super::report::Measured;
use super::{Plan, WARM_UP, connect};
use crate::cli::client::Settings;
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

/// How long what is missing at the end is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a consumer tells what it has seen.
const TELL_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Consumers {
    clients: Vec<Client>,
    tasks: Vec<JoinHandle<()>>,
    seen: Arc<Seen>,
    load: Duration,
    begin: Duration,
    clock: Clock,
}

#[derive(Default)]
struct Seen {
    all: AtomicU64,
    measured: Mutex<Measured>,
}

/// They take everything of all subjects, acknowledge it, and look at the time that it carries.
pub(super) async fn start(
    plan: &Plan,
    target: &Settings,
    clock: &Clock,
) -> Result<Option<Consumers>, Failure> {
    if plan.consumers == 0 {
        return Ok(None);
    }
    let begin = clock.now();
    let seen = Arc::new(Seen::default());
    let (mut clients, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..plan.consumers {
        let client = connect(target).await?;
        for subject in &plan.subjects {
            let subscription = Subscription::new(subject, "bench")
                .start(Start::Earliest)
                .window(10_000, 16 << 20);
            let consumer = client
                .subscribe(subscription)
                .map_err(|error| Failure::of("the consumer", &error, "give other numbers"))?;
            tasks.push(tokio::spawn(take(
                consumer,
                Arc::clone(&seen),
                *clock,
                begin + WARM_UP,
            )));
        }
        clients.push(client);
    }
    Ok(Some(Consumers {
        clients,
        tasks,
        seen,
        load: plan.load,
        begin,
        clock: *clock,
    }))
}

async fn take(mut consumer: Consumer, seen: Arc<Seen>, clock: Clock, measure_from: Duration) {
    let mut latency = Latency::new();
    let mut last = Instant::now();
    let mut messages = 0;
    loop {
        let next = tokio::select! {
            biased;
            next = consumer.next() => next,
            // What has been counted is told although nothing comes behind it.
            () = tokio::time::sleep(TELL_EVERY) => {
                seen.add(&mut messages, &mut latency);
                continue;
            }
        };
        let received = match next {
            Ok(received) => received,
            Err(error) => {
                seen.measured.lock().reason.get_or_insert(error.to_string());
                break;
            }
        };
        let body = received.body();
        let due = body
            .first_chunk::<8>()
            .map_or(0, |nanos| u64::from_le_bytes(*nanos));
        let due = Duration::from_nanos(due);
        if due >= measure_from {
            messages += 1;
            latency.record(clock.now().saturating_sub(due));
        }
        received.ack_soon();
        seen.all.fetch_add(1, Ordering::Relaxed);
        // A histogram is merged now and then, not for each message.
        if last.elapsed() > TELL_EVERY {
            seen.add(&mut messages, &mut latency);
            last = Instant::now();
        }
    }
    seen.add(&mut messages, &mut latency);
}

impl Seen {
    fn add(&self, messages: &mut u64, latency: &mut Latency) {
        let mut measured = self.measured.lock();
        measured.messages += std::mem::take(messages);
        measured.latency.merge(latency);
        *latency = Latency::new();
    }
}

impl Consumers {
    /// Waits until all that was produced has come.
    pub(super) async fn finish(self, produced: u64) -> Measured {
        let until = Instant::now() + PATIENCE;
        while self.seen.all.load(Ordering::Relaxed) < produced && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let elapsed = self.clock.now() - self.begin - WARM_UP;
        // What has been counted and not added yet.
        tokio::time::sleep(TELL_EVERY * 2).await;
        for task in &self.tasks {
            task.abort();
        }
        for client in self.clients {
            client.close(Duration::from_secs(5)).await;
        }
        let all = self.seen.all.load(Ordering::Relaxed);
        let mut measured = std::mem::take(&mut *self.seen.measured.lock());
        measured.all = all;
        measured.failed = produced.saturating_sub(all);
        if measured.failed > 0 {
            let missing = format!("{} did not come within 10 s", measured.failed);
            measured.reason.get_or_insert(missing);
        }
        measured.elapsed = elapsed.max(self.load);
        measured
    }
}
