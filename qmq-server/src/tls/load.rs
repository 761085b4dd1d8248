//! From PEM files to what an endpoint needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use crate::config::read_limited;

/// Most bytes of a PEM file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedFiles {
    /// The certificate, and behind it those that signed it, if any but the authority did.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// One that is presented is verified.
    Optional,
    /// Without one there is no connection.
    Required,
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What a server needs: its certificate, and the authority that clients' certificates are verified against.
///
/// # Errors
/// Which file is wrong, and how.
pub fn server_config(
    files: &CertifiedFiles,
    authority: &Path,
    clients: ClientCertificates,
    alpn: &[&[u8]],
    now: SystemTime,
) -> Result<ServerConfig, TlsError> {
    let certified = certified_key(files, now)?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let verifier = client_verifier(authority, clients, now)?;
    assemble(resolver, verifier, alpn)
}

/// What a client needs: the authority of the servers that it trusts, and its own certificate, if it has one.
///
/// # Errors
/// Which file is wrong, and how.
pub fn client_config(
    authority: &Path,
    own: Option<&CertifiedFiles>,
    alpn: &[&[u8]],
    now: SystemTime,
) -> Result<ClientConfig, TlsError> {
    let roots = roots(authority, now)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match own {
        Some(files) => {
            let certified = certified_key(files, now)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// When the certificate in the file ends: of several, the first.
///
/// # Errors
/// A file that cannot be read, or has no certificate.
pub fn certificate_expiry(path: &Path) -> Result<SystemTime, TlsError> {
    let certificates = read_certificates(path)?;
    let first = certificates.first().ok_or_else(|| TlsError::NotPem {
        path: path.to_owned(),
        wanted: "a certificate",
    })?;
    let (_, end) = validity(first, path)?;
    Ok(time_of(end))
}

pub(super) fn assemble(
    resolver: Arc<dyn ResolvesServerCert>,
    verifier: Arc<dyn ClientCertVerifier>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Early data can be replayed by whoever recorded it: a message would be produced twice.
    config.max_early_data_size = 0;
    // A resumed session is not verified again, so it would outlive the certificate that it began with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

pub(super) fn client_verifier(
    authority: &Path,
    clients: ClientCertificates,
    now: SystemTime,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(authority, now)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = match clients {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    builder.build().map_err(|_| TlsError::Certificate {
        path: authority.to_owned(),
    })
}

/// The authorities in a file that are valid now, at least one. While one authority takes over from another a file has both, and the
/// end of the old one is no reason to refuse the new one. What is not valid is left out: verification itself does not look at
/// the dates of an authority.
fn roots(path: &Path, now: SystemTime) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut invalid = Ok(());
    for certificate in read_certificates(path)? {
        let valid = check_validity(&certificate, path, now);
        if valid.is_err() {
            invalid = invalid.and(valid);
            continue;
        }
        let added = roots.add(certificate);
        added.map_err(|_| TlsError::Certificate {
            path: path.to_owned(),
        })?;
    }
    if roots.is_empty() {
        invalid?;
    }
    Ok(roots)
}

/// A certificate with its key, which must belong together and be valid now.
pub(super) fn certified_key(
    files: &CertifiedFiles,
    now: SystemTime,
) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    for certificate in &chain {
        check_validity(certificate, &files.certificate, now)?;
    }
    let bytes = read_file(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::NotPem {
        path: files.key.clone(),
        wanted: "a private key",
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
        },
        rustls::Error::InvalidCertificate(_) => TlsError::Certificate {
            path: files.certificate.clone(),
        },
        _ => TlsError::Key {
            path: files.key.clone(),
        },
    })
}

/// What stands in the file of a private key.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn key_bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_file(path)
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_limited(path, FILE_BYTES_MAX).map_err(TlsError::io(path))
}

/// All certificates of a file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read_file(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NotPem {
            path: path.to_owned(),
            wanted: "a certificate",
        }),
    }
}

/// Checks that the certificate is valid now.
pub(super) fn check_validity(
    certificate: &CertificateDer<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<(), TlsError> {
    let (begin, end) = validity(certificate, path)?;
    let stamp = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let path = || path.to_owned();
    if now > time_of(end) {
        let (path, on) = (path(), stamp(end));
        return Err(TlsError::Expired { path, on });
    }
    if now < time_of(begin) {
        let (path, from) = (path(), stamp(begin));
        return Err(TlsError::NotYetValid { path, from });
    }
    Ok(())
}

/// Begin and end, in seconds since 1970.
fn validity(certificate: &CertificateDer<'_>, path: &Path) -> Result<(i64, i64), TlsError> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, certificate) = parsed.map_err(|_| TlsError::Certificate {
        path: path.to_owned(),
    })?;
    let validity = certificate.validity();
    Ok((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

fn time_of(seconds: i64) -> SystemTime {
    let distance = std::time::Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => UNIX_EPOCH + distance,
        _ => UNIX_EPOCH - distance,
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
