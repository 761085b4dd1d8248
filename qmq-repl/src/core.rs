//! What a member has in every role: its log, its queues, the time of the present call.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::event::Event;
use crate::frame::Frame;
use crate::log::{LogError, MasterLog, SlaveLog};
use crate::message::{Memory, Message, Refused};
use crate::options::{Group, Options, Peer};

/// Most frames that wait for one peer, beside the log itself, which is read when there is room.
const FRAMES_MAX: usize = 64;
/// Most bytes of such frames.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Most events that wait. Whoever drives the member takes them after each call, so they do not get there.
const EVENTS_MAX: usize = 4096;

/// Mark of a member with nothing on its disk, which has promised what it may have promised before.
pub(crate) const NEVER_WELCOMED: u64 = u64::MAX;

/// What became of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Done,
    /// The log must begin anew.
    TooDeep,
    Failed,
}

#[derive(Debug, Default)]
struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Core<L> {
    pub(crate) group: Group,
    pub(crate) options: Options,
    pub(crate) log: L,
    pub(crate) now: Duration,
    /// Until then a master may hold the lease that this member granted.
    pub(crate) granted_until: Duration,
    /// The files beside the log are the master's, in this session; or the master has none.
    files_here: bool,
    /// The log has failed: nothing more is acknowledged or promised.
    pub(crate) failed: bool,
    events: VecDeque<Event>,
    outboxes: Vec<Outbox>,
    tickets: u64,
}

impl<L: MasterLog + SlaveLog> Core<L> {
    pub(crate) fn new(group: Group, options: Options, log: L, now: Duration, seed: u64) -> Self {
        let outboxes = group.members.iter().map(|_| Outbox::default()).collect();
        // A lease may have been granted just before this member ended.
        let granted_until = now + options.fence_lease.unwrap_or_default();
        Self {
            group,
            options,
            log,
            now,
            granted_until,
            files_here: false,
            failed: false,
            events: VecDeque::new(),
            outboxes,
            tickets: seed,
        }
    }

    /// A number that no earlier question of this member had, nor one of its former lives.
    pub(crate) fn ticket(&mut self) -> u64 {
        self.tickets = self.tickets.wrapping_add(1);
        self.tickets
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn send(&mut self, peer: Peer, session: u64, message: Message) {
        let epoch = self.log.promised();
        let frame = Frame {
            epoch,
            session,
            group: self.group.tag(),
            message,
        };
        self.send_frame(peer, &frame);
    }

    /// Whether an answer would be sent: to be asked before it costs reading the log.
    pub(crate) fn has_room(&self, peer: Peer) -> bool {
        let outbox = &self.outboxes[peer.index()];
        outbox.frames.len() < FRAMES_MAX && outbox.bytes < FRAME_BYTES_MAX
    }

    /// Queues a frame. One that finds no room is dropped: every question is asked again.
    pub(crate) fn send_frame(&mut self, peer: Peer, frame: &Frame) {
        if !self.has_room(peer) {
            return;
        }
        let outbox = &mut self.outboxes[peer.index()];
        let bytes = frame.encode();
        outbox.bytes += bytes.len();
        outbox.frames.push_back(bytes);
    }

    pub(crate) fn refuse(&mut self, peer: Peer, session: u64, reason: Refused) {
        self.send(peer, session, Message::Refused(reason));
    }

    pub(crate) fn take_frame(&mut self, peer: Peer) -> Option<Bytes> {
        let outbox = self.outboxes.get_mut(peer.index())?;
        let frame = outbox.frames.pop_front()?;
        outbox.bytes -= frame.len();
        Some(frame)
    }

    /// The connection is gone, and what waited for it.
    pub(crate) fn forget_frames(&mut self, peer: Peer) {
        self.outboxes[peer.index()] = Outbox::default();
    }

    pub(crate) fn fail(&mut self, error: LogError) {
        if !self.failed {
            self.failed = true;
            self.event(Event::LogFailed { error });
        }
    }

    /// Promises an epoch unless that has been done. Says whether the promise stands.
    pub(crate) fn promise(&mut self, epoch: u64) -> bool {
        if self.failed {
            return false;
        }
        if epoch > self.log.promised()
            && let Err(error) = self.log.promise(epoch)
        {
            self.fail(error);
            return false;
        }
        epoch == self.log.promised()
    }

    /// Which log this member has a copy of; 0 for none, since nothing is in its own.
    pub(crate) fn log_id(&self) -> u128 {
        let log = &self.log;
        let empty = log.start() == log.written() && log.epochs().is_empty();
        if empty { 0 } else { log.id() }
    }

    /// Whether this member still has what it acknowledged: what its word in a promotion is worth.
    pub(crate) fn memory(&self) -> Memory {
        let until = self.log.incomplete_until();
        let never_welcomed = self.log.promised() == 0 || until == NEVER_WELCOMED;
        if never_welcomed && self.log.epochs().is_empty() {
            Memory::Blank
        } else if until > 0 {
            Memory::Partial
        } else {
            Memory::Whole
        }
    }

    /// Keeps durably that this log has to come up to there before its word counts.
    pub(crate) fn mark_incomplete(&mut self, until: u64) -> bool {
        self.files_here &= until == 0;
        match self.log.mark_incomplete(until) {
            Ok(()) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// It has begun anew, and files that have what stands before its log have not come.
    pub(crate) fn lacks_files(&self) -> bool {
        self.log.incomplete_until() > 0 && !self.files_here
    }

    /// A session begins: whether the files are the master's is not known.
    pub(crate) fn forget_files(&mut self) {
        self.files_here = false;
    }

    /// The files beside the log have come, or there are none.
    pub(crate) fn files_came(&mut self) {
        if !self.files_here {
            self.files_here = true;
            self.sync();
        }
    }

    pub(crate) fn sync(&mut self) -> bool {
        if self.failed {
            return false;
        }
        match self.log.sync() {
            Ok(synced) => {
                let until = self.log.incomplete_until();
                let is_whole = synced >= until && self.files_here;
                until == 0 || !is_whole || self.mark_incomplete(0)
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Ends the log there, if it is longer, and tells of the lost tail.
    pub(crate) fn cut(&mut self, offset: u64) -> Cut {
        let end = self.log.written();
        if end <= offset {
            return Cut::Done;
        }
        let outcome = self.log.cut(offset);
        // Files beside the log may have been of its lost end.
        self.files_here &= self.log.incomplete_until() == 0;
        match outcome {
            Ok(()) => {
                let (from, to) = (offset, end);
                self.event(Event::LostTail { from, to });
                Cut::Done
            }
            Err(LogError::CutTooDeep { .. }) => Cut::TooDeep,
            Err(error) => {
                self.fail(error);
                Cut::Failed
            }
        }
    }
}
