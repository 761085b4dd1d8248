//! `qmq store append`: lines in, sequences out, many under way at a time.

mod printer;
mod room;

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use qmq_store::message::check_subject;
use qmq_store::{Durability, Error, Message, Options, Retention, Store};

use super::Level;
use crate::cli::failure::{Failure, chain, complain};
use crate::cli::lines::{Line, Lines};
use printer::{Outcome, Printer};
use room::{Room, Taken};

/// Each subject has its thread.
const SUBJECTS_MAX: usize = 256;
/// So many lines in a row are refused one by one while the disk is full; the others are counted.
const FULL_SAID_MAX: u64 = 20;
/// Lines appended and not yet printed.
const IN_FLIGHT_MAX: usize = 1_024;
/// Bytes of lines read and not yet appended, of all subjects together.
const BUFFERED_MAX: usize = 16 << 20;

const EXAMPLES: &str = "\
Prints `SUBJECT SEQUENCE` for each line, in order, once the message has the
durability asked for: from then on it survives a kill -9 (buffered) or a loss
of power (synced). A line that is refused is an error on standard error; the
others go on, and the exit code is 1 at the end.

Nothing that is stored already is retired, however old it is, unless
--retention-hours is given.

With several --subject, lines are dealt to them in turn, each subject has its
own thread, and the order of what is printed is kept within each subject.

Examples:
  echo hello | qmq store append --dir data --subject greetings
  seq 100000 | qmq store append --dir data --subject numbers --durability buffered | tail -n 1
  tail -f access.log | qmq store append --dir data --subject access --json";

/// Arguments of `qmq store append`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder; made if there is none
    #[arg(long)]
    dir: PathBuf,
    /// Subject to append to; may be given several times, 256 at most
    #[arg(long, required = true)]
    subject: Vec<String>,
    /// What a message survives once its line is printed
    #[arg(long, value_enum, default_value = "synced")]
    durability: Level,
    /// Size of the log's files in bytes; three are allocated at once [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<u64>,
    /// Retire what is older, whole files at a time [default: nothing is retired]
    #[arg(long, value_name = "HOURS")]
    retention_hours: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let options = Options {
            retention: Retention {
                max_age: self
                    .retention_hours
                    .map(|hours| Duration::from_secs(hours.saturating_mul(3_600))),
                ..Retention::default()
            },
            ..self
                .segment_bytes
                .map_or_else(Options::default, Options::with_segment_bytes)
        };
        options
            .check()
            .map_err(|e| Failure::usage(e.to_string(), "give another --segment-bytes"))?;
        Ok(options)
    }
}

/// A line on its way to its lane: its number, its bytes, and the room that they take.
type Dealt<'a> = (u64, Bytes, Taken<'a>);

/// What the threads share.
struct Shared<'a> {
    store: &'a Store,
    durability: Durability,
    /// Where lines wait for their lane.
    room: Room,
    /// Nothing more can be stored or printed.
    stop: AtomicBool,
    /// Lines refused.
    refused: AtomicU64,
    /// Lines in a row that a full disk refused.
    full: AtomicU64,
}

impl<'a> Shared<'a> {
    fn new(store: &'a Store, durability: Durability) -> Self {
        Self {
            store,
            durability,
            room: Room::new(BUFFERED_MAX),
            stop: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }
    }

    fn refuse(&self, line: u64, why: &str) {
        complain(&format!("line {line}: {why}"));
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A line was taken, or there are no more: says how many a full disk refused in silence.
    fn room(&self) {
        if self.full.load(Ordering::Relaxed) == 0 {
            return;
        }
        let full = self.full.swap(0, Ordering::Relaxed);
        if full > FULL_SAID_MAX {
            let silent = full - FULL_SAID_MAX;
            complain(&format!(
                "{silent} lines more were refused: the disk was full"
            ));
        }
    }

    fn refuse_for(&self, line: u64, error: &Error) {
        if matches!(error, Error::DiskFull { .. })
            && self.full.fetch_add(1, Ordering::Relaxed) >= FULL_SAID_MAX
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if matches!(error, Error::Poisoned { .. } | Error::Closed)
            && self.stop.swap(true, Ordering::Relaxed)
        {
            // Said once; the same holds for every line under way.
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.refuse(line, &chain(error));
    }
}

/// Appends standard input.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    for subject in &args.subject {
        check_subject(subject)
            .map_err(|e| Failure::usage(e.to_string(), "give another --subject"))?;
        if subject == qmq_sched::SUBJECT {
            return Err(Failure::usage(
                format!("{subject} is the delay scheduler's own subject"),
                "give another --subject, or use `qmq delay schedule`",
            ));
        }
    }
    if args.subject.len() > SUBJECTS_MAX {
        return Err(Failure::usage(
            format!(
                "{} subjects; each has a thread, and {SUBJECTS_MAX} may be given",
                args.subject.len()
            ),
            "give fewer --subject, and run the command again for the others",
        ));
    }
    let options = args.options()?;
    let body_max = usize::try_from(options.body_bytes_max).unwrap_or(usize::MAX);
    let store = Store::open(&args.dir, options).map_err(|e| {
        Failure::of(
            format_args!("cannot open the store in {}", args.dir.display()),
            &e,
            "`qmq store inspect --dir` shows what is there",
        )
    })?;
    let shared = Shared::new(&store, args.durability.into());
    let (tell, told) = crossbeam_channel::unbounded();
    // A place in this channel is a line under way: the lanes wait for room, the printer makes room.
    let (begin, end) = crossbeam_channel::bounded(IN_FLIGHT_MAX);
    let printed = thread::scope(|scope| {
        let printer = scope.spawn(|| {
            let stopped = || shared.stop.store(true, Ordering::Relaxed);
            Printer::new(&args.subject, args.json, end)
                .run(&told, |line, error| shared.refuse_for(line, error))
                .inspect_err(|_| stopped())
        });
        let lanes: Vec<_> = args
            .subject
            .iter()
            .enumerate()
            .map(|(lane, subject)| {
                let (give, take) = crossbeam_channel::bounded(IN_FLIGHT_MAX);
                let (shared, begin, tell) = (&shared, begin.clone(), tell.clone());
                scope.spawn(move || append_lane(shared, lane, subject, &take, &begin, &tell));
                give
            })
            .collect();
        drop((begin, tell));
        let read = deal(&shared, std::io::stdin().lock(), body_max, &lanes);
        drop(lanes);
        let printed = printer.join().unwrap_or(Err(Failure::Reported));
        read.and(printed)
    });
    shared.room();
    let refused = shared.refused.load(Ordering::Relaxed);
    let closed = store.close();
    printed?;
    closed.map_err(|e| {
        Failure::of(
            "cannot close the store",
            &e,
            "what was printed is stored all the same",
        )
    })?;
    if refused > 0 {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// Reads the input and deals its lines to the lanes in turn.
fn deal<'a>(
    shared: &'a Shared<'_>,
    input: impl BufRead,
    body_max: usize,
    lanes: &[Sender<Dealt<'a>>],
) -> Result<(), Failure> {
    let mut lines = Lines::new(input, body_max);
    let mut turn = lanes.iter().cycle();
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let line = lines.next().map_err(|e| {
            Failure::of(
                "cannot read standard input",
                &e,
                "what was printed is stored",
            )
        })?;
        number += 1;
        match line {
            Line::End => break,
            Line::TooLong(bytes) => shared.refuse(
                number,
                &format!("{bytes} bytes, and a message takes {body_max}; split it"),
            ),
            Line::Whole(body) => {
                // The lane ends only after this function has.
                let Some(lane) = turn.next() else { break };
                let taken = shared.room.take(body.len());
                let _ = lane.send((number, body, taken));
            }
        }
    }
    Ok(())
}

/// Appends the lines of one subject.
fn append_lane(
    shared: &Shared<'_>,
    lane: usize,
    subject: &str,
    lines: &Receiver<Dealt<'_>>,
    begin: &Sender<()>,
    tell: &Sender<Outcome>,
) {
    let mut ticket = 0;
    for (line, body, _taken) in lines {
        if shared.stop.load(Ordering::Relaxed) || begin.send(()).is_err() {
            continue;
        }
        let message = Message::new(subject, body);
        match shared.store.append_with(&message, Durability::Buffered) {
            Ok(at) => {
                shared.room();
                let tell = tell.clone();
                let sequence = at.sequence;
                shared
                    .store
                    .when(at.end_offset, shared.durability, move |result| {
                        let _ = tell.send(Outcome {
                            lane,
                            ticket,
                            line,
                            result: Some((sequence, result)),
                        });
                    });
            }
            Err(error) => {
                shared.refuse_for(line, &error);
                // The printer gives the place back.
                let _ = tell.send(Outcome {
                    lane,
                    ticket,
                    line,
                    result: None,
                });
            }
        }
        ticket += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_that_are_read_and_not_yet_appended_take_a_bounded_number_of_bytes() {
        const LINE: usize = 1 << 20;
        const LINES: usize = 100;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let shared = Shared::new(&store, Durability::Buffered);
        let input = [vec![b'x'; LINE], b"\n".to_vec()].concat().repeat(LINES);
        let (give, take) = crossbeam_channel::bounded(IN_FLIGHT_MAX);
        thread::scope(|scope| {
            let deals = scope.spawn(|| deal(&shared, &input[..], LINE, &[give]).is_ok());
            while take.len() < BUFFERED_MAX / LINE {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(200));
            assert_eq!(take.len(), BUFFERED_MAX / LINE);
            assert_eq!(take.iter().count(), LINES);
            assert!(deals.join().unwrap());
        });
    }
}
