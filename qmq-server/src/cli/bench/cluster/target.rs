//! The broker that is measured.

use std::path::PathBuf;

use qmq_client::{Client, Pem};
use qmq_server::config::{ClientConfig, Sources, pointed_client, pointer_path};

use crate::cli::failure::Failure;

/// How to reach it.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// client.properties of the broker [default: what `qmq dev` last wrote]
    #[arg(long, value_name = "FILE", env = "QMQ_CLIENT")]
    client: Option<PathBuf>,
}

impl Target {
    /// A client with a connection of its own.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let file = match &self.client {
            Some(file) => file.clone(),
            None => pointed()?,
        };
        let (config, _) = ClientConfig::load(&Sources::of_file(&file))
            .map_err(|error| Failure::of("the client's settings", &error, "correct the file"))?;
        let mut client = Client::builder().brokers(config.addresses);
        if let Some(authority) = config.tls_ca {
            client = client.authorities(Pem::File(authority));
        }
        if let Some(name) = config.server_name {
            client = client.server_name(name);
        }
        if let Some(token) = config.token {
            client = client.token(token);
        }
        client
            .connect()
            .await
            .map_err(|error| Failure::of("connecting", &error, "is the broker running?"))
    }
}

fn pointed() -> Result<PathBuf, Failure> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    pointer_path(state.as_deref(), home.as_deref())
        .and_then(|pointer| pointed_client(&pointer).ok().flatten())
        .ok_or_else(|| {
            Failure::usage(
                "there is no broker to measure",
                "start `qmq dev` in another window, or say which with --client FILE",
            )
        })
}
