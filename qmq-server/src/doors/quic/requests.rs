//! A stream of requests: each has a number, answers come in any order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_wire::{
    Ack, Acked, Code, ControlRequest, Flow, FlowFlags, Frame, Kind, Nack, Produce, Pull, Refusal,
    Renew, Role, WireError,
};
use quinn::SendStream;
use tokio::sync::{Semaphore, oneshot};

use super::budget::Budget;
use super::connection::{Peer, outbox};
use super::frames::{Frames, NoFrame};
use super::outbox::Outbox;
use super::{answer, routes, subscription};
use crate::rooms::Outlet;
use crate::rooms::consumers::{Attached, Consumers};

/// Longest wait of a pull.
const PULL_WAIT_MAX: Duration = Duration::from_secs(60);
/// With more bytes of answers waiting to leave, a stream's requests are not looked at.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
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
        let (subscribe, budget) = first;
        drop(budget);
        return subscription::serve(peer, frames, send, subscribe).await;
    }
    if first.0.kind == Kind::Watch as u8 {
        let outbox = outbox(&peer, send, || {});
        return routes::serve(peer, frames, outbox, first).await;
    }
    let pullers = Pullers::default();
    let room = {
        let pullers = Arc::clone(&pullers);
        move || {
            for puller in pullers.lock().values() {
                puller.attached.drained();
            }
        }
    };
    let outbox = outbox(&peer, send, room);
    let stream = Requests {
        unanswered: Arc::new(Semaphore::new(peer.shared.options.unanswered_max)),
        outbox: Arc::clone(&outbox),
        pullers: Arc::clone(&pullers),
        peer: Arc::clone(&peer),
    };
    let mut open = peer.shared.closing.stream();
    let finished = tokio::select! {
        finished = stream.serve(first, &mut frames) => finished,
        () = outbox.lost() => false,
        () = open.finishing() => true,
    };
    if finished {
        // Answers that are still to come go out first: each holds a permit until it is in the outbox.
        let all = u32::try_from(peer.shared.options.unanswered_max).unwrap_or(u32::MAX);
        tokio::select! {
            _ = stream.unanswered.acquire_many(all) => {}
            () = outbox.lost() => {}
            _ = peer.connection.closed() => {}
        }
    }
    let gone = std::mem::take(&mut *pullers.lock());
    drop(gone);
    outbox.close();
}

/// The next frame, with room for it.
pub(super) async fn next(
    peer: &Peer,
    frames: &mut Frames,
) -> Result<Option<(Frame, Budget)>, NoFrame> {
    let Some(len) = frames.announced().await? else {
        return Ok(None);
    };
    let mut budget = peer.share.announce(len).await;
    // A frame that does not come on keeps room from others. Waiting for room is not its doing.
    let mut left = peer.stall();
    while frames.buffered() < len {
        budget.come(frames.buffered()).await;
        let began = Instant::now();
        let Ok(more) = tokio::time::timeout(left, frames.more()).await else {
            let why = b"a frame did not come to its end for connection.stall.ms";
            let code = qmq_wire::CloseCode::Stalled as u32;
            peer.connection.close(code.into(), why);
            return Ok(None);
        };
        if !more? {
            return Ok(None);
        }
        left = left.saturating_sub(began.elapsed());
    }
    budget.come(len).await;
    Ok(frames.next().await?.map(|frame| (frame, budget)))
}

struct Requests {
    peer: Arc<Peer>,
    outbox: Arc<Outbox>,
    unanswered: Arc<Semaphore>,
    pullers: Pullers,
}

/// Consumers that pull through a stream, by subject, group and name.
type Pullers = Arc<Mutex<HashMap<(String, String, String), Puller>>>;

struct Puller {
    flow: Flow,
    attached: Attached,
}

impl Puller {
    /// Whether it can go on with requests of that flow.
    fn serves(&self, flow: &Flow) -> bool {
        let flags = FlowFlags {
            fresh: self.flow.flags.fresh,
            ..flow.flags
        };
        let like = (self.flow.session, self.flow.flags, &self.flow.filter);
        !self.attached.is_ended() && like == (flow.session, flags, &flow.filter)
    }
}

impl Requests {
    /// Looks at requests until the other end has finished: `true`; or until nothing more can come.
    async fn serve(&self, first: (Frame, Budget), frames: &mut Frames) -> bool {
        let mut frame = Some(first);
        while let Some((request, budget)) = frame {
            if let Err(error) = self.request(&request, budget).await {
                self.peer.malformed(&NoFrame::Malformed(error));
                return false;
            }
            drop(request);
            // Who does not read the answers is not asked for more questions.
            self.outbox.below(ANSWERS_BYTES_MAX).await;
            frame = match next(&self.peer, frames).await {
                Ok(next) => next,
                Err(error) => {
                    self.peer.malformed(&error);
                    return false;
                }
            };
        }
        true
    }

    async fn request(&self, frame: &Frame, budget: Budget) -> Result<(), WireError> {
        let Ok(unanswered) = Arc::clone(&self.unanswered).acquire_owned().await else {
            return Ok(());
        };
        let outbox = Arc::clone(&self.outbox);
        let mut reader = frame.reader();
        match Kind::from_byte(frame.kind) {
            Some(Kind::Produce) => {
                let produce = Produce::decode(&mut reader)?;
                let number = produce.header.number;
                let answers_max = answer::outcomes_max(self.peer.frame_bytes_max);
                if produce.messages.len() > answers_max {
                    let text = format!(
                        "the answer to {} messages does not fit into the frame_bytes_max of your HELLO, {}; raise it, or send {answers_max} at most",
                        produce.messages.len(),
                        self.peer.frame_bytes_max
                    );
                    refuse(&outbox, number, Refusal::new(number, Code::TooLarge, text));
                    return Ok(());
                }
                let limit = self.peer.frame_bytes_max;
                let Some(messages) = &self.peer.shared.messages else {
                    refuse(&outbox, number, takes_no(&self.peer, "messages"));
                    return Ok(());
                };
                let reply = Box::new(move |taken| {
                    outbox.put(&mut vec![answer::taken(taken, limit)]);
                    drop(unanswered);
                });
                messages.submit(produce, &self.peer.caller, Box::new(budget), reply);
            }
            Some(Kind::Pull) => {
                let pull = Pull::decode(&mut reader)?;
                drop(budget);
                if let Err(refusal) = self.pull(&pull, unanswered).await {
                    refuse(&outbox, pull.number, refusal);
                }
            }
            Some(Kind::Ack) => {
                let ack = Ack::decode(&mut reader, true)?;
                let Some(flow) = ack.flow.clone() else {
                    return Ok(());
                };
                let Some(consumers) = &self.peer.shared.consumers else {
                    refuse(&outbox, ack.number, nothing_to_consume(&self.peer));
                    return Ok(());
                };
                let settled = settled(outbox, unanswered);
                consumers.ack(&flow, &self.peer.caller, ack, settled);
            }
            Some(Kind::Nack) => {
                let nack = Nack::decode(&mut reader, true)?;
                let Some(flow) = nack.flow.clone() else {
                    return Ok(());
                };
                let Some(consumers) = &self.peer.shared.consumers else {
                    refuse(&outbox, nack.number, nothing_to_consume(&self.peer));
                    return Ok(());
                };
                let settled = settled(outbox, unanswered);
                consumers.nack(&flow, &self.peer.caller, nack, settled);
            }
            Some(Kind::Renew) => {
                let renew = Renew::decode(&mut reader, true)?;
                if let (Some(flow), Some(consumers)) =
                    (renew.flow.clone(), &self.peer.shared.consumers)
                {
                    consumers.renew(&flow, &self.peer.caller, renew);
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
                // It looks at every subject: not on a thread of the runtime. One at a time, since an answer may be long.
                let answered = tokio::task::spawn_blocking(move || {
                    let control = &peer.shared.control;
                    match control.answer(number, &request, &peer.caller) {
                        Ok(response) => {
                            let frame = answer::controlled(number, response, peer.frame_bytes_max);
                            match frame {
                                Ok(frame) => outbox.put(&mut vec![frame]),
                                Err(refusal) => refuse(&outbox, number, refusal),
                            }
                        }
                        Err(refusal) => refuse(&outbox, number, refusal),
                    }
                    drop(unanswered);
                });
                let _ = answered.await;
            }
            Some(_) => return Err(WireError::Misplaced { kind: frame.kind }),
            None => {
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

    async fn pull(
        &self,
        pull: &Pull,
        unanswered: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<(), Refusal> {
        let Some(consumers) = &self.peer.shared.consumers else {
            return Err(nothing_to_consume(&self.peer));
        };
        if let Err((code, text)) = consumers.may_begin() {
            return Err(Refusal::new(0, code, text));
        }
        let flow = &pull.flow;
        let key = (
            flow.subject.clone(),
            flow.group.clone(),
            flow.consumer.clone(),
        );
        let (known, all) = {
            let pullers = self.pullers.lock();
            let known = pullers.get(&key).is_some_and(|known| known.serves(flow));
            (known, pullers.len())
        };
        if !known {
            if all >= PULLERS_MAX {
                let text =
                    format!("{PULLERS_MAX} consumers pull through this stream; open another");
                return Err(Refusal::new(0, Code::TooMany, text));
            }
            let attached = self.attach(consumers, flow).await?;
            let flow = flow.clone();
            let before = self
                .pullers
                .lock()
                .insert(key.clone(), Puller { flow, attached });
            drop(before);
        }
        let wait = Duration::from_millis(u64::from(pull.wait_ms)).min(PULL_WAIT_MAX);
        if let Some(puller) = self.pullers.lock().get(&key) {
            let held = Box::new(unanswered);
            puller
                .attached
                .pull(pull.number, pull.messages, pull.bytes, wait, held);
        }
        Ok(())
    }

    async fn attach(&self, consumers: &Consumers, flow: &Flow) -> Result<Attached, Refusal> {
        let (reply, attached) = oneshot::channel();
        consumers.attach_puller(
            flow,
            &self.peer.caller,
            Arc::clone(&self.outbox) as _,
            Box::new(|_| {}),
            Box::new(|outcome| drop(reply.send(outcome))),
        );
        attached
            .await
            .unwrap_or_else(|_| Err(subscription::shutting_down()))
    }
}

/// Why a node has nothing for consumers.
pub(super) fn nothing_to_consume(peer: &Peer) -> Refusal {
    takes_no(peer, "consumers")
}

/// Why a node cannot be asked for routes.
pub(super) fn knows_no_routes(peer: &Peer) -> Refusal {
    takes_no(peer, "interests in routes")
}

fn takes_no(peer: &Peer, what: &str) -> Refusal {
    let hello = &peer.shared.hello;
    let text = format!(
        "{:?} is a {} server and takes no {what}; look at the features of HELLO",
        hello.node,
        match hello.role {
            Role::Meta => "meta",
            Role::Delay => "delay",
            _ => "broker",
        }
    );
    Refusal::new(0, Code::UnknownRequest, text)
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
