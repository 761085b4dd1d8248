//! Who answers a frame, and what changes a member's role.

use super::{Node, Part};
use crate::candidate::{Ended, standing};
use crate::event::Event;
use crate::frame::Frame;
use crate::log::{MasterLog, SlaveLog};
use crate::master::Master;
use crate::message::{Memory, Message, Refused};
use crate::options::Peer;
use crate::slave::{Slave, Wish};
use crate::units;

impl<L: MasterLog + SlaveLog> Node<L> {
    pub(super) fn take(&mut self, peer: Peer, frame: Frame) {
        if frame.group != self.core.group.tag() {
            let reason = Refused::OtherGroup;
            self.core.event(Event::Refused { peer, reason });
            if !matches!(frame.message, Message::Refused(_)) {
                self.core.refuse(peer, 0, reason);
            }
            return;
        }
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
                | Message::Files(_)
                | Message::Part { .. }
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
                group: self.core.group.tag(),
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
                self.part = Part::Slave(Box::new(Slave::new(self.core.now)));
                self.scrub.abandon(&mut self.core);
            }
            Part::Candidate(candidate) => {
                let ended = candidate.overtaken(by);
                self.ended(ended);
            }
            Part::Slave(_) => {}
        }
    }

    pub(super) fn ended(&mut self, ended: Option<Ended>) {
        match ended {
            None => {}
            Some(Ended::Won { epoch, end }) => {
                self.core.event(Event::Promoted { epoch, end });
                let mut master = Master::new(&self.core, epoch, end);
                master.handle_timeout(&mut self.core);
                self.part = Part::Master(Box::new(master));
            }
            Some(Ended::Lost(error)) => {
                // Its last step may have opened the log, and not have come through.
                self.core.log.demote();
                self.core.event(Event::PromotionFailed(error));
                self.part = Part::Slave(Box::new(Slave::new(self.core.now)));
            }
        }
    }
}
