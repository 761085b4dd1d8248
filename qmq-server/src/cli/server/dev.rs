//! `qmq dev`: a cluster on this machine, for trying things out.

use std::path::PathBuf;

use qmq_server::config::{point_at_client, pointer_path};
use qmq_server::dev::{Dev, DevError, DevOptions};

use super::attend::{Asked, EndArgs, attend};
use super::{closed, log};
use crate::cli::failure::{Failure, chain};
use crate::cli::output::{Output, note};

/// Run a cluster here: meta server, broker and delay server in one process on loopback, all in one folder
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder of its data, made if need be
    #[arg(long, default_value = "qmq-dev")]
    dir: PathBuf,
    /// UDP port of the broker; 0 takes any that is free
    #[arg(long, default_value_t = 20881)]
    port: u16,
    /// TCP port of /health and /metrics; 0 takes any that is free [default: port + 10000, or any that is free if there is no such port]
    #[arg(long)]
    http_port: Option<u16>,
    /// TCP port of the meta server, for `qmq tools` and clients; 0 takes any that is free [default: as last time in this folder, else 8080 if --port is 20881, else any; one that is taken is passed over]
    #[arg(long)]
    meta_port: Option<u16>,
    /// A setting of the broker, as in broker.properties; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Stop when standard input ends
    #[arg(long)]
    until_eof: bool,
    #[command(flatten)]
    end: EndArgs,
}

const EXAMPLES: &str = "\
Examples:
  qmq dev                        data in ./qmq-dev, until Ctrl-C
  qmq dev --dir /tmp/try --port 0
  qmq dev --set flush.mode=async

In another window:
  echo hello | qmq produce greetings
  qmq consume greetings --group me --count 1";

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    log();
    let sets = args.sets.iter().map(|set| {
        let (key, value) = set.split_once('=').ok_or_else(|| {
            Failure::usage(
                format!("--set {set} has no `=`"),
                "write it as --set KEY=VALUE",
            )
        })?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    let http_port = args.http_port.or(match args.port {
        0 => Some(0),
        port => Some(port.checked_add(10_000).unwrap_or(0)),
    });
    let options = DevOptions {
        folder: args.dir.clone(),
        port: args.port,
        http_port,
        meta_port: args.meta_port,
        sets: sets.collect::<Result<_, Failure>>()?,
    };
    attend(args.end, args.until_eof, |asked| serve(options, asked))
}

async fn serve(options: DevOptions, mut asked: Asked) -> Result<(), Failure> {
    let started = tokio::select! {
        started = Dev::start(&options) => started,
        _ = &mut asked => return Ok(()),
    };
    let dev = started.map_err(|error| {
        Failure::of(
            "qmq dev does not start",
            &error,
            match error {
                DevError::Listens { .. } | DevError::Config(_) => "correct --set",
                _ => "try another --dir, or --port 0",
            },
        )
    })?;
    announce(&dev)?;
    let _ = asked.await;
    closed(dev.drain().await)
}

/// Says where it is and what to type, and lets the commands in other windows find it.
fn announce(dev: &Dev) -> Result<(), Failure> {
    for warning in dev.warnings() {
        note(&format!("warning: {warning}"));
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let pointed = pointer_path(state.as_deref(), home.as_deref())
        .ok_or_else(|| "neither HOME nor XDG_STATE_HOME is set".to_owned())
        .and_then(|pointer| {
            point_at_client(&pointer, dev.client_file()).map_err(|error| chain(&error))
        });
    let client = dev.client_file().display().to_string();
    let hint = match pointed {
        Ok(()) => String::new(),
        Err(error) => {
            note(&format!("other windows need --client {client}: {error}"));
            format!(" --client {client}")
        }
    };
    let mut out = Output::new();
    out.line(super::ready(dev.broker()))?;
    let meta = dev.meta().http_address();
    out.line("type in another window:")?;
    out.line(format!("  echo hello | qmq produce greetings{hint}"))?;
    out.line(format!(
        "  qmq consume greetings --group me --count 1{hint}"
    ))?;
    out.line(format!(
        "  echo later | qmq produce greetings --delay 10s{hint}"
    ))?;
    out.line(format!(
        "  qmq tools ListBrokers --metaserver={meta} --token=dev"
    ))?;
    out.line(format!(
        "the meta server is at http://{meta}, the delay server at {}",
        dev.delay().address()
    ))?;
    out.flush()
}
