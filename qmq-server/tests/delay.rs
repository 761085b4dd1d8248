//! Messages for later: scheduled, looked at, cancelled, and handed out when their time has come.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot run its command has failed"
)]

mod common;
#[path = "common/delay_kill.rs"]
mod delay_kill;
#[path = "common/sudden.rs"]
mod sudden;

use std::collections::HashSet;
use std::path::Path;
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{code, json_lines, run, stderr, stdout};
use delay_kill::KillLoop;
use qmq_sched::{Cancelled, Message, Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{Background, Durability, Retention, RetentionHold, Store};
use serde_json::Value;

/// The clock, in ms since 1970 UTC.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Runs `qmq delay COMMAND --dir DIR ARGS`.
fn delay(command: &str, dir: &Path, args: &[&str], stdin: &str) -> Output {
    let mut all = vec!["delay", command, "--dir", dir.to_str().unwrap()];
    all.extend_from_slice(args);
    run(&all, stdin.as_bytes())
}

/// Schedules lines that are all good, and returns their ids.
fn schedule(dir: &Path, lines: &str) -> Vec<String> {
    let output = delay("schedule", dir, &["--subject", "reminder"], lines);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    stdout(&output).lines().map(str::to_owned).collect()
}

/// Hands out all there is.
fn run_all(dir: &Path) -> Vec<Value> {
    let output = delay("run", dir, &["--until-empty", "--json"], "");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    json_lines(&output)
}

fn texts<'a>(lines: &'a [Value], field: &str) -> Vec<&'a str> {
    lines
        .iter()
        .map(|line| line[field].as_str().unwrap())
        .collect()
}

#[test]
fn what_is_scheduled_falls_due_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = &folder.path().join("later");
    let begun_ms = now_ms();
    let ids = schedule(
        dir,
        "+900ms\tlast\n+300ms\ttabs\tin it\n1999-12-31T23:59:59Z\tpast\n+300ms\tsecond of two\n",
    );
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4);
    let fired = run_all(dir);
    let order = ["past", "tabs\tin it", "second of two", "last"];
    assert_eq!(texts(&fired, "body"), order);
    let expected = [&ids[2], &ids[1], &ids[3], &ids[0]];
    assert_eq!(texts(&fired, "id"), expected);
    for line in &fired[1..] {
        let late_ms = line["late_ms"].as_i64().unwrap();
        assert!((0..60_000).contains(&late_ms), "{line}");
        assert!(line["due_ms"].as_u64().unwrap() >= begun_ms + 300, "{line}");
        assert_eq!(line["subject"], "reminder");
    }
    assert_eq!(run_all(dir), Vec::<Value>::new());
}

#[test]
fn a_person_gets_columns() {
    let folder = tempfile::tempdir().unwrap();
    let ids = schedule(folder.path(), "2001-02-03T04:05:06.007Z\thello\n");
    let output = delay("run", folder.path(), &["--for", "200ms"], "");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let line = stdout(&output);
    let columns: Vec<_> = line.trim_end().split('\t').collect();
    assert_eq!(columns[0], ids[0]);
    assert!(columns[2].parse::<i64>().unwrap() >= 0, "{line}");
    assert_eq!(columns[3..], ["reminder", "hello"]);
}

#[test]
fn refused_lines_are_named_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let output = delay(
        "schedule",
        folder.path(),
        &["--subject", "reminder", "--json"],
        "+1h\tgood\nno tab\nsoon\twhen?\n+4000d\ttoo far\n+999999999999999999999d\tfarther\n+2h\tgood too",
    );
    assert_eq!(code(&output), Some(1));
    let told = stderr(&output);
    for word in [
        "line 2: there is no tab",
        "line 3: \"soon\" is no due time",
        "line 4: ",
        "line 5: ",
        "Options::max_delay",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["subject"], "reminder");
    let apart = lines[1]["due_ms"].as_u64().unwrap() - lines[0]["due_ms"].as_u64().unwrap();
    assert!(apart.abs_diff(3_600_000) < 60_000, "{lines:?}");
    let listed = json_lines(&delay("list", folder.path(), &["--json"], ""));
    assert_eq!(texts(&listed, "id"), texts(&lines, "id"));
}

#[test]
fn ids_hold_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ids = schedule(dir, "+1h\tone\n+3000d\ttwo\n");
    let refused = delay("get", dir, &[&ids[0], "--segment-scale-minute", "5"], "");
    assert_eq!(code(&refused), Some(1));
    assert!(
        stderr(&refused).contains("60 in this folder and 5"),
        "{}",
        stderr(&refused)
    );
    let got = &json_lines(&delay("get", dir, &[&ids[0], "--json"], ""))[0];
    assert_eq!(
        (&got["body"], &got["standing"]),
        (&"one".into(), &"pending".into())
    );
    let shown = stdout(&delay("get", dir, &[&ids[0]], ""));
    assert!(shown.ends_with("\tpending\treminder\tone\n"), "{shown}");
    let unknown = delay("get", dir, &["00000000000000000000000000000000"], "");
    assert_eq!(code(&unknown), Some(1));
    assert!(
        stderr(&unknown).contains("there is no message"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn what_is_cancelled_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ids = schedule(dir, "+1s\tcancelled\n+1s\tkept\n");
    let output = delay("cancel", dir, &[&ids[0]], "");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("{} done\n", ids[0]));
    let fired = run_all(dir);
    assert_eq!(texts(&fired, "body"), ["kept"]);
    let output = delay(
        "cancel",
        dir,
        &["--json", &ids[1], "00000000000000000000000000000000"],
        "",
    );
    assert_eq!(code(&output), Some(1));
    assert_eq!(
        texts(&json_lines(&output), "answer"),
        ["already_fired", "unknown"]
    );
    let output = delay("cancel", dir, &["no id"], "");
    assert_eq!(code(&output), Some(2));
    assert!(
        stderr(&output).contains("32 hexadecimal digits"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn lists_and_sums_tell_what_is_pending() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ids = schedule(dir, "+3h\tthree\n+1h\tone\n+2h\ttwo\n");
    let output = delay("schedule", dir, &["--subject", "other"], "+4h\tfour!\n");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let list = |args: &[&str]| {
        let output = delay("list", dir, &[args, &["--json"]].concat(), "");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        json_lines(&output)
    };
    assert_eq!(list(&[]).len(), 4);
    let reminders = list(&["--subject", "reminder"]);
    assert_eq!(texts(&reminders, "id"), [&ids[1], &ids[2], &ids[0]]);
    assert_eq!(list(&["--from", "+90m", "--to", "+210m"]).len(), 2);
    assert_eq!(list(&["--subject", "nothing"]).len(), 0);
    let first = delay("list", dir, &["--max", "1"], "");
    assert!(stdout(&first).contains(&ids[1]) && !stdout(&first).contains(&ids[2]));
    assert!(stderr(&first).contains("--max"), "{}", stderr(&first));

    let sums = json_lines(&delay("stats", dir, &["--json"], ""));
    let of = |kind: &str, subject: &str| {
        let found = sums
            .iter()
            .find(|line| line["kind"] == kind && (kind == "total" || line["subject"] == subject));
        (
            found.unwrap()["messages"].as_u64(),
            found.unwrap()["bytes"].as_u64(),
        )
    };
    assert_eq!(of("total", ""), (Some(4), Some(16)));
    assert_eq!(of("subject", "reminder"), (Some(3), Some(11)));
    assert_eq!(of("subject", "other"), (Some(1), Some(5)));
    let table = stdout(&delay("stats", dir, &[], ""));
    assert!(
        table.contains("reminder") && table.contains("(all)"),
        "{table}"
    );
}

#[test]
fn verify_finds_damage_and_the_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ids = schedule(dir, "+1h\tone\n+2h\ttwo\n");
    let output = delay("verify", dir, &["--json"], "");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json_lines(&output)[0]["messages"], 2);
    for entry in dir.join("index").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(byte) = bytes.get_mut(40) {
            *byte ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let output = delay("verify", dir, &[], "");
    assert_eq!(code(&output), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("made anew"), "{}", stdout(&output));
    let output = delay("verify", dir, &[], "");
    assert_eq!(code(&output), Some(0), "{}", stdout(&output));
    assert_eq!(
        texts(&json_lines(&delay("list", dir, &["--json"], "")), "id"),
        ids
    );
}

#[test]
fn a_folder_without_messages_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["list", "stats", "verify", "run"] {
        let output = delay(command, folder.path(), &[], "");
        assert_eq!(code(&output), Some(1), "{command}");
        assert!(stderr(&output).contains("--dir"), "{}", stderr(&output));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{command}");
    }
}

#[test]
fn run_ends_with_its_input_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    schedule(folder.path(), "+1d\tlater\n");
    let output = delay("run", folder.path(), &["--until-eof"], "");
    assert_eq!((code(&output), stdout(&output)), (Some(0), String::new()));
}

#[test]
fn nothing_is_lost_or_early_over_twenty_kills() {
    let folder = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    let kills = KillLoop {
        qmq: env!("CARGO_BIN_EXE_qmq").into(),
        dir: folder.path().join("later"),
        kills: 20,
        seed,
    };
    let tally = kills.run().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    println!("seed {seed}: {tally:?}");
    assert_eq!(tally.kills, 20);
    assert!(
        tally.scheduled > 100 && tally.fired >= tally.scheduled,
        "{tally:?}"
    );
}

#[test]
fn a_backup_opens_and_has_what_was_pending() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copy) = (folder.path().join("later"), folder.path().join("copy"));
    schedule(&dir, "+1h\tin an hour\n+0s\tnow\n+10s\tsoon\n");
    let to = ["--to", copy.to_str().unwrap()];
    let output = delay("backup", &dir, &to, "");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("copied 3 pending messages"));
    let again = delay("backup", &dir, &to, "");
    assert_eq!(code(&again), Some(1));
    assert!(
        stderr(&again).contains("empty folder"),
        "{}",
        stderr(&again)
    );
    for (dir, is_first_open) in [(&dir, false), (&copy, true), (&copy, false)] {
        // What a copy makes anew when it is first opened is no damage.
        let verified = delay("verify", dir, &["--json"], "");
        assert_eq!(code(&verified), Some(0), "{}", stdout(&verified));
        assert_eq!(json_lines(&verified)[0]["made_anew"], is_first_open);
        assert_eq!(stderr(&verified).contains("made anew"), is_first_open);
        let listed = json_lines(&delay("list", dir, &["--json"], ""));
        assert_eq!(listed.len(), 3);
    }
}

/// Flips a bit in the log of a folder wherever `body` stands.
fn flip(dir: &Path, body: &str) {
    let mut flipped = 0;
    for entry in dir.join("log").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("log-") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let is_there = |window: &[u8]| window[1..] == body.as_bytes()[1..];
        let found = bytes.windows(body.len()).position(is_there);
        if let Some(at) = found {
            bytes[at] ^= 1;
            flipped += 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(flipped, 1);
}

#[test]
fn a_message_that_cannot_be_read_is_not_settled() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // The run goes on beyond the first time that the damaged one is tried again.
    let ids = schedule(
        dir,
        "+0s\tbefore\n+0s\tfragile\n+0s\tafter\n+2500ms\tlater\n",
    );
    flip(dir, "fragile");
    for expected in [&["before", "after", "later"][..], &[]] {
        let output = delay("run", dir, &["--until-empty", "--json"], "");
        assert_eq!(code(&output), Some(1), "{}", stderr(&output));
        assert_eq!(texts(&json_lines(&output), "body"), expected);
        let told = stderr(&output);
        assert_eq!(told.matches(&ids[1]).count(), 1, "{told}");
        assert!(told.contains("1 damaged message is left"), "{told}");
        let sums = &json_lines(&delay("stats", dir, &["--json"], ""))[0];
        assert_eq!(
            (&sums["messages"], &sums["handed_out"]),
            (&1.into(), &1.into())
        );
        let got = delay("get", dir, &[&ids[1]], "");
        assert_eq!(code(&got), Some(1));
        assert!(stderr(&got).contains("cannot read"), "{}", stderr(&got));
    }
    // What can be read again comes.
    flip(dir, "fragile");
    assert_eq!(texts(&run_all(dir), "id"), [&ids[1]]);
    assert_eq!(run_all(dir), Vec::<Value>::new());
}

#[test]
fn looking_leaves_the_store_closed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ids = schedule(dir, "+1h\tone\n");
    // The incarnation is raised by every open that follows no close.
    let incarnation = || std::fs::read(dir.join("log/store")).unwrap()[48..52].to_vec();
    let before = incarnation();
    for args in [
        &["list"][..],
        &["list", "--max", "0"],
        &["stats"],
        &["stats", "--json"],
        &["get", &ids[0]],
        &["get", "00000000000000000000000000000000"],
        &["cancel", &ids[0]],
        &["verify"],
    ] {
        delay(args[0], dir, &args[1..], "");
        assert_eq!(incarnation(), before, "{args:?}");
    }
}

/// A folder whose messages have outlived the log.
fn outlived(dir: &Path) {
    let retention = Retention {
        max_age: None,
        max_bytes: Some(0),
        ..Retention::default()
    };
    let options = qmq_store::Options {
        background: Background::Manual,
        retention,
        retention_hold: Some(RetentionHold::default()),
        ..qmq_store::Options::with_segment_bytes(64 << 10)
    };
    let store = Store::open(dir.join("log"), options).unwrap();
    let index = MappedDisk::open(dir.join("index"), true).unwrap();
    let scheduler = Scheduler::open(store, index, Options::default()).unwrap();
    let due_ms = now_ms() + 3_600_000;
    for number in 0..2_500 {
        let message = Message::new("s", format!("{number} {}", "x".repeat(100)));
        let id = scheduler.schedule_with(due_ms, &message, Durability::Buffered);
        if number % 100 > 0 {
            assert_eq!(
                scheduler
                    .cancel_with(id.unwrap(), Durability::Buffered)
                    .unwrap(),
                Cancelled::Done
            );
        }
    }
    for _ in 0..3 {
        let id = scheduler
            .schedule(due_ms, &Message::new("s", "passing"))
            .unwrap();
        assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
        scheduler.checkpoint().unwrap();
        scheduler.store().maintain().unwrap();
    }
    let store = scheduler.store().clone();
    drop(scheduler);
    store.close().unwrap();
}

#[test]
fn verify_says_which_bodies_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    outlived(dir);
    let verified = delay("verify", dir, &["--json"], "");
    assert_eq!(code(&verified), Some(0), "{}", stdout(&verified));
    let files = dir.join("index").read_dir().unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let lost: Vec<String> = names.filter(|name| name.starts_with("bodies-")).collect();
    assert!(!lost.is_empty());
    for name in &lost {
        std::fs::remove_file(dir.join("index").join(name)).unwrap();
    }
    let verified = delay("verify", dir, &["--json"], "");
    assert_eq!(code(&verified), Some(1), "{}", stdout(&verified));
    let lines = json_lines(&verified);
    for name in &lost {
        let says = |line: &&Value| {
            line["damage"] == "bodies" && line["what"].as_str().unwrap().starts_with(name.as_str())
        };
        assert!(lines.iter().any(|line| says(&line)), "{lines:?}");
    }
    assert_eq!(lines.last().unwrap()["ok"], false);
}
