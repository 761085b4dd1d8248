//! The async client of qmq: producers, consumers, reconnection.

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
    ConsumeError, Consumer, HandlerError, Idempotence, Listening, Outcome, PullError, Puller,
    Received, Recent, SettleError, Subscription, Unsettled,
};
pub use error::{ConfigError, ConnectError};
pub use producer::{Producer, ProducerBuilder, Report, SendCause, SendError, Sent, Unsent};
pub use qmq_message::{Attributes, Message, TagFilter};
pub use qmq_wire::{Durability, NodeStatus, ResetTo, Start, SubjectStatus};
pub use trace::{TRACEPARENT, TraceContext};
