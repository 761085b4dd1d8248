//! The order of the rounds: engines take turns, so that a slow minute of the machine hits all.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cli::{Arguments, Plan};
use crate::engine::{Kind, kinds};
use crate::folder::{self, Scratch};
use crate::measure::{Sample, measure};
use crate::mode::Mode;
use crate::report::{Report, Series};

/// No round of a buffered or batch mode takes longer than this.
const BUFFERED_SECONDS_MAX: f64 = 5.0;

/// Measures what the plan says in this process and prints one line of JSON.
pub fn one(plan: &Plan) -> Result<()> {
    let kind = kinds().into_iter().find(|kind| kind.name == plan.engine);
    let kind = kind.with_context(|| format!("no engine {} in this build", plan.engine))?;
    let engine = (kind.open)(&plan.dir, plan)?;
    let sample = measure(engine.as_ref(), plan)?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Every chosen engine in every chosen mode.
pub fn all(arguments: &Arguments) -> Result<()> {
    let kinds = chosen_kinds(&arguments.engines)?;
    let modes = [
        Mode::Buffered1k,
        Mode::Buffered100,
        Mode::Batch1k,
        Mode::Batch100,
        Mode::Synced1,
        Mode::Synced64,
        Mode::Inflight64,
    ];
    let mut reports = Vec::new();
    for mode in modes {
        if arguments.modes.is_empty() || arguments.modes.contains(&mode) {
            let report = one_mode(arguments, &kinds, mode)?;
            if !arguments.json {
                println!("{}", report.table());
            }
            reports.push(report);
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(())
}

fn chosen_kinds(names: &[String]) -> Result<Vec<Kind>> {
    let mut kinds = kinds();
    if let Some(name) = names
        .iter()
        .find(|name| kinds.iter().all(|kind| kind.name != **name))
    {
        let known: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
        bail!(
            "no engine {name} in this build; there are {}",
            known.join(", ")
        );
    }
    kinds.retain(|kind| names.is_empty() || names.iter().any(|name| name == kind.name));
    Ok(kinds)
}

fn one_mode(arguments: &Arguments, kinds: &[Kind], mode: Mode) -> Result<Report> {
    let scratch = Scratch::new(arguments.dir.as_deref(), mode)?;
    let messages = arguments.messages.unwrap_or(mode.messages_default());
    let seconds = if mode.is_synced() {
        arguments.seconds
    } else {
        BUFFERED_SECONDS_MAX
    };
    let mut report = Report::new(mode, folder::kind(scratch.path())?, messages, seconds);
    for kind in kinds.iter().filter(|kind| (kind.supports)(mode)) {
        report.series.push(Series::new(kind.name, kind.is_peer));
    }
    for round in 0..=arguments.rounds {
        for series in &mut report.series {
            let plan = Plan {
                engine: series.engine.clone(),
                mode,
                dir: scratch.path().join(format!("{}-{round}", series.engine)),
                messages,
                seconds,
            };
            eprintln!(
                "{}: {} round {round} of {}",
                mode.name(),
                series.engine,
                arguments.rounds
            );
            if !mode.is_synced() {
                // Enough for the records, an index, and buffers of the process.
                folder::warm(scratch.path(), 2 * messages * mode.record_bytes() as u64)?;
            }
            match child(&plan) {
                // Round 0 warms caches.
                Ok(_) if round == 0 => {}
                Ok(sample) => series.samples.push(sample),
                Err(error) => eprintln!("{} failed: {error:#}", series.engine),
            }
        }
    }
    Ok(report)
}

/// One round in a process of its own, in a folder of its own.
fn child(plan: &Plan) -> Result<Sample> {
    fs::create_dir(&plan.dir)?;
    let result = start(plan);
    fs::remove_dir_all(&plan.dir)?;
    result
}

fn start(plan: &Plan) -> Result<Sample> {
    let dir: &Path = &plan.dir;
    let output = Command::new(std::env::current_exe()?)
        .arg("one")
        .args(["--engine", &plan.engine, "--mode", &plan.mode.name()])
        .arg("--dir")
        .arg(dir)
        .args(["--messages", &plan.messages.to_string()])
        .args(["--seconds", &plan.seconds.to_string()])
        .env("WALRUS_DATA_DIR", dir)
        .env("WALRUS_QUIET", "1")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("its process ended with {}", output.status);
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let line = line.lines().last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))
}
