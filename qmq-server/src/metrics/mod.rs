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
//! Once a subject has a name it keeps it until another is twice as active, so that the number of series stays within bounds over time, and no series falls
//! when a name changes hands: the sum holds what came while a subject had none.
//!
//! A scrape looks at the rooms and the store when it is asked for, on a thread that may block. Between scrapes there are the counters of each subject, in
//! [`Activity`](crate::rooms::administer::Activity), and what was shown of those with names.

mod delay_server;
mod families;
mod groups;
mod meta_server;
mod naming;
mod node;
mod scrapes;
mod subjects;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::doors::quic::Load;
use crate::rooms::administer::Administering;
use crate::tls::ReloadingServer;
pub(crate) use delay_server::DelaySources;
use families::Families;
pub(crate) use meta_server::MetaSources;
use naming::Naming;

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

/// Looks when it is asked to.
#[derive(Debug)]
struct Looking {
    sources: Sources,
    naming: Mutex<Naming>,
}

impl Collector for Looking {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut families = Families::new(encoder);
        node::encode(&self.sources, &mut families)?;
        subjects::encode(&self.sources, &mut self.naming.lock(), &mut families)
    }
}
