use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::tls::Identity;

fn at(days: u64) -> SystemTime {
    UNIX_EPOCH + DAY * 20_000 + Duration::from_secs(days * 86_400)
}

fn authority(folder: &Path) -> Authority {
    Authority::create(folder, "qmq-test", 3650, at(0), Overwrite::Never).unwrap()
}

fn hosts(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|&host| host.to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_is_written_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let made = authority(folder.path());
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
    assert_eq!(mode(&folder.path().join("ca.pem")), 0o644);
    let opened = Authority::open(folder.path(), at(1)).unwrap();
    assert_eq!(opened.certificate_pem(), made.certificate_pem());
    assert!(!format!("{opened:?}").contains("PRIVATE"));
}

#[test]
fn an_authority_is_never_replaced_unless_asked() {
    let folder = tempfile::tempdir().unwrap();
    let first = authority(folder.path());
    for kept in ["ca.pem", "ca.key"] {
        let text = fs::read(folder.path().join(kept)).unwrap();
        let again = Authority::create(folder.path(), "x", 10, at(0), Overwrite::Never);
        assert!(matches!(again, Err(TlsError::AuthorityExists { .. })));
        assert_eq!(fs::read(folder.path().join(kept)).unwrap(), text);
    }
    fs::remove_file(folder.path().join("ca.pem")).unwrap();
    let again = Authority::create(folder.path(), "x", 10, at(0), Overwrite::Never);
    assert!(matches!(again, Err(TlsError::AuthorityExists { .. })));
    let new = Authority::create(folder.path(), "x", 10, at(0), Overwrite::Yes).unwrap();
    assert_ne!(new.certificate_pem(), first.certificate_pem());
    Authority::open(folder.path(), at(0)).unwrap();
}

#[test]
fn certificates_say_name_role_hosts_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let names = hosts(&["broker-1.example", "localhost", "127.0.0.1", "::1"]);
    let node = authority.node("broker-1", &names, 30, at(5)).unwrap();
    let client = authority.client("billing", 365, at(5)).unwrap();
    let rows = [
        (node, "broker-1", Role::Node, 30),
        (client, "billing", Role::Client, 365),
    ];
    for (issued, name, role, days) in rows {
        let certificate = folder.path().join("x.pem");
        let key = folder.path().join("x.key");
        issued.write(&certificate, &key).unwrap();
        assert_eq!((mode(&certificate), mode(&key)), (0o644, 0o600));
        assert!(!format!("{issued:?}").contains("PRIVATE"));
        let der = &read_certificates(&certificate).unwrap()[0];
        let name = name.to_owned();
        assert_eq!(Identity::of(der), Some(Identity { name, role }));
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        assert!(!parsed.is_ca());
        let begin = at(5) - BACKDATED;
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        assert_eq!(parsed.validity().not_before.timestamp(), since(begin));
        assert_eq!(parsed.validity().not_after.timestamp(), since(at(5 + days)));
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!(
            (usage.server_auth, usage.client_auth),
            (role == Role::Node, true)
        );
        let hosts = parsed.subject_alternative_name().unwrap();
        let hosts = hosts.map_or(0, |hosts| hosts.value.general_names.len());
        assert_eq!(hosts, if role == Role::Node { 4 } else { 0 });
    }
}

#[test]
fn what_a_certificate_cannot_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    for name in ["", "a b", "a/b", "a\nb", &"x".repeat(65)] {
        let refused = authority.client(name, 1, at(0));
        assert!(matches!(refused, Err(TlsError::Name { .. })), "{name:?}");
    }
    for host in ["", "a b", "http://x", "x:1", "*"] {
        let refused = authority.node("n", &hosts(&[host]), 1, at(0));
        assert!(matches!(refused, Err(TlsError::Name { .. })), "{host:?}");
    }
    assert!(matches!(
        authority.node("n", &[], 1, at(0)),
        Err(TlsError::Name { .. })
    ));
    for days in [0, 36_526] {
        let refused = authority.client("c", days, at(0));
        assert!(matches!(refused, Err(TlsError::Days { .. })), "{days}");
    }
}

#[test]
fn an_authority_that_cannot_sign_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Authority::open(folder.path(), at(0)).unwrap_err();
    assert!(matches!(missing, TlsError::Missing { .. }), "{missing}");
    let made = Authority::create(folder.path(), "ca", 10, at(0), Overwrite::Never).unwrap();
    let expired = Authority::open(folder.path(), at(11)).unwrap_err();
    assert!(matches!(expired, TlsError::Expired { .. }), "{expired}");
    let key = folder.path().join("ca.key");
    fs::write(&key, made.client("c", 1, at(0)).unwrap().key_pem()).unwrap();
    let other = Authority::open(folder.path(), at(0)).unwrap_err();
    assert!(matches!(other, TlsError::KeyMismatch { .. }), "{other}");
    fs::write(&key, "nonsense").unwrap();
    let nonsense = Authority::open(folder.path(), at(0)).unwrap_err();
    assert!(matches!(nonsense, TlsError::NotPem { .. }), "{nonsense}");
}
