//! Members of a group on simulated disks.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use qmq_repl::{Group, Node, Options, Peer, Place, StoreLog};
use qmq_store::disk::SimulatedDisk;
use qmq_store::{Background, Durability, ManualClock, OpenError, Snapshot, Store};

fn options() -> qmq_store::Options {
    qmq_store::Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000_000)),
        identity_seed: Some(3),
        ..qmq_store::Options::with_segment_bytes(64 << 10)
    }
}

pub(crate) fn member(me: usize, disk: SimulatedDisk, now: Duration) -> Node<StoreLog> {
    let group = Group {
        name: "g".to_owned(),
        members: (0..3).map(|n| n.to_string()).collect(),
        me: Peer(me as u16),
        min_insync: 1,
    };
    let replication = Options {
        heartbeat: Duration::from_millis(10),
        silence: Duration::from_millis(50),
        retry: Duration::from_millis(10),
        promotion_timeout: Duration::from_millis(60),
        snapshot_bytes_max: 1 << 20,
        unit_bytes_max: 1 << 20,
        ..Options::default()
    };
    let place = Simulated {
        disk: Mutex::new(disk),
        mark: Mutex::new(0),
    };
    let log = StoreLog::open_at(Arc::new(place), options()).expect("the disk opens");
    Node::new(group, replication, log, now, me as u64 * 1_000).expect("options in range")
}

/// The disks of a group that has lived a while, made once: two members have the same, the third is new. With `retired` the log's begin is gone, so
/// that the third begins with a snapshot.
pub(crate) fn warm(retired: bool) -> [SimulatedDisk; 3] {
    static DISKS: OnceLock<[[SimulatedDisk; 3]; 2]> = OnceLock::new();
    let disks = DISKS.get_or_init(|| [false, true].map(make));
    disks[usize::from(retired)].clone()
}

fn make(retired: bool) -> [SimulatedDisk; 3] {
    let disk = SimulatedDisk::new();
    let mut options = options();
    options.retention.max_bytes = retired.then_some(70 << 10);
    let store = Store::open_replica_on(Arc::new(disk.clone()), options).expect("it opens");
    store.promote(1).expect("a new replica is promoted");
    let long = if retired {
        "x".repeat(10_000)
    } else {
        String::new()
    };
    for number in 0..30_u32 {
        let message = qmq_store::Message::new("s", format!("body {number}{long}"));
        store
            .append_with(&message, Durability::Buffered)
            .expect("an append");
    }
    store.sync().expect("a sync");
    for _ in 0..4 {
        store.maintain().expect("housekeeping");
    }
    store.demote().expect("it is master");
    assert_eq!(store.stats().start_offset > 0, retired);
    [
        disk.process_killed(),
        disk.process_killed(),
        SimulatedDisk::new(),
    ]
}

#[derive(Debug)]
struct Simulated {
    disk: Mutex<SimulatedDisk>,
    mark: Mutex<u64>,
}

impl Place for Simulated {
    fn open(&self, options: qmq_store::Options) -> Result<Store, OpenError> {
        let disk = self.disk.lock().expect("one thread").clone();
        Store::open_replica_on(Arc::new(disk), options)
    }

    fn marked(&self) -> u64 {
        *self.mark.lock().expect("one thread")
    }

    fn mark(&self, until: u64) -> std::io::Result<()> {
        *self.mark.lock().expect("one thread") = until;
        Ok(())
    }

    fn install(
        &self,
        snapshot: &Snapshot,
        promised: u64,
        old: Store,
        options: qmq_store::Options,
    ) -> Result<Store, qmq_store::Error> {
        let disk = SimulatedDisk::new();
        let store = Store::install_replica_on(Arc::new(disk.clone()), snapshot, options)?;
        store.promise(promised)?;
        old.close()?;
        *self.disk.lock().expect("one thread") = disk;
        Ok(store)
    }
}
