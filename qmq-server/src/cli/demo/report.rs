//! The end of the demo, as tables for people and as lines for programs.

use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::audit::Audit;
use super::checks::Check;
use super::departures::Departures;
use super::event::GROUPS;
use super::input::Input;
use super::ledger::{Ledger, RUNS};
use super::reminders::Replay;
use super::replicated::Failover;
use crate::cli::failure::Failure;
use crate::cli::files::{DiskUse, WorkFolder};
use crate::cli::latency::Latency;
use crate::cli::output::{self, Output, bytes, count, duration, micros, rate, table};

/// The broker's lives.
const RUN_NAMES: [&str; RUNS] = ["first_run", "second_run", "third_run", "fourth_run"];

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) input: &'a Input,
    pub(super) ledger: &'a Ledger<'a>,
    pub(super) audits: &'a [Audit; 2],
    pub(super) reminders: &'a Replay,
    pub(super) departures: &'a Departures,
    pub(super) failover: &'a Failover,
    pub(super) disk: DiskUse,
}

impl Facts<'_> {
    fn latencies(&self) -> [(&'static str, &Latency); 3] {
        [
            ("stored", &self.ledger.append_latency),
            ("delivered", &self.ledger.deliver_latency),
            ("acknowledged", &self.ledger.ack_latency),
        ]
    }
}

/// Prints the tables.
pub(super) fn for_people(
    facts: &Facts<'_>,
    checks: &[Check],
    folder: &WorkFolder,
) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line(runs_table(facts).to_string())?;
    out.line("")?;
    out.line(opens_table(facts).to_string())?;
    out.line("")?;
    out.line(latency_table(facts).to_string())?;
    out.line("")?;
    out.line(reminders_table(facts.reminders).to_string())?;
    out.line("")?;
    out.line(departures_table(facts.departures).to_string())?;
    out.line("")?;
    out.line(failover_table(facts.failover).to_string())?;
    out.line("")?;
    let mut rows = table(&["check", "", "what was seen"], &[]);
    for check in checks {
        rows.add_row([
            check.name,
            if check.ok { "ok" } else { "FAILED" },
            &check.detail,
        ]);
    }
    out.line(rows.to_string())?;
    out.line("")?;
    out.line(format!(
        "{} flights, {} of bodies; {} on disk in {} files",
        count(facts.input.flights.len() as u64),
        bytes(facts.input.body_bytes),
        bytes(facts.disk.allocated),
        count(facts.disk.files)
    ))?;
    if !folder.is_temporary() {
        out.line(format!(
            "kept in {dir}; look into it with: qmq store inspect --dir {dir}/broker/store",
            dir = folder.path().display()
        ))?;
    }
    out.flush()
}

fn runs_table(facts: &Facts<'_>) -> comfy_table::Table {
    let mut header = vec![
        "the broker",
        "ended by",
        "ready in",
        "seconds",
        "stored (synced)",
    ];
    let names: Vec<String> = GROUPS
        .iter()
        .map(|name| format!("acked by {name}"))
        .collect();
    header.extend(names.iter().map(String::as_str));
    header.extend(["again", "per second"]);
    let mut rows = table(&header, &[2, 3, 4, 5, 6, 7, 8, 9]);
    for (run, name) in facts.ledger.runs.iter().zip(RUN_NAMES) {
        let acked: u64 = run.acked.iter().sum();
        let mut row = vec![
            name.replace('_', " "),
            "SIGKILL".to_owned(),
            run.opened.map_or_else(|| "-".to_owned(), duration),
            format!("{:.3}", run.lasted.as_secs_f64()),
            count(run.stored),
        ];
        row.extend(run.acked.map(count));
        row.push(count(run.again.iter().sum()));
        row.push(rate(per_second(run.stored + acked, run.lasted)));
        rows.add_row(row);
    }
    rows
}

fn opens_table(facts: &Facts<'_>) -> comfy_table::Table {
    let mut rows = table(
        &[
            "the store",
            "opened in",
            "log read again",
            "tail cut",
            "messages found",
            "copies",
        ],
        &[1, 2, 3, 4, 5],
    );
    for (name, audit) in ["after the first kill", "after the last kill"]
        .iter()
        .zip(facts.audits)
    {
        rows.add_row([
            (*name).to_owned(),
            duration(audit.opened),
            bytes(audit.replayed_bytes),
            bytes(audit.cut_bytes),
            count(audit.messages),
            count(audit.twice.count),
        ]);
    }
    rows
}

fn latency_table(facts: &Facts<'_>) -> comfy_table::Table {
    let mut rows = table(&["latency", "p50", "p99", "p99.9", "max"], &[1, 2, 3, 4]);
    for (name, latency) in facts.latencies() {
        let name = match name {
            "stored" => "send until synced and acknowledged (many in flight)",
            "delivered" => "send until handed to a consumer",
            _ => "acknowledge until confirmed",
        };
        rows.add_row([
            name.to_owned(),
            micros(latency.quantile_us(0.5)),
            micros(latency.quantile_us(0.99)),
            micros(latency.quantile_us(0.999)),
            micros(latency.max_us()),
        ]);
    }
    rows
}

fn reminders_table(seen: &Replay) -> comfy_table::Table {
    let names = [
        "reminders",
        "cancelled",
        "re-timed",
        "too late for either",
        "handed out",
        "again",
        "virtual time",
        "seconds",
    ];
    let mut rows = table(&names, &[0, 1, 2, 3, 4, 5, 6, 7]);
    rows.add_row([
        count(seen.scheduled),
        count(seen.cancelled),
        count(seen.retimed),
        count(seen.too_late),
        count(seen.fired),
        count(seen.again),
        format!("{} days", seen.virtual_time.as_secs() / 86_400),
        format!("{:.3}", seen.took.as_secs_f64()),
    ]);
    rows
}

fn departures_table(seen: &Departures) -> comfy_table::Table {
    let names = [
        "delayed",
        "cancelled",
        "delivered",
        "again",
        "at most late",
        "seconds",
    ];
    let mut rows = table(&names, &[0, 1, 2, 3, 4, 5]);
    rows.add_row([
        count(seen.scheduled),
        count(seen.cancelled),
        count(seen.called),
        count(seen.again),
        duration(seen.late_max),
        format!("{:.3}", seen.took.as_secs_f64()),
    ]);
    rows
}

fn failover_table(seen: &Failover) -> comfy_table::Table {
    let names = [
        "on master and slave",
        "acked before the drop",
        "not yet acknowledged",
        "lost tail",
        "slave took over in",
        "seconds",
    ];
    let mut rows = table(&names, &[0, 1, 2, 3, 4, 5]);
    rows.add_row([
        count(seen.found),
        count(seen.acked_before),
        count(seen.open),
        bytes(seen.lost_bytes),
        duration(seen.takeover),
        format!("{:.3}", seen.took.as_secs_f64()),
    ]);
    rows
}

fn per_second(messages: u64, took: Duration) -> f64 {
    if took.is_zero() {
        0.0
    } else {
        messages as f64 / took.as_secs_f64()
    }
}

#[derive(Serialize)]
struct RunLine<'a> {
    stage: &'a str,
    stored: u64,
    acked: u64,
    handed_out_again: u64,
    seconds: f64,
    stored_per_s: f64,
    acked_per_s: f64,
    ready_us: u128,
}

#[derive(Serialize)]
struct OpenLine<'a> {
    stage: &'a str,
    messages: u64,
    copies: u64,
    clean: bool,
    open_us: u128,
    replayed_bytes: u64,
    cut_bytes: u64,
}

#[derive(Serialize)]
struct LatencyLine<'a> {
    stage: &'a str,
    name: &'a str,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

#[derive(Serialize)]
struct RemindersLine<'a> {
    stage: &'a str,
    scheduled: u64,
    cancelled: u64,
    retimed: u64,
    too_late: u64,
    fired: u64,
    fired_again: u64,
    virtual_seconds: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct DeparturesLine<'a> {
    stage: &'a str,
    scheduled: u64,
    cancelled: u64,
    delivered: u64,
    delivered_again: u64,
    late_max_us: u128,
    seconds: f64,
}

#[derive(Serialize)]
struct FailoverLine<'a> {
    stage: &'a str,
    stored: u64,
    acked_before: u64,
    open: u64,
    done_before: u64,
    lost_tail_bytes: u64,
    takeover_us: u128,
    seconds: f64,
}

/// The last line: the checks stand beside `flights` and `ok`, by name.
struct Verdict<'a>(&'a Facts<'a>, &'a [Check]);

impl Serialize for Verdict<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(facts, checks) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("flights", &facts.input.flights.len())?;
        map.serialize_entry("ok", &checks.iter().all(|check| check.ok))?;
        for check in *checks {
            map.serialize_entry(check.name, &check.ok)?;
        }
        map.serialize_entry("subjects", &facts.input.routes.len())?;
        map.serialize_entry("body_bytes", &facts.input.body_bytes)?;
        map.serialize_entry("disk_bytes", &facts.disk.allocated)?;
        map.end()
    }
}

/// Prints the lines.
pub(super) fn for_programs(facts: &Facts<'_>, checks: &[Check]) -> Result<(), Failure> {
    let mut out = Output::new();
    for (run, stage) in facts.ledger.runs.iter().zip(RUN_NAMES) {
        let acked = run.acked.iter().sum();
        out.json(&RunLine {
            stage,
            stored: run.stored,
            acked,
            handed_out_again: run.again.iter().sum(),
            seconds: run.lasted.as_secs_f64(),
            stored_per_s: per_second(run.stored, run.lasted),
            acked_per_s: per_second(acked, run.lasted),
            ready_us: run.opened.unwrap_or_default().as_micros(),
        })?;
    }
    for (audit, stage) in facts.audits.iter().zip(["first_reopen", "last_reopen"]) {
        out.json(&OpenLine {
            stage,
            messages: audit.messages,
            copies: audit.twice.count,
            clean: audit.clean,
            open_us: audit.opened.as_micros(),
            replayed_bytes: audit.replayed_bytes,
            cut_bytes: audit.cut_bytes,
        })?;
    }
    for (name, latency) in facts.latencies() {
        out.json(&LatencyLine {
            stage: "latency",
            name,
            p50_us: latency.quantile_us(0.5),
            p99_us: latency.quantile_us(0.99),
            p999_us: latency.quantile_us(0.999),
            max_us: latency.max_us(),
        })?;
    }
    let seen = facts.reminders;
    out.json(&RemindersLine {
        stage: "reminders",
        scheduled: seen.scheduled,
        cancelled: seen.cancelled,
        retimed: seen.retimed,
        too_late: seen.too_late,
        fired: seen.fired,
        fired_again: seen.again,
        virtual_seconds: seen.virtual_time.as_secs(),
        seconds: seen.took.as_secs_f64(),
    })?;
    let seen = facts.failover;
    let departures = facts.departures;
    out.json(&DeparturesLine {
        stage: "departures",
        scheduled: departures.scheduled,
        cancelled: departures.cancelled,
        delivered: departures.called,
        delivered_again: departures.again,
        late_max_us: departures.late_max.as_micros(),
        seconds: departures.took.as_secs_f64(),
    })?;
    out.json(&FailoverLine {
        stage: "replicated",
        stored: seen.found,
        acked_before: seen.acked_before,
        open: seen.open,
        done_before: seen.done_before,
        lost_tail_bytes: seen.lost_bytes,
        takeover_us: seen.takeover.as_micros(),
        seconds: seen.took.as_secs_f64(),
    })?;
    for check in checks.iter().filter(|check| !check.ok) {
        output::note(&format!("{}: {}", check.name, check.detail));
    }
    out.json(&Verdict(facts, checks))?;
    out.flush()
}
