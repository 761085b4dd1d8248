//! One consumer of the demo: takes batches of every route in turn, handles them, acknowledges them.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use qmq_store::{Batch, PullRequest, Store, TagFilter};

use super::event::{Event, GROUPS, Work};
use super::worker::{Shared, fail, nanos, tell};

/// Messages asked for at once.
const BATCH_MAX: usize = 100;

/// How long a consumer rests when no route has anything for it.
const IDLE: Duration = Duration::from_millis(1);

/// How a consumer's work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything is stored and nothing is left for it.
    Finished,
    /// It took work and died.
    Died,
    /// It took work and hangs until the process is killed.
    Hung,
}

/// Which route is set aside, so that the consumer that leaves work behind surely finds some there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aside {
    First,
    Last,
}

/// A consumer before it starts.
#[derive(Debug)]
pub(super) struct Consumer {
    group: usize,
    name: &'static str,
    filter: TagFilter,
    aside: Option<Aside>,
    ending: Ending,
}

impl Consumer {
    /// One that handles everything that it is given.
    pub(super) fn new(group: usize, name: &'static str) -> Self {
        Self {
            group,
            name,
            filter: TagFilter::All,
            aside: None,
            ending: Ending::Finished,
        }
    }

    /// Its name in the group.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Takes only messages with one of these tags.
    pub(super) fn only(mut self, tags: &[&str]) -> Self {
        self.filter = TagFilter::Any(tags.iter().map(|tag| (*tag).to_owned()).collect());
        self
    }

    /// After some work takes messages of the first flight's route and ends so.
    pub(super) fn leaves_first_route_and(mut self, ending: Ending) -> Self {
        (self.aside, self.ending) = (Some(Aside::First), ending);
        self
    }

    /// After some work takes messages of the last flight's route and ends so.
    pub(super) fn leaves_last_route_and(mut self, ending: Ending) -> Self {
        (self.aside, self.ending) = (Some(Aside::Last), ending);
        self
    }

    /// Leaves the first flight's route alone until another consumer has left work behind there.
    pub(super) fn spares_first_route(mut self) -> Self {
        self.aside = Some(Aside::First);
        self
    }

    /// Leaves the last flight's route alone until another consumer has left work behind there.
    pub(super) fn spares_last_route(mut self) -> Self {
        self.aside = Some(Aside::Last);
        self
    }

    /// Works until its ending.
    pub(super) fn run(&self, store: &Store, shared: &Shared) -> Ending {
        let routes = &shared.input.routes;
        let aside = self.aside.and_then(|aside| {
            let flights = &shared.input.flights;
            let flight = if aside == Aside::First {
                flights.first()
            } else {
                flights.last()
            };
            flight.map(|flight| flight.route)
        });
        let leaves = self.ending != Ending::Finished;
        let quota = shared.input.flights.len() as u64 / 8;
        let mut handled = 0;
        loop {
            // Looked at before the round: what is true now was true for all of it.
            let all_stored = shared.all_stored.load(Ordering::SeqCst);
            let settled = shared.declared_gone.load(Ordering::SeqCst) || self.aside.is_none();
            let spare = leaves || !shared.left_behind.load(Ordering::SeqCst);
            let mut round = 0;
            for route in 0..routes.len() as u32 {
                if Some(route) != aside || !spare {
                    round += self.handle_batch(store, shared, route);
                }
            }
            handled += round;
            if leaves && (handled >= quota || (all_stored && round == 0)) {
                if let Some(route) = aside {
                    self.leave_behind(store, shared, route);
                }
                return self.ending;
            }
            if round == 0 {
                if all_stored && settled {
                    return Ending::Finished;
                }
                thread::sleep(IDLE);
            }
        }
    }

    fn handle_batch(&self, store: &Store, shared: &Shared, route: u32) -> u64 {
        let start = Instant::now();
        let Some(batch) = self.pull(store, shared, route) else {
            return 0;
        };
        let pulled = start.elapsed();
        let work = self.work(&batch, shared, route);
        // Handling a message means telling the parent of it: an effect that outlives this process. It comes
        // before the acknowledgement, so whatever the store counts as done has been done.
        let handled = Event::Handled {
            work,
            nanos: nanos(pulled),
        };
        tell(&handled);
        let start = Instant::now();
        if let Err(e) = store.ack(&batch) {
            fail("cannot acknowledge", &e);
        }
        let took = nanos(start.elapsed());
        if let Event::Handled { work, .. } = handled {
            let count = work.sequences.len() as u64;
            tell(&Event::Acked { work, nanos: took });
            return count;
        }
        0
    }

    /// Takes messages of the route that was set aside, and leaves them.
    fn leave_behind(&self, store: &Store, shared: &Shared, route: u32) {
        loop {
            if let Some(batch) = self.pull(store, shared, route) {
                tell(&Event::Held(self.work(&batch, shared, route)));
                break;
            }
            thread::sleep(IDLE);
        }
        shared.left_behind.store(true, Ordering::SeqCst);
        if self.ending == Ending::Hung {
            loop {
                thread::park();
            }
        }
    }

    /// What there is for it, if anything.
    fn pull(&self, store: &Store, shared: &Shared, route: u32) -> Option<Batch> {
        let subject = &shared.input.routes[route as usize].subject;
        let request = PullRequest::new(subject.as_str(), GROUPS[self.group], self.name)
            .max(BATCH_MAX)
            .filter(self.filter.clone());
        match store.pull(&request) {
            Ok(batch) => (!batch.is_empty()).then_some(batch),
            // Its first flight is still to come.
            Err(e) if super::unknown(&e) => None,
            Err(e) => fail("cannot pull", &e),
        }
    }

    /// Compares a batch with the input, byte by byte.
    fn work(&self, batch: &Batch, shared: &Shared, route: u32) -> Work {
        let mut work = Work {
            group: self.group,
            consumer: self.name.to_owned(),
            route,
            sequences: Vec::with_capacity(batch.len()),
            again: 0,
        };
        for delivered in batch.iter() {
            let sequence = delivered.sequence();
            let message = match delivered.message() {
                Ok(message) => message,
                Err(e) => fail("a pulled message is damaged", &e),
            };
            let expected = shared.input.at(route, sequence);
            let same = expected.is_some_and(|flight| {
                shared.input.flights[flight as usize].body.as_ref() == message.body()
            });
            if !same {
                let subject = &shared.input.routes[route as usize].subject;
                let differs = std::io::Error::other(format!("{subject} sequence {sequence}"));
                fail("a pulled message differs from its flight", &differs);
            }
            work.sequences.push(sequence);
            work.again += u64::from(delivered.attempt() > 0);
        }
        work
    }
}
