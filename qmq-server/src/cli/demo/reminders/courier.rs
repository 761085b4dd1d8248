//! What is due goes to the broker, many at a time, and is consumed from there in the end.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use qmq_client::{Client, Durability, Producer, Sent, Start, Subscription};
use qmq_sched::{DelayId, Message};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::broker::{self, Broker};
use crate::cli::failure::Failure;

/// Reminders sent and not yet acknowledged.
const UNDER_WAY_MAX: usize = 512;

/// Nothing more comes after such a silence.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The group that consumes the reminders.
const GROUP: &str = "reminded";

const NEXT: &str = "run the demo again; if it stays so, this is a defect";

/// See the module.
pub(super) struct Courier {
    runtime: Runtime,
    client: Client,
    producer: Producer,
    under_way: VecDeque<(DelayId, Sent)>,
}

impl Courier {
    pub(super) fn new(broker: &Broker) -> Result<Self, Failure> {
        let runtime = super::super::runtime()?;
        let entered = runtime.enter();
        let client = broker::client(&broker.client_file())?;
        let producer = client
            .producer()
            .durability(Durability::Buffered)
            .build()
            .map_err(|e| Failure::of("cannot make a producer", &e, NEXT))?;
        drop(entered);
        Ok(Self {
            runtime,
            client,
            producer,
            under_way: VecDeque::new(),
        })
    }

    /// Sends a reminder under its id.
    pub(super) fn send(&mut self, id: DelayId, message: Message) -> Result<(), Failure> {
        let queued = self.producer.queue(message.with_id(id.to_string()));
        let sent = self.runtime.block_on(queued).map_err(|e| failed(&e))?;
        self.under_way.push_back((id, sent));
        Ok(())
    }

    /// Waits until some reminders are acknowledged, if there are very many under way, or until `all` are; answers which.
    pub(super) fn acknowledged(&mut self, all: bool) -> Result<Vec<DelayId>, Failure> {
        let most = if all {
            0
        } else if self.under_way.len() > UNDER_WAY_MAX {
            UNDER_WAY_MAX / 2
        } else {
            return Ok(Vec::new());
        };
        let old = self.under_way.drain(..self.under_way.len() - most);
        self.runtime.block_on(async {
            let mut ids = Vec::with_capacity(old.len());
            for (id, sent) in old {
                sent.await.map_err(|e| failed(&e))?;
                ids.push(id);
            }
            Ok(ids)
        })
    }

    /// Consumes `expected` messages of the subjects, and whatever else is there; answers how often each id came.
    pub(super) fn consume(
        &self,
        subjects: impl IntoIterator<Item = String>,
        expected: u64,
    ) -> Result<HashMap<String, u64>, Failure> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            for subject in subjects {
                let subscription = Subscription::new(subject, GROUP).start(Start::Earliest);
                let mut consumer = self
                    .client
                    .subscribe(subscription)
                    .map_err(|e| Failure::of("cannot subscribe", &e, NEXT))?;
                let tell = tell.clone();
                tokio::spawn(async move {
                    while let Ok(received) = consumer.next().await {
                        let id = received.attributes().id().unwrap_or_default().to_owned();
                        let _ = tell.send(id);
                        tokio::spawn(received.ack());
                    }
                });
            }
            let mut times = HashMap::new();
            for _ in 0..expected {
                match timeout(SILENCE_MAX, told.recv()).await {
                    Ok(Some(id)) => *times.entry(id).or_default() += 1,
                    // Whoever counts finds that something is missing.
                    Ok(None) | Err(_) => break,
                }
            }
            Ok(times)
        })
    }
}

fn failed(error: &qmq_client::SendError) -> Failure {
    Failure::of("cannot send a reminder", error, NEXT)
}
