//! The commands that run servers.

mod attend;
pub(super) mod broker;
pub(super) mod delay;
pub(super) mod dev;
mod keys;
pub(super) mod meta;
mod signals;
pub(super) mod tls;

use std::io::IsTerminal;

use tokio::runtime::{Builder, Runtime};

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
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// How the orderly end of a broker went.
fn closed(ended: Result<(), qmq_store::Error>) -> Result<(), Failure> {
    ended.map_err(|error| Failure::of("closing the store", &error, "the next start recovers it"))
}

/// The line that says where a broker listens.
fn ready(broker: &qmq_server::Broker) -> String {
    let http = broker
        .http_address()
        .map(|address| format!(", http://{address}/metrics"))
        .unwrap_or_default();
    format!("ready: {}{http}", broker.address())
}
