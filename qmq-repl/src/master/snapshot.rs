//! A snapshot for slaves whose end the log has retired: one at a time, in pieces that can be taken up again.

use std::time::Duration;

use bytes::Bytes;

use super::Master;
use crate::core::Core;
use crate::event::Event;
use crate::link::Feed;
use crate::log::{MasterLog, SlaveLog, Snapshot};
use crate::message::{Message, Refused};
use crate::options::Peer;

#[derive(Debug)]
pub(super) struct Outgoing {
    snapshot: Snapshot,
    crc: u32,
    /// When a slave was last getting it.
    used: Duration,
}

impl Outgoing {
    pub(super) fn total(&self) -> u64 {
        self.snapshot.bytes.len() as u64
    }
}

impl Master {
    pub(super) fn snapshot_asked<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        session: u64,
        which: (u64, u32),
        have: u64,
    ) {
        let now = core.now;
        let link = &self.links[peer.index()];
        let new = session != 0 && session == link.offered;
        let going = self.is_session(peer, session) && matches!(link.feed, Feed::Snapshot { .. });
        if !new && !going {
            return core.refuse(peer, session, Refused::NoSession);
        }
        if now < self.no_snapshot_until {
            return;
        }
        let start = core.log.start();
        if self
            .outgoing
            .as_ref()
            .is_none_or(|it| it.snapshot.base < start)
        {
            match core.log.snapshot() {
                Ok(snapshot) => {
                    let crc = crc32fast::hash(&snapshot.bytes);
                    let used = now;
                    self.outgoing = Some(Outgoing {
                        snapshot,
                        crc,
                        used,
                    });
                }
                Err(error) => {
                    // It costs a slave, and not the group its master.
                    self.no_snapshot_until = now + core.options.silence;
                    return core.event(Event::NoSnapshot { slave: peer, error });
                }
            }
        }
        let Some(outgoing) = &self.outgoing else {
            return;
        };
        let same = which == (outgoing.snapshot.base, outgoing.crc) && have <= outgoing.total();
        let has = if same { have } else { 0 };
        let link = &mut self.links[peer.index()];
        if new {
            link.begin(
                Feed::Snapshot {
                    sent: has,
                    have: has,
                },
                now,
            );
            link.buffered = 0;
            link.synced = 0;
            link.needs = Some(outgoing.snapshot.base);
        }
        link.heard = now;
        if let Feed::Snapshot { sent, have } = &mut link.feed {
            if has != *have {
                link.progress = now;
            }
            if has < *have {
                // Another snapshot than the one that it had a part of.
                *sent = has;
            }
            *have = has;
            *sent = (*sent).max(has);
        }
    }

    pub(super) fn send_snapshot<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) -> Option<Bytes> {
        if !self.may_catch_up(core) {
            return None;
        }
        let outgoing = self.outgoing.as_ref()?;
        let total = outgoing.total();
        let link = &mut self.links[slave.index()];
        let Feed::Snapshot { sent, have } = &mut link.feed else {
            return None;
        };
        if *sent >= total || *sent - *have >= core.options.window_bytes {
            return None;
        }
        let to = total.min(*sent + core.options.frame_bytes as u64);
        let bytes = outgoing.snapshot.bytes.slice(*sent as usize..to as usize);
        if let Some(bucket) = &mut self.bucket {
            bucket.take(bytes.len());
        }
        let message = Message::SnapshotPiece {
            base: outgoing.snapshot.base,
            crc: outgoing.crc,
            total,
            offset: *sent,
            bytes,
        };
        *sent = to;
        link.sent = core.now;
        Some(self.frame(slave, message))
    }

    /// A slave whose connection broke goes on with the same one, if it comes back soon: the next one made is another.
    pub(super) fn drop_unused_snapshot(&mut self, now: Duration, keep: Duration) {
        let used = (self.links.iter())
            .any(|link| link.session != 0 && matches!(link.feed, Feed::Snapshot { .. }));
        if let Some(outgoing) = &mut self.outgoing {
            if used {
                outgoing.used = now;
            } else if now >= outgoing.used + keep {
                self.outgoing = None;
            }
        }
    }
}
