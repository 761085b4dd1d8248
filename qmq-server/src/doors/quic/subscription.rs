//! A subscription: credit and acks in, deliveries out.

use std::sync::Arc;

use parking_lot::Mutex;
use qmq_wire::{
    Ack, Code, Credit, End, Frame, Kind, LEAST_FRAME_BYTES_MAX, Nack, Refusal, Renew, Subscribe,
    Subscribed, WireError,
};
use quinn::SendStream;
use tokio::sync::{Semaphore, oneshot};

use super::budget::Budget;
use super::connection::{Peer, outbox};
use super::frames::{Frames, NoFrame};
use super::outbox::Outbox;
use super::requests::{self, settled};
use crate::rooms::consumers::{Attached, Left};

/// Acks and nacks of one subscription that wait for an answer.
const UNANSWERED_MAX: usize = 1024;
/// With more bytes waiting to leave, no more acks are looked at.
const WAITING_BYTES_MAX: usize = 8 << 20;

pub(super) async fn serve(peer: Arc<Peer>, frames: Frames, send: SendStream, first: Frame) {
    let subscribe = match Subscribe::decode(&mut first.reader()) {
        Ok(subscribe) => subscribe,
        Err(error) => return peer.malformed(&NoFrame::Malformed(error)),
    };
    drop(first);
    let Some(consumers) = peer.shared.consumers.clone() else {
        let outbox = outbox(&peer, send, || {});
        outbox.frame(|out| requests::nothing_to_consume(&peer).encode(out));
        return outbox.close();
    };
    // The outbox says when it has room, to a consumer that is attached only when there is an outbox.
    let attached: Arc<Mutex<Option<Arc<Attached>>>> = Arc::default();
    let drained = {
        let attached = Arc::clone(&attached);
        move || {
            if let Some(attached) = &*attached.lock() {
                attached.drained();
            }
        }
    };
    let outbox = outbox(&peer, send, drained);
    let (tell, ended) = oneshot::channel();
    let on_end = Box::new(move |end: End| drop(tell.send(end)));
    let (reply, answer) = oneshot::channel();
    let welcome = Arc::clone(&outbox);
    consumers.subscribe(
        &subscribe.flow,
        subscribe.credit,
        &peer.caller,
        Arc::clone(&outbox) as _,
        on_end,
        Box::new(move |outcome: Result<Attached, Refusal>| {
            if let Ok(attached) = &outcome {
                // Before anything is delivered.
                let subscribed = Subscribed {
                    incarnation: attached.incarnation,
                    resumed: attached.resumed,
                };
                welcome.frame(|out| subscribed.encode(out));
            }
            let _ = reply.send(outcome);
        }),
    );
    let consumer = match answer.await.unwrap_or_else(|_| Err(shutting_down())) {
        Ok(consumer) => Arc::new(consumer),
        Err(refusal) => {
            outbox.frame(|out| refusal.encode(out));
            return outbox.close();
        }
    };
    *attached.lock() = Some(Arc::clone(&consumer));
    // What it was handed before this may have filled the outbox, and have left it again.
    consumer.drained();
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    let ending = tokio::select! {
        read = read(&peer, frames, &consumer, (&outbox, &unanswered)) => read,
        end = ended => Ok(end.map_or(Ending::Lost, Ending::Ours)),
        () = outbox.lost() => Ok(Ending::Lost),
    };
    attached.lock().take();
    if let (Ok(Ending::Theirs(Some(left))), Some(consumer)) = (&ending, Arc::into_inner(consumer)) {
        consumer.leave(*left);
    }
    let end = match ending {
        Ok(Ending::Theirs(left)) => left.map(|_| End {
            code: None,
            text: String::new(),
            unseen: false,
        }),
        Ok(Ending::Ours(end)) => Some(end),
        Ok(Ending::Lost) => return outbox.close(),
        Err(error) => {
            peer.malformed(&error);
            return outbox.close();
        }
    };
    // What was sent before the end is answered first: each answer that is due holds a permit until it is in the outbox.
    tokio::select! {
        _ = unanswered.acquire_many(UNANSWERED_MAX as u32) => {}
        () = outbox.lost() => {}
        _ = peer.connection.closed() => {}
    }
    if let Some(end) = end {
        outbox.frame(|out| end.encode(out));
    }
    outbox.close();
}

/// How a subscription ends.
enum Ending {
    /// The other end has finished; for good, and how, if its consumer does not come back: what that holds goes back at once.
    Theirs(Option<Left>),
    /// The broker ends it, and says why.
    Ours(End),
    /// Nobody is there any more.
    Lost,
}

/// Reads until the other end has finished.
async fn read(
    peer: &Peer,
    mut frames: Frames,
    consumer: &Attached,
    (outbox, unanswered): (&Arc<Outbox>, &Arc<Semaphore>),
) -> Result<Ending, NoFrame> {
    while let Some((frame, _budget)) = next(peer, &mut frames).await? {
        // Who reads nothing is not read either. Deliveries alone stay below this.
        outbox.below(WAITING_BYTES_MAX).await;
        let Ok(permit) = Arc::clone(unanswered).acquire_owned().await else {
            break;
        };
        let mut reader = frame.reader();
        match Kind::from_byte(frame.kind) {
            Some(Kind::Credit) => consumer.credit(Credit::decode(&mut reader)?),
            Some(Kind::Ack) => {
                let ack = Ack::decode(&mut reader, false)?;
                consumer.ack(ack, settled(Arc::clone(outbox), permit));
            }
            Some(Kind::Nack) => {
                let nack = Nack::decode(&mut reader, false)?;
                consumer.nack(nack, settled(Arc::clone(outbox), permit));
            }
            Some(Kind::Renew) => consumer.renew(Renew::decode(&mut reader, false)?),
            Some(Kind::End) => {
                let end = End::decode(&mut reader)?;
                let left = if end.unseen { Left::Unseen } else { Left::Seen };
                return Ok(Ending::Theirs(end.code.is_none().then_some(left)));
            }
            Some(_) => return Err(WireError::Misplaced { kind: frame.kind }.into()),
            // Of a later version, and optional: what must be understood is asked for in SUBSCRIBE.
            None => {
                let from = peer.connection.remote_address();
                tracing::debug!(%from, kind = frame.kind, "a frame that is not known in a subscription");
            }
        }
    }
    Ok(Ending::Theirs(None))
}

/// The next frame; one that is long takes its share of the budget for what comes in.
async fn next(
    peer: &Peer,
    frames: &mut Frames,
) -> Result<Option<(Frame, Option<Budget>)>, NoFrame> {
    match frames.announced().await? {
        None => Ok(None),
        Some(len) if len <= LEAST_FRAME_BYTES_MAX as usize => {
            Ok(frames.next().await?.map(|frame| (frame, None)))
        }
        Some(_) => {
            let frame = requests::next(peer, frames).await?;
            Ok(frame.map(|(frame, budget)| (frame, Some(budget))))
        }
    }
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(0, Code::Draining, "the broker is shutting down")
}
