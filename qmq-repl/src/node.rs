//! One member of a group: whatever role it has, it is driven by the same calls.

use std::time::Duration;

use bytes::Bytes;

use crate::candidate::{Candidate, Ended, standing};
use crate::core::Core;
use crate::event::{Event, NotAccepting, SwitchError};
use crate::frame::{Frame, FrameError, VERSION};
use crate::lag::SlaveLag;
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::master::Master;
use crate::message::{Memory, Message, Refused};
use crate::options::{Group, Options, OptionsError, Peer, check};
use crate::scrub::Scrub;
use crate::slave::{MasterMarks, Slave, Wish};
use crate::units;

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
    Slave(Slave),
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
            part: Part::Slave(Slave::new(now)),
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

    fn take(&mut self, peer: Peer, frame: Frame) {
        let promised = self.core.log.promised();
        if let Message::PromiseAsk = frame.message {
            return self.promise_asked(peer, frame.epoch);
        }
        if frame.epoch > promised {
            // Somebody has promised a greater epoch: this master may have been replaced, or will be.
            self.outdated(frame.epoch);
        }
        let from_master = matches!(
            frame.message,
            Message::Welcome { .. }
                | Message::Start { .. }
                | Message::Data { .. }
                | Message::Heartbeat { .. }
                | Message::SnapshotPiece { .. }
                | Message::HandOver { .. }
        );
        let same_epoch = matches!(
            frame.message,
            Message::DigestAsk(_)
                | Message::DigestSay { .. }
                | Message::CheckAsk(_)
                | Message::CheckSay { .. }
                | Message::UnitsAsk { .. }
                | Message::Units { .. }
        );
        if (from_master || same_epoch) && frame.epoch < promised {
            let reason = Refused::OldEpoch { promised };
            return self.core.refuse(peer, frame.session, reason);
        }
        if same_epoch {
            if frame.epoch == promised && !self.core.failed {
                self.exchange(peer, frame.message);
            }
            return;
        }
        match &mut self.part {
            Part::Master(master) => master.handle(&mut self.core, peer, frame),
            Part::Candidate(candidate) => {
                let ended = match frame.message {
                    Message::Promised(standing) => {
                        candidate.promised(&mut self.core, peer, frame.epoch, standing)
                    }
                    Message::Refused(Refused::OldEpoch { promised }) => {
                        candidate.overtaken(promised)
                    }
                    // Another member is master of a greater epoch.
                    _ if from_master => candidate.overtaken(frame.epoch),
                    _ => None,
                };
                self.ended(ended);
            }
            Part::Slave(slave) => {
                if let Message::Hello(_) = frame.message {
                    return self.core.refuse(peer, 0, Refused::NotMaster);
                }
                let wish = slave.handle(&mut self.core, peer, frame);
                match wish {
                    Some(Wish::Stand) => self.stand(self.core.now, false),
                    Some(Wish::Compare { with, from, to }) => {
                        self.scrub.start(&mut self.core, with, from, to);
                    }
                    None => {}
                }
            }
        }
    }

    /// Questions about bytes, between members of one epoch.
    fn exchange(&mut self, peer: Peer, message: Message) {
        match (message, &mut self.part) {
            (
                Message::UnitsAsk {
                    ticket,
                    offset,
                    skip,
                    max,
                },
                _,
            ) => units::answer(&mut self.core, peer, (ticket, offset), skip, max),
            (
                Message::Units {
                    ticket,
                    offset,
                    skip,
                    total,
                    bytes,
                },
                Part::Candidate(candidate),
            ) => {
                let head = (ticket, offset, skip, total);
                let ended = candidate.units(&mut self.core, peer, head, &bytes);
                self.ended(ended);
            }
            (message, _) => {
                self.find_helpers();
                self.scrub.handle(&mut self.core, peer, message);
            }
        }
    }

    fn promise_asked(&mut self, peer: Peer, epoch: u64) {
        let promised = self.core.log.promised();
        let ours = match &self.part {
            Part::Slave(_) => false,
            _ => epoch == promised,
        };
        if epoch < promised || ours {
            return self.core.refuse(peer, 0, Refused::OldEpoch { promised });
        }
        if self.core.failed {
            return;
        }
        if epoch > promised {
            self.outdated(epoch);
            if let Part::Slave(slave) = &mut self.part {
                slave.let_go();
            }
            self.scrub.abandon(&mut self.core);
        }
        if self.core.memory() == Memory::Blank {
            // A promise would make it look like one that has not lost its disk. It promises when it is welcomed.
            let standing = standing(&self.core);
            let frame = Frame {
                epoch,
                session: 0,
                message: Message::Promised(standing),
            };
            return self.core.send_frame(peer, &frame);
        }
        // First the promise, then how far it is: nothing of an older epoch comes in between.
        if self.core.promise(epoch) && self.core.sync() {
            let standing = standing(&self.core);
            self.core.send(peer, 0, Message::Promised(standing));
        }
    }

    /// There is a greater epoch than this member's own.
    fn outdated(&mut self, by: u64) {
        match &self.part {
            Part::Master(_) => {
                self.core.log.demote();
                self.core.event(Event::Deposed { by });
                self.part = Part::Slave(Slave::new(self.core.now));
                self.scrub.abandon(&mut self.core);
            }
            Part::Candidate(candidate) => {
                let ended = candidate.overtaken(by);
                self.ended(ended);
            }
            Part::Slave(_) => {}
        }
    }

    fn ended(&mut self, ended: Option<Ended>) {
        match ended {
            None => {}
            Some(Ended::Won { epoch, end }) => {
                self.core.event(Event::Promoted { epoch, end });
                let mut master = Master::new(&self.core, epoch, end);
                master.handle_timeout(&mut self.core);
                self.part = Part::Master(Box::new(master));
            }
            Some(Ended::Lost(error)) => {
                self.core.event(Event::PromotionFailed(error));
                self.part = Part::Slave(Slave::new(self.core.now));
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
            self.part = Part::Slave(Slave::new(self.core.now));
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

    /// Whether an append may be taken, at any durability. The log is told too ([`MasterLog::accept`]); with a lease this is exact at every
    /// moment.
    ///
    /// # Errors
    /// Why not.
    pub fn may_accept(&self, now: Duration) -> Result<(), NotAccepting> {
        match &self.part {
            Part::Master(master) => master.may_accept(&self.core, now),
            _ => Err(NotAccepting::NotMaster),
        }
    }

    /// Slaves do not keep up: appends that wait for them are to be refused.
    #[must_use]
    pub fn too_few_in_sync(&self) -> bool {
        matches!(&self.part, Part::Master(master) if master.is_too_few())
    }

    /// What this member is.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.part {
            Part::Slave(_) => Role::Slave,
            Part::Candidate(_) => Role::Candidate,
            Part::Master(_) => Role::Master,
        }
    }

    /// Its epoch, if it is master.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.epoch),
            _ => None,
        }
    }

    /// End of what enough slaves have; `None` if this is no master.
    #[must_use]
    pub fn replicated(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.replicated()),
            _ => None,
        }
    }

    /// How far each slave is, if this is the master.
    pub fn lag(&mut self, now: Duration) -> Vec<SlaveLag> {
        self.at(now);
        match &self.part {
            Part::Master(master) => master.lag(&self.core),
            _ => Vec::new(),
        }
    }

    /// How far the master is, if this slave follows one.
    #[must_use]
    pub fn master_marks(&self) -> Option<MasterMarks> {
        match &self.part {
            Part::Slave(slave) => slave.marks(),
            _ => None,
        }
    }

    /// Whom this slave follows or asks.
    #[must_use]
    pub fn master(&self) -> Option<Peer> {
        match &self.part {
            Part::Slave(slave) => slave.master(),
            _ => None,
        }
    }

    /// From here on the master's log is to be kept for its slaves; never more than `hold_bytes_max`. `None` if this is no master.
    #[must_use]
    pub fn retention_hold(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.hold(&self.core)),
            _ => None,
        }
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
