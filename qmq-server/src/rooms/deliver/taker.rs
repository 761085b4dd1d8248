//! A consumer as one that takes messages: its credit, its outlet, what it asks the store for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use qmq_store::PullRequest;
use qmq_wire::{
    Code, Credit, DELIVERED_HEADER_LEN, DELIVERY_HEADER_LEN, FRAME_HEADER_LEN, Flow as Who,
    Refusal, Start, put_delivery_header,
};

use super::FlowKey;
use super::flow::Flow;
use super::share::Turns;
use crate::rooms::Outlet;
use crate::rooms::consumers::Key;
use crate::rooms::produce::Held;

/// See the module.
pub struct Taker {
    key: Key,
    attachment: u64,
    broadcast: bool,
    pub(super) at_most_once: bool,
    request: PullRequest,
    pub(super) outlet: Arc<dyn Outlet>,
    flow: OnceLock<Weak<Flow>>,
    wants: Mutex<Wants>,
    turns: Mutex<Turns>,
    /// The store looks at it too, so that nothing is taken for one that takes no more.
    closed: Arc<AtomicBool>,
}

#[derive(Default)]
struct Wants {
    messages: u64,
    bytes: i64,
    /// Whether it stands in its group's queue, or has the turn.
    standing: bool,
    /// Has not had its first turn.
    new: bool,
    /// Of one that pulls: the requests that wait, in order.
    pulls: std::collections::VecDeque<Pull>,
    pulls_only: bool,
    /// No pull waits any more.
    ended: bool,
}

struct Pull {
    number: u32,
    messages: u32,
    bytes: u32,
    until: Instant,
    /// Given back with the answer.
    held: Held,
}

/// Why a pull is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rooms) enum NotAsked {
    /// Too many wait.
    Busy,
    /// Its consumer is another's now, or nobody's.
    Ended,
}

/// What a turn may hand out.
#[derive(Clone, Copy, Debug)]
pub(super) struct May {
    pub(super) messages: usize,
    pub(super) bytes: u64,
    /// Number of the pull that it answers, and whether its wait is over.
    pub(super) pull: Option<(u32, bool)>,
    pub(super) first: bool,
}

/// What the other end's limit leaves for the messages of one frame.
struct Fits {
    messages: usize,
    bytes: u64,
}

/// In front of a delivery's messages, in its payload; of the answer to a pull, which has a number, too.
pub(super) const BEGIN_LEN: u64 = (DELIVERY_HEADER_LEN - FRAME_HEADER_LEN) as u64 + 4;

impl Fits {
    /// So many messages that their headers take no more than half of the frame.
    fn into(frame_bytes_max: u32, messages_max: usize) -> Self {
        let room = u64::from(frame_bytes_max).saturating_sub(BEGIN_LEN);
        let header = DELIVERED_HEADER_LEN as u64;
        let messages = (room / 2 / header).clamp(1, messages_max as u64);
        Self {
            messages: messages as usize,
            bytes: room.saturating_sub(messages * header),
        }
    }
}

/// Pulls of one consumer that may wait at a time.
const PULLS_MAX: usize = 64;

impl Taker {
    pub(in crate::rooms) fn subscription(
        key: Key,
        attachment: u64,
        who: &Who,
        credit: Credit,
        outlet: Arc<dyn Outlet>,
    ) -> Self {
        let taker = Self::puller(key, attachment, who, outlet);
        {
            let mut wants = taker.wants.lock();
            wants.messages = u64::from(credit.messages);
            wants.bytes = i64::try_from(credit.bytes).unwrap_or(i64::MAX);
            wants.pulls_only = false;
        }
        taker
    }

    pub(in crate::rooms) fn puller(
        key: Key,
        attachment: u64,
        who: &Who,
        outlet: Arc<dyn Outlet>,
    ) -> Self {
        let start = match who.start {
            Start::Latest => qmq_store::Start::Latest,
            Start::Earliest => qmq_store::Start::Earliest,
            Start::Sequence(sequence) => qmq_store::Start::Sequence(sequence),
            Start::Time(time) => qmq_store::Start::Time(time),
        };
        let closed = Arc::<AtomicBool>::default();
        let request = PullRequest::new(&*key.subject, &*key.group, &*key.consumer)
            .filter(who.filter.clone())
            .broadcast(who.flags.broadcast)
            .start(start)
            .unless(Arc::clone(&closed));
        Self {
            key,
            attachment,
            broadcast: who.flags.broadcast,
            at_most_once: who.flags.at_most_once,
            request,
            outlet,
            flow: OnceLock::new(),
            wants: Mutex::new(Wants {
                new: true,
                pulls_only: true,
                ..Wants::default()
            }),
            turns: Mutex::default(),
            closed,
        }
    }

    pub(in crate::rooms) fn attachment(&self) -> u64 {
        self.attachment
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.broadcast
    }

    pub(super) fn flow_key(&self) -> FlowKey {
        (
            Arc::clone(&self.key.subject),
            Arc::clone(&self.key.group),
            self.broadcast.then(|| Arc::clone(&self.key.consumer)),
        )
    }

    pub(super) fn belongs_to(&self, flow: &Arc<Flow>) {
        let _ = self.flow.set(Arc::downgrade(flow));
    }

    pub(super) fn flow(&self) -> Option<Arc<Flow>> {
        self.flow.get()?.upgrade()
    }

    pub(in crate::rooms) fn grant(&self, credit: Credit) {
        let mut wants = self.wants.lock();
        wants.messages = wants.messages.saturating_add(u64::from(credit.messages));
        let bytes = i64::try_from(credit.bytes).unwrap_or(i64::MAX);
        wants.bytes = wants.bytes.saturating_add(bytes);
        drop(wants);
        if self.at_most_once {
            self.arrived(|turns| turns.granted(credit.bytes));
        }
    }

    /// One that pulls asks once more.
    pub(in crate::rooms) fn ask(
        &self,
        number: u32,
        messages: u32,
        bytes: u32,
        wait: Duration,
        held: Held,
    ) -> Result<(), NotAsked> {
        let mut wants = self.wants.lock();
        if wants.ended {
            return Err(NotAsked::Ended);
        }
        if wants.pulls.len() >= PULLS_MAX {
            return Err(NotAsked::Busy);
        }
        wants.pulls.push_back(Pull {
            number,
            messages,
            bytes,
            until: Instant::now() + wait,
            held,
        });
        Ok(())
    }

    /// No pull waits here any more: those that do are refused, or answered without messages if there is no reason.
    pub(in crate::rooms) fn end_pulls(&self, incarnation: u32, why: Option<(Code, &str)>) {
        let pulls = {
            let mut wants = self.wants.lock();
            wants.ended = true;
            std::mem::take(&mut wants.pulls)
        };
        for pull in pulls {
            match why {
                Some((code, text)) => self.refuse_pull(pull.number, code, text),
                None => self.answer_empty(pull.number, incarnation),
            }
        }
    }

    /// Nobody is there to get an answer.
    pub(in crate::rooms) fn forget_pulls(&self) {
        let mut wants = self.wants.lock();
        wants.ended = true;
        wants.pulls.clear();
    }

    pub(in crate::rooms) fn refuse_pull(&self, number: u32, code: Code, text: &str) {
        let mut frame = BytesMut::new();
        Refusal::new(number, code, text).encode(&mut frame);
        self.outlet.put(&mut vec![frame.freeze()]);
    }

    pub(super) fn answer_empty(&self, number: u32, incarnation: u32) {
        let mut frame = BytesMut::new();
        put_delivery_header(&mut frame, Some(number), incarnation, 0, 0);
        self.outlet.put(&mut vec![Bytes::from(frame)]);
    }

    /// Takes its oldest pull, to answer it. `None`: it has been answered.
    pub(super) fn claim(&self, number: u32) -> Option<Held> {
        let mut wants = self.wants.lock();
        let pull = wants.pulls.pop_front_if(|pull| pull.number == number)?;
        Some(pull.held)
    }

    /// Whether it should enter its group's queue now: it can take something and does not stand there yet.
    pub(super) fn stand(&self, outlet_bytes_max: usize) -> bool {
        if self.is_closed() {
            return false;
        }
        let mut wants = self.wants.lock();
        if wants.standing || !wants.can_take() || self.outlet.is_full(outlet_bytes_max) {
            return false;
        }
        wants.standing = true;
        true
    }

    /// What it may be handed now. `None`: nothing, and it stands in no queue any more.
    pub(super) fn may(
        &self,
        options: &super::DeliverOptions,
        outlet_bytes_max: usize,
    ) -> Option<May> {
        let mut wants = self.wants.lock();
        if self.is_closed() || !wants.can_take() || self.outlet.is_full(outlet_bytes_max) {
            wants.standing = false;
            return None;
        }
        let first = wants.new;
        let fits = Fits::into(self.outlet.frame_bytes_max(), options.turn_messages);
        let turn_bytes = options
            .turn_bytes
            .min(outlet_bytes_max as u64)
            .min(fits.bytes);
        if wants.pulls_only {
            let pull = wants.pulls.front()?;
            return Some(May {
                messages: (pull.messages as usize).clamp(1, fits.messages),
                bytes: u64::from(pull.bytes).clamp(1, turn_bytes),
                pull: Some((pull.number, pull.until <= Instant::now())),
                first,
            });
        }
        Some(May {
            messages: usize::try_from(wants.messages)
                .unwrap_or(usize::MAX)
                .min(fits.messages),
            bytes: u64::try_from(wants.bytes).unwrap_or(1).clamp(1, turn_bytes),
            pull: None,
            first,
        })
    }

    /// The request of a turn.
    pub(super) fn request(&self, may: May) -> PullRequest {
        self.request
            .clone()
            .max(may.messages)
            .max_bytes(may.bytes)
            .returning(may.first)
    }

    /// It has looked once.
    pub(super) fn looked(&self) {
        self.wants.lock().new = false;
    }

    pub(super) fn is_new(&self) -> bool {
        self.wants.lock().new
    }

    /// It was handed so much, or its pull was answered. Whether it can take more; if not, it stands in no queue any more.
    pub(super) fn took(&self, messages: u64, bytes: u64, outlet_bytes_max: usize) -> bool {
        let mut wants = self.wants.lock();
        if !wants.pulls_only {
            wants.messages = wants.messages.saturating_sub(messages);
            wants.bytes = wants
                .bytes
                .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        wants.standing =
            !self.is_closed() && wants.can_take() && !self.outlet.is_full(outlet_bytes_max);
        wants.standing
    }

    /// When the wait of its oldest pull is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.wants.lock().pulls.front().map(|pull| pull.until)
    }

    /// Number of its oldest pull.
    pub(super) fn oldest_pull(&self) -> Option<u32> {
        self.wants.lock().pulls.front().map(|pull| pull.number)
    }

    pub(in crate::rooms) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Takes no more: what the store says afterwards of what its consumer holds includes all that was taken through it. Whether it did until now.
    pub(super) fn close(&self) -> bool {
        let open = !self.closed.swap(true, Ordering::SeqCst);
        self.arrived(Turns::clear);
        open
    }

    /// A turn is on its way to it.
    pub(super) fn sent(&self, first_pull: u64, bytes: u64) {
        self.turns.lock().add(first_pull, bytes);
        if self.is_closed() {
            // It went meanwhile, and nothing arrives there any more.
            self.arrived(Turns::clear);
        }
    }

    /// It has settled a message, so that one has arrived, and what came before it.
    pub(in crate::rooms) fn settled(&self, pull_sequence: u64) {
        self.arrived(|turns| turns.settled(pull_sequence));
    }

    fn arrived(&self, what: impl FnOnce(&mut Turns) -> u64) {
        let bytes = what(&mut self.turns.lock());
        if bytes > 0
            && let Some(flow) = self.flow()
        {
            flow.arrived(bytes);
        }
    }
}

impl Wants {
    fn can_take(&self) -> bool {
        if self.pulls_only {
            !self.pulls.is_empty()
        } else {
            self.messages > 0 && self.bytes > 0
        }
    }
}
