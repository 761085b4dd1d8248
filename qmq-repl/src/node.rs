//! One member of a group: whatever role it has, it is driven by the same calls.

use std::time::Duration;

use bytes::Bytes;

mod dispatch;
mod view;

use crate::candidate::Candidate;
use crate::core::Core;
use crate::event::{Event, SwitchError};
use crate::frame::{Frame, FrameError, VERSION};
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::master::Master;
use crate::message::Refused;
use crate::options::{Group, Options, OptionsError, Peer, check};
use crate::scrub::Scrub;
use crate::slave::Slave;

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a master, or looks for one.
    Slave,
    /// Is about to become master.
    Candidate,
    /// Takes appends and sends them to the others.
    Master,
}

#[derive(Debug)]
enum Part {
    Slave(Box<Slave>),
    Candidate(Candidate),
    Master(Box<Master>),
}

/// One member of a group. See the crate's documentation for how it is driven.
///
/// Every call takes `now`: the time since any moment that does not change while the member lives. It must not go back.
#[derive(Debug)]
pub struct Node<L> {
    core: Core<L>,
    part: Part,
    scrub: Scrub,
    /// Whose turn it is in [`Node::poll_transmit`].
    turn: u16,
}

impl<L: MasterLog + SlaveLog> Node<L> {
    /// A member that follows nobody yet. `seed` is a random number, another one in each life of the member.
    ///
    /// # Errors
    /// If the group or an option is out of its range.
    pub fn new(
        group: Group,
        options: Options,
        log: L,
        now: Duration,
        seed: u64,
    ) -> Result<Self, OptionsError> {
        check(&group, &options)?;
        log.demote();
        Ok(Self {
            core: Core::new(group, options, log, now, seed),
            part: Part::Slave(Box::new(Slave::new(now))),
            scrub: Scrub::default(),
            turn: 0,
        })
    }

    /// Follows this member. A slave also finds its master by itself, since masters make themselves known.
    pub fn follow(&mut self, now: Duration, master: Peer) {
        self.at(now);
        let known = master.index() < self.core.group.members.len() && master != self.core.group.me;
        if let Part::Slave(slave) = &mut self.part
            && known
        {
            slave.follow(&mut self.core, master);
        }
    }

    /// Stands for master: [`Event::EpochWanted`] comes next. With `accept_loss` it goes on though too few members answer, and what was
    /// acknowledged may be lost; the first master of a new group needs it, since no member can vouch for anything yet.
    pub fn stand(&mut self, now: Duration, accept_loss: bool) {
        self.at(now);
        if let Part::Slave(_) = self.part
            && !self.core.failed
        {
            self.scrub.abandon(&mut self.core);
            self.part = Part::Candidate(Candidate::new(&mut self.core, accept_loss));
        }
    }

    /// The authority has granted this epoch to this member, and never grants it to another.
    pub fn epoch_granted(&mut self, now: Duration, epoch: u64) {
        self.at(now);
        if let Part::Candidate(candidate) = &mut self.part {
            let ended = candidate.granted(&mut self.core, epoch);
            self.ended(ended);
        }
    }

    /// The authority has granted nothing.
    pub fn epoch_denied(&mut self, now: Duration) {
        self.at(now);
        if let Part::Candidate(candidate) = &self.part {
            let ended = candidate.denied();
            self.ended(ended);
        }
    }

    /// The greatest epoch that the authority has ever granted, or 0: what [`Event::LatestEpochWanted`] asks for. It is promised, so that no older master, which may
    /// not know yet that it has been replaced, counts on this member.
    pub fn latest_epoch(&mut self, now: Duration, epoch: u64) {
        self.at(now);
        if let Part::Slave(slave) = &mut self.part {
            slave.latest_epoch(&mut self.core, epoch);
        }
        self.settle();
    }

    /// Begins a planned switch: refuses appends until the other member is master, or `switch_timeout` is over.
    ///
    /// # Errors
    /// If this is no master, or the other does not keep up.
    pub fn switch_to(&mut self, now: Duration, to: Peer) -> Result<(), SwitchError> {
        self.at(now);
        match &mut self.part {
            Part::Master(master) => master.switch_to(&mut self.core, to),
            _ => Err(SwitchError::NotMaster),
        }
    }

    /// Takes one frame of a peer: bytes as [`crate::FrameReader`] cuts them out. A frame that was lost, doubled, or comes late does no harm.
    pub fn handle(&mut self, now: Duration, peer: Peer, bytes: &Bytes) {
        self.at(now);
        if peer.index() >= self.core.group.members.len() || peer == self.core.group.me {
            return;
        }
        match Frame::decode(bytes) {
            Ok(frame) => {
                self.take(peer, frame);
                self.settle();
            }
            Err(error) => {
                if let FrameError::Version { .. } = error {
                    let reason = Refused::Version {
                        min: VERSION,
                        max: VERSION,
                    };
                    self.core.refuse(peer, 0, reason);
                }
                self.core.event(Event::BadFrame { peer, error });
            }
        }
    }

    /// The written or the synced end of the log has moved, by somebody else than this member.
    pub fn log_moved(&mut self, now: Duration) {
        self.at(now);
        match &mut self.part {
            Part::Master(master) => master.log_moved(&mut self.core),
            Part::Slave(slave) => slave.log_moved(&self.core),
            Part::Candidate(_) => {}
        }
        self.settle();
    }

    /// The connection to a peer is gone: what was to be sent over it is forgotten.
    pub fn disconnected(&mut self, now: Duration, peer: Peer) {
        self.at(now);
        if peer.index() >= self.core.group.members.len() {
            return;
        }
        self.core.forget_frames(peer);
        match &mut self.part {
            Part::Master(master) => master.disconnected(&mut self.core, peer),
            Part::Slave(slave) if slave.master() == Some(peer) => {
                slave.disconnected(&mut self.core);
            }
            _ => {}
        }
    }

    /// What time brings. To be called at [`Node::poll_timeout`] or later; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.at(now);
        self.scrub.handle_timeout(&mut self.core);
        match &mut self.part {
            Part::Master(master) => master.handle_timeout(&mut self.core),
            Part::Slave(slave) => slave.handle_timeout(&mut self.core),
            Part::Candidate(candidate) => {
                let ended = candidate.handle_timeout(&mut self.core);
                self.ended(ended);
            }
        }
        self.settle();
    }

    /// A member whose log has failed has no role: its slaves, or its master, miss it and go on without it.
    fn settle(&mut self) {
        if self.core.failed && !matches!(self.part, Part::Slave(_)) {
            self.core.log.demote();
            self.part = Part::Slave(Box::new(Slave::new(self.core.now)));
        }
    }

    /// When [`Node::handle_timeout`] is to be called next. To be asked again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let core = &self.core;
        if core.failed {
            return None;
        }
        let part = match &self.part {
            Part::Master(master) => master.poll_timeout(core),
            Part::Slave(slave) => slave.poll_timeout(core),
            Part::Candidate(candidate) => candidate.poll_timeout(core),
        };
        let next = part.min(self.scrub.poll_timeout(core));
        (next < Duration::MAX).then_some(next)
    }

    /// The next frame for any peer, in turns.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(Peer, Bytes)> {
        let members = self.core.group.members.len() as u16;
        for _ in 0..members {
            let peer = Peer(self.turn % members);
            self.turn = (self.turn + 1) % members;
            if let Some(bytes) = self.poll_transmit_to(now, peer) {
                return Some((peer, bytes));
            }
        }
        None
    }

    /// The next frame for this peer: to be asked while its connection takes more. So a stuck connection holds nothing but what it has taken.
    pub fn poll_transmit_to(&mut self, now: Duration, peer: Peer) -> Option<Bytes> {
        self.at(now);
        if peer.index() >= self.core.group.members.len() || peer == self.core.group.me {
            return None;
        }
        if let Part::Slave(slave) = &mut self.part {
            slave.poll_transmit(&mut self.core);
        }
        if let Some(frame) = self.core.take_frame(peer) {
            return Some(frame);
        }
        let Part::Master(master) = &mut self.part else {
            return None;
        };
        match master.poll_transmit(&mut self.core, peer) {
            Ok(frame) => frame,
            Err(LogError::Damaged { from, to }) => {
                self.heal(self.core.now, from, to);
                None
            }
            Err(error) => {
                self.core.fail(error);
                self.settle();
                None
            }
        }
    }

    /// What has happened, in order. To be asked after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.next_event()
    }

    /// Compares a range with another member, which a master or its slave may ask of each other; [`Event::Scrubbed`] tells the outcome. Says
    /// whether it has begun: one comparison runs at a time.
    pub fn scrub(&mut self, now: Duration, peer: Peer, from: u64, to: u64) -> bool {
        self.at(now);
        let known = peer.index() < self.core.group.members.len() && peer != self.core.group.me;
        known && self.scrub.start(&mut self.core, peer, from, to)
    }

    /// Fetches a damaged range from a member that has it: a slave from its master, the master from a slave.
    pub fn heal(&mut self, now: Duration, from: u64, to: u64) {
        self.at(now);
        self.find_helpers();
        match self.scrub.helpers.last().copied() {
            Some(peer) => self.scrub.heal(&mut self.core, peer, (from, to)),
            None => self.core.event(Event::NotHealed { from, to }),
        }
    }

    fn find_helpers(&mut self) {
        self.scrub.helpers = match &self.part {
            Part::Master(master) => master.holders(&self.core),
            Part::Slave(slave) => slave.marks().and(slave.master()).into_iter().collect(),
            Part::Candidate(_) => Vec::new(),
        };
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.core.log
    }

    /// The log, without its member: a master's refuses appends from here on.
    #[must_use]
    pub fn into_log(self) -> L {
        self.core.log.demote();
        self.core.log
    }

    fn at(&mut self, now: Duration) {
        debug_assert!(now >= self.core.now, "time goes forwards");
        self.core.now = self.core.now.max(now);
    }
}
