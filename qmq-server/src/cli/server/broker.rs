//! `qmq broker`: the real-time broker.

use std::path::PathBuf;
use std::sync::Arc;

use qmq_server::config::keys::BROKER;
use qmq_server::config::{Sources, WatchedConfig};
use qmq_server::{Broker, BrokerOptions};

use super::attend::{Asked, EndArgs, attend};
use super::{closed, keys, log};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, note};

/// Run the real-time broker
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// broker.properties
    #[arg(long, value_name = "FILE", required_unless_present = "keys")]
    config: Option<PathBuf>,
    /// A setting that counts before the file; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    end: EndArgs,
    /// Print all keys of broker.properties: what they mean, what they take, their defaults
    #[arg(long)]
    keys: bool,
}

const EXAMPLES: &str = "\
Examples:
  qmq tls init --dir tls --host broker-1.example.org
  qmq broker --config broker.properties
  qmq broker --config broker.properties --set flush.mode=async

Settings come from --set, then the environment (broker.port is QMQ_BROKER_PORT), then the file, then the defaults.
With meta.server.endpoint the broker belongs to a cluster: it takes messages once it is entered (`qmq tools AddBroker`; its log
has the line to type), or enters itself with broker.group and broker.role.
All keys, with what they mean, their ranges and defaults: `qmq broker --keys`, which is a file to begin with.
SIGTERM ends it in order, a second one at once.";

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(file) = args.config.as_ref().filter(|_| !args.keys) else {
        return keys::print(BROKER);
    };
    log();
    let mut sources = Sources::of_file(file);
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
    attend(args.end, false, |asked| serve(options, asked))
}

async fn serve(options: BrokerOptions, mut asked: Asked) -> Result<(), Failure> {
    let started = tokio::select! {
        started = Broker::start(options) => started,
        _ = &mut asked => return Ok(()),
    };
    let broker = started.map_err(|error| {
        Failure::of(
            "the broker does not start",
            &error,
            "correct what it names and start it again",
        )
    })?;
    announce(&broker)?;
    let _ = asked.await;
    closed(broker.drain().await)
}

fn announce(broker: &Broker) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line(super::ready(broker))?;
    out.flush()
}
