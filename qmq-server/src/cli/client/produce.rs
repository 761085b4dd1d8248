//! `qmq produce`: lines in, messages out.

use std::io::{self, BufRead, BufReader, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::ValueEnum;
use indicatif::ProgressBar;
use qmq_client::{Durability, Message, Producer, Report, SendError, Sent};
use qmq_store::message::check_subject;
use serde::Serialize;
use tokio::sync::mpsc;

use super::ClientArgs;
use super::signals::Stop;
use crate::cli::delay::due::Due;
use crate::cli::duration::duration;
use crate::cli::failure::{Failure, complain};
use crate::cli::lines::{Line, Lines};
use crate::cli::output::{self, Output, count, note, rate};
use crate::cli::progress;

/// Longest line that is read; the broker may allow less.
const BODY_MAX: usize = 64 << 20;
/// Messages sent and not yet reported.
const UNREPORTED_MAX: usize = 10_000;
/// Bytes of messages sent and not yet answered.
const QUEUE_BYTES: u32 = 64 << 20;
/// So many refused messages are named; the others are counted.
const NAMED_MAX: u64 = 20;
/// What a full queue may take longer than the messages in it.
const QUEUE_GRACE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Each line of standard input is a message, an empty one too. The message is
acknowledged when the broker has it at the durability that was asked for. What
is refused is named with the number of its line; the others go on, and the exit
code is 1 at the end. With --json each acknowledged message is a line with
`line`, `subject`, `sequence` and `broker`, in the order of the input; of a
delayed one also `delayed`, by which `qmq delayed` knows it.

Examples:
  echo hello | qmq produce greetings
  qmq produce greetings --body 'hello, world'
  echo wake up | qmq produce reminder --delay 90s --json
  tail -f access.log | qmq produce access --tag web --durability buffered
  seq 100000 | qmq produce numbers --ordered --json | tail -n 1";

/// Arguments of `qmq produce`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Subject to send to
    subject: String,
    /// Send this one message, and read nothing
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// A tag of each message; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A property of each message; may be given several times
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Give each message an id: this and the number of its line
    #[arg(long, value_name = "TEXT")]
    id_prefix: Option<String>,
    /// What a message survives once it is acknowledged [default: what the broker is configured for]
    #[arg(long, value_enum)]
    durability: Option<Level>,
    /// Send all to one broker in the order of the input, and none after a gap
    #[arg(long)]
    ordered: bool,
    /// Deliver each message so long after it was read: 90s, 2h; a delay server keeps it until then
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Deliver the messages at this time: 2030-01-01T09:00:00Z, or +90s from now
    #[arg(long, value_name = "WHEN")]
    at: Option<Due>,
    /// How long a message is tried before it is given up: 10s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Print JSON, one object for each acknowledged message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What a message survives once it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// The death of the broker's process
    Buffered,
    /// A loss of power
    Synced,
    /// The loss of the machine
    Replicated,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Buffered => Self::Buffered,
            Level::Synced => Self::Synced,
            Level::Replicated => Self::Replicated,
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no property; write it as KEY=VALUE")),
    }
}

#[derive(Serialize)]
struct Acknowledged<'a> {
    line: u64,
    subject: &'a str,
    sequence: u64,
    broker: &'a str,
    /// By what a delayed message is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<String>,
}

/// Sends until the input ends.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check_subject(&args.subject)
        .map_err(|e| Failure::usage(e.to_string(), "give another subject"))?;
    args.message(1, Bytes::new())
        .check()
        .map_err(|e| Failure::usage(e.to_string(), "`qmq produce --help` shows how"))?;
    let settings = args.client.settings()?;
    let runtime = super::runtime()?;
    let sent = runtime.block_on(async {
        let mut stop = Stop::listen()?;
        let client = settings.connect().await?;
        let producer = args.producer(&client)?;
        let sent = send(args, &producer, &mut stop).await;
        client.close().await;
        sent
    });
    // A thread that still waits for input does not hold up the end.
    runtime.shutdown_background();
    sent
}

impl Args {
    fn producer(&self, client: &qmq_client::Client) -> Result<Producer, Failure> {
        let wait = (self.timeout + QUEUE_GRACE).min(Duration::from_secs(600));
        let mut producer =
            client
                .producer()
                .delivery_timeout(self.timeout)
                .queue(10_000, QUEUE_BYTES, wait);
        if let Some(level) = self.durability {
            producer = producer.durability(level.into());
        }
        if self.ordered {
            producer = producer.ordered();
        }
        producer
            .build()
            .map_err(|e| Failure::usage(e.to_string(), "give another --timeout"))
    }

    fn message(&self, line: u64, body: Bytes) -> Message {
        let mut message = Message::new(self.subject.as_str(), body);
        for tag in &self.tags {
            message = message.tag(tag.as_str());
        }
        for (key, value) in &self.properties {
            message = message.property(key.as_str(), value.as_str());
        }
        match &self.id_prefix {
            Some(prefix) => message.with_id(format!("{prefix}{line}")),
            None => message,
        }
    }
}

/// A line that is on its way, or why it is not.
enum Begun {
    Sent(u64, Sent),
    Refused(u64, String),
    /// The input cannot be read.
    Broken(io::Error),
}

/// Counts and tells what became of the lines.
struct Reporter<'a> {
    args: &'a Args,
    out: Output,
    bar: ProgressBar,
    acknowledged: u64,
    refused: u64,
}

async fn send(args: &Args, producer: &Producer, stop: &mut Stop) -> Result<(), Failure> {
    let began = Instant::now();
    let (tell, mut told) = mpsc::channel(UNREPORTED_MAX);
    let end = Arc::new(AtomicBool::new(false));
    begin(args, producer, tell, &end);
    let mut reporter = Reporter {
        args,
        out: Output::new(),
        bar: if args.body.is_some() {
            ProgressBar::hidden()
        } else {
            progress::running("messages sent")
        },
        acknowledged: 0,
        refused: 0,
    };
    let mut broken = Ok(());
    loop {
        let next = match told.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                reporter.out.flush()?;
                tokio::select! {
                    next = told.recv() => next,
                    () = stop.asked(), if !end.load(Ordering::Relaxed) => {
                        end.store(true, Ordering::Relaxed);
                        told.close();
                        continue;
                    }
                }
            }
        };
        match next {
            None => break,
            Some(Begun::Sent(line, sent)) => {
                let outcome = sent.await;
                reporter.take(line, outcome)?;
            }
            Some(Begun::Refused(line, why)) => reporter.refuse(line, &why),
            Some(Begun::Broken(error)) => {
                broken = Err(Failure::of(
                    "cannot read standard input",
                    &error,
                    "what was acknowledged is stored",
                ));
            }
        }
        if stop.is_asked() && !end.swap(true, Ordering::Relaxed) {
            told.close();
        }
    }
    reporter.out.flush()?;
    reporter.bar.finish_and_clear();
    reporter.summary(began.elapsed());
    broken?;
    if reporter.refused > 0 {
        return Err(Failure::Reported);
    }
    Ok(())
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Sends the one message, or starts to send lines on a thread of their own, since reading them blocks.
fn begin(args: &Args, producer: &Producer, tell: mpsc::Sender<Begun>, end: &Arc<AtomicBool>) {
    let producer = producer.clone();
    let blank = args.message(0, Bytes::new());
    let prefix = args.id_prefix.clone();
    let at_ms = args.at.map(|at| at.ms(now_ms()));
    let delay_ms = args
        .delay
        .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    let message = move |line: u64, body: Bytes| {
        let mut message = blank.clone().with_body(body);
        let due = at_ms.or_else(|| delay_ms.map(|delay| now_ms().saturating_add(delay)));
        if let Some(due) = due {
            message = message.with_due_time_ms(due);
        }
        match &prefix {
            Some(prefix) => message.with_id(format!("{prefix}{line}")),
            None => message,
        }
    };
    if let Some(body) = args.body.clone() {
        tokio::spawn(async move {
            let sent = producer.queue(message(1, body.into())).await;
            let _ = tell.send(begun(1, sent)).await;
        });
        return;
    }
    if io::stdin().is_terminal() {
        note("each line is a message; Ctrl-D ends");
    }
    let (end, runtime) = (Arc::clone(end), tokio::runtime::Handle::current());
    std::thread::spawn(move || {
        let input = BufReader::with_capacity(256 << 10, io::stdin().lock());
        runtime.block_on(send_lines(input, &producer, &tell, &end, message));
    });
}

async fn send_lines(
    input: impl BufRead,
    producer: &Producer,
    tell: &mpsc::Sender<Begun>,
    end: &AtomicBool,
    message: impl Fn(u64, Bytes) -> Message,
) {
    let mut lines = Lines::new(input, BODY_MAX);
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let begun = match lines.next() {
            Ok(Line::End) => return,
            Ok(Line::Whole(body)) => begun(number, producer.queue(message(number, body)).await),
            Ok(Line::TooLong(bytes)) => Begun::Refused(
                number,
                format!("{bytes} bytes, and a line takes {BODY_MAX}; split it"),
            ),
            Err(error) => Begun::Broken(error),
        };
        let broken = matches!(begun, Begun::Broken(_));
        if tell.send(begun).await.is_err() || broken {
            return;
        }
    }
}

fn begun(line: u64, sent: Result<Sent, SendError>) -> Begun {
    match sent {
        Ok(sent) => Begun::Sent(line, sent),
        Err(error) => Begun::Refused(line, why(&error)),
    }
}

/// The subject is known; what is left is the cause.
fn why(error: &SendError) -> String {
    let stored = if error.may_be_stored {
        "; it may be stored all the same"
    } else {
        ""
    };
    format!("{}{stored}", error.cause)
}

impl Reporter<'_> {
    fn take(&mut self, line: u64, outcome: Result<Report, SendError>) -> Result<(), Failure> {
        match outcome {
            Ok(report) => {
                self.acknowledged += 1;
                self.bar.set_position(self.acknowledged);
                if self.args.json {
                    self.out.json(&Acknowledged {
                        line,
                        subject: &self.args.subject,
                        sequence: report.sequence,
                        broker: &report.broker,
                        delayed: report.delay.map(|delayed| delayed.to_string()),
                    })?;
                }
            }
            Err(error) => self.refuse(line, &why(&error)),
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, why: &str) {
        self.refused += 1;
        if self.refused > NAMED_MAX {
            return;
        }
        self.bar.suspend(|| match &self.args.body {
            Some(_) => complain(why),
            None => complain(&format!("line {line}: {why}")),
        });
    }

    fn summary(&self, took: Duration) {
        if self.refused > NAMED_MAX {
            let more = count(self.refused - NAMED_MAX);
            complain(&format!("{more} more messages were refused"));
        }
        let messages = if self.acknowledged == 1 {
            "message"
        } else {
            "messages"
        };
        let mut text = format!(
            "{} {messages} to {} in {}, {} a second",
            count(self.acknowledged),
            self.args.subject,
            output::duration(took),
            rate(self.acknowledged as f64 / took.as_secs_f64()),
        );
        if self.refused > 0 {
            text.push_str(&format!("; {} refused", count(self.refused)));
        }
        note(&text);
    }
}
