//! `qmq broker`: the real-time broker.

use std::path::PathBuf;
use std::sync::Arc;

use qmq_server::config::{Sources, WatchedConfig};
use qmq_server::{Broker, BrokerOptions};

use super::{EndArgs, Signals, end_orderly, log, serve_to_end};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, note};

/// Run the real-time broker
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// broker.properties
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A setting that counts before the file; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    end: EndArgs,
}

const EXAMPLES: &str = "\
Examples:
  qmq tls init --dir tls --host broker-1.example.org
  qmq broker --config broker.properties
  qmq broker --config broker.properties --set flush.mode=async

Settings come from --set, then the environment (broker.port is QMQ_BROKER_PORT), then the file, then the defaults.
All keys, with what they mean, their ranges and defaults: qmq_server::config::keys::BROKER, qmq-server/src/config/keys/broker.rs.
SIGTERM ends it in order, a second one at once.";

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    log();
    let mut sources = Sources::of_file(&args.config);
    sources.take_environment(std::env::vars_os());
    for set in &args.sets {
        sources
            .take_set(set)
            .map_err(|error| Failure::usage(error.to_string(), "write it as --set KEY=VALUE"))?;
    }
    let (watched, config) = WatchedConfig::load(sources).map_err(|error| {
        Failure::new(
            error.to_string(),
            "correct the settings named; `qmq broker --help` says where they come from",
        )
    })?;
    for warning in config.warnings() {
        note(&format!("warning: {warning}"));
    }
    let mut options = BrokerOptions::from_config(&config)
        .map_err(|error| Failure::of("the broker does not start", &error, "correct the file"))?;
    options.watched = Some(Arc::new(watched));
    serve_to_end(serve(options, args.end))
}

async fn serve(options: BrokerOptions, end: EndArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let broker = Broker::start(options).await.map_err(|error| {
        Failure::of(
            "the broker does not start",
            &error,
            "correct what it names and start it again",
        )
    })?;
    let mut out = Output::new();
    let http = broker
        .http_address()
        .map(|address| format!(", http://{address}/metrics"))
        .unwrap_or_default();
    out.line(format!("ready: {}{http}", broker.address()))?;
    out.flush()?;
    signals.next().await;
    end_orderly(&mut signals, end, broker.drain()).await
}
