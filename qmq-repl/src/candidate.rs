//! The way to a new master: an epoch of the authority, promises of enough members, what this one lacks, and the end of the old lease.
//!
//! `docs/decisions/0014-replication.md` says why enough is enough.

use std::time::Duration;

use crate::core::{Core, Cut};
use crate::event::{Event, PromotionError};
use crate::history::{History, common_end};
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::message::{Memory, Message, Refused, Standing};
use crate::options::Peer;
use crate::units::{Fetch, Fetched};

#[derive(Debug)]
enum State {
    /// The authority is asked.
    Wanting { above: u64 },
    /// The members are asked.
    Collecting,
    /// The most advanced member is asked for what this one lacks.
    Fetching(Fetch),
    /// The lease of the old master may last until then.
    Waiting { until: Duration },
}

#[derive(Debug)]
pub(crate) struct Candidate {
    accept_loss: bool,
    state: State,
    epoch: u64,
    answers: Vec<Option<Standing>>,
    asked: Duration,
    deadline: Duration,
    lease_until: Duration,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Master of this epoch, which begins up to here.
    Won { epoch: u64, end: u64 },
    /// Not.
    Lost(PromotionError),
}

impl Candidate {
    pub(crate) fn new<L: MasterLog + SlaveLog>(core: &mut Core<L>, accept_loss: bool) -> Self {
        let last = core.log.epochs().last().map_or(0, |epoch| epoch.number);
        let above = core.log.promised().max(last);
        core.event(Event::EpochWanted { above });
        Self {
            accept_loss,
            state: State::Wanting { above },
            epoch: 0,
            answers: core.group.members.iter().map(|_| None).collect(),
            asked: core.now,
            deadline: core.now + core.options.promotion_timeout,
            lease_until: core.granted_until,
        }
    }

    pub(crate) fn granted<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        epoch: u64,
    ) -> Option<Ended> {
        let State::Wanting { above } = self.state else {
            return None;
        };
        if core.memory() == Memory::Blank && !self.accept_loss {
            return Some(Ended::Lost(PromotionError::Blank));
        }
        if epoch <= above || epoch <= core.log.promised() {
            return Some(Ended::Lost(PromotionError::NoEpoch { above }));
        }
        if !core.promise(epoch) || !core.sync() {
            return Some(self.log_failed());
        }
        self.epoch = epoch;
        self.state = State::Collecting;
        self.deadline = core.now + core.options.promotion_timeout;
        self.answers[core.group.me.index()] = Some(standing(core));
        self.ask(core);
        self.count(core, false)
    }

    pub(crate) fn denied(&self) -> Option<Ended> {
        match self.state {
            State::Wanting { above } => Some(Ended::Lost(PromotionError::NoEpoch { above })),
            _ => None,
        }
    }

    fn log_failed(&self) -> Ended {
        let what = "the log failed during the promotion".to_owned();
        Ended::Lost(PromotionError::Log(LogError::Failed { what }))
    }

    fn ask<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        self.asked = core.now;
        for peer in core.group.others() {
            if self.answers[peer.index()].is_none() {
                core.send(peer, 0, Message::PromiseAsk);
            }
        }
    }

    /// A greater epoch has been promised, here or elsewhere.
    pub(crate) fn overtaken(&self, by: u64) -> Option<Ended> {
        (by > self.epoch && self.epoch > 0).then_some(Ended::Lost(PromotionError::Overtaken { by }))
    }

    pub(crate) fn promised<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        epoch: u64,
        mut standing: Standing,
    ) -> Option<Ended> {
        if epoch != self.epoch || !matches!(self.state, State::Collecting) {
            return None;
        }
        self.lease_until = self.lease_until.max(core.now + standing.lease_left);
        let is_other = standing.log_id != 0 && standing.log_id != core.log.id();
        if is_other && core.log_id() != 0 {
            let reason = Refused::OtherLog;
            core.event(Event::Refused { peer, reason });
            // It tells nothing of this log.
            standing.memory = Memory::Blank;
            standing.epochs.clear();
            standing.end = 0;
        }
        self.answers[peer.index()] = Some(standing);
        self.count(core, false)
    }

    /// Goes on when enough have answered; without them, only if loss is accepted and nobody else will answer.
    fn count<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, late: bool) -> Option<Ended> {
        let needed = core.group.promotion_quorum();
        let answers = || self.answers.iter().flatten();
        let answered = answers().filter(|it| it.memory == Memory::Whole).count();
        let all = answers().count() == self.answers.len();
        // Of all members one was the last master, who has everything, or that one has begun anew after a later one.
        let known = all && answers().all(|it| it.memory != Memory::Blank);
        if answered >= needed || known || (self.accept_loss && (all || late)) {
            return self.choose(core);
        }
        let error = PromotionError::TooFewAnswers { answered, needed };
        late.then_some(Ended::Lost(error))
    }

    fn choose<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) -> Option<Ended> {
        let (ours, mut best) = (standing(core), None::<(Peer, &Standing)>);
        for (at, answer) in self.answers.iter().enumerate() {
            let Some(answer) = answer else { continue };
            let most = best.map_or(ours.rank(), |(_, it)| it.rank());
            if answer.rank() > most {
                best = Some((Peer(at as u16), answer));
            }
        }
        let Some((peer, best)) = best else {
            return self.wait(core);
        };
        let own = History {
            start: ours.start,
            end: ours.end,
            epochs: &ours.epochs,
        };
        let theirs = History {
            start: best.start,
            end: best.end,
            epochs: &best.epochs,
        };
        if best.log_id != core.log.id() {
            return Some(self.behind(peer));
        }
        let end = best.end;
        let told = History {
            end: core.log.state_ahead(),
            ..own
        };
        if told.end > own.end && common_end(told, theirs) != Some(told.end) {
            // Its groups would be those of another log than that.
            return Some(self.behind(peer));
        }
        match common_end(own, theirs) {
            Some(at) if at >= own.start && at >= theirs.start => {
                // That one has everything that was acknowledged, so what parts from it was not.
                match core.cut(at) {
                    Cut::Done => {}
                    Cut::TooDeep => return Some(self.behind(peer)),
                    Cut::Failed => return Some(self.log_failed()),
                }
                self.deadline = core.now + core.options.promotion_timeout;
                self.state = State::Fetching(Fetch::new(core, peer, at, end));
                self.fetched_enough(core)
            }
            _ => Some(self.behind(peer)),
        }
    }

    fn behind(&self, peer: Peer) -> Ended {
        let (epoch, end) = (self.answers[peer.index()].as_ref()).map_or((0, 0), Standing::rank);
        Ended::Lost(PromotionError::Behind { peer, epoch, end })
    }

    /// A piece of what this member lacks.
    pub(crate) fn units<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        head: (u64, u64, u32, u32),
        piece: &[u8],
    ) -> Option<Ended> {
        let State::Fetching(fetch) = &mut self.state else {
            return None;
        };
        match fetch.take(core, peer, head, piece) {
            Fetched::NotYet => None,
            Fetched::Nothing => Some(self.behind(peer)),
            Fetched::Units(units) => {
                let at = fetch.at();
                match core.log.append(at, &units) {
                    Ok(end) if end == at + units.len() as u64 => {}
                    Ok(end) => {
                        core.fail(LogError::NotTheEnd { offset: at, end });
                        return Some(self.log_failed());
                    }
                    Err(error) => return Some(Ended::Lost(error.into())),
                }
                self.deadline = core.now + core.options.promotion_timeout;
                if core.log.written() < fetch.to {
                    let next = core.log.written();
                    fetch.ask_from(core, next);
                    return None;
                }
                self.fetched_enough(core)
            }
        }
    }

    fn fetched_enough<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) -> Option<Ended> {
        let State::Fetching(fetch) = &self.state else {
            return None;
        };
        if core.log.written() < fetch.to {
            return None;
        }
        match core.sync() {
            true => self.wait(core),
            false => Some(self.log_failed()),
        }
    }

    fn wait<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) -> Option<Ended> {
        let (end, needed) = (core.log.written(), core.log.state_ahead());
        if needed > end {
            return Some(Ended::Lost(PromotionError::Unfinished { end, needed }));
        }
        let mut until = self.lease_until;
        if self.accept_loss {
            // Those who did not answer may have granted one a moment ago.
            until = until.max(core.now + core.options.fence_lease.unwrap_or_default());
        }
        self.state = State::Waiting { until };
        self.waited(core)
    }

    fn waited<L: MasterLog + SlaveLog>(&self, core: &mut Core<L>) -> Option<Ended> {
        let State::Waiting { until } = self.state else {
            return None;
        };
        if core.now < until {
            return None;
        }
        let partial = core.log.incomplete_until() > 0;
        if core.lacks_files() && core.log.files().is_some() && !self.accept_loss {
            return Some(Ended::Lost(PromotionError::FilesMissing));
        }
        let epoch = self.epoch;
        match core.log.begin_epoch(epoch) {
            // Durable before anything else is: a master that restarts has its epoch in its log. And what it has is all that there is.
            Ok(end) if core.sync() && (!partial || core.mark_incomplete(0)) => {
                Some(Ended::Won { epoch, end })
            }
            Ok(_) => Some(self.log_failed()),
            Err(error) => {
                if !matches!(error, LogError::NoRoom { .. }) {
                    core.fail(error.clone());
                }
                Some(Ended::Lost(error.into()))
            }
        }
    }

    pub(crate) fn handle_timeout<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
    ) -> Option<Ended> {
        let again = core.options.retry;
        let now = core.now;
        let late = now >= self.deadline;
        match &mut self.state {
            State::Wanting { .. } if late => self.denied(),
            State::Wanting { .. } => None,
            State::Collecting if late => self.count(core, true),
            State::Collecting => {
                if now >= self.asked + again {
                    self.ask(core);
                }
                None
            }
            State::Fetching(fetch) => {
                let peer = fetch.peer;
                if late {
                    return Some(self.behind(peer));
                }
                if now >= fetch.asked + again {
                    fetch.ask(core);
                }
                None
            }
            State::Waiting { .. } => self.waited(core),
        }
    }

    pub(crate) fn poll_timeout<L>(&self, core: &Core<L>) -> Duration {
        let again = core.options.retry;
        match &self.state {
            State::Wanting { .. } => self.deadline,
            State::Collecting => self.deadline.min(self.asked + again),
            State::Fetching(fetch) => self.deadline.min(fetch.asked + again),
            State::Waiting { until } => *until,
        }
    }
}

/// How far this member is. What is written must have been synced.
pub(crate) fn standing<L: MasterLog + SlaveLog>(core: &Core<L>) -> Standing {
    Standing {
        log_id: core.log_id(),
        start: core.log.start(),
        end: core.log.synced(),
        lease_left: core.granted_until.saturating_sub(core.now),
        memory: core.memory(),
        epochs: core.log.epochs(),
    }
}
