//! The end of a life: everything works again, and all logs must become equal.

use std::time::Duration;

use qmq_repl::{Log, Node, Peer};

use super::Sim;
use super::sim::Faults;

impl Sim {
    /// The network is whole again, everybody runs, somebody becomes master; then all logs must become equal.
    pub(crate) fn heal_everything(&mut self) {
        self.cut.clear();
        self.setup.faults = Faults::NONE;
        for n in 0..self.members.len() {
            self.members[n].stuck_until = Duration::ZERO;
            if self.members[n].node.is_none() {
                self.start(n);
            }
        }
        self.run_for(3_000);
        for round in 0..30 {
            let live = self.master().filter(|&n| {
                let epoch = self.members[n].node.as_ref().unwrap().epoch().unwrap();
                self.members.iter().all(|it| it.log.promised() <= epoch)
            });
            if live.is_none() {
                // One lost disk, and another member that was just beginning anew, are more than min_insync: somebody has to decide.
                let n = round % self.members.len();
                let log = &self.members[n].log;
                let has_all = log.incomplete_until() == 0 && log.written() > 0;
                self.stand(n, self.replaced && round > 10 && has_all);
            } else if self.is_equal() {
                return;
            } else if let Some(master) = live {
                self.compare_all(master);
            }
            self.run_for(2_000);
        }
        panic!("the logs have not become equal: {:#?}", self.standings());
    }

    /// Slaves that are damaged compare with the master.
    fn compare_all(&mut self, master: usize) {
        let start = self.members.iter().map(|it| it.log.start()).max().unwrap();
        for n in 0..self.members.len() {
            let other = match n == master {
                true => (n + 1) % self.members.len(),
                false => master,
            };
            if !self.members[n].log.is_whole() {
                let (now, end) = (self.now, self.members[n].log.written());
                self.node(n).scrub(now, Peer(other as u16), start, end);
                self.drive(n);
            }
        }
    }

    fn standings(&self) -> Vec<String> {
        (self.members.iter())
            .map(|member| {
                let node = member.node.as_ref();
                format!(
                    "{:?} {:?} promised {} log {}..{} {:?} last {:?}",
                    node.map(Node::role),
                    node.map(Node::epoch),
                    member.log.promised(),
                    member.log.start(),
                    member.log.written(),
                    member.log.epochs(),
                    member.events.iter().rev().take(3).collect::<Vec<_>>(),
                )
            })
            .collect()
    }

    /// All logs end at the same place and are the same from the latest start on, and whoever began anew has what stood before.
    pub(crate) fn is_equal(&self) -> bool {
        if (self.members.iter()).any(|it| it.log.incomplete_until() > 0) {
            return false;
        }
        let contents: Vec<_> = self.members.iter().map(|it| it.log.content()).collect();
        let start = contents.iter().map(|it| it.0).max().unwrap();
        let end = contents[0].0 + contents[0].1.len() as u64;
        contents.iter().all(|(from, bytes)| {
            from + bytes.len() as u64 == end
                && bytes[(start - from) as usize..]
                    == contents[0].1[(start - contents[0].0) as usize..]
        })
    }

    /// What was acknowledged is known to every member.
    pub(crate) fn check_nothing_lost(&self) {
        for (n, member) in self.members.iter().enumerate() {
            let has = member.log.messages();
            let lost: Vec<_> = self.acknowledged.difference(&has).collect();
            assert!(lost.is_empty(), "member {n} has lost {lost:?}");
            assert!(member.log.is_whole(), "member {n} is damaged");
        }
    }
}
