//! One member of a group as a process of its own: a node over a loopback connection, told on standard input what to do.
//!
//! It is told `stand <epoch> [first]`, `pause` and `quit`, and says `master <epoch>`, `acked <sequence> <epoch> <number>`,
//! `even <end>` (paused, and the other has everything), `retry <why>`, `left <why>` and `failed <why>`. The end of its input ends it.

use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_repl::{Event, FrameReader, Group, Log, Node, Peer, StoreLog};
use qmq_store::{Durability, Message, Store};

/// Small, so that kills also hit the change from one segment to the next.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Messages appended and not yet acknowledged.
const IN_FLIGHT_MAX: usize = 512;
/// Longest time without a look at the log.
const TICK: Duration = Duration::from_millis(2);
/// The subject of all messages.
pub(crate) const SUBJECT: &str = "kill";

type Failed = Box<dyn Error + Send + Sync>;

/// Which member, and where.
pub(crate) struct Member {
    /// 0 listens, 1 connects.
    pub(crate) me: u16,
    /// Folder of the group: the stores, and the port.
    pub(crate) dir: PathBuf,
}

/// How members open their store.
pub(crate) fn store_options() -> qmq_store::Options {
    qmq_store::Options::with_segment_bytes(SEGMENT_BYTES)
}

/// Folder of a member's store.
pub(crate) fn folder(dir: &Path, me: u16) -> PathBuf {
    dir.join(format!("member-{me}"))
}

/// What the n-th message of an epoch says.
pub(crate) fn body(epoch: u64, n: u64) -> String {
    let filler = (n * 37 + epoch * 11) % 400;
    format!("{epoch} {n} {}", "x".repeat(filler as usize))
}

enum Input {
    Connected(TcpStream),
    Frame(Bytes),
    Gone,
    Told(String),
}

/// A connection's sending half. A frame that it had no room for waits here.
struct Line {
    stream: TcpStream,
    queue: SyncSender<Bytes>,
    left: Option<Bytes>,
}

impl Line {
    fn new(stream: TcpStream) -> Result<Self, Failed> {
        stream.set_nodelay(true)?;
        let mut out = stream.try_clone()?;
        let (queue, frames) = sync_channel::<Bytes>(16);
        thread::spawn(move || {
            for frame in frames {
                if out.write_all(&frame).is_err() {
                    // The reading half notices.
                    let _ = out.shutdown(Shutdown::Both);
                    return;
                }
            }
        });
        Ok(Self {
            stream,
            queue,
            left: None,
        })
    }

    /// Whether it takes more.
    fn send(&mut self, frame: Bytes) -> bool {
        if let Err(TrySendError::Full(frame)) = self.queue.try_send(frame) {
            self.left = Some(frame);
        }
        self.left.is_none()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Member {
    /// Runs until it is told to quit, or killed.
    pub(crate) fn run(&self) -> Result<(), Failed> {
        let (tell, inputs) = sync_channel(64);
        let told = tell.clone();
        thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let _ = told.send(Input::Told(line));
            }
            std::process::exit(0);
        });
        let log = StoreLog::open(folder(&self.dir, self.me), store_options())?;
        let (dir, me) = (self.dir.clone(), self.me);
        thread::spawn(move || {
            let ended = if me == 0 {
                listen(&dir, &tell)
            } else {
                connect(&dir, &tell)
            };
            say(&format!("failed {ended:?}"));
        });
        Driver::new(self.me, log)?.run(&inputs)?;
        // Here, so that the other threads do not find their channel closed.
        std::process::exit(0)
    }
}

/// One connection after the other: the next one is taken when the last has ended.
fn listen(dir: &Path, tell: &SyncSender<Input>) -> Result<(), Failed> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let new = dir.join("port.new");
    std::fs::write(&new, listener.local_addr()?.port().to_string())?;
    std::fs::rename(new, dir.join("port"))?;
    loop {
        receive(listener.accept()?.0, tell)?;
    }
}

fn connect(dir: &Path, tell: &SyncSender<Input>) -> Result<(), Failed> {
    loop {
        let port = std::fs::read_to_string(dir.join("port")).unwrap_or_default();
        if let Ok(port) = port.parse::<u16>()
            && let Ok(stream) = TcpStream::connect(("127.0.0.1", port))
        {
            receive(stream, tell)?;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Passes the frames of a connection on, until it ends.
fn receive(mut stream: TcpStream, tell: &SyncSender<Input>) -> Result<(), Failed> {
    tell.send(Input::Connected(stream.try_clone()?))?;
    let (mut frames, mut buffer) = (FrameReader::default(), vec![0; 256 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        frames.push(&buffer[..count]);
        while let Some(frame) = frames.next_frame()? {
            tell.send(Input::Frame(frame))?;
        }
    }
    tell.send(Input::Gone)?;
    Ok(())
}

struct Driver {
    me: u16,
    born: Instant,
    node: Node<StoreLog>,
    line: Option<Line>,
    /// The epoch that was granted and not used yet.
    granted: Option<u64>,
    pause: Arc<Pause>,
    even: bool,
}

/// Between the driver and its appender.
#[derive(Default)]
struct Pause {
    asked: AtomicBool,
    /// Nothing more is appended, and all that was is acknowledged.
    reached: AtomicBool,
}

impl Driver {
    fn new(me: u16, log: StoreLog) -> Result<Self, Failed> {
        let group = Group {
            name: "kill".to_owned(),
            members: vec!["a".to_owned(), "b".to_owned()],
            me: Peer(me),
            min_insync: 1,
        };
        let options = qmq_repl::Options {
            heartbeat: Duration::from_millis(50),
            silence: Duration::from_millis(500),
            retry: Duration::from_millis(50),
            promotion_timeout: Duration::from_secs(2),
            ..qmq_repl::Options::default()
        };
        let seed = std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64 ^ u64::from(me) << 60;
        Ok(Self {
            me,
            born: Instant::now(),
            node: Node::new(group, options, log, Duration::ZERO, seed)?,
            line: None,
            granted: None,
            pause: Arc::default(),
            even: false,
        })
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    fn run(&mut self, inputs: &Receiver<Input>) -> Result<(), Failed> {
        loop {
            let due = self.node.poll_timeout().unwrap_or(Duration::MAX);
            let wait = due.saturating_sub(self.now()).min(TICK);
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    for input in std::iter::once(input).chain(inputs.try_iter().take(64)) {
                        if let Input::Told(quit) = &input
                            && quit == "quit"
                        {
                            return self.quit();
                        }
                        self.take(input)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.turn()?;
        }
    }

    fn quit(&self) -> Result<(), Failed> {
        self.node.log().store().clone().close()?;
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), Failed> {
        let (now, other) = (self.now(), Peer(1 - self.me));
        match input {
            Input::Connected(stream) => self.line = Some(Line::new(stream)?),
            Input::Frame(frame) => self.node.handle(now, other, &frame),
            Input::Gone => {
                self.line = None;
                self.node.disconnected(now, other);
            }
            Input::Told(line) => {
                let mut words = line.split(' ');
                match words.next() {
                    Some("stand") => {
                        self.granted = Some(words.next().ok_or("no epoch")?.parse()?);
                        self.node.stand(now, words.next().is_some());
                    }
                    Some("pause") => self.pause.asked.store(true, Ordering::SeqCst),
                    _ => return Err(format!("an odd command: {line}").into()),
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failed> {
        let (now, other) = (self.now(), Peer(1 - self.me));
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        self.node.log_moved(now);
        while let Some(event) = self.node.poll_event() {
            self.note(now, event)?;
        }
        if let Some(line) = &mut self.line {
            let mut room = line.left.take().is_none_or(|frame| line.send(frame));
            while room && let Some(frame) = self.node.poll_transmit_to(now, other) {
                room = line.send(frame);
            }
        }
        if self.pause.reached.load(Ordering::SeqCst) && !self.even {
            let marks = self.node.log().store().watermarks();
            let replicated = self.node.replicated();
            if replicated == Some(marks.written) && marks.replicated == marks.written {
                self.even = true;
                say(&format!("even {}", marks.written));
            }
        }
        Ok(())
    }

    fn note(&mut self, now: Duration, event: Event) -> Result<(), Failed> {
        match event {
            // No disk is ever replaced here, so a new one has forgotten nothing.
            Event::LatestEpochWanted => self.node.latest_epoch(now, 0),
            Event::EpochWanted { above } => match self.granted.take() {
                Some(epoch) if epoch > above => self.node.epoch_granted(now, epoch),
                _ => self.node.epoch_denied(now),
            },
            Event::Promoted { epoch, .. } => {
                say(&format!("master {epoch}"));
                let store = self.node.log().store().clone();
                let pause = self.pause.clone();
                thread::spawn(move || append(&store, epoch, &pause));
            }
            Event::PromotionFailed(error) => say(&format!("retry {error}")),
            Event::LogFailed { error } => return Err(error.into()),
            Event::BadFrame { .. } | Event::Conflict { .. } | Event::NotHealed { .. } => {
                return Err(format!("{event:?}, log {:?}", self.node.log().written()).into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends numbered messages as fast as it can, and says which ones are replicated.
fn append(store: &Store, epoch: u64, pause: &Pause) {
    let (done, finished) = std::sync::mpsc::channel::<Option<(u64, u64)>>();
    let (mut n, mut in_flight) = (0, 0);
    loop {
        let stopped = pause.asked.load(Ordering::SeqCst);
        if stopped && in_flight == 0 {
            pause.reached.store(true, Ordering::SeqCst);
            return;
        }
        while !stopped && in_flight < IN_FLIGHT_MAX {
            let message = Message::new(SUBJECT, body(epoch, n));
            let at = match store.append_with(&message, Durability::Buffered) {
                Ok(at) => at,
                Err(error) => return say(&format!("left {error}")),
            };
            let done = done.clone();
            store.when(at.end_offset, Durability::Replicated, move |outcome| {
                let _ = done.send(outcome.is_ok().then_some((at.sequence, n)));
            });
            n += 1;
            in_flight += 1;
        }
        if let Ok(first) = finished.recv_timeout(Duration::from_millis(20)) {
            let mut lines = String::new();
            for outcome in std::iter::once(first).chain(finished.try_iter()) {
                in_flight -= 1;
                if let Some((sequence, n)) = outcome {
                    lines.push_str(&format!("acked {sequence} {epoch} {n}\n"));
                }
            }
            say(lines.trim_end());
        }
    }
}

/// Prints whole lines at once; a parent that is gone ends the process.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let whole = format!("{line}\n");
    let told = stdout
        .write_all(whole.as_bytes())
        .and_then(|()| stdout.flush());
    if told.is_err() {
        std::process::exit(1);
    }
}
