//! The cluster as a meta server sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qmq_server::doors::http::meta::{DatabaseView, GroupView, NodeView, Overview};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::output::{Output, count, table, time};
use crate::cli::tools::{Metaserver, ask};

/// A meta server must have answered by then.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Answer {
    status: i32,
    message: String,
    data: Option<Overview>,
}

/// Asks.
pub(super) async fn look(metaserver: &Metaserver, token: &str) -> Result<Overview, Failure> {
    let text = ask(metaserver, token, &[("action", "ClusterStatus")], TIMEOUT).await?;
    match serde_json::from_str(&text) {
        Ok(Answer {
            status: 0,
            data: Some(data),
            ..
        }) => Ok(data),
        Ok(Answer { message, .. }) => Err(Failure::new(
            format!("{metaserver}: {message}"),
            "give --token-file=FILE or --token=TOKEN, one of the meta server's valid-api-tokens.properties",
        )),
        Err(_) => {
            let start: String = text.chars().take(200).collect();
            Err(Failure::new(
                format!("{metaserver} answers {start:?}"),
                "QMQ's meta servers do not tell how the cluster is; `qmq tools ListBrokerGroups` works with them",
            ))
        }
    }
}

/// The tables.
pub(super) fn for_people(
    out: &mut Output,
    metaserver: &Metaserver,
    seen: &Overview,
) -> Result<(), Failure> {
    let database = match &seen.database {
        DatabaseView { up: true, .. } => "database up".to_owned(),
        away => format!(
            "database away since {}: {}",
            away.since.map_or_else(|| "-".to_owned(), time),
            away.reason.as_deref().unwrap_or("-")
        ),
    };
    out.line(format!(
        "{metaserver}: {database}; {} subjects, {} routes",
        count(seen.subjects as u64),
        count(seen.routes as u64)
    ))?;
    if seen.stale {
        let from = match seen.from_snapshot {
            true => "the snapshot file",
            false => "memory",
        };
        out.line(format!("what follows is from {from}, of {}", time(seen.at)))?;
    }
    if seen.routes_to_store > 0 {
        let waiting = count(seen.routes_to_store as u64);
        out.line(format!("{waiting} routes wait for the database"))?;
    }
    out.line("")?;
    let header = [
        "group",
        "kind",
        "state",
        "master",
        "epoch",
        "subjects",
        "last seen",
        "tag",
    ];
    let mut groups = table(&header, &[4, 5]);
    for group in &seen.groups {
        groups.add_row([
            group.group.clone(),
            group.kind.clone(),
            state(group),
            or_dash(&group.master),
            count(group.epoch),
            count(group.subjects as u64),
            group
                .last_seen
                .map_or_else(|| "-".to_owned(), |at| ago(now_ms().saturating_sub(at))),
            or_dash(&group.tag),
        ]);
    }
    out.line(match seen.groups.is_empty() {
        true => "no broker groups: one appears when its master has started".to_owned(),
        false => groups.to_string(),
    })?;
    out.line("")?;
    if seen.nodes.is_empty() {
        return out.line("no brokers; enter one with `qmq tools AddBroker`");
    }
    let mut nodes = table(&["node", "group", "role", "address", "spoke here"], &[]);
    for node in &seen.nodes {
        nodes.add_row([
            format!("{}:{}", node.hostname, node.serve_port),
            node.group.clone(),
            node.role.clone(),
            address(node),
            node.silent_ms.map_or_else(|| "-".to_owned(), ago),
        ]);
    }
    out.line(nodes.to_string())
}

fn state(group: &GroupView) -> String {
    match group.retiring {
        true => format!("{}, retiring", group.state),
        false => group.state.clone(),
    }
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

fn address(node: &NodeView) -> String {
    match node.ip.contains(':') {
        true => format!("[{}]:{}", node.ip, node.serve_port),
        false => format!("{}:{}", node.ip, node.serve_port),
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn ago(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s}s ago"),
        s @ 120..7_200 => format!("{}m ago", s / 60),
        s @ 7_200..172_800 => format!("{}h ago", s / 3_600),
        s => format!("{}d ago", s / 86_400),
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Meta {
        address: String,
        version: &'a str,
        database_up: bool,
        database_away_since_ms: Option<u64>,
        database_reason: Option<&'a str>,
        stale: bool,
        from_snapshot: bool,
        at_ms: u64,
        subjects: usize,
        routes: usize,
        routes_to_store: usize,
    },
    BrokerGroup {
        group: &'a str,
        group_kind: &'a str,
        state: &'a str,
        master: &'a str,
        tag: &'a str,
        epoch: u64,
        last_seen_ms: Option<u64>,
        retiring: bool,
        subjects: usize,
    },
    Member {
        group: &'a str,
        role: &'a str,
        hostname: &'a str,
        ip: &'a str,
        port: u16,
        silent_ms: Option<u64>,
    },
}

/// The lines.
pub(super) fn for_programs(
    out: &mut Output,
    metaserver: &Metaserver,
    seen: &Overview,
) -> Result<(), Failure> {
    out.json(&Line::Meta {
        address: metaserver.to_string(),
        version: &seen.version,
        database_up: seen.database.up,
        database_away_since_ms: seen.database.since,
        database_reason: seen.database.reason.as_deref(),
        stale: seen.stale,
        from_snapshot: seen.from_snapshot,
        at_ms: seen.at,
        subjects: seen.subjects,
        routes: seen.routes,
        routes_to_store: seen.routes_to_store,
    })?;
    for group in &seen.groups {
        out.json(&Line::BrokerGroup {
            group: &group.group,
            group_kind: &group.kind,
            state: &group.state,
            master: &group.master,
            tag: &group.tag,
            epoch: group.epoch,
            last_seen_ms: group.last_seen,
            retiring: group.retiring,
            subjects: group.subjects,
        })?;
    }
    for node in &seen.nodes {
        out.json(&Line::Member {
            group: &node.group,
            role: &node.role,
            hostname: &node.hostname,
            ip: &node.ip,
            port: node.serve_port,
            silent_ms: node.silent_ms,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_has_one_unit() {
        for (ms, text) in [
            (999, "0s ago"),
            (119_000, "119s ago"),
            (120_000, "2m ago"),
            (7_200_000, "2h ago"),
            (172_800_000, "2d ago"),
        ] {
            assert_eq!(ago(ms), text);
        }
    }
}
