//! The task behind a consumer's part with one broker and subject: deliveries, credit, acks, renewals, and all of it again after a reconnect.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use qmq_wire::{End, Flow, Frame, Subscribe, features};
use tokio::sync::{mpsc, oneshot};

use super::Incoming;
use super::credit::Window;
use super::error::{ConsumeError, SettleError};
use super::held::{Answer, Held, How};
use super::puller::{PullError, PullRequest};
use super::put_off::PutOff;
use super::subscription::{Part, Subscription};
use crate::client::Shared;
use crate::connection::backoff::Backoff;
use crate::connection::pipe::{self, Lost, PipeReader, PipeWriter};
use crate::connection::{Broker, Link, malformed};
use crate::random;

/// How long messages of an earlier incarnation may take to come again.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(5);
/// A stream that lasted so long was a good one: the next comes soon.
const GOOD: Duration = Duration::from_secs(5);
/// How often a message in hand is renewed within the broker's ack timeout.
const RENEWALS: u32 = 3;
/// Ack timeout if the broker does not say.
const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long the last words to a broker may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the application's side asks of a flow.
#[derive(Debug)]
pub(crate) enum FlowCommand {
    Settle {
        /// Pull sequence and sequence.
        place: (u64, u64),
        how: How,
        answer: Option<Answer>,
    },
    Pull(PullRequest),
    /// Another node is the master of the broker group.
    Move(Arc<Broker>),
    /// Finish what is in hand; answers how many messages were not settled.
    Close {
        until: Instant,
        done: Option<oneshot::Sender<usize>>,
    },
}

pub(super) struct Stream {
    pub(super) link: Arc<Link>,
    pub(super) writer: PipeWriter,
    reader: PipeReader,
    /// Of a subscription: it has been answered.
    pub(super) subscribed: bool,
    opened: Instant,
}

type Opening = Pin<Box<dyn Future<Output = Result<Stream, Option<Lost>>> + Send>>;

pub(crate) struct FlowTask {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: Arc<Broker>,
    pub(super) subscription: Arc<Subscription>,
    pub(super) part: Part,
    pub(super) flow: Flow,
    /// For the messages' way back; weak, so that the flow ends with those who use it.
    pub(super) commands: mpsc::WeakUnboundedSender<FlowCommand>,
    /// Where messages go; `None`: they are pulled.
    pub(super) incoming: Option<mpsc::UnboundedSender<Incoming>>,
    /// Set when the flow ends while the consumer goes on.
    pub(super) withdrawn: Arc<AtomicBool>,
    pub(super) put_off: Arc<PutOff>,
    pub(super) held: Held,
    pub(super) window: Window,
    pub(super) pulls: BTreeMap<u32, PullRequest>,
    pub(super) stream: Option<Stream>,
    backoff: Backoff,
    /// The broker is another one now.
    moved: bool,
    /// The next try to connect waits at least so long.
    pub(super) pause_least: Duration,
    /// Acks that were refused for a while, in a row.
    pub(super) refusals: u32,
    pub(super) renew_at: Option<Instant>,
    /// When an ack must have been answered.
    pub(super) answer_by: Option<Instant>,
    /// Nothing is told before.
    pub(super) tell_after: Option<Instant>,
    pub(super) stale_until: Option<Instant>,
    pub(super) closing: Option<(Instant, Vec<oneshot::Sender<usize>>)>,
}

impl FlowTask {
    pub(crate) fn new(
        (shared, subscription): (Arc<Shared>, Arc<Subscription>),
        broker: Arc<Broker>,
        part: &Part,
        commands: mpsc::WeakUnboundedSender<FlowCommand>,
        (incoming, withdrawn): (Option<mpsc::UnboundedSender<Incoming>>, Arc<AtomicBool>),
        put_off: Arc<PutOff>,
    ) -> Self {
        let (least, most) = shared.config.reconnect_pause;
        Self {
            flow: subscription.flow(part),
            window: Window::new(subscription.window_messages, subscription.window_bytes),
            backoff: Backoff::new(least, most),
            part: part.clone(),
            moved: false,
            pause_least: Duration::ZERO,
            held: Held::default(),
            pulls: BTreeMap::new(),
            stream: None,
            refusals: 0,
            renew_at: None,
            answer_by: None,
            tell_after: None,
            stale_until: None,
            closing: None,
            shared,
            broker,
            subscription,
            commands,
            incoming,
            withdrawn,
            put_off,
        }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<FlowCommand>) {
        let mut opening = Some(self.open(Duration::ZERO));
        let stop = loop {
            while let Ok(command) = commands.try_recv() {
                self.command(command);
            }
            let now = Instant::now();
            self.tick(now);
            self.tell(now);
            if self.is_done(now) {
                break None;
            }
            if std::mem::take(&mut self.moved) {
                opening = Some(self.open(Duration::ZERO));
            }
            if self.stream.is_none() && opening.is_none() {
                let pause = self.backoff.next(random::u64());
                let pause = pause.max(std::mem::take(&mut self.pause_least));
                opening = Some(self.open(pause));
            }
            let wake = tokio::time::Instant::from_std(self.wake(now));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    // Consumer and messages are gone.
                    None => break None,
                },
                frame = next(&mut self.stream) => {
                    match frame.map(|frame| self.frame(&frame, Instant::now())) {
                        Ok(Ok(None)) => {}
                        Ok(Ok(Some(error))) => break Some(error),
                        Ok(Err(error)) => self.malformed(&error),
                        Err(lost) => self.lost(&lost.to_string()),
                    }
                }
                opened = opened(&mut opening) => {
                    opening = None;
                    match opened {
                        Ok(stream) => self.begin(stream),
                        Err(Some(lost)) => self.lost(&lost.to_string()),
                        // The client is closed.
                        Err(None) => break Some(ConsumeError::Closed),
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        };
        let fenced = matches!(stop, Some(ConsumeError::Fenced { .. }));
        self.end(stop).await;
        if fenced {
            answer_fenced(commands).await;
        }
    }

    /// Connects, after a pause.
    fn open(&self, pause: Duration) -> Opening {
        let broker = Arc::clone(&self.broker);
        let config = Arc::clone(&self.shared.config);
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let link = broker.link(false).await.map_err(|_| None)?;
            let (writer, reader) = pipe::open(
                &link,
                features::CONSUME,
                config.request_timeout,
                config.frame_bytes_max,
            )
            .await
            .map_err(Some)?;
            Ok(Stream {
                link,
                writer,
                reader,
                subscribed: false,
                opened: Instant::now(),
            })
        })
    }

    fn begin(&mut self, stream: Stream) {
        if self.incoming.is_some() {
            let credit = match self.closing {
                Some(_) => qmq_wire::Credit::default(),
                None => self.window.open(),
            };
            let flow = self.flow.clone();
            let mut bytes = BytesMut::new();
            Subscribe { flow, credit }.encode(&mut bytes);
            stream.writer.send(vec![bytes.freeze()]);
        } else {
            let incarnation = stream.link.hello().incarnation;
            self.connected(incarnation, &stream.link);
        }
        let now = Instant::now();
        self.stream = Some(stream);
        if self.incoming.is_none() {
            for number in self.pulls.keys().copied().collect::<Vec<u32>>() {
                self.ask_pull(number, now);
            }
        }
    }

    pub(super) fn connected(&mut self, incarnation: u32, link: &Link) {
        let now = Instant::now();
        self.held.connected(incarnation);
        self.answer_by = None;
        self.tell_after = None;
        self.stale_until = self.held.has_stale().then(|| now + STALE_GRACE);
        self.renew_at = Some(now + renewal(link));
    }

    pub(super) fn lost(&mut self, reason: &str) {
        let lasted = |stream: &Stream| stream.opened.elapsed() >= GOOD;
        if self.stream.as_ref().is_some_and(lasted) {
            self.backoff.reset();
        }
        tracing::debug!(broker = %self.broker.address(), subject = %self.part.subject, reason, "subscription lost");
        self.stream = None;
        self.answer_by = None;
        self.tell_after = None;
        self.renew_at = None;
        self.held.disconnected();
    }

    fn malformed(&mut self, error: &qmq_wire::WireError) {
        if let Some(stream) = &self.stream {
            malformed(&stream.link);
        }
        self.lost(&error.to_string());
    }

    fn command(&mut self, command: FlowCommand) {
        match command {
            // To the broker they were settled when they were handed out.
            FlowCommand::Settle { place, answer, .. } if self.subscription.at_most_once => {
                if let Some(bytes) = self.held.forget(place.0) {
                    self.window.give_back(bytes);
                }
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(()));
                }
            }
            FlowCommand::Settle { place, how, answer } => {
                let how = self.within_limits(how);
                if let Some(bytes) = self.held.settle(place, how, answer) {
                    self.window.give_back(bytes);
                }
            }
            FlowCommand::Pull(request) => {
                let number = self.held.number();
                self.pulls.insert(number, request);
                self.ask_pull(number, Instant::now());
            }
            FlowCommand::Move(broker) => {
                self.broker = broker;
                self.moved = true;
                self.lost("its broker group has another master");
            }
            FlowCommand::Close { until, done } => {
                let (at, waiting) = self.closing.get_or_insert((until, Vec::new()));
                *at = (*at).min(until);
                waiting.extend(done);
                self.pulls.clear();
            }
        }
    }

    /// A broker refuses delays that it cannot keep.
    fn within_limits(&self, how: How) -> How {
        let longest = self.stream.as_ref().map_or(0, longest_ms);
        match how {
            How::Nack(Some(delay)) if longest > 0 => How::Nack(Some(delay.min(longest))),
            How::Unseen(Some(delay)) if longest > 0 => How::Unseen(Some(delay.min(longest))),
            other => other,
        }
    }

    fn tick(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.stale_until) {
            self.stale_until = None;
            self.held.drop_stale();
        }
        if due(self.answer_by) {
            self.lost("the broker did not answer an ack in time");
        }
        let patience = self.shared.config.request_timeout;
        if self.incoming.is_some()
            && self
                .stream
                .as_ref()
                .is_some_and(|stream| !stream.subscribed && stream.opened + patience <= now)
        {
            self.lost("the broker did not answer the subscription in time");
        }
        if due(self.renew_at) {
            self.renew(now);
        }
        let late = |request: &mut PullRequest| request.until <= now;
        for (_, request) in self.pulls.extract_if(.., |_, request| late(request)) {
            let _ = request.answer.send(Err(PullError::TimedOut {
                broker: Arc::clone(self.broker.address()),
            }));
        }
    }

    fn is_done(&self, now: Instant) -> bool {
        match &self.closing {
            // What nobody has looked at goes back with the END at the latest.
            Some((until, _)) => self.held.is_unseen() || now >= *until,
            None => false,
        }
    }

    /// When to look again if nothing comes.
    fn wake(&self, now: Instant) -> Instant {
        let closing = self.closing.as_ref().map(|(until, _)| *until);
        let patience = self.shared.config.request_timeout;
        let answer = self.stream.as_ref().filter(|stream| !stream.subscribed);
        let subscribed = answer
            .filter(|_| self.incoming.is_some())
            .map(|stream| stream.opened + patience);
        let pulls = self.pulls.values().map(|request| request.until).min();
        [
            self.renew_at,
            self.answer_by,
            self.tell_after,
            self.stale_until,
            closing,
            subscribed,
            pulls,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now + Duration::from_secs(3_600))
    }

    /// The last words: to the broker, to those who wait, and to the application.
    async fn end(mut self, stop: Option<ConsumeError>) {
        if let (Some(stream), None) = (&self.stream, &stop) {
            let mut bytes = BytesMut::new();
            if self.incoming.is_some() {
                let end = End {
                    code: None,
                    text: String::new(),
                    unseen: self.held.is_unseen(),
                };
                end.encode(&mut bytes);
                stream.writer.send(vec![bytes.freeze()]);
            }
            stream.writer.finish(GOODBYE).await;
        }
        self.stream = None;
        let why = match &stop {
            Some(ConsumeError::Fenced { .. }) => SettleError::Fenced,
            _ => SettleError::Closed,
        };
        let left = self.held.close(&why);
        if let (Some(error), Some(incoming)) = (stop, &self.incoming) {
            tracing::error!(%error, "a subscription ended");
            let _ = incoming.send(Err(error));
        }
        for done in self.closing.map(|(_, waiting)| waiting).unwrap_or_default() {
            let _ = done.send(left);
        }
    }
}

/// What the application still has in hand of a consumer that another session has taken over.
async fn answer_fenced(mut commands: mpsc::UnboundedReceiver<FlowCommand>) {
    while let Some(command) = commands.recv().await {
        match command {
            FlowCommand::Settle {
                answer: Some(answer),
                ..
            } => drop(answer.send(Err(SettleError::Fenced))),
            FlowCommand::Close {
                done: Some(done), ..
            } => drop(done.send(0)),
            _ => {}
        }
    }
}

/// For how long the broker keeps a message back at most; 0: it does not say.
pub(super) fn longest_ms(stream: &Stream) -> u32 {
    stream.link.hello().limits.nack_ms_max
}

/// How often a group gets a message before it is a dead letter; 0: the broker does not say.
pub(super) fn attempts_max(stream: &Stream) -> u32 {
    stream.link.hello().limits.attempts_max
}

async fn next(stream: &mut Option<Stream>) -> Result<Frame, Lost> {
    match stream {
        Some(stream) => stream.reader.next().await,
        None => std::future::pending().await,
    }
}

async fn opened(opening: &mut Option<Opening>) -> Result<Stream, Option<Lost>> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

/// How often what is in hand is renewed.
pub(super) fn renewal(link: &Link) -> Duration {
    let timeout = match link.hello().limits.ack_timeout_ms {
        0 => ACK_TIMEOUT_DEFAULT,
        ms => Duration::from_millis(u64::from(ms)),
    };
    timeout / RENEWALS
}
