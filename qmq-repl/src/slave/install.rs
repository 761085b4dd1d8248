//! A snapshot that comes in pieces. What has come is kept over sessions, so that a lost connection costs nothing.

use bytes::BytesMut;

use super::{Slave, State};
use crate::core::{Core, Cut};
use crate::event::Event;
use crate::log::{LogError, MasterLog, SlaveLog, Snapshot};
use crate::message::Message;

#[derive(Debug)]
pub(super) struct Incoming {
    base: u64,
    crc: u32,
    total: u64,
    bytes: BytesMut,
}

impl Slave {
    pub(super) fn ask_snapshot<L: MasterLog + SlaveLog>(&self, core: &mut Core<L>) {
        let (State::Loading { session, .. }, Some(master)) = (self.state, self.master) else {
            return;
        };
        let (base, crc, have) = (self.incoming.as_ref())
            .map_or((0, 0, 0), |it| (it.base, it.crc, it.bytes.len() as u64));
        core.send(master, session, Message::SnapshotAsk { base, crc, have });
    }

    pub(super) fn snapshot_piece<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        message: Message,
    ) {
        let Message::SnapshotPiece {
            base,
            crc,
            total,
            offset,
            bytes,
        } = message
        else {
            return;
        };
        if !matches!(self.state, State::Loading { .. }) {
            return;
        }
        if total > core.options.snapshot_bytes_max || total == 0 {
            let error = LogError::BadBytes { offset: base };
            core.event(Event::AppendRefused { error });
            return self.ask_later(core, core.options.silence);
        }
        let same = |it: &Incoming| (it.base, it.crc, it.total) == (base, crc, total);
        let incoming = match &mut self.incoming {
            Some(incoming) if same(incoming) => incoming,
            other => other.insert(Incoming {
                base,
                crc,
                total,
                bytes: BytesMut::new(),
            }),
        };
        let have = incoming.bytes.len() as u64;
        if offset == have && bytes.len() as u64 <= total - have {
            incoming.bytes.extend_from_slice(&bytes);
            self.asked = core.now;
            if incoming.bytes.len() as u64 == total {
                return self.install(core);
            }
            self.ask_snapshot(core);
        }
    }

    fn install<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        let bytes = incoming.bytes.freeze();
        if crc32fast::hash(&bytes) != incoming.crc {
            let error = LogError::BadBytes {
                offset: incoming.base,
            };
            core.event(Event::AppendRefused { error });
            return self.ask_later(core, core.options.retry);
        }
        let snapshot = Snapshot {
            base: incoming.base,
            bytes,
        };
        let State::Loading { common, .. } = self.state else {
            return;
        };
        // What the master does not have goes into a file first; the rest is in the snapshot.
        let (from, to) = (common.max(core.log.start()), core.log.written());
        let cut = core.cut(from);
        if cut == Cut::Failed {
            return;
        }
        match core.log.install(&snapshot) {
            Ok(()) => {
                if cut == Cut::TooDeep {
                    core.event(Event::LostTail { from, to });
                }
                self.anew = false;
                core.event(Event::Installed {
                    base: snapshot.base,
                });
                self.ask(core);
            }
            Err(error @ LogError::Failed { .. }) => core.fail(error),
            Err(error) => {
                core.event(Event::AppendRefused { error });
                self.ask_later(core, core.options.retry);
            }
        }
    }
}
