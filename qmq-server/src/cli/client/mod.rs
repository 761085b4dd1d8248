//! The commands that talk to a broker: one file a command.

mod connect;
pub(super) mod consume;
pub(super) mod delayed;
pub(super) mod group;
mod place;
pub(super) mod produce;
mod signals;
pub(super) mod status;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use qmq_client::{Client, ClientBuilder, Pem};
use qmq_server::config::{ClientConfig, Sources, pointed_client, pointer_path};
use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;
use super::output::note;

/// Names the file of `--client` where there is no such option.
const CLIENT_VARIABLE: &str = "QMQ_CLIENT";

const START_OR_NAME: &str = "start `qmq dev` in another window, or give --client FILE";

/// How a command finds its broker.
#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// client.properties: the broker's address, and who asks [default: $QMQ_CLIENT, else the one that `qmq dev` wrote last]
    #[arg(long, value_name = "FILE")]
    client: Option<PathBuf>,
}

/// What the file says.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) file: PathBuf,
    pub(super) config: ClientConfig,
}

impl ClientArgs {
    /// Reads the file.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let file = self.file(std::env::var_os(CLIENT_VARIABLE))?;
        let (config, warnings) = ClientConfig::load(&Sources::of_file(&file)).map_err(|error| {
            Failure::new(
                error.to_string(),
                "correct it, or give another file with --client FILE",
            )
        })?;
        for warning in warnings {
            note(&format!("warning: {warning}"));
        }
        Ok(Settings { file, config })
    }

    fn file(&self, variable: Option<OsString>) -> Result<PathBuf, Failure> {
        let named = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
        let (file, by) = match (&self.client, named) {
            (Some(file), _) => (file.clone(), "--client"),
            (None, Some(file)) => (file, CLIENT_VARIABLE),
            (None, None) => (last_of_dev()?, "the last `qmq dev`"),
        };
        if file.is_file() {
            return Ok(file);
        }
        Err(Failure::new(
            format!("{}, named by {by}, is not there", file.display()),
            START_OR_NAME,
        ))
    }
}

/// The first meta server of the client.properties that is read where none is named, and that file; `None`: there is no such file, or it names none.
pub(super) fn meta_endpoint() -> Result<Option<(String, PathBuf)>, Failure> {
    let args = ClientArgs { client: None };
    let variable = std::env::var_os(CLIENT_VARIABLE);
    let is_named = variable.as_ref().is_some_and(|path| !path.is_empty());
    if let (false, Err(_)) = (is_named, args.file(variable)) {
        return Ok(None);
    }
    let Settings { file, config } = args.settings()?;
    let first = config.meta_endpoints.into_iter().next();
    Ok(first.map(|endpoint| (endpoint, file)))
}

/// The file that `qmq dev` wrote last.
fn last_of_dev() -> Result<PathBuf, Failure> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let (state, home) = (folder("XDG_STATE_HOME"), folder("HOME"));
    let pointed = match pointer_path(state.as_deref(), home.as_deref()) {
        Some(pointer) => pointed_client(&pointer)
            .map_err(|error| Failure::of("cannot find a broker", &error, START_OR_NAME))?,
        None => None,
    };
    pointed.ok_or_else(|| Failure::new("no broker is known", START_OR_NAME))
}

impl Settings {
    /// Everything for a client but the patience: one that finds each subject's brokers, by asking meta servers if the file names some.
    pub(super) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let config = &self.config;
        if config.meta_endpoints.is_empty() {
            return self.builder_for_brokers();
        }
        let mut builder = Client::builder();
        for url in &config.meta_endpoints {
            builder = builder.meta(url);
        }
        if let Some(name) = config.meta_name.as_ref().or(config.server_name.as_ref()) {
            builder = builder.meta_server_name(name);
        }
        self.with_trust(builder)
    }

    /// As [`Settings::builder`], for a client of the brokers that the file names: what is asked of brokers themselves.
    pub(super) fn builder_for_brokers(&self) -> Result<ClientBuilder, Failure> {
        let addresses = &self.config.addresses;
        if addresses.is_empty() {
            return Err(match self.config.meta_endpoints.is_empty() {
                true => self.missing(
                    "meta.server.endpoint",
                    "http://HOST:8080/meta/address, or broker.address=HOST:PORT",
                ),
                false => self.missing("broker.address", "HOST:PORT of the brokers to ask"),
            });
        }
        self.with_trust(Client::builder().brokers(addresses))
    }

    fn with_trust(&self, builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
        let config = &self.config;
        let Some(ca) = &config.tls_ca else {
            return Err(self.missing("tls.ca", "FILE, the authority of the broker's certificate"));
        };
        let mut builder = builder
            .authorities(Pem::File(ca.clone()))
            .application("qmq");
        if let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) {
            builder = builder.identity(Pem::File(certificate.clone()), Pem::File(key.clone()));
        }
        if let Some(name) = &config.server_name {
            builder = builder.server_name(name);
        }
        if let Some(token) = &config.token {
            builder = builder.token(token);
        }
        Ok(builder)
    }

    fn missing(&self, key: &str, what: &str) -> Failure {
        Failure::new(
            format!("{} has no {key}", self.file.display()),
            format!("add {key}={what}"),
        )
    }

    fn shown(&self) -> std::path::Display<'_> {
        Path::display(&self.file)
    }
}

/// A runtime for a client. What the client itself logs is shown if `QMQ_LOG` asks for it; the commands say what matters.
fn runtime() -> Result<Runtime, Failure> {
    use tracing_subscriber::EnvFilter;
    if let Ok(filter) = EnvFilter::try_from_env("QMQ_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init();
    }
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("qmq-client")
        .build()
        .map_err(|error| Failure::of("starting threads", &error, "check `ulimit -u`"))
}
