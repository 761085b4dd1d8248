//! The `pull` and `ack` rows.

use std::path::Path;
use std::thread;
use std::time::Instant;

use qmq_store::{Batch, Error, PullRequest, Store};

use super::limits::{self, Place};
use super::meter::{Meter, Resources};
use super::report::{Measured, Row};
use super::store::{Plan, failed, io_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// Messages that one thread pulls before all threads acknowledge: bounds what is unacknowledged.
const ROUND_MAX: u64 = 20_000;

/// Records of one thread that the limit goes over.
const PLACES_MAX: usize = 500_000;

/// One thread's consumers and what they hold.
struct Worker {
    /// (request, subject's length), one for each group and subject of this thread.
    requests: Vec<(PullRequest, usize)>,
    /// The request that is being worked off.
    current: usize,
    held: Vec<Batch>,
    places: Vec<Place>,
    pull_latency: Latency,
    ack_latency: Latency,
}

/// Pulls and acknowledges everything, in turn, each with its own meter.
pub(super) fn run(plan: &Plan, store: &Store, dir: &Path) -> Result<[Row; 2], Failure> {
    let mut workers = workers(plan);
    let total = plan.stored() * plan.groups as u64;
    let bar = progress::counted("pull and acknowledge", total);
    let (mut pulls, mut acks) = (Meter::new(dir), Meter::new(dir));
    let mut messages = 0;
    loop {
        let pulled = pulls
            .piece(|| each(&mut workers, |worker| worker.pull(store)))
            .map_err(|e| io_failed(&e))?
            .map_err(|e| failed("cannot pull", &e))?;
        if pulled == 0 {
            break;
        }
        acks.piece(|| each(&mut workers, |worker| worker.ack(store)))
            .map_err(|e| io_failed(&e))?
            .map_err(|e| failed("cannot acknowledge", &e))?;
        messages += pulled;
        bar.set_position(messages);
    }
    bar.finish_and_clear();
    let resources = Resources::now().map_err(|e| io_failed(&e))?;
    let (mut pull_latency, mut ack_latency) = (Latency::new(), Latency::new());
    let mut places = Vec::new();
    for worker in workers {
        pull_latency.merge(&worker.pull_latency);
        ack_latency.merge(&worker.ack_latency);
        places.push(worker.places);
    }
    let limit = limits::checksum_rate(dir, &places).map_err(|e| io_failed(&e))?;
    let row = |name, meter, latency| {
        let body_bytes = messages * plan.size as u64;
        Row::new(
            &Measured {
                name,
                messages,
                body_bytes,
                meter,
                latency,
                resources,
            },
            limit,
        )
    };
    Ok([
        row("pull", &pulls, &pull_latency),
        row("ack", &acks, &ack_latency),
    ])
}

/// Deals the pairs of group and subject to the threads.
fn workers(plan: &Plan) -> Vec<Worker> {
    let mut workers: Vec<_> = (0..plan.threads)
        .map(|_| Worker {
            requests: Vec::new(),
            current: 0,
            held: Vec::new(),
            places: Vec::new(),
            pull_latency: Latency::new(),
            ack_latency: Latency::new(),
        })
        .collect();
    let pairs = (0..plan.groups).flat_map(|g| (0..plan.subjects).map(move |s| (g, s)));
    for (turn, (group, subject)) in pairs.enumerate() {
        let thread = turn % plan.threads;
        let subject = plan.subject(subject);
        let group = format!("group-{group}");
        let consumer = format!("consumer-{thread}");
        let request =
            PullRequest::new(subject.as_str(), group.as_str(), consumer.as_str()).max(plan.batch);
        workers[thread].requests.push((request, subject.len()));
    }
    workers
}

/// Lets all workers do the same at the same time and adds up what they did.
fn each(
    workers: &mut [Worker],
    work: impl Fn(&mut Worker) -> Result<u64, Error> + Sync,
) -> Result<u64, Error> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        let mut sum = 0;
        for thread in threads {
            // A thread that panicked has done nothing to count.
            sum += thread.join().map_err(|_| Error::Closed)??;
        }
        Ok(sum)
    })
}

impl Worker {
    /// Pulls up to a round's worth, looking at each message as a consumer would.
    fn pull(&mut self, store: &Store) -> Result<u64, Error> {
        let mut pulled = 0;
        while pulled < ROUND_MAX {
            let Some((request, subject_len)) = self.requests.get(self.current) else {
                break;
            };
            let start = Instant::now();
            let batch = match store.pull(request) {
                Ok(batch) => batch,
                // Fewer messages than subjects: nothing was ever sent to this one.
                Err(Error::UnknownSubject { .. }) => {
                    self.current += 1;
                    continue;
                }
                Err(e) => return Err(e),
            };
            if batch.is_empty() {
                self.current += 1;
                continue;
            }
            for delivered in batch.iter() {
                let Ok(message) = delivered.message() else {
                    continue;
                };
                std::hint::black_box(message.body().first());
                if self.places.len() < PLACES_MAX {
                    let len = record_bytes(*subject_len, message.body().len()) as u32;
                    self.places.push(Place {
                        offset: message.offset(),
                        len,
                    });
                }
            }
            self.pull_latency.record(start.elapsed());
            pulled += batch.len() as u64;
            self.held.push(batch);
        }
        Ok(pulled)
    }

    /// Acknowledges what it holds.
    fn ack(&mut self, store: &Store) -> Result<u64, Error> {
        let mut acked = 0;
        for batch in self.held.drain(..) {
            let start = Instant::now();
            store.ack(&batch)?;
            self.ack_latency.record(start.elapsed());
            acked += batch.len() as u64;
        }
        Ok(acked)
    }
}

/// Bytes that a message without attributes takes in the log, as the format's page has it: a header of 64 bytes,
/// the subject, the body, and zeros up to a multiple of 8.
pub(super) fn record_bytes(subject: usize, body: usize) -> usize {
    (64 + subject + body).next_multiple_of(8)
}
