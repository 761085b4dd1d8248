//! `qmq delay --config`: the delay server.

use std::path::PathBuf;
use std::sync::Arc;

use qmq_server::config::keys::DELAY;
use qmq_server::config::{DelayConfig, Sources, Watched};
use qmq_server::{DelayOptions, DelayServer};

use super::attend::{Asked, EndArgs, attend};
use super::{closed, keys, log};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, note};

/// What the server is told.
#[derive(Debug, clap::Args)]
#[group(id = "delay_server")]
pub(crate) struct Args {
    /// Run the delay server with this delay.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that counts before the file; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "config")]
    sets: Vec<String>,
    #[command(flatten)]
    end: EndArgs,
    /// Print all keys of delay.properties: what they mean, what they take, their defaults
    #[arg(long)]
    keys: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.keys {
        return keys::print(DELAY);
    }
    let Some(file) = &args.config else {
        return Err(Failure::usage(
            "`qmq delay` needs a file or a command",
            "`qmq delay --config delay.properties` runs the server; `qmq delay --help` shows the commands",
        ));
    };
    log();
    let mut sources = Sources::of_file(file);
    sources.take_environment(std::env::vars_os());
    for set in &args.sets {
        sources
            .take_set(set)
            .map_err(|error| Failure::usage(error.to_string(), "write it as --set KEY=VALUE"))?;
    }
    let (watched, config) = Watched::<DelayConfig>::load(sources).map_err(|error| {
        Failure::new(
            error.to_string(),
            "correct the settings named; `qmq delay --keys` says what each takes",
        )
    })?;
    for warning in config.warnings() {
        note(&format!("warning: {warning}"));
    }
    let options = DelayOptions::from_config(&config).map_err(|error| {
        Failure::of(
            "the delay server does not start",
            &error,
            "correct the file",
        )
    })?;
    let options = DelayOptions {
        watched: Some(Arc::new(watched)),
        ..options
    };
    attend(args.end, false, |asked| serve(options, asked))
}

async fn serve(options: DelayOptions, mut asked: Asked) -> Result<(), Failure> {
    let started = tokio::select! {
        started = DelayServer::start(options) => started,
        _ = &mut asked => return Ok(()),
    };
    let server = started.map_err(|error| {
        Failure::of(
            "the delay server does not start",
            &error,
            "correct what it names and start it again",
        )
    })?;
    announce(&server)?;
    let _ = asked.await;
    closed(server.drain().await)
}

fn announce(server: &DelayServer) -> Result<(), Failure> {
    let http = server
        .http_address()
        .map(|address| format!(", http://{address}/metrics"))
        .unwrap_or_default();
    let mut out = Output::new();
    out.line(format!("ready: {}{http}", server.address()))?;
    out.flush()
}
