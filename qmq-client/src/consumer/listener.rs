//! Handling messages as they come, several at a time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::error::{ConsumeError, Unsettled};
use super::held::How;
use super::idempotence::{Idempotence, Standing};
use super::received::{Settler, in_ms};
use super::{Consumer, Received};

/// Tries to note how the handling of a message went: about 13 s in all.
const NOTE_TRIES: u32 = 8;
/// Pause after the first of them; each is twice the one before.
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// Why a handler failed, and when to try again. Any error becomes one with `?`.
pub struct HandlerError {
    cause: Box<dyn std::error::Error + Send + Sync>,
    delay: Option<Duration>,
}

impl HandlerError {
    /// The message comes again after `delay`; see [`Received::nack`].
    pub fn retry_after(
        delay: Duration,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            cause: cause.into(),
            delay: Some(delay),
        }
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(cause: E) -> Self {
        Self {
            cause: cause.into(),
            delay: None,
        }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("cause", &self.cause)
            .field("delay", &self.delay)
            .finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// What became of a message at a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler succeeded: acknowledged.
    Handled,
    /// The handler failed, for that reason: the message comes again.
    Failed(String),
    /// The handler panicked: the message comes again.
    Panicked,
    /// A filter did not want it: acknowledged.
    Filtered,
    /// It was handled before: acknowledged.
    Repeated,
    /// Another handler has begun with it and has not said how it went: it comes again later, without an attempt counted.
    Underway,
    /// The broker could not read it: given back.
    Damaged,
}

type Before = Arc<dyn Fn(&Received) -> bool + Send + Sync>;
type After = Arc<dyn Fn(&Received, &Outcome) + Send + Sync>;

/// What stands around a handler.
#[derive(Clone, Default)]
pub(crate) struct Around {
    before: Vec<Before>,
    after: Vec<After>,
    idempotence: Option<Arc<dyn Idempotence>>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} filters, {} hooks",
            self.before.len(),
            self.after.len()
        )
    }
}

impl Consumer {
    /// A listener acknowledges messages for which `wanted` is false without handling them.
    #[must_use]
    pub fn filter(mut self, wanted: impl Fn(&Received) -> bool + Send + Sync + 'static) -> Self {
        self.around.before.push(Arc::new(wanted));
        self
    }

    /// A listener tells `hook` what became of each message.
    #[must_use]
    pub fn after(mut self, hook: impl Fn(&Received, &Outcome) + Send + Sync + 'static) -> Self {
        self.around.after.push(Arc::new(hook));
        self
    }

    /// A listener acknowledges messages without handling them that were handled before.
    #[must_use]
    pub fn idempotence(mut self, idempotence: impl Idempotence + 'static) -> Self {
        self.around.idempotence = Some(Arc::new(idempotence));
        self
    }

    /// Calls `handler` for each message, several at a time. `Ok` acknowledges the message; an error or a panic lets it come again.
    pub fn listen<H, F>(mut self, handler: H) -> Listening
    where
        H: Fn(Received) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let (stop, mut stopped) = watch::channel(false);
        let handler = Arc::new(handler);
        let free = Arc::new(Semaphore::new(self.subscription.concurrency));
        let task = tokio::spawn(async move {
            let end = loop {
                let received = tokio::select! {
                    received = next_with_permit(&mut self, &free) => received,
                    // Also if the other end is dropped.
                    _ = stopped.wait_for(|stop| *stop) => break Ok(()),
                };
                match received {
                    Ok((received, permit)) => {
                        let around = self.around.clone();
                        let handler = Arc::clone(&handler);
                        tokio::spawn(async move {
                            handle(received, &*handler, &around).await;
                            drop(permit);
                        });
                    }
                    Err(error) => break Err(error),
                }
            };
            let closed = self.close().await;
            (end, closed)
        });
        Listening { stop, task }
    }
}

async fn next_with_permit(
    consumer: &mut Consumer,
    free: &Arc<Semaphore>,
) -> Result<(Received, tokio::sync::OwnedSemaphorePermit), ConsumeError> {
    let permit = Arc::clone(free)
        .acquire_owned()
        .await
        .map_err(|_| ConsumeError::Closed)?;
    Ok((consumer.next().await?, permit))
}

/// What is to be said of a message once it is known what its handler does.
struct Ending {
    seen: Received,
    settler: Settler,
    key: Option<String>,
    around: Around,
}

impl Ending {
    async fn conclude(self, outcome: Outcome, delay: Option<Duration>) {
        if let (Some(idempotence), Some(key)) = (&self.around.idempotence, &self.key) {
            // The broker is told only then: whoever gets the message again must find it so.
            note(&**idempotence, key, outcome.is_well()).await;
        }
        self.settle(&outcome, delay);
    }

    fn settle(self, outcome: &Outcome, delay: Option<Duration>) {
        match outcome {
            outcome if outcome.is_well() => self.settler.settle(How::Ack),
            Outcome::Underway => self.settler.settle(How::Unseen(delay.map(in_ms))),
            _ => self.settler.nack(&self.seen.parts, delay),
        }
        for hook in &self.around.after {
            hook(&self.seen, outcome);
        }
    }
}

/// Notes how the handling of a message went, in several tries.
async fn note(idempotence: &dyn Idempotence, key: &str, well: bool) {
    let mut pause = NOTE_PAUSE;
    for tries_left in (0..NOTE_TRIES).rev() {
        let noted = match well {
            true => idempotence.done(key).await,
            false => idempotence.failed(key).await,
        };
        let Err(error) = noted else {
            return;
        };
        if tries_left == 0 {
            tracing::error!(key, well, %error, "how a message was handled cannot be noted: if it comes again, it is put off for a while and then handled again");
            return;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

impl Outcome {
    /// Whether nobody needs the message any more.
    fn is_well(&self) -> bool {
        matches!(self, Self::Handled | Self::Filtered | Self::Repeated)
    }
}

/// Settles a message by what its handler does, whatever that is.
struct Handling(Option<Ending>);

impl Handling {
    fn ending(&mut self) -> Option<&mut Ending> {
        self.0.as_mut()
    }

    async fn conclude(&mut self, outcome: Outcome, delay: Option<Duration>) {
        if let Some(ending) = self.0.take() {
            ending.conclude(outcome, delay).await;
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let Some(ending) = self.0.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if ending.key.is_some() => {
                runtime.spawn(ending.conclude(Outcome::Panicked, None));
            }
            _ => ending.settle(&Outcome::Panicked, None),
        }
    }
}

async fn handle<H, F>(mut received: Received, handler: &H, around: &Around)
where
    H: Fn(Received) -> F,
    F: Future<Output = Result<(), HandlerError>>,
{
    let Some(settler) = received.settler.take() else {
        return;
    };
    let mut handling = Handling(Some(Ending {
        seen: Received {
            parts: Arc::clone(&received.parts),
            settler: None,
        },
        settler,
        key: None,
        around: around.clone(),
    }));
    if received.is_damaged() {
        let (broker, sequence) = (received.broker(), received.sequence());
        tracing::error!(
            subject = received.subject(),
            broker,
            sequence,
            "a message is damaged and cannot be handled"
        );
        return handling.conclude(Outcome::Damaged, None).await;
    }
    if !around.before.iter().all(|wanted| wanted(&received)) {
        return handling.conclude(Outcome::Filtered, None).await;
    }
    if let Some(idempotence) = &around.idempotence {
        let key = key(&received);
        let standing = idempotence.begin(&key).await;
        match standing {
            Ok(Standing::Done) => return handling.conclude(Outcome::Repeated, None).await,
            Ok(Standing::Begun { again_after }) => {
                return handling
                    .conclude(Outcome::Underway, Some(again_after))
                    .await;
            }
            Ok(Standing::New) | Err(_) => {}
        }
        if let Some(ending) = handling.ending() {
            ending.key = Some(key);
        }
        if let Err(error) = standing {
            tracing::warn!(%error, "whether a message was handled before is not known");
            let why = format!("whether it was handled before is not known: {error}");
            return handling.conclude(Outcome::Failed(why), None).await;
        }
    }
    let span = tracing::info_span!(
        "qmq.handle",
        subject = received.subject(),
        sequence = received.sequence(),
        attempt = received.attempt()
    );
    match handler(received).instrument(span.clone()).await {
        Ok(()) => handling.conclude(Outcome::Handled, None).await,
        Err(error) => {
            span.in_scope(|| tracing::warn!(%error, "a handler failed"));
            let delay = error.delay;
            handling
                .conclude(Outcome::Failed(error.to_string()), delay)
                .await;
        }
    }
}

/// What a message is known by: the id that its producer gave it, or its place.
fn key(received: &Received) -> String {
    match received.attributes().id() {
        Some(id) => format!("{} {id}", received.subject()),
        None => format!(
            "{} {} {}",
            received.subject(),
            received.broker(),
            received.sequence()
        ),
    }
}

/// A listener at work. When it is dropped, the listener closes in the background.
#[derive(Debug)]
pub struct Listening {
    stop: watch::Sender<bool>,
    task: JoinHandle<(Result<(), ConsumeError>, Result<(), Unsettled>)>,
}

impl Listening {
    /// Takes no more messages, lets handlers finish, and gives the rest back; see [`Consumer::close`].
    ///
    /// # Errors
    /// [`Unsettled`]: how many messages were still being handled at the close timeout.
    pub async fn close(self) -> Result<(), Unsettled> {
        self.stop.send_replace(true);
        // A listener that panicked settled nothing, and has nothing in hand.
        self.task.await.map_or(Ok(()), |(_, closed)| closed)
    }

    /// Waits until a broker ends the subscription for a reason that will not go away.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn stopped(&mut self) -> Result<(), ConsumeError> {
        (&mut self.task)
            .await
            .map_or(Err(ConsumeError::Closed), |(end, _)| end)
    }
}
