//! The benchmark prints what it promises.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;
#[path = "common/broker.rs"]
mod user;

use common::{code, json_lines, run, stderr, stdout};

const NUMBERS: [&str; 14] = [
    "messages",
    "seconds",
    "msgs_per_s",
    "mib_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "limit_msgs_per_s",
    "ratio_to_limit",
    "rss_anon_bytes",
    "open_files",
    "mappings",
    "write_amplification",
];

#[test]
fn five_rows_have_all_their_fields() {
    for durability in ["buffered", "synced"] {
        let output = run(
            &[
                "bench",
                "store",
                "--json",
                "--messages",
                "2000",
                "--size",
                "100",
                "--subjects",
                "7",
                "--groups",
                "2",
                "--threads",
                "3",
                "--batch",
                "50",
                "--durability",
                durability,
            ],
            b"",
        );
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let rows = json_lines(&output);
        let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
        assert_eq!(names, ["append", "pull", "ack", "reopen", "reopen_closed"]);
        for row in &rows {
            for field in NUMBERS {
                assert!(row[field].is_number(), "{field} in {row}");
            }
            assert!(row["limit_msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
        }
        let messages: Vec<_> = rows
            .iter()
            .filter_map(|row| row["messages"].as_u64())
            .collect();
        assert_eq!(messages, [2_000, 4_000, 4_000, 10_000, 10_000]);
        assert!(
            rows[0]["write_amplification"].as_f64().unwrap() >= 1.0,
            "{}",
            rows[0]
        );
    }
}

#[test]
fn a_person_gets_a_table() {
    let output = run(
        &[
            "bench",
            "store",
            "--messages",
            "100",
            "--append-batch",
            "10",
            "--size",
            "0",
        ],
        b"",
    );
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for word in ["append", "reopen", "ratio to the limit", "anonymous memory"] {
        assert!(
            stdout(&output).contains(word),
            "{word}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn the_delay_rows_have_all_their_fields_and_none_is_early() {
    let args = "bench delay --json --pending 3000 --rate 500 --size 100 --scale-minutes 5";
    let output = run(&args.split(' ').collect::<Vec<_>>(), b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let rows = json_lines(&output);
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["schedule", "load", "dispatch", "cancel", "restart"]);
    for row in &rows {
        for field in NUMBERS {
            assert!(row[field].is_number(), "{field} in {row}");
        }
        assert!(row["limit_msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["early"].is_number(), row["name"] == "dispatch", "{row}");
    }
    let messages: Vec<_> = rows
        .iter()
        .filter_map(|row| row["messages"].as_u64())
        .collect();
    assert_eq!(messages, [3_000, 15_000, 2_500, 3_000, 15_000]);
    let dispatch = &rows[2];
    assert_eq!(dispatch["early"], 0);
    let late: Vec<_> = ["late_p50_ms", "late_p99_ms", "late_max_ms"]
        .iter()
        .filter_map(|field| dispatch[field].as_f64())
        .collect();
    assert!(late.len() == 3 && late.is_sorted(), "{dispatch}");
}

#[test]
fn the_replication_rows_have_all_their_fields() {
    let args = "bench repl --json --messages 500 --size 100";
    let output = run(&args.split(' ').collect::<Vec<_>>(), b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let rows = json_lines(&output);
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(
        names,
        ["append", "async", "synced", "sync", "one", "catch_up"]
    );
    for row in &rows {
        for field in NUMBERS {
            assert!(row[field].is_number(), "{field} in {row}");
        }
        assert!(row["limit_msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
        let waits = row["name"] != "catch_up";
        assert_eq!(row["core_wait"].is_number(), waits, "{row}");
        let follows = ["async", "sync", "one"].contains(&row["name"].as_str().unwrap());
        assert_eq!(row["lag_p50_ms"].is_number(), follows, "{row}");
        assert_eq!(
            row["added_p50_us"].is_number(),
            row["name"] == "one",
            "{row}"
        );
    }
}

#[test]
fn one_row_of_replication_can_be_asked_for() {
    let args = "bench repl --json --messages 500 --size 100 --rows catch_up";
    let output = run(&args.split(' ').collect::<Vec<_>>(), b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let rows = json_lines(&output);
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["catch_up"]);
    assert!(rows[0]["ratio_to_limit"].as_f64().unwrap() > 0.0);
}

const CLUSTER: [&str; 8] = [
    "bench",
    "cluster",
    "--seconds",
    "1",
    "--batch",
    "100",
    "--consumers",
    "1",
];

#[test]
fn the_cluster_rows_count_what_went_through() {
    let folder = tempfile::tempdir().unwrap();
    let dev = user::Dev::start(folder.path());
    let output = dev.run(&[&CLUSTER[..], &["--rate", "1000", "--json"]].concat(), b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let rows = json_lines(&output);
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["produce", "deliver"]);
    for row in &rows {
        assert!(row["messages"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["failed"], 0, "{row}");
    }
}

#[test]
fn a_cluster_that_takes_nothing_is_a_failure_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = ["--port", "0", "--set", "anonymous.rights=consume:*"];
    let dev = user::Dev::start_with(folder.path(), &nothing);
    let output = dev.run(&[&CLUSTER[..], &["--rate", "100"]].concat(), b"");
    assert_eq!(code(&output), Some(1), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(said.contains("not all messages made it"), "{said}");
    assert!(said.contains("denied"), "{said}");
}
