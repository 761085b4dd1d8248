//! Files beside the log, for slaves that ask for them. Nothing is kept here but the question that waits.

use bytes::Bytes;
use qmq_store::PrimaryFile;

use super::Master;
use crate::core::Core;
use crate::event::Event;
use crate::log::{MasterLog, SlaveLog};
use crate::message::{FilePart, Message, Refused};
use crate::options::Peer;

/// A part that a slave has asked for.
#[derive(Debug)]
pub(crate) struct WantedPart {
    pub(super) ticket: u64,
    pub(super) file: PrimaryFile,
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) crc: Option<u32>,
}

impl Master {
    pub(super) fn files_asked<L: MasterLog + SlaveLog>(
        &self,
        core: &mut Core<L>,
        peer: Peer,
        session: u64,
    ) {
        if !self.is_session(peer, session) {
            return core.refuse(peer, session, Refused::NoSession);
        }
        // What the log has let go of is in the files, also where nobody remembers that it did.
        let start = core.log.start();
        let until = self.held(core, |link| link.log_claim(core.options.ack_policy));
        match core.log.files().map(|files| files.latest(until)) {
            Some(Ok(Some(mut set))) => {
                set.hold = set.hold.max(start);
                core.send(peer, session, Message::Files(set));
            }
            // It asks again.
            Some(Ok(None)) => {}
            Some(Err(error)) => core.event(Event::FilesNotRead {
                error: error.to_string(),
            }),
            None => {}
        }
    }

    /// Answered when there is room, and when the rate for those who catch up allows.
    pub(super) fn part_asked<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        session: u64,
        part: WantedPart,
    ) {
        if !self.is_session(peer, session) {
            return core.refuse(peer, session, Refused::NoSession);
        }
        self.links[peer.index()].part = Some(part);
    }

    pub(super) fn send_part<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        slave: Peer,
    ) -> Option<Bytes> {
        if self.links[slave.index()].part.is_none() || !self.may_catch_up(core) {
            return None;
        }
        let part = self.links[slave.index()].part.take()?;
        let read = (core.log.files()?).read(&part.file, part.offset, part.len);
        let found = match read {
            Ok(None) => FilePart::Gone,
            Ok(Some(bytes)) if part.crc == Some(crc32fast::hash(&bytes)) => FilePart::Same,
            Ok(Some(bytes)) => {
                if let Some(bucket) = &mut self.bucket {
                    bucket.take(bytes.len());
                }
                FilePart::Bytes(bytes)
            }
            Err(error) => {
                core.event(Event::FilesNotRead {
                    error: error.to_string(),
                });
                return None;
            }
        };
        let message = Message::Part {
            ticket: part.ticket,
            found,
        };
        Some(self.frame(slave, message))
    }
}
