//! How the scripted broker speaks: its streams and frames.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use qmq_wire::{
    Ack, Code, ControlRequest, ControlResponse, Controlled, Credit, DelayOutcome, DelayRequest,
    DelayResponse, End, Frame, FrameBuffer, Hello, Kind, Nack, NodeStatus, Produce, Pull, Refusal,
    Renew, Subscribe, Subscribed,
};
use quinn::{Endpoint, VarInt};
use tokio::sync::{Notify, mpsc};

use crate::fake::State;

/// Takes connections until there are no more.
pub(crate) async fn serve(endpoint: Endpoint, state: Arc<Mutex<State>>, wake: Arc<Notify>) {
    while let Some(incoming) = endpoint.accept().await {
        let (state, wake) = (Arc::clone(&state), Arc::clone(&wake));
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            let Ok((mut send, receive)) = connection.accept_bi().await else {
                return;
            };
            let mut frames = Frames::new(receive);
            let Some(frame) = frames.next().await else {
                return;
            };
            let hello = Hello::decode(&mut frame.reader()).unwrap();
            let mut bytes = BytesMut::new();
            let closes = {
                let mut state = state.lock();
                state.greeted.push(hello);
                state.hello.encode(&mut bytes);
                state.connections.push(connection.clone());
                state.closes
            };
            if let Some((code, text)) = closes {
                connection.close(VarInt::from_u32(code as u32), text.as_bytes());
                return;
            }
            send.write_chunk(bytes.freeze()).await.unwrap();
            while let Ok((send, receive)) = connection.accept_bi().await {
                let (state, wake) = (Arc::clone(&state), Arc::clone(&wake));
                tokio::spawn(stream(send, Frames::new(receive), state, wake));
            }
        });
    }
}

pub(crate) struct Frames {
    stream: quinn::RecvStream,
    buffer: FrameBuffer,
}

impl Frames {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            buffer: FrameBuffer::new(16 << 20),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.buffer.next().unwrap() {
                return Some(frame);
            }
            let chunk = self.stream.read_chunk(1 << 20, true).await.ok()??;
            self.buffer.push(chunk.bytes);
        }
    }
}

/// A stream of requests or of a subscription, whatever its frames say.
async fn stream(
    mut send: quinn::SendStream,
    mut frames: Frames,
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
) {
    let (outgoing, mut queued) = mpsc::unbounded_channel::<Bytes>();
    let writer = tokio::spawn(async move {
        while let Some(bytes) = queued.recv().await {
            if send.write_chunk(bytes).await.is_err() {
                return;
            }
        }
        let _ = send.finish();
        let _ = send.stopped().await;
    });
    let mut credit: Option<u32> = None;
    let mut of_retries = false;
    loop {
        if let Some(left) = &mut credit
            && state.lock().retries.is_some() == of_retries
        {
            let mut state = state.lock();
            let out = state.hand_out(*left as usize);
            *left -= out.len() as u32;
            if !out.is_empty() {
                let _ = outgoing.send(state.delivery(None, &out));
            }
        }
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = wake.notified() => continue,
        };
        let Some(frame) = frame else { break };
        let reader = &mut frame.reader();
        let mut state = state.lock();
        let of_request = credit.is_none();
        let answer = match Kind::from_byte(frame.kind).unwrap() {
            Kind::Produce => state.produce(&Produce::decode(reader).unwrap()),
            Kind::Subscribe => {
                let subscribe = Subscribe::decode(reader).unwrap();
                of_retries = subscribe.flow.subject.starts_with("%RETRY%");
                let mut left = subscribe.credit.messages;
                let flow = &subscribe.flow;
                let mut known = state.subscribes.iter().rev();
                let known = known.find(|known| known.flow.subject == flow.subject);
                let resumed = known.is_some_and(|known| known.flow.session == flow.session);
                state.subscribes.push(subscribe);
                let mut bytes = BytesMut::new();
                if let Some(code) = state.refuse_subscribe {
                    let text = "scripted".to_owned();
                    let end = End {
                        code: Some(code),
                        text,
                        unseen: false,
                    };
                    end.encode(&mut bytes);
                } else {
                    let incarnation = state.hello.incarnation;
                    let subscribed = Subscribed {
                        incarnation,
                        resumed,
                    };
                    subscribed.encode(&mut bytes);
                    let held: Vec<(u64, u64)> = state.held.iter().map(|(p, s)| (*p, *s)).collect();
                    if resumed && !held.is_empty() {
                        bytes.extend_from_slice(&state.delivery(None, &held));
                        left = left.saturating_sub(held.len() as u32);
                    }
                    credit = Some(left);
                    state.subscriptions.push(outgoing.clone());
                }
                Some(bytes.freeze())
            }
            Kind::Credit => {
                let more = Credit::decode(reader).unwrap();
                state.credits.push(more);
                credit = credit.map(|left| left + more.messages);
                None
            }
            Kind::Ack => {
                let ack = Ack::decode(reader, of_request).unwrap();
                state.settle((ack.number, ack.incarnation), &ack.ranges, None)
            }
            Kind::Nack => {
                let nack = Nack::decode(reader, of_request).unwrap();
                let delay = Some(nack.delay_ms);
                if nack.unseen {
                    state
                        .given_back
                        .extend(nack.ranges.iter().flat_map(|(first, last)| *first..=*last));
                }
                state.settle((nack.number, nack.incarnation), &nack.ranges, delay)
            }
            Kind::Renew => {
                let renew = Renew::decode(reader, of_request).unwrap();
                state.renewed.extend(renew.ranges);
                None
            }
            Kind::Pull => {
                let pull = Pull::decode(reader).unwrap();
                let of_retries = pull.flow.subject.starts_with("%RETRY%");
                let most = match state.retries.is_some() == of_retries {
                    true => pull.messages as usize,
                    false => 0,
                };
                let out = state.hand_out(most);
                Some(state.delivery(Some(pull.number), &out))
            }
            Kind::End => {
                state.ends += 1;
                state.unseen_ends += usize::from(End::decode(reader).unwrap().unseen);
                None
            }
            Kind::Control => {
                let (number, request) = ControlRequest::decode(reader).unwrap();
                Some(controlled(number, &request, &mut state))
            }
            other => panic!("{other:?} from a client"),
        };
        if let Some(answer) = answer {
            let _ = outgoing.send(answer);
        }
    }
    drop(outgoing);
    let _ = writer.await;
}

fn controlled(number: u32, request: &ControlRequest, state: &mut State) -> Bytes {
    let mut bytes = BytesMut::new();
    let response = match request {
        ControlRequest::Status => ControlResponse::Status(NodeStatus {
            node: state.hello.node.clone(),
            ..NodeStatus::default()
        }),
        ControlRequest::Subjects { .. } => ControlResponse::Subjects(Vec::new()),
        ControlRequest::Reset { .. } => ControlResponse::Reset(7),
        ControlRequest::Delay(request) => {
            state.delay_requests.push(request.clone());
            ControlResponse::Delay(delayed(request))
        }
        _ => {
            Refusal::new(number, Code::UnknownGroup, "there is no such group").encode(&mut bytes);
            return bytes.freeze();
        }
    };
    let controlled = Controlled { number, response };
    controlled.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn delayed(request: &DelayRequest) -> DelayResponse {
    match request {
        DelayRequest::Cancel { .. } => DelayResponse::Changed(DelayOutcome::Done),
        DelayRequest::Reschedule { .. } => DelayResponse::Changed(DelayOutcome::Fired),
        DelayRequest::Get { .. } => DelayResponse::Message(None),
        DelayRequest::List { .. } => DelayResponse::Page {
            messages: Vec::new(),
            next: vec![7],
        },
        DelayRequest::DeadLetters { .. } => DelayResponse::DeadLetters {
            letters: Vec::new(),
            total: 3,
            forgotten: 1,
        },
        _ => DelayResponse::Done(2),
    }
}
