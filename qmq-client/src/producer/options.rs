//! How a producer sends.

use std::sync::Arc;
use std::time::Duration;

use qmq_wire::{BATCH_MESSAGES_MAX, Durability};

use super::Producer;
use crate::client::Shared;
use crate::config::check_number;
use crate::error::ConfigError;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) durability: Durability,
    pub(crate) ordered: bool,
    pub(crate) in_flight: usize,
    pub(crate) batch_messages: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) queue_messages: u32,
    pub(crate) queue_bytes: u32,
    pub(crate) queue_wait: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) retry_pause: (Duration, Duration),
}

/// Configures a [`Producer`]. Everything has a default.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before build"]
pub struct ProducerBuilder {
    shared: Arc<Shared>,
    options: Options,
}

impl ProducerBuilder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            options: Options {
                durability: Durability::Default,
                ordered: false,
                in_flight: 8,
                batch_messages: 1_000,
                batch_bytes: 1 << 20,
                linger: Duration::ZERO,
                queue_messages: 10_000,
                queue_bytes: 64 << 20,
                queue_wait: Duration::from_secs(10),
                delivery_timeout: Duration::from_secs(30),
                close_timeout: Duration::from_secs(30),
                retry_pause: (Duration::from_millis(20), Duration::from_secs(2)),
            },
        }
    }

    /// What messages must survive before they are answered. Default: what the broker is configured for.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Sends all messages to one broker, which takes them in the order in which they were queued and none after a gap. Default: off.
    pub fn ordered(mut self) -> Self {
        self.options.ordered = true;
        self
    }

    /// Requests under way to a broker at a time: 1 to 1,024, default 8.
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.options.in_flight = requests;
        self
    }

    /// Most messages of a request (1 to 10,000, default 1,000) and most bytes (1 to 64 MiB, default 1 MiB; one message goes whatever its size).
    pub fn batch(mut self, messages: usize, bytes: usize) -> Self {
        self.options.batch_messages = messages;
        self.options.batch_bytes = bytes;
        self
    }

    /// How long the first message of a request waits for others: up to 1 s, default 0: a message goes as soon as a request may, and batches form
    /// under load by themselves.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// Most messages (1 to 1,000,000, default 10,000) and bytes (1 to 1 GiB, default 64 MiB) that have been taken and not answered, and how long
    /// [`Producer::queue`] waits for room (up to 10 min, default 10 s).
    pub fn queue(mut self, messages: u32, bytes: u32, wait: Duration) -> Self {
        self.options.queue_messages = messages;
        self.options.queue_bytes = bytes;
        self.options.queue_wait = wait;
        self
    }

    /// How long a message is tried before it is given up, from the call on: 10 ms to 1 h, default 30 s.
    pub fn delivery_timeout(mut self, limit: Duration) -> Self {
        self.options.delivery_timeout = limit;
        self
    }

    /// How long [`Producer::close`] waits for what is in hand: up to 1 h, default 30 s.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.options.close_timeout = limit;
        self
    }

    /// The shortest and the longest pause before a refused message is tried again: 1 ms to 60 s, default 20 ms and 2 s.
    pub fn retry_pause(mut self, least: Duration, most: Duration) -> Self {
        self.options.retry_pause = (least, most);
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    /// [`ConfigError`], which names the setting.
    pub fn build(self) -> Result<Producer, ConfigError> {
        let options = &self.options;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = options.retry_pause;
        let numbers = [
            ("in_flight", options.in_flight as u64, (1, 1_024)),
            (
                "batch messages",
                options.batch_messages as u64,
                (1, u64::from(BATCH_MESSAGES_MAX)),
            ),
            ("batch bytes", options.batch_bytes as u64, (1, 64 << 20)),
            ("linger in ms", ms(options.linger), (0, 1_000)),
            (
                "queue messages",
                u64::from(options.queue_messages),
                (1, 1_000_000),
            ),
            ("queue bytes", u64::from(options.queue_bytes), (1, 1 << 30)),
            ("queue wait in ms", ms(options.queue_wait), (0, 600_000)),
            (
                "delivery_timeout in ms",
                ms(options.delivery_timeout),
                (10, 3_600_000),
            ),
            (
                "close_timeout in ms",
                ms(options.close_timeout),
                (0, 3_600_000),
            ),
            ("retry_pause in ms", ms(least), (1, 60_000)),
            ("retry_pause in ms", ms(most), (ms(least), 60_000)),
        ];
        for (what, value, range) in numbers {
            check_number(what, value, range)?;
        }
        Ok(Producer::start(self.shared, self.options))
    }
}
