//! From a welcome to the log: where the two logs part, what is compared, what is cut.

use super::files::Files;
use super::{MasterMarks, Slave, State};
use crate::core::{Core, Cut};
use crate::event::Event;
use crate::history::{History, common_end};
use crate::log::{Epoch, MasterLog, SlaveLog};
use crate::message::{Memory, Message, Refused};
use crate::options::Peer;

impl Slave {
    /// A master has made itself known.
    pub(super) fn found_master<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        epoch: u64,
    ) {
        match self.state {
            State::Alone => self.follow(core, peer),
            _ if self.master == Some(peer) => {
                let old = core.now >= self.asked + core.options.retry;
                if self.session() != 0 && epoch > self.epoch
                    || matches!(self.state, State::Asking { .. }) && old
                {
                    self.ask(core);
                }
            }
            State::Asking { .. } => self.follow(core, peer),
            _ if epoch > self.epoch => self.follow(core, peer),
            _ => {}
        }
    }

    pub(super) fn welcomed<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        epoch: u64,
        session: u64,
        log_id: u128,
        theirs: History<'_>,
    ) {
        let Some(master) = self.master else { return };
        if log_id != core.log.id() {
            if core.log_id() != 0 {
                core.event(Event::Refused {
                    peer: master,
                    reason: Refused::OtherLog,
                });
                return self.ask_later(core, core.options.silence);
            }
            // Nothing is lost with it, and a snapshot makes it a copy of the master's.
            self.anew = true;
        }
        let whole = core.memory() == Memory::Whole;
        let epochs = core.log.epochs();
        let ours = History {
            start: core.log.start(),
            end: core.log.written(),
            epochs: &epochs,
        };
        // The groups are as of an end that this log has not reached. If the master's log parts from that one before, they are not the master's groups.
        let told = History {
            end: core.log.state_ahead(),
            ..ours
        };
        if told.end > ours.end && common_end(theirs, told) != Some(told.end) {
            self.anew = true;
        }
        let last = |epochs: &[Epoch]| epochs.last().map(|epoch| epoch.number);
        if last(&epochs) == Some(epoch) && ours.end > theirs.end {
            // Whatever this log has of that epoch came from its master.
            core.event(Event::Conflict {
                peer: master,
                offset: theirs.end,
            });
            return self.ask_later(core, core.options.silence);
        }
        self.asked = core.now;
        let common = common_end(theirs, ours);
        let follows = |at: &u64| *at >= theirs.start && *at >= core.log.start() && !self.anew;
        let follows_at = common.filter(follows);
        // A snapshot that begins before what this log has, or instead of it, takes what was acknowledged; so does any, where files beside the log
        // have what stood before it. Until it has come again, the word of this member does not count. Whoever is master has it all.
        let loses = match common {
            _ if follows_at.is_some() => false,
            _ if self.anew || core.log.files().is_some() => true,
            Some(at) if at >= theirs.start => at < ours.start,
            Some(at) => at < ours.end,
            None => true,
        };
        if (loses || !whole) && !core.mark_incomplete(theirs.end.max(1)) {
            return;
        }
        if !core.promise(epoch) {
            return;
        }
        self.epoch = epoch;
        self.heard = core.now;
        match follows_at {
            Some(at) => {
                let from = at
                    .saturating_sub(core.options.check_bytes)
                    .max(theirs.start)
                    .max(core.log.start());
                self.state = State::Comparing { session, at, from };
                self.compare(core);
            }
            None => {
                let common = common.unwrap_or(0);
                self.state = State::Loading { session, common };
                self.ask_snapshot(core);
            }
        }
    }

    pub(super) fn compare<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let State::Comparing { session, at, from } = self.state else {
            return;
        };
        let Some(master) = self.master else { return };
        // What cannot be read differs; the comparison that follows finds it.
        let digest = core.log.digest(from, at).unwrap_or(0);
        core.send(master, session, Message::Follow { at, from, digest });
    }

    pub(super) fn start<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        master: Peer,
        start: u64,
    ) {
        let State::Comparing { session, at, .. } = self.state else {
            return;
        };
        if at != start {
            return;
        }
        match core.cut(at) {
            Cut::Done => {}
            Cut::TooDeep => {
                self.anew = true;
                return self.ask(core);
            }
            Cut::Failed => return,
        }
        self.state = State::Following { session };
        self.incoming = None;
        self.files = Files::default();
        core.forget_files();
        self.marks = MasterMarks::default();
        self.clock = None;
        self.ack = true;
        self.ack_at = core.now + core.options.heartbeat;
        self.sync_soon(core);
        core.event(Event::Following {
            master,
            epoch: self.epoch,
            at,
        });
    }
}
