use std::fs;
use std::time::Duration;

use super::super::test_installation::{Installation, handshake};
use super::*;
use crate::tls::{Authority, Identity, Overwrite};

const ALPN: &[&[u8]] = &[b"qmq/1"];

fn open(it: &Installation) -> ReloadingServer {
    let files = TlsFiles {
        own: it.node.clone(),
        authority: it.ca(),
        clients: ClientCertificates::Optional,
    };
    ReloadingServer::open(files, it.now).unwrap()
}

/// The name in the certificate that a new connection is served.
fn served(it: &Installation, config: &ServerConfig) -> String {
    let (client, _) = handshake(it.client_config(None), config.clone()).unwrap();
    let chain = client.peer_certificates().unwrap();
    Identity::of(&chain[0]).unwrap().name
}

#[test]
fn new_files_are_served_to_new_connections() {
    let it = Installation::new();
    let server = open(&it);
    let config = server.config(ALPN).unwrap();
    assert_eq!(served(&it, &config), "node");
    assert_eq!(server.days_left(it.now), 30);
    assert!(!server.poll(it.now).unwrap());
    it.issue_node("renewed", 90);
    assert!(server.poll(it.now).unwrap());
    assert_eq!(served(&it, &config), "renewed");
    assert_eq!(server.days_left(it.now), 90);
}

#[test]
fn bad_files_are_reported_once_and_the_old_ones_are_served() {
    let it = Installation::new();
    let server = open(&it);
    let config = server.config(ALPN).unwrap();
    let key = fs::read(&it.node.key).unwrap();
    fs::write(&it.node.key, "nonsense").unwrap();
    assert!(matches!(server.poll(it.now), Err(TlsError::NotPem { .. })));
    assert!(!server.poll(it.now).unwrap());
    assert_eq!(served(&it, &config), "node");
    fs::remove_file(&it.node.key).unwrap();
    assert!(matches!(server.poll(it.now), Err(TlsError::Missing { .. })));
    assert_eq!(served(&it, &config), "node");
    fs::write(&it.node.key, key).unwrap();
    assert!(server.poll(it.now).unwrap());
    assert_eq!(served(&it, &config), "node");
}

#[test]
fn another_authority_counts_for_the_clients_that_come_next() {
    let it = Installation::new();
    let server = open(&it);
    let config = server.config(ALPN).unwrap();
    let own = it.client("billing");
    let client = it.client_config(Some(&own));
    handshake(client.clone(), config.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = Authority::create(folder.path(), "other", 10, it.now, Overwrite::Never).unwrap();
    // Longer, so that the file is another one also within a tick of its file system's clock.
    fs::write(it.ca(), other.certificate_pem().to_owned() + "\n\n\n").unwrap();
    assert!(server.poll(it.now).unwrap());
    assert!(handshake(client, config).is_err());
}

#[test]
fn the_days_left_go_below_zero() {
    let it = Installation::new();
    let server = open(&it);
    let at = |days: u64| it.now + Duration::from_secs(days * 86_400 + 7200);
    let days: Vec<_> = [0, 28, 29, 30, 31]
        .map(|days| server.days_left(at(days)))
        .into();
    assert_eq!(days, [29, 1, 0, -1, -2]);
}
