//! What to type: commands with what is known filled in, and what was nearly right.

use crate::model::{Broker, BrokerRole};
use crate::picture::Picture;

/// A broker of which not all is known.
#[derive(Clone, Copy)]
pub(crate) struct Sketch<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) role: BrokerRole,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) ip: Option<&'a str>,
    pub(crate) serve_port: Option<u16>,
    pub(crate) sync_port: Option<u16>,
}

impl<'a> Sketch<'a> {
    pub(crate) fn of(broker: &'a Broker) -> Self {
        Self {
            group: Some(&broker.group),
            role: broker.role,
            hostname: Some(&broker.hostname),
            ip: Some(&broker.ip),
            serve_port: Some(broker.serve_port),
            sync_port: broker.sync_port,
        }
    }

    /// The whole command.
    pub(crate) fn command(&self, action: &str) -> String {
        let port =
            |port: Option<u16>, name: &str| port.map_or(name.to_owned(), |port| port.to_string());
        let mut line = format!(
            "qmq tools {action} --metaserver=META --token=TOKEN --brokerGroup={} --role={} --hostname={} --ip={} --servePort={}",
            self.group.unwrap_or("GROUP"),
            self.role as i32,
            self.hostname.unwrap_or("HOSTNAME"),
            self.ip.unwrap_or("IP"),
            port(self.serve_port, "SERVE_PORT"),
        );
        if !is_backup(self.role) {
            line += &format!(" --syncPort={}", port(self.sync_port, "SYNC_PORT"));
        }
        line
    }
}

pub(crate) fn is_backup(role: BrokerRole) -> bool {
    matches!(role, BrokerRole::Backup | BrokerRole::DelayBackup)
}

/// `host:port`, with brackets where they are needed.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What to say to a node that nobody has entered.
pub(crate) fn unknown_node(picture: &Picture, hostname: &str, port: u16) -> String {
    let mut text = format!("no broker is entered with host name {hostname:?} and port {port}\n");
    let mistakes = mistakes(picture, hostname, port);
    for mistake in &mistakes {
        text += mistake;
        text.push('\n');
    }
    let same_machine =
        (picture.brokers.iter()).find(|broker| same_host(&broker.hostname, hostname));
    let sketch = Sketch {
        group: None,
        role: BrokerRole::Master,
        hostname: Some(hostname),
        ip: same_machine.map(|broker| broker.ip.as_str()),
        serve_port: Some(port),
        sync_port: None,
    };
    let otherwise = if mistakes.is_empty() {
        "type"
    } else {
        "if it is another broker, type"
    };
    text += &format!(
        "{otherwise} (--role=1 for a slave, 5 for a delay master, 6 for a delay slave):\n{}",
        sketch.command("AddBroker")
    );
    text
}

/// The same but for letter case and domain.
fn same_host(a: &str, b: &str) -> bool {
    first_label(a).eq_ignore_ascii_case(first_label(b))
}

fn first_label(host: &str) -> &str {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    host.split('.').next().unwrap_or(host)
}

fn mistakes(picture: &Picture, hostname: &str, port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for broker in &picture.brokers {
        let entered = &broker.hostname;
        let entered_port = broker.serve_port;
        if entered == hostname {
            found.push(format!(
                "{entered} is entered with port {entered_port}; broker.port must be the --servePort of AddBroker"
            ));
        } else if entered_port != port {
            continue;
        } else if entered.eq_ignore_ascii_case(hostname) {
            found.push(format!(
                "{entered} is entered with port {port}; the host names differ in upper and lower case only: set qmq.host={entered}, or type {}",
                renamed(broker, hostname)
            ));
        } else if same_host(entered, hostname) {
            found.push(format!(
                "{entered} is entered with port {port}; the host names differ in their domain only: set qmq.host={entered}, or type {}",
                renamed(broker, hostname)
            ));
        } else if broker.ip == hostname {
            found.push(format!(
                "{hostname} with port {port} is entered under the host name {entered}: set qmq.host={entered}, or type {}",
                renamed(broker, hostname)
            ));
        }
    }
    if found.is_empty() {
        let same_port: Vec<&str> = (picture.brokers.iter())
            .filter(|broker| broker.serve_port == port)
            .map(|broker| broker.hostname.as_str())
            .take(6)
            .collect();
        if (1..=5).contains(&same_port.len()) {
            found.push(format!(
                "with port {port} are entered: {}; if it is one of these, set qmq.host to that name",
                same_port.join(", ")
            ));
        }
    }
    found.truncate(5);
    found
}

fn renamed(broker: &Broker, hostname: &str) -> String {
    Sketch {
        hostname: Some(hostname),
        ..Sketch::of(broker)
    }
    .command("ReplaceBroker")
}
