//! `/management`: an action, its parameters, its answer.
//!
//! QMQ's actions are `AddBroker`, `ReplaceBroker`, `ListBrokers`, `ListBrokerGroups`, `ListSubjectRoutes`, `QuerySubjectRoute`,
//! `AddSubjectBrokerGroup`, `RemoveSubjectBrokerGroup`, `AddNewSubject`, `ExtendSubjectRoute`, `AddDb`, `MarkReadonlyBrokerGroup`,
//! `UnMarkReadonlyBrokerGroup` and `ResetOffset`. Ours are `ClusterStatus`, `Rebalance`, `Decommission`, `Recommission` and `DropGroup`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;

use super::form::Form;
use super::request::parameters;
use super::shapes::{failed, text};
use super::{MetaHttp, NO_TOKEN, brokers, moves, overview, subjects};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    AddBroker,
    ReplaceBroker,
    ListBrokers,
    ListBrokerGroups,
    ListSubjectRoutes,
    QuerySubjectRoute,
    AddSubjectBrokerGroup,
    RemoveSubjectBrokerGroup,
    AddNewSubject,
    ExtendSubjectRoute,
    AddDb,
    MarkReadonlyBrokerGroup,
    UnMarkReadonlyBrokerGroup,
    ResetOffset,
    ClusterStatus,
    Rebalance,
    Decommission,
    Recommission,
    DropGroup,
}

impl Action {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "AddBroker" => Self::AddBroker,
            "ReplaceBroker" => Self::ReplaceBroker,
            "ListBrokers" => Self::ListBrokers,
            "ListBrokerGroups" => Self::ListBrokerGroups,
            "ListSubjectRoutes" => Self::ListSubjectRoutes,
            "QuerySubjectRoute" => Self::QuerySubjectRoute,
            "AddSubjectBrokerGroup" => Self::AddSubjectBrokerGroup,
            "RemoveSubjectBrokerGroup" => Self::RemoveSubjectBrokerGroup,
            "AddNewSubject" => Self::AddNewSubject,
            "ExtendSubjectRoute" => Self::ExtendSubjectRoute,
            "AddDb" => Self::AddDb,
            "MarkReadonlyBrokerGroup" => Self::MarkReadonlyBrokerGroup,
            "UnMarkReadonlyBrokerGroup" => Self::UnMarkReadonlyBrokerGroup,
            "ResetOffset" => Self::ResetOffset,
            "ClusterStatus" => Self::ClusterStatus,
            "Rebalance" => Self::Rebalance,
            "Decommission" => Self::Decommission,
            "Recommission" => Self::Recommission,
            "DropGroup" => Self::DropGroup,
            _ => return None,
        })
    }

    /// Whether it changes nothing, so that QMQ asks for no token.
    fn reads(self) -> bool {
        matches!(
            self,
            Self::ListBrokers
                | Self::ListBrokerGroups
                | Self::ListSubjectRoutes
                | Self::QuerySubjectRoute
                | Self::ClusterStatus
        )
    }
}

/// Does what is asked for.
pub(super) async fn management(State(door): State<MetaHttp>, request: Request<Body>) -> Response {
    let caller = door.caller(request.headers());
    let form = match parameters(request).await {
        Ok(form) => form,
        Err((status, why)) => return text(status, why),
    };
    let name = form.get("action");
    if name.is_empty() {
        return text(StatusCode::OK, "need provide action param\n".to_owned());
    }
    let Some(action) = Action::of_name(name) else {
        let name: String = name.chars().take(200).collect();
        return text(StatusCode::OK, format!("不支持的 action: {name}\n"));
    };
    match &caller {
        None if !(door.compat && action.reads()) => return failed(NO_TOKEN),
        Some(caller) if !action.reads() => {
            tracing::info!(caller, action = name, "a change is asked for");
        }
        _ => {}
    }
    done(&door, action, &form).await
}

async fn done(door: &MetaHttp, action: Action, form: &Form) -> Response {
    match action {
        Action::AddBroker => brokers::add(door, form).await,
        Action::ReplaceBroker => brokers::replace(door, form).await,
        Action::ListBrokers => brokers::list(door, form),
        Action::ListBrokerGroups => brokers::groups(door),
        Action::ListSubjectRoutes => subjects::routes(door),
        Action::QuerySubjectRoute => subjects::route(door, form),
        Action::AddSubjectBrokerGroup => subjects::add_group(door, form).await,
        Action::RemoveSubjectBrokerGroup => subjects::remove_group(door, form).await,
        Action::AddNewSubject => subjects::add(door, form).await,
        Action::ExtendSubjectRoute => subjects::extend(door, form).await,
        Action::AddDb => brokers::add_database(door, form).await,
        Action::MarkReadonlyBrokerGroup => subjects::mark_readonly(door, form).await,
        Action::UnMarkReadonlyBrokerGroup => subjects::unmark_readonly(door, form).await,
        Action::ResetOffset => subjects::reset(door, form).await,
        Action::ClusterStatus => overview::cluster(door),
        Action::Rebalance => moves::rebalance(door, form).await,
        Action::Decommission => moves::decommission(door, form).await,
        Action::Recommission => moves::recommission(door, form).await,
        Action::DropGroup => moves::drop_group(door, form).await,
    }
}
