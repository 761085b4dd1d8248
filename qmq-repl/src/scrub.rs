//! Two members compare their bytes by digests, find by halving where they differ, and whoever is damaged fetches from the other.

use std::time::Duration;

use crate::core::Core;
use crate::event::{Event, Scrubbed};
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::message::{Found, Message, Range};
use crate::options::Peer;
use crate::units::{Fetch, Fetched};

/// So much is compared with one digest.
pub(crate) const STRIDE_BYTES: u64 = 16 << 20;
/// A range that differs is halved down to this.
const GRANULE_BYTES: u64 = 4096;
/// So often a question is asked, and a range looked at again.
const TRIES_MAX: u32 = 20;

#[derive(Debug)]
struct Heal {
    from: u64,
    fetch: Fetch,
    /// Who is asked next, if this one has not got it whole either.
    others: Vec<Peer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Compares `lo..hi`.
    Compare,
    /// `lo..hi` differs; compares its first half.
    Halve,
    /// `lo..hi` differs and is small: each side looks at its own copy.
    Look,
    /// One side is fetching; then the stride is compared again.
    Wait,
}

#[derive(Debug)]
struct Job {
    peer: Peer,
    to: u64,
    /// The present stride begins here.
    stride: u64,
    lo: u64,
    hi: u64,
    stage: Stage,
    ticket: u64,
    asked: Duration,
    tries: u32,
    /// The stride has been compared so often.
    rounds: u32,
    healed: u32,
    /// Both sides said that they are whole, once before.
    suspect: bool,
}

/// One comparison and one range that is being healed, at most.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    job: Option<Job>,
    heal: Option<Heal>,
    /// Who may have what is damaged here, beside whoever is asked first.
    pub(crate) helpers: Vec<Peer>,
}

impl Scrub {
    pub(crate) fn start<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        from: u64,
        to: u64,
    ) -> bool {
        if self.job.is_some() {
            return false;
        }
        let job = Job {
            peer,
            to: to.max(from),
            stride: from,
            lo: from,
            hi: from,
            stage: Stage::Compare,
            ticket: 0,
            asked: core.now,
            tries: 0,
            rounds: 0,
            healed: 0,
            suspect: false,
        };
        self.job = Some(job);
        self.begin_stride(core);
        true
    }

    /// Fetches a damaged range.
    pub(crate) fn heal<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        (from, to): (u64, u64),
    ) {
        if self.heal.is_none() && from < to {
            core.event(Event::Damaged { from, to });
            let fetch = Fetch::new(core, peer, from, to);
            let others = self.helpers.iter().copied().filter(|&it| it != peer);
            self.heal = Some(Heal {
                from,
                fetch,
                others: others.collect(),
            });
        }
    }

    /// What was asked of other members is of no use any more: the role has changed.
    pub(crate) fn abandon<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        self.heal = None;
        self.finish(core, Scrubbed::GaveUp);
    }

    fn finish<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, outcome: Scrubbed) {
        if let Some(job) = self.job.take() {
            let peer = job.peer;
            if let Scrubbed::Differs { offset } = outcome {
                core.event(Event::Conflict { peer, offset });
            }
            core.event(Event::Scrubbed { peer, outcome });
        }
    }

    fn begin_stride<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let Some(job) = &mut self.job else { return };
        if job.stride >= job.to {
            let healed = job.healed;
            return self.finish(core, Scrubbed::Equal { healed });
        }
        job.rounds += 1;
        if job.rounds > TRIES_MAX {
            return self.finish(core, Scrubbed::GaveUp);
        }
        (job.lo, job.hi) = (job.stride, job.to.min(job.stride + STRIDE_BYTES));
        job.stage = Stage::Compare;
        self.ask(core, true);
    }

    /// Sends the question of the present stage.
    fn ask<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, new: bool) {
        let Some(job) = &mut self.job else { return };
        if new {
            job.ticket = core.ticket();
            job.tries = 0;
        }
        job.tries += 1;
        job.asked = core.now;
        let range = Range {
            ticket: job.ticket,
            from: job.lo,
            to: match job.stage {
                Stage::Halve => job.lo + (job.hi - job.lo) / 2,
                _ => job.hi,
            },
        };
        let message = match job.stage {
            Stage::Compare | Stage::Halve => Message::DigestAsk(range),
            Stage::Look => Message::CheckAsk(range),
            Stage::Wait => return,
        };
        core.send(job.peer, 0, message);
    }

    /// Frames of members that have promised the same epoch as this one.
    pub(crate) fn handle<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        message: Message,
    ) {
        match message {
            Message::DigestAsk(_) | Message::CheckAsk(_) if !core.has_room(peer) => {}
            Message::DigestAsk(Range { ticket, from, to }) => {
                let short = to - from <= STRIDE_BYTES;
                let digest = (short.then(|| core.log.digest(from, to).ok())).flatten();
                core.send(peer, 0, Message::DigestSay { ticket, digest });
            }
            Message::CheckAsk(range) => {
                let found = self.look(core, peer, range.from, range.to);
                let ticket = range.ticket;
                core.send(peer, 0, Message::CheckSay { ticket, found });
            }
            Message::DigestSay { ticket, digest } if self.is_answer(peer, ticket) => {
                self.compared(core, digest);
            }
            Message::CheckSay { ticket, found } if self.is_answer(peer, ticket) => {
                self.looked(core, found);
            }
            Message::Units {
                ticket,
                offset,
                skip,
                total,
                bytes,
            } => self.units(core, peer, (ticket, offset, skip, total), &bytes),
            _ => {}
        }
    }

    fn is_answer(&self, peer: Peer, ticket: u64) -> bool {
        (self.job.as_ref()).is_some_and(|job| job.peer == peer && job.ticket == ticket)
    }

    /// Looks at this member's copy, and has it healed by the other.
    fn look<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        from: u64,
        to: u64,
    ) -> Found {
        if to - from > STRIDE_BYTES {
            return Found::NotHere;
        }
        match core.log.verify(from, to) {
            Ok(()) => Found::Good,
            Err(LogError::Damaged { from, to }) => {
                self.heal(core, peer, (from, to));
                Found::Damaged
            }
            Err(_) => Found::NotHere,
        }
    }

    fn compared<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, theirs: Option<u64>) {
        let Some(job) = &mut self.job else { return };
        let middle = job.lo + (job.hi - job.lo) / 2;
        let to = match job.stage {
            Stage::Compare => job.hi,
            Stage::Halve => middle,
            Stage::Look | Stage::Wait => return,
        };
        let Some(theirs) = theirs else {
            job.hi = to;
            job.stage = Stage::Look;
            return self.ask(core, true);
        };
        let equal = match core.log.digest(job.lo, to) {
            Ok(ours) => ours == theirs,
            Err(LogError::Damaged { .. }) => false,
            Err(_) => return self.finish(core, Scrubbed::GaveUp),
        };
        match (job.stage, equal) {
            (Stage::Compare, true) => {
                job.stride = job.hi;
                job.rounds = 0;
                job.suspect = false;
                return self.begin_stride(core);
            }
            (Stage::Compare, false) => job.stage = Stage::Halve,
            (_, true) => job.lo = middle,
            (_, false) => job.hi = middle,
        }
        if job.hi - job.lo <= GRANULE_BYTES {
            job.stage = Stage::Look;
        }
        self.ask(core, true);
    }

    fn looked<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, theirs: Found) {
        let Some(job) = &mut self.job else { return };
        if job.stage != Stage::Look {
            return;
        }
        let (peer, lo, hi, suspect) = (job.peer, job.lo, job.hi, job.suspect);
        job.stage = Stage::Wait;
        job.asked = core.now;
        if theirs == Found::NotHere {
            return self.finish(core, Scrubbed::GaveUp);
        }
        match self.look(core, peer, lo, hi) {
            Found::NotHere => self.finish(core, Scrubbed::GaveUp),
            Found::Good if theirs == Found::Good => {
                // One side may have healed between the digests: what differs twice, differs.
                if suspect {
                    return self.finish(core, Scrubbed::Differs { offset: lo });
                }
                if let Some(job) = &mut self.job {
                    job.suspect = true;
                }
                self.begin_stride(core);
            }
            _ => {}
        }
    }

    fn units<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        head: (u64, u64, u32, u32),
        piece: &[u8],
    ) {
        let Some(heal) = &mut self.heal else { return };
        match heal.fetch.take(core, peer, head, piece) {
            Fetched::NotYet => {}
            Fetched::Nothing => self.ask_another(core),
            Fetched::Units(units) => {
                let at = heal.fetch.at();
                if core.log.replace(at, &units).is_err() {
                    return self.ask_another(core);
                }
                let next = at + units.len() as u64;
                if next >= heal.fetch.to {
                    return self.healed(core, true);
                }
                heal.fetch.ask_from(core, next);
            }
        }
    }

    fn ask_another<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let Some(heal) = &mut self.heal else { return };
        let Some(peer) = heal.others.pop() else {
            return self.healed(core, false);
        };
        let (at, to) = (heal.fetch.at(), heal.fetch.to);
        heal.fetch = Fetch::new(core, peer, at, to);
    }

    fn healed<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, done: bool) {
        let Some(heal) = self.heal.take() else { return };
        let (from, to) = (heal.from, heal.fetch.to);
        core.event(match done {
            true => Event::Healed { from, to },
            false => Event::NotHealed { from, to },
        });
        if let Some(job) = &mut self.job
            && job.stage == Stage::Wait
        {
            if !done {
                return self.finish(core, Scrubbed::GaveUp);
            }
            job.healed += 1;
            self.begin_stride(core);
        }
    }

    pub(crate) fn handle_timeout<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let late = |asked: Duration| core.now >= asked + core.options.retry;
        if let Some(heal) = &mut self.heal
            && late(heal.fetch.asked)
        {
            if heal.fetch.tries >= TRIES_MAX {
                self.ask_another(core);
            } else {
                heal.fetch.ask(core);
            }
        }
        if let Some(job) = &self.job
            && core.now >= job.asked + core.options.retry
        {
            if job.tries >= TRIES_MAX {
                self.finish(core, Scrubbed::GaveUp);
            } else if job.stage != Stage::Wait {
                self.ask(core, false);
            } else if self.heal.is_none() {
                self.begin_stride(core);
            } else if let Some(job) = &mut self.job {
                job.asked = core.now;
            }
        }
    }

    pub(crate) fn poll_timeout<L>(&self, core: &Core<L>) -> Duration {
        let retry = core.options.retry;
        let heal = (self.heal.as_ref()).map_or(Duration::MAX, |heal| heal.fetch.asked + retry);
        let job = (self.job.as_ref()).map_or(Duration::MAX, |job| job.asked + retry);
        heal.min(job)
    }
}
