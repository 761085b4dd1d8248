//! `qmq delayed`: messages that wait in delay servers, over the network.

use std::time::{SystemTime, UNIX_EPOCH};

use qmq_client::{
    AdminError, Client, DeadLetter, DelayAdmin, DelayOutcome, Delayed, DelayedMessage,
};
use serde::Serialize;

use super::ClientArgs;
use crate::cli::delay::due::Due;
use crate::cli::failure::{Failure, complain};
use crate::cli::output::{Output, rfc3339};

/// Shown by `qmq delayed --help`.
pub(crate) const EXAMPLES: &str = "\
A delayed message is known as GROUP/ID: the group of its delay server, and its
id. `qmq produce --delay 10m --json` prints it. A GROUP is the name of a delay
server's group, or the host:port of a delay server.

These commands ask delay servers that run. `qmq delay list` and its like work on
a folder that no server has.

Examples:
  echo wake up | qmq produce reminder --delay 90s --json
  qmq delayed list delay-1 --subject reminder
  qmq delayed cancel delay-1/0006a1f300000000d2f0000000014b3c
  qmq delayed reschedule delay-1/0006a1f300000000d2f0000000014b3c --due +1h
  qmq delayed dead-letters delay-1
  qmq delayed retry delay-1 1800000000123";

/// Most messages or letters of one question.
const PAGE: u32 = 1_000;

/// What can be asked.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what waits, in the order of the due times
    List(List),
    /// Show one message
    Get(Get),
    /// Keep messages from being delivered
    Cancel(Cancel),
    /// Deliver a message at another time
    Reschedule(Reschedule),
    /// Show what brokers refused for good
    DeadLetters(Letters),
    /// Deliver dead letters after all
    Retry(Numbers),
    /// Forget dead letters
    Drop(Numbers),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Group of delay servers, or host:port of one
    group: String,
    /// Only this subject
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// Most messages
    #[arg(long, default_value_t = 100)]
    count: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Message, as GROUP/ID
    message: Delayed,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// Messages, each as GROUP/ID
    #[arg(required = true)]
    messages: Vec<Delayed>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reschedule {
    /// Message, as GROUP/ID
    message: Delayed,
    /// When: +90s, or a time (RFC 3339)
    #[arg(long, value_name = "WHEN")]
    due: Due,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Letters {
    /// Group of delay servers, or host:port of one
    group: String,
    /// Most letters
    #[arg(long, default_value_t = 100)]
    count: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Numbers {
    /// Group of delay servers, or host:port of one
    group: String,
    /// Numbers of dead letters, as `dead-letters` shows them
    #[arg(required_unless_present = "all")]
    numbers: Vec<u64>,
    /// All dead letters
    #[arg(long, conflicts_with = "numbers")]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let common = match command {
        Command::List(args) => &args.common,
        Command::Get(args) => &args.common,
        Command::Cancel(args) => &args.common,
        Command::Reschedule(args) => &args.common,
        Command::DeadLetters(args) => &args.common,
        Command::Retry(args) | Command::Drop(args) => &args.common,
    };
    let settings = common.client.settings()?;
    super::runtime()?.block_on(async {
        let client = settings.connect().await?;
        let done = ask(&client, command, common.json).await;
        client.close().await;
        done
    })
}

async fn ask(client: &Client, command: &Command, json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    match command {
        Command::List(args) => list(&client.delay(&args.group), args, &mut out).await?,
        Command::Get(args) => {
            let admin = client.delay(&args.message.group);
            let found = admin
                .get(args.message.id)
                .await
                .map_err(|error| failed(&error))?;
            let Some(found) = found else {
                return Err(Failure::new(
                    format!("no message {} waits there", args.message),
                    "it has been delivered or cancelled, or is another server's",
                ));
            };
            show(&mut out, &args.message.group, &found, json)?;
        }
        Command::Cancel(args) => {
            let mut all_done = true;
            for message in &args.messages {
                let admin = client.delay(&message.group);
                let outcome = admin
                    .cancel(message.id)
                    .await
                    .map_err(|error| failed(&error))?;
                all_done &= changed(&mut out, message, outcome, json)?;
            }
            out.flush()?;
            return if all_done {
                Ok(())
            } else {
                Err(Failure::Reported)
            };
        }
        Command::Reschedule(args) => {
            let admin = client.delay(&args.message.group);
            let due_ms = args.due.ms(now_ms());
            let outcome = admin.reschedule(args.message.id, due_ms).await;
            let done = changed(
                &mut out,
                &args.message,
                outcome.map_err(|error| failed(&error))?,
                json,
            )?;
            out.flush()?;
            return if done { Ok(()) } else { Err(Failure::Reported) };
        }
        Command::DeadLetters(args) => letters(&client.delay(&args.group), args, &mut out).await?,
        Command::Retry(args) => {
            let admin = client.delay(&args.group);
            let done = admin
                .retry_dead_letters(&args.numbers)
                .await
                .map_err(|error| failed(&error))?;
            counted(&mut out, "delivered again", done, json)?;
        }
        Command::Drop(args) => {
            let admin = client.delay(&args.group);
            let done = admin
                .drop_dead_letters(&args.numbers)
                .await
                .map_err(|error| failed(&error))?;
            counted(&mut out, "dropped", done, json)?;
        }
    }
    out.flush()
}

async fn list(admin: &DelayAdmin, args: &List, out: &mut Output) -> Result<(), Failure> {
    let (mut left, mut after) = (args.count, Vec::new());
    while left > 0 {
        let most = left.min(u64::from(PAGE)) as u32;
        let page = admin.list(&args.subject, 0, &after, most).await;
        let page = page.map_err(|error| failed(&error))?;
        for one in &page.messages {
            show(out, &args.group, one, args.common.json)?;
        }
        left = left.saturating_sub(page.messages.len() as u64);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn letters(admin: &DelayAdmin, args: &Letters, out: &mut Output) -> Result<(), Failure> {
    let (mut left, mut after) = (args.count, 0);
    while left > 0 {
        let most = left.min(u64::from(PAGE)) as u32;
        let page = admin
            .dead_letters(after, most)
            .await
            .map_err(|error| failed(&error))?;
        let Some(last) = page.letters.last() else {
            break;
        };
        after = last.number;
        for one in &page.letters {
            letter(out, one, args.common.json)?;
        }
        left = left.saturating_sub(page.letters.len() as u64);
    }
    Ok(())
}

#[derive(Serialize)]
struct Line<'a> {
    message: String,
    subject: &'a str,
    due_ms: u64,
    body_bytes: u32,
    standing: &'a str,
}

fn show(out: &mut Output, group: &str, one: &DelayedMessage, json: bool) -> Result<(), Failure> {
    let message = Delayed {
        group: group.to_owned(),
        id: one.id,
    };
    if json {
        return out.json(&Line {
            message: message.to_string(),
            subject: &one.subject,
            due_ms: one.due_ms,
            body_bytes: one.body_bytes,
            standing: &one.standing,
        });
    }
    out.line(format!(
        "{message}\t{}\t{}\t{} bytes\t{}",
        rfc3339(one.due_ms),
        one.subject,
        one.body_bytes,
        one.standing
    ))
}

#[derive(Serialize)]
struct LetterLine<'a> {
    number: u64,
    subject: &'a str,
    due_ms: u64,
    refused_ms: u64,
    reason: &'a str,
}

fn letter(out: &mut Output, one: &DeadLetter, json: bool) -> Result<(), Failure> {
    if json {
        return out.json(&LetterLine {
            number: one.number,
            subject: &one.subject,
            due_ms: one.due_ms,
            refused_ms: one.refused_ms,
            reason: &one.reason,
        });
    }
    out.line(format!(
        "{}\t{}\t{}\t{}",
        one.number,
        rfc3339(one.refused_ms),
        one.subject,
        one.reason
    ))
}

#[derive(Serialize)]
struct Changed<'a> {
    message: String,
    outcome: &'a str,
}

/// Whether it is as it was asked for.
fn changed(
    out: &mut Output,
    message: &Delayed,
    outcome: DelayOutcome,
    json: bool,
) -> Result<bool, Failure> {
    let (word, why) = match outcome {
        DelayOutcome::Done => ("done", ""),
        DelayOutcome::Fired => ("fired", "it has been handed out already"),
        DelayOutcome::Cancelled => ("cancelled", "it has been cancelled before"),
        DelayOutcome::Unknown => ("unknown", "no such message waits there"),
    };
    let done = outcome == DelayOutcome::Done;
    if json {
        out.json(&Changed {
            message: message.to_string(),
            outcome: word,
        })?;
    } else if done {
        out.line(format!("{message}\t{word}"))?;
    }
    if !done {
        complain(&format!("{message}: {why}"));
    }
    Ok(done)
}

#[derive(Serialize)]
struct Counted {
    letters: u64,
}

fn counted(out: &mut Output, what: &str, letters: u64, json: bool) -> Result<(), Failure> {
    match json {
        true => out.json(&Counted { letters }),
        false => out.line(format!("{letters} {what}")),
    }
}

fn failed(error: &AdminError) -> Failure {
    Failure::of(
        "the delay server did not do it",
        error,
        "`qmq delayed --help` shows what to type",
    )
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
