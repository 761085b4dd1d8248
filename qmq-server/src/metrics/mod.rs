//! What monitoring sees of a broker: the text that `/metrics` answers with.
//!
//! The format is OpenMetrics, which Prometheus and all that reads its format take. What QMQ measures has QMQ's name, and the labels `subject` and
//! `group` that QMQ gives it; times are histograms in seconds and say so in their names. What QMQ does not measure begins with `qmq_`. As the format asks,
//! the series of a counter ends in `_total`.
//!
//! | QMQ's name | what it is here |
//! |---|---|
//! | `receivedMessagesCount` | messages taken, by subject |
//! | `pulledMessagesCount` | messages handed out, by subject |
//! | `pulledMessageBytesCount` | bytes of all of them |
//! | `consumerAckCount` | messages acknowledged, by subject |
//! | `putNeedRetryMessagesCount` | messages that consumers refused, so that they come again |
//! | `deadLetterQueueCount` | messages that failed too often |
//! | `produceTime` | from the arrival of a request to its answer |
//! | `messageSequenceLag` | messages that a group has not been handed yet |
//! | `brokerActiveClientCount` | connections: a client has one |
//!
//! The most active subjects, `metrics.subjects.max` of them, have series of their own; the others are added up under [`OTHER`](crate::rooms::administer::OTHER).
//! When another subject becomes one of the most active, its count moves: the series of the sum can fall, and the sum over all series never does.
//!
//! A scrape looks at the rooms and the store when it is asked for, on a thread that may block, and keeps nothing of any subject afterwards. Between
//! scrapes there is one counter a subject, in [`Activity`](crate::rooms::administer::Activity), and nothing else.

mod families;
mod groups;
mod node;
mod scrapes;
mod subjects;

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::doors::quic::Load;
use crate::rooms::administer::Administering;
use crate::tls::ReloadingServer;
use families::Families;

pub use scrapes::{CONTENT_TYPE, ScrapeError, Scrapes};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The rooms and the store.
    pub administering: Arc<Administering>,
    /// The certificate.
    pub tls: Arc<ReloadingServer>,
    /// The door for clients.
    pub load: Load,
    /// Subjects with names: 0 to 1,000,000.
    pub subjects_max: usize,
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut families = Families::new(encoder);
        node::encode(self, &mut families)?;
        subjects::encode(self, &mut families)
    }
}
