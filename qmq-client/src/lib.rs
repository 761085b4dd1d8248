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
//! In a cluster, meta servers say which brokers have a subject, and delayed messages find their delay server:
//!
//! ```no_run
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//!
//! use qmq_client::{Client, Message, Pem};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .meta("http://meta-1.example:8080/meta/address")
//!     .meta("http://meta-2.example:8080/meta/address")
//!     .authorities(Pem::File("ca.pem".into()))
//!     .connect()
//!     .await?;
//! let tomorrow = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(86_400);
//! let reminder = Message::new("order.reminder", "4711").with_due_time_ms(tomorrow.as_millis() as u64);
//! let report = client.producer().build()?.send(reminder).await?;
//! if let Some(delayed) = report.delay {
//!     println!("waits as {delayed}");
//!     client.delay(&delayed.group).cancel(delayed.id).await?;
//! }
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
//! With meta servers:
//!
//! * **The last route is good until a newer one is told.** Routes are pushed; while no meta server answers, the last ones go on. An older one, and an
//!   empty one of a meta server that cannot see its database, changes nothing. Of several meta servers one is asked, and another when it fails.
//! * **What HTTP says is not trusted**: the meta server that it points to must have a certificate of the authorities with the name that the
//!   application knows (the host that [`ClientBuilder::meta`] was given, or [`ClientBuilder::meta_server_name`]), and say that
//!   it is one, before it is told anything. A broker of another group than the route names is refused.
//! * **Availability is not one-way.** A group that takes no messages gets no new ones, what is under way to it goes through as long as it answers, and
//!   it is used again as soon as a route says so. When its master changes, what was sent is repeated at the new one with the same numbers.
//! * **A message without a route fails in time** ([`SendCause::NoRoute`]), and says what is known of the reason: at once if a meta server refuses for
//!   good to tell one ([`SendCause::RouteRefused`]), which also ends a subscription that has none ([`ConsumeError::Refused`]).
//! * **Ordered**: a subject stays with one group. It moves only when that takes no messages any more, behind its last answer.
//! * **A consumer that operators switch off** gets no more messages, gives back what nobody has looked at, and goes on when it is switched on.
//!
//! Delayed messages:
//!
//! * A message with a due time that has not passed goes to a delay server, however soon it is due, and so never comes early; [`Report::delay`] says by
//!   what it is known there. One whose due time has passed goes to a broker. With brokers that were named by hand, those that say that they take delayed messages are used.
//! * [`Received::nack`] with a delay that is longer than the broker keeps a message back gives the message to a delay server, addressed to the group's
//!   retry subject, and acknowledges it when it is there. Every subscription consumes that subject too where delay servers can be, and shows such messages as
//!   those of its own subject; [`Received::attempt`] counts on.
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
//! | `connection/` | one connection to each broker: `route` (how brokers are found), `pool` (those that are in use), `tls`, `link` (handshake to end), `broker` (made again and again), `breaker`, `backoff`, `pipe` (a stream of frames) |
//! | `connection/meta/` | `lookup` (HTTP), `session` (the task that hears routes), `routes` (what is known) |
//! | `producer/` | `queue` (room), `topics` (a subject's route), `lines` (queues for the same brokers), `routing` (both follow the routes), `seat` (a broker group's master), `lane` (numbers), `dispatch` (the task), `requests`, `batch` (bytes of a request), `keeper` (its streams), `settle` (answers), `patience` (time), `outcome` |
//! | `consumer/` | `subscription`, `flows` (they follow the route), `flow` (the task for a broker and subject), `held` (what is in hand), `credit`, `received`, `put_off` (long nacks), `listener`, `puller`, `idempotence` |
//! | `delay/` | by what delayed messages are known, and what can be done about them |
//! | `admin` | what operators ask |
//! | `trace`, `random` | where trace contexts come from; random numbers |

mod admin;
mod client;
mod config;
mod connection;
mod consumer;
mod delay;
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
pub use delay::{DeadLetters, DelayAdmin, DelayPage, Delayed, NotDelayed};
pub use error::{ConfigError, ConnectError};
pub use producer::{Producer, ProducerBuilder, Report, SendCause, SendError, Sent, Unsent};
pub use qmq_message::{Attributes, Message, TagFilter};
pub use qmq_wire::{
    CloseCode, DeadLetter, DelayOutcome, DelayedMessage, Durability, NodeStatus, ResetTo, Start,
    SubjectStatus,
};
pub use trace::{TRACEPARENT, TraceContext};
