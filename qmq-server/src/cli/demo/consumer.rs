//! One consumer of the demo: gets the messages of every route, handles them, acknowledges them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_client::{Client, ConfigError, ConsumeError, Received, Start, Subscription, TagFilter};

use super::event::{CARRIERS, Event, GROUPS, TAGGED, Work};
use super::input::Input;
use crate::cli::failure::chain;

/// Messages of a route that a consumer has at a time.
const WINDOW: u32 = 64;
const WINDOW_BYTES: u64 = 1 << 20;

/// How long one that leaves work behind waits for more of it.
const GATHER: Duration = Duration::from_millis(50);

/// Where events go. It is called from many threads.
pub(super) type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// A consumer of one route.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) group: usize,
    pub(super) name: &'static str,
    pub(super) input: Arc<Input>,
    pub(super) tell: Tell,
}

impl Consumer {
    /// Handles and acknowledges whatever comes, until its runtime ends.
    pub(super) fn handle(&self, client: &Client, route: u32) -> Result<(), ConfigError> {
        let mut consumer = client.subscribe(self.subscription(route))?;
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                match consumer.next().await {
                    Ok(received) => this.take(received, route),
                    Err(error) => return this.failed(&error),
                }
            }
        });
        Ok(())
    }

    /// Takes some messages, and keeps them as long as the process lives.
    pub(super) async fn hold(&self, client: &Client, route: u32) -> Result<(), ConfigError> {
        let mut consumer = client.subscribe(self.subscription(route))?;
        let mut held = Vec::new();
        let mut gathered = None;
        loop {
            let next = async {
                match gathered {
                    None => Some(consumer.next().await),
                    Some(until) => tokio::time::timeout_at(until, consumer.next()).await.ok(),
                }
            };
            match next.await {
                Some(Ok(received)) => held.push(received),
                Some(Err(error)) => {
                    self.failed(&error);
                    break;
                }
                None => break,
            }
            gathered.get_or_insert_with(|| tokio::time::Instant::now() + GATHER);
        }
        let mut work = self.work(route, 0);
        for received in &held {
            work.again += u64::from(received.attempt() > 0);
            work.messages.extend(self.message(received, route));
        }
        (self.tell)(Event::Held(work));
        std::future::pending::<()>().await;
        drop((held, consumer));
        Ok(())
    }

    fn subscription(&self, route: u32) -> Subscription {
        let filter = if self.group == TAGGED {
            TagFilter::Any(CARRIERS.map(str::to_owned).to_vec())
        } else {
            TagFilter::All
        };
        Subscription::new(
            &self.input.routes[route as usize].subject,
            GROUPS[self.group],
        )
        .consumer_id(self.name)
        .tags(filter)
        .start(Start::Earliest)
        .window(WINDOW, WINDOW_BYTES)
    }

    fn work(&self, route: u32, again: u64) -> Work {
        Work {
            group: self.group,
            consumer: self.name.to_owned(),
            route,
            messages: Vec::new(),
            again,
        }
    }

    fn take(&self, received: Received, route: u32) {
        let mut work = self.work(route, u64::from(received.attempt() > 0));
        work.messages.extend(self.message(&received, route));
        // Handling a message means telling of it: an effect that outlives the broker. It comes before the
        // acknowledgement, so whatever the broker counts as done has been done.
        (self.tell)(Event::Handled(work.clone()));
        let tell = Arc::clone(&self.tell);
        tokio::spawn(async move {
            let start = Instant::now();
            // One that is not confirmed comes again, to this consumer or to another.
            if received.ack().await.is_ok() {
                let nanos = nanos(start.elapsed());
                tell(Event::Acked { work, nanos });
            }
        });
    }

    /// Which flight it is, compared with the input byte by byte.
    fn message(&self, received: &Received, route: u32) -> Option<(u32, u64)> {
        let id = received.attributes().id();
        let index = id.and_then(|id| self.input.by_id(id)).filter(|index| {
            let flight = &self.input.flights[*index as usize];
            flight.route == route && flight.body == *received.body()
        });
        if index.is_none() {
            let (subject, sequence) = (received.subject(), received.sequence());
            (self.tell)(Event::Foreign(format!("{subject} sequence {sequence}")));
        }
        index.map(|index| (index, received.sequence()))
    }

    fn failed(&self, error: &ConsumeError) {
        (self.tell)(Event::Failed(chain(error)));
    }
}

/// Whole nanoseconds of a duration.
pub(super) fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
