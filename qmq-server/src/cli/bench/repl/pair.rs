//! A master and its slave on real stores in one process. Each is driven by a thread of its own, as it would be by a process of its own: the master
//! reads and sends while the slave takes in. A thread sleeps while there is nothing to do.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_repl::{AckPolicy, Event, Group, Log, Node, Options, Peer, Role, StoreLog};
use qmq_store::Store;

/// What goes wrong.
pub(super) type Failed = Box<dyn Error + Send + Sync>;

const MASTER: Peer = Peer(0);
const SLAVE: Peer = Peer(1);
/// Frames that a member takes in before it looks at the time, and may sync.
const FRAMES_A_TURN: usize = 8;
/// A member that is asked for nothing is looked after so often at least.
const IDLE: Duration = Duration::from_millis(50);
/// A connection takes another frame while it holds fewer bytes.
const LINE_BYTES: usize = 1 << 20;

/// Called with the time that an end took from its append until the slave had written it.
pub(super) type OnLag = Box<dyn FnMut(Duration) + Send>;

/// What a thread sleeps on.
#[derive(Debug, Default)]
struct Bell {
    asleep: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// There is something to do.
    fn ring(&self) {
        // Either the thread sees it before it sleeps, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Until there is something to do, or the pause is over.
    fn sleep(&self, pause: Duration, is_nothing: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if is_nothing() {
            thread::park_timeout(pause);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// One direction of the connection.
#[derive(Debug, Default)]
struct Line {
    frames: Mutex<VecDeque<Bytes>>,
    /// Of all frames in it.
    bytes: AtomicUsize,
}

impl Line {
    fn frames(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) < LINE_BYTES
    }

    fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) == 0
    }

    fn put(&self, frame: Bytes) {
        let mut frames = self.frames();
        self.bytes.fetch_add(frame.len(), Ordering::SeqCst);
        frames.push_back(frame);
    }

    /// The next frame, and whether there was no room for another before it was taken.
    fn take(&self) -> Option<(Bytes, bool)> {
        if self.is_empty() {
            return None;
        }
        let mut frames = self.frames();
        let frame = frames.pop_front()?;
        let before = self.bytes.fetch_sub(frame.len(), Ordering::SeqCst);
        Some((frame, before >= LINE_BYTES))
    }
}

/// What others see of a member: where it sleeps, and what has come for it.
#[derive(Debug, Default)]
struct Door {
    bell: Bell,
    inbox: Line,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Of master and slave.
    doors: [Door; 2],
    /// Ends of the slave's log.
    written: AtomicU64,
    synced: AtomicU64,
    /// Ends of which the lag is asked, and since when.
    marks: Mutex<VecDeque<(u64, Instant)>>,
}

impl Shared {
    fn door(&self, member: Peer) -> &Door {
        &self.doors[usize::from(member.0)]
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        for door in &self.doors {
            door.bell.ring();
        }
    }
}

/// The two of them.
#[derive(Debug)]
pub(super) struct Pair {
    store: Store,
    shared: Arc<Shared>,
    threads: [JoinHandle<Result<StoreLog, Failed>>; 2],
}

impl Pair {
    /// Opens both stores and makes the first one master; the slave begins to follow when this returns.
    pub(super) fn start(
        [master, slave]: [&Path; 2],
        options: &qmq_store::Options,
        on_lag: OnLag,
    ) -> Result<Self, Failed> {
        let shared = Arc::new(Shared::default());
        let clock = Instant::now();
        let (ready, is_ready) = mpsc::channel();
        let driver = |folder, me, peer, on_lag| {
            Ok::<_, Failed>(Driver {
                clock,
                me,
                peer,
                node: member(folder, me, options)?,
                epoch: 0,
                shared: Arc::clone(&shared),
                on_lag,
            })
        };
        let mut master = driver(master, MASTER, SLAVE, Box::new(|_| {}) as OnLag)?;
        master.node.stand(Duration::ZERO, true);
        let slave = driver(slave, SLAVE, MASTER, on_lag)?;
        let threads = [
            spawn("qmq-master", move || master.run(Some(ready)))?,
            spawn("qmq-slave", move || slave.run(None))?,
        ];
        match is_ready.recv() {
            Ok(store) => Ok(Self {
                store,
                shared,
                threads,
            }),
            Err(_) => {
                shared.stop();
                let ended = threads.map(JoinHandle::join);
                let error = ended.into_iter().find_map(|ended| ended.ok()?.err());
                Err(error.unwrap_or_else(|| "a thread that drives a member has ended".into()))
            }
        }
    }

    /// Waits until the slave follows, so that appends may wait for it.
    pub(super) fn following(self) -> Result<Self, Failed> {
        while self.store.watermarks().replicated == 0 {
            self.check()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self)
    }

    /// Both are at work.
    fn check(&self) -> Result<(), Failed> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Err("replication has ended early".into());
        }
        Ok(())
    }

    /// The master's store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Something has been appended.
    pub(super) fn wake(&self) {
        self.shared.door(MASTER).bell.ring();
    }

    /// Asks when the slave has written up to here. Ends must be given in order.
    pub(super) fn mark(&self, end: u64, since: Instant) {
        let marks = &self.shared.marks;
        let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push_back((end, since));
    }

    /// Whether the slave has everything: written, or synced too.
    pub(super) fn has_caught_up(&self, synced: bool) -> bool {
        let ends = &self.shared;
        let end = if synced { &ends.synced } else { &ends.written };
        end.load(Ordering::Acquire) >= self.store.watermarks().written
    }

    /// Waits until the slave has everything, for as long as both are at work.
    pub(super) fn catch_up(&self, synced: bool, each: &mut dyn FnMut(u64)) -> Result<(), Failed> {
        while !self.has_caught_up(synced) {
            self.check()?;
            each(self.shared.written.load(Ordering::Acquire));
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends both, and checks that they have the same log.
    pub(super) fn finish(self) -> Result<(), Failed> {
        self.catch_up(true, &mut |_| {})?;
        self.shared.stop();
        drop(self.store);
        let mut logs = Vec::new();
        for thread in self.threads {
            let Ok(log) = thread.join() else {
                return Err("a thread that drives a member has panicked".into());
            };
            logs.push(log?);
        }
        let [master, slave] = &logs[..] else {
            return Err("there are two members".into());
        };
        let (start, end) = (master.start(), master.written());
        if slave.written() != end || master.digest(start, end)? != slave.digest(start, end)? {
            return Err("the logs of master and slave differ".into());
        }
        for log in logs {
            log.store().clone().close()?;
        }
        Ok(())
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn member(folder: &Path, me: Peer, options: &qmq_store::Options) -> Result<Node<StoreLog>, Failed> {
    let group = Group {
        name: "bench".to_owned(),
        members: vec!["a".to_owned(), "b".to_owned()],
        me,
        min_insync: 1,
    };
    let log = StoreLog::open(folder, options.clone())?;
    let options = Options {
        ack_policy: AckPolicy::Buffered,
        slave_flush: options.flush_interval,
        ..Options::default()
    };
    let seed = u64::from(me.0) + 1;
    Ok(Node::new(group, options, log, Duration::ZERO, seed)?)
}

/// Drives one member.
struct Driver {
    clock: Instant,
    me: Peer,
    peer: Peer,
    node: Node<StoreLog>,
    epoch: u64,
    shared: Arc<Shared>,
    on_lag: OnLag,
}

impl Driver {
    fn run(mut self, ready: Option<mpsc::Sender<Store>>) -> Result<StoreLog, Failed> {
        let outcome = self.drive(ready);
        self.shared.stop();
        outcome.map(|()| self.node.into_log())
    }

    /// Says when this member is master, to whoever wants to know.
    fn drive(&mut self, mut ready: Option<mpsc::Sender<Store>>) -> Result<(), Failed> {
        let shared = Arc::clone(&self.shared);
        let door = shared.door(self.me);
        let _ = door.bell.sleeper.set(thread::current());
        let mut has_yielded = true;
        while !shared.stop.load(Ordering::Acquire) {
            let seen = self.node.log().written();
            let busy = self.turn()?;
            if self.node.role() == Role::Master
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(self.node.log().store().clone());
            }
            if busy {
                has_yielded = false;
                continue;
            }
            if !has_yielded {
                // Where cores are scarce, more comes meanwhile, and neither side pays for a sleep.
                has_yielded = true;
                thread::yield_now();
                continue;
            }
            let next = self.node.poll_timeout();
            let now = self.clock.elapsed();
            let pause = next.map_or(IDLE, |at| at.saturating_sub(now)).min(IDLE);
            door.bell.sleep(pause, || {
                door.inbox.is_empty()
                    && self.node.log().written() == seen
                    && !shared.stop.load(Ordering::Acquire)
            });
        }
        Ok(())
    }

    /// Moves what there is to move. Says whether there was anything.
    fn turn(&mut self) -> Result<bool, Failed> {
        let shared = Arc::clone(&self.shared);
        let now = self.clock.elapsed();
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        let mut busy = false;
        for _ in 0..FRAMES_A_TURN {
            let Some((frame, was_full)) = shared.door(self.me).inbox.take() else {
                break;
            };
            busy = true;
            if was_full {
                shared.door(self.peer).bell.ring();
            }
            self.node.handle(now, self.peer, &frame);
        }
        // The log may have been appended to, or synced by the store's own threads.
        self.node.log_moved(now);
        busy |= self.send(now);
        while let Some(event) = self.node.poll_event() {
            match event {
                // Both begin with new folders, so nobody has forgotten a promise.
                Event::LatestEpochWanted => self.node.latest_epoch(now, 0),
                Event::EpochWanted { above } => {
                    self.epoch = self.epoch.max(above) + 1;
                    self.node.epoch_granted(now, self.epoch);
                    busy = true;
                }
                Event::PromotionFailed(error) => return Err(error.into()),
                Event::LogFailed { error } | Event::AppendRefused { error } => {
                    return Err(error.into());
                }
                Event::Deposed { .. } => return Err("the master has been deposed".into()),
                _ => {}
            }
        }
        Ok(busy)
    }

    /// Puts frames into the connection while it takes them.
    fn send(&mut self, now: Duration) -> bool {
        if self.me == SLAVE {
            self.note_ends();
        }
        let shared = Arc::clone(&self.shared);
        let door = shared.door(self.peer);
        let mut busy = false;
        while door.inbox.has_room()
            && let Some(frame) = self.node.poll_transmit_to(now, self.peer)
        {
            busy = true;
            door.inbox.put(frame);
            door.bell.ring();
        }
        busy
    }

    /// Notes how far the slave is.
    fn note_ends(&mut self) {
        let (written, synced) = (self.node.log().written(), self.node.log().synced());
        let shared = &self.shared;
        shared.synced.store(synced, Ordering::Release);
        if shared.written.swap(written, Ordering::AcqRel) == written {
            return;
        }
        let mut marks = shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        while marks.front().is_some_and(|&(end, _)| end <= written) {
            if let Some((_, since)) = marks.pop_front() {
                (self.on_lag)(since.elapsed());
            }
        }
    }
}
