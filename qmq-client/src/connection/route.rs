//! Where brokers are.

use super::meta::Place;
use crate::config::check_number;
use crate::error::ConfigError;

const PLACES_MAX: u64 = 64;

/// How brokers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The application said nothing yet.
    Unset,
    /// The application said where they are.
    Fixed(Vec<String>),
    /// Meta servers say where they are; one of them is asked at a time.
    Meta(Vec<Place>),
    /// The application said both.
    Both,
}

impl Route {
    pub(crate) fn add(&mut self, address: String) {
        match self {
            Self::Unset => *self = Self::Fixed(vec![address]),
            Self::Fixed(known) if known.contains(&address) => {}
            Self::Fixed(known) => known.push(address),
            Self::Meta(_) | Self::Both => *self = Self::Both,
        }
    }

    pub(crate) fn add_meta(&mut self, place: Place) {
        match self {
            Self::Unset => *self = Self::Meta(vec![place]),
            Self::Meta(known) if known.contains(&place) => {}
            Self::Meta(known) => known.push(place),
            Self::Fixed(_) | Self::Both => *self = Self::Both,
        }
    }

    /// Brokers that the application named.
    pub(crate) fn fixed(&self) -> &[String] {
        match self {
            Self::Fixed(addresses) => addresses,
            _ => &[],
        }
    }

    /// What the client connects to first, for messages.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Fixed(addresses) => addresses.join(", "),
            Self::Meta(places) => {
                let texts: Vec<&str> = places.iter().map(Place::text).collect();
                texts.join(", ")
            }
            Self::Unset | Self::Both => String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Unset => Err(ConfigError::NoBrokers),
            Self::Both => Err(ConfigError::BrokersAndMeta),
            Self::Fixed(addresses) => {
                check_number("number of brokers", addresses.len() as u64, (1, PLACES_MAX))?;
                addresses
                    .iter()
                    .try_for_each(|address| host(address).map(drop))
            }
            Self::Meta(places) => {
                let count = places.len() as u64;
                check_number("number of meta servers", count, (1, PLACES_MAX))?;
                places.iter().try_for_each(Place::check)
            }
        }
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
