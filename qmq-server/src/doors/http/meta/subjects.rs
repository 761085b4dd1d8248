//! Actions on subjects and their routes.

use std::collections::BTreeMap;

use axum::response::Response;
use qmq_client::ResetTo;
use qmq_meta::{DatabaseError, MetaError, SubjectRoute};
use tokio::task::JoinSet;

use super::MetaHttp;
use super::form::Form;
use super::shapes::{
    RouteShape, SubjectShape, Unsuccessful, WithSubject, failed, failed_with, json, ok,
};

/// The route of a subject.
fn route_of(door: &MetaHttp, subject: &str) -> Option<SubjectRoute> {
    let routes = door.meta.routes();
    routes.into_iter().find(|route| route.subject == subject)
}

pub(super) fn routes(door: &MetaHttp) -> Response {
    let routes = door.meta.routes();
    json(&routes.into_iter().map(RouteShape::from).collect::<Vec<_>>())
}

pub(super) fn route(door: &MetaHttp, form: &Form) -> Response {
    match form.get("subject") {
        "" => failed("subject不能为空"),
        "*" => failed("subject不能为*通配符"),
        subject => match route_of(door, subject) {
            Some(route) => ok(RouteShape::from(route)),
            None => failed(format!("subject {subject:?} has no route")),
        },
    }
}

pub(super) async fn add_group(door: &MetaHttp, form: &Form) -> Response {
    let (group, subject) = (form.get("brokerGroup"), form.get("subject"));
    if group.is_empty() || subject.is_empty() {
        return json(&Unsuccessful::new(
            "必须同时提供 brokerGroup 和 subject 两个参数",
        ));
    }
    if !door.meta.groups().iter().any(|known| known.name == group) {
        return json(&Unsuccessful::new("提供的 brokerGroup 暂时不存在"));
    }
    match door.meta.add_subject_group(group, subject).await {
        Ok(route) => json(&RouteShape::from(route)),
        // QMQ answers the route as it is.
        Err(MetaError::AlreadyRouted { route, .. }) => json(&RouteShape::from(*route)),
        Err(error) => {
            let route = route_of(door, subject);
            json(&match (error, route) {
                (MetaError::Database(DatabaseError::Changed { .. }), Some(route)) => Unsuccessful {
                    subject_route: Some(route.into()),
                    ..Unsuccessful::new("扩充 subject 对应 brokerGroup 失败，请参考下面的当前配置")
                },
                (error, _) => Unsuccessful::new(error.to_string()),
            })
        }
    }
}

pub(super) async fn remove_group(door: &MetaHttp, form: &Form) -> Response {
    let (group, subject) = (form.get("brokerGroup"), form.get("subject"));
    if group.is_empty() || subject.is_empty() {
        return failed("必须同时提供 brokerGroup 和 subject 两个参数");
    }
    let nothing = BTreeMap::<String, String>::new();
    match door.meta.remove_subject_group(group, subject).await {
        Ok(errors) if errors.is_empty() => ok(nothing),
        Ok(errors) => {
            let errors = errors.into_iter().map(|(subject, why)| {
                let why = in_words_of_qmq(door, &subject, why);
                (subject, why)
            });
            let errors: BTreeMap<String, String> = errors.collect();
            match subject {
                "*" => failed_with("部分主题路由缩减失败", errors),
                _ => failed_with("路由缩减失败", errors),
            }
        }
        Err(error @ MetaError::Refused { .. }) => match route_of(door, subject) {
            None if subject != "*" => {
                failed_with("提供的 subject 暂时没有分配过 brokerGroup", nothing)
            }
            // There is nothing to be done.
            Some(route) if !route.groups.iter().any(|known| known == group) => ok(nothing),
            _ => failed(error.to_string()),
        },
        Err(error) => failed(error.to_string()),
    }
}

/// Why a group stays in a route.
fn in_words_of_qmq(door: &MetaHttp, subject: &str, why: String) -> String {
    match route_of(door, subject) {
        Some(route) if route.groups.len() == 1 => {
            format!("不允许删除主题的最后一个 brokerGroup: {why}")
        }
        _ => why,
    }
}

pub(super) async fn add(door: &MetaHttp, form: &Form) -> Response {
    let (subject, tag) = (form.get("subject"), form.get("tag"));
    if subject.is_empty() || tag.is_empty() {
        return json(&Unsuccessful::new("必须同时提供 subject 和 tag 两个参数"));
    }
    match door.meta.add_subject(subject, tag).await {
        Ok(subject) => json(&WithSubject {
            data: subject.into(),
        }),
        Err(MetaError::SubjectExists { subject }) => json(&Unsuccessful {
            data: Some(SubjectShape::from(*subject)),
            ..Unsuccessful::new("主题已存在")
        }),
        Err(error) => json(&Unsuccessful::new(error.to_string())),
    }
}

pub(super) async fn extend(door: &MetaHttp, form: &Form) -> Response {
    let names = ["relatedSubject", "relatedBrokerGroup", "newBrokerGroup"];
    let [subject, related, new] = names.map(|name| form.get(name));
    if [subject, related, new].contains(&"") {
        return failed(
            "必须同时提供 relatedSubject、relatedBrokerGroup 和 newBrokerGroup 三个参数",
        );
    }
    match door.meta.extend_route(subject, related, new).await {
        Ok(count) => ok(format!("成功更新{count}个subject的路由")),
        Err(error) => failed(error.to_string()),
    }
}

pub(super) async fn mark_readonly(door: &MetaHttp, form: &Form) -> Response {
    let (subject, group) = (form.get("subject"), form.get("brokerGroup"));
    if subject.is_empty() || group.is_empty() {
        return failed("必须同时提供 subject 和 brokerGroup 两个参数");
    }
    match door.meta.mark_readonly(subject, group).await {
        Ok(()) => ok("success"),
        Err(error) => failed(error.to_string()),
    }
}

pub(super) async fn unmark_readonly(door: &MetaHttp, form: &Form) -> Response {
    let (subject, group) = (form.get("subject"), form.get("brokerGroup"));
    if subject.is_empty() || group.is_empty() {
        return failed("必须同时提供 subject 和 brokerGroup 两个参数");
    }
    match door.meta.unmark_readonly(subject, group).await {
        // QMQ does not tell a setting that was not there from one that was.
        Ok(_) => ok("success"),
        Err(error) => failed(error.to_string()),
    }
}

/// Moves a consumer group at the master of every broker group of the route, all at once: `tools.sh` waits for 2 s.
pub(super) async fn reset(door: &MetaHttp, form: &Form) -> Response {
    let (subject, consumers) = (form.get("subject"), form.get("group"));
    if subject.is_empty() || consumers.is_empty() {
        return failed("subject and consumerGroup required");
    }
    let to = match form.get("code") {
        "1" => ResetTo::Latest,
        "2" => ResetTo::Earliest,
        _ => return failed("action must 1 or 2, LATEST=1, EARLIEST=2"),
    };
    let groups = door.meta.masters_of(subject);
    if groups.is_empty() {
        return failed("find no route");
    }
    let mut resets = JoinSet::new();
    for group in groups {
        let brokers = std::sync::Arc::clone(&door.brokers);
        let (subject, consumers) = (subject.to_owned(), consumers.to_owned());
        resets.spawn(async move {
            let done = match group.master.is_empty() {
                true => Err("its master has not registered yet".to_owned()),
                false => {
                    let master = &group.master;
                    brokers
                        .reset(&group.name, master, &subject, &consumers, to)
                        .await
                }
            };
            (group.name, done)
        });
    }
    let mut failures = Vec::new();
    while let Some(ended) = resets.join_next().await {
        match ended {
            Ok((group, Err(why))) => failures.push(format!("brokerGroupName={group}: {why}")),
            Ok((_, Ok(()))) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.is_empty() {
        true => ok("success"),
        false => {
            failures.sort();
            failed(format!("reset failed: {}", failures.join("; ")))
        }
    }
}
