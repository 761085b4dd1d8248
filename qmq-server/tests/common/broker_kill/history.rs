//! What was seen, in lines that survive whoever wrote them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Failed;
use crate::sudden::{mix, random};

/// What was done and seen in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u64,
    pub(crate) brokers_killed: u64,
    pub(crate) brokers_terminated: u64,
    pub(crate) producers_killed: u64,
    pub(crate) consumers_killed: u64,
    /// Messages given to a producer.
    pub(crate) sent: u64,
    /// Those answered with a sequence: all were found under it.
    pub(crate) answered: u64,
    /// Those given up by their producer.
    pub(crate) given_up: u64,
    /// Messages in the log: each is there once.
    pub(crate) stored: u64,
    /// Deliveries to consumers.
    pub(crate) received: u64,
    /// Acks that were answered: none of these came again.
    pub(crate) acked: u64,
    /// Came again after a nack, or a message that was dropped.
    pub(crate) again_nacked: u64,
    /// Came again since the consumer's process was killed.
    pub(crate) again_consumer_killed: u64,
    /// Came again since the broker ended before the ack was answered.
    pub(crate) again_broker_ended: u64,
    /// Came again since the ack was refused: the consumer had lost the message before.
    pub(crate) again_ack_refused: u64,
    /// Shown by a consumer that had got it before somebody else acknowledged it under a later attempt.
    pub(crate) shown_late: u64,
    /// Highest attempt.
    pub(crate) attempt_max: u64,
}

/// A process ended otherwise than by finishing.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) who: String,
    /// Before it was told, or killed.
    pub(crate) from: u64,
    /// It is gone; of a broker, the next one serves.
    pub(crate) to: u64,
}

/// The time, in µs since 1970 UTC: the same for all processes.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Given to the producer.
    Sent { id: String },
    /// The broker has it.
    Answered { id: String, sequence: u64 },
    /// Given up.
    GivenUp { id: String, why: String },
    /// A consumer got it; `id` is empty if the body is not what was sent.
    Received {
        sequence: u64,
        attempt: u64,
        id: String,
    },
    /// The consumer asks for an ack.
    Acking { sequence: u64, attempt: u64 },
    /// It lets the message come again.
    Nacking { sequence: u64, attempt: u64 },
    /// An ack was answered.
    Acked { sequence: u64, attempt: u64 },
    /// An ack or nack was answered with an error.
    Refused {
        sequence: u64,
        attempt: u64,
        why: String,
    },
    /// A consumer ended by itself.
    Stopped { why: String },
}

impl Event {
    fn letter(&self) -> char {
        match self {
            Self::Answered { .. } => 'a',
            Self::Received { .. } => 'r',
            _ => '-',
        }
    }
}

/// A line with when and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) time: u64,
    pub(crate) subject: String,
    pub(crate) event: Event,
}

/// A file of lines. Each is written with one call, so a kill leaves whole ones and at most one piece.
#[derive(Debug)]
pub(crate) struct Writer(Mutex<File>);

impl Writer {
    pub(crate) fn create(file: &Path) -> Result<Self, Failed> {
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(Self(Mutex::new(file)))
    }

    pub(crate) fn write(&self, subject: &str, event: Event) {
        let letter = event.letter();
        let mut file = self.0.lock();
        let line = Line {
            time: now(),
            subject: subject.to_owned(),
            event,
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        if file
            .write_all(format!("{letter} {text}\n").as_bytes())
            .is_err()
        {
            // A history with a hole would accuse the innocent.
            std::process::exit(3);
        }
    }
}

/// All whole lines of a file.
pub(crate) fn read(file: &Path) -> Result<Vec<Line>, Failed> {
    let text = std::fs::read_to_string(file)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(|line| {
        let (_, json) = line.split_once(' ').ok_or("an odd line")?;
        Ok(serde_json::from_str(json)?)
    });
    lines.collect()
}

/// The body that belongs to an id: anybody can tell whether it is intact.
pub(crate) fn body(id: &str) -> Vec<u8> {
    let number = id
        .bytes()
        .fold(7, |state, byte| mix(state ^ u64::from(byte)));
    let length = random(number, 0, 1) % 1_000;
    let mut body = format!("{id} ").into_bytes();
    let mut state = number;
    body.extend((0..length).map(|_| {
        state = mix(state);
        b'a' + (state % 26) as u8
    }));
    body
}

/// The id of a body; `None` if it is not intact.
pub(crate) fn id_of(bytes: &[u8]) -> Option<&str> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let id = str::from_utf8(&bytes[..space]).ok()?;
    (body(id) == bytes).then_some(id)
}
