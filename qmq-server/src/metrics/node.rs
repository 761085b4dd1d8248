//! What there is once a node.

use std::fmt::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use qmq_wire::Code;

use super::Sources;
use super::families::Families;

pub(super) fn encode(sources: &Sources, to: &mut Families<'_>) -> Result {
    about(sources, to)?;
    messages_in(sources, to)?;
    messages_out(sources, to)?;
    store(sources, to)?;
    limits(sources, to)
}

fn about(sources: &Sources, to: &mut Families<'_>) -> Result {
    let room = &sources.administering;
    let group = room.group.read().clone();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("node", room.node.as_str()),
        ("broker_group", group.as_str()),
    ];
    to.gauges(
        "qmq_build_info",
        "Always 1: what runs here, and as what",
        [(labels, 1)].into_iter(),
    )?;
    to.gauge(
        "qmq_uptime_seconds",
        "Seconds since the start",
        signed(room.since.elapsed().as_secs()),
    )?;
    to.gauge(
        "qmq_draining",
        "1 while it shuts down",
        i64::from(room.draining.load(Ordering::Relaxed)),
    )?;
    to.gauge(
        "qmq_store_healthy",
        "0 after a failed write or sync: the store takes nothing more",
        i64::from(room.store.health().is_ok()),
    )?;
    to.gauge(
        "qmq_certificate_days_left",
        "Whole days until the certificate that is served ends; negative once it has",
        sources.tls.days_left(SystemTime::now()),
    )
}

fn messages_in(sources: &Sources, to: &mut Families<'_>) -> Result {
    let counters = sources.administering.producing.counters();
    to.counter(
        "qmq_messages_produced",
        "Messages taken",
        get(&counters.accepted),
    )?;
    to.counter(
        "qmq_produced_bytes",
        "Bytes of attributes and bodies of the messages taken",
        get(&counters.accepted_bytes),
    )?;
    to.counter(
        "qmq_messages_repeated",
        "Messages that were repeats and got the first answer",
        get(&counters.repeated),
    )?;
    let refused: Vec<(String, u64)> = counters
        .refused
        .iter()
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

fn messages_out(sources: &Sources, to: &mut Families<'_>) -> Result {
    let consumers = &sources.administering.consumers;
    let (settled, delivered) = (consumers.counters(), consumers.delivering().counters());
    to.counter(
        "qmq_messages_delivered",
        "Messages handed out, again or for the first time",
        get(&delivered.delivered),
    )?;
    to.counter(
        "pulledMessageBytesCount",
        "Bytes of attributes and bodies of the messages handed out",
        get(&delivered.delivered_bytes),
    )?;
    to.counter(
        "qmq_messages_redelivered",
        "Messages handed out again",
        get(&delivered.redelivered),
    )?;
    to.counter(
        "qmq_messages_acked",
        "Messages acknowledged",
        get(&settled.acked),
    )?;
    to.counter(
        "putNeedRetryMessagesCount",
        "Messages refused by consumers, to come again",
        get(&settled.nacked),
    )?;
    to.counter(
        "qmq_leases_lost",
        "Messages taken back since they were held too long without renewal",
        get(&settled.leases_lost),
    )?;
    to.counter(
        "qmq_consumers_gone",
        "Consumers declared gone while they held messages",
        get(&settled.gone),
    )?;
    to.counter(
        "qmq_consumers_taken_over",
        "Consumers taken over by another session",
        get(&settled.taken_over),
    )?;
    to.counter(
        "deadLetterQueueCount",
        "Messages that failed too often and went to a dead-letter subject",
        get(&delivered.dead_lettered),
    )?;
    to.counter(
        "qmq_deliver_turns",
        "Turns of groups",
        get(&delivered.turns),
    )?;
    to.histogram(
        "qmq_append_to_delivery_seconds",
        "From the append of a message to its first delivery to a group",
        &delivered.waited,
    )
}

fn store(sources: &Sources, to: &mut Families<'_>) -> Result {
    let stats = sources.administering.store.stats();
    let marks = stats.watermarks;
    for (name, help, value) in [
        ("qmq_subjects", "Subjects known", stats.subjects),
        (
            "qmq_store_log_bytes",
            "Bytes of records kept",
            stats.log_bytes,
        ),
        (
            "qmq_store_free_bytes",
            "Free bytes of the store's disk",
            stats.free_bytes,
        ),
        (
            "qmq_store_start_offset",
            "Offset of the oldest record kept",
            stats.start_offset,
        ),
        (
            "qmq_store_written_offset",
            "End of what is written",
            marks.written,
        ),
        (
            "qmq_store_synced_offset",
            "End of what survives a loss of power",
            marks.synced,
        ),
        (
            "qmq_store_replicated_offset",
            "End of what enough slaves hold",
            marks.replicated,
        ),
        (
            "qmq_store_unsynced_bytes",
            "Bytes written and not synced",
            marks.written.saturating_sub(marks.synced),
        ),
        (
            "qmq_store_since_checkpoint_bytes",
            "Bytes to replay if the process died now",
            stats.since_checkpoint_bytes,
        ),
        ("qmq_store_segments", "Segments of the log", stats.segments),
        (
            "qmq_store_unsealed_segments",
            "Full segments whose index is still in memory",
            stats.unsealed_segments,
        ),
        (
            "qmq_store_mapped_files",
            "Files mapped into memory",
            stats.mapped_files,
        ),
        (
            "qmq_store_pinned_bytes",
            "Bytes of retired segments that readers still hold",
            stats.pinned_bytes,
        ),
        (
            "qmq_store_incarnation",
            "Raised by each open that does not follow a clean close",
            u64::from(stats.incarnation),
        ),
    ] {
        to.gauge(name, help, signed(value))?;
    }
    to.counter(
        "qmq_store_housekeeping_failures",
        "Failures of sealing, retention, checkpoints and new segments, each tried again",
        stats.housekeeping_failures,
    )
}

fn limits(sources: &Sources, to: &mut Families<'_>) -> Result {
    let room = &sources.administering;
    to.gauge(
        "brokerActiveClientCount",
        "Open connections; a client has one",
        signed(get(&room.connections)),
    )?;
    to.gauge(
        "qmq_connections_max",
        "Most connections at a time (connection.max)",
        signed(sources.load.connections_max() as u64),
    )?;
    to.gauge(
        "qmq_subscriptions",
        "Consumers attached",
        signed(room.consumers.attached()),
    )?;
    let (produce_used, produce_max) = sources.load.produce_bytes();
    let delivering = room.consumers.delivering();
    let budgets = [
        ("produce", produce_used, produce_max),
        (
            "deliver",
            sources.load.outgoing_bytes(),
            delivering.budget_bytes(),
        ),
    ];
    to.gauges(
        "qmq_memory_used_bytes",
        "Bytes of a memory budget in use: requests that are not in the log yet, deliveries and answers that wait for their connections",
        budgets
            .iter()
            .map(|(budget, used, _)| ([("budget", *budget)], *used)),
    )?;
    to.gauges(
        "qmq_memory_max_bytes",
        "Bytes of a memory budget (memory.produce.bytes, memory.deliver.bytes)",
        budgets
            .iter()
            .map(|(budget, _, max)| ([("budget", *budget)], *max)),
    )?;
    let queues = [
        ("produce", room.producing.queue()),
        ("consumers", room.consumers.queue()),
    ];
    to.gauges(
        "qmq_queue_requests",
        "Requests that wait for a room's thread",
        queues
            .iter()
            .map(|(queue, (used, _))| ([("queue", *queue)], *used as u64)),
    )?;
    to.gauges(
        "qmq_queue_requests_max",
        "Requests that may wait for a room's thread",
        queues
            .iter()
            .map(|(queue, (_, max))| ([("queue", *queue)], *max as u64)),
    )
}

/// `too_large` for [`Code::TooLarge`].
pub(super) fn code_label(code: Option<Code>) -> String {
    let Some(code) = code else {
        return "other".to_owned();
    };
    let mut label = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_labels_are() {
        assert_eq!(code_label(Some(Code::TooManyUnacked)), "too_many_unacked");
        assert_eq!(code_label(Some(Code::Busy)), "busy");
        assert_eq!(code_label(None), "other");
    }
}
