//! The store inside an async service, without blocking its threads and without a thread a request.
//!
//! The store knows no runtime. Two of its calls are made for one:
//!
//! * [`Store::when`] calls back once an offset is durable, so an append can be awaited: a oneshot
//!   channel carries the answer. Many tasks that wait share one sync.
//! * [`Store::poll_pull`] takes a waker and returns at once, so a pull is a future. The waker's place
//!   is kept in a [`Waiting`], and given up with it.
//!
//! What remains on the runtime's thread is short: copying a body into memory, and handing out
//! messages that are in memory. Opening and closing do sync, and stay outside of the runtime.
//!
//! ```sh
//! cargo run -p qmq-examples --example tokio_service
//! ```

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qmq_store::{
    Appended, Batch, Durability, Error as StoreError, Message, Options, PollPull, PullRequest,
    Store, Waiting,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

const PRODUCERS: usize = 8;
const MESSAGES_EACH: usize = 100;
const SUBJECT: &str = "payment.done";

/// Appends that are under way at a time. A buffered append returns at once as long as less than
/// `Options::flush_bytes` wait for a sync, and waits for a sync beyond. Allowing fewer than fit
/// keeps it on this side: the tasks wait for a permit, and the runtime's thread for nothing.
const IN_FLIGHT_MAX: usize = 64;

/// The store, as the service's handlers see it.
#[derive(Clone)]
struct Service {
    store: Store,
    permits: Arc<Semaphore>,
}

impl Service {
    fn new(store: Store) -> Self {
        let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Self { store, permits }
    }

    /// Appends a message and returns once it is synced.
    async fn append(&self, message: &Message) -> Result<Appended, StoreError> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| StoreError::Closed)?;
        let appended = self.store.append_with(message, Durability::Buffered)?;
        let (done, answer) = oneshot::channel();
        let end = appended.end_offset;
        self.store.when(end, Durability::Synced, move |outcome| {
            // The task may have been cancelled meanwhile; the message stays.
            let _ = done.send(outcome);
        });
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(appended)
    }

    /// Returns the next messages, however long that takes.
    async fn pull(&self, request: &PullRequest) -> Result<Batch, StoreError> {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        // Goes with the future: one that is cancelled leaves no waker in the store.
        let mut waiting = Waiting::default();
        poll_fn(|context| {
            loop {
                match self
                    .store
                    .poll_pull(request, context.waker(), &mut waiting)?
                {
                    PollPull::Ready(batch) => return Poll::Ready(Ok(batch)),
                    PollPull::Pending { next_due_ms: None } => return Poll::Pending,
                    // A message that was refused becomes due by time. The store has no timers, so
                    // the runtime wakes us.
                    PollPull::Pending {
                        next_due_ms: Some(due_ms),
                    } => {
                        let left = due_ms.saturating_sub(now_ms()).max(1);
                        let timer = timer.insert(Box::pin(sleep(Duration::from_millis(left))));
                        if timer.as_mut().poll(context).is_pending() {
                            return Poll::Pending;
                        }
                    }
                }
            }
        })
        .await
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

async fn produce(service: Service, producer: usize) -> Result<(), StoreError> {
    for n in 0..MESSAGES_EACH {
        let message = Message::new(SUBJECT, format!("{producer}-{n}"));
        service.append(&message).await?;
    }
    Ok(())
}

/// Takes all messages, and refuses the first one once: it comes back after 20 ms.
async fn consume(service: Service) -> Result<usize, StoreError> {
    // A pull verifies the bodies that it hands out: a limit in bytes is a limit in time.
    let request = PullRequest::new(SUBJECT, "ledger", "host-1").max_bytes(1 << 20);
    let (mut settled, mut refused) = (0, false);
    while settled < PRODUCERS * MESSAGES_EACH {
        let batch = service.pull(&request).await?;
        let mut first = None;
        if !refused {
            refused = true;
            first = batch.iter().next().map(|one| one.pull_sequence());
        }
        if let Some(first) = first {
            let delay = Duration::from_millis(20);
            let buffered = Durability::Buffered;
            service
                .store
                .nack(batch.member(), &[first..=first], delay, buffered)?;
        }
        // Acknowledging what was refused has no effect: it is this consumer's no more.
        settled += service.store.ack(&batch)?.acked as usize;
    }
    Ok(settled)
}

/// The longest time between two turns of the runtime, less what it was asked to sleep.
async fn longest_pause(until: Arc<Semaphore>) -> Duration {
    let mut longest = Duration::ZERO;
    while until.available_permits() == 0 {
        let before = Instant::now();
        sleep(Duration::from_millis(1)).await;
        longest = longest.max(before.elapsed().saturating_sub(Duration::from_millis(1)));
    }
    longest
}

async fn serve(store: Store) -> Result<(), Box<dyn Error>> {
    let service = Service::new(store);
    let finished = Arc::new(Semaphore::new(0));
    let pause = tokio::spawn(longest_pause(Arc::clone(&finished)));
    let started = Instant::now();
    let consumer = tokio::spawn(consume(service.clone()));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| tokio::spawn(produce(service.clone(), producer)))
        .collect();
    for producer in producers {
        producer.await??;
    }
    let settled = consumer.await??;
    let took = started.elapsed();
    finished.add_permits(1);
    println!("{settled} messages appended, synced, pulled and acknowledged in {took:.1?}");
    println!(
        "longest pause of the runtime's only thread: {:.1?}",
        pause.await?
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), Options::with_segment_bytes(4 << 20))?;
    // One thread: whatever blocked it would stop the service.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let served = runtime.block_on(async {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, serve(store.clone())).await?
    });
    drop(runtime);
    store.close()?;
    served
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
