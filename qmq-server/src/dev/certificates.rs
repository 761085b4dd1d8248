//! The certificates of `dev`: its own authority, and one for all its servers.

use std::path::Path;
use std::time::SystemTime;

use crate::tls::{Authority, Overwrite, TlsError};

/// For how long the certificates that it makes are good, in days.
const DAYS: u32 = 365;
/// With so many days left they are made anew.
const DAYS_LEFT_MIN: u64 = 7;
/// The name that they bear, beside the loopback addresses.
pub(super) const SERVER_NAME: &str = "localhost";

/// Makes an authority and a node's certificate where there are none, or none that will be good for long.
pub(super) fn make(tls: &Path, now: SystemTime) -> Result<(), TlsError> {
    let (certificate, key) = (tls.join("node.pem"), tls.join("node.key"));
    let good_for_long = |path: &Path| {
        let soon = now + std::time::Duration::from_secs(DAYS_LEFT_MIN * 86_400);
        path.exists() && crate::tls::certificate_expiry(path).is_ok_and(|end| end > soon)
    };
    if good_for_long(&tls.join("ca.pem")) && good_for_long(&certificate) && key.exists() {
        return Ok(());
    }
    let authority = match Authority::open(tls, now) {
        Ok(authority) if good_for_long(&tls.join("ca.pem")) => authority,
        _ => Authority::create(tls, "qmq-dev", DAYS, now, Overwrite::Yes)?,
    };
    let hosts = [SERVER_NAME, "127.0.0.1", "::1"].map(str::to_owned);
    authority
        .node("dev", &hosts, DAYS, now)?
        .write(&certificate, &key)
}
