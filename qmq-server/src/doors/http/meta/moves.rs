//! Moving subjects between broker groups: `Rebalance`, `Decommission`, `Recommission` and `DropGroup`. QMQ has none of them.
//!
//! One request is one step, and says how far it came; whoever asks goes on until nothing is left. All state is in the database: a step may be repeated,
//! left out, and asked of another meta server.

use std::time::Duration;

use axum::response::Response;
use qmq_meta::{Move, Plan, Progress};
use serde::Serialize;

use super::MetaHttp;
use super::form::Form;
use super::shapes::{failed, ok};

/// Moves begun by one step, unless `max` says otherwise.
const BEGIN_MAX: usize = 100;
/// Most that `max` may say.
const BEGIN_MAX_MAX: usize = 10_000;
/// How long one step looks at brokers: the connection must be done within 30 s.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct MoveShape {
    subject: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Serialize)]
struct PlanShape {
    moves: Vec<MoveShape>,
    draining: Vec<MoveShape>,
}

impl From<Plan> for PlanShape {
    fn from(plan: Plan) -> Self {
        let shapes = |moves: Vec<Move>| {
            let shape = |one: Move| MoveShape {
                subject: one.subject,
                from: one.from,
                to: one.to,
            };
            moves.into_iter().map(shape).collect()
        };
        Self {
            moves: shapes(plan.moves),
            draining: shapes(plan.draining),
        }
    }
}

#[derive(Serialize)]
struct Problem {
    subject: String,
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressShape {
    begun: usize,
    ended: usize,
    to_begin: usize,
    waiting: usize,
    done: bool,
    problems: Vec<Problem>,
}

impl From<Progress> for ProgressShape {
    fn from(progress: Progress) -> Self {
        let problem = |(subject, reason)| Problem { subject, reason };
        Self {
            begun: progress.begun,
            ended: progress.ended,
            to_begin: progress.to_begin,
            waiting: progress.waiting,
            done: progress.is_done(),
            problems: progress.problems.into_iter().map(problem).collect(),
        }
    }
}

fn is_dry(form: &Form) -> Result<bool, String> {
    match form.get("dryRun") {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        _ => Err("dryRun is true or false".to_owned()),
    }
}

fn begin_max(form: &Form) -> Result<usize, String> {
    let max = match form.get("max") {
        "" => Ok(BEGIN_MAX),
        text => text.parse(),
    };
    max.ok()
        .filter(|max| *max <= BEGIN_MAX_MAX)
        .ok_or_else(|| format!("max is a number from 0 to {BEGIN_MAX_MAX}"))
}

fn group(form: &Form) -> Result<&str, String> {
    match form.get("brokerGroup") {
        "" => Err("brokerGroup is missing".to_owned()),
        group => Ok(group),
    }
}

fn answer<T: Serialize>(done: Result<T, String>) -> Response {
    match done {
        Ok(data) => ok(data),
        Err(why) => failed(why),
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Either {
    Plan(PlanShape),
    Progress(ProgressShape),
}

pub(super) async fn rebalance(door: &MetaHttp, form: &Form) -> Response {
    let step = async {
        if is_dry(form)? {
            return Ok(Either::Plan(door.meta.rebalance_plan().into()));
        }
        let looking = door.brokers.look(LOOK_LIMIT);
        let step = door.meta.rebalance(begin_max(form)?, &*looking).await;
        step.map(|progress| Either::Progress(progress.into()))
            .map_err(|error| error.to_string())
    };
    answer(step.await)
}

pub(super) async fn decommission(door: &MetaHttp, form: &Form) -> Response {
    let step = async {
        let group = group(form)?;
        if is_dry(form)? {
            let plan = door
                .meta
                .decommission_plan(group)
                .map_err(|error| error.to_string())?;
            return Ok(Either::Plan(plan.into()));
        }
        let looking = door.brokers.look(LOOK_LIMIT);
        let step = door.meta.decommission(group, begin_max(form)?, &*looking);
        step.await
            .map(|progress| Either::Progress(progress.into()))
            .map_err(|error| error.to_string())
    };
    answer(step.await)
}

pub(super) async fn recommission(door: &MetaHttp, form: &Form) -> Response {
    let done = async {
        let done = door.meta.recommission(group(form)?).await;
        done.map(|()| "success").map_err(|error| error.to_string())
    };
    answer(done.await)
}

pub(super) async fn drop_group(door: &MetaHttp, form: &Form) -> Response {
    let done = async {
        let done = door.meta.drop_group(group(form)?).await;
        done.map(|()| "success").map_err(|error| error.to_string())
    };
    answer(done.await)
}
