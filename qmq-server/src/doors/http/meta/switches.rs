//! `/onoffline`, `/subject/consumers` and `/slave/meta`.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use qmq_meta::Standing;

use super::form::{Form, FormError};
use super::shapes::{done, failed, grouped, text};
use super::{MetaHttp, NO_TOKEN};

/// Port of a slave whose HTTP port nobody entered (QMQ: `BrokerMetaManager`).
const SLAVE_HTTP_PORT: u16 = 8080;

fn form(query: Option<String>) -> Result<Form, FormError> {
    let mut form = Form::default();
    form.add(query.unwrap_or_default().as_bytes())?;
    Ok(form)
}

fn unreadable(error: &FormError) -> Response {
    text(StatusCode::BAD_REQUEST, format!("{error}\n"))
}

/// Switches consumers on and off, or says how they are.
pub(super) async fn onoffline(
    State(door): State<MetaHttp>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if !door.compat && door.caller(&headers).is_none() {
        return failed(NO_TOKEN);
    }
    let form = match form(query) {
        Ok(form) => form,
        Err(error) => return unreadable(&error),
    };
    let names = ["operation", "clientId", "subject", "consumerGroup"];
    let [operation, client, subject, group] = names.map(|name| form.get(name));
    let state = form.get("state").parse::<i32>();
    let missing = [operation, client, subject, group].contains(&"");
    let (false, Ok(state)) = (missing, state) else {
        return failed("invalid parameter");
    };
    match operation {
        "update" => {
            let standing = match state {
                0 => Standing::Online,
                _ => Standing::Offline,
            };
            match door.meta.switch(client, subject, group, standing).await {
                Ok(()) => {
                    tracing::info!(client, subject, group, ?standing, "consumers were switched");
                    done::<()>("ok", None)
                }
                Err(error) => failed(error.to_string()),
            }
        }
        "query" => done::<()>(
            match door.meta.standing(client, subject, group) {
                Standing::Online => "ON",
                Standing::Offline => "OFF",
            },
            None,
        ),
        _ => failed(format!("unsupport: {operation}")),
    }
}

/// Who consumes a subject.
pub(super) async fn consumers(
    State(door): State<MetaHttp>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if !door.compat && door.caller(&headers).is_none() {
        return failed(NO_TOKEN);
    }
    let form = match form(query) {
        Ok(form) => form,
        Err(error) => return unreadable(&error),
    };
    match form.get("subject") {
        "" => failed("请求的主题不能为空"),
        subject => match door.meta.consumers(subject).await {
            Ok(rows) => done("成功", Some(grouped(subject, rows))),
            Err(error) => {
                tracing::warn!(subject, %error, "consumers cannot be listed");
                failed(format!("未知错误: {error}"))
            }
        },
    }
}

/// `ip:port` of the HTTP of a group's slave, or nothing.
pub(super) async fn slave(State(door): State<MetaHttp>, RawQuery(query): RawQuery) -> Response {
    let form = match form(query) {
        Ok(form) => form,
        Err(error) => return unreadable(&error),
    };
    let slave = match form.get("groupName") {
        "" => None,
        group => door.meta.slave_of(group),
    };
    let answer = slave.map(|slave| {
        let port = (door.http_ports)(&slave.hostname, slave.serve_port);
        let ip = match slave.ip.contains(':') {
            true => format!("[{}]", slave.ip),
            false => slave.ip,
        };
        format!("{ip}:{}", port.unwrap_or(SLAVE_HTTP_PORT))
    });
    text(StatusCode::OK, answer.unwrap_or_default())
}
