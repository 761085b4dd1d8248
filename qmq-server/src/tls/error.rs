//! What can be wrong with certificates and keys.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why certificates cannot be made or used. Never says anything of a private key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is not there.
    #[error("{}: no such file; make certificates first, or say with tls.cert, tls.key and tls.ca where they are", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// The file is not PEM, or has not what it should.
    #[error("{}: not PEM with {wanted}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A certificate that cannot be read.
    #[error("{}: the certificate cannot be read; make a new one", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A key of a kind that is not supported.
    #[error("{}: a private key of a kind that is not supported; use ECDSA P-256 or P-384, Ed25519 or RSA", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("{}: not the key of the certificate in {}; they are made together", key.display(), certificate.display())]
    KeyMismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// The certificate is past its end.
    #[error("{}: the certificate expired on {on}; make a new one", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When, in UTC.
        on: jiff::Timestamp,
    },
    /// The certificate is before its beginning.
    #[error("{}: the certificate is valid from {from} on; check this machine's clock", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// From when on, in UTC.
        from: jiff::Timestamp,
    },
    /// The authority's files are there already.
    #[error("{}: there is an authority already; what it signed would be worth nothing with another one: keep it, or ask for it to be replaced", path.display())]
    AuthorityExists {
        /// The file that is there.
        path: PathBuf,
    },
    /// A name that a certificate cannot have.
    #[error("{name:?} cannot stand in a certificate: {rule}")]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A validity that a certificate cannot have.
    #[error("a certificate cannot be valid for {days} days; allowed is 1 to {max}")]
    Days {
        /// What was asked for.
        days: u32,
        /// The longest.
        max: u32,
    },
    /// The library that makes certificates failed.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    /// The file that is no good, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing { path }
            | Self::Io { path, .. }
            | Self::NotPem { path, .. }
            | Self::Certificate { path }
            | Self::Key { path }
            | Self::KeyMismatch { key: path, .. }
            | Self::Expired { path, .. }
            | Self::NotYetValid { path, .. }
            | Self::AuthorityExists { path } => Some(path),
            Self::Name { .. } | Self::Days { .. } | Self::Make(_) | Self::Setup(_) => None,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io {
                path,
                reason: Arc::new(error),
            },
        }
    }
}
