//! A broker whose disk answers no more ends nevertheless when it is told to, and the next start finds what was acknowledged.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;
#[path = "common/broker.rs"]
mod user;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::stdout;
use rustix::process::Signal;
use user::{Dev, Process};

/// Takes the place of the functions that sync.
fn hanging_syncs(folder: &Path) -> PathBuf {
    let library = folder.join("hang.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/hang.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    library
}

#[test]
fn an_orderly_end_does_not_wait_for_a_disk_that_hangs_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let library = hanging_syncs(folder.path());
    let hang = folder.path().join("hang");
    let mut dev = Dev::start_in(
        folder.path(),
        &["--port", "0", "--end-max", "2s"],
        &[("LD_PRELOAD", &library), ("QMQ_TEST_HANG", &hang)],
    );
    let produced = dev.run(&["produce", "s"], b"before\n");
    assert!(produced.status.success());

    fs::write(&hang, "").unwrap();
    let mut command = dev.command(&["produce", "s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut waits = Process::start(command.stderr(Stdio::null()));
    waits
        .0
        .stdin
        .take()
        .unwrap()
        .write_all(b"during\n")
        .unwrap();
    // What is delivered is in the log: its sync is under way, or about to be.
    let mut command = dev.command(&["consume", "s", "--group", "g", "--from", "earliest"]);
    let mut consume = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut bodies = BufReader::new(consume.0.stdout.take().unwrap()).lines();
    assert_eq!(bodies.next().unwrap().unwrap(), "before");
    std::thread::sleep(std::time::Duration::from_millis(500));

    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.ended().code(), Some(1));
    let mut said = String::new();
    let mut stderr = dev.process.0.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("longer than 2 s"), "{said}");
    drop((waits, consume));

    fs::remove_file(&hang).unwrap();
    let dev = Dev::start(folder.path());
    let args = [
        "consume", "s", "--group", "other", "--from", "earliest", "--count", "1",
    ];
    assert_eq!(stdout(&dev.run(&args, b"")), "before\n");
}
