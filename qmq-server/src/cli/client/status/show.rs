//! A look at all brokers, as tables for people and as lines for programs.

use std::cmp::Reverse;

use qmq_client::SubjectStatus;
use qmq_wire::GroupStatus;
use serde::Serialize;

use super::reading::{Before, Reading, Seen, name};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output, bytes, count, table};

/// Rows of a table that a person gets without --all.
const ROWS_MAX: usize = 40;

/// Makes room for the next look.
pub(super) fn clear(out: &mut Output) -> Result<(), Failure> {
    out.text("\x1b[H\x1b[2J")
}

/// A group of a subject, or a subject without groups.
struct Row<'a> {
    address: &'a str,
    before: &'a Before<'a>,
    subject: &'a SubjectStatus,
    group: Option<&'a GroupStatus>,
}

/// Prints the tables.
pub(super) fn for_people(
    out: &mut Output,
    seen: &Reading,
    before: Option<&Reading>,
    all: bool,
    rates: bool,
) -> Result<(), Failure> {
    let befores: Vec<_> = seen
        .brokers
        .iter()
        .map(|now| Before::new(now, before.and_then(|before| before.of(&now.address))))
        .collect();
    out.line(nodes(seen, &befores, rates).to_string())?;
    for seen in &seen.brokers {
        if let Ok(node) = &seen.node {
            if !node.trouble.is_empty() {
                out.line(format!("{}: {}", node.node, node.trouble))?;
            }
            if node.draining {
                out.line(format!(
                    "{} is ending: it takes no more messages",
                    node.node
                ))?;
            }
        }
    }
    out.line("")?;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (seen, before) in seen.brokers.iter().zip(&befores) {
        for subject in &seen.subjects {
            let row = |group| Row {
                address: &seen.address,
                before,
                subject,
                group,
            };
            if subject.groups.is_empty() {
                rows.push(row(None));
            }
            rows.extend(subject.groups.iter().map(|group| row(Some(group))));
        }
    }
    if rows.is_empty() {
        return out.line("no subjects");
    }
    let in_all = rows.len();
    if !all && in_all > ROWS_MAX {
        // The order among equals stays that of the names.
        rows.sort_by_key(|row| Reverse(row.group.map(|group| (group.lag, group.unacked))));
        rows.truncate(ROWS_MAX);
    }
    out.line(groups(&rows, seen.brokers.len() > 1, rates).to_string())?;
    if rows.len() < in_all {
        out.line(format!(
            "\n{} of {} rows, those with the most lag; --all shows all, a pattern such as 'order.*' some",
            rows.len(),
            count(in_all as u64)
        ))?;
    }
    Ok(())
}

fn nodes(seen: &Reading, befores: &[Before<'_>], rates: bool) -> comfy_table::Table {
    let mut header = vec![
        "node",
        "group",
        "address",
        "up",
        "connections",
        "subscriptions",
        "subjects",
        "log",
        "free disk",
    ];
    if rates {
        header.extend(["in/s", "out/s", "acked/s"]);
    } else {
        header.extend(["in", "out", "acked"]);
    }
    let mut rows = table(&header, &[3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for (seen, before) in seen.brokers.iter().zip(befores) {
        match &seen.node {
            Ok(node) => {
                let mut row = vec![
                    node.node.clone(),
                    node.group.clone(),
                    seen.address.clone(),
                    uptime(node.uptime_ms),
                    count(node.connections),
                    count(node.subscriptions),
                    count(node.subjects),
                    bytes(node.log_bytes),
                    bytes(node.free_bytes),
                ];
                let earlier = before.node;
                for (now, before_it) in [
                    (node.produced, earlier.map(|node| node.produced)),
                    (node.delivered, earlier.map(|node| node.delivered)),
                    (node.acked, earlier.map(|node| node.acked)),
                ] {
                    row.push(if rates {
                        shown(before.rate(now, before_it))
                    } else {
                        count(now)
                    });
                }
                rows.add_row(row);
            }
            Err(error) => {
                rows.add_row(["-", "-", seen.address.as_str(), &error.to_string()]);
            }
        }
    }
    rows
}

fn groups(seen: &[Row<'_>], several: bool, rates: bool) -> comfy_table::Table {
    let mut header = vec![
        "subject",
        "kept",
        "group",
        "lag",
        "unacked",
        "waiting",
        "skipped",
        "online/known",
    ];
    if rates {
        header.extend(["in/s", "out/s"]);
    }
    let mut numbers = vec![1, 3, 4, 5, 6, 7];
    numbers.extend(8..header.len());
    if several {
        header.push("address");
    }
    let mut rows = table(&header, &numbers);
    for row in seen {
        let subject = row.subject;
        let mut cells = vec![subject.subject.clone(), count(kept(subject))];
        match row.group {
            Some(group) => cells.extend([
                name(group),
                count(group.lag),
                count(group.unacked),
                count(group.waiting),
                count(group.skipped),
                format!("{}/{}", online(group), group.consumers.len()),
            ]),
            None => cells.extend(["-"; 6].map(str::to_owned)),
        }
        if rates {
            cells.push(shown(row.before.rate_in(subject)));
            let out = row
                .group
                .and_then(|group| row.before.rate_out(subject, group));
            cells.push(shown(out));
        }
        if several {
            cells.push(row.address.to_owned());
        }
        rows.add_row(cells);
    }
    rows
}

fn kept(subject: &SubjectStatus) -> u64 {
    subject.next_sequence.saturating_sub(subject.first_sequence)
}

fn online(group: &GroupStatus) -> usize {
    group.consumers.iter().filter(|c| c.online).count()
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), output::rate)
}

/// The two greatest units.
fn uptime(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Node {
        address: &'a str,
        node: &'a str,
        group: &'a str,
        version: &'a str,
        uptime_ms: u64,
        connections: u64,
        subscriptions: u64,
        subjects: u64,
        log_bytes: u64,
        unsynced_bytes: u64,
        free_bytes: u64,
        produced: u64,
        delivered: u64,
        acked: u64,
        produced_per_s: Option<f64>,
        delivered_per_s: Option<f64>,
        acked_per_s: Option<f64>,
        draining: bool,
        trouble: &'a str,
    },
    Unreachable {
        address: &'a str,
        error: String,
    },
    Subject {
        address: &'a str,
        subject: &'a str,
        first_sequence: u64,
        next_sequence: u64,
        groups: usize,
        in_per_s: Option<f64>,
    },
    Group {
        address: &'a str,
        subject: &'a str,
        group: &'a str,
        broadcast: bool,
        consumer: Option<&'a str>,
        cursor: u64,
        lag: u64,
        unacked: u64,
        waiting: u64,
        skipped: u64,
        consumers_online: usize,
        consumers: usize,
        out_per_s: Option<f64>,
    },
}

/// Prints the lines.
pub(super) fn for_programs(
    out: &mut Output,
    seen: &Reading,
    before: Option<&Reading>,
) -> Result<(), Failure> {
    for seen in &seen.brokers {
        let before = Before::new(seen, before.and_then(|before| before.of(&seen.address)));
        out.json(&node_line(seen, &before))?;
        for subject in &seen.subjects {
            out.json(&Line::Subject {
                address: &seen.address,
                subject: &subject.subject,
                first_sequence: subject.first_sequence,
                next_sequence: subject.next_sequence,
                groups: subject.groups.len(),
                in_per_s: before.rate_in(subject),
            })?;
            for group in &subject.groups {
                let only = group.consumers.first().filter(|_| group.broadcast);
                out.json(&Line::Group {
                    address: &seen.address,
                    subject: &subject.subject,
                    group: &group.group,
                    broadcast: group.broadcast,
                    consumer: only.map(|only| only.consumer.as_str()),
                    cursor: group.cursor,
                    lag: group.lag,
                    unacked: group.unacked,
                    waiting: group.waiting,
                    skipped: group.skipped,
                    consumers_online: online(group),
                    consumers: group.consumers.len(),
                    out_per_s: before.rate_out(subject, group),
                })?;
            }
        }
    }
    Ok(())
}

fn node_line<'a>(seen: &'a Seen, before: &Before<'_>) -> Line<'a> {
    let node = match &seen.node {
        Ok(node) => node,
        Err(error) => {
            return Line::Unreachable {
                address: &seen.address,
                error: error.to_string(),
            };
        }
    };
    let earlier = before.node;
    Line::Node {
        address: &seen.address,
        node: &node.node,
        group: &node.group,
        version: &node.version,
        uptime_ms: node.uptime_ms,
        connections: node.connections,
        subscriptions: node.subscriptions,
        subjects: node.subjects,
        log_bytes: node.log_bytes,
        unsynced_bytes: node.unsynced_bytes,
        free_bytes: node.free_bytes,
        produced: node.produced,
        delivered: node.delivered,
        acked: node.acked,
        produced_per_s: before.rate(node.produced, earlier.map(|node| node.produced)),
        delivered_per_s: before.rate(node.delivered, earlier.map(|node| node.delivered)),
        acked_per_s: before.rate(node.acked, earlier.map(|node| node.acked)),
        draining: node.draining,
        trouble: &node.trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uptime_has_its_two_greatest_units() {
        assert_eq!(uptime(999), "0s");
        assert_eq!(uptime(61_000), "1m 1s");
        assert_eq!(uptime(3_660_000), "1h 1m");
        assert_eq!(uptime(90_000_000), "1d 1h");
    }
}
