//! What comes from the master into the log, and what is said back.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{MasterClock, MasterMarks, Slave, State};
use crate::core::Core;
use crate::event::Event;
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::message::Message;

/// A long unit that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: BytesMut,
}

impl Slave {
    pub(super) fn data<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        offset: u64,
        rest: u32,
        bytes: &Bytes,
    ) {
        if !matches!(self.state, State::Following { .. }) {
            return;
        }
        let written = core.log.written();
        let Some(end) = offset.checked_add(bytes.len() as u64) else {
            return;
        };
        self.ack = true;
        if end <= written {
            // It came twice.
            return;
        }
        if offset <= written {
            // The master begins the unit anew, or what is new begins within what has come.
            self.partial.bytes.clear();
            let new = bytes.slice((written - offset) as usize..);
            return self.piece(core, written, rest, &new);
        }
        if offset == written + self.partial.bytes.len() as u64 {
            return self.piece(core, written, rest, bytes);
        }
        if end > written + self.partial.bytes.len() as u64 {
            self.gap = true;
        }
    }

    /// What follows directly on what is there.
    fn piece<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        written: u64,
        rest: u32,
        bytes: &Bytes,
    ) {
        let whole = self.partial.bytes.len() as u64 + bytes.len() as u64 + u64::from(rest);
        if rest > 0 {
            if whole > u64::from(core.options.unit_bytes_max) {
                return self.refused_append(core, LogError::BadBytes { offset: written });
            }
            // Room for what has come, never for what is announced.
            self.partial.bytes.extend_from_slice(bytes);
            return;
        }
        let answer = if self.partial.bytes.is_empty() {
            core.log.append(written, bytes)
        } else {
            self.partial.bytes.extend_from_slice(bytes);
            let unit = std::mem::take(&mut self.partial.bytes);
            core.log.append(written, &unit)
        };
        match answer {
            Ok(end) if end == written + whole => self.sync_soon(core),
            Ok(end) => core.fail(LogError::NotTheEnd {
                offset: written + whole,
                end,
            }),
            Err(error @ LogError::Failed { .. }) => core.fail(error),
            Err(error) => self.refused_append(core, error),
        }
    }

    /// Said, and tried again from the hello on, after a pause.
    fn refused_append<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, error: LogError) {
        core.event(Event::AppendRefused { error });
        self.ask_later(core, core.options.retry);
    }

    pub(super) fn sync_soon<L: MasterLog + SlaveLog>(&mut self, core: &Core<L>) {
        if core.log.synced() < core.log.written() && self.sync_at.is_none() {
            self.sync_at = Some(core.now + core.options.slave_flush);
        }
    }

    pub(super) fn sync_if_due<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        if self.sync_at.is_none_or(|at| core.now < at) {
            return;
        }
        self.sync_at = None;
        if core.log.synced() < core.log.written() && core.sync() {
            self.ack = true;
        }
    }

    /// Somebody else has synced the log.
    pub(crate) fn log_moved<L: MasterLog + SlaveLog>(&mut self, core: &Core<L>) {
        if core.log.synced() > self.told {
            self.ack = true;
        }
    }

    pub(super) fn heartbeat<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        marks: MasterMarks,
        lease: Duration,
    ) {
        if !matches!(self.state, State::Following { .. }) || marks.sent < self.marks.sent {
            return;
        }
        self.marks = marks;
        self.clock = Some(MasterClock::heard(self.clock, core.now, marks.sent));
        self.ack = true;
        // From here on, so later than the master counts it from. Its answer goes out after this.
        core.granted_until = core.granted_until.max(core.now + lease);
    }

    /// The acknowledgement, if one is due.
    pub(crate) fn poll_transmit<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let State::Following { session } = self.state else {
            return;
        };
        let Some(master) = self.master else { return };
        if !self.ack || core.failed {
            return;
        }
        self.ack = false;
        self.ack_at = core.now + core.options.heartbeat;
        let (buffered, synced) = (core.log.written(), core.log.synced());
        self.told = synced;
        let message = Message::Ack {
            buffered,
            synced,
            received: buffered + self.partial.bytes.len() as u64,
            echo: self.marks.sent,
            gap: std::mem::take(&mut self.gap),
            partial: core.lacks_files(),
        };
        core.send(master, session, message);
    }
}
