//! A wrong command line is exit code 2, and every command shows how it is used.

mod common;

use std::process::Stdio;

use common::{code, numbers, qmq, run, stderr, stdout, store};

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
            "append",
            "--dir",
            "d",
            "--subject",
            "s",
            "--segment-bytes",
            "0",
        ],
        &[
            "store",
            "read",
            "--dir",
            "d",
            "--subject",
            "a/b",
            "--follow",
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
        &["config", "check"],
        &["config", "check", "application.properties"],
        &["config", "show", "broker.properties", "--kind", "nothing"],
        &["config", "show", "broker.properties", "--set", "no-value"],
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
fn more_subjects_than_threads_may_be_is_a_wrong_command_line() {
    let mut args = vec!["store", "append", "--dir", "d"];
    args.extend(["--subject", "s"].repeat(20_000));
    let output = run(&args, b"x\n");
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("256"), "{}", stderr(&output));
}

#[test]
fn every_command_has_help_with_examples() {
    for args in [
        &[][..],
        &["demo"],
        &["bench"],
        &["bench", "store"],
        &["bench", "delay"],
        &["bench", "repl"],
        &["store"],
        &["store", "append"],
        &["store", "read"],
        &["store", "inspect"],
        &["store", "verify"],
        &["store", "repair"],
        &["store", "dump"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["delay"],
        &["delay", "schedule"],
        &["delay", "cancel"],
        &["delay", "get"],
        &["delay", "list"],
        &["delay", "stats"],
        &["delay", "verify"],
        &["delay", "run"],
        &["repl"],
        &["repl", "diff"],
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

#[test]
fn what_may_not_be_read_is_named_and_is_not_called_damaged_or_unwritable() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let path = dir.path().join("store");
    let options = ["--subject", "s", "--segment-bytes", "65536"];
    let lines = numbers(0, 2_000);
    assert_eq!(code(&store("append", &path, &options, &lines)), Some(0));
    // Somebody else than the owner; only root can be somebody else.
    let binary = dir.path().join("qmq");
    std::fs::copy(env!("CARGO_BIN_EXE_qmq"), &binary).unwrap();
    let as_another = |command: &str, more: &[&str]| {
        std::process::Command::new(&binary)
            .args(["store", command, "--dir"])
            .arg(&path)
            .args(more)
            .uid(65_534)
            .gid(65_534)
            .output()
    };
    if as_another("verify", &[]).map_or(true, |output| code(&output) != Some(0)) {
        println!("skipped: nobody else can be played here");
        return;
    }
    // Of two checkpoints only the newest is read.
    let newest = |prefix: &str| {
        let names = std::fs::read_dir(&path).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let starts = |path: &std::path::PathBuf| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(prefix)
        };
        names.into_iter().rfind(starts).unwrap()
    };
    for hidden in [
        path.clone(),
        newest("checkpoint-"),
        newest("log-"),
        newest("published"),
    ] {
        let before = hidden.metadata().unwrap().permissions();
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o000)).unwrap();
        for (command, more) in [("verify", &[][..]), ("read", &["--subject", "s"])] {
            let output = as_another(command, more).unwrap();
            assert_eq!(code(&output), Some(1), "{command} {hidden:?}");
            let said = stderr(&output);
            let name = hidden.file_name().unwrap().to_str().unwrap();
            assert!(
                said.contains(name) && said.contains("denied"),
                "{command}: {said}"
            );
            assert!(
                !said.contains("damaged") && !said.contains("written"),
                "{said}"
            );
        }
        std::fs::set_permissions(&hidden, before).unwrap();
    }
}
