//! `qmq`: one binary for everything that is not a library.
//!
//! Each command is one file (or one folder) under `cli`; this file only starts them. Exit codes: 0 when the
//! work was done, 1 when it failed, 2 when the command line was wrong.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
