//! `qmq tools`: what QMQ's `tools.sh` does, with its commands, flags and answers, over the same HTTP. It works on QMQ's meta servers too.
//!
//! Exit codes: 0 when an answer was printed, whatever it says, as with `tools.sh`; 1 when there was none, or with `--check` one that says no; 2 when the
//! command line was wrong (`tools.sh` ends with 0 then).

mod hint;
mod post;
mod target;

use crate::cli::failure::Failure;
use crate::cli::output::{Output, note};
pub(crate) use post::{TIMEOUT, ask, post};
pub(crate) use target::{Metaserver, TokenArgs};

/// Shown by `qmq tools --help`.
pub(crate) const EXAMPLES: &str = "\
Commands, flags and answers are those of QMQ's tools.sh. The answer is printed
as it comes: JSON. If it says no, standard error says what to do.

Roles: 0 master, 1 slave, 4 backup, 5 delay master, 6 delay slave, 7 delay
backup.

Exit codes: 0 an answer was printed, whatever it says; 1 there was none, or
with --check one that says no; 2 the command line was wrong.

Examples:
  qmq tools AddBroker --metaserver=127.0.0.1:8080 --token-file=token \\
    --brokerGroup=group-1 --role=0 --hostname=broker-1 --ip=10.0.0.1 \\
    --servePort=20881 --syncPort=20882
  qmq tools ListBrokers --metaserver=127.0.0.1:8080
  export QMQ_METASERVER=meta:8080 QMQ_API_TOKEN=...
  qmq tools MarkReadonly --brokerGroup=group-1
  qmq tools ResetOffset --subject=order.changed --group=ticket --action=2";

/// QMQ's `tools.sh`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Enter a broker or delay server, before it starts
    #[command(name = "AddBroker")]
    AddBroker(BrokerArgs),
    /// Put a broker in the place of the one with the same group and role; the answer has the old one
    #[command(name = "ReplaceBroker")]
    ReplaceBroker(BrokerArgs),
    /// List brokers and delay servers
    #[command(name = "ListBrokers")]
    ListBrokers {
        /// Only those of this group
        #[arg(
            long = "brokerGroup",
            value_name = "GROUP",
            default_value = "",
            hide_default_value = true
        )]
        broker_group: String,
        #[command(flatten)]
        common: Common,
    },
    /// List broker groups
    #[command(name = "ListBrokerGroups")]
    ListBrokerGroups {
        #[command(flatten)]
        common: Common,
    },
    /// List which groups serve which subject
    #[command(name = "ListSubjectRoutes")]
    ListSubjectRoutes {
        #[command(flatten)]
        common: Common,
    },
    /// Let one more group serve a subject
    #[command(name = "AddSubjectBrokerGroup")]
    AddSubjectBrokerGroup {
        /// Group
        #[arg(long = "brokerGroup", value_name = "GROUP")]
        broker_group: String,
        /// Subject
        #[arg(long)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a group serve a subject no longer; what is there is not waited for: see `qmq meta decommission`
    #[command(name = "RemoveSubjectBrokerGroup")]
    RemoveSubjectBrokerGroup {
        /// Group
        #[arg(long = "brokerGroup", value_name = "GROUP")]
        broker_group: String,
        /// Subject, or * for all
        #[arg(long)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
    /// Enter a subject with its tag
    #[command(name = "AddNewSubject")]
    AddNewSubject {
        /// Subject
        #[arg(long)]
        subject: String,
        /// Groups of this tag serve it
        #[arg(long)]
        tag: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a group serve what another serves
    #[command(name = "ExtendSubjectRoute")]
    ExtendSubjectRoute {
        /// Subject, or * for all
        #[arg(long = "relatedSubject", value_name = "SUBJECT")]
        related_subject: String,
        /// Group that serves them
        #[arg(long = "relatedBrokerGroup", value_name = "GROUP")]
        related_broker_group: String,
        /// Group that is to serve them too
        #[arg(long = "newBrokerGroup", value_name = "GROUP")]
        new_broker_group: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let producers leave a group
    #[command(name = "MarkReadonly")]
    MarkReadonly(ReadonlyArgs),
    /// Let producers use a group again
    #[command(name = "UnMarkReadonly")]
    UnMarkReadonly(ReadonlyArgs),
    /// Let a consumer group go on at the newest or the oldest message
    #[command(name = "ResetOffset")]
    ResetOffset {
        /// Subject
        #[arg(long)]
        subject: String,
        /// Consumer group
        #[arg(long)]
        group: String,
        /// 1 newest, 2 oldest
        #[arg(long, value_name = "NUMBER")]
        action: i32,
        #[command(flatten)]
        common: Common,
    },
    /// Enter a database of messages to be sent
    #[command(name = "AddDb")]
    AddDb {
        /// Scheme of its URL
        #[arg(long = "type", value_name = "TYPE", default_value = "mmm")]
        kind: String,
        /// Host
        #[arg(long)]
        host: String,
        /// Port
        #[arg(long)]
        port: u16,
        /// User
        #[arg(long, value_name = "USER")]
        username: String,
        /// Password; other users of this machine see it here
        #[arg(long)]
        password: String,
        /// Room
        #[arg(long, default_value = "default")]
        room: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct BrokerArgs {
    /// Group
    #[arg(long = "brokerGroup", value_name = "GROUP")]
    broker_group: String,
    /// 0 master, 1 slave, 4 backup, 5 delay master, 6 delay slave, 7 delay backup
    #[arg(long, value_name = "NUMBER")]
    role: String,
    /// Host name by which it will ask: what `hostname` prints there, or its qmq.host
    #[arg(long, value_name = "NAME")]
    hostname: String,
    /// Address at which others reach it
    #[arg(long)]
    ip: String,
    /// Its port for clients
    #[arg(long = "servePort", value_name = "PORT")]
    serve_port: i32,
    /// Its port for slaves; a backup has none
    #[arg(long = "syncPort", value_name = "PORT", allow_hyphen_values = true)]
    sync_port: Option<i32>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReadonlyArgs {
    /// Group
    #[arg(long = "brokerGroup", value_name = "GROUP")]
    broker_group: String,
    /// Subject, or * for all
    #[arg(long, default_value = "*")]
    subject: String,
    #[command(flatten)]
    common: Common,
}

/// What all of them take.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    target: TokenArgs,
    /// Exit with 1 if the answer says that it was not done
    #[arg(long)]
    check: bool,
}

type Pairs<'a> = [(&'a str, &'a str)];

/// Asks, and prints the answer.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::AddBroker(args) => broker("AddBroker", args),
        Command::ReplaceBroker(args) => broker("ReplaceBroker", args),
        Command::ListBrokers {
            broker_group,
            common,
        } => common.list(&[("action", "ListBrokers"), ("brokerGroup", broker_group)]),
        Command::ListBrokerGroups { common } => common.list(&[("action", "ListBrokerGroups")]),
        Command::ListSubjectRoutes { common } => common.list(&[("action", "ListSubjectRoutes")]),
        Command::AddSubjectBrokerGroup {
            broker_group,
            subject,
            common,
        } => common.change(&[
            ("action", "AddSubjectBrokerGroup"),
            ("brokerGroup", broker_group),
            ("subject", subject),
        ]),
        Command::RemoveSubjectBrokerGroup {
            broker_group,
            subject,
            common,
        } => common.change(&[
            ("action", "RemoveSubjectBrokerGroup"),
            ("brokerGroup", broker_group),
            ("subject", subject),
        ]),
        Command::AddNewSubject {
            subject,
            tag,
            common,
        } => common.change(&[
            ("action", "AddNewSubject"),
            ("subject", subject),
            ("tag", tag),
        ]),
        Command::ExtendSubjectRoute {
            related_subject,
            related_broker_group,
            new_broker_group,
            common,
        } => common.change(&[
            ("action", "ExtendSubjectRoute"),
            ("relatedSubject", related_subject),
            ("relatedBrokerGroup", related_broker_group),
            ("newBrokerGroup", new_broker_group),
        ]),
        Command::MarkReadonly(args) => readonly("MarkReadonlyBrokerGroup", args),
        Command::UnMarkReadonly(args) => readonly("UnMarkReadonlyBrokerGroup", args),
        Command::ResetOffset {
            subject,
            group,
            action,
            common,
        } => common.change(&[
            ("action", "ResetOffset"),
            ("subject", subject),
            ("group", group),
            ("code", &action.to_string()),
        ]),
        Command::AddDb {
            kind,
            host,
            port,
            username,
            password,
            room,
            common,
        } => common.change(&[
            ("action", "AddDb"),
            ("type", kind),
            ("host", host),
            ("port", &port.to_string()),
            ("username", username),
            ("password", password),
            ("room", room),
        ]),
    }
}

fn broker(action: &str, args: &BrokerArgs) -> Result<(), Failure> {
    let backup = matches!(args.role.as_str(), "4" | "7");
    let serve = args.serve_port.to_string();
    let sync = args.sync_port.map(|port| port.to_string());
    let mut pairs: Vec<(&str, &str)> = vec![
        ("action", action),
        ("brokerGroup", &args.broker_group),
        ("role", &args.role),
        ("hostname", &args.hostname),
        ("ip", &args.ip),
        ("servePort", &serve),
    ];
    match &sync {
        Some(sync) => pairs.push(("syncPort", sync)),
        None if backup => {}
        None => {
            return Err(Failure::usage(
                "--syncPort is missing",
                "give the port for slaves; only a backup (roles 4 and 7) has none",
            ));
        }
    }
    args.common.change(&pairs)
}

fn readonly(action: &str, args: &ReadonlyArgs) -> Result<(), Failure> {
    args.common.change(&[
        ("action", action),
        ("subject", &args.subject),
        ("brokerGroup", &args.broker_group),
    ])
}

impl Common {
    /// An action that needs no token with QMQ.
    fn list(&self, pairs: &Pairs<'_>) -> Result<(), Failure> {
        self.print(&self.target.token()?, pairs)
    }

    /// An action that needs a token.
    fn change(&self, pairs: &Pairs<'_>) -> Result<(), Failure> {
        self.print(&self.target.required_token()?, pairs)
    }

    fn print(&self, token: &str, pairs: &Pairs<'_>) -> Result<(), Failure> {
        let answer = post(&self.target.metaserver()?, token, pairs, TIMEOUT)?;
        let mut out = Output::new();
        out.line(&answer)?;
        out.flush()?;
        if !hint::refused(&answer) {
            return Ok(());
        }
        note(&format!("hint: {}", hint::hint(&answer, !token.is_empty())));
        match self.check {
            true => Err(Failure::Reported),
            false => Ok(()),
        }
    }
}
