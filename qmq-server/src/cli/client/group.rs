//! `qmq group`: moving and deleting consumer groups.

use qmq_client::{Admin, AdminError, Client};
use qmq_store::message::{check_group, check_subject};
use serde::Serialize;

use super::ClientArgs;
use super::place::Place;
use crate::cli::failure::{Failure, complain};
use crate::cli::output::Output;

/// Shown by `qmq group --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  qmq group reset order.changed ticket --to earliest
  qmq group reset order.changed ticket --to -1h
  qmq group drop order.changed ticket";

const RESET_EXAMPLES: &str = "\
Messages from there on are handed out, again if need be, and whatever the
group's consumers hold is taken from them. The broker keeps messages only as
long as it is configured to: a place before the oldest one means the oldest.

Examples:
  qmq group reset order.changed ticket --to earliest
  qmq group reset order.changed ticket --to latest
  qmq group reset order.changed ticket --to 4711
  qmq group reset order.changed ticket --to 2030-01-01T09:00:00Z
  qmq group reset order.changed ticket --to -1h";

const DROP_EXAMPLES: &str = "\
What the group has consumed is forgotten. A consumer that subscribes under its
name later makes a new group, which begins where that consumer says.

Examples:
  qmq group drop order.changed ticket";

/// Moving and deleting consumer groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Let a group go on at another place
    Reset(Reset),
    /// Delete a group
    Drop(Drop),
}

#[derive(Debug, clap::Args)]
#[command(after_help = RESET_EXAMPLES)]
pub(crate) struct Reset {
    /// Subject that the group consumes
    subject: String,
    /// Group
    group: String,
    /// earliest, latest, a sequence, a time (RFC 3339), or -1h for an hour ago
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Place,
    /// Print JSON, one object a broker
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DROP_EXAMPLES)]
pub(crate) struct Drop {
    /// Subject that the group consumes
    subject: String,
    /// Group
    group: String,
    /// Print JSON, one object a broker
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    broker: &'a str,
    subject: &'a str,
    group: &'a str,
    /// `None`: the group is deleted.
    next_sequence: Option<u64>,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Reset(args) => {
            let to = args.to;
            let target = Target {
                subject: &args.subject,
                group: &args.group,
                client: &args.client,
                json: args.json,
            };
            target.each(
                matches!(to, Place::Sequence(_)),
                &async |admin, subject, group| {
                    let next = admin.reset(subject, group, to.reset()).await?;
                    Ok(Some(next))
                },
            )
        }
        Command::Drop(args) => {
            let target = Target {
                subject: &args.subject,
                group: &args.group,
                client: &args.client,
                json: args.json,
            };
            target.each(false, &async |admin, subject, group| {
                admin.drop_group(subject, group).await?;
                Ok(None)
            })
        }
    }
}

/// What a command is about.
struct Target<'a> {
    subject: &'a str,
    group: &'a str,
    client: &'a ClientArgs,
    json: bool,
}

impl Target<'_> {
    /// Does it on each broker.
    fn each(
        &self,
        alone: bool,
        act: &impl AsyncFn(&Admin, &str, &str) -> Result<Option<u64>, AdminError>,
    ) -> Result<(), Failure> {
        check_subject(self.subject)
            .map_err(|e| Failure::usage(e.to_string(), "give another subject"))?;
        check_group(self.group).map_err(|e| Failure::usage(e.to_string(), "give another group"))?;
        let settings = self.client.settings()?;
        let addresses = &settings.config.addresses;
        if alone && addresses.len() > 1 {
            return Err(Failure::usage(
                format!(
                    "a sequence is one broker's, and {} names {}",
                    settings.file.display(),
                    addresses.len()
                ),
                "give a time, or --client FILE with one broker",
            ));
        }
        super::runtime()?.block_on(async {
            let client = settings.connect_to_brokers().await?;
            let mut out = Output::new();
            let mut failed = false;
            for address in addresses {
                match self.on(&client, address, act).await {
                    Ok(next) => self.tell(&mut out, address, next)?,
                    Err(error) => {
                        complain(&format!(
                            "{}: {error}; `qmq status` shows groups and subjects",
                            self.group
                        ));
                        failed = true;
                    }
                }
            }
            out.flush()?;
            client.close().await;
            if failed {
                return Err(Failure::Reported);
            }
            Ok(())
        })
    }

    async fn on(
        &self,
        client: &Client,
        address: &str,
        act: &impl AsyncFn(&Admin, &str, &str) -> Result<Option<u64>, AdminError>,
    ) -> Result<Option<u64>, AdminError> {
        match client.admin(address) {
            Some(admin) => act(&admin, self.subject, self.group).await,
            None => Err(AdminError::Lost {
                broker: address.to_owned(),
                reason: "the client does not know it".to_owned(),
            }),
        }
    }

    fn tell(&self, out: &mut Output, broker: &str, next: Option<u64>) -> Result<(), Failure> {
        let (subject, group) = (self.subject, self.group);
        if self.json {
            return out.json(&Done {
                broker,
                subject,
                group,
                next_sequence: next,
            });
        }
        match next {
            Some(next) => out.line(format!(
                "{group} goes on at {next} of {subject} on {broker}"
            )),
            None => out.line(format!("{group} of {subject} is deleted on {broker}")),
        }
    }
}
