//! The keys of `broker.properties`.

use super::super::key::{Key, Kind};
use super::make::{
    BOOL, PORT, bytes, differs, dynamic, hours, idle, integer, joined, length, ms, seconds, text,
    works,
};
use super::shared::{self, NO_SLAVES};

/// The keys of `broker.properties`, by subject.
pub const BROKER: &[Key] = &joined::<{ length(PARTS) }>(PARTS);

const PARTS: &[&[Key]] = &[
    LISTEN,
    shared::LISTEN,
    MEMBER,
    shared::MEMBER,
    shared::STORE,
    DELIVERY,
    shared::CONNECTIONS,
    shared::BUDGETS,
    shared::SECURITY,
    IDLE,
    shared::IDLE,
];

const LISTEN: &[Key] = &[works(
    "broker.port",
    PORT,
    "20881",
    "UDP port of the native protocol (QUIC)",
)];

const MEMBER: &[Key] = &[
    differs(
        works(
            "meta.server.endpoint",
            Kind::Urls,
            "",
            "where the meta servers' HTTP says their addresses; empty: this broker stands alone",
        ),
        "required in QMQ; here a broker without it stands alone",
    ),
    works(
        "broker.role",
        Kind::Word(&["master", "slave"]),
        "",
        "what this broker is in its group when it registers itself; empty: what the meta servers' table says",
    ),
    works(
        "sync.port",
        PORT,
        "20882",
        "port for slaves that it registers with the meta servers; nothing listens on it yet",
    ),
];

/// Subjects, consumers and producers.
const DELIVERY: &[Key] = &[
    differs(
        works(
            "log.expired.delete.enable",
            BOOL,
            "true",
            "false: messages are kept whatever their age",
        ),
        "the guides list it for the broker, as dynamic; QMQ's broker does not read it and deletes always; here it works, from the next start",
    ),
    dynamic(
        "subject.auto.create",
        BOOL,
        "true",
        "whether the first message to an unknown subject creates it",
    ),
    dynamic(
        "message.retry.delay.seconds",
        seconds(0, 86_400),
        "5",
        "how long a refused message waits for its next try, unless the consumer says so",
    ),
    works(
        "consumer.session.timeout.ms",
        ms(100, 604_800_000),
        "10000",
        "a consumer whose stream is lost for so long is gone, and its messages go to others",
    ),
    works(
        "consumer.ack.timeout.ms",
        ms(100, 604_800_000),
        "30000",
        "a message neither acknowledged nor renewed for so long is delivered again",
    ),
    works(
        "consumer.nack.max.ms",
        ms(0, 604_800_000),
        "600000",
        "longest delay that a consumer may ask for when it refuses a message",
    ),
    dynamic(
        "consumer.max.attempts",
        integer(1, 1_000_000, "deliveries"),
        "32",
        "deliveries of a message before it goes to the dead-letter subject",
    ),
    works(
        "producer.dedup.window",
        integer(0, 1 << 20, "numbers"),
        "4096",
        "numbers remembered of each producer, to answer a repeated send as the first one; 0: none",
    ),
    works(
        "producer.dedup.producers.max",
        integer(1, 1_000_000, "producers"),
        "10000",
        "producers remembered; beyond it the least recent is forgotten",
    ),
    works(
        "producer.dedup.log.bytes",
        bytes(0, 1 << 40),
        "256M",
        "how much of the end of the log a start reads to remember what was sent before; 0: none, and what is sent again over a restart is stored again",
    ),
    works(
        "drain.ack.ms",
        ms(0, 20_000),
        "10000",
        "how long a stop waits for acks of what is delivered; all of a stop takes 30 s at most",
    ),
    works(
        "metrics.subjects.max",
        integer(0, 1_000_000, "subjects"),
        "1000",
        "subjects with metrics of their own; the others are added up",
    ),
];

/// QMQ's keys from which nothing comes.
const IDLE: &[Key] = &[
    idle(
        "wait.slave.wrote",
        BOOL,
        "false",
        "whether an answer waits for a slave",
        "this broker has no slaves yet, so no answer waits for one; flush.mode says what an answer waits for",
    ),
    idle(
        "slave.message.lag.time.max.seconds",
        seconds(0, 86_400),
        "5",
        "lag from which a slave is late",
        NO_SLAVES,
    ),
    idle(
        "slave.message.lag.mark_readonly",
        BOOL,
        "false",
        "whether a late slave makes its master read-only",
        NO_SLAVES,
    ),
    idle(
        "consumerlog.retention.hours",
        hours(0, 87_600),
        "72",
        "how long the index is kept",
        WITH_MESSAGES,
    ),
    differs(
        idle(
            "pulllog.retention.hours",
            hours(0, 87_600),
            "72",
            "how long the action log is kept",
            WITH_MESSAGES,
        ),
        "the guides call it the pull log's and show it without a value; in QMQ's code the action log is kept by it",
    ),
    idle(
        "smt.retention.hours",
        hours(0, 87_600),
        "72",
        "how long sorted tables are kept",
        WITH_MESSAGES,
    ),
    idle(
        "checkpoint.retain.count",
        integer(0, 10_000, "checkpoints"),
        "5",
        "checkpoints kept",
        "the store keeps the last two, and needs no more",
    ),
    differs(
        idle(
            "message.checkpoint.interval",
            integer(0, u64::MAX, "records"),
            "10000",
            "messages between two checkpoints",
            BY_BYTES,
        ),
        "the guides say 100,000; QMQ's code takes 10,000 without it",
    ),
    differs(
        idle(
            "action.checkpoint.interval",
            integer(0, u64::MAX, "records"),
            "10000",
            "actions between two checkpoints",
            BY_BYTES,
        ),
        "the guides say 100,000 and call it dynamic; QMQ's code takes 10,000 without it, and no change has an effect",
    ),
    idle(
        "consumerlog.v2.enable",
        BOOL,
        "false",
        "second format of the index",
        OTHER_INDEX,
    ),
    idle(
        "smt.enable",
        BOOL,
        "false",
        "sorted tables instead of an index a subject",
        OTHER_INDEX,
    ),
    idle(
        "memtable.max_reserved",
        integer(0, 10_000, "tables"),
        "2",
        "spare tables in memory",
        OTHER_INDEX,
    ),
    idle(
        "memtable.max_active",
        integer(0, 10_000, "tables"),
        "4",
        "tables in memory",
        OTHER_INDEX,
    ),
    idle(
        "log_dispatcher.pause.millis",
        ms(0, 60_000),
        "5",
        "pause of the indexing thread",
        "messages are indexed as they are written, without a thread that pauses",
    ),
    idle(
        "receive.queue.size",
        integer(0, u64::MAX, "requests"),
        "50000",
        "requests that may wait to be written",
        "memory.produce.bytes bounds what waits, by its bytes",
    ),
    idle(
        "Receiver.RejectIllegalSubject",
        BOOL,
        "true",
        "whether names with slashes or white space are refused",
        "such names are always refused",
    ),
    idle(
        "put_need_retry_message.limiter",
        integer(0, 1_000_000, "messages a second"),
        "50",
        "retries written a second for each group",
        "a retry is a record of the group and copies no message, so it needs no limit",
    ),
    idle(
        "PullMessageProcessor.AllowNonPositiveRequestNum",
        BOOL,
        "false",
        "whether a pull may ask for no messages",
        "a pull says how many messages it can take, at least one",
    ),
    idle(
        "ConsumerStatusChecker.SkipCheckDuringOffline",
        BOOL,
        "true",
        "whether consumers are checked while the broker goes offline",
        "consumers are declared gone by consumer.session.timeout.ms alone",
    ),
    idle(
        "sub_env_isolation_filter.enable",
        BOOL,
        "false",
        "delivery by environment",
        NO_ENVIRONMENTS,
    ),
    idle(
        "sub_env_isolation_filter.rules_url",
        text(4096),
        "",
        "rules of delivery by environment",
        NO_ENVIRONMENTS,
    ),
];

const WITH_MESSAGES: &str = "it goes with its messages, by messagelog.retention.hours";
const BY_BYTES: &str = "checkpoints are taken by bytes written";
const OTHER_INDEX: &str = "the store has one index for all subjects, and no choice of format";
const NO_ENVIRONMENTS: &str =
    "there is no delivery by environment; use a subject or a tag for each";
