//! A stream of interests: routes out, and again when they change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use qmq_wire::{Code, Frame, Interest, Kind, Refusal, Route, Unwatch, WireError};

use super::budget::Budget;
use super::connection::Peer;
use super::frames::{Frames, NoFrame};
use super::outbox::Outbox;
use super::requests;
use crate::rooms::TellsRoutes;

/// Interests of one stream.
const INTERESTS_MAX: usize = 100_000;
/// How often it is looked whether answers that have not changed are to be said again.
const SAY_AGAIN: Duration = Duration::from_secs(2);
/// An answer that has not changed is said again with the next two stamps: a client may know one with a greater stamp from a meta server that it left,
/// and does not take a lesser. The first may be of a read that began before the client came; the second is not.
const AGAIN: u8 = 2;
/// With more bytes of routes waiting to leave, nothing more is looked at.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Serves a stream that began with WATCH until the other end finishes it.
pub(super) async fn serve(
    peer: Arc<Peer>,
    frames: Frames,
    outbox: Arc<Outbox>,
    first: (Frame, Budget),
) {
    let mut open = peer.shared.closing.stream();
    match peer.shared.routes.clone() {
        None => refuse(
            &outbox,
            number_of(&first.0),
            requests::knows_no_routes(&peer),
        ),
        Some(routes) => {
            let watching = Watching {
                peer: &peer,
                outbox: &outbox,
                routes: &*routes,
                interests: HashMap::new(),
            };
            tokio::select! {
                ended = watching.serve(frames, first) => {
                    if let Err(error) = ended {
                        peer.malformed(&error);
                    }
                }
                () = outbox.lost() => {}
                () = open.finishing() => {}
            }
        }
    }
    outbox.close();
}

struct Watching<'a> {
    peer: &'a Peer,
    outbox: &'a Outbox,
    routes: &'a dyn TellsRoutes,
    /// By number.
    interests: HashMap<u32, Told>,
}

struct Told {
    interest: Interest,
    /// What was answered last.
    last: Option<Result<Route, Refusal>>,
    /// How often that is to be said again with a greater stamp.
    again: u8,
}

impl Watching<'_> {
    async fn serve(mut self, mut frames: Frames, first: (Frame, Budget)) -> Result<(), NoFrame> {
        let mut changes = self.routes.changes();
        self.take(&first.0).await?;
        drop(first);
        let mut look = tokio::time::interval(SAY_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Who does not read the answers is not asked for more questions.
            self.outbox.below(WAITING_BYTES_MAX).await;
            // Only the arrival of bytes is waited for beside changes: half a frame must not be dropped.
            tokio::select! {
                frame = frames.announced() => {
                    if frame?.is_none() {
                        return Ok(());
                    }
                    match requests::next(self.peer, &mut frames).await? {
                        Some((frame, _budget)) => self.take(&frame).await?,
                        None => return Ok(()),
                    }
                }
                Ok(()) = changes.changed() => self.tell_changes().await,
                _ = look.tick() => self.say_again().await,
            }
        }
    }

    async fn take(&mut self, frame: &Frame) -> Result<(), WireError> {
        let mut reader = frame.reader();
        match Kind::from_byte(frame.kind) {
            Some(Kind::Watch) => {
                let (number, interest) = Interest::decode(&mut reader)?;
                let full = self.interests.len() >= INTERESTS_MAX;
                if full && !self.interests.contains_key(&number) {
                    let text = format!(
                        "{INTERESTS_MAX} interests in one stream are the most; end some, or open another stream"
                    );
                    refuse(self.outbox, number, Refusal::new(0, Code::TooMany, text));
                    return Ok(());
                }
                let told = Told {
                    interest,
                    last: None,
                    again: AGAIN,
                };
                self.interests.insert(number, told);
                self.tell(number).await;
            }
            Some(Kind::Unwatch) => {
                let unwatch = Unwatch::decode(&mut reader)?;
                self.interests.remove(&unwatch.number);
            }
            Some(_) => return Err(WireError::Misplaced { kind: frame.kind }),
            // Of a later version, and optional.
            None => {
                let from = self.peer.connection.remote_address();
                tracing::debug!(%from, kind = frame.kind, "a frame that is not known among interests");
            }
        }
        Ok(())
    }

    async fn tell_changes(&mut self) {
        let numbers: Vec<u32> = self.interests.keys().copied().collect();
        for number in numbers {
            self.outbox.below(WAITING_BYTES_MAX).await;
            self.tell(number).await;
        }
    }

    /// Says answers again that are as they were, where that may be news to the client.
    async fn say_again(&mut self) {
        let numbers: Vec<u32> = (self.interests.iter())
            .filter(|(_, told)| told.again > 0 && matches!(told.last, Some(Ok(_))))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.outbox.below(WAITING_BYTES_MAX).await;
            if !self.tell(number).await {
                // Nothing was read since: the others have the same stamp still.
                return;
            }
        }
    }

    /// Answers an interest, unless the answer is as it was and need not be said again. Whether it was answered.
    async fn tell(&mut self, number: u32) -> bool {
        let Some(told) = self.interests.get_mut(&number) else {
            return false;
        };
        let answer = self.routes.route(&told.interest, &self.peer.caller).await;
        if let Some(last) = told.last.as_ref().filter(|last| is_same(last, &answer)) {
            if told.again == 0 || !is_later(last, &answer) {
                return false;
            }
            told.again -= 1;
        }
        match &answer {
            Ok(route) => {
                let mut out = BytesMut::new();
                match route.encode(number, &mut out) {
                    Ok(()) => self.outbox.frame(|frames| frames.extend_from_slice(&out)),
                    Err(error) => {
                        let refusal = Refusal::new(0, Code::TooLarge, error.to_string());
                        refuse(self.outbox, number, refusal);
                    }
                }
            }
            Err(refusal) => refuse(self.outbox, number, refusal.clone()),
        }
        told.last = Some(answer);
        true
    }
}

/// Whether an answer is of a later time. Refusals have none.
fn is_later(told: &Result<Route, Refusal>, now: &Result<Route, Refusal>) -> bool {
    matches!((told, now), (Ok(told), Ok(now)) if now.stamp > told.stamp)
}

/// Whether two answers say the same, whenever that was.
fn is_same(told: &Result<Route, Refusal>, now: &Result<Route, Refusal>) -> bool {
    match (told, now) {
        (Ok(told), Ok(now)) => {
            let now = (now.online, now.stale, &now.groups);
            (told.online, told.stale, &told.groups) == now
        }
        (Err(told), Err(now)) => (told.code, &told.text) == (now.code, &now.text),
        _ => false,
    }
}

fn number_of(frame: &Frame) -> u32 {
    frame.reader().u32("WATCH").unwrap_or(0)
}

fn refuse(outbox: &Outbox, number: u32, refusal: Refusal) {
    outbox.frame(|out| Refusal { number, ..refusal }.encode(out));
}
