//! `qmq status`: how brokers and groups are.

mod cluster;
mod reading;
mod show;

use std::io::{self, IsTerminal};
use std::time::Duration;

use qmq_client::Client;
use tokio::time::{Instant, sleep_until};

use super::signals::Stop;
use super::{ClientArgs, Settings};
use crate::cli::duration::duration;
use crate::cli::failure::{Failure, complain};
use crate::cli::output::Output;
use crate::cli::tools::{Metaserver, TokenArgs};
use reading::Reading;

const EXAMPLES: &str = "\
Of a group: lag is what has not been handed out yet, unacked what consumers
hold, waiting what waits to be handed out again, skipped what retention took
before it was acknowledged. A group whose consumers all get every message has
a row for each of them: GROUP/CONSUMER.

With --json each line has a `kind`: `node`, `subject` or `group`. With --watch
there are also rates, taken between two readings.

With --metaserver, or where client.properties names meta servers, the cluster is
shown, before the brokers if it names some of these too (not with --watch): broker groups, their states, masters and epochs, who was
heard of when. Kinds of lines: `meta`, `broker_group` and `member`.

Examples:
  qmq status
  qmq status --metaserver=meta:8080 --token-file=token
  qmq status 'order.*'
  qmq status --watch
  qmq status --json | jq 'select(.kind == \"group\" and .lag > 1000)'";

/// Arguments of `qmq status`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only subjects with such names; * stands for anything
    #[arg(default_value = "")]
    pattern: String,
    /// Look again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// How often --watch looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = every)]
    every: Duration,
    /// Show all rows by name, not only those with the most lag
    #[arg(long)]
    all: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TokenArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A broker has other things to do than to say how it is.
const EVERY_MIN: Duration = Duration::from_millis(100);

fn every(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        every if every < EVERY_MIN => Err(format!("{text:?} is too often; 100ms at least")),
        every => Ok(every),
    }
}

/// Shows it once, or until Ctrl-C.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(metaserver) = args.target.named()? {
        return cluster(args, &metaserver);
    }
    let settings = args.client.settings()?;
    let mut complained = false;
    if let Some(metaserver) = metaserver_of(&settings)? {
        if settings.config.addresses.is_empty() {
            return cluster(args, &metaserver);
        }
        if !args.watch {
            match cluster(args, &metaserver) {
                // Its brokers are shown all the same.
                Err(Failure::Failed { what, .. }) => {
                    complain(&what);
                    complained = true;
                }
                other => other?,
            }
        }
    }
    super::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let client = settings.connect_to_brokers().await?;
        let shown = show(args, &client, &settings.config.addresses, &mut stop).await;
        client.close().await;
        match complained {
            true => shown.and(Err(Failure::Reported)),
            false => shown,
        }
    })
}

/// The meta server of a client that is told of some.
fn metaserver_of(settings: &Settings) -> Result<Option<Metaserver>, Failure> {
    match settings.config.meta_endpoints.first() {
        Some(endpoint) => {
            let wrong = |why| Failure::new(why, format!("correct {}", settings.file.display()));
            endpoint.parse().map(Some).map_err(wrong)
        }
        None => Ok(None),
    }
}

/// Shows a cluster once, or until Ctrl-C.
fn cluster(args: &Args, metaserver: &Metaserver) -> Result<(), Failure> {
    let token = args.target.token()?;
    super::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let mut out = Output::new();
        loop {
            let next = Instant::now() + args.every;
            match cluster::look(metaserver, &token).await {
                Ok(seen) => {
                    if args.json {
                        cluster::for_programs(&mut out, metaserver, &seen)?;
                    } else {
                        if args.watch && io::stdout().is_terminal() {
                            show::clear(&mut out)?;
                        }
                        cluster::for_people(&mut out, metaserver, &seen)?;
                    }
                }
                // It may come back.
                Err(Failure::Failed { what, .. }) if args.watch => complain(&what),
                Err(failure) => return Err(failure),
            }
            out.flush()?;
            if !args.watch {
                return Ok(());
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = stop.asked() => return Ok(()),
            }
        }
    })
}

async fn show(
    args: &Args,
    client: &Client,
    addresses: &[String],
    stop: &mut Stop,
) -> Result<(), Failure> {
    let mut out = Output::new();
    let mut before: Option<Reading> = None;
    loop {
        let next = Instant::now() + args.every;
        let seen = Reading::take(client, addresses, &args.pattern).await;
        if args.json {
            show::for_programs(&mut out, &seen, before.as_ref())?;
        } else {
            if args.watch && io::stdout().is_terminal() {
                show::clear(&mut out)?;
            }
            show::for_people(&mut out, &seen, before.as_ref(), args.all, args.watch)?;
        }
        out.flush()?;
        if !args.watch {
            return seen.outcome();
        }
        before = Some(seen);
        tokio::select! {
            () = sleep_until(next) => {}
            () = stop.asked() => return Ok(()),
        }
    }
}
