//! Which groups serve a subject, and how a client may use them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qmq_message::subject::{SubjectName, check_subject, parse};

use crate::answers::{RouteAnswer, RouteRequest, RoutedGroup};
use crate::choice;
use crate::error::DatabaseError;
use crate::model::{
    BrokerGroup, ClientKind, ClientRow, GroupKind, GroupState, Standing, SubjectRoute,
};
use crate::picture::{ANY, Picture};
use crate::problem::MetaError;
use crate::shared::Shared;

/// Delay groups that a subject's delayed messages are spread over.
const DELAY_GROUPS: usize = 2;
/// How often a route is changed in vain because another changed it, before that is an error.
pub(crate) const TRIES: usize = 5;
/// How long a subject that could not be given more groups waits until that is tried again.
const REST: Duration = Duration::from_secs(60);
/// Routes that are given at most while the database is away.
const TEMPORARY_MAX: usize = 100_000;
/// Characters of a subject's name in QMQ's tables.
const SUBJECT_CHARS_MAX: usize = 100;

/// What a subject lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lack {
    Nothing,
    Route,
    /// So many groups.
    Groups(usize),
}

/// The subject that is served: of a retry or dead-letter subject, the one that was consumed.
pub(crate) fn real_subject(name: &str) -> Result<&str, MetaError> {
    check_subject(name)?;
    let mut real = name;
    while let SubjectName::Retry { subject, .. } | SubjectName::DeadLetter { subject, .. } =
        parse(real)
    {
        real = subject;
    }
    check_subject(real)?;
    if real == ANY {
        return Err(MetaError::refused(
            "\"*\" stands for all subjects and is none itself; choose another name",
        ));
    }
    Ok(real)
}

fn produces(kind: ClientKind) -> bool {
    matches!(kind, ClientKind::Producer | ClientKind::DelayProducer)
}

impl Shared {
    pub(crate) async fn route(&self, request: &RouteRequest) -> Result<RouteAnswer, MetaError> {
        let subject = real_subject(&request.subject)?;
        self.clients.remember(ClientRow {
            subject: subject.to_owned(),
            kind: request.kind,
            group: request.group.clone(),
            client: request.client.clone(),
            application: request.application.clone(),
            room: request.room.clone(),
        });
        if self.is_ignorant() {
            return Err(MetaError::Unavailable {
                reason: "this meta server cannot reach its database and knows no broker group yet"
                    .to_owned(),
            });
        }
        if request.kind != ClientKind::DelayProducer && self.lack(subject) != Lack::Nothing {
            let _alone = self.alone(subject).await;
            match self.lack(subject) {
                Lack::Nothing => {}
                Lack::Route => self.give_route(subject).await?,
                Lack::Groups(count) => self.give_more(subject, count).await,
            }
        }
        Ok(self.answer(request, subject))
    }

    /// Whether nothing is known because the database has never been there.
    fn is_ignorant(&self) -> bool {
        self.is_away() && self.known.read().picture.groups.is_empty()
    }

    fn lack(&self, subject: &str) -> Lack {
        let known = self.known.read();
        let picture = &known.picture;
        let Some(route) = picture.route(subject) else {
            let given = self.temporary.read().contains_key(subject);
            return if given || picture.eligible(subject).is_empty() {
                Lack::Nothing
            } else {
                Lack::Route
            };
        };
        let serving = (route.groups.iter())
            .filter(|name| (picture.groups.get(*name)).is_some_and(|group| !group.retiring))
            .count();
        let wanted = self.min_groups().saturating_sub(serving);
        if wanted == 0 || self.is_away() || self.rests(subject) {
            return Lack::Nothing;
        }
        let more = others(picture, route).len();
        match wanted.min(more) {
            0 => Lack::Nothing,
            count => Lack::Groups(count),
        }
    }

    fn rests(&self, subject: &str) -> bool {
        (self.resting.lock().get(subject)).is_some_and(|until| *until > Instant::now())
    }

    fn rest(&self, subject: &str) {
        let mut resting = self.resting.lock();
        if resting.len() >= TEMPORARY_MAX {
            resting.clear();
        }
        resting.insert(subject.to_owned(), Instant::now() + REST);
    }

    async fn give_route(&self, subject: &str) -> Result<(), MetaError> {
        if self.is_away() {
            return self.give_temporary(subject);
        }
        let groups = self.choose(subject, &[], self.min_groups());
        match self.noted(self.database.add_route(subject, &groups).await) {
            Ok(true) => {
                self.put_route(SubjectRoute {
                    subject: subject.to_owned(),
                    groups,
                    version: 0,
                    updated_ms: self.stamp.load(Ordering::Acquire),
                });
                Ok(())
            }
            Ok(false) => match self.read_anew().await {
                Ok(()) => Ok(()),
                Err(_) => self.give_temporary(subject),
            },
            Err(error @ DatabaseError::TooLong { .. }) => Err(error.into()),
            Err(error) => {
                tracing::warn!(meta = self.name, subject, %error, "its route could not be stored; it is remembered, and stored later");
                self.give_temporary(subject)
            }
        }
    }

    /// The same groups wherever this happens, since other meta servers may have to do it too.
    fn give_temporary(&self, subject: &str) -> Result<(), MetaError> {
        let length = subject.chars().count();
        if length > SUBJECT_CHARS_MAX {
            return Err(MetaError::Database(DatabaseError::TooLong {
                table: "subject_route",
                column: "subject_info",
                limit: SUBJECT_CHARS_MAX,
                len: length,
                value: subject.chars().take(40).collect(),
            }));
        }
        let groups: Vec<String> = {
            let known = self.known.read();
            let eligible = known.picture.eligible(subject);
            let names = eligible.iter().map(|group| group.name.as_str());
            let chosen = choice::by_name(subject, names, self.min_groups());
            chosen.into_iter().map(ToOwned::to_owned).collect()
        };
        let mut temporary = self.temporary.write();
        if temporary.len() >= TEMPORARY_MAX {
            return Err(MetaError::Unavailable {
                reason: format!(
                    "the database is away and {TEMPORARY_MAX} new subjects wait for it already"
                ),
            });
        }
        tracing::info!(
            meta = self.name,
            subject,
            ?groups,
            "a new subject while the database is away"
        );
        temporary.insert(subject.to_owned(), groups);
        drop(temporary);
        self.unsaved.store(true, Ordering::Release);
        Ok(())
    }

    async fn give_more(&self, subject: &str, count: usize) {
        let outcome = (self)
            .edit_route(subject, |picture, route| {
                let serving: Vec<String> = route.groups.clone();
                let more = self.choose_in(picture, subject, &serving, count);
                Ok((!more.is_empty()).then(|| [serving, more].concat()))
            })
            .await;
        match outcome {
            Ok(Some(_)) => self.changed(),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(meta = self.name, subject, %error, "it could not be given more groups; its route stays, and that is tried again later");
                self.rest(subject);
            }
        }
    }

    /// Groups for a subject beyond those that it has, by their load and chance.
    pub(crate) fn choose(&self, subject: &str, has: &[String], count: usize) -> Vec<String> {
        self.choose_in(&self.known.read().picture, subject, has, count)
    }

    pub(crate) fn choose_in(
        &self,
        picture: &Picture,
        subject: &str,
        has: &[String],
        count: usize,
    ) -> Vec<String> {
        let names = (picture.eligible(subject).into_iter())
            .map(|group| group.name.clone())
            .filter(|name| !has.contains(name))
            .collect();
        choice::by_load(picture, names, count, &mut self.random.lock())
    }

    /// Changes a route by its version, with what `edit` makes of it; reads anew when another was faster. What it became; `None`: `edit` wanted nothing.
    pub(crate) async fn edit_route(
        &self,
        subject: &str,
        edit: impl Fn(&Picture, &SubjectRoute) -> Result<Option<Vec<String>>, MetaError>,
    ) -> Result<Option<SubjectRoute>, MetaError> {
        for _ in 0..TRIES {
            let (mut route, groups) = {
                let known = self.known.read();
                let Some(route) = known.picture.route(subject) else {
                    return Err(MetaError::refused(format!(
                        "subject {subject:?} has no route; one is made when a client first asks for it, or by AddSubjectBrokerGroup"
                    )));
                };
                match edit(&known.picture, route)? {
                    None => return Ok(None),
                    Some(groups) => (route.clone(), groups),
                }
            };
            let change = self.database.change_route(subject, &groups, route.version);
            if self.noted(change.await)? {
                route.groups = groups;
                route.version = route.version.wrapping_add(1);
                self.put_route(route.clone());
                return Ok(Some(route));
            }
            self.read_anew().await?;
        }
        Err(MetaError::Unavailable {
            reason: format!(
                "the route of subject {subject:?} was changed by others {TRIES} times meanwhile"
            ),
        })
    }

    fn answer(&self, request: &RouteRequest, subject: &str) -> RouteAnswer {
        let producer = produces(request.kind);
        let known = self.known.read();
        let picture = &known.picture;
        let names = if request.kind == ClientKind::DelayProducer {
            delay_groups(picture, subject)
        } else if let Some(route) = picture.route(subject) {
            route.groups.clone()
        } else {
            let temporary = self.temporary.read();
            temporary.get(subject).cloned().unwrap_or_default()
        };
        let mut groups: Vec<RoutedGroup> = (names.iter())
            .filter_map(|name| picture.groups.get(name))
            .filter(|group| group.state != GroupState::None)
            .map(|group| resolved(picture, subject, group))
            .filter(|(_, closed)| !(producer && *closed))
            .map(|(group, _)| group)
            .collect();
        groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
        RouteAnswer {
            stamp: self.stamp.load(Ordering::Acquire),
            standing: if producer {
                Standing::Online
            } else {
                picture.standing(&request.client, subject, &request.group)
            },
            stale: self.is_away(),
            groups,
        }
    }
}

/// A group with what clients may do, and whether it is closed to producers whatever its state.
fn resolved(picture: &Picture, subject: &str, group: &BrokerGroup) -> (RoutedGroup, bool) {
    let closed = group.retiring || picture.is_readonly(subject, &group.name);
    let routed = RoutedGroup {
        group: group.clone(),
        writable: group.state.can_write() && !closed,
        readable: group.state.can_read(),
    };
    (routed, closed)
}

/// Groups that could be added to a route.
fn others(picture: &Picture, route: &SubjectRoute) -> Vec<String> {
    (picture.eligible(&route.subject).into_iter())
        .map(|group| group.name.clone())
        .filter(|name| !route.groups.contains(name))
        .collect()
}

fn delay_groups(picture: &Picture, subject: &str) -> Vec<String> {
    let open: Vec<&BrokerGroup> = (picture.groups.values())
        .filter(|group| group.kind == GroupKind::Delay && group.state != GroupState::None)
        .filter(|group| !group.retiring && !picture.is_readonly(subject, &group.name))
        .collect();
    let taking: Vec<&BrokerGroup> = (open.iter().copied())
        .filter(|group| group.state.can_write())
        .collect();
    let candidates = if taking.is_empty() { open } else { taking };
    let names = candidates.iter().map(|group| group.name.as_str());
    let chosen = choice::by_name(subject, names, DELAY_GROUPS);
    chosen.into_iter().map(ToOwned::to_owned).collect()
}
