//! `qmq meta`: the meta server, its tables, and what moves subjects.

mod migrate;

use std::path::PathBuf;
use std::sync::Arc;

use qmq_server::config::keys::META;
use qmq_server::config::{MetaConfig, Sources, Watched};
use qmq_server::{MetaServer, MetaServerOptions};

use super::attend::{Asked, EndArgs, attend};
use super::{keys, log};
use crate::cli::failure::Failure;
use crate::cli::moves;
use crate::cli::output::{Output, note};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the tables of qmq in a MySQL or MariaDB database, as a user who may
    Migrate(migrate::Args),
    #[command(flatten)]
    Moves(moves::Command),
}

#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// metaserver.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that counts before the file; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    end: EndArgs,
    /// Print all keys of metaserver.properties: what they mean, what they take, their defaults
    #[arg(long)]
    keys: bool,
}

const EXAMPLES: &str = "\
Examples:
  qmq tls init --dir tls --host meta-1.example.org
  qmq meta                                        tables in ./meta/meta.db, one meta server
  qmq meta --config metaserver.properties         MySQL, if a datasource.properties lies beside it; several meta servers
  qmq meta --set meta.server.discover.port=8081
  qmq meta migrate --url 'mysql://root:PASSWORD@db:3306/qmq'
  qmq tools ListBrokers --metaserver=meta-1.example.org:8080

Settings come from --set, then the environment (min.group.num is QMQ_MIN_GROUP_NUM), then the file, then the defaults.
All keys: `qmq meta --keys`; those that count: `qmq config show metaserver.properties`. Nodes and clients are told meta.server.endpoint=http://HOST:8080/meta/address.
SIGTERM ends it in order, a second one at once.";

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        None => serve(&args.server),
        Some(Command::Migrate(migrate)) => migrate::run(migrate),
        Some(Command::Moves(command)) => moves::run(command),
    }
}

fn serve(args: &ServerArgs) -> Result<(), Failure> {
    if args.keys {
        return keys::print(META);
    }
    log();
    let mut sources = match &args.config {
        Some(file) => Sources::of_file(file),
        None => Sources::default(),
    };
    sources.take_environment(std::env::vars_os());
    for set in &args.sets {
        sources
            .take_set(set)
            .map_err(|error| Failure::usage(error.to_string(), "write it as --set KEY=VALUE"))?;
    }
    let (watched, config) = Watched::<MetaConfig>::load(sources).map_err(|error| {
        Failure::new(
            error.to_string(),
            "correct the settings named; `qmq meta --keys` says what each takes, `qmq meta --help` where they come from",
        )
    })?;
    for warning in config.warnings() {
        note(&format!("warning: {warning}"));
    }
    let mut options = MetaServerOptions::from_config(&config).map_err(|error| {
        Failure::of(
            "the meta server does not start",
            &error,
            "correct what it names",
        )
    })?;
    options.watched = Some(Arc::new(watched));
    attend(args.end, false, |asked| attended(options, asked))
}

async fn attended(options: MetaServerOptions, mut asked: Asked) -> Result<(), Failure> {
    let database = options.database.clone();
    tracing::info!(?database, "what is known lies there");
    let started = tokio::select! {
        started = MetaServer::start(options) => started,
        _ = &mut asked => return Ok(()),
    };
    let meta = started.map_err(|error| {
        Failure::of(
            "the meta server does not start",
            &error,
            "correct what it names and start it again",
        )
    })?;
    let several = match meta.database_kind() {
        "sqlite" => "one meta server alone",
        _ => "as many meta servers as are started on it",
    };
    tracing::info!("{} serves {several}", meta.database_kind());
    announce(&meta)?;
    let _ = asked.await;
    meta.drain().await;
    Ok(())
}

fn announce(meta: &MetaServer) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line(format!("ready: {}, {}", meta.address(), meta.endpoint()))?;
    out.flush()
}
