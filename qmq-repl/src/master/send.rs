//! Bytes of the log on their way to a slave: read when there is room, never queued.

use bytes::Bytes;

use super::Master;
use crate::core::Core;
use crate::event::Event;
use crate::frame::Frame;
use crate::link::Run;
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::message::{Message, Refused};
use crate::options::Peer;

impl Master {
    /// More than a window behind: what it gets is counted against the rate for that.
    pub(super) fn is_catching_up<L: MasterLog + SlaveLog>(
        &self,
        core: &Core<L>,
        slave: Peer,
    ) -> bool {
        let link = &self.links[slave.index()];
        link.session != 0
            && (matches!(link.feed, crate::link::Feed::Snapshot { .. })
                || core.log.written().saturating_sub(link.buffered) > core.options.window_bytes)
    }

    pub(super) fn send_log<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) -> Result<Option<Bytes>, LogError> {
        let limited = self.is_catching_up(core, slave);
        if limited && !self.may_catch_up(core) {
            return Ok(None);
        }
        let Some((offset, rest, bytes)) = self.next_piece(core, slave)? else {
            return Ok(None);
        };
        if limited && let Some(bucket) = &mut self.bucket {
            bucket.take(bytes.len());
        }
        let message = Message::Data {
            offset,
            rest,
            bytes,
        };
        Ok(Some(self.frame(slave, message)))
    }

    pub(super) fn may_catch_up<L>(&mut self, core: &Core<L>) -> bool {
        (self.bucket.as_mut()).is_none_or(|bucket| bucket.is_open(core.now))
    }

    pub(super) fn frame(&self, slave: Peer, message: Message) -> Bytes {
        let frame = Frame {
            epoch: self.epoch,
            session: self.links[slave.index()].session,
            group: self.tag,
            message,
        };
        frame.encode()
    }

    fn next_piece<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) -> Result<Option<(u64, u32, Bytes)>, LogError> {
        let max = core.options.frame_bytes;
        let link = &mut self.links[slave.index()];
        if link.run.is_none() {
            let room = core.options.window_bytes.saturating_sub(link.on_its_way());
            let idle = link.on_its_way() == 0;
            if link.next >= core.log.written() || room == 0 || core.now < link.blocked_until {
                return Ok(None);
            }
            let max = max.min(usize::try_from(room).unwrap_or(max));
            let bytes = match core.log.read(link.next, max) {
                Ok(bytes) => bytes,
                Err(error) => return self.unreadable(core, slave, error),
            };
            if bytes.is_empty() || (bytes.len() as u64 > room && !idle) {
                return Ok(None);
            }
            link.run = Some(Run { bytes, sent: 0 });
        }
        let Some(run) = &mut link.run else {
            return Ok(None);
        };
        let offset = link.next + run.sent as u64;
        let piece = run
            .bytes
            .slice(run.sent..run.bytes.len().min(run.sent + max));
        run.sent += piece.len();
        link.sent = core.now;
        let rest = run.bytes.len() - run.sent;
        if rest == 0 {
            link.next += run.bytes.len() as u64;
            link.run = None;
        }
        Ok(Some((offset, rest as u32, piece)))
    }

    fn unreadable<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
        error: LogError,
    ) -> Result<Option<(u64, u32, Bytes)>, LogError> {
        let link = &mut self.links[slave.index()];
        match error {
            LogError::Retired { .. } => {
                // It begins anew, and gets a snapshot.
                let session = link.session;
                link.end();
                core.refuse(slave, session, Refused::NoSession);
                Ok(None)
            }
            LogError::NotABoundary { offset } => {
                link.end();
                core.event(Event::Conflict {
                    peer: slave,
                    offset,
                });
                core.refuse(slave, 0, Refused::Conflict);
                Ok(None)
            }
            error => {
                link.blocked_until = core.now + core.options.retry;
                Err(error)
            }
        }
    }
}
