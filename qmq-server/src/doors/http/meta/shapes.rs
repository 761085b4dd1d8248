//! Answers in JSON, as QMQ's meta server writes them: the same names, in the same order (`ActionResult`, `BrokerMeta`, `BrokerGroup`, `SubjectRoute`,
//! `SubjectInfo`, `GroupedConsumer`).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use qmq_meta::{Broker, BrokerGroup, ClientRow, GroupKind, Subject, SubjectRoute};
use serde::Serialize;

const JSON: &str = "application/json;charset=utf-8";
const TEXT: &str = "text/plain;charset=utf-8";

/// JSON with a line end behind it, and status 200, whatever it says.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(header::CONTENT_TYPE, JSON)], text + "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], text).into_response()
}

/// QMQ's `ActionResult` and `JsonResult`.
#[derive(Debug, Serialize)]
pub(super) struct Answer<T> {
    status: i32,
    message: String,
    data: Option<T>,
}

/// Without data.
pub(super) type Bare = Answer<()>;

/// It was done.
pub(super) fn ok<T: Serialize>(data: T) -> Response {
    done("", Some(data))
}

/// It was done, with a message.
pub(super) fn done<T: Serialize>(message: &str, data: Option<T>) -> Response {
    json(&Answer {
        status: 0,
        message: message.to_owned(),
        data,
    })
}

/// It was not done.
pub(super) fn failed(message: impl Into<String>) -> Response {
    json(&Bare {
        status: -1,
        message: message.into(),
        data: None,
    })
}

/// It was not done, with data.
pub(super) fn failed_with<T: Serialize>(message: &str, data: T) -> Response {
    json(&Answer {
        status: -1,
        message: message.to_owned(),
        data: Some(data),
    })
}

/// `{"error":...}`, as the actions on subjects answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unsuccessful {
    pub(super) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<SubjectShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject_route: Option<RouteShape>,
}

impl Unsuccessful {
    pub(super) fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            data: None,
            subject_route: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct WithSubject {
    pub(super) data: SubjectShape,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerShape {
    group: String,
    role: &'static str,
    hostname: String,
    ip: String,
    serve_port: u16,
    sync_port: i32,
}

impl From<Broker> for BrokerShape {
    fn from(broker: Broker) -> Self {
        Self {
            group: broker.group,
            role: broker.role.name(),
            hostname: broker.hostname,
            ip: broker.ip,
            serve_port: broker.serve_port,
            sync_port: broker.sync_port.map_or(-1, i32::from),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupShape {
    group_name: String,
    master: String,
    slaves: Option<Vec<String>>,
    update_time: u64,
    broker_state: &'static str,
    tag: String,
    kind: &'static str,
    ext: Option<serde_json::Value>,
}

pub(super) fn kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Normal => "NORMAL",
        GroupKind::Delay => "DELAY",
    }
}

impl From<BrokerGroup> for GroupShape {
    fn from(group: BrokerGroup) -> Self {
        let ext = group.ext.as_deref();
        Self {
            group_name: group.name,
            master: group.master,
            slaves: None,
            update_time: group.updated_ms,
            broker_state: group.state.name(),
            tag: group.tag,
            kind: kind(group.kind),
            ext: ext.and_then(|ext| serde_json::from_str(ext).ok()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteShape {
    subject: String,
    broker_groups: Vec<String>,
    version: i32,
    update_time: u64,
}

impl From<SubjectRoute> for RouteShape {
    fn from(route: SubjectRoute) -> Self {
        Self {
            subject: route.subject,
            broker_groups: route.groups,
            version: route.version,
            update_time: route.updated_ms,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubjectShape {
    name: String,
    tag: String,
    update_time: u64,
}

impl From<Subject> for SubjectShape {
    fn from(subject: Subject) -> Self {
        Self {
            name: subject.name,
            tag: subject.tag,
            update_time: subject.updated_ms,
        }
    }
}

/// The consumers of one group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumersShape {
    namespace: &'static str,
    prefix: String,
    consumer_group: String,
    owner: Option<String>,
    end_point: Vec<String>,
}

/// By group; the rows are in the order of their groups.
pub(super) fn grouped(subject: &str, rows: Vec<ClientRow>) -> Vec<ConsumersShape> {
    let mut groups: Vec<ConsumersShape> = Vec::new();
    for row in rows {
        let end = format!(
            "qmq://{}?room={}&appCode={}",
            row.client, row.room, row.application
        );
        match groups
            .iter_mut()
            .find(|group| group.consumer_group == row.group)
        {
            Some(group) => group.end_point.push(end),
            None => groups.push(ConsumersShape {
                namespace: "newqmq",
                prefix: subject.to_owned(),
                consumer_group: row.group,
                owner: None,
                end_point: vec![end],
            }),
        }
    }
    groups
}
