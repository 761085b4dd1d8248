//! Who a certificate belongs to.

use rustls_pki_types::CertificateDer;
use x509_parser::x509::X509Name;

use crate::access::{Principal, Role};

/// Who a certificate belongs to: its common name, and the role in its organizational unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The common name.
    pub name: String,
    /// The role; a certificate without the word for one is a client's.
    pub role: Role,
}

impl Identity {
    /// Reads it from a certificate that has been verified. `None` if there is not exactly one common name of 1 to 255 bytes of text.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject: &X509Name<'_> = certificate.subject();
        let mut names = subject.iter_common_name();
        let name = names.next()?.as_str().ok()?;
        if names.next().is_some() || qmq_message::check_consumer(name).is_err() {
            return None;
        }
        let mut units = subject.iter_organizational_unit();
        // Two units could each say another role, so two say none.
        let role = match (units.next(), units.next()) {
            (Some(unit), None) => unit.as_str().ok().and_then(Role::of_word),
            _ => None,
        };
        Some(Self {
            name: name.to_owned(),
            role: role.unwrap_or(Role::Client),
        })
    }
}

impl From<Identity> for Principal {
    fn from(identity: Identity) -> Self {
        Self::Certificate {
            name: identity.name,
            role: identity.role,
        }
    }
}
