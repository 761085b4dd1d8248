//! Entering brokers, and the rules of it (QMQ: `AddBroker`, `ReplaceBroker`).

use std::net::IpAddr;

use crate::error::DatabaseError;
use crate::help::{Sketch, host_port, is_backup};
use crate::model::{Broker, BrokerRole};
use crate::nodes::has_another_master;
use crate::picture::{ANY, Picture};
use crate::problem::MetaError;
use crate::shared::Shared;

/// Brokers of one group, at most.
const GROUP_BROKERS_MAX: usize = 16;
/// Characters of a host name or address, at most.
const HOST_CHARS_MAX: usize = 255;

#[derive(Clone, Copy)]
enum EnteredBy {
    Operator,
    Itself,
}

impl Shared {
    /// An operator enters a broker.
    pub(crate) async fn add_broker(&self, broker: &Broker) -> Result<Broker, MetaError> {
        self.put_in(broker, EnteredBy::Operator).await
    }

    /// A broker enters itself: not into a group that was decommissioned.
    pub(crate) async fn enter_itself(&self, broker: &Broker) -> Result<Broker, MetaError> {
        self.put_in(broker, EnteredBy::Itself).await
    }

    async fn put_in(&self, broker: &Broker, by: EnteredBy) -> Result<Broker, MetaError> {
        check_fields(broker)?;
        let picture_check = || {
            let known = self.known.read();
            check_free(&known.picture, broker)?;
            check_group_kind(&known.picture, broker)?;
            match loopback(&known.picture, broker) {
                Some(warning) => Err(MetaError::Refused { reason: warning }),
                None => Ok(()),
            }
        };
        picture_check()?;
        let put_in = match by {
            EnteredBy::Operator => self.database.add_broker(broker).await,
            EnteredBy::Itself => self.database.enter_broker(broker).await,
        };
        match self.noted(put_in) {
            Ok(()) => {}
            Err(error @ DatabaseError::Exists { .. }) => {
                self.read_anew().await?;
                picture_check()?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.read_anew().await?;
        Ok(broker.clone())
    }

    pub(crate) async fn replace_broker(&self, broker: &Broker) -> Result<Broker, MetaError> {
        check_fields(broker)?;
        {
            let known = self.known.read();
            check_group_kind(&known.picture, broker)?;
            check_address(&known.picture, broker, |other| {
                other.group == broker.group && other.role == broker.role
            })?;
        }
        let replaced = self.noted(self.database.replace_broker(broker).await)?;
        self.read_anew().await?;
        let granted = {
            let known = self.known.read();
            (known.picture.groups.get(&broker.group))
                .filter(|group| has_another_master(group, broker))
                .map(|group| group.epoch)
        };
        // A group that was given to a master by its epoch follows the operator in the same way: the one before is fenced.
        if let (Some(epoch), Some(_)) = (granted, &replaced) {
            let address = host_port(&broker.ip, broker.serve_port);
            self.grant_epoch(&broker.group, epoch, &address).await?;
        }
        replaced.ok_or_else(|| {
            MetaError::refused(format!(
                "broker group {:?} has no {} to be replaced; type:\n{}",
                broker.group,
                broker.role.name(),
                Sketch::of(broker).command("AddBroker")
            ))
        })
    }
}

/// A host name or address that is safe to be shown, typed and looked up.
pub(crate) fn check_host(what: &str, host: &str) -> Result<(), MetaError> {
    let rule = "letters, digits, '.', '-', '_' and ':' are allowed, 1 to 255 of them";
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    let length = host.chars().count();
    if length == 0 {
        return Err(MetaError::refused(format!("the {what} is empty; {rule}")));
    }
    if length > HOST_CHARS_MAX || !host.chars().all(allowed) {
        let shown: String = host.chars().take(60).collect();
        return Err(MetaError::refused(format!("{what} {shown:?}: {rule}")));
    }
    Ok(())
}

/// A group's name that is safe to be shown and typed.
pub(crate) fn check_group_name(group: &str) -> Result<(), MetaError> {
    let rule = "letters, digits, '.', '-' and '_' are allowed, 1 to 100 of them";
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if group.is_empty() {
        return Err(MetaError::refused(format!("brokerGroup is empty; {rule}")));
    }
    if group.chars().count() > 100 || !group.chars().all(allowed) {
        let shown: String = group.chars().take(60).collect();
        return Err(MetaError::refused(format!("brokerGroup {shown:?}: {rule}")));
    }
    Ok(())
}

fn check_fields(broker: &Broker) -> Result<(), MetaError> {
    check_group_name(&broker.group)?;
    if broker.role == BrokerRole::Standby {
        return Err(MetaError::refused(
            "role 2 (STANDBY) is not allowed; choose 0 MASTER, 1 SLAVE, 4 BACKUP, 5 DELAY_MASTER, 6 DELAY_SLAVE or 7 DELAY_BACKUP",
        ));
    }
    check_host("host name", &broker.hostname)?;
    check_host("ip", &broker.ip)?;
    if let Ok(ip) = broker.ip.parse::<IpAddr>()
        && ip.is_unspecified()
    {
        return Err(MetaError::refused(format!(
            "ip {ip} is no address that others can reach; give the one of this machine's network"
        )));
    }
    if broker.serve_port == 0 {
        return Err(MetaError::refused("servePort must be 1 to 65535"));
    }
    match broker.sync_port {
        _ if is_backup(broker.role) => Ok(()),
        None | Some(0) => Err(MetaError::refused(format!(
            "a {} needs a syncPort of 1 to 65535",
            broker.role.name()
        ))),
        Some(port) if port == broker.serve_port => Err(MetaError::refused(format!(
            "servePort and syncPort are both {port}; they must differ"
        ))),
        Some(_) => Ok(()),
    }
}

/// Whether host name, address and role are free.
fn check_free(picture: &Picture, broker: &Broker) -> Result<(), MetaError> {
    check_address(picture, broker, |_| false)?;
    let taken = picture.broker_in(&broker.group, broker.role);
    let is_slave = matches!(broker.role, BrokerRole::Slave | BrokerRole::DelaySlave);
    if let Some(other) = taken.filter(|_| !is_slave) {
        return Err(MetaError::refused(format!(
            "broker group {:?} has a {} already, {}:{}; enter this one as its slave (--role={}), or put it in its place:\n{}",
            broker.group,
            broker.role.name(),
            other.hostname,
            other.serve_port,
            if broker.role.kind() == BrokerRole::DelayMaster.kind() {
                6
            } else {
                1
            },
            Sketch::of(broker).command("ReplaceBroker")
        )));
    }
    if picture.brokers_of(&broker.group).count() >= GROUP_BROKERS_MAX {
        return Err(MetaError::refused(format!(
            "broker group {:?} has {GROUP_BROKERS_MAX} brokers, which is the most; replace one of them with ReplaceBroker, or choose another brokerGroup",
            broker.group
        )));
    }
    Ok(())
}

/// Neither host name and port nor address and port may be another's.
fn check_address(
    picture: &Picture,
    broker: &Broker,
    is_same: impl Fn(&Broker) -> bool,
) -> Result<(), MetaError> {
    for other in picture.brokers.iter().filter(|other| !is_same(other)) {
        if other.serve_port != broker.serve_port {
            continue;
        }
        let place = format!("{} of broker group {:?}", other.role.name(), other.group);
        if other.hostname == broker.hostname {
            return Err(MetaError::refused(format!(
                "{}:{} is entered already, as {place}; choose another servePort, or remove what is there with ReplaceBroker",
                other.hostname, other.serve_port
            )));
        }
        if other.ip == broker.ip {
            return Err(MetaError::refused(format!(
                "{} is entered already under the host name {} as {place}, and this one is called {}; set qmq.host={} there, or change the entry:\n{}",
                host_port(&other.ip, other.serve_port),
                other.hostname,
                broker.hostname,
                other.hostname,
                Sketch {
                    hostname: Some(&broker.hostname),
                    ..Sketch::of(other)
                }
                .command("ReplaceBroker")
            )));
        }
    }
    Ok(())
}

/// Real-time and delay groups have different names.
fn check_group_kind(picture: &Picture, broker: &Broker) -> Result<(), MetaError> {
    let kind = broker.role.kind();
    let other = picture
        .brokers_of(&broker.group)
        .find(|other| other.role.kind() != kind);
    let by_group = (picture.groups.get(&broker.group))
        .filter(|group| group.kind != kind && picture.brokers_of(&broker.group).next().is_none());
    if other.is_none() && by_group.is_none() {
        return Ok(());
    }
    let words = |kind| match kind {
        crate::model::GroupKind::Normal => "real-time brokers",
        crate::model::GroupKind::Delay => "delay servers",
    };
    let opposite = match kind {
        crate::model::GroupKind::Normal => crate::model::GroupKind::Delay,
        crate::model::GroupKind::Delay => crate::model::GroupKind::Normal,
    };
    Err(MetaError::refused(format!(
        "broker group {:?} is one of {}, and {} is for {}; their groups must have different names: choose another --brokerGroup",
        broker.group,
        words(opposite),
        broker.role.name(),
        words(kind)
    )))
}

/// An address of this machine only, among brokers of other machines.
pub(crate) fn loopback(picture: &Picture, broker: &Broker) -> Option<String> {
    let is_loopback = |ip: &str| {
        ip.eq_ignore_ascii_case("localhost")
            || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    if !is_loopback(&broker.ip) {
        return None;
    }
    let remote = picture
        .brokers
        .iter()
        .find(|other| !is_loopback(&other.ip))?;
    let better = Sketch {
        ip: None,
        ..Sketch::of(broker)
    };
    let is_entered = picture
        .broker(&broker.hostname, broker.serve_port)
        .is_some();
    let action = if is_entered {
        "ReplaceBroker"
    } else {
        "AddBroker"
    };
    Some(format!(
        "{}:{} has the ip {}, which only its own machine can reach, while others such as {} ({}) are elsewhere; type:\n{}",
        broker.hostname,
        broker.serve_port,
        broker.ip,
        remote.hostname,
        remote.ip,
        better.command(action)
    ))
}

/// A name that is not [`ANY`] and not empty.
pub(crate) fn check_named(what: &str, name: &str) -> Result<(), MetaError> {
    if name.is_empty() || name == ANY {
        return Err(MetaError::refused(format!(
            "{what} must be one name, not {name:?}"
        )));
    }
    Ok(())
}
