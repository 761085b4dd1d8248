//! Lines go in, sequences come out, and the lines are there.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use common::{code, json_lines, numbers, qmq, stderr, stdout, store};

#[test]
fn each_line_is_acknowledged_in_order_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for (durability, from) in [("synced", 0), ("buffered", 5_000)] {
        let output = store(
            "append",
            dir.path(),
            &["--subject", "n", "--durability", durability],
            &numbers(from, 5_000),
        );
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let expected: String = (from..from + 5_000).map(|n| format!("n {n}\n")).collect();
        assert_eq!(stdout(&output), expected);
    }
    let output = store("read", dir.path(), &["--subject", "n"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, numbers(0, 10_000));
    let output = store(
        "read",
        dir.path(),
        &["--subject", "n", "--from", "9998"],
        b"",
    );
    assert_eq!(stdout(&output), "9998\n9999\n");
    let output = store(
        "read",
        dir.path(),
        &["--subject", "n", "--from", "10000"],
        b"",
    );
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(0), ""));
}

#[test]
fn lines_are_dealt_to_several_subjects_and_programs_get_json() {
    let dir = tempfile::tempdir().unwrap();
    let output = store(
        "append",
        dir.path(),
        &["--subject", "even", "--subject", "odd", "--json"],
        &numbers(0, 1_000),
    );
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 1_000);
    for subject in ["even", "odd"] {
        let sequences: Vec<_> = lines
            .iter()
            .filter(|line| line["subject"] == subject)
            .filter_map(|line| line["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, (0..500).collect::<Vec<u64>>());
    }
    let output = store("read", dir.path(), &["--subject", "odd", "--json"], b"");
    for (sequence, line) in json_lines(&output).iter().enumerate() {
        assert_eq!(line["sequence"], sequence);
        assert_eq!(line["body"], (2 * sequence + 1).to_string());
        assert_eq!(line["subject"], "odd");
    }
}

#[test]
fn a_refused_line_is_an_error_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = b"first\n".to_vec();
    lines.extend(vec![b'x'; (4 << 20) + 1]);
    lines.extend(b"\n\nlast, without an end");
    let output = store("append", dir.path(), &["--subject", "s"], &lines);
    assert_eq!(code(&output), Some(1));
    assert_eq!(stdout(&output), "s 0\ns 1\ns 2\n");
    assert!(
        stderr(&output).starts_with("error: line 2: 4194305 bytes"),
        "{}",
        stderr(&output)
    );
    let output = store("read", dir.path(), &["--subject", "s"], b"");
    assert_eq!(stdout(&output), "first\n\nlast, without an end\n");
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let line: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    assert_eq!(
        code(&store("append", dir.path(), &["--subject", "s"], &line)),
        Some(0)
    );
    let output = store("read", dir.path(), &["--subject", "s"], b"");
    assert_eq!(output.stdout[..line.len()], line);
    let output = store("read", dir.path(), &["--subject", "s", "--json"], b"");
    let hex = json_lines(&output)[0]["body_hex"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        hex.starts_with("000102030405060708090b") && hex.ends_with("fdfeff"),
        "{hex}"
    );
}

#[test]
fn a_subject_that_is_not_there_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    store("append", dir.path(), &["--subject", "here"], b"x\n");
    let output = store("read", dir.path(), &["--subject", "there"], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("there") && stderr(&output).contains("inspect"));
}

#[test]
fn a_follower_sees_what_another_process_appends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut append = qmq(["store", "append", "--dir", path, "--subject", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = append.stdin.take().unwrap();
    let mut acknowledged = BufReader::new(append.stdout.take().unwrap()).lines();
    input.write_all(b"one\n").unwrap();
    assert_eq!(acknowledged.next().unwrap().unwrap(), "s 0");

    let mut read = qmq(["store", "read", "--dir", path, "--subject", "s", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(read.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|l| drop(tell.send(l))));
    let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(next(), "one");
    for n in 0..100 {
        input.write_all(format!("more {n}\n").as_bytes()).unwrap();
        assert_eq!(next(), format!("more {n}"));
    }
    drop(input);
    assert!(append.wait().unwrap().success());

    // Also a writer that comes after this one.
    let output = store("append", dir.path(), &["--subject", "s"], b"later\n");
    assert_eq!(stdout(&output), "s 101\n", "{}", stderr(&output));
    assert_eq!(next(), "later");
    read.kill().unwrap();
    read.wait().unwrap();
}

#[test]
fn two_writers_at_a_time_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut first = qmq(["store", "append", "--dir", path, "--subject", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = first.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = store("append", dir.path(), &["--subject", "s"], b"two\n");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("open"), "{}", stderr(&output));
    drop(input);
    assert!(first.wait().unwrap().success());
}
