//! Units asked of another member by offset: to heal a damaged range, and to fetch what a candidate lacks.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::core::Core;
use crate::log::{MasterLog, SlaveLog};
use crate::message::Message;
use crate::options::{FRAME_DATA_MAX, Peer};

/// One question at a time: the units at `at`.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) peer: Peer,
    ticket: u64,
    at: u64,
    /// Not asked for beyond here.
    pub(crate) to: u64,
    bytes: BytesMut,
    pub(crate) asked: Duration,
    /// How often the question was asked without an answer.
    pub(crate) tries: u32,
}

/// What an answer has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Nothing of this question, or a piece.
    NotYet,
    /// Whole units for [`Fetch::at`].
    Units(Bytes),
    /// The other has not got them, or they do not fit.
    Nothing,
}

impl Fetch {
    pub(crate) fn new<L: MasterLog + SlaveLog>(
        core: &mut Core<L>,
        peer: Peer,
        at: u64,
        to: u64,
    ) -> Self {
        let mut fetch = Self {
            peer,
            ticket: 0,
            at,
            to,
            bytes: BytesMut::new(),
            asked: core.now,
            tries: 0,
        };
        fetch.ask_from(core, at);
        fetch
    }

    /// The next units.
    pub(crate) fn ask_from<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, at: u64) {
        self.at = at;
        self.bytes.clear();
        self.ticket = core.ticket();
        self.tries = 0;
        self.ask(core);
    }

    pub(crate) fn ask<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        self.asked = core.now;
        self.tries += 1;
        let message = Message::UnitsAsk {
            ticket: self.ticket,
            offset: self.at,
            skip: self.bytes.len() as u32,
            max: self.max(),
        };
        core.send(self.peer, 0, message);
    }

    fn max(&self) -> u32 {
        u32::try_from(self.to - self.at).unwrap_or(u32::MAX)
    }

    /// Takes an answer: ticket, offset, skip and total, and the piece.
    pub(crate) fn take<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        peer: Peer,
        (ticket, offset, skip, total): (u64, u64, u32, u32),
        piece: &[u8],
    ) -> Fetched {
        let have = self.bytes.len();
        if (peer, ticket, offset) != (self.peer, self.ticket, self.at) || skip as usize != have {
            return Fetched::NotYet;
        }
        let total = total as usize;
        if total == 0
            || total > core.options.unit_bytes_max as usize
            || total as u64 > self.to - self.at
            || have + piece.len() > total
            || piece.is_empty()
        {
            return Fetched::Nothing;
        }
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() < total {
            self.tries = 0;
            self.ask(core);
            return Fetched::NotYet;
        }
        Fetched::Units(std::mem::take(&mut self.bytes).freeze())
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }
}

/// Answers a question for units. Both members have promised the same epoch, so their logs do not part below what both are sure of.
pub(crate) fn answer<L: MasterLog + SlaveLog>(
    core: &mut Core<L>,
    peer: Peer,
    (ticket, offset): (u64, u64),
    skip: u32,
    max: u32,
) {
    if !core.has_room(peer) {
        return;
    }
    let max = (max as usize).min(FRAME_DATA_MAX);
    let units = core.log.read(offset, max).unwrap_or_default();
    let skip_to = (skip as usize).min(units.len());
    let end = units.len().min(skip_to + core.options.frame_bytes);
    let message = Message::Units {
        ticket,
        offset,
        skip,
        total: u32::try_from(units.len()).unwrap_or(0),
        bytes: units.slice(skip_to..end),
    };
    core.send(peer, 0, message);
}
