//! Brokers and delay servers: what they are, and that they live.

use std::time::{Duration, Instant};

use crate::answers::{Acquired, Heard, Presence};
use crate::database::Liveness;
use crate::entry;
use crate::error::DatabaseError;
use crate::help::{self, Sketch, host_port};
use crate::model::{Broker, BrokerGroup, BrokerRole, GroupState};
use crate::picture::Picture;
use crate::problem::MetaError;
use crate::shared::{Node, Shared};

/// How often the database is read because of nodes that are not known.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Shared {
    pub(crate) async fn acquire(
        &self,
        hostname: &str,
        port: u16,
        claim: Option<&Broker>,
    ) -> Result<Acquired, MetaError> {
        entry::check_host("host name", hostname)?;
        if let Some(found) = self.look(hostname, port).await? {
            return self.acquired(found, claim);
        }
        let Some(claim) = claim else {
            return Err(self.unknown(hostname, port));
        };
        if (claim.hostname.as_str(), claim.serve_port) != (hostname, port) {
            return Err(MetaError::refused(format!(
                "{hostname}:{port} claims to be {}:{}; a node speaks for itself only",
                claim.hostname, claim.serve_port
            )));
        }
        match self.enter_itself(claim).await {
            Ok(added) => {
                tracing::info!(
                    meta = self.name,
                    group = added.group,
                    role = added.role.name(),
                    hostname,
                    port,
                    "a broker has entered itself"
                );
                self.acquired(added, Some(claim))
            }
            Err(MetaError::Database(DatabaseError::Away { .. })) => Err(away_for(hostname, port)),
            Err(error) => {
                let entered = self.known.read().picture.broker(hostname, port).cloned();
                match entered {
                    Some(entered) => self.acquired(entered, Some(claim)),
                    None => Err(error),
                }
            }
        }
    }

    pub(crate) async fn present(
        &self,
        presence: Presence,
        hostname: &str,
        port: u16,
        liveness: &Liveness,
    ) -> Result<Heard, MetaError> {
        let entered = self.entered(hostname, port, liveness).await?;
        self.nodes.lock().insert(
            (hostname.to_owned(), port),
            Node {
                group: entered.group.clone(),
                role: entered.role,
                at: Instant::now(),
            },
        );
        if !entered.role.is_master() {
            return Ok(Heard { stored: true });
        }
        let mut said = liveness.clone();
        said.state = match (presence, liveness.state) {
            (Presence::Offline, _) => GroupState::None,
            (Presence::Online, GroupState::None) => GroupState::ReadWrite,
            (_, state) => state,
        };
        if said.address.is_empty() {
            said.address = host_port(&entered.ip, port);
        }
        let known = self.group_epoch(&said.group);
        if said.epoch < known {
            return Err(fenced(&said, known));
        }
        if self.is_away() {
            return Ok(self.remember(said));
        }
        match self.noted(self.database.seen(&said).await) {
            Ok(_) => {
                if self.is_news(&said) {
                    let _ = self.read_anew().await;
                }
                Ok(Heard { stored: true })
            }
            Err(DatabaseError::Away { .. }) => Ok(self.remember(said)),
            Err(DatabaseError::Changed { .. }) => {
                self.read_anew().await?;
                match self.known.read().picture.broker(hostname, port) {
                    Some(found) if is_entered_as(found, &said) => {}
                    Some(found) => return Err(otherwise(found, &said)),
                    None => return Err(self.unknown(hostname, port)),
                }
                Err(fenced(&said, self.group_epoch(&said.group)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The broker that is entered so; looks into the database again if it is not known.
    async fn look(&self, hostname: &str, port: u16) -> Result<Option<Broker>, MetaError> {
        let find = || self.known.read().picture.broker(hostname, port).cloned();
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        if self.is_away() || self.look_again(LOOK_AGAIN).await.is_err() {
            return Err(away_for(hostname, port));
        }
        Ok(find())
    }

    async fn entered(
        &self,
        hostname: &str,
        port: u16,
        liveness: &Liveness,
    ) -> Result<Broker, MetaError> {
        let mut found = self.look(hostname, port).await?;
        if (found.as_ref()).is_some_and(|found| !is_entered_as(found, liveness)) && !self.is_away()
        {
            let _ = self.look_again(LOOK_AGAIN).await;
            found = self.look(hostname, port).await?;
        }
        match found {
            None => Err(self.unknown(hostname, port)),
            Some(found) if is_entered_as(&found, liveness) => Ok(found),
            Some(found) => Err(otherwise(&found, liveness)),
        }
    }

    fn unknown(&self, hostname: &str, port: u16) -> MetaError {
        MetaError::UnknownNode {
            text: help::unknown_node(&self.known.read().picture, hostname, port),
        }
    }

    fn acquired(&self, broker: Broker, claim: Option<&Broker>) -> Result<Acquired, MetaError> {
        let known = self.known.read();
        let picture = &known.picture;
        let copies = copied(picture, &broker)?;
        let mut differs: Vec<String> = claim.map_or_else(Vec::new, |claim| compare(&broker, claim));
        if let Some(warning) = entry::loopback(picture, &broker) {
            differs.push(warning);
        }
        let group = picture.groups.get(&broker.group);
        if let Some(group) = group.filter(|group| has_another_master(group, &broker)) {
            return Err(MetaError::WrongRole {
                text: format!(
                    "broker group {:?} has another master since epoch {}: {}; {}:{} is entered as {} and is not to take messages: restart it as a slave, or make it the master again:\n{}",
                    group.name,
                    group.epoch,
                    group.master,
                    broker.hostname,
                    broker.serve_port,
                    broker.role.name(),
                    Sketch::of(&broker).command("ReplaceBroker")
                ),
            });
        }
        let epoch = group.map_or(0, |group| group.epoch);
        Ok(Acquired {
            copies,
            epoch,
            differs: (!differs.is_empty()).then(|| differs.join("; ")),
            broker,
        })
    }

    pub(crate) fn group_epoch(&self, group: &str) -> u64 {
        let known = self.known.read();
        known
            .picture
            .groups
            .get(group)
            .map_or(0, |group| group.epoch)
    }

    /// Whether routes are otherwise than the master says.
    fn is_news(&self, said: &Liveness) -> bool {
        let known = self.known.read();
        (known.picture.groups.get(&said.group))
            .is_none_or(|group| group.state != said.state || group.master != said.address)
    }

    /// While the database is away: what the master says counts here, and is told later.
    fn remember(&self, said: Liveness) -> Heard {
        let mut known = self.known.write();
        let mut is_news = false;
        if let Some(group) = known.picture.groups.get_mut(&said.group) {
            is_news = group.state != said.state || group.master != said.address;
            group.state = said.state;
            group.master.clone_from(&said.address);
        }
        drop(known);
        self.untold
            .lock()
            .insert(said.group.clone(), (said, Instant::now()));
        if is_news {
            self.changed();
        }
        Heard { stored: false }
    }
}

/// Whether the group was granted to another than this broker, which is entered as its master.
pub(crate) fn has_another_master(group: &BrokerGroup, broker: &Broker) -> bool {
    let own = host_port(&broker.ip, broker.serve_port);
    broker.role.is_master() && group.epoch > 0 && !group.master.is_empty() && group.master != own
}

fn is_entered_as(found: &Broker, said: &Liveness) -> bool {
    (&found.group, found.role) == (&said.group, said.role)
}

/// A node that is entered otherwise than it says.
fn otherwise(found: &Broker, said: &Liveness) -> MetaError {
    let as_said = Sketch {
        group: Some(&said.group),
        role: said.role,
        ..Sketch::of(found)
    };
    MetaError::WrongRole {
        text: format!(
            "{}:{} is entered as {} of broker group {:?} and speaks as {} of {:?}; restart it, so that it asks what it is, or enter it so:\n{}",
            found.hostname,
            found.serve_port,
            found.role.name(),
            found.group,
            said.role.name(),
            said.group,
            as_said.command("ReplaceBroker")
        ),
    }
}

fn fenced(said: &Liveness, known: u64) -> MetaError {
    MetaError::Fenced {
        group: said.group.clone(),
        epoch: said.epoch,
        known,
    }
}

fn away_for(hostname: &str, port: u16) -> MetaError {
    MetaError::Unavailable {
        reason: format!(
            "the database is away, so that nobody can tell whether {hostname}:{port} is entered"
        ),
    }
}

/// What a broker copies.
fn copied(picture: &Picture, broker: &Broker) -> Result<Option<String>, MetaError> {
    let copied = match broker.role {
        BrokerRole::Slave => BrokerRole::Master,
        BrokerRole::DelaySlave => BrokerRole::DelayMaster,
        BrokerRole::Backup => BrokerRole::Slave,
        BrokerRole::DelayBackup => BrokerRole::DelaySlave,
        BrokerRole::Master | BrokerRole::DelayMaster | BrokerRole::Standby => return Ok(None),
    };
    let source = picture.broker_in(&broker.group, copied);
    if let Some((source, port)) = source.and_then(|source| Some((source, source.sync_port?))) {
        return Ok(Some(host_port(&source.ip, port)));
    }
    let wanted = Sketch {
        group: Some(&broker.group),
        role: copied,
        hostname: None,
        ip: None,
        serve_port: None,
        sync_port: None,
    };
    Err(MetaError::UnknownNode {
        text: format!(
            "{}:{} is entered as {} of broker group {:?}, which has no {} for it to copy; type:\n{}",
            broker.hostname,
            broker.serve_port,
            broker.role.name(),
            broker.group,
            copied.name(),
            wanted.command("AddBroker")
        ),
    })
}

/// In what the table differs from a claim.
fn compare(entered: &Broker, claim: &Broker) -> Vec<String> {
    let mut differs = Vec::new();
    let mut note = |what: &str, entered: String, claimed: String| {
        if entered != claimed {
            differs.push(format!(
                "it is entered with {what} {entered} and claims {claimed}: {entered} counts"
            ));
        }
    };
    let port = |port: Option<u16>| port.map_or_else(|| "none".to_owned(), |port| port.to_string());
    note("broker group", entered.group.clone(), claim.group.clone());
    note(
        "role",
        entered.role.name().to_owned(),
        claim.role.name().to_owned(),
    );
    note("address", entered.ip.clone(), claim.ip.clone());
    note(
        "port for slaves",
        port(entered.sync_port),
        port(claim.sync_port),
    );
    differs
}
