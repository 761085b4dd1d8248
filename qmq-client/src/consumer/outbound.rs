//! What a flow says to its broker.

use std::time::Instant;

use bytes::BytesMut;
use qmq_wire::{Ack, Flow, Nack, Pull, Renew};

use super::flow::{FlowTask, renewal};
use super::held::{How, Settlement};

impl FlowTask {
    pub(super) fn renew(&mut self, now: Instant) {
        let Some(stream) = &self.stream else {
            self.renew_at = None;
            return;
        };
        let ranges = self.held.renewals();
        if !ranges.is_empty() && !self.subscription.at_most_once {
            let renew = Renew {
                flow: self.of_request(),
                incarnation: self.held.incarnation(),
                ranges,
            };
            let mut bytes = BytesMut::new();
            renew.encode(&mut bytes);
            stream.writer.send(vec![bytes.freeze()]);
        }
        self.renew_at = Some(now + renewal(&stream.link));
    }

    /// In a stream of requests each says who asks.
    fn of_request(&self) -> Option<Flow> {
        self.incoming.is_none().then(|| self.flow.clone())
    }

    /// Tells the broker what is settled, and gives credit back.
    pub(super) fn tell(&mut self, now: Instant) {
        let ready =
            self.incoming.is_none() || self.stream.as_ref().is_some_and(|stream| stream.subscribed);
        if self.stream.is_none() || !ready {
            return;
        }
        let mut bytes = BytesMut::new();
        if self.tell_after.is_none_or(|after| after <= now) {
            self.tell_after = None;
            if let Some(settlement) = self.held.next_settlement() {
                self.put(&settlement, &mut bytes);
                self.answer_by = Some(now + self.shared.config.request_timeout);
            }
        }
        if self.incoming.is_some()
            && self.closing.is_none()
            && let Some(credit) = self.window.take()
        {
            credit.encode(&mut bytes);
        }
        if let (Some(stream), false) = (&self.stream, bytes.is_empty()) {
            stream.writer.send(vec![bytes.freeze()]);
        }
    }

    fn put(&self, settlement: &Settlement, bytes: &mut BytesMut) {
        let flow = self.of_request();
        let ranges = settlement.ranges.clone();
        let (number, incarnation) = (settlement.number, settlement.incarnation);
        let durability = self.subscription.durability;
        match settlement.how {
            How::Ack => Ack {
                flow,
                number,
                durability,
                incarnation,
                ranges,
            }
            .encode(bytes),
            How::Nack(delay_ms) | How::Unseen(delay_ms) => Nack {
                flow,
                number,
                durability,
                incarnation,
                delay_ms,
                unseen: matches!(settlement.how, How::Unseen(_)),
                ranges,
            }
            .encode(bytes),
        }
    }

    pub(super) fn ask_pull(&mut self, number: u32, now: Instant) {
        let (Some(stream), Some(request)) = (&self.stream, self.pulls.get(&number)) else {
            return;
        };
        let left = request.wait_until.saturating_duration_since(now);
        let pull = Pull {
            number,
            wait_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            messages: request.messages,
            bytes: request.bytes,
            flow: self.flow.clone(),
        };
        self.flow.flags.fresh = false;
        let mut bytes = BytesMut::new();
        pull.encode(&mut bytes);
        stream.writer.send(vec![bytes.freeze()]);
    }
}
