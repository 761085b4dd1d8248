//! `qmq consume`: messages in, lines out.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qmq_client::{ConsumeError, Consumer, Received, SettleError, Subscription, TagFilter};
use qmq_store::message::{check_consumer, check_group, check_subject};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::connect::Connected;
use super::place::Place;
use super::signals::Stop;
use super::{ClientArgs, Settings};
use crate::cli::duration::positive;
use crate::cli::failure::{Failure, complain};
use crate::cli::output::{Body, Output, count, note};

/// Messages written before the reader gets them and the broker hears of them.
const GROUP_MAX: usize = 256;
/// Bytes of bodies written before the same.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Acknowledgements that the broker has not confirmed.
const UNCONFIRMED_MAX: usize = 10_000;
/// Most messages that the broker sends ahead.
const WINDOW: u32 = 1_000;
/// Most bytes of them.
const WINDOW_BYTES: u64 = 16 << 20;
/// How long the end waits for the broker to confirm acknowledgements.
const CONFIRM_MAX: Duration = Duration::from_secs(5);
/// How long closing waits for messages that will not be acknowledged: they go back.
const CLOSE_MAX: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Prints the body of each message as a line; with --json an object with `subject`,
`sequence`, `broker`, `attempt`, `time_ms`, `create_time_ms`, `id`, `tags`,
`properties` and `body` (`body_hex` if it is no text).

A message is acknowledged once its line has been handed to whoever reads the
output. What was not handed over goes back, and somebody gets it again. Ctrl-C
ends in order, a second one at once.

--from says where a group begins that is new on the subject; one that is not
goes on where it was. `qmq group reset` moves it.

Examples:
  qmq consume greetings --group me
  qmq consume order.changed --group audit --tag paid --tag refunded --json
  qmq consume access --group errors-today --from -1h --timeout 5s | grep ' 500 '
  qmq consume config --group all-hosts --broadcast --consumer host-1";

/// Arguments of `qmq consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Subject to consume
    subject: String,
    /// Group whose consumers share the messages
    #[arg(long)]
    group: String,
    /// Only messages with this tag; if given several times, with any of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only messages that have all tags given
    #[arg(long, requires = "tags")]
    every_tag: bool,
    /// Each consumer of the group gets each message
    #[arg(long)]
    broadcast: bool,
    /// A message counts as acknowledged when the broker hands it out
    #[arg(long)]
    at_most_once: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Where a new group begins: earliest, latest, a sequence, a time (RFC 3339), or -1h for an hour ago
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    from: Place,
    /// End when nothing came for so long: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = positive)]
    timeout: Option<Duration>,
    /// Name of this consumer in the group [default: consumer.id of client.properties, else made from host and process]
    #[arg(long, value_name = "ID")]
    consumer: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Serialize)]
struct Line<'a> {
    subject: &'a str,
    sequence: u64,
    broker: &'a str,
    attempt: u32,
    time_ms: u64,
    create_time_ms: Option<u64>,
    id: Option<&'a str>,
    tags: Vec<&'a str>,
    properties: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Consumes until the end that was asked for.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check_subject(&args.subject)
        .map_err(|e| Failure::usage(e.to_string(), "give another subject"))?;
    check_group(&args.group).map_err(|e| Failure::usage(e.to_string(), "give another --group"))?;
    args.filter()
        .check()
        .map_err(|e| Failure::usage(e.to_string(), "give another --tag"))?;
    let settings = args.client.settings()?;
    let name = args.name(&settings)?;
    super::runtime()?.block_on(async {
        let stop = Stop::listen()?;
        let client = settings.connect().await?;
        let consumer = client
            .subscribe(args.subscription(name))
            .map_err(|e| Failure::usage(e.to_string(), "`qmq consume --help` shows how"))?;
        let consumed = consume(args, &client, consumer, stop).await;
        client.close().await;
        consumed
    })
}

impl Args {
    fn filter(&self) -> TagFilter {
        let tags = self.tags.clone();
        match (self.tags.is_empty(), self.every_tag) {
            (true, _) => TagFilter::All,
            (false, true) => TagFilter::Every(tags),
            (false, false) => TagFilter::Any(tags),
        }
    }

    fn name(&self, settings: &Settings) -> Result<String, Failure> {
        let given = self
            .consumer
            .as_ref()
            .or(settings.config.consumer_id.as_ref());
        let name = given.cloned().unwrap_or_else(own_name);
        check_consumer(&name)
            .map_err(|e| Failure::usage(e.to_string(), "give another --consumer"))?;
        Ok(name)
    }

    fn subscription(&self, name: String) -> Subscription {
        let window = self.count.map_or(WINDOW, |count| {
            u32::try_from(count).unwrap_or(WINDOW).min(WINDOW)
        });
        Subscription::new(&self.subject, &self.group)
            .consumer_id(name)
            .tags(self.filter())
            .broadcast(self.broadcast)
            .at_most_once(self.at_most_once)
            .start(self.from.start())
            .window(window, WINDOW_BYTES)
            .close_timeout(CLOSE_MAX)
    }
}

/// From host, process and time: two containers may share the first two.
fn own_name() -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis() & 0xff_ffff;
    let name = format!("{host}-{}-{ms:06x}", std::process::id());
    if check_consumer(&name).is_ok() {
        name
    } else {
        format!("{}-{ms:06x}", std::process::id())
    }
}

/// Why no more messages are taken.
enum Reason {
    Asked,
    Silence,
    Ended(ConsumeError),
}

/// Writes, acknowledges, counts.
struct Writer<'a> {
    args: &'a Args,
    out: Output,
    unconfirmed: JoinSet<Result<(), (u64, SettleError)>>,
    written: u64,
    damaged: u64,
    unconfirmed_ever: u64,
}

async fn consume(
    args: &Args,
    client: &Connected,
    mut consumer: Consumer,
    mut stop: Stop,
) -> Result<(), Failure> {
    let mut writer = Writer {
        args,
        out: Output::new(),
        unconfirmed: JoinSet::new(),
        written: 0,
        damaged: 0,
        unconfirmed_ever: 0,
    };
    let mut failed = Ok(());
    let mut group = Vec::new();
    while args.count.is_none_or(|count| writer.written < count) {
        let left = args.count.map_or(u64::MAX, |count| count - writer.written);
        let most = usize::try_from(left).unwrap_or(GROUP_MAX).min(GROUP_MAX);
        let end = take(&mut consumer, &mut group, most, args.timeout, &mut stop).await;
        if let Err(error) = writer.write(&mut group).await {
            // What is in the group stays unacknowledged, and goes back when the consumer closes.
            failed = Err(error);
            break;
        }
        match end {
            None => {}
            Some(Reason::Silence) if !client.is_connected() => {
                let what = format!(
                    "no broker is connected, so nobody knows whether {} has more",
                    args.subject
                );
                failed = Err(Failure::new(what, "try again when one is back"));
                break;
            }
            Some(Reason::Asked | Reason::Silence) => break,
            Some(Reason::Ended(error)) => {
                let next = match error {
                    ConsumeError::Fenced { .. } => "give another --consumer",
                    _ => "`qmq status` shows groups and subjects",
                };
                failed = Err(Failure::of("cannot consume", &error, next));
                break;
            }
        }
    }
    writer.confirm_all().await;
    let _ = consumer.close().await;
    drop(group);
    failed?;
    note(&format!(
        "{} message{} of {}",
        count(writer.written),
        if writer.written == 1 { "" } else { "s" },
        args.subject
    ));
    if writer.damaged > 0 || writer.unconfirmed_ever > 0 {
        return Err(Failure::Reported);
    }
    Ok(())
}

/// Waits for a message, and takes what else is there.
async fn take(
    consumer: &mut Consumer,
    group: &mut Vec<Received>,
    most: usize,
    silence: Option<Duration>,
    stop: &mut Stop,
) -> Option<Reason> {
    let silent = async {
        match silence.and_then(|silence| Instant::now().checked_add(silence)) {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    let mut next = tokio::select! {
        biased;
        () = stop.asked() => return Some(Reason::Asked),
        next = consumer.next() => next,
        () = silent => return Some(Reason::Silence),
    };
    let mut bytes = 0;
    loop {
        match next {
            Ok(received) => {
                bytes += received.body().len();
                group.push(received);
            }
            Err(error) => return Some(Reason::Ended(error)),
        }
        if group.len() >= most || bytes >= GROUP_BYTES_MAX {
            return None;
        }
        next = tokio::select! {
            biased;
            next = consumer.next() => next,
            () = std::future::ready(()) => return None,
        };
    }
}

impl Writer<'_> {
    /// Hands the messages to the reader, and then acknowledges them. If it fails, they are still in the group.
    async fn write(&mut self, group: &mut Vec<Received>) -> Result<(), Failure> {
        for received in group.iter().filter(|received| !received.is_damaged()) {
            if self.args.json {
                self.out.json(&line(received))?;
            } else {
                self.out.line(received.body())?;
            }
        }
        self.out.flush()?;
        for received in group.drain(..) {
            let (subject, sequence) = (received.subject(), received.sequence());
            if received.is_damaged() {
                complain(&format!(
                    "{subject} {sequence} is damaged on {}; it is not acknowledged",
                    received.broker()
                ));
                self.damaged += 1;
                continue;
            }
            self.written += 1;
            self.unconfirmed.spawn(async move {
                let acknowledged = received.ack().await;
                acknowledged.map_err(|error| (sequence, error))
            });
        }
        while let Some(confirmed) = self.unconfirmed.try_join_next() {
            self.confirmed(confirmed.unwrap_or(Ok(())));
        }
        while self.unconfirmed.len() >= UNCONFIRMED_MAX
            && let Some(confirmed) = self.unconfirmed.join_next().await
        {
            self.confirmed(confirmed.unwrap_or(Ok(())));
        }
        Ok(())
    }

    fn confirmed(&mut self, outcome: Result<(), (u64, SettleError)>) {
        if let Err((sequence, error)) = outcome {
            complain(&format!("{} {sequence}: {error}", self.args.subject));
            self.unconfirmed_ever += 1;
        }
    }

    async fn confirm_all(&mut self) {
        let until = Instant::now() + CONFIRM_MAX;
        while !self.unconfirmed.is_empty() {
            tokio::select! {
                confirmed = self.unconfirmed.join_next() => {
                    self.confirmed(confirmed.and_then(Result::ok).unwrap_or(Ok(())));
                }
                () = sleep_until(until) => {
                    let left = self.unconfirmed.len();
                    complain(&format!(
                        "the broker has not confirmed {left} acknowledgements; those messages may come again"
                    ));
                    self.unconfirmed_ever += left as u64;
                    return;
                }
            }
        }
    }
}

fn line(received: &Received) -> Line<'_> {
    let attributes = received.attributes();
    Line {
        subject: received.subject(),
        sequence: received.sequence(),
        broker: received.broker(),
        attempt: received.attempt(),
        time_ms: received.record_time_ms(),
        create_time_ms: attributes.create_time_ms(),
        id: attributes.id(),
        tags: attributes.tags().collect(),
        properties: attributes.properties().collect(),
        body: received.body().as_ref().into(),
    }
}
