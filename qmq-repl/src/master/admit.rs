//! How a slave comes in: a hello, a welcome, and a common end that both have compared.

use super::Master;
use crate::core::Core;
use crate::event::Event;
use crate::frame::VERSION;
use crate::history::{History, common_end};
use crate::link::Feed;
use crate::log::{MasterLog, SlaveLog};
use crate::message::{Hello, Message, Refused};
use crate::options::Peer;
use crate::scrub::STRIDE_BYTES;

impl Master {
    pub(super) fn greet<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        hello: &Hello,
    ) {
        if let Some(reason) = refusal(core, peer, hello) {
            core.event(Event::Refused { peer, reason });
            return core.refuse(peer, 0, reason);
        }
        let epochs = core.log.epochs();
        let ours = History {
            start: core.log.start(),
            end: core.log.written(),
            epochs: &epochs,
        };
        let theirs = History {
            start: hello.start,
            end: hello.written,
            epochs: &hello.epochs,
        };
        let common = common_end(ours, theirs);
        let (start, written) = (ours.start, ours.end);
        self.sessions += 1;
        // A session under way goes on until the slave takes this one up: the hello may be an old one that comes late.
        let link = &mut self.links[peer.index()];
        link.offered = self.sessions;
        link.common = common.unwrap_or(0);
        link.heard = core.now;
        let nonce = hello.nonce;
        let message = Message::Welcome {
            nonce,
            log_id: core.log.id(),
            start,
            written,
            epochs,
        };
        core.send(peer, self.sessions, message);
    }

    pub(super) fn follow<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        session: u64,
        at: u64,
        (from, digest): (u64, u64),
    ) {
        let link = &mut self.links[peer.index()];
        if session != 0 && session == link.session && matches!(link.feed, Feed::Log) {
            // The answer was lost. A slave that has got it passes over the second one.
            return core.send(peer, session, Message::Start { at });
        }
        if session == 0 || session != link.offered {
            return core.refuse(peer, session, Refused::NoSession);
        }
        if at > link.common || at > core.log.written() || from > at || at - from > STRIDE_BYTES {
            link.end();
            core.event(Event::Conflict { peer, offset: at });
            return core.refuse(peer, 0, Refused::Conflict);
        }
        if from < core.log.start() {
            // Retention has moved on since the welcome.
            return core.refuse(peer, session, Refused::NoSession);
        }
        match core.log.digest(from, at) {
            Ok(ours) if ours == digest => {}
            _ => return core.refuse(peer, session, Refused::Differs),
        }
        let now = core.now;
        self.links[peer.index()].begin_log(at, now);
        core.send(peer, session, Message::Start { at });
        core.event(Event::SlaveCame { slave: peer, at });
        // What a snapshot before this session left out is in the files as they are now.
        self.look_at_files(core);
        self.heartbeat(core, peer);
    }
}

fn refusal<L: MasterLog>(core: &Core<L>, peer: Peer, hello: &Hello) -> Option<Refused> {
    let group = &core.group;
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        return Some(Refused::Version {
            min: VERSION,
            max: VERSION,
        });
    }
    if hello.group != group.name {
        return Some(Refused::OtherGroup);
    }
    if hello.log_id != 0 && hello.log_id != core.log.id() {
        return Some(Refused::OtherLog);
    }
    (group.members[peer.index()] != hello.node).then_some(Refused::OtherName)
}
