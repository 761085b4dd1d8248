//! The master: lets slaves in, sends them the log, and knows what enough of them have.

use std::time::Duration;

use bytes::Bytes;

mod admit;
mod files;
mod send;
mod snapshot;
mod switch;
mod view;

use crate::core::Core;
use crate::event::{Event, NotAccepting};
use crate::frame::Frame;
use crate::lag::{Marks, TokenBucket};
use crate::link::{Feed, Link};
use crate::log::{MasterLog, SlaveLog};
use crate::message::{Message, Refused};
use crate::options::{FRAME_DATA_MAX, MEMBERS_MAX, Peer};
use snapshot::Outgoing;
use switch::Switch;

pub(crate) use files::WantedPart;

#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) epoch: u64,
    /// Of the group.
    tag: u32,
    /// End of the epoch's record. An older end that slaves have may still be replaced by another master; this one may not.
    floor: u64,
    links: Vec<Link>,
    sessions: u64,
    /// What enough slaves have.
    replicated: u64,
    marks: Marks,
    too_few: bool,
    accepting: bool,
    bucket: Option<TokenBucket>,
    outgoing: Option<Outgoing>,
    /// None could be made; it is not tried again before.
    no_snapshot_until: Duration,
    switch: Option<Switch>,
    heartbeat_at: Duration,
    /// Version of the files beside the log when they were last looked at.
    files: u64,
    /// The written end when it was last looked at.
    seen: u64,
}

impl Master {
    pub(crate) fn new<L: MasterLog + SlaveLog>(core: &Core<L>, epoch: u64, floor: u64) -> Self {
        let mut marks = Marks::default();
        marks.written(core.now, floor, core.options.slave_sync_timeout);
        let master = Self {
            epoch,
            tag: core.group.tag(),
            floor,
            links: core.group.members.iter().map(|_| Link::default()).collect(),
            sessions: 0,
            replicated: 0,
            marks,
            too_few: false,
            accepting: true,
            bucket: (core.options.catch_up_bytes_per_second)
                .map(|rate| TokenBucket::new(rate, core.now)),
            outgoing: None,
            no_snapshot_until: core.now,
            switch: None,
            heartbeat_at: core.now,
            files: 0,
            seen: floor,
        };
        core.log.keep_from(master.hold(core));
        master
    }

    pub(crate) fn handle<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        frame: Frame,
    ) {
        let session = frame.session;
        match frame.message {
            Message::Hello(hello) => self.greet(core, peer, &hello),
            Message::Follow { at, from, digest } => {
                self.follow(core, peer, session, at, (from, digest));
            }
            Message::SnapshotAsk { base, crc, have } => {
                self.snapshot_asked(core, peer, session, (base, crc), have);
            }
            Message::Ack {
                buffered,
                synced,
                received,
                echo,
                gap,
                partial,
            } => {
                if frame.epoch != self.epoch || !self.is_session(peer, session) {
                    core.refuse(peer, session, Refused::NoSession);
                } else {
                    self.links[peer.index()].partial = partial;
                    self.acknowledged(core, peer, (buffered, synced, received), echo, gap);
                }
            }
            Message::FilesAsk => self.files_asked(core, peer, session),
            Message::PartAsk {
                ticket,
                file,
                offset,
                len,
                crc,
            } => {
                let part = WantedPart {
                    ticket,
                    file,
                    offset,
                    len: FRAME_DATA_MAX.min(len as usize),
                    crc,
                };
                self.part_asked(core, peer, session, part);
            }
            Message::Refused(Refused::NoSession) => {}
            Message::Refused(reason) => core.event(Event::Refused { peer, reason }),
            _ => {}
        }
    }

    fn is_session(&self, peer: Peer, session: u64) -> bool {
        let link = &self.links[peer.index()];
        session != 0 && session == link.session
    }

    fn acknowledged<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        (buffered, synced, received): (u64, u64, u64),
        echo: Duration,
        gap: bool,
    ) {
        let (now, written) = (core.now, core.log.written());
        let link = &mut self.links[peer.index()];
        if !matches!(link.feed, Feed::Log) {
            return;
        }
        if synced > buffered || buffered > written || echo > now {
            link.end();
            core.event(Event::Conflict {
                peer,
                offset: written,
            });
            core.refuse(peer, 0, Refused::Conflict);
            return;
        }
        link.heard = now;
        link.confirmed = true;
        if buffered > link.buffered {
            link.buffered = buffered;
            link.progress = now;
            link.needs = Some(buffered);
            if link.next < buffered {
                // Sent before it was rewound, and it has come after all.
                link.next = buffered;
                link.run = None;
            }
        }
        if received > link.received {
            link.progress = now;
        }
        // It may fall back, when a long unit begins anew.
        link.received = received;
        link.synced = link.synced.max(synced);
        if !echo.is_zero() {
            link.round_trip = now - echo;
            if let Some(lease) = core.options.fence_lease {
                // Clocks may run at different speeds: a tenth is left to the slave.
                link.lease_until = link.lease_until.max(echo + lease / 10 * 9);
            }
        }
        let again = now.saturating_sub(link.rewound) >= core.options.retry / 4;
        if gap && buffered == link.buffered && link.on_its_way() > 0 && again {
            link.rewind(now);
        }
        self.advance(core);
        self.drive_switch(core);
        self.judge(core);
    }

    /// What enough slaves claim.
    fn held<L: MasterLog>(&self, core: &Core<L>, claim: impl Fn(&Link) -> u64) -> u64 {
        let written = core.log.written();
        let Some(last) = core.group.min_insync.checked_sub(1) else {
            return written;
        };
        let mut claims = [0; MEMBERS_MAX];
        for (one, link) in claims.iter_mut().zip(&self.links) {
            *one = claim(link);
        }
        claims.sort_unstable_by(|a, b| b.cmp(a));
        claims[last].min(written)
    }

    /// The watermark follows what the `min_insync`-th slave has.
    pub(crate) fn advance<L: MasterLog + SlaveLog>(&mut self, core: &Core<L>) {
        let end = self.held(core, |link| link.claim(core.options.ack_policy));
        if end >= self.floor && end > self.replicated {
            self.replicated = end;
            core.log.advance_replicated(end);
        }
        self.marks.replicated(self.replicated);
    }

    /// The written end of the log has moved, or its synced one.
    pub(crate) fn log_moved<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let written = core.log.written();
        for link in &mut self.links {
            if link.buffered >= self.seen && written > self.seen {
                link.progress = core.now;
            }
        }
        self.seen = written;
        if core.group.min_insync > 0 && written > self.replicated {
            (self.marks).written(core.now, written, core.options.slave_sync_timeout);
        }
        self.advance(core);
        self.judge(core);
    }

    /// Whether slaves keep up, and whether appends may come.
    fn judge<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let oldest = self.marks.oldest();
        let late = oldest.filter(|(at, _)| core.now >= *at + core.options.slave_sync_timeout);
        if let Some((_, before)) = late
            && !self.too_few
        {
            let in_sync = (self.lag(core).iter()).filter(|lag| lag.in_sync).count();
            core.event(Event::TooFewInSync {
                in_sync,
                needed: core.group.min_insync,
                before,
            });
        } else if self.too_few && late.is_none() {
            core.event(Event::EnoughInSync);
        }
        if self.too_few != late.is_some() {
            self.too_few = late.is_some();
            core.log.too_few_in_sync(self.too_few);
        }
        let accepting = self.may_accept(core, core.now).is_ok();
        if accepting != self.accepting {
            self.accepting = accepting;
            core.log.accept(accepting);
            core.event(match accepting {
                true => Event::Resumed,
                false => Event::Paused,
            });
        }
    }

    pub(crate) fn may_accept<L>(&self, core: &Core<L>, now: Duration) -> Result<(), NotAccepting> {
        if self.switch.is_some() {
            return Err(NotAccepting::Switching);
        }
        match self.lease_until(core) {
            Some(until) if now >= until => Err(NotAccepting::LeaseRanOut),
            _ => Ok(()),
        }
    }

    /// `min_insync` slaves must stand behind it, so that a promotion hears from one of them or from this member.
    fn lease_until<L>(&self, core: &Core<L>) -> Option<Duration> {
        core.options.fence_lease?;
        let needed = core.group.min_insync.max(1);
        let mut leases: Vec<Duration> = self.links.iter().map(|link| link.lease_until).collect();
        leases.sort_unstable_by(|a, b| b.cmp(a));
        Some(leases[needed - 1])
    }

    pub(crate) fn is_too_few(&self) -> bool {
        self.too_few
    }

    pub(crate) fn replicated(&self) -> u64 {
        self.replicated
    }

    pub(crate) fn handle_timeout<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let now = core.now;
        for slave in core.group.others() {
            let link = &mut self.links[slave.index()];
            if link.session != 0 && now >= link.heard + core.options.silence {
                link.end();
                core.event(Event::SlaveGone { slave });
            }
            if link.resend_at(&core.options).is_some_and(|at| now >= at) {
                match &mut link.feed {
                    Feed::Snapshot { sent, have } => {
                        *sent = *have;
                        link.rewound = now;
                    }
                    _ => link.rewind(now),
                }
            }
        }
        self.drop_unused_snapshot(now, core.options.silence);
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + core.options.heartbeat;
            self.look_at_files(core);
            core.log.keep_from(self.hold(core));
            for slave in core.group.others() {
                self.heartbeat(core, slave);
            }
        }
        self.drive_switch(core);
        self.log_moved(core);
    }

    pub(super) fn look_at_files<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        match core.log.files().map(qmq_store::PrimaryFiles::version) {
            Some(Ok(version)) => self.files = version.max(1),
            Some(Err(error)) => {
                // No version that there is: slaves ask, and do not take it for none.
                self.files = u64::MAX;
                core.event(Event::FilesNotRead {
                    error: error.to_string(),
                });
            }
            None => {}
        }
    }

    fn heartbeat<L: MasterLog + SlaveLog>(&self, core: &mut Core<L>, slave: Peer) {
        let link = &self.links[slave.index()];
        let message = Message::Heartbeat {
            sent: core.now,
            written: core.log.written(),
            synced: core.log.synced(),
            replicated: self.replicated,
            lease: core.options.fence_lease.unwrap_or_default(),
            files: self.files,
        };
        core.send(slave, link.session, message);
    }

    pub(crate) fn poll_timeout<L: MasterLog + SlaveLog>(&self, core: &Core<L>) -> Duration {
        let options = &core.options;
        let mut next = self.heartbeat_at;
        for link in &self.links {
            if link.session != 0 {
                next = next.min(link.heard + options.silence);
            }
            next = next.min(link.resend_at(options).unwrap_or(Duration::MAX));
            if link.blocked_until > core.now {
                next = next.min(link.blocked_until);
            }
        }
        if let Some((at, _)) = self.marks.oldest()
            && !self.too_few
        {
            next = next.min(at + options.slave_sync_timeout);
        }
        if let Some(until) = self.lease_until(core)
            && self.accepting
        {
            next = next.min(until);
        }
        if let Some(bucket) = &self.bucket
            && bucket.opens() > core.now
            && (core.group.others()).any(|slave| {
                self.links[slave.index()].part.is_some() || self.is_catching_up(core, slave)
            })
        {
            next = next.min(bucket.opens());
        }
        next.min(self.switch_timeout())
    }

    /// The connection to a slave is gone.
    pub(crate) fn disconnected<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) {
        let link = &mut self.links[slave.index()];
        if link.session != 0 {
            core.event(Event::SlaveGone { slave });
        }
        link.end();
    }

    /// The next frame of the log, or of a snapshot, for a slave.
    pub(crate) fn poll_transmit<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) -> Result<Option<Bytes>, crate::log::LogError> {
        match self.links[slave.index()].feed {
            _ if self.links[slave.index()].session == 0 => Ok(None),
            Feed::Nothing => Ok(None),
            Feed::Log => match self.send_part(core, slave) {
                Some(frame) => Ok(Some(frame)),
                None => self.send_log(core, slave),
            },
            Feed::Snapshot { .. } => Ok(self.send_snapshot(core, slave)),
        }
    }
}
