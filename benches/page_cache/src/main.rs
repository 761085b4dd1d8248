//! Measures the raw ways of appending 1 KiB records to files in one folder, with no store above
//! them: how segments are allocated, mapping or calls, and how often to sync.
//!
//! It prints a table, can draw it, and says which `Options` of `qmq-store` the numbers suggest.

mod append;
mod cell;
mod cli;
mod flusher;
mod folder;
mod mapping;
mod outcome;
mod plot;
mod report;
mod segment;
mod suggest;
mod synced;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let arguments = cli::Arguments::parse();
    let report = report::Report::measure(&arguments)?;
    if let Some(file) = &arguments.plot {
        plot::draw(file, &report)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}
