//! A master and a slave in this process, on a store each.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use qmq_repl::{Event, Group, Log, LogError, Node, Peer, StoreLog};
use qmq_store::{Options, Store};

use crate::cli::failure::Failure;

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const NEXT: &str = "keep the folder with --dir and run `qmq store verify` on what is in it";

/// Both members; one that is dropped is `None`.
#[derive(Debug)]
pub(super) struct Pair {
    born: Instant,
    dir: PathBuf,
    options: Options,
    nodes: [Option<Node<StoreLog>>; 2],
    /// The latest epoch that was granted.
    epoch: u64,
    /// Bytes that only the old master had, by the log itself.
    pub(super) lost_bytes: u64,
}

impl Pair {
    /// Two new members under `dir`.
    pub(super) fn new(dir: &Path, options: Options) -> Result<Self, Failure> {
        let mut pair = Self {
            born: Instant::now(),
            dir: dir.to_path_buf(),
            options,
            nodes: [None, None],
            epoch: 0,
            lost_bytes: 0,
        };
        pair.open(0)?;
        pair.open(1)?;
        Ok(pair)
    }

    /// Opens the store of a member, which begins as a slave. Says whether it had been closed properly.
    pub(super) fn open(&mut self, me: usize) -> Result<bool, Failure> {
        let folder = self.dir.join(["a", "b"][me]);
        let log = StoreLog::open(&folder, self.options.clone()).map_err(|error| {
            let doing = format_args!("cannot open {}", folder.display());
            Failure::of(doing, &error, NEXT)
        })?;
        let clean = log.store().open_report().clean;
        let group = Group {
            name: "demo".to_owned(),
            members: vec!["a".to_owned(), "b".to_owned()],
            me: Peer(me as u16),
            min_insync: 1,
        };
        let options = qmq_repl::Options {
            heartbeat: Duration::from_millis(50),
            silence: Duration::from_millis(500),
            retry: Duration::from_millis(20),
            ..qmq_repl::Options::default()
        };
        let now = self.born.elapsed();
        let seed = now.as_nanos() as u64 ^ (me as u64) << 60;
        let node = Node::new(group, options, log, now, seed);
        let node = node.map_err(|error| Failure::of("cannot make a member", &error, NEXT))?;
        self.nodes[me] = Some(node);
        Ok(clean)
    }

    /// A member that is there.
    pub(super) fn node(&self, me: usize) -> Result<&Node<StoreLog>, Failure> {
        self.nodes[me].as_ref().ok_or_else(|| gone(me))
    }

    /// The store of a member.
    pub(super) fn store(&self, me: usize) -> Result<&Store, Failure> {
        Ok(self.node(me)?.log().store())
    }

    /// Drops a member without notice, and whatever was on its way.
    pub(super) fn drop_member(&mut self, me: usize) {
        self.nodes[me] = None;
    }

    /// Makes a member the master.
    pub(super) fn promote(&mut self, me: usize) -> Result<(), Failure> {
        let now = self.born.elapsed();
        // Only the first master of a new group cannot ask anybody what was acknowledged.
        let first = self.epoch == 0;
        let node = self.nodes[me].as_mut().ok_or_else(|| gone(me))?;
        node.stand(now, first);
        self.until("the promotion", |pair| {
            Ok(pair.node(me)?.epoch() == Some(pair.epoch))
        })
    }

    /// Turns until this is so.
    pub(super) fn until(
        &mut self,
        what: &str,
        done: impl Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        while !done(self)? {
            if begun.elapsed() > PATIENCE {
                let waited = PATIENCE.as_secs();
                return Err(Failure::new(
                    format!("{what} has not come about in {waited} s"),
                    NEXT,
                ));
            }
            if !self.turn()? {
                thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    }

    /// One turn of both members. Says whether they had anything to say to each other.
    pub(super) fn turn(&mut self) -> Result<bool, Failure> {
        let now = self.born.elapsed();
        let mut busy = false;
        for me in 0..2 {
            let Some(node) = &mut self.nodes[me] else {
                continue;
            };
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
            node.log_moved(now);
            while let Some(event) = node.poll_event() {
                match event {
                    Event::LatestEpochWanted => node.latest_epoch(now, self.epoch),
                    Event::EpochWanted { above } => {
                        self.epoch = self.epoch.max(above) + 1;
                        node.epoch_granted(now, self.epoch);
                    }
                    Event::LostTail { from, to } => self.lost_bytes += to - from,
                    Event::LogFailed { error } => {
                        return Err(Failure::of("a member's log has failed", &error, NEXT));
                    }
                    Event::PromotionFailed(error) => {
                        return Err(Failure::of("the promotion has failed", &error, NEXT));
                    }
                    _ => {}
                }
            }
            let mut frames = Vec::new();
            while let Some((_, frame)) = node.poll_transmit(now) {
                frames.push(frame);
            }
            let Some(other) = &mut self.nodes[1 - me] else {
                continue;
            };
            for frame in frames {
                busy = true;
                other.handle(now, Peer(me as u16), &frame);
            }
        }
        Ok(busy)
    }

    /// Whether both logs have the same bytes up to `end`.
    pub(super) fn same_until(&self, end: u64) -> Result<bool, Failure> {
        let failed = |error: LogError| Failure::of("cannot digest a log", &error, NEXT);
        let (a, b) = (self.node(0)?.log(), self.node(1)?.log());
        let start = a.start().max(b.start());
        let of_a = a.digest(start, end).map_err(failed)?;
        Ok(of_a == b.digest(start, end).map_err(failed)?)
    }

    /// Closes both properly.
    pub(super) fn close(self) -> Result<(), Failure> {
        for node in self.nodes.into_iter().flatten() {
            let closed = node.log().store().clone().close();
            closed.map_err(|error| Failure::of("cannot close a member", &error, NEXT))?;
        }
        Ok(())
    }
}

fn gone(me: usize) -> Failure {
    Failure::new(format!("member {me} is gone"), NEXT)
}
