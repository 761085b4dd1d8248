//! The certificate authority of an installation: it signs the certificates of nodes and clients.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use x509_parser::time::ASN1Time;

use super::error::TlsError;
use super::load::{check_validity, read_certificates, read_file};
use crate::access::Role;
use crate::config::files::{Readers, write_atomic, write_new};

/// File of the authority's certificate.
const CERTIFICATE_FILE: &str = "ca.pem";
/// File of its private key.
const KEY_FILE: &str = "ca.key";
/// Longest validity: a hundred years.
const DAYS_MAX: u32 = 36_525;
const DAY: Duration = Duration::from_secs(86_400);
/// Certificates begin to be valid so long before they are made, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Whether files that are there already may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// They may not.
    Never,
    /// They may.
    Yes,
}

/// A certificate authority, with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its private key, as PEM.
pub struct Issued {
    certificate: String,
    key: KeyPair,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority and writes `ca.pem` and `ca.key` into `folder`, the key for its owner alone. The folder is made
    /// if need be.
    ///
    /// # Errors
    /// [`TlsError::AuthorityExists`] if either file is there and may not be replaced; bad names and validities; what the
    /// system says.
    pub fn create(
        folder: &Path,
        name: &str,
        days: u32,
        now: SystemTime,
        overwrite: Overwrite,
    ) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = paths(folder);
        if overwrite == Overwrite::Never {
            for path in [&certificate_path, &key_path] {
                if path.try_exists().map_err(TlsError::io(path))? {
                    let path = path.clone();
                    return Err(TlsError::AuthorityExists { path });
                }
            }
        }
        let mut params = params(name, None, days, now)?;
        let key = KeyPair::generate()?;
        // It signs the certificates of nodes and clients, and no other authority's.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        let pem = key.serialize_pem();
        std::fs::create_dir_all(folder).map_err(TlsError::io(folder))?;
        // The key goes first: a crash in between leaves a key without a certificate, which is of no use to anybody.
        let files = [
            (&key_path, &pem, Readers::Owner),
            (&certificate_path, &certificate, Readers::Everyone),
        ];
        for (path, text, readers) in files {
            let written = match overwrite {
                Overwrite::Never => write_new(path, text.as_bytes(), readers),
                Overwrite::Yes => write_atomic(path, text.as_bytes(), readers),
            };
            written.map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => TlsError::AuthorityExists {
                    path: path.to_owned(),
                },
                _ => TlsError::io(path)(error),
            })?;
        }
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Reads the authority whose files are in `folder`.
    ///
    /// # Errors
    /// Which file is missing, cannot be read, does not fit the other one, or has expired.
    pub fn open(folder: &Path, now: SystemTime) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = paths(folder);
        let chain = read_certificates(&certificate_path)?;
        let Some(certificate) = chain.first() else {
            let (path, wanted) = (certificate_path, "a certificate");
            return Err(TlsError::NotPem { path, wanted });
        };
        check_validity(certificate, &certificate_path, now)?;
        let text = |path: &Path, wanted| {
            String::from_utf8(read_file(path)?).map_err(|_| TlsError::NotPem {
                path: path.to_owned(),
                wanted,
            })
        };
        let pem = text(&certificate_path, "a certificate")?;
        let key = KeyPair::from_pem(&text(&key_path, "a private key")?);
        let key = key.map_err(|_| TlsError::NotPem {
            path: key_path.clone(),
            wanted: "a private key",
        })?;
        if !belongs(&key, certificate) {
            return Err(TlsError::KeyMismatch {
                certificate: certificate_path,
                key: key_path,
            });
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key);
        let issuer = issuer.map_err(|_| TlsError::Certificate {
            path: certificate_path,
        })?;
        Ok(Self {
            issuer,
            certificate: pem,
        })
    }

    /// The authority's certificate, as PEM: what others need to trust what it signs.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Makes a node's certificate, for connections that it takes and that it makes. `hosts` are DNS names and IP addresses under which it
    /// is reached, at least one.
    ///
    /// # Errors
    /// Names and validities that a certificate cannot have.
    pub fn node(
        &self,
        name: &str,
        hosts: &[String],
        days: u32,
        now: SystemTime,
    ) -> Result<Issued, TlsError> {
        let mut params = params(name, Some(Role::Node), days, now)?;
        if hosts.is_empty() {
            return Err(TlsError::Name {
                name: name.to_owned(),
                rule: "a node needs at least one DNS name or IP address under which it is reached",
            });
        }
        for host in hosts {
            params.subject_alt_names.push(alternative(host)?);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(params)
    }

    /// Makes a client's certificate; `name` is what it is called in rights and logs.
    ///
    /// # Errors
    /// Names and validities that a certificate cannot have.
    pub fn client(&self, name: &str, days: u32, now: SystemTime) -> Result<Issued, TlsError> {
        let mut params = params(name, Some(Role::Client), days, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Issued, TlsError> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key })
    }
}

impl Issued {
    /// The certificate, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The private key, as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes both, the key for its owner alone; files that are there are replaced, since what is signed can be signed again.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        write_atomic(key, self.key_pem().as_bytes(), Readers::Owner).map_err(TlsError::io(key))?;
        write_atomic(certificate, self.certificate.as_bytes(), Readers::Everyone)
            .map_err(TlsError::io(certificate))
    }
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE))
}

fn params(
    name: &str,
    role: Option<Role>,
    days: u32,
    now: SystemTime,
) -> Result<CertificateParams, TlsError> {
    // X.509 allows a common name 64 characters.
    if qmq_message::check_consumer(name).is_err() || name.chars().count() > 64 {
        return Err(TlsError::Name {
            name: name.chars().take(100).collect(),
            rule: "a name has 1 to 64 characters, and no slash, backslash, control character or white space",
        });
    }
    if !(1..=DAYS_MAX).contains(&days) {
        let max = DAYS_MAX;
        return Err(TlsError::Days { days, max });
    }
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(role) = role {
        subject.push(DnType::OrganizationalUnitName, role.word());
    }
    params.distinguished_name = subject;
    let moment = |time: SystemTime| {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX);
        ASN1Time::from_timestamp(seconds).map_err(|_| rcgen::Error::Time)
    };
    params.not_before = moment(now - BACKDATED)?.to_datetime();
    params.not_after = moment(now + DAY * days)?.to_datetime();
    Ok(params)
}

fn alternative(host: &str) -> Result<SanType, TlsError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || TlsError::Name {
        name: host.chars().take(100).collect(),
        rule: "it is neither a DNS name (letters, digits, '-' and dots) nor an IP address",
    };
    // The names that TLS can verify are those that the other side can ask for.
    let asked = rustls_pki_types::DnsName::try_from(host.trim_start_matches("*."));
    if asked.is_err() {
        return Err(refused());
    }
    host.try_into().map(SanType::DnsName).map_err(|_| refused())
}

fn belongs(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, certificate)| {
        *certificate.public_key().subject_public_key.data == *key.public_key_raw()
    })
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
