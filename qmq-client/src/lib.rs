//! The async client of qmq: producers, consumers, reconnection.
//!
//! ```no_run
//! use qmq_client::{Client, Message, Pem, Start, Subscription};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .broker("broker-1.example:7700")
//!     .authorities(Pem::File("ca.pem".into()))
//!     .application("billing")
//!     .connect()
//!     .await?;
//!
//! let producer = client.producer().build()?;
//! let report = producer.send(Message::new("order.changed", "4711").tag("paid")).await?;
//! println!("stored at {} by {}", report.sequence, report.broker);
//!
//! let subscription = Subscription::new("order.changed", "billing").start(Start::Earliest);
//! let listening = client.subscribe(subscription)?.listen(|message| async move {
//!     println!("{} bytes", message.body().len());
//!     Ok(())
//! });
//!
//! tokio::signal::ctrl_c().await?;
//! listening.close().await?;
//! producer.close().await?;
//! client.close(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! * **Every wait has a limit** that can be set, has a range and a default. Only [`Consumer::next`] waits for as long as no message comes.
//! * **A message has one outcome.** [`Sent`] and [`Producer::send`] say that a broker has it, at the durability that was asked for, or give it back
//!   and say whether it may have been stored nevertheless.
//! * **A repeated request is the same request.** A message has a number with its producer and broker; when an answer is lost the same numbers are
//!   asked for again, and the broker takes each once. Only if its broker stays away for half of the delivery timeout does such a message go to another
//!   broker, where it may be stored a second time: *at least once*. With one broker that never happens.
//! * **Ordered means ordered.** A producer made with [`ProducerBuilder::ordered`] stays with one broker, keeps several requests under way, and after
//!   any failure goes back to the first message without an answer. If nobody knows what became of a message in time, those sent after it fail with it.
//! * **Nothing in hand comes twice to the same consumer.** After a reconnect the broker delivers again what a consumer holds; the application gets
//!   only what it does not have. What it settled meanwhile is settled then, and under no earlier incarnation of the broker's store.
//! * **What is in hand stays in hand**: it is renewed until it is settled. A [`Received`] that is dropped comes again.
//! * **A broker that fails is left alone, and used again.** Connections are made again by themselves, with growing pauses; a broker that refuses or
//!   does not answer is probed by a single request before others follow.
//! * **Closing loses nothing**: [`Producer::close`], [`Consumer::close`] and [`Listening::close`] finish what is in hand within a limit, and say what
//!   could not be finished.
//!
//! Consumers of several brokers subscribe to each of them. A broker's sequences are its own: order holds within a subject of one broker.
//!
//! # Traces
//!
//! Sending runs in a span `qmq.produce`, handling in a span `qmq.handle`. A message carries the W3C trace context in its property [`TRACEPARENT`],
//! set by the application or by a [`TraceContext`].
//!
//! # Features
//!
//! `idempotence-sql`, off by default: `SqlIdempotence` remembers in a table of a SQLite or MySQL database which messages were handled. It brings `sqlx`, and
//! SQLite in C.
//!
//! # Modules
//!
//! | module | what it is about |
//! |---|---|
//! | `config`, `error` | what can be set, and why a client could not be made or does not reach its broker |
//! | `client` | what producers and consumers share |
//! | `connection/` | one connection to each broker: `route`, `tls`, `link` (handshake to end), `broker` (made again and again), `breaker`, `backoff`, `pipe` (a stream of frames) |
//! | `producer/` | `queue` (room), `batch` (bytes of a request), `lane` (numbers), `dispatch` (the task), `keeper` (its streams), `settle` (answers), `outcome` |
//! | `consumer/` | `subscription`, `flow` (the task for a broker and subject), `held` (what is in hand), `credit`, `received`, `listener`, `puller`, `idempotence` |
//! | `admin` | what operators ask |
//! | `trace`, `random` | where trace contexts come from; random numbers |

mod admin;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
mod producer;
mod random;
mod trace;

pub use admin::{Admin, AdminError};
pub use client::Client;
pub use config::{ClientBuilder, ClientConfig, Pem};
pub use connection::ConnectionState;
pub use consumer::{
    ConsumeError, Consumer, HandlerError, Idempotence, Known, Listening, Outcome, PullError,
    Puller, Received, Recent, SettleError, Standing, Subscription, Unsettled,
};
#[cfg(feature = "idempotence-sql")]
pub use consumer::{SqlIdempotence, SqlIdempotenceError};
pub use error::{ConfigError, ConnectError};
pub use producer::{Producer, ProducerBuilder, Report, SendCause, SendError, Sent, Unsent};
pub use qmq_message::{Attributes, Message, TagFilter};
pub use qmq_wire::{CloseCode, Durability, NodeStatus, ResetTo, Start, SubjectStatus};
pub use trace::{TRACEPARENT, TraceContext};
