//! Three members on stores on simulated disks, in one thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qmq_repl::{Event, Group, Log, Node, Options, Peer, Place, StoreLog};
use qmq_sched::IndexFiles;
use qmq_store::disk::SimulatedDisk;
use qmq_store::{Background, Error, ManualClock, OpenError, RetentionHold, Snapshot, Store};

#[derive(Debug)]
pub(crate) struct Simulated {
    pub(crate) disk: Mutex<SimulatedDisk>,
    /// Where a delay scheduler has its index.
    pub(crate) index: Mutex<SimulatedDisk>,
    mark: AtomicU64,
}

impl Default for Simulated {
    fn default() -> Self {
        Self {
            disk: Mutex::new(SimulatedDisk::new()),
            index: Mutex::new(SimulatedDisk::new()),
            mark: AtomicU64::new(0),
        }
    }
}

impl Place for Simulated {
    fn open(&self, options: qmq_store::Options) -> Result<Store, OpenError> {
        Store::open_replica_on(Arc::new(self.disk.lock().unwrap().clone()), options)
    }

    fn marked(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }

    fn mark(&self, until: u64) -> std::io::Result<()> {
        self.mark.store(until, Ordering::Relaxed);
        Ok(())
    }

    fn install(
        &self,
        snapshot: &Snapshot,
        promised: u64,
        old: Store,
        options: qmq_store::Options,
    ) -> Result<Store, Error> {
        let disk = SimulatedDisk::new();
        let store = Store::install_replica_on(Arc::new(disk.clone()), snapshot, options)?;
        store.promise(promised)?;
        old.close()?;
        *self.disk.lock().unwrap() = disk;
        Ok(store)
    }
}

pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

pub(crate) struct Group3 {
    pub(crate) disks: Vec<Arc<Simulated>>,
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Option<Node<StoreLog>>>,
    pub(crate) epoch: u64,
    pub(crate) cut: Vec<(usize, usize)>,
    pub(crate) trace: Vec<String>,
    pub(crate) retire: bool,
    /// With the files of a delay scheduler beside the log, and this clock.
    pub(crate) delayed: Option<Arc<ManualClock>>,
    /// Which connection an event of a member cuts.
    pub(crate) cut_at: fn(usize, &Event) -> Option<(usize, usize)>,
}

impl Group3 {
    /// Three members with one of them as master. With `retire` logs lose their beginning.
    pub(crate) fn new(seed: u64, retire: bool, delayed: Option<Arc<ManualClock>>) -> Self {
        let mut group = Self {
            disks: (0..3).map(|_| Arc::new(Simulated::default())).collect(),
            now: Duration::from_secs(1),
            nodes: vec![None, None, None],
            epoch: 0,
            cut: Vec::new(),
            trace: Vec::new(),
            retire,
            delayed,
            cut_at: |_, _| None,
        };
        for n in 0..3 {
            group.open(n, seed * 1_000 + n as u64);
        }
        let now = group.now;
        group.nodes[0].as_mut().unwrap().stand(now, true);
        group.run(1_000);
        group
    }

    pub(crate) fn open(&mut self, n: usize, seed: u64) {
        let group = Group {
            name: "g".to_owned(),
            members: (0..3).map(|n| n.to_string()).collect(),
            me: Peer(n as u16),
            min_insync: 1,
        };
        let mut options = qmq_store::Options::with_segment_bytes(64 << 10);
        options.background = Background::Manual;
        if self.retire {
            options.retention.max_bytes = Some(100 << 10);
            options.checkpoint_bytes = 64 << 10;
        }
        let hold = RetentionHold::default();
        if let Some(clock) = &self.delayed {
            options.clock = clock.clone();
            options.retention_hold = Some(hold.clone());
        }
        let mut log = StoreLog::open_at(self.disks[n].clone(), options).unwrap();
        if self.delayed.is_some() {
            let index = self.disks[n].index.lock().unwrap().clone();
            let files = Arc::new(IndexFiles::new(Arc::new(index), hold));
            log = log.with_files(files).unwrap();
        }
        let bad = log.verify(log.start(), log.written());
        self.trace.push(format!(
            "{:?} {n} opens {}..{} {bad:?} {:?}",
            self.now,
            log.start(),
            log.written(),
            log.store().open_report().damages
        ));
        let options = Options {
            heartbeat: Duration::from_millis(50),
            silence: Duration::from_millis(300),
            retry: Duration::from_millis(50),
            promotion_timeout: Duration::from_millis(600),
            // Less than a log keeps by itself: who is away for long begins with a snapshot.
            hold_bytes_max: if self.retire { 64 << 10 } else { 4 << 30 },
            ..Options::default()
        };
        self.nodes[n] = Some(Node::new(group, options, log, self.now, seed).unwrap());
    }

    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            let now = self.now;
            loop {
                let mut idle = true;
                for n in 0..3 {
                    let Some(node) = &mut self.nodes[n] else {
                        continue;
                    };
                    if node.poll_timeout().is_some_and(|at| at <= now) {
                        node.handle_timeout(now);
                    }
                    let mut out = Vec::new();
                    while let Some(frame) = node.poll_transmit(now) {
                        out.push(frame);
                    }
                    while let Some(event) = node.poll_event() {
                        self.cut.extend((self.cut_at)(n, &event));
                        if let Event::LostTail { .. } = event {
                            let log = node.log();
                            let bad = log.verify(log.start(), log.written());
                            self.trace.push(format!(
                                "  after the cut {}..{} {bad:?} {:?}",
                                log.start(),
                                log.written(),
                                log.store().open_report()
                            ));
                        }
                        self.trace.push(format!("{now:?} {n} {event:?}"));
                        if event == Event::LatestEpochWanted {
                            node.latest_epoch(now, self.epoch);
                        }
                        if let Event::EpochWanted { above } = event {
                            self.epoch = self.epoch.max(above) + 1;
                            node.epoch_granted(now, self.epoch);
                        }
                    }
                    for (peer, bytes) in out {
                        idle = false;
                        let to = usize::from(peer.0);
                        if self.cut.contains(&(n, to)) || self.cut.contains(&(to, n)) {
                            continue;
                        }
                        if let Some(other) = &mut self.nodes[to] {
                            other.handle(now, Peer(n as u16), &bytes);
                        }
                    }
                }
                if idle {
                    break;
                }
            }
        }
    }

    pub(crate) fn equal(&self) -> bool {
        let logs: Vec<&StoreLog> = self.nodes.iter().flatten().map(Node::log).collect();
        let end = logs[0].written();
        let start = logs.iter().map(|log| log.start()).max().unwrap();
        logs.len() == 3
            && logs.iter().all(|log| log.written() == end)
            && (logs.iter()).all(|log| log.digest(start, end) == logs[0].digest(start, end))
    }
}
