//! An authority, a node and clients in a folder, and handshakes in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use super::{
    Authority, CertifiedFiles, ClientCertificates, Overwrite, client_config, server_config,
};

pub(super) struct Installation {
    folder: tempfile::TempDir,
    pub(super) authority: Authority,
    pub(super) node: CertifiedFiles,
    pub(super) now: SystemTime,
}

impl Installation {
    pub(super) fn new() -> Self {
        // Handshakes are verified by the system's clock, so certificates must be valid by it; whole seconds, as certificates have.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let folder = tempfile::tempdir().unwrap();
        let authority =
            Authority::create(folder.path(), "test", 365, now, Overwrite::Never).unwrap();
        let node = CertifiedFiles {
            certificate: folder.path().join("node.pem"),
            key: folder.path().join("node.key"),
        };
        let made = Self {
            folder,
            authority,
            node,
            now,
        };
        made.issue_node("node", 30);
        made
    }

    pub(super) fn issue_node(&self, name: &str, days: u32) {
        let hosts = ["localhost".to_owned()];
        let issued = self.authority.node(name, &hosts, days, self.now).unwrap();
        issued
            .write(&self.node.certificate, &self.node.key)
            .unwrap();
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(super) fn client(&self, name: &str) -> CertifiedFiles {
        let files = CertifiedFiles {
            certificate: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        let issued = self.authority.client(name, 30, self.now).unwrap();
        issued.write(&files.certificate, &files.key).unwrap();
        files
    }

    pub(super) fn client_config(&self, own: Option<&CertifiedFiles>) -> ClientConfig {
        client_config(&self.ca(), own, &[b"qmq/1"], self.now).unwrap()
    }

    pub(super) fn server(&self, clients: ClientCertificates) -> ServerConfig {
        server_config(&self.node, &self.ca(), clients, &[b"qmq/1"], self.now).unwrap()
    }
}

/// Both ends after a handshake in memory, or the first error of either.
pub(super) fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    // A handshake takes three flights; both ends still wanting to talk after ten is a failure of the test.
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok((client, server));
        }
    }
    panic!("the handshake does not end");
}
