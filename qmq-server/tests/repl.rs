//! Comparing the logs of two stores.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{code, json_lines, run, stderr, stdout};
use qmq_store::{Background, Durability, Message, Options, Store};
use serde_json::Value;

fn options() -> Options {
    Options {
        background: Background::Manual,
        ..Options::with_segment_bytes(64 << 10)
    }
}

fn fill(store: &Store, from: u64, count: u64) {
    for n in from..from + count {
        let message = Message::new("orders", format!("order {n} {}", "x".repeat(300)));
        store.append_with(&message, Durability::Buffered).unwrap();
    }
}

/// A master with 1,000 messages in two epochs, and a replica of it.
fn pair(folder: &Path) -> (Store, Store) {
    let master = Store::open(folder.join("a"), options()).unwrap();
    master.begin_epoch(3).unwrap();
    fill(&master, 0, 700);
    master.begin_epoch(5).unwrap();
    fill(&master, 700, 300);
    let slave = Store::open_replica(folder.join("b"), options()).unwrap();
    follow(&master, &slave);
    (master, slave)
}

fn follow(master: &Store, slave: &Store) {
    while slave.watermarks().written < master.watermarks().written {
        let raw = master.raw(slave.watermarks().written, 10_000).unwrap();
        slave.append_raw(raw.offset, &raw.bytes).unwrap();
    }
    slave.sync().unwrap();
}

fn diff(folder: &Path) -> (Option<i32>, String, Value) {
    let (a, b) = (folder.join("a"), folder.join("b"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let people = run(&["repl", "diff", "--dir", a, "--dir", b], b"");
    let json = run(&["repl", "diff", "--dir", a, "--dir", b, "--json"], b"");
    assert_eq!(code(&people), code(&json), "{}", stderr(&json));
    assert_eq!(stderr(&people), "");
    (code(&json), stdout(&people), json_lines(&json).remove(0))
}

#[test]
fn equal_logs_are_equal_also_while_they_are_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = pair(folder.path());
    let end = master.watermarks().written;
    for _ in 0..2 {
        let (code, text, json) = diff(folder.path());
        assert_eq!(code, Some(0));
        assert!(text.contains("equal, offsets 0 to"), "{text}");
        assert_eq!(json["outcome"], "equal");
        assert_eq!((&json["from"], &json["to"]), (&0.into(), &end.into()));
        assert_eq!(json["a"]["epochs"], json["b"]["epochs"]);
        assert_eq!(json["a"]["epochs"][1]["number"], 5);
    }
    master.close().unwrap();
    slave.close().unwrap();
    assert_eq!(diff(folder.path()).0, Some(0));
}

#[test]
fn a_slave_that_is_behind_is_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = pair(folder.path());
    fill(&master, 1_000, 10);
    master.begin_epoch(6).unwrap();
    let (code, text, json) = diff(folder.path());
    assert_eq!(code, Some(1));
    assert!(text.contains("B is a prefix of A"), "{text}");
    assert!(text.contains("the epochs part: A 6 since"), "{text}");
    assert_eq!(json["outcome"], "b_is_prefix");
    assert_eq!(json["to"], slave.watermarks().written);
    assert_eq!(json["a"]["end"], master.watermarks().written);
}

#[test]
fn the_first_difference_is_named_with_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = pair(folder.path());
    let parts = master.watermarks().written;
    fill(&master, 1_000, 1);
    slave.promote(9).unwrap();
    fill(&slave, 2_000, 5);
    let (code, text, json) = diff(folder.path());
    assert_eq!(code, Some(1));
    assert!(text.contains("they differ, first at offset"), "{text}");
    assert!(text.contains("order 1000"), "{text}");
    assert!(text.contains("the epochs part: A none, B 9"), "{text}");
    assert_eq!(json["outcome"], "differ");
    let offset = json["offset"].as_u64().unwrap();
    assert!((parts..parts + 64).contains(&offset), "{offset} of {parts}");
    assert_eq!(json["a"]["record"]["kind"], "message");
    assert_eq!(json["a"]["record"]["offset"], parts);
    assert_eq!(json["b"]["record"]["kind"], "epoch");
}

#[test]
fn one_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = pair(folder.path());
    master.close().unwrap();
    slave.close().unwrap();
    let file = folder.path().join("b").join(format!("log-{:020}", 0));
    let mut bytes = fs::read(&file).unwrap();
    let at = 64 + 12_345;
    bytes[at] ^= 4;
    fs::write(&file, bytes).unwrap();
    let (code, text, json) = diff(folder.path());
    assert_eq!(code, Some(1));
    assert_eq!(json["outcome"], "differ");
    assert_eq!(json["offset"], 12_345, "{text}");
    assert_eq!(json["a"]["record"]["kind"], "message");
    assert_eq!(json["a"]["record"]["subject"], "orders");
    assert_eq!(json["b"]["record"]["kind"], "bad_body", "{json}");
}

#[test]
fn a_log_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = pair(folder.path());
    master.close().unwrap();
    slave.close().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(b.join(format!("log-{:020}", 0)));
    file.unwrap().set_len(5_000).unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    for (one, other, name) in [(a, b, "log of B"), (b, a, "log of A")] {
        let told = run(&["repl", "diff", "--dir", one, "--dir", other], b"");
        assert_eq!(code(&told), Some(1));
        let told = stderr(&told);
        assert!(told.contains(name) && told.contains(b), "{told}");
    }
}

#[test]
fn what_is_no_pair_of_stores_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _pair = pair(folder.path());
    let a = folder.path().join("a");
    let a = a.to_str().unwrap();
    let once = run(&["repl", "diff", "--dir", a], b"");
    assert_eq!(code(&once), Some(2), "{}", stderr(&once));
    assert!(stderr(&once).contains("--dir A --dir B"));
    let none = run(&["repl", "diff", "--dir", a, "--dir", "/nowhere"], b"");
    assert_eq!(code(&none), Some(1));
    assert!(stderr(&none).contains("no folder"), "{}", stderr(&none));
}
