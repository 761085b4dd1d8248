//! Certificates that are served anew when their files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::error::TlsError;
use super::load::{
    CertifiedFiles, ClientCertificates, assemble, certificate_expiry, certified_key,
    client_verifier,
};
use crate::config::Stamp;

/// The files that a server's TLS is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate and key.
    pub own: CertifiedFiles,
    /// The authority that clients' certificates are verified against.
    pub authority: PathBuf,
    /// Whether clients need one.
    pub clients: ClientCertificates,
}

/// A server's certificate, key and authority, read anew when a file changes. Clones of the configuration that it gives follow it.
#[derive(Debug)]
pub struct ReloadingServer {
    files: TlsFiles,
    served: Arc<Served>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamps: [Option<Stamp>; 3],
    /// When the served certificate ends.
    end: SystemTime,
}

/// What handshakes take; behind locks, since they run on other threads than the poll.
#[derive(Debug)]
struct Served {
    certified: RwLock<Arc<CertifiedKey>>,
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
}

impl ReloadingServer {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn open(files: TlsFiles, now: SystemTime) -> Result<Self, TlsError> {
        // The stamps come first: a write in between is seen by the first poll.
        let stamps = stamps(&files);
        let (certified, verifier, end) = read(&files, now)?;
        let served = Arc::new(Served {
            certified: RwLock::new(certified),
            verifier: RwLock::new(verifier),
        });
        let seen = Mutex::new(Seen { stamps, end });
        Ok(Self {
            files,
            served,
            seen,
        })
    }

    /// The configuration of an endpoint. It follows later changes of the files, for new connections.
    ///
    /// # Errors
    /// What the TLS library says.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let resolver = Arc::new(Resolver(Arc::clone(&self.served)));
        let verifier = Arc::new(Verifier {
            served: Arc::clone(&self.served),
            mandatory: self.files.clients == ClientCertificates::Required,
        });
        assemble(resolver, verifier, alpn)
    }

    /// Looks at the files, and reads them if one is another than last time. Whether new ones are served.
    ///
    /// # Errors
    /// What is wrong with the new files, once until they change again; the old ones stay. Certificate and key are two files, so that
    /// a poll between the writing of the two says that they do not fit, and the next one serves them.
    pub fn poll(&self, now: SystemTime) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock();
        let stamps = stamps(&self.files);
        if stamps == seen.stamps {
            return Ok(false);
        }
        seen.stamps = stamps;
        let (certified, verifier, end) = read(&self.files, now)?;
        *self.served.certified.write() = certified;
        *self.served.verifier.write() = verifier;
        seen.end = end;
        Ok(true)
    }

    /// Whole days until the served certificate ends, rounded down; negative once it has.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        const DAY: u64 = 86_400;
        let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
        match self.seen.lock().end.duration_since(now) {
            Ok(left) => days(left.as_secs()),
            Err(past) => -1 - days(past.duration().as_secs()),
        }
    }
}

type Read = (Arc<CertifiedKey>, Arc<dyn ClientCertVerifier>, SystemTime);

fn read(files: &TlsFiles, now: SystemTime) -> Result<Read, TlsError> {
    let certified = Arc::new(certified_key(&files.own, now)?);
    let verifier = client_verifier(&files.authority, files.clients, now)?;
    let end = certificate_expiry(&files.own.certificate)?;
    Ok((certified, verifier, end))
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 3] {
    [&files.own.certificate, &files.own.key, &files.authority]
        .map(|path| Stamp::of(path).ok().flatten())
}

#[derive(Debug)]
struct Resolver(Arc<Served>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.certified.read()))
    }
}

#[derive(Debug)]
struct Verifier {
    served: Arc<Served>,
    mandatory: bool,
}

impl Verifier {
    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.served.verifier.read())
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// No hints: they would be lent from behind the lock, and a client has one certificate to choose from.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
