//! `qmq meta rebalance` and `qmq meta decommission`: moving subjects between broker groups. QMQ has no such commands.
//!
//! The meta server takes one step each time that it is asked, and keeps all state in its database. So these commands may be ended and typed again.

mod steps;

use std::time::Duration;

use super::duration::duration;
use super::failure::Failure;
use super::tools::TokenArgs;
use steps::Work;

/// Commands of `qmq meta` that move subjects.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Give broker groups that have fewer subjects their share
    #[command(after_help = REBALANCE)]
    Rebalance(Rebalance),
    /// Empty a broker group: no new messages, and no group leaves a subject before its consumers are done
    #[command(after_help = DECOMMISSION)]
    Decommission(Decommission),
}

const REBALANCE: &str = "\
A subject first gains the new group, then producers leave the old one, and the
old one leaves the route once its consumers have settled everything there,
retries too. May be ended at any time; typed again it goes on.

Examples:
  qmq meta rebalance --dry-run --metaserver=meta:8080 --token-file=token
  qmq meta rebalance --metaserver=meta:8080 --token-file=token";

const DECOMMISSION: &str = "\
The group's subjects gain other groups, then producers leave it, and it leaves
each route once its consumers have settled everything there, retries too. Its
master must run until then. May be ended at any time; typed again it goes on.

Examples:
  qmq meta decommission group-1 --dry-run
  qmq meta decommission group-1
  qmq meta decommission group-1 --drop
  qmq meta decommission group-1 --undo";

#[derive(Debug, clap::Args)]
pub(crate) struct Rebalance {
    #[command(flatten)]
    pace: Pace,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Decommission {
    /// Broker group
    group: String,
    /// Let it be as others again; subjects that have left stay away
    #[arg(long, visible_alias = "abort", conflicts_with_all = ["dry_run", "drop"])]
    undo: bool,
    /// Delete the group and its brokers from the meta server once it is empty
    #[arg(long, conflicts_with = "dry_run")]
    drop: bool,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Debug, clap::Args)]
struct Pace {
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Moves that one step begins
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    max: u32,
    /// How often a step is taken
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    every: Duration,
    /// End after so long; typed again it goes on [default: when all is done]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print JSON, one object a step
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TokenArgs,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Rebalance(args) => {
            let mut work = Work::new(&args.pace, "Rebalance", None)?;
            if args.pace.dry_run {
                return work.plan();
            }
            work.steps()?;
            work.said("every broker group has its share")
        }
        Command::Decommission(args) => decommission(args),
    }
}

fn decommission(args: &Decommission) -> Result<(), Failure> {
    let group = args.group.as_str();
    let mut work = Work::new(&args.pace, "Decommission", Some(group))?;
    if args.undo {
        work.once("Recommission")?;
        return work.said(&format!("{group} takes subjects and messages again"));
    }
    if args.pace.dry_run {
        return work.plan();
    }
    work.steps()?;
    if args.drop {
        work.once("DropGroup")?;
        return work.said(&format!(
            "{group} and its brokers are not in the meta server any more"
        ));
    }
    work.said(&format!(
        "{group} is empty and serves no subject; to delete it: qmq meta decommission {group} --drop"
    ))
}
