//! Looking at a store's folder, copying it, and finding and mending damage in it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[allow(dead_code, reason = "the helpers of the store's own tests")]
#[path = "../../qmq-store/tests/support/files.rs"]
mod files;

use std::fs;
use std::path::{Path, PathBuf};

use common::{code, json_lines, numbers, qmq, stderr, stdout, store};
use files::files_in;
use serde_json::Value;

/// A store with 1,000 numbers in the subject `n`.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let output = store(
        "append",
        &dir.path().join("store"),
        &["--subject", "n", "--segment-bytes", "65536"],
        &numbers(0, 1_000),
    );
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    dir
}

fn dumped(dir: &Path) -> Vec<Value> {
    let output = store("dump", dir, &["--json"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    json_lines(&output)
}

/// The file and the position in it of a place in the log.
fn place(dir: &Path, offset: u64) -> (PathBuf, usize) {
    let bases = fs::read_dir(dir).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("log-")?.parse::<u64>().ok()
    });
    let base = bases.filter(|base| *base <= offset).max().unwrap();
    (
        dir.join(format!("log-{base:020}")),
        (64 + offset - base) as usize,
    )
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_sound_store_verifies() {
    let dir = filled();
    let dir = dir.path().join("store");
    let output = store("verify", &dir, &[], b"");
    assert_eq!(
        code(&output),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let output = store("verify", &dir, &["--json"], b"");
    let sums = &json_lines(&output)[0];
    assert_eq!(
        (&sums["ok"], &sums["messages"]),
        (&Value::from(true), &Value::from(1_000))
    );
}

#[test]
fn one_flipped_bit_costs_one_message_and_is_named_by_its_offset() {
    let dir = filled();
    let dir = dir.path().join("store");
    let record = dumped(&dir)
        .into_iter()
        .find(|line| line["body"] == "500")
        .unwrap();
    let (offset, len) = (
        record["offset"].as_u64().unwrap(),
        record["len"].as_u64().unwrap(),
    );
    assert_eq!(record["sequence"], 500);
    let (file, at) = place(&dir, offset);
    // The last byte of the body; zeros follow up to the end of the record.
    let bytes = fs::read(&file).unwrap();
    let end = (at..at + len as usize)
        .rev()
        .find(|at| bytes[*at] != 0)
        .unwrap();
    flip(&file, end);

    let output = store("verify", &dir, &[], b"");
    assert_eq!(code(&output), Some(1));
    assert!(
        stdout(&output).contains(&format!("offset {offset}")),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("qmq store repair"),
        "{}",
        stderr(&output)
    );
    let output = store("verify", &dir, &["--json"], b"");
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2, "{}", stdout(&output));
    assert_eq!(lines[0]["offset"], offset);
    assert_eq!(
        (&lines[0]["subject"], &lines[0]["sequence"]),
        (&"n".into(), &500.into())
    );

    let read = || store("read", &dir, &["--subject", "n"], b"");
    let others: String = (0..1_000)
        .filter(|n| *n != 500)
        .map(|n| format!("{n}\n"))
        .collect();
    assert_eq!((code(&read()), stdout(&read())), (Some(1), others.clone()));
    assert!(stderr(&read()).contains("500"), "{}", stderr(&read()));

    let output = store("repair", &dir, &["--json"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json_lines(&output).last().unwrap()["remaining"], 1);
    assert_eq!(stdout(&read()), others);
    assert_eq!(
        stdout(&store("append", &dir, &["--subject", "n"], b"more\n")),
        "n 1000\n"
    );
}

#[test]
fn a_lost_index_and_a_lost_identity_are_made_anew() {
    let dir = filled();
    let dir = dir.path().join("store");
    let indexes = files_in(&dir, "index-");
    assert!(
        !indexes.is_empty(),
        "1,000 messages fill more than one segment of 64 KiB"
    );
    for index in &indexes {
        let middle = fs::metadata(index).unwrap().len() as usize / 2;
        flip(index, middle);
    }
    let output = store("verify", &dir, &[], b"");
    assert_eq!(
        code(&output),
        Some(1),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let output = store("repair", &dir, &[], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(code(&store("verify", &dir, &[], b"")), Some(0));

    fs::write(dir.join("store"), b"nothing").unwrap();
    assert_eq!(
        code(&store("read", &dir, &["--subject", "n"], b"")),
        Some(1)
    );
    let output = store("repair", &dir, &[], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let output = store("read", &dir, &["--subject", "n"], b"");
    assert_eq!(output.stdout, numbers(0, 1_000));
}

#[test]
fn a_backup_opens_and_holds_the_same() {
    let dir = filled();
    let (from, to) = (dir.path().join("store"), dir.path().join("copy"));
    let to_text = to.to_str().unwrap();
    let output = store("backup", &from, &["--to", to_text, "--json"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json_lines(&output)[0]["messages"], 1_000);
    let output = store("read", &to, &["--subject", "n"], b"");
    assert_eq!(output.stdout, numbers(0, 1_000));
    assert_eq!(code(&store("verify", &to, &[], b"")), Some(0));
    let output = store("backup", &from, &["--to", to_text], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("--to") || stderr(&output).contains("empty"));
}

/// A clock that is four days behind.
#[derive(Debug)]
struct Earlier;

impl qmq_store::Clock for Earlier {
    fn now_ms(&self) -> u64 {
        qmq_store::SystemClock.now_ms() - 4 * 86_400_000
    }
}

#[test]
fn appending_to_an_old_store_retires_nothing_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let options = qmq_store::Options {
        clock: std::sync::Arc::new(Earlier),
        ..qmq_store::Options::with_segment_bytes(64 << 10)
    };
    let opened = qmq_store::Store::open(dir.path(), options).unwrap();
    for _ in 0..1_000 {
        let message = qmq_store::Message::new("s", vec![b'x'; 200]);
        opened
            .append_with(&message, qmq_store::Durability::Buffered)
            .unwrap();
    }
    opened.close().unwrap();
    let first = || {
        let output = store("read", dir.path(), &["--subject", "s", "--json"], b"");
        json_lines(&output)[0]["sequence"].as_u64().unwrap()
    };
    let append = |more: &[&str]| {
        let mut append = qmq(["store", "append", "--subject", "s", "--dir"]);
        let mut append = append
            .arg(dir.path())
            .args(["--segment-bytes", "65536"])
            .args(more)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The house is kept every 500 ms.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        drop(append.stdin.take());
        assert!(append.wait().unwrap().success());
    };
    append(&[]);
    assert_eq!(first(), 0);
    append(&["--retention-hours", "72"]);
    assert!(first() > 0);
}

#[test]
fn inspect_shows_segments_subjects_and_groups() {
    let dir = filled();
    let dir = dir.path().join("store");
    let opened = qmq_store::Store::open(&dir, qmq_store::Options::default()).unwrap();
    let request = qmq_store::PullRequest::new("n", "group", "host").max(10);
    let batch = opened.pull(&request).unwrap();
    opened.ack(&batch).unwrap();
    opened.pull(&request).unwrap();
    opened.close().unwrap();
    let output = store("inspect", &dir, &["--json"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let lines = json_lines(&output);
    assert_eq!(
        (&lines[0]["kind"], &lines[0]["clean"]),
        (&"store".into(), &true.into())
    );
    assert!(
        lines
            .iter()
            .filter(|line| line["kind"] == "segment")
            .count()
            > 1
    );
    let subject = lines.iter().find(|line| line["kind"] == "subject").unwrap();
    assert_eq!(
        (&subject["subject"], &subject["messages"]),
        (&"n".into(), &1_000.into())
    );
    let group = lines.iter().find(|line| line["kind"] == "group").unwrap();
    assert_eq!((&group["cursor"], &group["lag"]), (&20.into(), &980.into()));
    assert_eq!(group["unacked"], 10);
    let output = store("inspect", &dir, &[], b"");
    for word in ["1,000 messages", "log-00000000000000000000", "group", "980"] {
        assert!(
            stdout(&output).contains(word),
            "{word}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn dump_shows_a_stretch_of_the_log() {
    let dir = filled();
    let dir = dir.path().join("store");
    let all = dumped(&dir);
    assert_eq!(all.len(), 1_000);
    let (from, to) = (all[10]["offset"].to_string(), all[20]["offset"].to_string());
    let output = store("dump", &dir, &["--from", &from, "--to", &to], b"");
    assert_eq!(stdout(&output).lines().count(), 10);
    assert!(
        stdout(&output)
            .lines()
            .all(|line| line.contains(" message ")),
        "{}",
        stdout(&output)
    );
}

#[test]
fn dump_shows_the_properties_of_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let message = qmq_store::Message::new("n", "4711")
        .property("trace", "00-4bf9")
        .property("line", "a\nb");
    let opened = qmq_store::Store::open(&dir, qmq_store::Options::default()).unwrap();
    opened.append(&message).unwrap();
    opened.close().unwrap();
    let record = &dumped(&dir)[0];
    assert_eq!(
        record["properties"],
        serde_json::json!({"trace": "00-4bf9", "line": "a\nb"})
    );
    let output = store("dump", &dir, &[], b"");
    let shown = stdout(&output);
    assert!(
        shown.contains("trace=00-4bf9 line=a.b 4 bytes 4711"),
        "{shown}"
    );
}
