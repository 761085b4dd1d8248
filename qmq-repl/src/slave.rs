//! The slave: finds out where its log and the master's part, and follows from there.

use std::time::Duration;

mod agree;
mod files;
mod install;
mod intake;

use crate::core::{Core, NEVER_WELCOMED};
use crate::event::Event;
use crate::frame::{Frame, VERSION};
use crate::history::History;
use crate::log::{MasterLog, SlaveLog};
use crate::message::{Hello, Memory, Message, Refused};
use crate::options::Peer;
use files::Files;
use install::Incoming;
use intake::Partial;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody to follow is known.
    Alone,
    /// A hello is out.
    Asking { nonce: u64 },
    /// The common end is being compared.
    Comparing { session: u64, at: u64, from: u64 },
    /// A snapshot is coming. What this log has behind `common` is not in it.
    Loading { session: u64, common: u64 },
    /// The log is coming.
    Following { session: u64 },
}

/// How far the master is, as this slave knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterMarks {
    /// Its clock when it said so.
    pub sent: Duration,
    /// End of what it has written.
    pub written: u64,
    /// End of what it has synced.
    pub synced: u64,
    /// End of what enough slaves have.
    pub replicated: u64,
}

/// How far a slave's clock is ahead of its master's, as the fastest heartbeat has told: never more than it is, and less by that one's time on its way.
#[derive(Clone, Copy, Debug)]
struct MasterClock {
    /// In microseconds.
    behind: i128,
}

impl MasterClock {
    fn heard(before: Option<Self>, now: Duration, sent: Duration) -> Self {
        let behind = now.as_micros() as i128 - sent.as_micros() as i128;
        let least = before.map_or(behind, |before| before.behind.min(behind));
        Self { behind: least }
    }

    /// The master's clock at this moment, or a little earlier.
    fn of_master(self, now: Duration) -> Duration {
        let micros = (now.as_micros() as i128 - self.behind).max(0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// What the node has to do for the slave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Become master: the old one has handed over.
    Stand,
    /// Compare this range with the master: the digests differ.
    Compare { with: Peer, from: u64, to: u64 },
}

#[derive(Debug)]
pub(crate) struct Slave {
    master: Option<Peer>,
    state: State,
    /// The master's epoch, once it has welcomed.
    epoch: u64,
    /// When the present question was asked.
    asked: Duration,
    heard: Duration,
    /// Pauses before a hello.
    wait_until: Duration,
    marks: MasterMarks,
    clock: Option<MasterClock>,
    partial: Partial,
    incoming: Option<Incoming>,
    files: Files,
    /// The authority has said which epochs there are.
    vouched: bool,
    /// The log cannot be cut where it would have to be: only a snapshot helps.
    anew: bool,
    /// An acknowledgement is due, and whether something did not fit.
    ack: bool,
    gap: bool,
    ack_at: Duration,
    sync_at: Option<Duration>,
    /// The synced end that was last acknowledged.
    told: u64,
}

impl Slave {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            master: None,
            state: State::Alone,
            epoch: 0,
            asked: now,
            heard: now,
            wait_until: now,
            marks: MasterMarks::default(),
            clock: None,
            partial: Partial::default(),
            incoming: None,
            files: Files::default(),
            vouched: false,
            anew: false,
            ack: false,
            gap: false,
            ack_at: now,
            sync_at: None,
            told: 0,
        }
    }

    pub(crate) fn marks(&self) -> Option<MasterMarks> {
        matches!(self.state, State::Following { .. }).then_some(self.marks)
    }

    pub(crate) fn master(&self) -> Option<Peer> {
        self.master
    }

    pub(crate) fn follow<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, master: Peer) {
        if self.master != Some(master) || self.state == State::Alone {
            self.master = Some(master);
            self.wait_until = core.now;
            self.ask(core);
        }
    }

    /// No longer follows whom it followed. What has come stays.
    pub(crate) fn let_go(&mut self) {
        self.master = None;
        self.state = State::Alone;
        self.partial = Partial::default();
        self.ack = false;
    }

    fn ask<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let Some(master) = self.master else {
            self.state = State::Alone;
            return;
        };
        self.partial = Partial::default();
        self.ack = false;
        let nonce = core.ticket();
        self.state = State::Asking { nonce };
        self.asked = core.now;
        if core.now < self.wait_until || core.failed {
            return;
        }
        if core.memory() == Memory::Blank && !self.vouched {
            return core.event(Event::LatestEpochWanted);
        }
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            log_id: core.log_id(),
            group: core.group.name.clone(),
            node: core.group.members[core.group.me.index()].clone(),
            nonce,
            start: core.log.start(),
            written: core.log.written(),
            synced: core.log.synced(),
            epochs: core.log.epochs(),
        };
        core.send(master, 0, Message::Hello(hello));
    }

    /// A member that has lost its disk has lost its promises: it makes the greatest one that it can have made, before it follows anybody.
    pub(crate) fn latest_epoch<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, epoch: u64) {
        if core.memory() != Memory::Blank || core.failed {
            return;
        }
        // With a promise alone it would look like one that has everything.
        if epoch > 0 && !(core.mark_incomplete(NEVER_WELCOMED) && core.promise(epoch)) {
            return;
        }
        self.vouched = true;
        self.ask(core);
    }

    /// Asks again, after a pause.
    fn ask_later<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, pause: Duration) {
        self.wait_until = core.now + pause;
        self.ask(core);
    }

    fn session(&self) -> u64 {
        match self.state {
            State::Comparing { session, .. }
            | State::Loading { session, .. }
            | State::Following { session } => session,
            _ => 0,
        }
    }

    /// Frames of older epochs do not come here.
    pub(crate) fn handle<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        frame: Frame,
    ) -> Option<Wish> {
        if let Message::Heartbeat { .. } = frame.message
            && (frame.session == 0 || frame.session != self.session() || self.master != Some(peer))
        {
            self.found_master(core, peer, frame.epoch);
            return None;
        }
        if self.master != Some(peer) || core.failed {
            return None;
        }
        if let Message::Welcome {
            nonce,
            log_id,
            start,
            written,
            epochs,
        } = frame.message
        {
            if self.state == (State::Asking { nonce }) {
                let theirs = History {
                    start,
                    end: written,
                    epochs: &epochs,
                };
                self.welcomed(core, frame.epoch, frame.session, log_id, theirs);
            }
            return None;
        }
        if let Message::Refused(reason) = frame.message {
            return self.refused(core, peer, frame.session, reason);
        }
        if frame.session == 0 || frame.session != self.session() || frame.epoch != self.epoch {
            return None;
        }
        self.heard = core.now;
        match frame.message {
            Message::Start { at } => self.start(core, peer, at),
            Message::Data {
                offset,
                rest,
                bytes,
            } => self.data(core, offset, rest, &bytes),
            Message::Heartbeat {
                sent,
                written,
                synced,
                replicated,
                lease,
                files,
            } => {
                let marks = MasterMarks {
                    sent,
                    written,
                    synced,
                    replicated,
                };
                self.heartbeat(core, marks, lease);
                if let State::Following { .. } = self.state {
                    self.files_at(core, files);
                }
            }
            Message::Files(set) => self.files_listed(core, set),
            Message::Part { ticket, found } => self.part(core, ticket, &found),
            Message::SnapshotPiece { .. } => self.snapshot_piece(core, frame.message),
            Message::HandOver { end, until } => {
                let ready = matches!(self.state, State::Following { .. })
                    && self
                        .clock
                        .is_some_and(|clock| clock.of_master(core.now) < until);
                if ready && core.log.written() == end && core.log.synced() == end {
                    return Some(Wish::Stand);
                }
            }
            _ => {}
        }
        None
    }

    fn refused<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        session: u64,
        reason: Refused,
    ) -> Option<Wish> {
        let ours = session != 0 && session == self.session();
        match (reason, self.state) {
            (Refused::NoSession, _) if ours => self.ask(core),
            (Refused::NoSession, _) => {}
            (Refused::Differs, State::Comparing { at, from, .. }) if ours => {
                core.event(Event::Refused { peer, reason });
                self.ask_later(core, core.options.retry);
                return Some(Wish::Compare {
                    with: peer,
                    from,
                    to: at,
                });
            }
            // Only an answer to the question that is open ends what is under way.
            (Refused::NotMaster, State::Asking { .. }) => {
                core.event(Event::Refused { peer, reason });
                self.let_go();
            }
            (Refused::OldEpoch { .. }, _) => {}
            (_, State::Asking { .. } | State::Comparing { .. }) => {
                core.event(Event::Refused { peer, reason });
                self.ask_later(core, core.options.silence);
            }
            _ => {}
        }
        None
    }

    pub(crate) fn handle_timeout<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let now = core.now;
        self.sync_if_due(core);
        let Some(master) = self.master else { return };
        if now >= self.files_timeout(core.options.retry) {
            self.ask_files(core);
        }
        let again = now >= self.asked + core.options.retry;
        match self.state {
            State::Alone => {}
            State::Asking { .. } if again && now >= self.wait_until => self.ask(core),
            State::Asking { .. } => {}
            _ if now >= self.heard + core.options.silence => {
                core.event(Event::MasterGone { master });
                self.heard = now;
                self.ask(core);
            }
            State::Comparing { .. } if again => {
                self.asked = now;
                self.compare(core);
            }
            State::Loading { .. } if again => {
                self.asked = now;
                self.ask_snapshot(core);
            }
            State::Following { .. } if now >= self.ack_at => self.ack = true,
            _ => {}
        }
    }

    pub(crate) fn poll_timeout<L: MasterLog + SlaveLog>(&self, core: &Core<L>) -> Duration {
        let options = &core.options;
        let again = self.asked + options.retry;
        let next = match self.state {
            State::Alone => Duration::MAX,
            State::Asking { .. } => again.max(self.wait_until),
            State::Comparing { .. } | State::Loading { .. } => {
                again.min(self.heard + options.silence)
            }
            State::Following { .. } => (self.ack_at.min(self.heard + options.silence))
                .min(self.files_timeout(options.retry)),
        };
        next.min(self.sync_at.unwrap_or(Duration::MAX))
    }

    /// The connection to its master is gone.
    pub(crate) fn disconnected<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        self.ask_later(core, core.options.retry);
    }
}
