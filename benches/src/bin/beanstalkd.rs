//! Delayed messages beside beanstalkd: how fast they are taken, what each costs in memory, how soon a restart is over. Three rounds in turn, and
//! their medians.
//!
//! `cargo run --release -p qmq-benches --bin beanstalkd -- DIR [MESSAGES [BYTES]]` works in new folders below `DIR` and removes them. It needs
//! Debian's package `beanstalkd`; `scripts/beanstalkd` installs that first.
//!
//! beanstalkd is asked through a socket on loopback, with as many commands on their way as the socket holds, and writes its log as it does by
//! default: synced every 50 ms. The scheduler is called, buffered, which is synced every 200 ms. So what is compared is not the same; it says
//! what an embedding program has to choose from.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use qmq_sched::{Message, Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{Clock, Durability, RetentionHold, Store, SystemClock};

const ROUNDS: usize = 3;
const DAY_MS: u64 = 86_400_000;
/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(120);

/// What one of them did in one round.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    bytes_each: f64,
    restart: Duration,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let messages: u64 = args.next().map_or(1_000_000, |text| text.parse().unwrap());
    let size: usize = args.next().map_or(100, |text| text.parse().unwrap());
    let body = vec![b'x'; size];
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(in_folder(&dir.join("beanstalkd"), |dir| {
            beanstalkd(dir, messages, &body)
        }));
        ours.push(in_folder(&dir.join("qmq"), |dir| qmq(dir, messages, &body)));
    }
    println!("{messages} delayed messages of {size} bytes, median of {ROUNDS} rounds");
    let (theirs, ours) = (median(&theirs), median(&ours));
    let print = |name: &str, of: Figures| {
        println!(
            "{name:12} {:9.0} /s   {:6.1} B of memory each   {:8.1} ms to restart",
            of.per_second,
            of.bytes_each,
            of.restart.as_secs_f64() * 1e3
        );
    };
    print("beanstalkd", theirs);
    print("qmq-sched", ours);
    println!("ratio        {:9.2}", ours.per_second / theirs.per_second);
}

fn in_folder(dir: &Path, work: impl FnOnce(&Path) -> Figures) -> Figures {
    fs::create_dir_all(dir).unwrap();
    let figures = work(dir);
    fs::remove_dir_all(dir).unwrap();
    figures
}

fn median(all: &[Figures]) -> Figures {
    let of = |value: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        per_second: of(&|one| one.per_second),
        bytes_each: of(&|one| one.bytes_each),
        restart: Duration::from_secs_f64(of(&|one| one.restart.as_secs_f64())),
    }
}

/// Anonymous memory of a process.
fn anonymous(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() << 10
}

/// A server that ends with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one and gives a connection that it has answered on.
fn start(dir: &Path) -> (Server, TcpStream) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let child = Command::new("beanstalkd")
        .args(["-l", "127.0.0.1", "-p", &port.to_string(), "-b"])
        .arg(dir)
        .spawn()
        .expect("beanstalkd starts: `apt-get install beanstalkd` first");
    let server = Server(child);
    let begin = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(b"list-tube-used\r\n").unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "USING default\r\n");
            return (server, stream);
        }
        assert!(begin.elapsed() < START_MAX, "beanstalkd does not answer");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn beanstalkd(dir: &Path, messages: u64, body: &[u8]) -> Figures {
    let (server, stream) = start(dir);
    let process = server.0.id().to_string();
    let before = anonymous(&process);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = BufWriter::with_capacity(64 << 10, &stream);
            for _ in 0..messages {
                write!(out, "put 0 86400 60 {}\r\n", body.len()).unwrap();
                out.write_all(body).unwrap();
                out.write_all(b"\r\n").unwrap();
            }
            out.flush().unwrap();
        });
        let mut answers = BufReader::new(&stream);
        let mut line = String::new();
        for _ in 0..messages {
            line.clear();
            answers.read_line(&mut line).unwrap();
            assert!(line.starts_with("INSERTED "), "{line}");
        }
    });
    let took = begin.elapsed();
    let bytes = anonymous(&process) - before;
    drop((server, stream));
    let begin = Instant::now();
    let _again = start(dir);
    Figures {
        per_second: messages as f64 / took.as_secs_f64(),
        bytes_each: bytes as f64 / messages as f64,
        restart: begin.elapsed(),
    }
}

fn open(dir: &Path) -> Scheduler {
    let options = qmq_store::Options {
        retention_hold: Some(RetentionHold::default()),
        ..qmq_store::Options::default()
    };
    let store = Store::open(dir.join("log"), options).unwrap();
    let index = MappedDisk::open(dir.join("index"), true).unwrap();
    Scheduler::open(store, index, Options::default()).unwrap()
}

fn qmq(dir: &Path, messages: u64, body: &[u8]) -> Figures {
    let scheduler = open(dir);
    let before = anonymous("self");
    let message = Message::new("bench", body.to_vec());
    let due_ms = SystemClock.now_ms() + DAY_MS;
    let begin = Instant::now();
    for _ in 0..messages {
        scheduler
            .schedule_with(due_ms, &message, Durability::Buffered)
            .unwrap();
    }
    let took = begin.elapsed();
    let bytes = anonymous("self").saturating_sub(before);
    // As a kill leaves it: neither is closed.
    drop(scheduler);
    let begin = Instant::now();
    let again = open(dir);
    let restart = begin.elapsed();
    assert_eq!(again.totals().count, messages);
    Figures {
        per_second: messages as f64 / took.as_secs_f64(),
        bytes_each: bytes as f64 / messages as f64,
        restart,
    }
}
