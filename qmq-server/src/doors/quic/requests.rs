//! A stream of requests: each has a number, answers come in any order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qmq_wire::{
    Ack, Acked, Code, ControlRequest, Controlled, Flow, Frame, Kind, Nack, Produce, Pull, Refusal,
    Renew, WireError,
};
use quinn::SendStream;
use tokio::sync::{Semaphore, oneshot};

use super::connection::{Peer, outbox};
use super::frames::{Frames, NoFrame};
use super::outbox::Outbox;
use super::{BUDGET_UNIT, subscription};
use crate::rooms::consumers::Attached;

/// Longest wait of a pull.
const PULL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Consumers of one stream that pull.
const PULLERS_MAX: usize = 10_000;

/// Serves a stream until the other end finishes it. One that begins with SUBSCRIBE becomes a subscription.
pub(super) async fn serve(peer: Arc<Peer>, mut frames: Frames, send: SendStream) {
    let first = match next(&peer, &mut frames).await {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(error) => return peer.malformed(&error),
    };
    if first.0.kind == Kind::Subscribe as u8 {
        return subscription::serve(peer, frames, send, &first.0).await;
    }
    let outbox = outbox(&peer, send, |_| {});
    let mut stream = Requests {
        unanswered: Arc::new(Semaphore::new(peer.shared.options.unanswered_max)),
        outbox: Arc::clone(&outbox),
        pullers: HashMap::new(),
        peer: Arc::clone(&peer),
    };
    let mut frame = Some(first);
    while let Some((request, budget)) = frame {
        if let Err(error) = stream.request(&request, budget).await {
            peer.malformed(&NoFrame::Malformed(error));
            break;
        }
        frame = match next(&peer, &mut frames).await {
            Ok(next) => next,
            Err(error) => {
                peer.malformed(&error);
                break;
            }
        };
    }
    // Answers that are still to come go out first: each holds a permit until it is in the outbox.
    let all = u32::try_from(peer.shared.options.unanswered_max).unwrap_or(u32::MAX);
    let _ = stream.unanswered.acquire_many(all).await;
    outbox.close();
}

type Budget = tokio::sync::OwnedSemaphorePermit;

/// The next frame, once there is room for it.
async fn next(peer: &Peer, frames: &mut Frames) -> Result<Option<(Frame, Budget)>, NoFrame> {
    let Some(len) = frames.announced().await? else {
        return Ok(None);
    };
    let units = u32::try_from((len as u64).div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
    let budget = Arc::clone(&peer.shared.produce_budget);
    let Ok(budget) = budget.acquire_many_owned(units).await else {
        return Ok(None);
    };
    // A frame that does not come on keeps room from others.
    let frame = tokio::time::timeout(peer.stall(), frames.next());
    match frame.await {
        Ok(frame) => Ok(frame?.map(|frame| (frame, budget))),
        Err(_) => {
            let why = b"a frame did not come to its end for connection.stall.ms";
            let code = qmq_wire::CloseCode::Stalled as u32;
            peer.connection.close(code.into(), why);
            Ok(None)
        }
    }
}

struct Requests {
    peer: Arc<Peer>,
    outbox: Arc<Outbox>,
    unanswered: Arc<Semaphore>,
    /// Consumers that pull through this stream: (subject, group, consumer).
    pullers: HashMap<(String, String, String), Attached>,
}

impl Requests {
    async fn request(&mut self, frame: &Frame, budget: Budget) -> Result<(), WireError> {
        let Ok(unanswered) = Arc::clone(&self.unanswered).acquire_owned().await else {
            return Ok(());
        };
        let outbox = Arc::clone(&self.outbox);
        let mut reader = frame.reader();
        match Kind::from_byte(frame.kind) {
            Some(Kind::Produce) => {
                let produce = Produce::decode(&mut reader)?;
                let reply = Box::new(move |produced: qmq_wire::Produced| {
                    outbox.frame(|out| produced.encode(out));
                    drop(unanswered);
                });
                let rooms = &self.peer.shared;
                rooms
                    .producing
                    .submit(produce, &self.peer.caller, Box::new(budget), reply);
            }
            Some(Kind::Pull) => {
                let pull = Pull::decode(&mut reader)?;
                match self.puller(&pull.flow).await {
                    Ok(puller) => {
                        let wait = Duration::from_millis(u64::from(pull.wait_ms));
                        let wait = wait.min(PULL_WAIT_MAX);
                        puller.pull(pull.number, pull.messages, pull.bytes, wait);
                    }
                    Err(refusal) => refuse(&outbox, pull.number, refusal),
                }
            }
            Some(Kind::Ack) => {
                let ack = Ack::decode(&mut reader, true)?;
                let (number, Some(flow)) = (ack.number, ack.flow.clone()) else {
                    return Ok(());
                };
                match self.puller(&flow).await {
                    Ok(puller) => puller.ack(ack, settled(outbox, unanswered)),
                    Err(refusal) => refuse(&outbox, number, refusal),
                }
            }
            Some(Kind::Nack) => {
                let nack = Nack::decode(&mut reader, true)?;
                let (number, Some(flow)) = (nack.number, nack.flow.clone()) else {
                    return Ok(());
                };
                match self.puller(&flow).await {
                    Ok(puller) => puller.nack(nack, settled(outbox, unanswered)),
                    Err(refusal) => refuse(&outbox, number, refusal),
                }
            }
            Some(Kind::Renew) => {
                let renew = Renew::decode(&mut reader, true)?;
                if let Some(flow) = renew.flow.clone()
                    && let Ok(puller) = self.puller(&flow).await
                {
                    puller.renew(renew);
                }
            }
            Some(Kind::Control) => {
                let number = frame.reader().u32("CONTROL")?;
                let Ok((_, request)) = ControlRequest::decode(&mut reader) else {
                    let text = "this control request is not known here; is the tool newer than the broker?";
                    refuse(
                        &outbox,
                        number,
                        Refusal::new(number, Code::UnknownRequest, text),
                    );
                    return Ok(());
                };
                let peer = Arc::clone(&self.peer);
                // It looks at every subject: not on a thread of the runtime.
                tokio::task::spawn_blocking(move || {
                    let administering = &peer.shared.administering;
                    match administering.answer(number, &request, &peer.caller) {
                        Ok(response) => {
                            let answer = Controlled { number, response };
                            let mut frame = bytes::BytesMut::new();
                            match answer.encode(&mut frame) {
                                Ok(()) => outbox.frame(|out| *out = frame),
                                Err(error) => refuse(
                                    &outbox,
                                    number,
                                    Refusal::new(number, Code::TooLarge, error.to_string()),
                                ),
                            }
                        }
                        Err(refusal) => refuse(&outbox, number, refusal),
                    }
                    drop(unanswered);
                });
            }
            _ => {
                let number = reader.u32("a request").unwrap_or(0);
                let text = format!(
                    "requests of kind {} are not known here; look at the features of HELLO",
                    frame.kind
                );
                refuse(
                    &outbox,
                    number,
                    Refusal::new(number, Code::UnknownRequest, text),
                );
            }
        }
        Ok(())
    }

    /// The consumer that a request is about: attached by the first one.
    async fn puller(&mut self, flow: &Flow) -> Result<&Attached, Refusal> {
        let key = (
            flow.subject.clone(),
            flow.group.clone(),
            flow.consumer.clone(),
        );
        if !self.pullers.contains_key(&key) {
            if self.pullers.len() >= PULLERS_MAX {
                let text =
                    format!("{PULLERS_MAX} consumers pull through this stream; open another");
                return Err(Refusal::new(0, Code::TooMany, text));
            }
            let (reply, attached) = oneshot::channel();
            self.peer.shared.consumers.attach_puller(
                flow,
                &self.peer.caller,
                Arc::clone(&self.outbox) as _,
                Box::new(|_| {}),
                Box::new(|outcome| drop(reply.send(outcome))),
            );
            let attached = attached
                .await
                .unwrap_or_else(|_| Err(subscription::shutting_down()))?;
            self.pullers.insert(key.clone(), attached);
        }
        self.pullers
            .get(&key)
            .ok_or_else(subscription::shutting_down)
    }
}

fn refuse(outbox: &Outbox, number: u32, refusal: Refusal) {
    outbox.frame(|out| Refusal { number, ..refusal }.encode(out));
}

/// Answers an ack or nack.
pub(super) fn settled(
    outbox: Arc<Outbox>,
    unanswered: impl Send + 'static,
) -> Box<dyn FnOnce(Result<Acked, Refusal>) + Send> {
    Box::new(move |outcome| {
        outbox.frame(|out| match outcome {
            Ok(acked) => acked.encode(out),
            Err(refusal) => refusal.encode(out),
        });
        drop(unanswered);
    })
}
