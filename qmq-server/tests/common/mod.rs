//! Running the `qmq` binary.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot run its command has failed"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A command line that starts with `qmq`.
pub(crate) fn qmq<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmq"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs `qmq` with something on its standard input.
pub(crate) fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = qmq(args.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    // A command that does not read it all closes the pipe.
    let feeder = std::thread::spawn(move || input.write_all(&bytes).ok());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// Runs `qmq store COMMAND --dir DIR ARGS`.
pub(crate) fn store(command: &str, dir: &Path, args: &[&str], stdin: &[u8]) -> Output {
    let mut all = vec!["store", command, "--dir", dir.to_str().unwrap()];
    all.extend_from_slice(args);
    run(&all, stdin)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// Standard output as one JSON object a line.
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The numbers from `from` on, one a line.
pub(crate) fn numbers(from: u64, count: u64) -> Vec<u8> {
    (from..from + count)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect()
}
