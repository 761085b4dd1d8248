//! The half of the demo that gets killed: streams flights into the store and consumes them, telling its parent
//! about each promise the store has made.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use qmq_store::{Durability, Store};

use super::consumer::{Consumer, Ending};
use super::event::{CARRIERS, DEAD_IN, Event, GROUPS, KILLED_IN, TAGGED};
use super::input::Input;
use crate::cli::failure::{Failure, chain};

/// Threads that send flights; each has its own routes.
const PRODUCERS: usize = 2;

/// Flights that one producer has sent and not yet seen become durable.
const IN_FLIGHT_MAX: usize = 256;

/// How often the worker looks whether its parent is still there.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Arguments of the hidden command that `qmq demo` starts.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Flights file
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// The store's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// 1: until it is killed half-way; 2: to the end, and then until it is killed
    #[arg(long)]
    pub(super) run: u8,
}

/// How many flights the first run stores at most, so that the second has work too.
pub(super) fn first_run_limit(flights: usize) -> usize {
    flights * 6 / 10
}

/// Writes one event to the parent's pipe. When this returns, the parent will see it whatever happens to this
/// process. A parent that is gone ends the process.
pub(super) fn tell(event: &Event) {
    let Ok(mut line) = serde_json::to_vec(event) else {
        process::exit(1)
    };
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    if stdout
        .write_all(&line)
        .and_then(|()| stdout.flush())
        .is_err()
    {
        process::exit(1);
    }
}

/// Tells why the worker cannot go on, and ends it.
pub(super) fn fail(doing: &str, error: &(dyn Error + 'static)) -> ! {
    tell(&Event::Failed(format!("{doing}: {}", chain(error))));
    process::exit(1);
}

/// What all threads of the worker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) input: Input,
    /// Every flight of this run has been stored.
    pub(super) all_stored: AtomicBool,
    /// The consumer that leaves its work behind has done so.
    pub(super) left_behind: AtomicBool,
    /// That consumer has been declared gone (or will be by the next run).
    pub(super) declared_gone: AtomicBool,
}

/// Streams, consumes, and then waits to be killed.
pub(crate) fn run_worker(args: &WorkerArgs) -> Result<(), Failure> {
    let shared = Shared {
        input: Input::load(args.data.as_deref())?,
        all_stored: AtomicBool::new(false),
        left_behind: AtomicBool::new(false),
        declared_gone: AtomicBool::new(false),
    };
    // A parent that is gone cannot end this process: then the pipe does.
    thread::spawn(|| {
        loop {
            thread::sleep(HEARTBEAT);
            tell(&Event::Stored(Vec::new()));
        }
    });
    let store = open(&args.dir, &shared.input);
    let first = args.run == 1;
    if !first {
        // The machine of this consumer is not coming back, and whoever runs the consumers knows it.
        declare_gone(&store, &shared, KILLED_IN, "host-1");
    }
    thread::scope(|scope| {
        for consumer in consumers(first) {
            let (store, shared) = (&store, &shared);
            scope.spawn(move || {
                let name = consumer.name();
                let ending = consumer.run(store, shared);
                if ending == Ending::Died {
                    declare_gone(store, shared, DEAD_IN, name);
                    shared.declared_gone.store(true, Ordering::SeqCst);
                }
            });
        }
        produce(&store, &shared, first);
        shared.all_stored.store(true, Ordering::SeqCst);
    });
    tell(&Event::Done);
    loop {
        // The parent ends this process, and with it the open store.
        thread::park();
    }
}

fn open(dir: &Path, input: &Input) -> Store {
    let start = Instant::now();
    match Store::open(dir, super::options(input)) {
        Ok(store) => {
            tell(&Event::Opened {
                nanos: nanos(start.elapsed()),
            });
            store
        }
        Err(e) => fail("cannot open the store", &e),
    }
}

fn consumers(first: bool) -> Vec<Consumer> {
    let all = |group, name| Consumer::new(group, name);
    let tagged = all(TAGGED, "host-1").only(&CARRIERS);
    if first {
        vec![
            all(KILLED_IN, "host-1").leaves_first_route_and(Ending::Hung),
            all(KILLED_IN, "host-2").spares_first_route(),
            all(DEAD_IN, "host-1"),
            all(DEAD_IN, "host-2"),
            tagged,
        ]
    } else {
        vec![
            all(KILLED_IN, "host-2"),
            all(KILLED_IN, "host-3"),
            all(DEAD_IN, "host-1").leaves_last_route_and(Ending::Died),
            all(DEAD_IN, "host-2").spares_last_route(),
            tagged,
        ]
    }
}

fn declare_gone(store: &Store, shared: &Shared, group: usize, consumer: &str) {
    for route in &shared.input.routes {
        match store.consumer_gone(&route.subject, GROUPS[group], consumer) {
            Ok(_) => {}
            // It has never pulled from this route.
            Err(e) if super::unknown(&e) => {}
            Err(e) => fail("cannot declare a consumer gone", &e),
        }
    }
}

/// A flight that became durable, or did not.
type Outcome = (u32, u64, Instant, Duration, Result<(), qmq_store::Error>);

fn produce(store: &Store, shared: &Shared, first: bool) {
    let flights = shared.input.flights.len();
    let limit = if first {
        first_run_limit(flights)
    } else {
        flights
    };
    let stored = stored_already(store, shared);
    thread::scope(|scope| {
        let (tell, told) = crossbeam_channel::unbounded();
        scope.spawn(move || report_stored(&told));
        for part in 0..PRODUCERS {
            let (tell, stored) = (tell.clone(), &stored);
            scope.spawn(move || produce_part(store, shared, part, limit, stored, &tell));
        }
        drop(tell);
    });
}

/// How many flights of each route an earlier run has stored.
fn stored_already(store: &Store, shared: &Shared) -> Vec<u64> {
    let next = |subject: &str| match super::next_sequence(store, subject) {
        Ok(next) => next,
        Err(e) => fail("cannot see what is stored", &e),
    };
    shared
        .input
        .routes
        .iter()
        .map(|route| next(&route.subject))
        .collect()
}

fn produce_part(
    store: &Store,
    shared: &Shared,
    part: usize,
    limit: usize,
    stored: &[u64],
    tell: &Sender<Outcome>,
) {
    // A place in this channel is a flight under way: sending waits for room, the callback makes room.
    let (begin, end) = crossbeam_channel::bounded::<()>(IN_FLIGHT_MAX);
    for (index, flight) in shared.input.flights[..limit].iter().enumerate() {
        let route = flight.route as usize;
        if route % PRODUCERS != part || flight.sequence < stored[route] {
            continue;
        }
        // The receiver lives until the end of this function.
        let _ = begin.send(());
        let message = shared.input.message(flight);
        let start = Instant::now();
        let at = match store.append_with(&message, Durability::Buffered) {
            Ok(at) => at,
            Err(e) => fail("cannot append a flight", &e),
        };
        let (tell, end) = (tell.clone(), end.clone());
        store.when(at.end_offset, Durability::Synced, move |result| {
            let _ = tell.send((index as u32, at.sequence, start, start.elapsed(), result));
            let _ = end.try_recv();
        });
    }
}

/// Tells the parent which flights are durable, as many at a time as there are.
fn report_stored(told: &Receiver<Outcome>) {
    while let Ok(outcome) = told.recv() {
        let mut batch = Vec::new();
        for (flight, sequence, _, took, result) in
            std::iter::once(outcome).chain(told.try_iter().take(999))
        {
            if let Err(e) = result {
                fail("cannot make a flight durable", &e);
            }
            batch.push((flight, sequence, nanos(took)));
        }
        tell(&Event::Stored(batch));
    }
}

/// Whole nanoseconds of a duration.
pub(super) fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
