//! A wrong command line is exit code 2, and every command shows how it is used.

mod common;

use std::process::Stdio;

use common::{code, qmq, run, stderr, stdout};

#[test]
fn a_wrong_command_line_exits_with_2() {
    for args in [
        &["store", "append"][..],
        &["store", "append", "--dir", "d"],
        &["store", "append", "--dir", "d", "--subject", "a/b"],
        &[
            "store",
            "append",
            "--dir",
            "d",
            "--subject",
            "s",
            "--durability",
            "maybe",
        ],
        &[
            "store",
            "read",
            "--dir",
            "d",
            "--subject",
            "s",
            "--from",
            "-1",
        ],
        &["bench", "store", "--messages", "0"],
        &["bench", "store", "--messages", "5", "--append-batch", "10"],
        &["delay", "schedule", "--dir", "d"],
        &["delay", "get", "--dir", "d", "no-id"],
        &["delay", "list", "--dir", "d", "--from", "soon"],
        &["delay", "run", "--dir", "d", "--for", "ever"],
        &[
            "delay",
            "stats",
            "--dir",
            "d",
            "--segment-scale-minute",
            "1441",
        ],
        &["bench", "delay", "--scale-minutes", "0"],
        &["demo", "--no-such-option"],
        &["nothing"],
        &[],
    ] {
        let output = run(args, b"");
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    for args in [
        &[][..],
        &["demo"],
        &["bench"],
        &["bench", "store"],
        &["bench", "delay"],
        &["store"],
        &["store", "append"],
        &["store", "read"],
        &["store", "inspect"],
        &["store", "verify"],
        &["store", "repair"],
        &["store", "dump"],
        &["delay"],
        &["delay", "schedule"],
        &["delay", "cancel"],
        &["delay", "get"],
        &["delay", "list"],
        &["delay", "stats"],
        &["delay", "verify"],
        &["delay", "run"],
        &["store", "backup"],
    ] {
        let mut with_help = args.to_vec();
        with_help.push("--help");
        let output = run(&with_help, b"");
        assert_eq!(code(&output), Some(0), "{args:?}");
        assert!(
            stdout(&output).contains("Examples:\n"),
            "{args:?}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    for command in ["read", "inspect", "verify", "repair", "dump", "backup"] {
        let mut args = vec!["store", command, "--dir", "/no/such/folder"];
        match command {
            "read" => args.extend(["--subject", "s"]),
            "backup" => args.extend(["--to", "/no/such/other"]),
            _ => {}
        }
        let output = run(&args, b"");
        assert_eq!(code(&output), Some(1), "{command}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("/no/such/folder"),
            "{command}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut append = qmq(["store", "append", "--dir", path, "--subject", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(append.stdout.take());
    let mut input = append.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut fed = 0;
        while std::io::Write::write_all(&mut input, b"line\n").is_ok() {
            fed += 1;
        }
        fed
    });
    let output = append.wait_with_output().unwrap();
    assert!(feeder.join().unwrap() > 0);
    assert_eq!(code(&output), Some(1));
    assert_eq!(stderr(&output), "");
}
