//! `broker-http-port-map.properties`: the HTTP ports of slaves that do not have the usual one.

use std::collections::BTreeMap;

use super::lines::{Lines, Odd};
use super::properties::Entry;
use super::url::{has_placeholder, is_host, is_host_port};

/// HTTP ports of slaves: `HOST=PORT` or `HOST/SERVEPORT=PORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpPorts {
    ports: BTreeMap<String, u16>,
}

impl HttpPorts {
    /// The HTTP port of the slave at this host and port, if the file says it: the line with the port counts before the one without.
    #[must_use]
    pub fn of(&self, host: &str, serve_port: u16) -> Option<u16> {
        let exact = self.ports.get(&format!("{host}/{serve_port}"));
        exact.or_else(|| self.ports.get(host)).copied()
    }

    /// What the file says, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.ports.iter().map(|(name, port)| (name.as_str(), *port))
    }
}

impl Lines for HttpPorts {
    fn take(&mut self, entry: Entry) -> Result<(), Odd> {
        let Entry { key, value, .. } = entry;
        if has_placeholder(&key) || has_placeholder(&value) {
            let what = "a placeholder of the documentation is passed over; put your own there, HOST=PORT or HOST/SERVEPORT=PORT";
            return Err(Odd::Warning(what.to_owned()));
        }
        let fits = match key.split_once('/') {
            Some((host, port)) => is_host_port(&format!("{host}:{port}")),
            None => is_host(&key),
        };
        let port = value.trim().parse().ok().filter(|&port: &u16| port > 0);
        match port {
            Some(port) if fits => {
                self.ports.insert(key, port);
                Ok(())
            }
            _ => {
                let shown = |text: &str| text.chars().take(200).collect::<String>();
                Err(Odd::Problem(format!(
                    "{:?} = {:?} is refused; allowed is HOST=PORT or HOST/SERVEPORT=PORT, with ports from 1 to 65535",
                    shown(&key),
                    shown(&value)
                )))
            }
        }
    }

    fn changes_since(&self, old: &Self) -> Vec<String> {
        match self == old {
            true => Vec::new(),
            false => vec![format!(
                "HTTP ports of slaves have changed: {} now, {} before",
                self.ports.len(),
                old.ports.len()
            )],
        }
    }
}
