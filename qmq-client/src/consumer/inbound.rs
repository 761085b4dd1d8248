//! What a broker says to a flow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{Acked, Code, Delivery, End, Frame, Kind, Refusal, Retry, Subscribed, WireError};
use tokio::sync::mpsc;

use super::error::ConsumeError;
use super::flow::{FlowTask, STALE_GRACE, attempts_max, longest_ms};
use super::flows::OPTIONAL_PAUSE;
use super::held::Arrival;
use super::puller::PullError;
use super::received::{Parts, Received, Settler};
use crate::connection::backoff;
use crate::random;

impl FlowTask {
    /// Sees to a frame. An error ends the subscription for good.
    pub(super) fn frame(
        &mut self,
        frame: &Frame,
        now: Instant,
    ) -> Result<Option<ConsumeError>, WireError> {
        let reader = &mut frame.reader();
        match Kind::from_byte(frame.kind) {
            Some(Kind::Subscribed) => {
                let subscribed = Subscribed::decode(reader)?;
                self.flow.flags.fresh = false;
                if let Some(stream) = &mut self.stream {
                    stream.subscribed = true;
                    let link = Arc::clone(&stream.link);
                    self.connected(subscribed.incarnation, &link);
                }
            }
            Some(Kind::Deliver) => {
                let delivery = Delivery::decode(reader, false)?;
                let fresh = self.take(delivery);
                if let (Some(incoming), None) = (&self.incoming, &self.closing) {
                    for received in fresh {
                        // A consumer that is gone has not looked at them.
                        if let Err(mpsc::error::SendError(Ok(unseen))) = incoming.send(Ok(received))
                        {
                            unseen.give_back();
                        }
                    }
                } else {
                    fresh.into_iter().for_each(Received::give_back);
                }
            }
            Some(Kind::Pulled) => {
                let delivery = Delivery::decode(reader, true)?;
                let request = delivery
                    .number
                    .and_then(|number| self.pulls.remove(&number));
                let fresh = self.take(delivery);
                // Whoever does not wait any more has not looked at them.
                let unseen = match request {
                    Some(request) => request.answer.send(Ok(fresh)).err(),
                    None => Some(Ok(fresh)),
                };
                let unseen = unseen.and_then(Result::ok).unwrap_or_default();
                unseen.into_iter().for_each(Received::give_back);
            }
            Some(Kind::Acked) => {
                self.answer_by = None;
                self.refusals = 0;
                self.held.answered(&Acked::decode(reader)?);
            }
            Some(Kind::Refused) => {
                let refusal = Refusal::decode(reader)?;
                return Ok(self.refused(refusal, now));
            }
            Some(Kind::End) => {
                let end = End::decode(reader)?;
                return Ok(self.ended(end.code, end.text));
            }
            // What this version does not know is not for it.
            _ => {}
        }
        Ok(None)
    }

    fn refused(&mut self, refusal: Refusal, now: Instant) -> Option<ConsumeError> {
        if let Some(request) = self.pulls.remove(&refusal.number) {
            let _ = request.answer.send(Err(PullError::Refused {
                broker: Arc::clone(self.broker.address()),
                code: refusal.code,
                text: refusal.text,
            }));
            return None;
        }
        let subscribed = self.stream.as_ref().is_some_and(|stream| stream.subscribed);
        if self.incoming.is_some() && !subscribed {
            return self.ended(Some(refusal.code), refusal.text);
        }
        self.answer_by = None;
        if self
            .held
            .refused(refusal.number, refusal.code, &refusal.text)
        {
            let (least, most) = self.shared.config.reconnect_pause;
            let pause = backoff::pause(least, most, self.refusals, random::u64());
            self.refusals += 1;
            let after = Duration::from_millis(u64::from(refusal.retry_after_ms));
            self.tell_after = Some(now + pause.max(after));
        } else if refusal.code == Code::StaleIncarnation {
            self.stale_until = Some(now + STALE_GRACE);
        }
        None
    }

    /// The broker ended the subscription: for good, or until it is asked again.
    fn ended(&mut self, code: Option<Code>, text: String) -> Option<ConsumeError> {
        let broker = Arc::clone(self.broker.address());
        match code {
            Some(Code::Fenced) => Some(ConsumeError::Fenced { broker, text }),
            Some(code) if code.retry() == Retry::Never && self.part.optional => {
                self.pause_least = OPTIONAL_PAUSE;
                self.lost(&text);
                None
            }
            Some(code) if code.retry() == Retry::Never => Some(ConsumeError::Refused {
                broker,
                subject: self.part.subject.to_string(),
                code,
                text,
            }),
            _ => {
                self.lost(&text);
                None
            }
        }
    }

    /// What the application gets of a delivery.
    fn take(&mut self, delivery: Delivery) -> Vec<Received> {
        let Some(commands) = self.commands.upgrade() else {
            return Vec::new();
        };
        if delivery.incarnation != self.held.incarnation() {
            self.stale_until = Some(Instant::now() + STALE_GRACE);
        }
        let mut fresh = Vec::new();
        for delivered in delivery.messages {
            let bytes = (delivered.attributes.len() + delivered.body.len()) as u64;
            let place = (delivered.pull_sequence, delivered.sequence);
            let arrival = self
                .held
                .arrived(place.0, place.1, bytes, delivery.incarnation);
            match arrival {
                Arrival::InHand => continue,
                Arrival::Settled => {
                    self.window.give_back(bytes);
                    continue;
                }
                Arrival::New => {}
            }
            fresh.push(Received {
                parts: Arc::new(Parts {
                    subject: Arc::clone(&self.part.shown),
                    broker: Arc::clone(self.broker.address()),
                    withdrawn: Arc::clone(&self.withdrawn),
                    came_back: self.part.is_retry(),
                    delivered,
                }),
                settler: Some(Settler {
                    place,
                    commands: commands.clone(),
                    limit: self.subscription.settle_timeout,
                    longest_ms: self.stream.as_ref().map_or(0, longest_ms),
                    attempts_max: self.stream.as_ref().map_or(0, attempts_max),
                    put_off: Arc::clone(&self.put_off),
                    open: true,
                }),
            });
        }
        fresh
    }
}
