//! Where brokers are.

use crate::config::check_number;
use crate::error::ConfigError;

const BROKERS_MAX: u64 = 64;

/// How brokers are found. Asking a meta server will be another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The application said where.
    Fixed(Vec<String>),
}

impl Route {
    pub(crate) fn add(&mut self, address: String) {
        let Self::Fixed(addresses) = self;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    pub(crate) fn addresses(&self) -> &[String] {
        let Self::Fixed(addresses) = self;
        addresses
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let addresses = self.addresses();
        check_number(
            "number of brokers",
            addresses.len() as u64,
            (1, BROKERS_MAX),
        )?;
        addresses
            .iter()
            .try_for_each(|address| host(address).map(drop))
    }
}

/// The host of `host:port` or `[address]:port`.
pub(crate) fn host(address: &str) -> Result<&str, ConfigError> {
    let wrong = || ConfigError::Address {
        address: address.to_owned(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if host.is_empty() {
        Err(wrong())
    } else {
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(host("broker-1:7700"), Ok("broker-1"));
        assert_eq!(host("[::1]:7700"), Ok("::1"));
        for wrong in [
            "broker",
            "broker:",
            "broker:x",
            ":7700",
            "::1:7700",
            "[::1:7700",
            "a:70000",
        ] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
