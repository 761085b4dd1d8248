//! How messages get to brokers.

use std::pin::Pin;
use std::time::Duration;

use qmq_client::{
    Client, ClientBuilder, ConfigError, ConnectError, Durability, Message, Producer, SendCause,
};
use qmq_wire::{Code, Retry};

use crate::access::Pattern;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A broker has it, at the durability that was asked for.
    Arrived,
    /// It was refused for good.
    Refused(String),
    /// Not now; why.
    NotNow(String),
}

/// A delivery that goes on.
pub type Delivering = Pin<Box<dyn Future<Output = Delivery> + Send>>;

/// Gives messages to brokers.
pub trait Post: Send + Sync {
    /// Tries to deliver a message, for a limited time.
    fn send(&self, message: Message, durability: Durability) -> Delivering;

    /// Who cannot be reached now, and why; `None`: nothing is known to be wrong.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// To which brokers messages of a subject go: the first pattern that fits says with which client.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Subjects.
    pub subjects: Pattern,
    /// The client, with the brokers that it knows, or with meta servers that do.
    pub client: ClientBuilder,
}

/// How hard a delivery is tried.
#[derive(Clone, Copy, Debug)]
pub struct PostOptions {
    /// How long one delivery may take: 10 ms to 1 h.
    pub timeout: Duration,
    /// Messages that a destination takes at a time: 1 to 1,000,000.
    pub messages: u32,
    /// Bytes of them: 1 to 1 GiB.
    pub bytes: u32,
    /// Most messages of one request: 1 to 10,000.
    pub batch: usize,
}

impl Default for PostOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            messages: 20_000,
            bytes: 256 << 20,
            batch: 1_000,
        }
    }
}

/// Bytes of one request; one message goes whatever its size.
const BATCH_BYTES: usize = 1 << 20;

/// Through `qmq-client`, which makes batches for each broker, tries again within the time of a delivery, and repeats a request without an answer under
/// its number.
#[derive(Debug)]
pub struct ClientPost {
    destinations: Vec<(Pattern, Producer)>,
    clients: Vec<Client>,
}

impl ClientPost {
    /// To be called in a runtime.
    ///
    /// # Errors
    /// When a client is not configured well.
    pub fn new(destinations: Vec<Destination>, options: PostOptions) -> Result<Self, ConfigError> {
        let mut post = Self {
            destinations: Vec::new(),
            clients: Vec::new(),
        };
        for destination in destinations {
            let client = destination.client.build()?;
            let producer = client
                .producer()
                .delivery_timeout(options.timeout)
                .batch(options.batch, BATCH_BYTES)
                .queue(options.messages, options.bytes, options.timeout)
                .build()?;
            post.destinations.push((destination.subjects, producer));
            post.clients.push(client);
        }
        Ok(post)
    }

    /// Closes the connections.
    pub async fn close(self, limit: Duration) {
        for client in self.clients {
            client.close(limit).await;
        }
    }
}

impl Post for ClientPost {
    fn trouble(&self) -> Option<String> {
        let all = self.clients.iter().flat_map(Client::troubles);
        let mut told: Vec<String> = all.map(|(who, why)| in_words(&who, &why)).collect();
        let more = told.len().saturating_sub(TOLD_MAX);
        told.truncate(TOLD_MAX);
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    fn send(&self, message: Message, durability: Durability) -> Delivering {
        let subject = message.subject();
        let mut destinations = self.destinations.iter();
        let Some((_, producer)) = destinations.find(|(pattern, _)| pattern.matches(subject)) else {
            let text = format!("no broker is configured for the subject {subject}");
            return Box::pin(std::future::ready(Delivery::NotNow(text)));
        };
        let producer = producer.with_durability(durability);
        Box::pin(async move {
            let sent = match producer.queue(message).await {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(_) => Delivery::Arrived,
                Err(error) => outcome(&error.cause),
            }
        })
    }
}

/// Most of those who cannot be reached are named.
const TOLD_MAX: usize = 8;

fn in_words(who: &str, why: &ConnectError) -> String {
    let why = why.to_string();
    match why.contains(who) {
        true => why,
        false => format!("{who}: {why}"),
    }
}

fn outcome(cause: &SendCause) -> Delivery {
    let text = cause.to_string();
    match cause {
        SendCause::Subject(_) | SendCause::Attributes(_) | SendCause::TooLarge { .. } => {
            Delivery::Refused(text)
        }
        // Our clock and theirs differ.
        SendCause::Refused { code, .. } if *code == Code::Delayed => Delivery::NotNow(text),
        SendCause::Refused { code, .. } if code.retry() == Retry::Never => Delivery::Refused(text),
        _ => Delivery::NotNow(text),
    }
}
