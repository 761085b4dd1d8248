//! A master and its slave on real stores in one process, both driven by one thread, which sleeps while there is nothing to do.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use qmq_repl::{AckPolicy, Event, Group, Log, Node, Options, Peer, Role, StoreLog};
use qmq_store::Store;

/// What goes wrong.
pub(super) type Failed = Box<dyn Error + Send + Sync>;

const MASTER: Peer = Peer(0);
const SLAVE: Peer = Peer(1);
/// Frames that the slave takes in before it may sync.
const FRAMES_A_TURN: usize = 8;
/// A member that is asked for nothing is looked after so often at least.
const IDLE: Duration = Duration::from_millis(50);

/// Called with the time that an end took from its append until the slave had written it.
pub(super) type OnLag = Box<dyn FnMut(Duration) + Send>;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asleep: AtomicBool,
    /// Ends of the slave's log.
    written: AtomicU64,
    synced: AtomicU64,
    /// Ends of which the lag is asked, and since when.
    marks: Mutex<VecDeque<(u64, Instant)>>,
}

/// The two of them.
#[derive(Debug)]
pub(super) struct Pair {
    store: Store,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<[StoreLog; 2], Failed>>,
}

impl Pair {
    /// Opens both stores and makes the first one master; the slave begins to follow when this returns.
    pub(super) fn start(
        [master, slave]: [&Path; 2],
        options: &qmq_store::Options,
        on_lag: OnLag,
    ) -> Result<Self, Failed> {
        let shared = Arc::new(Shared::default());
        let pump = Pump {
            clock: Instant::now(),
            master: member(master, MASTER, options)?,
            slave: member(slave, SLAVE, options)?,
            epoch: 0,
            shared: Arc::clone(&shared),
            on_lag,
        };
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("qmq-pump".to_owned())
            .spawn(move || pump.run(&ready))?;
        match is_ready.recv() {
            Ok(store) => Ok(Self {
                store,
                shared,
                thread,
            }),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                _ => "the thread that drives the members has ended".into(),
            }),
        }
    }

    /// Waits until the slave follows, so that appends may wait for it.
    pub(super) fn following(self) -> Result<Self, Failed> {
        while self.store.watermarks().replicated == 0 {
            if self.thread.is_finished() {
                return Err("replication has ended early".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self)
    }

    /// The master's store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Something has been appended.
    pub(super) fn wake(&self) {
        // Either the thread sees the append before it sleeps, or this sees that it does.
        fence(Ordering::SeqCst);
        let asleep = &self.shared.asleep;
        if asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::AcqRel) {
            self.thread.thread().unpark();
        }
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
            if self.thread.is_finished() {
                return Err("replication has ended early".into());
            }
            each(self.shared.written.load(Ordering::Acquire));
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends both, and checks that they have the same log.
    pub(super) fn finish(self) -> Result<(), Failed> {
        self.catch_up(true, &mut |_| {})?;
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.store);
        let Ok(logs) = self.thread.join() else {
            return Err("the thread that drives the members has panicked".into());
        };
        let [master, slave] = logs?;
        let (start, end) = (master.start(), master.written());
        if slave.written() != end || master.digest(start, end)? != slave.digest(start, end)? {
            return Err("the logs of master and slave differ".into());
        }
        for log in [master, slave] {
            log.store().clone().close()?;
        }
        Ok(())
    }
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

struct Pump {
    clock: Instant,
    master: Node<StoreLog>,
    slave: Node<StoreLog>,
    epoch: u64,
    shared: Arc<Shared>,
    on_lag: OnLag,
}

impl Pump {
    fn run(mut self, ready: &mpsc::Sender<Store>) -> Result<[StoreLog; 2], Failed> {
        self.master.stand(Duration::ZERO, true);
        while self.master.role() != Role::Master {
            if !self.turn()? {
                thread::sleep(Duration::from_millis(1));
            }
        }
        // The slave follows whom it hears of.
        let _ = ready.send(self.master.log().store().clone());
        while !self.shared.stop.load(Ordering::Acquire) {
            let seen = self.master.log().written();
            if !self.turn()? {
                self.sleep(seen);
            }
        }
        Ok([self.master.into_log(), self.slave.into_log()])
    }

    /// Moves what there is to move. Says whether there was anything.
    fn turn(&mut self) -> Result<bool, Failed> {
        let mut busy = false;
        let now = self.clock.elapsed();
        for node in [&mut self.master, &mut self.slave] {
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
        }
        self.master.log_moved(now);
        for _ in 0..FRAMES_A_TURN {
            let Some(frame) = self.master.poll_transmit_to(now, SLAVE) else {
                break;
            };
            busy = true;
            self.slave.handle(now, MASTER, &frame);
            drop(frame);
            self.answer(now);
        }
        // The log may have been synced by the store's own threads.
        self.slave.log_moved(now);
        busy |= self.answer(now);
        while let Some(event) = self.master.poll_event() {
            match event {
                Event::EpochWanted { above } => {
                    self.epoch = self.epoch.max(above) + 1;
                    self.master.epoch_granted(now, self.epoch);
                    busy = true;
                }
                Event::PromotionFailed(error) => return Err(error.into()),
                Event::LogFailed { error } => return Err(error.into()),
                Event::Deposed { .. } => return Err("the master has been deposed".into()),
                _ => {}
            }
        }
        while let Some(event) = self.slave.poll_event() {
            if let Event::LogFailed { error } | Event::AppendRefused { error } = event {
                return Err(error.into());
            }
        }
        Ok(busy)
    }

    /// Hands the slave's frames over, and notes how far it is.
    fn answer(&mut self, now: Duration) -> bool {
        let mut busy = false;
        while let Some(frame) = self.slave.poll_transmit_to(now, MASTER) {
            busy = true;
            self.master.handle(now, SLAVE, &frame);
        }
        let (written, synced) = (self.slave.log().written(), self.slave.log().synced());
        self.shared.synced.store(synced, Ordering::Release);
        if self.shared.written.swap(written, Ordering::AcqRel) == written {
            return busy;
        }
        let marks = &self.shared.marks;
        let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
        while marks.front().is_some_and(|&(end, _)| end <= written) {
            if let Some((_, since)) = marks.pop_front() {
                (self.on_lag)(since.elapsed());
            }
        }
        busy
    }

    /// Until something is appended behind `seen`, or it is time.
    fn sleep(&self, seen: u64) {
        let now = self.clock.elapsed();
        let times = [self.master.poll_timeout(), self.slave.poll_timeout()];
        let next = times.into_iter().flatten().min();
        let pause = next.map_or(IDLE, |at| at.saturating_sub(now)).min(IDLE);
        let asleep = &self.shared.asleep;
        asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.master.log().written() == seen && !self.shared.stop.load(Ordering::Acquire) {
            thread::park_timeout(pause);
        }
        asleep.store(false, Ordering::Relaxed);
    }
}
