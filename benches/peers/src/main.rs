//! `qmq-store` beside other embeddable logs and stores, in one run on one machine.
//!
//! The program starts itself once for each engine, mode and round, so that no engine inherits
//! another's threads, heap or open files. The parent only orders the rounds and prints the table.

mod cli;
mod engine;
mod engines;
mod folder;
mod measure;
mod mode;
mod records;
mod report;
mod run;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let arguments = cli::Arguments::parse();
    match arguments.one {
        Some(cli::Hidden::One(plan)) => run::one(&plan),
        None => run::all(&arguments),
    }
}
