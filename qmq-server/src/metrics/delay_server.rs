//! What monitoring sees of a delay server. What QMQ measures has QMQ's name.
//!
//! | QMQ's name | what it is here |
//! |---|---|
//! | `receivedMessagesCount` | messages taken |
//! | `produceTime` | from the arrival of a request to its answer |
//! | `pastMessages` | messages taken whose time was past |
//! | `overDelayMessage` | messages refused since they are due too late |
//! | `delayTime` | from the due time of a message to its arrival at a broker |
//! | `scheduleDispatch` | messages that brokers have |
//! | `nettySendMessageFailCount` | deliveries that have to be tried again |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use qmq_wire::Code;

use super::families::Families;
use super::node::code_label;
use crate::delay::Controlling;
use crate::doors::quic::Load;
use crate::tls::ReloadingServer;

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) struct DelaySources {
    /// The room.
    pub(crate) room: Arc<Controlling>,
    /// The certificate.
    pub(crate) tls: Arc<ReloadingServer>,
    /// The door for clients.
    pub(crate) load: Load,
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Collector for DelaySources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let to = &mut Families::new(encoder);
        self.messages_in(to)?;
        self.messages_out(to)?;
        let status = self.room.status();
        let (pending, letters) = self.room.pending();
        let (queued, _) = self.room.scheduling().queue();
        for (name, help, value) in [
            (
                "qmq_delay_pending",
                "Messages that wait for their time or are on their way",
                pending,
            ),
            (
                "qmq_delay_dead_letters",
                "Messages that brokers refused for good",
                letters,
            ),
            (
                "qmq_delay_subjects",
                "Subjects of which messages wait",
                status.subjects,
            ),
            (
                "brokerActiveClientCount",
                "Open connections: a client has one",
                status.connections,
            ),
            (
                "qmq_produce_queue",
                "Requests that wait to be scheduled",
                queued as u64,
            ),
            (
                "qmq_produce_bytes_held",
                "Bytes of requests that are not scheduled yet",
                self.load.produce_bytes().0,
            ),
            ("qmq_log_bytes", "Bytes of the log", status.log_bytes),
            (
                "qmq_free_bytes",
                "Free bytes of the disk",
                status.free_bytes,
            ),
            (
                "qmq_unsynced_bytes",
                "Bytes written and not synced",
                status.unsynced_bytes,
            ),
        ] {
            to.gauge(name, help, gauge(value))?;
        }
        to.gauge(
            "qmq_certificate_days_left",
            "Days until the certificate ends",
            self.tls.days_left(SystemTime::now()),
        )
    }
}

impl DelaySources {
    fn messages_in(&self, to: &mut Families<'_>) -> std::fmt::Result {
        let counters = self.room.scheduling().counters();
        let over = counters.refused.iter();
        let over = over.filter(|(code, _)| *code == Some(Code::DueTooFar));
        for (name, help, value) in [
            (
                "receivedMessagesCount",
                "Messages taken",
                get(&counters.accepted),
            ),
            (
                "qmq_produced_bytes",
                "Bytes of attributes and bodies of the messages taken",
                get(&counters.accepted_bytes),
            ),
            (
                "pastMessages",
                "Messages taken whose time was past",
                get(&counters.past),
            ),
            (
                "overDelayMessage",
                "Messages refused since they are due too late",
                over.map(|(_, count)| count).sum(),
            ),
            (
                "qmq_messages_repeated",
                "Messages that were repeats and got the first answer",
                get(&counters.repeated),
            ),
        ] {
            to.counter(name, help, value)?;
        }
        let refused = counters.refused.iter();
        let refused: Vec<(String, u64)> = refused
            .map(|(code, count)| (code_label(code), count))
            .collect();
        to.counters(
            "qmq_messages_refused",
            "Messages refused, by code",
            refused
                .iter()
                .map(|(code, count)| ([("code", code.as_str())], *count)),
        )?;
        to.histogram(
            "produceTime_seconds",
            "From the arrival of a produce request to its answer",
            &counters.time,
        )
    }

    fn messages_out(&self, to: &mut Families<'_>) -> std::fmt::Result {
        let counters = self.room.dispatched();
        for (name, help, value) in [
            (
                "scheduleDispatch",
                "Messages that brokers have",
                get(&counters.dispatched),
            ),
            (
                "nettySendMessageFailCount",
                "Deliveries that have to be tried again",
                get(&counters.put_off),
            ),
            (
                "qmq_delay_refused",
                "Messages that became dead letters",
                get(&counters.dead),
            ),
        ] {
            to.counter(name, help, value)?;
        }
        for (name, help, value) in [
            (
                "qmq_delay_in_flight",
                "Messages on their way to brokers",
                get(&counters.in_flight),
            ),
            (
                "qmq_delay_waiting",
                "Messages that wait for another try",
                get(&counters.waiting),
            ),
            (
                "qmq_delay_stuck_subjects",
                "Subjects whose brokers could not be reached when last tried",
                get(&counters.stuck),
            ),
        ] {
            to.gauge(name, help, gauge(value))?;
        }
        to.histogram(
            "delayTime_seconds",
            "From the due time of a message to its arrival at a broker",
            &counters.delay,
        )
    }
}
