//! What operators do to subjects, routes and groups (QMQ: the actions of `/management`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::entry::{check_group_name, check_named};
use crate::error::DatabaseError;
use crate::model::{BrokerGroup, GroupKind, ReadonlyRow, Standing, Subject, SubjectRoute};
use crate::model::{ClientRow, OfflineRow};
use crate::picture::{ANY, DEFAULT_TAG, Picture};
use crate::problem::MetaError;
use crate::routing::real_subject;
use crate::shared::Shared;

/// A plain subject: operators do not route retry or dead-letter subjects, which go where their subject goes.
fn plain_subject(name: &str) -> Result<(), MetaError> {
    let real = real_subject(name)?;
    if real != name {
        return Err(MetaError::refused(format!(
            "{name:?} goes wherever subject {real:?} goes; name that one"
        )));
    }
    Ok(())
}

/// A group that may be given subjects.
fn open_group(picture: &Picture, name: &str) -> Result<(), MetaError> {
    let group = known_group(picture, name)?;
    if group.kind != GroupKind::Normal {
        return Err(MetaError::refused(format!(
            "broker group {name:?} is one of delay servers, which serve all subjects; subjects are routed to groups of real-time brokers"
        )));
    }
    if group.retiring {
        return Err(MetaError::refused(format!(
            "broker group {name:?} is being decommissioned and takes no more subjects; choose another, or end that with: qmq meta decommission {name} --undo"
        )));
    }
    Ok(())
}

fn known_group<'a>(picture: &'a Picture, name: &str) -> Result<&'a BrokerGroup, MetaError> {
    picture.groups.get(name).ok_or_else(|| {
        MetaError::refused(format!(
            "there is no broker group {name:?}; a group is there from when its master first started: see qmq tools ListBrokerGroups"
        ))
    })
}

impl Shared {
    pub(crate) async fn add_subject(&self, name: &str, tag: &str) -> Result<Subject, MetaError> {
        plain_subject(name)?;
        let tag = if tag.is_empty() { DEFAULT_TAG } else { tag };
        let added = self.noted(self.database.add_subject(name, tag).await)?;
        self.read_anew().await?;
        let subject = self.known.read().picture.subjects.get(name).cloned();
        match (added, subject) {
            (false, Some(subject)) => Err(MetaError::SubjectExists {
                subject: Box::new(subject),
            }),
            (_, Some(subject)) => Ok(subject),
            (_, None) => Err(MetaError::Database(DatabaseError::Changed {
                what: format!("subject {name:?}"),
            })),
        }
    }

    pub(crate) async fn add_subject_group(
        &self,
        group: &str,
        subject: &str,
    ) -> Result<SubjectRoute, MetaError> {
        plain_subject(subject)?;
        check_group_name(group)?;
        let _alone = self.alone(subject).await;
        let has_route = {
            let known = self.known.read();
            open_group(&known.picture, group)?;
            known.picture.route(subject).is_some()
        };
        if !has_route {
            let groups = [group.to_owned()];
            let added = self.noted(self.database.add_route(subject, &groups).await)?;
            self.read_anew().await?;
            let route = self.known.read().picture.route(subject).cloned();
            if let (true, Some(route)) = (added, route) {
                return Ok(route);
            }
        }
        let added = self.edit_route(subject, |picture, route| {
            open_group(picture, group)?;
            if route.groups.iter().any(|name| name == group) {
                return Err(MetaError::AlreadyRouted {
                    group: group.to_owned(),
                    route: Box::new(route.clone()),
                });
            }
            Ok(Some(with(&route.groups, group)))
        });
        let added = added.await?;
        self.read_anew().await?;
        self.changed();
        let route = self.known.read().picture.route(subject).cloned();
        route.or(added).ok_or_else(|| gone(subject))
    }

    pub(crate) async fn remove_subject_group(
        &self,
        group: &str,
        subject: &str,
    ) -> Result<BTreeMap<String, String>, MetaError> {
        check_group_name(group)?;
        let subjects = self.subjects_of(group, subject)?;
        let mut errors = BTreeMap::new();
        for subject in subjects {
            let edit = self.edit_route(&subject, |_, route| {
                let rest = without(&route.groups, group);
                if rest.len() == route.groups.len() {
                    return Ok(None);
                }
                if rest.is_empty() {
                    return Err(MetaError::refused(format!(
                        "broker group {group:?} is the last of subject {subject:?}, which would be served by none; add another first with AddSubjectBrokerGroup"
                    )));
                }
                Ok(Some(rest))
            });
            match edit.await {
                Ok(_) => {}
                Err(error @ MetaError::Database(DatabaseError::Away { .. })) => return Err(error),
                Err(error) => {
                    errors.insert(subject, error.to_string());
                }
            }
        }
        self.read_anew().await?;
        self.changed();
        Ok(errors)
    }

    pub(crate) async fn extend_route(
        &self,
        related_subject: &str,
        related_group: &str,
        new_group: &str,
    ) -> Result<u64, MetaError> {
        check_group_name(related_group)?;
        open_group(&self.known.read().picture, new_group)?;
        let mut count = 0;
        for subject in self.subjects_of(related_group, related_subject)? {
            let edit = self.edit_route(&subject, |picture, route| {
                open_group(picture, new_group)?;
                let has = |name: &str| route.groups.iter().any(|group| group == name);
                Ok((has(related_group) && !has(new_group)).then(|| with(&route.groups, new_group)))
            });
            count += u64::from(edit.await?.is_some());
        }
        self.read_anew().await?;
        self.changed();
        Ok(count)
    }

    /// The subjects that have the group: all, or this one.
    fn subjects_of(&self, group: &str, subject: &str) -> Result<Vec<String>, MetaError> {
        let known = self.known.read();
        let has = |route: &SubjectRoute| route.groups.iter().any(|name| name == group);
        if subject == ANY {
            let mut subjects: Vec<String> = (known.picture.routes())
                .filter(|route| has(route))
                .map(|route| route.subject.clone())
                .collect();
            subjects.sort_unstable();
            return Ok(subjects);
        }
        plain_subject(subject)?;
        match known.picture.route(subject) {
            None => Err(MetaError::refused(format!(
                "subject {subject:?} has no route; see qmq tools ListSubjectRoutes"
            ))),
            Some(route) if !has(route) => Err(MetaError::refused(format!(
                "subject {subject:?} is not served by broker group {group:?} but by {}",
                route.groups.join(", ")
            ))),
            Some(_) => Ok(vec![subject.to_owned()]),
        }
    }

    pub(crate) async fn mark_readonly(&self, subject: &str, group: &str) -> Result<(), MetaError> {
        if subject != ANY {
            plain_subject(subject)?;
        }
        known_group(&self.known.read().picture, group)?;
        self.noted(
            self.database
                .add_readonly(&readonly_row(subject, group))
                .await,
        )?;
        Ok(self.read_anew().await?)
    }

    pub(crate) async fn unmark_readonly(
        &self,
        subject: &str,
        group: &str,
    ) -> Result<bool, MetaError> {
        let row = readonly_row(subject, group);
        let was = self.noted(self.database.remove_readonly(&row).await)?;
        self.leaving
            .lock()
            .remove(&(subject.to_owned(), group.to_owned()));
        self.read_anew().await?;
        Ok(was)
    }

    pub(crate) async fn switch(
        &self,
        client: &str,
        subject: &str,
        group: &str,
        standing: Standing,
    ) -> Result<(), MetaError> {
        let is_all = client != ANY && subject == ANY && group == ANY;
        if !is_all {
            if subject == ANY || group == ANY {
                return Err(MetaError::refused(
                    "a switch is for one subject and group (of one client, or of all: *), or for all subjects and groups of one client (* and *)",
                ));
            }
            plain_subject(subject)?;
            check_named("consumerGroup", group)?;
        }
        if client.is_empty() {
            return Err(MetaError::refused(
                "clientId is empty; name a client, or * for all",
            ));
        }
        let row = OfflineRow {
            client: client.to_owned(),
            subject: subject.to_owned(),
            group: group.to_owned(),
        };
        match standing {
            Standing::Offline => self.noted(self.database.switch_off(&row).await)?,
            Standing::Online => {
                self.noted(self.database.switch_on(&row).await)?;
            }
        }
        Ok(self.read_anew().await?)
    }

    pub(crate) async fn consumers(&self, subject: &str) -> Result<Vec<ClientRow>, MetaError> {
        let subject = real_subject(subject)?;
        Ok(self.noted(self.database.consumers(subject).await)?)
    }

    pub(crate) async fn set_group_tag(
        &self,
        group: &str,
        kind: GroupKind,
        tag: &str,
    ) -> Result<(), MetaError> {
        {
            let known = self.known.read();
            known_group(&known.picture, group)?;
            let mut brokers = known.picture.brokers_of(group);
            if let Some(broker) = brokers.find(|broker| broker.role.kind() != kind) {
                return Err(MetaError::refused(format!(
                    "{}:{} of broker group {group:?} is a {}, so the group cannot be of the other kind",
                    broker.hostname,
                    broker.serve_port,
                    broker.role.name()
                )));
            }
        }
        let tag = if tag.is_empty() { DEFAULT_TAG } else { tag };
        if !self.noted(self.database.set_group_tag(group, kind, tag).await)? {
            self.read_anew().await?;
            known_group(&self.known.read().picture, group)?;
        }
        Ok(self.read_anew().await?)
    }

    pub(crate) async fn grant_epoch(
        &self,
        group: &str,
        known: u64,
        master: &str,
    ) -> Result<u64, MetaError> {
        let granted = self.noted(self.database.grant_epoch(group, known, master).await);
        let _ = self.read_anew().await;
        match granted {
            Ok(epoch) => {
                tracing::warn!(
                    meta = self.name,
                    group,
                    epoch,
                    master,
                    "a broker group has a new master"
                );
                Ok(epoch)
            }
            Err(DatabaseError::Changed { .. }) => Err(MetaError::Fenced {
                group: group.to_owned(),
                epoch: known,
                known: self.group_epoch(group),
            }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn set_retiring(&self, group: &str, retiring: bool) -> Result<(), MetaError> {
        let is_there = self.noted(self.database.set_retiring(group, retiring).await)?;
        self.read_anew().await?;
        if !is_there {
            known_group(&self.known.read().picture, group)?;
        }
        Ok(())
    }

    pub(crate) async fn drop_group(&self, group: &str) -> Result<(), MetaError> {
        self.read_anew().await?;
        {
            let known = self.known.read();
            let picture = &known.picture;
            let found = known_group(picture, group)?;
            let has = |route: &&SubjectRoute| route.groups.iter().any(|name| name == group);
            if let Some(route) = picture.routes().find(has) {
                return Err(MetaError::refused(format!(
                    "broker group {group:?} still serves {} subjects, {:?} among them; empty it first with: qmq meta decommission {group}",
                    picture.load(group),
                    route.subject
                )));
            }
            if !found.retiring {
                return Err(MetaError::refused(format!(
                    "broker group {group:?} is in service; first type: qmq meta decommission {group}"
                )));
            }
        }
        self.noted(self.database.remove_group(group).await)?;
        tracing::warn!(meta = self.name, group, "a broker group is gone");
        Ok(self.read_anew().await?)
    }

    pub(crate) fn masters_of(&self, subject: &str) -> Vec<BrokerGroup> {
        let Ok(subject) = real_subject(subject) else {
            return Vec::new();
        };
        let known = self.known.read();
        let stored = known
            .picture
            .route(subject)
            .map(|route| route.groups.clone());
        let names = stored
            .or_else(|| self.temporary.read().get(subject).cloned())
            .unwrap_or_default();
        (names.iter())
            .filter_map(|name| known.picture.groups.get(name).cloned())
            .collect()
    }

    /// The greatest time that was known.
    pub(crate) fn at(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }
}

pub(crate) fn readonly_row(subject: &str, group: &str) -> ReadonlyRow {
    ReadonlyRow {
        subject: subject.to_owned(),
        group: group.to_owned(),
    }
}

pub(crate) fn with(groups: &[String], more: &str) -> Vec<String> {
    let mut groups = groups.to_vec();
    groups.push(more.to_owned());
    groups
}

pub(crate) fn without(groups: &[String], less: &str) -> Vec<String> {
    (groups.iter())
        .filter(|group| *group != less)
        .cloned()
        .collect()
}

fn gone(subject: &str) -> MetaError {
    MetaError::Database(DatabaseError::Changed {
        what: format!("the route of subject {subject:?}"),
    })
}
