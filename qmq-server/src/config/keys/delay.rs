//! The keys of `delay.properties`.

use super::super::key::{Key, Kind};
use super::make::{
    BOOL, PORT, bytes, differs, dynamic, hours, idle, integer, joined, length, ms, required,
    seconds, works,
};
use super::shared::{self, NO_SLAVES};

/// The keys of `delay.properties`, by subject.
pub const DELAY: &[Key] = &joined::<{ length(PARTS) }>(PARTS);

const PARTS: &[&[Key]] = &[
    LISTEN,
    shared::LISTEN,
    MEMBER,
    shared::MEMBER,
    shared::STORE,
    SCHEDULE,
    DISPATCH,
    shared::CONNECTIONS,
    shared::BUDGETS,
    shared::SECURITY,
    IDLE,
    shared::IDLE,
];

const LISTEN: &[Key] = &[differs(
    works(
        "broker.port",
        PORT,
        "20801",
        "UDP port of the native protocol (QUIC)",
    ),
    "the install guide's file has 20881; QMQ's code takes 20801 without it, and so does this program",
)];

const MEMBER: &[Key] = &[
    required(
        "meta.server.endpoint",
        Kind::Urls,
        "where the meta servers' HTTP says their addresses; the routes of the messages that fall due come from there",
    ),
    works(
        "broker.role",
        Kind::Word(&["delay-master", "delay-slave"]),
        "",
        "what this server is in its group when it registers itself; empty: what the meta servers' table says",
    ),
    differs(
        works(
            "sync.port",
            PORT,
            "20802",
            "port for slaves that it registers with the meta servers; nothing listens on it yet",
        ),
        "the install guide's file has 20882; QMQ's code takes 20802 without it, and so does this program",
    ),
];

const SCHEDULE: &[Key] = &[
    differs(
        works(
            "log.expired.delete.enable",
            BOOL,
            "false",
            "false: what has been delivered is kept whatever its age; what is pending is always kept",
        ),
        "the guides' sample says true; QMQ's code takes false without it, and so does this program; QMQ takes a change while it runs, here it counts from the next start",
    ),
    differs(
        works(
            "segment.scale.minute",
            integer(5, 60, "minutes"),
            "60",
            "minutes of due time in one bucket; fixed once there is data",
        ),
        "QMQ allows 5 to 60 and does not start with 5 and 6, which work here; the guide's 5 MB for 10 minutes at 10,000 messages a second is 183 MB by its own formula of 32 bytes a message, of which QMQ's code takes 107; here memory does not follow it",
    ),
    differs(
        works(
            "delay.due.max.days",
            integer(1, 3_653, "days"),
            "730",
            "longest time until a message is due; a longer one is refused",
        ),
        "fixed in QMQ's code at two years, and a later message is delivered early instead of refused",
    ),
];

const DISPATCH: &[Key] = &[
    works(
        "delay.send.batch.size",
        integer(1, 10_000, "messages"),
        "1000",
        "most messages sent to a broker at a time",
    ),
    dynamic(
        "netty.send.message.retry.min.sleep.millis",
        ms(1, 3_600_000),
        "1000",
        "pause after the first failed delivery to a broker group; it doubles with each further one",
    ),
    dynamic(
        "netty.send.message.retry.max.sleep.millis",
        ms(1, 3_600_000),
        "10000",
        "longest pause between deliveries to a broker group that fail",
    ),
    works(
        "delay.dead.letter.max",
        integer(1, 1_000_000, "messages"),
        "100000",
        "messages that a broker refused for good which stay listed",
    ),
];

/// QMQ's keys from which nothing comes.
const IDLE: &[Key] = &[
    differs(
        idle(
            "wait.slave.wrote",
            BOOL,
            "false",
            "whether an answer waits for a slave",
            "this delay server has no slaves yet, so no answer waits for one; flush.mode says what an answer waits for",
        ),
        "the guides' sample says true; QMQ's code takes false without it",
    ),
    idle(
        "dispatch.sync.timeout.ms",
        ms(0, 3_600_000),
        "10",
        "how long the master holds a slave's request for what has been delivered",
        NO_SLAVES,
    ),
    idle(
        "dispatch.log.keep.hour",
        hours(0, 87_600),
        "72",
        "how long it is known what has been delivered",
        "what has been delivered is a bit a message in the index, not a log, and goes with its bucket",
    ),
    idle(
        "schedule.clean.before.dispatch.hour",
        hours(0, 87_600),
        "24",
        "how much longer scheduled messages are kept than it is known what has been delivered",
        "what is pending is kept whatever its age",
    ),
    idle(
        "per.segment.file.size",
        bytes(0, u64::MAX),
        "1G",
        "size of a log segment",
        "store.segment.bytes says it",
    ),
    idle(
        "per.message.size",
        bytes(0, u64::MAX),
        "50M",
        "largest message",
        "message.max.bytes says it",
    ),
    idle(
        "load.in.advance.min",
        integer(0, 1_440, "minutes"),
        "30",
        "how long before its time a bucket is loaded",
        WINDOW,
    ),
    idle(
        "load.blocking.exit.sec",
        seconds(0, 86_400),
        "640",
        "how long before its time a bucket without a file is given up",
        WINDOW,
    ),
    idle(
        "load.segment.delay.min",
        integer(0, 1_440, "minutes"),
        "1",
        "how often buckets are looked for",
        WINDOW,
    ),
    idle(
        "add.wheel.exception.sleep.millis",
        ms(0, 3_600_000),
        "500",
        "pause after an error of the wheel",
        WINDOW,
    ),
    idle(
        "receive.queue.size",
        integer(0, u64::MAX, "requests"),
        "50000",
        "requests that may wait to be written",
        "memory.produce.bytes bounds what waits, by its bytes",
    ),
    differs(
        idle(
            "Receiver.RejectIllegalSubject",
            BOOL,
            "false",
            "whether names with slashes or white space are refused",
            "such names are always refused",
        ),
        "QMQ's broker takes true without it, its delay server false",
    ),
    idle(
        "delay.send.threads",
        integer(0, 10_000, "threads"),
        "1",
        "threads that send to one broker group",
        BY_GROUP,
    ),
    differs(
        idle(
            "delay.send.batch.thread.size",
            integer(0, 10_000, "threads"),
            "4",
            "threads that form batches",
            BY_GROUP,
        ),
        "QMQ listens for changes of it, and nothing comes of them",
    ),
    idle(
        "delay.send.wait.time",
        ms(0, 3_600_000),
        "10",
        "how long the wheel waits for room in the queue of what is due",
        BY_GROUP,
    ),
    idle(
        "delay.send.batch.executor.sleep.min.millis",
        ms(0, 3_600_000),
        "500",
        "pause when that queue is full",
        BY_GROUP,
    ),
    idle(
        "netty.send.message.retry.max.times",
        integer(0, u64::MAX, "tries"),
        "20",
        "tries before the routes are asked for anew",
        FOR_EVER,
    ),
    idle(
        "netty.send.message.retry.without.fallback.max.times",
        integer(0, u64::MAX, "tries"),
        "36000",
        "tries after that, before a message is given up",
        FOR_EVER,
    ),
    idle(
        "netty.send.message.retry.without.fallback.max.sleep.millis",
        ms(0, 86_400_000),
        "30000",
        "longest pause between those",
        "netty.send.message.retry.max.sleep.millis is the longest pause",
    ),
];

const WINDOW: &str = "a window of the near future is in memory, whatever the bucket";
const BY_GROUP: &str = "each broker group has a queue of its own, and none waits for another";
const FOR_EVER: &str = "a message is tried until a broker takes it or refuses it for good";
