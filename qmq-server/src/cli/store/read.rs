//! `qmq store read`: a subject's messages, also as another process writes them.

use std::path::PathBuf;
use std::time::Duration;

use qmq_store::message::check_subject;
use qmq_store::{Error, MessageView, Options, ReadOnlyStore, Records, Store};
use serde::Serialize;

use crate::cli::failure::{Failure, complain};
use crate::cli::files;
use crate::cli::output::{Body, Output};

/// Messages read at once.
const READ_MAX: usize = 1_000;

/// How long a follower waits at a time.
const WAIT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Prints the body of each message as a line; with --json an object with
`subject`, `sequence`, `offset`, `time_ms`, `create_time_ms`, `id`, `tags` and
`body` (`body_hex` if it is no text). A damaged message is an error on standard
error, the others are printed, and the exit code is 1 at the end.

Reading needs no lock: it works while another process writes.

Examples:
  qmq store read --dir data --subject numbers
  qmq store read --dir data --subject numbers --from 1000 | head
  qmq store read --dir data --subject numbers --follow --json";

const NEXT: &str = "`qmq store inspect --dir` shows what is there";

/// Arguments of `qmq store read`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder
    #[arg(long)]
    dir: PathBuf,
    /// Subject to read
    #[arg(long)]
    subject: String,
    /// Sequence to begin with; the oldest message kept, if that is later
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Go on with messages as they come, until stopped
    #[arg(long)]
    follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    subject: &'a str,
    sequence: u64,
    offset: u64,
    time_ms: u64,
    create_time_ms: Option<u64>,
    id: Option<&'a str>,
    tags: Vec<&'a str>,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Prints and, if asked, follows.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check_subject(&args.subject)
        .map_err(|e| Failure::usage(e.to_string(), "give another --subject"))?;
    let mut reader = Reader {
        args,
        out: Output::new(),
        next: args.from,
        damaged: 0,
    };
    let mut store = open(args)?;
    loop {
        reader.read_on(&store)?;
        if !args.follow {
            break;
        }
        match store.wait(WAIT) {
            Ok(_) => {}
            Err(Error::WriterRestarted { .. }) => store = open(args)?,
            Err(e) => return Err(failed(args, &e)),
        }
    }
    if reader.damaged > 0 {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

fn open(args: &Args) -> Result<ReadOnlyStore, Failure> {
    let dir = files::existing(&args.dir)?;
    Store::open_read_only(dir, &Options::default()).map_err(|e| {
        Failure::of(
            format_args!("cannot open the store in {}", dir.display()),
            &e,
            NEXT,
        )
    })
}

fn failed(args: &Args, error: &Error) -> Failure {
    Failure::of(
        format_args!("cannot read {} in {}", args.subject, args.dir.display()),
        error,
        NEXT,
    )
}

struct Reader<'a> {
    args: &'a Args,
    out: Output,
    next: u64,
    damaged: u64,
}

impl Reader<'_> {
    /// Prints everything there is.
    fn read_on(&mut self, store: &ReadOnlyStore) -> Result<(), Failure> {
        loop {
            match store.read(&self.args.subject, self.next, READ_MAX) {
                Ok(messages) if messages.is_empty() => return self.out.flush(),
                Ok(messages) => self.print(&messages)?,
                // Its first message may be still to come.
                Err(Error::UnknownSubject { .. }) if self.args.follow => return Ok(()),
                Err(e) => return Err(failed(self.args, &e)),
            }
        }
    }

    fn print(&mut self, messages: &Records) -> Result<(), Failure> {
        for message in messages.iter() {
            self.next = message.sequence() + 1;
            match message.message() {
                Ok(message) if self.args.json => self.out.json(&line(&message))?,
                Ok(message) => self.out.line(message.body())?,
                Err(damaged) => {
                    complain(&damaged.to_string());
                    self.damaged += 1;
                }
            }
        }
        Ok(())
    }
}

fn line<'a>(message: &MessageView<'a>) -> Line<'a> {
    Line {
        subject: message.subject(),
        sequence: message.sequence(),
        offset: message.offset(),
        time_ms: message.record_time_ms(),
        create_time_ms: message.create_time_ms(),
        id: message.id(),
        tags: message.tags().collect(),
        body: message.body().into(),
    }
}
