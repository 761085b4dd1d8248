//! Whom the client trusts, and how it says who it is: TLS 1.3, and nothing older.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ClientConfig, Pem};
use crate::error::ConfigError;

/// The TLS side of all connections of a client.
pub(crate) fn config(config: &ClientConfig) -> Result<rustls::ClientConfig, ConfigError> {
    let authorities = config
        .authorities
        .as_ref()
        .ok_or(ConfigError::NoAuthorities)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authorities", authorities)? {
        roots
            .add(certificate)
            .map_err(|error| unusable("authorities", &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("authorities", &error))?
        .with_root_certificates(roots);
    let mut tls = match &config.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(certificates("certificate", chain)?, private_key(key)?)
            .map_err(|error| unusable("certificate", &error))?,
    };
    tls.alpn_protocols = vec![qmq_wire::ALPN.to_vec()];
    Ok(tls)
}

fn text(what: &'static str, pem: &Pem) -> Result<Vec<u8>, ConfigError> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        Pem::File(path) => std::fs::read(path).map_err(|error| ConfigError::Certificate {
            what,
            reason: format!("{}: {error}", path.display()),
        }),
    }
}

fn certificates(
    what: &'static str,
    pem: &Pem,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = CertificateDer::pem_slice_iter(&text(what, pem)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(what, &error))?;
    if all.is_empty() {
        return Err(unusable(what, &"there is no certificate in it"));
    }
    Ok(all)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&text("key", pem)?).map_err(|error| unusable("key", &error))
}

fn unusable(what: &'static str, reason: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Certificate {
        what,
        reason: reason.to_string(),
    }
}
