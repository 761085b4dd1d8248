//! The commands that run servers.

pub(super) mod broker;
pub(super) mod dev;
pub(super) mod tls;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::delay::due::duration;
use super::failure::Failure;

/// Runs a server to its end. What is under way then is left behind: it may wait for a disk that never answers.
fn serve_to_end(server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let ended = runtime.block_on(server);
    runtime.shutdown_background();
    ended
}

/// A runtime for a server.
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

/// How it ends.
#[derive(Clone, Copy, Debug, clap::Args)]
struct EndArgs {
    /// Longest orderly end: 500ms, 10s, 5m. What is not done by then is recovered at the next start
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    end_max: Duration,
}

/// Runs `end` unless a second signal comes, or it takes too long.
async fn end_orderly(
    signals: &mut Signals,
    args: EndArgs,
    end: impl Future<Output = Result<(), qmq_store::Error>>,
) -> Result<(), Failure> {
    const NEXT: &str = "the next start recovers what is missing";
    super::output::note("ending: no more messages are taken; a second signal stops at once");
    tokio::select! {
        ended = tokio::time::timeout(args.end_max, end) => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::of("closing the store", &error, "the next start recovers it")),
            Err(_) => {
                let seconds = args.end_max.as_secs_f64();
                let text = format!("the end took longer than {seconds} s and was cut short");
                Err(Failure::new(text, NEXT))
            }
        },
        () = signals.next() => Err(Failure::new("stopped at once by a second signal", NEXT)),
    }
}
