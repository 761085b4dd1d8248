//! `qmq tls`: certificates for an installation.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use qmq_server::tls::{Authority, Overwrite, TlsError};

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Certificates
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an authority if there is none, and a node's certificate signed by it
    Init(Init),
    /// Make a client's certificate
    Client(Client),
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  qmq tls init --dir tls --host broker-1.example.org --host 10.0.0.7
  qmq tls client --dir tls billing";

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Folder of ca.pem, ca.key, node.pem and node.key
    #[arg(long, default_value = "tls")]
    dir: PathBuf,
    /// Name of the node, for logs [default: the first host]
    #[arg(long)]
    name: Option<String>,
    /// DNS name or IP address under which clients reach the node; may be given several times
    #[arg(long = "host", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    hosts: Vec<String>,
    /// Days for which the certificates are good
    #[arg(long, default_value_t = 365)]
    days: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Client {
    /// Folder of the authority
    #[arg(long, default_value = "tls")]
    dir: PathBuf,
    /// What the client is called, in rights and logs
    name: String,
    /// Days for which the certificate is good
    #[arg(long, default_value_t = 365)]
    days: u32,
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init(args),
        Command::Client(args) => client(args),
    }
}

fn init(args: &Init) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut out = Output::new();
    let created = Authority::create(&args.dir, "qmq", args.days, now, Overwrite::Never);
    let authority = match created {
        Ok(authority) => {
            out.line(format!("made {}", args.dir.join("ca.pem").display()))?;
            authority
        }
        Err(TlsError::AuthorityExists { .. }) => Authority::open(&args.dir, now).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    };
    let first = args.hosts.first().map_or("node", String::as_str);
    let name = args.name.as_deref().unwrap_or(first);
    let files = (args.dir.join("node.pem"), args.dir.join("node.key"));
    authority
        .node(name, &args.hosts, args.days, now)
        .and_then(|issued| issued.write(&files.0, &files.1))
        .map_err(failed)?;
    out.line(format!(
        "made {} for {}, good for {} days",
        files.0.display(),
        args.hosts.join(", "),
        args.days
    ))?;
    out.line("in metaserver.properties, broker.properties and delay.properties, of whichever runs at these hosts:")?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    out.line(format!(
        "  tls.ca={}",
        absolute(&args.dir.join("ca.pem")).display()
    ))?;
    out.line(format!("  tls.cert={}", absolute(&files.0).display()))?;
    out.line(format!("  tls.key={}", absolute(&files.1).display()))?;
    out.flush()
}

fn client(args: &Client) -> Result<(), Failure> {
    let now = SystemTime::now();
    let authority = Authority::open(&args.dir, now).map_err(failed)?;
    let name = &args.name;
    qmq_message_name(name)?;
    let files = (
        args.dir.join(format!("{name}.pem")),
        args.dir.join(format!("{name}.key")),
    );
    authority
        .client(name, args.days, now)
        .and_then(|issued| issued.write(&files.0, &files.1))
        .map_err(failed)?;
    let mut out = Output::new();
    out.line(format!(
        "made {}, good for {} days",
        files.0.display(),
        args.days
    ))?;
    out.line("in client.properties:")?;
    out.line(format!("  tls.cert={}", files.0.display()))?;
    out.line(format!("  tls.key={}", files.1.display()))?;
    out.flush()
}

/// The name becomes a file's.
fn qmq_message_name(name: &str) -> Result<(), Failure> {
    qmq_store::message::check_consumer(name)
        .map_err(|error| Failure::usage(error.to_string(), "choose another name"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: TlsError) -> Failure {
    Failure::of(
        "certificates",
        &error,
        "correct what it names and try again",
    )
}
