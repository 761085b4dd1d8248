//! Certificates: making them, reading them, and reloading them when their files change.
//!
//! An installation has one [`Authority`], which signs the certificates of its nodes and, where wanted, of its clients.
//! [`server_config`] and [`client_config`] turn PEM files into what a QUIC or TCP endpoint needs: TLS 1.3 only, without early data
//! (0-RTT), without resumption, with the provider named explicitly. [`ReloadingServer`] serves new files without a restart, and
//! [`Identity`] says who a verified certificate belongs to.

mod authority;
mod error;
mod identity;
mod load;
mod reload;
#[cfg(test)]
mod test_installation;

pub use authority::{Authority, Issued, Overwrite};
pub use error::TlsError;
pub use identity::Identity;
pub(crate) use load::key_bytes;
pub use load::{
    CertifiedFiles, ClientCertificates, certificate_expiry, client_config, server_config,
};
pub use reload::{ReloadingServer, TlsFiles};
