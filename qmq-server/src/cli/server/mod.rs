//! The commands that run servers.

pub(super) mod broker;
pub(super) mod dev;
pub(super) mod tls;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// A runtime for a server, with its log going to standard error.
fn runtime() -> Result<Runtime, Failure> {
    // The rooms have threads of their own, and handing work from one core to another costs more than it gains on few of them.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .thread_name("qmq-runtime")
        .build()
        .map_err(|error| Failure::of("starting threads", &error, "check `ulimit -u`"))
}

/// Logs to standard error, `info` and above unless `QMQ_LOG` says otherwise.
fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("QMQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// SIGTERM or SIGINT: the first asks for an orderly end, the second ends at once.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind).map_err(|error| Failure::of("listening for signals", &error, "try again"))
        };
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Longest orderly end.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs `end` unless a second signal comes, or it takes too long.
async fn end_orderly(
    signals: &mut Signals,
    end: impl Future<Output = Result<(), qmq_store::Error>>,
) -> Result<(), Failure> {
    super::output::note("ending: no more messages are taken; a second signal stops at once");
    tokio::select! {
        ended = tokio::time::timeout(END_MAX, end) => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::of("closing the store", &error, "the next start recovers it")),
            Err(_) => Err(Failure::new("the end took longer than 30 s and was cut short", "the next start recovers what is missing")),
        },
        () = signals.next() => Err(Failure::new("stopped at once by a second signal", "the next start recovers what is missing")),
    }
}
