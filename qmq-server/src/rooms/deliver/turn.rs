//! One turn: a pull for one consumer of a group, and the frame that carries what came.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use qmq_message::SubjectName;
use qmq_store::{Batch, Durability, Error, PollPull};
use qmq_wire::{
    Code, DELIVERED_HEADER_LEN, DELIVERY_HEADER_LEN, End, put_delivered_header, put_delivery_header,
};

use super::flow::{Ended, Flow, Turn};
use super::taker::{BEGIN_LEN, May};
use super::{Inner, Taker};
use crate::rooms::Observed;
use crate::rooms::consumers::Job;
use crate::rooms::refusals::code;

/// When a message that a consumer cannot take comes again, to whoever of its group is next.
const TOO_LARGE_PAUSE: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) fn turn(&self, flow: &Arc<Flow>) {
        let Some(mut turn) = flow.begin() else {
            return;
        };
        let Some(may) = turn.taker.may(&self.options, self.outlet_bytes_max()) else {
            return flow.end(turn, Ended::Enough);
        };
        if self.paused.load(Ordering::SeqCst) {
            let may = May {
                pull: may.pull.map(|(number, _)| (number, true)),
                ..may
            };
            let ended = self.nothing(flow, &turn, may, None);
            return flow.end(turn, ended);
        }
        let turn_bytes = self.options.turn_bytes;
        let may_go = flow
            .on_its_way
            .may_go(&self.share, turn_bytes, Instant::now());
        if let Err(not_yet) = may_go {
            if not_yet.ahead {
                self.share.wait_for_others(Arc::downgrade(flow));
            }
            self.queue.at(not_yet.until, flow);
            return flow.hold_back(turn);
        }
        let request = turn.taker.request(may);
        let mut poll = || {
            self.store
                .poll_pull(&request, flow.waker(), &mut turn.waiting)
        };
        let mut polled = poll();
        if let Err(Error::TooManyUnacked { .. }) = polled {
            // What was settled before this says nothing, and what is settled after it asks for another turn.
            flow.set_full();
            polled = poll();
        }
        turn.taker.looked();
        let ended = match polled {
            // Nothing was taken for it, and that says nothing of the others.
            Ok(PollPull::Pending { .. }) if turn.taker.is_closed() => Ended::Enough,
            Ok(PollPull::Ready(batch)) => self.hand_out(flow, &turn.taker, may, &batch),
            Ok(PollPull::Pending { next_due_ms }) => {
                flow.set_behind(false);
                self.nothing(flow, &turn, may, next_due_ms)
            }
            Err(Error::TooManyUnacked { .. }) => self.nothing(flow, &turn, may, None),
            Err(error) => {
                self.fail(&turn.taker, &error);
                Ended::Enough
            }
        };
        flow.end(turn, ended);
    }

    /// There is nothing for the group at the moment.
    fn nothing(&self, flow: &Arc<Flow>, turn: &Turn, may: May, next_due_ms: Option<u64>) -> Ended {
        if let Some(due) = next_due_ms {
            let now_ms = self.store.options().clock.now_ms();
            let wait = Duration::from_millis(due.saturating_sub(now_ms).max(1));
            self.queue.at(Instant::now() + wait, flow);
        }
        // Also the pulls of those who stand behind.
        let others = flow.end_pulls(Instant::now(), |taker| match taker.oldest_pull() {
            Some(number) => self.answer_without_messages(taker, number),
            None => true,
        });
        if let Some(at) = others {
            self.queue.at(at, flow);
        }
        match may.pull {
            Some((number, true)) => match self.answer_without_messages(&turn.taker, number) {
                true => Ended::More,
                false => Ended::Enough,
            },
            Some((_, false)) => {
                if let Some(until) = turn.taker.until() {
                    flow.pull_ends(until);
                    self.queue.at(until, flow);
                }
                Ended::Nothing
            }
            None => Ended::Nothing,
        }
    }

    /// A pull's wait is over. Whether its consumer can take more.
    fn answer_without_messages(&self, taker: &Taker, number: u32) -> bool {
        if let Some(_held) = taker.claim(number) {
            taker.answer_empty(number, self.store.incarnation());
        }
        taker.took(0, 0, self.outlet_bytes_max())
    }

    fn fail(&self, taker: &Taker, error: &Error) {
        let key = taker.key();
        tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, %error, "a subscription ends");
        self.end(taker, code(error), error.to_string());
    }

    fn end(&self, taker: &Taker, code: Code, text: String) {
        self.tell_consumers(Job::Failed {
            key: taker.key().clone(),
            attachment: taker.attachment(),
            end: End {
                code: Some(code),
                text,
                unseen: false,
            },
        });
    }

    fn tell_consumers(&self, job: Job) {
        if let Some(consumers) = self.consumers.get() {
            // Waits while the room is behind: what is handed out must be entered before it is acknowledged.
            consumers.wait_and_tell(job);
        }
    }

    fn hand_out(&self, flow: &Arc<Flow>, taker: &Arc<Taker>, may: May, batch: &Batch) -> Ended {
        if taker.is_closed() {
            // Whoever is the consumer next gets these with its first turn, or its group when it is gone.
            return Ended::Enough;
        }
        let member = batch.member();
        let attempts_max = self.options.attempts_max.load(Ordering::Relaxed);
        let dead_letter = self.dead_letter_subject(taker);
        let mut headers =
            BytesMut::with_capacity(DELIVERY_HEADER_LEN + 4 + batch.len() * DELIVERED_HEADER_LEN);
        let mut payloads: Vec<Bytes> = Vec::with_capacity(batch.len());
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut bytes = 0_u64;
        let mut again = 0;
        let now_ms = self.store.options().clock.now_ms();
        let mut waited = Observed::default();
        let header_len = DELIVERY_HEADER_LEN + if may.pull.is_some() { 4 } else { 0 };
        headers.resize(header_len, 0);
        for (one, payload) in batch.payloads() {
            if one.attempt() >= attempts_max
                && let Some(dead_letter) = &dead_letter
            {
                let done = match payload {
                    Ok(_) => self.bury(member, one.pull_sequence(), dead_letter),
                    Err(_) => self.pass_over(member, one.sequence(), one.pull_sequence()),
                };
                if done {
                    continue;
                }
            }
            again += u64::from(one.attempt() > 0);
            let numbers = (one.sequence(), one.pull_sequence());
            match payload {
                Ok(payload) => {
                    let lengths = (payload.attributes_len(), payload.body_len());
                    let time = payload.record_time_ms();
                    if one.attempt() == 0 {
                        waited.add(Duration::from_millis(now_ms.saturating_sub(time)));
                    }
                    put_delivered_header(&mut headers, numbers, time, one.attempt(), Some(lengths));
                    let payload = payload.into_bytes();
                    bytes += payload.len() as u64;
                    payloads.push(payload);
                }
                Err(_) => {
                    put_delivered_header(&mut headers, numbers, 0, one.attempt(), None);
                    payloads.push(Bytes::new());
                }
            }
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == numbers.1 => *last = numbers.1,
                _ => ranges.push((numbers.1, numbers.1)),
            }
        }
        let count = payloads.len() as u32;
        let written = self.store.watermarks().written;
        let last = batch.iter().next_back().and_then(|one| one.offset());
        flow.set_behind(
            last.is_some_and(|at| written.saturating_sub(at) > self.options.behind_bytes),
        );
        if count == 0 {
            return Ended::More;
        }
        let frame_bytes = BEGIN_LEN + u64::from(count) * DELIVERED_HEADER_LEN as u64 + bytes;
        if frame_bytes > u64::from(taker.outlet.frame_bytes_max()) {
            return self.too_large(taker, may, member, &ranges, bytes);
        }
        // A pull that was ended meanwhile has its answer. Whoever is the consumer now came after this was taken, and gets it with its first turn.
        let claimed = may.pull.map(|(number, _)| taker.claim(number));
        if matches!(claimed, Some(None)) {
            return Ended::Enough;
        }
        let messages_bytes = u64::from(count) * DELIVERED_HEADER_LEN as u64 + bytes;
        let mut begin = BytesMut::with_capacity(header_len);
        let number = may.pull.map(|(number, _)| number);
        put_delivery_header(
            &mut begin,
            number,
            member.incarnation,
            count,
            messages_bytes as u32,
        );
        headers[..header_len].copy_from_slice(&begin);
        let mut headers = headers.freeze();
        let mut chunks: Vec<Bytes> = Vec::with_capacity(payloads.len() * 2 + 1);
        let first = headers.split_to(header_len);
        chunks.push(first);
        for payload in payloads {
            chunks.push(headers.split_to(DELIVERED_HEADER_LEN));
            if !payload.is_empty() {
                chunks.push(payload);
            }
        }
        if taker.at_most_once
            && let Err(error) = self.store.ack_with(batch, Durability::Buffered)
        {
            // Not acknowledged, so not handed out either: at most once.
            if let Some((number, _)) = may.pull {
                taker.refuse_pull(number, code(&error), &error.to_string());
            }
            self.fail(taker, &error);
            return Ended::Enough;
        }
        if let Some((first, _)) = ranges.first() {
            for asked in flow.on_its_way.add(&self.share, bytes) {
                if let Some(flow) = asked.upgrade() {
                    flow.enqueue();
                }
            }
            if may.pull.is_none() {
                taker.sent(*first, bytes);
            } else {
                // Who pulls has room for it, or would not have asked: it counts for the share, and nobody waits for it to arrive.
                flow.on_its_way.take(bytes);
            }
        }
        if !taker.at_most_once {
            self.tell_consumers(Job::HandedOut {
                key: taker.key().clone(),
                attachment: taker.attachment(),
                incarnation: member.incarnation,
                ranges,
            });
        }
        let counters = &self.counters;
        counters
            .delivered
            .fetch_add(u64::from(count), Ordering::Relaxed);
        counters.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.redelivered.fetch_add(again, Ordering::Relaxed);
        counters.waited.observe_all(&waited);
        self.activity
            .delivered(&taker.key().subject, u64::from(count));
        taker.outlet.put(&mut chunks);
        match taker.took(u64::from(count), bytes, self.outlet_bytes_max()) {
            true => Ended::More,
            false => Ended::Enough,
        }
    }

    /// A message that is longer than any frame that the consumer takes. Its group keeps it for others, who may take it, and it counts as refused; the
    /// consumer is told.
    fn too_large(
        &self,
        taker: &Arc<Taker>,
        may: May,
        member: &qmq_store::Member,
        ranges: &[(u64, u64)],
        bytes: u64,
    ) -> Ended {
        let limit = taker.outlet.frame_bytes_max();
        let text = format!(
            "a message of {bytes} bytes does not fit into the frame_bytes_max of your HELLO, {limit}: raise it; until then the message is for other consumers of the group"
        );
        let key = taker.key();
        tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, bytes, limit, "a message is too large for its consumer, and goes back");
        let inclusive: Vec<_> = ranges.iter().map(|&(a, b)| a..=b).collect();
        let back = self
            .store
            .nack(member, &inclusive, TOO_LARGE_PAUSE, Durability::Buffered);
        if let Err(error) = back {
            tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, %error, "it stays the consumer's until that is gone");
        }
        let Some((number, _)) = may.pull else {
            self.end(taker, Code::TooLarge, text);
            return Ended::Enough;
        };
        if let Some(_held) = taker.claim(number) {
            taker.refuse_pull(number, Code::TooLarge, &text);
        }
        match taker.took(0, 0, self.outlet_bytes_max()) {
            true => Ended::More,
            false => Ended::Enough,
        }
    }

    /// Where messages of the consumer's group end that failed too often; `None` if they cannot fail so: what is read there already, broadcasts.
    fn dead_letter_subject(&self, taker: &Taker) -> Option<String> {
        if taker.is_broadcast() {
            return None;
        }
        let key = taker.key();
        let dead_letter = match qmq_message::parse(&key.subject) {
            SubjectName::DeadLetter { .. } => return None,
            SubjectName::Retry { subject, group } => {
                qmq_message::dead_letter_subject(subject, group)
            }
            _ => qmq_message::dead_letter_subject(&key.subject, &key.group),
        };
        qmq_message::check_subject(&dead_letter)
            .is_ok()
            .then_some(dead_letter)
    }

    /// Acknowledges a message that is damaged, so that there is nothing to copy, and was refused as often as one may be.
    fn pass_over(&self, member: &qmq_store::Member, sequence: u64, pull_sequence: u64) -> bool {
        let ranges = [pull_sequence..=pull_sequence];
        let acked = self.store.ack_ranges(member, &ranges, Durability::Buffered);
        match acked {
            Ok(_) => {
                tracing::error!(subject = %member.subject, group = %member.group, sequence, "a damaged message is not delivered any more: it was refused as often as one may be");
                true
            }
            Err(error) => {
                tracing::warn!(subject = %member.subject, group = %member.group, sequence, %error, "a damaged message cannot be settled; it is delivered once more");
                false
            }
        }
    }

    /// Copies a message to the dead-letter subject and acknowledges it, both or neither.
    fn bury(&self, member: &qmq_store::Member, pull_sequence: u64, dead_letter: &str) -> bool {
        let buried =
            self.store
                .copy_and_ack(member, pull_sequence, dead_letter, Durability::Buffered);
        match buried {
            Ok(_) => {
                self.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
                tracing::info!(subject = %member.subject, group = %member.group, to = dead_letter, "a message failed too often");
                true
            }
            Err(error) => {
                tracing::warn!(subject = %member.subject, group = %member.group, to = dead_letter, %error, "a message that failed too often cannot be moved; it is delivered once more");
                false
            }
        }
    }
}
