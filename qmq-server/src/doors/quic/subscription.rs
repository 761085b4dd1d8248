//! A subscription: credit and acks in, deliveries out.

use std::sync::Arc;

use parking_lot::Mutex;
use qmq_wire::{Ack, Code, Credit, End, Frame, Kind, Nack, Refusal, Renew, Subscribe, Subscribed};
use quinn::SendStream;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::connection::{Peer, outbox};
use super::frames::{Frames, NoFrame};
use super::outbox::Outbox;
use super::requests::settled;
use crate::rooms::consumers::Attached;

/// Acks and nacks of one subscription that wait for an answer.
const UNANSWERED_MAX: usize = 1024;

pub(super) async fn serve(peer: Arc<Peer>, frames: Frames, send: SendStream, first: &Frame) {
    let subscribe = match Subscribe::decode(&mut first.reader()) {
        Ok(subscribe) => subscribe,
        Err(error) => return peer.malformed(&NoFrame::Malformed(error)),
    };
    // The outbox says when it has room, to a consumer that is attached only when there is an outbox.
    let attached: Arc<Mutex<Option<Arc<Attached>>>> = Arc::default();
    let low = peer.shared.consumers.delivering().outlet_low();
    let drained = {
        let attached = Arc::clone(&attached);
        let mut was_high = false;
        move |waiting: usize| {
            let high = waiting > low;
            if was_high
                && !high
                && let Some(attached) = &*attached.lock()
            {
                attached.drained();
            }
            was_high = high;
        }
    };
    let outbox = outbox(&peer, send, drained);
    let ended = Arc::new(Notify::new());
    let on_end = {
        let (outbox, ended) = (Arc::clone(&outbox), Arc::clone(&ended));
        Box::new(move |end: End| {
            outbox.frame(|out| end.encode(out));
            outbox.close();
            ended.notify_one();
        })
    };
    let (reply, answer) = oneshot::channel();
    let welcome = Arc::clone(&outbox);
    peer.shared.consumers.subscribe(
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
    let for_good = tokio::select! {
        outcome = read(&peer, frames, &consumer, &outbox) => outcome,
        () = ended.notified() => Ok(false),
    };
    attached.lock().take();
    match for_good {
        Ok(true) => {
            if let Some(consumer) = Arc::into_inner(consumer) {
                consumer.leave();
            }
            outbox.frame(|out| {
                End {
                    code: None,
                    text: String::new(),
                }
                .encode(out);
            });
        }
        Ok(false) => {}
        Err(error) => peer.malformed(&error),
    }
    outbox.close();
}

/// Reads until the stream ends; whether the consumer goes for good.
async fn read(
    peer: &Peer,
    mut frames: Frames,
    consumer: &Attached,
    outbox: &Arc<Outbox>,
) -> Result<bool, NoFrame> {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    while let Some(frame) = frames.next().await? {
        let Ok(permit) = Arc::clone(&unanswered).acquire_owned().await else {
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
            Some(Kind::End) => return Ok(End::decode(&mut reader)?.code.is_none()),
            // Of a later version, and optional: what must be understood is asked for in SUBSCRIBE.
            _ => {
                let from = peer.connection.remote_address();
                tracing::debug!(%from, kind = frame.kind, "a frame that is not known in a subscription");
            }
        }
    }
    Ok(false)
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(0, Code::Draining, "the broker is shutting down")
}
