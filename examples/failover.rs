//! A master and a slave in one process: what was acknowledged as replicated is there after the master is gone.
//!
//! `cargo run --example failover`

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmq_repl::{Event, Group, Node, Options, Peer, StoreLog};
use qmq_store::{Durability, Message};

/// The members that are there, and an authority that grants each epoch once. In a service every member is a process, frames go
/// over connections, and the authority is a row in a database.
struct Members {
    born: Instant,
    nodes: Vec<Option<Node<StoreLog>>>,
    epoch: u64,
}

impl Members {
    fn open(&mut self, me: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
        let group = Group {
            name: "orders".to_owned(),
            members: vec!["a".to_owned(), "b".to_owned()],
            me: Peer(me as u16),
            min_insync: 1,
        };
        let log = StoreLog::open(folder, qmq_store::Options::with_segment_bytes(1 << 20))?;
        let now = self.born.elapsed();
        // Another number in each life of a member.
        let seed = now.as_nanos() as u64 + me as u64;
        self.nodes[me] = Some(Node::new(group, Options::default(), log, now, seed)?);
        Ok(())
    }

    fn node(&mut self, me: usize) -> &mut Node<StoreLog> {
        self.nodes[me].as_mut().expect("the member is there")
    }

    /// Everybody says what they have to say.
    fn turn(&mut self) {
        let now = self.born.elapsed();
        for me in 0..self.nodes.len() {
            let Some(node) = &mut self.nodes[me] else {
                continue;
            };
            node.log_moved(now);
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
            while let Some(event) = node.poll_event() {
                println!("{me}: {event:?}");
                match event {
                    Event::LatestEpochWanted => node.latest_epoch(now, self.epoch),
                    Event::EpochWanted { above } => {
                        self.epoch = self.epoch.max(above) + 1;
                        node.epoch_granted(now, self.epoch);
                    }
                    _ => {}
                }
            }
            let frames: Vec<_> = std::iter::from_fn(|| node.poll_transmit(now)).collect();
            for (Peer(to), frame) in frames {
                if let Some(other) = &mut self.nodes[usize::from(to)] {
                    other.handle(now, Peer(me as u16), &frame);
                }
            }
        }
    }

    /// Turns until this is so.
    fn until(&mut self, done: impl Fn(&mut Self) -> bool) {
        while !done(self) {
            self.turn();
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Appends to the master and turns until enough slaves have it.
    fn append(&mut self, master: usize, body: &str) -> Result<(), Box<dyn Error>> {
        let store = self.node(master).log().store().clone();
        let message = Message::new("order.changed", body.to_owned());
        let at = store.append_with(&message, Durability::Buffered)?;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let outcome = store.wait(at.end_offset, Durability::Replicated);
                done.store(true, Ordering::Release);
                outcome
            });
            self.until(|_| done.load(Ordering::Acquire));
            waiting.join().expect("it waits and returns")
        })?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut members = Members {
        born: Instant::now(),
        nodes: vec![None, None],
        epoch: 0,
    };
    members.open(0, &folder.path().join("a"))?;
    members.open(1, &folder.path().join("b"))?;
    // Nobody can vouch for anything in a new group: the first master has to be told that nothing can be lost.
    let now = members.born.elapsed();
    members.node(0).stand(now, true);
    members.until(|members| members.node(0).epoch().is_some());
    for number in 0..3 {
        members.append(0, &format!("order {number}"))?;
    }

    println!("the master is gone");
    members.nodes[0] = None;
    let now = members.born.elapsed();
    members.node(1).stand(now, false);
    members.until(|members| members.node(1).epoch().is_some());
    let store = members.node(1).log().store().clone();
    let messages = store.read("order.changed", 0, 10)?;
    assert_eq!(messages.len(), 3);
    println!("{} messages at the new master", messages.len());

    println!("the old one comes back");
    members.open(0, &folder.path().join("a"))?;
    members.append(1, "order 3")?;
    let store = members.node(0).log().store().clone();
    assert_eq!(store.read("order.changed", 0, 10)?.len(), 4);
    println!("both have 4 messages");
    Ok(())
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    main()
}
