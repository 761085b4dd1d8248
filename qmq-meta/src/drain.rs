//! The steps of a rebalance and of a decommission.
//!
//! A subject leaves a group in three steps, each one write: the group that it gains joins its route; the group that it leaves becomes read-only for it
//! (in a decommission: the whole group retires), so that producers go elsewhere and consumers stay; and when nothing is left there for anybody, the
//! group leaves the route. What is half done is seen in the tables: a route that names a group which is read-only for that very subject or retiring,
//! beside at least as many others as a subject should have.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::admin::{readonly_row, with, without};
use crate::model::{GroupKind, GroupState, SubjectRoute};
use crate::picture::{ANY, Picture};
use crate::problem::MetaError;
use crate::share::{Emptiness, Move, Plan, Progress};
use crate::shared::Shared;

/// Problems that one step lists.
const PROBLEMS_MAX: usize = 100;
/// Brokers that one step asks at most, for each move that it may begin.
const ASKED_PER_BEGUN: usize = 4;

impl Shared {
    pub(crate) fn rebalance_plan(&self) -> Plan {
        let known = self.known.read();
        let picture = &known.picture;
        let draining = self.draining(picture);
        Plan {
            moves: moves(picture, &draining),
            draining,
        }
    }

    pub(crate) async fn rebalance(
        &self,
        begin_max: usize,
        emptiness: &dyn Emptiness,
    ) -> Result<Progress, MetaError> {
        self.read_anew().await?;
        let plan = self.rebalance_plan();
        let mut progress = Progress {
            to_begin: plan.moves.len(),
            ..Progress::default()
        };
        for step in plan.moves.iter().take(begin_max) {
            match self.begin(step).await {
                Ok(()) => {
                    progress.begun += 1;
                    progress.to_begin -= 1;
                }
                Err(error) => complain(&mut progress, &step.subject, error.to_string()),
            }
        }
        progress.waiting = plan.draining.len() + progress.begun;
        self.end_some(&plan.draining, begin_max, emptiness, &mut progress)
            .await?;
        self.read_anew().await?;
        Ok(progress)
    }

    /// Moves that were begun: the group is read-only for this very subject, and the others are enough without it.
    fn draining(&self, picture: &Picture) -> Vec<Move> {
        let enough = self.min_groups();
        let mut draining: Vec<Move> = (picture.readonly_rows().into_iter())
            .filter(|row| row.subject != ANY)
            .filter(|row| {
                (picture.route(&row.subject)).is_some_and(|route| {
                    route.groups.contains(&row.group)
                        && takers(picture, route, &row.group).count() >= enough
                })
            })
            .map(|row| Move {
                subject: row.subject,
                from: Some(row.group),
                to: None,
            })
            .collect();
        draining.sort();
        draining
    }

    async fn begin(&self, step: &Move) -> Result<(), MetaError> {
        let subject = &step.subject;
        if let Some(to) = &step.to {
            let join = self.edit_route(subject, |picture, route| {
                if !picture.takes_now(subject, to) {
                    return Err(not_taking(subject, to));
                }
                Ok((!route.groups.contains(to)).then(|| with(&route.groups, to)))
            });
            if join.await?.is_some() {
                self.changed();
            }
        }
        let Some(from) = &step.from else {
            return Ok(());
        };
        let is_safe = {
            let known = self.known.read();
            let picture = &known.picture;
            (picture.route(subject)).is_some_and(|route| {
                takers(picture, route, from).any(|name| picture.takes_now(subject, name))
            })
        };
        if !is_safe {
            return Err(left_without(subject, from));
        }
        self.noted(
            self.database
                .add_readonly(&readonly_row(subject, from))
                .await,
        )?;
        self.leaving
            .lock()
            .insert((subject.clone(), from.clone()), Instant::now());
        Ok(())
    }

    pub(crate) fn decommission_plan(&self, group: &str) -> Result<Plan, MetaError> {
        let known = self.known.read();
        let picture = &known.picture;
        let found = picture.groups.get(group).ok_or_else(|| {
            MetaError::refused(format!(
                "there is no broker group {group:?}; see qmq tools ListBrokerGroups"
            ))
        })?;
        let mut plan = Plan::default();
        if found.kind == GroupKind::Delay {
            let is_other = |name: &str| name != group;
            let another = picture.groups.values().any(|other| {
                other.kind == GroupKind::Delay
                    && is_other(&other.name)
                    && !other.retiring
                    && other.state.can_write()
                    && !picture.is_readonly_for(ANY, &other.name)
            });
            if !another {
                return Err(MetaError::refused(format!(
                    "broker group {group:?} is the last of delay servers that takes messages; add another first"
                )));
            }
            return Ok(plan);
        }
        for route in picture.routes().filter(|route| has(route, group)) {
            let remaining = takers(picture, route, group).count();
            let eligible: Vec<String> = (picture.eligible(&route.subject).into_iter())
                .map(|other| other.name.clone())
                .filter(|name| name != group && !route.groups.contains(name))
                .filter(|name| picture.takes_now(&route.subject, name))
                .collect();
            let lacking = self
                .min_groups()
                .saturating_sub(remaining)
                .min(eligible.len());
            let taking_now =
                takers(picture, route, group).any(|name| picture.takes_now(&route.subject, name));
            if !taking_now && lacking == 0 {
                return Err(left_without(&route.subject, group));
            }
            let leaves = Move {
                subject: route.subject.clone(),
                from: Some(group.to_owned()),
                to: None,
            };
            if lacking == 0 && found.retiring {
                plan.draining.push(leaves);
            } else if lacking == 0 {
                plan.moves.push(leaves);
            } else {
                let chosen =
                    crate::choice::by_load(picture, eligible, lacking, &mut self.random.lock());
                plan.moves.extend(chosen.into_iter().map(|to| Move {
                    to: Some(to),
                    ..leaves.clone()
                }));
            }
        }
        plan.moves.sort();
        plan.draining.sort();
        Ok(plan)
    }

    pub(crate) async fn decommission(
        &self,
        group: &str,
        begin_max: usize,
        emptiness: &dyn Emptiness,
    ) -> Result<Progress, MetaError> {
        self.read_anew().await?;
        let plan = self.decommission_plan(group)?;
        let joins: Vec<&Move> = (plan.moves.iter())
            .filter(|step| step.to.is_some())
            .collect();
        let mut progress = Progress {
            to_begin: joins.len(),
            ..Progress::default()
        };
        for step in joins.into_iter().take(begin_max) {
            let join = Move {
                from: None,
                ..step.clone()
            };
            match self.begin(&join).await {
                Ok(()) => {
                    progress.begun += 1;
                    progress.to_begin -= 1;
                }
                Err(error) => complain(&mut progress, &step.subject, error.to_string()),
            }
        }
        if progress.to_begin > 0 {
            progress.waiting = plan.draining.len();
            return Ok(progress);
        }
        let is_retiring = |shared: &Self| {
            let known = shared.known.read();
            (known.picture.groups.get(group)).is_some_and(|found| found.retiring)
        };
        if !is_retiring(self) {
            self.set_retiring(group, true).await?;
            tracing::warn!(meta = self.name, group, "a broker group retires");
        }
        let (draining, is_delay) = {
            let known = self.known.read();
            let picture = &known.picture;
            let found = picture.groups.get(group);
            let is_delay = found.is_some_and(|found| found.kind == GroupKind::Delay);
            let mut draining: Vec<Move> = (picture.routes())
                .filter(|route| has(route, group))
                .map(|route| Move {
                    subject: route.subject.clone(),
                    from: Some(group.to_owned()),
                    to: None,
                })
                .collect();
            draining.sort();
            (draining, is_delay)
        };
        progress.waiting = draining.len();
        if is_delay {
            progress.waiting =
                usize::from(!self.is_empty(ANY, group, emptiness, &mut progress).await);
        }
        self.end_some(&draining, begin_max, emptiness, &mut progress)
            .await?;
        self.read_anew().await?;
        Ok(progress)
    }

    /// Ends what can be ended, and goes on next time where it stopped.
    async fn end_some(
        &self,
        draining: &[Move],
        begin_max: usize,
        emptiness: &dyn Emptiness,
        progress: &mut Progress,
    ) -> Result<(), MetaError> {
        if draining.is_empty() {
            return Ok(());
        }
        let asked_max = begin_max.max(1).saturating_mul(ASKED_PER_BEGUN);
        let first = self.turn.load(Ordering::Relaxed) % draining.len();
        let mut asked = 0;
        for step in draining.iter().cycle().skip(first).take(draining.len()) {
            let Some(from) = &step.from else {
                continue;
            };
            if asked == asked_max {
                break;
            }
            self.turn.fetch_add(1, Ordering::Relaxed);
            if !self.has_settled(&step.subject, from) {
                continue;
            }
            asked += 1;
            if !self
                .is_empty(&step.subject, from, emptiness, progress)
                .await
            {
                continue;
            }
            match self.end(&step.subject, from).await {
                Ok(()) => {
                    progress.ended += 1;
                    progress.waiting -= 1;
                }
                Err(error) => complain(progress, &step.subject, error.to_string()),
            }
        }
        Ok(())
    }

    /// Whether producers have had time to leave.
    fn has_settled(&self, subject: &str, group: &str) -> bool {
        let mut leaving = self.leaving.lock();
        let since = leaving
            .entry((subject.to_owned(), group.to_owned()))
            .or_insert_with(Instant::now);
        since.elapsed() >= self.settle
    }

    async fn is_empty(
        &self,
        subject: &str,
        group: &str,
        emptiness: &dyn Emptiness,
        progress: &mut Progress,
    ) -> bool {
        if subject == ANY && !self.has_settled(subject, group) {
            return false;
        }
        let master = {
            let known = self.known.read();
            (known.picture.groups.get(group))
                .filter(|found| found.state != GroupState::None)
                .map(|found| found.master.clone())
        };
        let Some(master) = master else {
            complain(
                progress,
                subject,
                format!(
                    "broker group {group:?} is away, so that nobody can tell whether it is empty; start its master"
                ),
            );
            return false;
        };
        match emptiness.is_empty(group, &master, subject).await {
            Ok(is_empty) => is_empty,
            Err(problem) => {
                complain(progress, subject, problem);
                false
            }
        }
    }

    async fn end(&self, subject: &str, group: &str) -> Result<(), MetaError> {
        self.edit_route(subject, |picture, route| {
            if !takers(picture, route, group).any(|name| picture.takes_now(subject, name)) {
                return Err(left_without(subject, group));
            }
            if picture.takes(subject, group) {
                return Err(MetaError::refused(format!(
                    "broker group {group:?} takes messages of subject {subject:?} again; it stays in its route"
                )));
            }
            Ok(has(route, group).then(|| without(&route.groups, group)))
        })
        .await?;
        self.changed();
        let row = readonly_row(subject, group);
        if self.known.read().picture.is_readonly_for(subject, group) {
            self.noted(self.database.remove_readonly(&row).await)?;
        }
        self.leaving
            .lock()
            .remove(&(subject.to_owned(), group.to_owned()));
        Ok(())
    }
}

fn has(route: &SubjectRoute, group: &str) -> bool {
    route.groups.iter().any(|name| name == group)
}

/// The other groups of a route that take its messages.
fn takers<'a>(
    picture: &'a Picture,
    route: &'a SubjectRoute,
    but: &'a str,
) -> impl Iterator<Item = &'a String> {
    (route.groups.iter()).filter(move |name| *name != but && picture.takes(&route.subject, name))
}

fn left_without(subject: &str, group: &str) -> MetaError {
    MetaError::refused(format!(
        "without broker group {group:?} no group would take messages of subject {subject:?}; start or add another broker group first"
    ))
}

fn not_taking(subject: &str, group: &str) -> MetaError {
    MetaError::refused(format!(
        "broker group {group:?} takes no messages of subject {subject:?} at the moment"
    ))
}

fn complain(progress: &mut Progress, subject: &str, problem: String) {
    if progress.problems.len() < PROBLEMS_MAX {
        progress.problems.push((subject.to_owned(), problem));
    }
}

/// Moves after which no group of a tag serves more than one subject more than another, as far as there are subjects to move. A subject moves once at a
/// time.
fn moves(picture: &Picture, draining: &[Move]) -> Vec<Move> {
    let mut routes: Vec<&SubjectRoute> = picture.routes().collect();
    routes.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
    let busy: HashMap<&str, &str> = (draining.iter())
        .filter_map(|step| Some((step.subject.as_str(), step.from.as_deref()?)))
        .collect();
    let mut loads: HashMap<&str, u64> = HashMap::new();
    for route in &routes {
        for group in &route.groups {
            if busy.get(route.subject.as_str()) != Some(&group.as_str()) {
                *loads.entry(group).or_default() += 1;
            }
        }
    }
    let mut moves = Vec::new();
    for route in &routes {
        if busy.contains_key(route.subject.as_str()) {
            continue;
        }
        let eligible: Vec<&str> = (picture.eligible(&route.subject).into_iter())
            .map(|group| group.name.as_str())
            .collect();
        let load = |name: &str, loads: &HashMap<&str, u64>| loads.get(name).copied().unwrap_or(0);
        let from = (route.groups.iter())
            .filter(|name| eligible.contains(&name.as_str()))
            .max_by_key(|name| load(name, &loads));
        let to = (eligible.iter().copied())
            .filter(|name| !has(route, name) && picture.takes_now(&route.subject, name))
            .min_by_key(|name| load(name, &loads));
        let (Some(from), Some(to)) = (from, to) else {
            continue;
        };
        let total: u64 = eligible.iter().map(|name| load(name, &loads)).sum();
        let fair = total / eligible.len() as u64;
        if load(from, &loads) > fair.max(load(to, &loads) + 1) {
            if let Some(load) = loads.get_mut(from.as_str()) {
                *load -= 1;
            }
            *loads.entry(to).or_default() += 1;
            moves.push(Move {
                subject: route.subject.clone(),
                from: Some(from.clone()),
                to: Some(to.to_owned()),
            });
        }
    }
    moves
}
