use std::fs;
use std::time::Duration;

use super::super::test_installation::{Installation, handshake};
use super::*;
use crate::tls::{Authority, Overwrite};

const ALPN: &[&[u8]] = &[b"qmq/1"];

fn day(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

#[test]
fn a_client_with_and_without_a_certificate_gets_in_by_tls_1_3() {
    let it = Installation::new();
    let server = it.server(ClientCertificates::Optional);
    for own in [None, Some(it.client("billing"))] {
        let client = it.client_config(own.as_ref());
        let (mut client, server) = handshake(client, server.clone()).unwrap();
        assert_eq!(
            server.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        assert_eq!(server.alpn_protocol(), Some(&b"qmq/1"[..]));
        let names = server.peer_certificates().map(|chain| {
            let identity = crate::tls::Identity::of(&chain[0]).unwrap();
            identity.name
        });
        assert_eq!(names.as_deref(), own.map(|_| "billing"));
        assert!(client.early_data().is_none());
    }
    assert_eq!(server.max_early_data_size, 0);
}

#[test]
fn a_server_that_requires_certificates_refuses_those_without() {
    let it = Installation::new();
    let server = it.server(ClientCertificates::Required);
    let error = handshake(it.client_config(None), server.clone()).unwrap_err();
    assert!(
        matches!(error, rustls::Error::NoCertificatesPresented),
        "{error}"
    );
    let own = it.client("billing");
    handshake(it.client_config(Some(&own)), server).unwrap();
}

#[test]
fn certificates_of_another_authority_are_refused_on_both_sides() {
    let (it, other) = (Installation::new(), Installation::new());
    let server = it.server(ClientCertificates::Optional);
    let stranger = other.client("billing");
    let refused = handshake(it.client_config(Some(&stranger)), server.clone()).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
    let refused = handshake(other.client_config(None), server).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
}

#[test]
fn a_client_certificate_serves_no_one() {
    let it = Installation::new();
    let files = it.client("localhost");
    let server = server_config(&files, &it.ca(), ClientCertificates::Optional, ALPN, it.now);
    let refused = handshake(it.client_config(None), server.unwrap()).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
}

#[test]
fn without_a_common_protocol_there_is_no_connection() {
    let it = Installation::new();
    let client = client_config(&it.ca(), None, &[b"other/1"], it.now).unwrap();
    let server = it.server(ClientCertificates::Optional);
    assert!(handshake(client, server).is_err());
}

/// Puts something wrong in an installation and gives what loading the server says.
fn broken(harm: impl FnOnce(&Installation)) -> (Installation, TlsError) {
    let it = Installation::new();
    harm(&it);
    let files = it.node.clone();
    let loaded = server_config(&files, &it.ca(), ClientCertificates::Optional, ALPN, it.now);
    (it, loaded.unwrap_err())
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let (it, error) = broken(|it| fs::remove_file(&it.node.certificate).unwrap());
    assert!(
        matches!(&error, TlsError::Missing { path } if *path == it.node.certificate),
        "{error}"
    );
    let (it, error) = broken(|it| fs::remove_file(&it.node.key).unwrap());
    assert!(
        matches!(&error, TlsError::Missing { path } if *path == it.node.key),
        "{error}"
    );
    let (it, error) = broken(|it| fs::remove_file(it.ca()).unwrap());
    assert!(
        matches!(&error, TlsError::Missing { path } if *path == it.ca()),
        "{error}"
    );
    for text in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ] {
        for file in [0, 1, 2] {
            let path = |it: &Installation| {
                [it.node.certificate.clone(), it.node.key.clone(), it.ca()][file].clone()
            };
            let (it, error) = broken(|it| fs::write(path(it), text).unwrap());
            let TlsError::NotPem { path: named, .. } = &error else {
                panic!("{text:?} {file}: {error}");
            };
            assert_eq!(*named, path(&it));
        }
    }
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (_it, error) = broken(|it| fs::write(&it.node.certificate, garbage).unwrap());
    assert!(matches!(error, TlsError::Certificate { .. }), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused_without_being_shown() {
    let (it, error) = broken(|it| {
        let other = it.authority.client("other", 1, it.now).unwrap();
        fs::write(&it.node.key, other.key_pem()).unwrap();
    });
    let TlsError::KeyMismatch { certificate, key } = &error else {
        panic!("{error}");
    };
    assert_eq!((certificate, key), (&it.node.certificate, &it.node.key));
    assert!(!format!("{error:?}").contains("PRIVATE"));
}

#[test]
fn an_expired_certificate_is_refused_with_the_day_of_its_end() {
    let it = Installation::new();
    let load = |now| server_config(&it.node, &it.ca(), ClientCertificates::Optional, ALPN, now);
    assert!(load(it.now + day(29)).is_ok());
    let error = load(it.now + day(31)).unwrap_err();
    let end = certificate_expiry(&it.node.certificate).unwrap();
    let TlsError::Expired { path, on } = &error else {
        panic!("{error}");
    };
    assert_eq!(*path, it.node.certificate);
    let seconds = end.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(on.as_second().unsigned_abs(), seconds);
    assert!(error.to_string().contains(&on.to_string()), "{error}");
    let early = load(it.now - day(1)).unwrap_err();
    assert!(matches!(early, TlsError::NotYetValid { .. }), "{early}");
}

#[test]
fn an_expired_authority_is_refused_by_name() {
    let it = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    Authority::create(folder.path(), "old", 1, it.now - day(9), Overwrite::Never).unwrap();
    let path = folder.path().join("ca.pem");
    let error = client_config(&path, None, ALPN, it.now).unwrap_err();
    assert!(
        matches!(&error, TlsError::Expired { path: named, .. } if *named == path),
        "{error}"
    );
}

#[test]
fn an_authority_that_has_ended_does_not_stop_the_one_that_follows_it() {
    let it = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    let long_ago = it.now - day(9);
    let old = Authority::create(folder.path(), "old", 1, long_ago, Overwrite::Never).unwrap();
    let both = old.certificate_pem().to_owned() + &fs::read_to_string(it.ca()).unwrap();
    fs::write(it.ca(), both).unwrap();
    handshake(
        it.client_config(None),
        it.server(ClientCertificates::Optional),
    )
    .unwrap();
    // What the old one signs is not taken, whatever its own dates.
    let files = CertifiedFiles {
        certificate: folder.path().join("c.pem"),
        key: folder.path().join("c.key"),
    };
    let issued = old.client("billing", 90, it.now).unwrap();
    issued.write(&files.certificate, &files.key).unwrap();
    let server = it.server(ClientCertificates::Optional);
    assert!(handshake(it.client_config(Some(&files)), server).is_err());
}
