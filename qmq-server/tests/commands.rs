//! The commands of a user: a broker on the own machine, lines in, lines out, and what is said when something is wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;
#[path = "common/broker.rs"]
mod user;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{code, json_lines, numbers, qmq, stderr, stdout};
use rustix::process::Signal;
use user::{Dev, LIMIT, Process, of_user, run_bounded};

/// An optimised build is ready in less than a second on an idle machine; the other one runs beside other tests.
const READY_MAX: Duration = if cfg!(debug_assertions) {
    Duration::from_secs(20)
} else {
    Duration::from_secs(1)
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn lines(output: &std::process::Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

#[test]
fn dev_is_ready_at_once_in_an_empty_folder_and_says_what_to_type() {
    let folder = folder();
    let began = Instant::now();
    let dev = Dev::start(folder.path());
    let took = began.elapsed();
    assert!(took < READY_MAX, "{took:?}");
    assert!(
        dev.said[0].starts_with("ready: 127.0.0.1:"),
        "{:?}",
        dev.said
    );
    assert_eq!(dev.said[2], "  echo hello | qmq produce greetings");
    assert_eq!(dev.said[3], "  qmq consume greetings --group me --count 1");
    // What it says works as it stands.
    let produced = dev.run(&["produce", "greetings"], b"hello\n");
    assert_eq!(code(&produced), Some(0), "{}", stderr(&produced));
    let consumed = dev.run(
        &["consume", "greetings", "--group", "me", "--count", "1"],
        b"",
    );
    assert_eq!(code(&consumed), Some(0), "{}", stderr(&consumed));
    assert_eq!(stdout(&consumed), "hello\n");
}

#[test]
fn what_goes_in_as_lines_comes_out_as_lines_even_empty_ones() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let input = b"one\n\n  two \n\xff\xfe\nlast";
    let produced = dev.run(&["produce", "s", "--json"], input);
    assert_eq!(code(&produced), Some(0), "{}", stderr(&produced));
    let reports = json_lines(&produced);
    assert_eq!(reports.len(), 5);
    for (n, report) in reports.iter().enumerate() {
        assert_eq!(
            (&report["line"], &report["sequence"]),
            (&(n + 1).into(), &n.into())
        );
    }
    assert!(
        stderr(&produced).starts_with("5 messages to s in "),
        "{}",
        stderr(&produced)
    );
    let consumed = dev.run(&["consume", "s", "--group", "g", "--count", "5"], b"");
    assert_eq!(consumed.stdout, b"one\n\n  two \n\xff\xfe\nlast\n");
    // All are acknowledged: nothing comes again.
    let again = dev.run(&["consume", "s", "--group", "g", "--timeout", "500ms"], b"");
    assert_eq!((code(&again), stdout(&again).as_str()), (Some(0), ""));
}

#[test]
fn json_has_everything_that_a_message_has() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let args = [
        "produce",
        "s",
        "--body",
        "b",
        "--tag",
        "x",
        "--tag",
        "y",
        "--property",
        "k=v=w",
        "--id-prefix",
        "id-",
        "--durability",
        "synced",
    ];
    let produced = dev.run(&args, b"not read");
    assert_eq!(code(&produced), Some(0), "{}", stderr(&produced));
    let consumed = dev.run(
        &["consume", "s", "--group", "g", "--count", "1", "--json"],
        b"",
    );
    let line = &json_lines(&consumed)[0];
    assert_eq!(line["subject"], "s");
    assert_eq!(line["sequence"], 0);
    assert_eq!(line["attempt"], 0);
    assert_eq!(line["broker"], dev.address.as_str());
    assert_eq!(line["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(line["properties"], serde_json::json!({"k": "v=w"}));
    assert_eq!(line["id"], "id-1");
    assert_eq!(line["body"], "b");
    assert!(line["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn tags_choose_messages_any_of_them_or_all() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    for (body, tags) in [
        ("a", &["--tag", "a"][..]),
        ("b", &["--tag", "b"]),
        ("ab", &["--tag", "a", "--tag", "b"]),
        ("none", &[]),
    ] {
        let mut args = vec!["produce", "s", "--body", body];
        args.extend(tags);
        assert_eq!(code(&dev.run(&args, b"")), Some(0));
    }
    let consume = |group: &str, more: &[&str]| {
        let mut args = vec!["consume", "s", "--group", group, "--timeout", "500ms"];
        args.extend(more);
        lines(&dev.run(&args, b""))
    };
    assert_eq!(consume("one", &["--tag", "a"]), ["a", "ab"]);
    assert_eq!(
        consume("any", &["--tag", "a", "--tag", "b"]),
        ["a", "b", "ab"]
    );
    assert_eq!(
        consume("every", &["--tag", "a", "--tag", "b", "--every-tag"]),
        ["ab"]
    );
    assert_eq!(consume("all", &[]), ["a", "b", "ab", "none"]);
}

#[test]
fn each_consumer_of_a_broadcast_gets_each_message_and_goes_on_where_it_was() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    assert_eq!(code(&dev.run(&["produce", "s"], b"1\n2\n")), Some(0));
    let consume = |name: &str| {
        let args = [
            "consume",
            "s",
            "--group",
            "g",
            "--broadcast",
            "--consumer",
            name,
            "--timeout",
            "500ms",
        ];
        lines(&dev.run(&args, b""))
    };
    assert_eq!(consume("host-1"), ["1", "2"]);
    assert_eq!(consume("host-2"), ["1", "2"]);
    assert_eq!(code(&dev.run(&["produce", "s"], b"3\n")), Some(0));
    assert_eq!(consume("host-1"), ["3"]);
}

#[test]
fn a_count_takes_no_more_than_that_and_the_next_consumer_goes_on() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    assert_eq!(
        code(&dev.run(&["produce", "s", "--ordered"], &numbers(0, 10))),
        Some(0)
    );
    let first = dev.run(&["consume", "s", "--group", "g", "--count", "3"], b"");
    assert_eq!(lines(&first), ["0", "1", "2"]);
    let rest = dev.run(&["consume", "s", "--group", "g", "--count", "7"], b"");
    let mut rest = lines(&rest);
    rest.sort();
    assert_eq!(rest, ["3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_new_group_begins_where_it_is_told_and_is_moved_by_a_reset() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    assert_eq!(
        code(&dev.run(&["produce", "s"], b"old-1\nold-2\n")),
        Some(0)
    );
    let timed = dev.run(
        &["consume", "s", "--group", "json", "--count", "2", "--json"],
        b"",
    );
    let old_ms = json_lines(&timed)[1]["time_ms"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(code(&dev.run(&["produce", "s"], b"new\n")), Some(0));
    let consume = |group: &str, from: &str| {
        let args = [
            "consume",
            "s",
            "--group",
            group,
            "--from",
            from,
            "--timeout",
            "500ms",
        ];
        let output = dev.run(&args, b"");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        lines(&output)
    };
    let time = |ms: u64| {
        let time = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
        format!("{time:.3}")
    };
    assert_eq!(consume("time", &time(old_ms + 25)), ["new"]);
    assert_eq!(consume("hour", "-1h"), ["old-1", "old-2", "new"]);
    assert_eq!(consume("latest", "latest"), [] as [&str; 0]);
    assert_eq!(consume("second", "1"), ["old-2", "new"]);
    let reset = |to: &str| {
        let output = dev.run(&["group", "reset", "s", "time", "--to", to], b"");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert!(reset("1").contains("goes on at 1 of s"));
    assert_eq!(consume("time", "earliest"), ["old-2", "new"]);
    reset("earliest");
    assert_eq!(consume("time", "latest"), ["old-1", "old-2", "new"]);
    reset(&time(old_ms + 25));
    assert_eq!(consume("time", "earliest"), ["new"]);
    reset("-1h");
    reset("latest");
    assert_eq!(consume("time", "earliest"), [] as [&str; 0]);
    let dropped = dev.run(&["group", "drop", "s", "time"], b"");
    assert_eq!(code(&dropped), Some(0), "{}", stderr(&dropped));
    assert_eq!(consume("time", "earliest"), ["old-1", "old-2", "new"]);
    let unknown = dev.run(&["group", "drop", "s", "nobody"], b"");
    assert_eq!(code(&unknown), Some(1));
    assert!(stderr(&unknown).contains("nobody") && stderr(&unknown).contains("qmq status"));
}

#[test]
fn what_a_reader_did_not_take_is_not_acknowledged() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    const MESSAGES: u64 = 20_000;
    assert_eq!(
        code(&dev.run(&["produce", "s"], &numbers(0, MESSAGES))),
        Some(0)
    );
    let mut consume = Process::start(
        dev.command(&["consume", "s", "--group", "g"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut reader = BufReader::new(consume.0.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    drop(reader);
    assert_eq!(consume.ended().code(), Some(1));
    // Of what it acknowledged nobody saw much: no more than a pipe and its own buffer hold.
    let args = ["consume", "s", "--group", "g", "--timeout", "3s"];
    let rest = lines(&dev.run(&args, b""));
    let lost = MESSAGES - rest.len() as u64;
    assert!(lost < MESSAGES && lost * 2 < 200 << 10, "{lost}");
    assert!(rest.iter().any(|line| *line == (MESSAGES - 1).to_string()));
}

#[test]
fn ctrl_c_ends_a_consumer_in_order() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    assert_eq!(code(&dev.run(&["produce", "s"], b"1\n")), Some(0));
    let mut consume = Process::start(
        dev.command(&["consume", "s", "--group", "g"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut reader = BufReader::new(consume.0.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, "1\n");
    consume.signal(Signal::INT);
    assert_eq!(consume.ended().code(), Some(0));
    let again = dev.run(&["consume", "s", "--group", "g", "--timeout", "500ms"], b"");
    assert_eq!(stdout(&again), "");
}

#[test]
fn a_refused_line_is_named_with_its_number_and_the_others_go_on() {
    let folder = folder();
    let dev = Dev::start_with(
        folder.path(),
        &["--port", "0", "--set", "message.max.bytes=1000"],
    );
    let mut input = b"good\n".to_vec();
    input.extend([b'x'; 5_000]);
    input.extend(b"\nalso good\n");
    let produced = dev.run(&["produce", "s"], &input);
    assert_eq!(code(&produced), Some(1));
    let said = stderr(&produced);
    assert!(
        said.contains("error: line 2: ") && said.contains("1000"),
        "{said}"
    );
    assert!(
        said.contains("2 messages to s") && said.contains("1 refused"),
        "{said}"
    );
    let consumed = dev.run(&["consume", "s", "--group", "g", "--count", "2"], b"");
    assert_eq!(stdout(&consumed), "good\nalso good\n");
}

#[test]
fn without_a_broker_each_command_says_what_to_type() {
    let folder = folder();
    let commands: [&[&str]; 5] = [
        &["produce", "s"],
        &["consume", "s", "--group", "g"],
        &["status"],
        &["group", "reset", "s", "g", "--to", "earliest"],
        &["group", "drop", "s", "g"],
    ];
    let check = |more: &[&str], variable: Option<&str>, parts: &[&str]| {
        for command in commands {
            let mut args = command.to_vec();
            args.extend(more);
            let mut command = of_user(folder.path(), &args);
            if let Some(file) = variable {
                command.env("QMQ_CLIENT", file);
            }
            let output = run_bounded(&mut command, b"x\n");
            let said = stderr(&output);
            assert_eq!(code(&output), Some(1), "{args:?}: {said}");
            for part in parts {
                let said_so = part.split('|').any(|part| said.contains(part));
                assert!(said_so, "{args:?}: {part} is not in {said}");
            }
            // Of `status` one for the meta server and one for the broker.
            assert!(said.lines().count() <= 2, "{said}");
        }
    };
    // None known.
    check(
        &[],
        None,
        &["no broker is known", "`qmq dev`", "--client FILE"],
    );
    // A file that is not there.
    check(
        &["--client", "/no/such/file"],
        None,
        &["/no/such/file", "--client"],
    );
    check(
        &[],
        Some("/no/such/other"),
        &["/no/such/other", "QMQ_CLIENT"],
    );
    // A file that is wrong.
    let file = folder.path().join("client.properties");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "broker.address=nonsense\n").unwrap();
    check(
        &["--client", path],
        None,
        &["client.properties", "broker.address", "nonsense"],
    );
    std::fs::write(&file, "broker.address=127.0.0.1:1\n").unwrap();
    check(&["--client", path], None, &["client.properties", "tls.ca"]);
    // A broker that does not run any more.
    let began = Instant::now();
    let mut dev = Dev::start(folder.path());
    dev.process.signal(Signal::TERM);
    dev.process.ended();
    check(
        &[],
        None,
        &[
            "127.0.0.1:",
            "refused|no broker runs",
            "`qmq dev`",
            "--client FILE",
        ],
    );
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn silence_is_a_failure_if_no_broker_is_there_to_break_it() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    assert_eq!(code(&dev.run(&["produce", "s"], b"1\n")), Some(0));
    let mut consume = Process::start(
        dev.command(&["consume", "s", "--group", "g", "--timeout", "3s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut reader = BufReader::new(consume.0.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, "1\n");
    dev.process.signal(Signal::TERM);
    dev.process.ended();
    assert_eq!(consume.ended().code(), Some(1));
    let mut said = String::new();
    let mut stderr = consume.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains("no broker is connected"), "{said}");
}

#[test]
fn errors_are_told_in_words() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let text = std::fs::read_to_string(dev.client_file()).unwrap();
    let wrong = folder.path().join("wrong.properties");
    std::fs::write(&wrong, format!("{text}\ntoken=unknown\n")).unwrap();
    let refused = dev.run(&["status", "--client", wrong.to_str().unwrap()], b"");
    assert_eq!(code(&refused), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("closed the connection (unauthorized): "),
        "{said}"
    );
    assert!(said.contains("correct token"), "{said}");
}

#[test]
fn who_asks_for_a_broker_elsewhere_is_not_told_to_start_one_here() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let text = std::fs::read_to_string(dev.client_file()).unwrap();
    // It is this machine, and no name of it.
    let elsewhere = text.replace(&dev.address, "0.0.0.0:1");
    let file = folder.path().join("elsewhere.properties");
    std::fs::write(&file, elsewhere).unwrap();
    let refused = dev.run(&["status", "--client", file.to_str().unwrap()], b"");
    assert_eq!(code(&refused), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("0.0.0.0:1") && said.contains("--client FILE"),
        "{said}"
    );
    assert!(!said.contains("qmq dev"), "{said}");
}

#[test]
fn a_broker_whose_certificate_is_somebody_elses_is_not_trusted() {
    let (one, other) = (folder(), folder());
    let dev = Dev::start(one.path());
    let tls = other.path().join("tls");
    let made = run_bounded(
        &mut qmq(["tls", "init", "--dir", tls.to_str().unwrap()]),
        b"",
    );
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let file = other.path().join("client.properties");
    let text = format!(
        "broker.address={}\ntls.server.name=localhost\ntls.ca={}\n",
        dev.address,
        tls.join("ca.pem").display()
    );
    std::fs::write(&file, text).unwrap();
    let began = Instant::now();
    let output = dev.run(&["status", "--client", file.to_str().unwrap()], b"");
    assert_eq!(code(&output), Some(1));
    let said = stderr(&output);
    for part in ["certificate", "tls.ca", "client.properties", "`qmq dev`"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "known at once");
}

#[test]
fn status_shows_nodes_and_groups() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let empty = dev.run(&["status"], b"");
    assert!(stdout(&empty).contains("no subjects"), "{}", stdout(&empty));
    assert_eq!(
        code(&dev.run(&["produce", "order.changed"], &numbers(0, 5))),
        Some(0)
    );
    assert_eq!(code(&dev.run(&["produce", "lonely"], b"x\n")), Some(0));
    let args = [
        "consume",
        "order.changed",
        "--group",
        "ticket",
        "--timeout",
        "500ms",
    ];
    assert_eq!(code(&dev.run(&args, b"")), Some(0));
    let args = [
        "consume",
        "order.changed",
        "--group",
        "late",
        "--from",
        "latest",
        "--timeout",
        "300ms",
    ];
    assert_eq!(code(&dev.run(&args, b"")), Some(0));
    assert_eq!(
        code(&dev.run(&["produce", "order.changed"], &numbers(5, 2))),
        Some(0)
    );
    let shown = stdout(&dev.run(&["status"], b""));
    let row = |name: &str| {
        let mut rows = shown
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == name));
        rows.next()
            .unwrap_or_else(|| panic!("{name}: {shown}"))
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(row("ticket")[..4], ["order.changed", "7", "ticket", "2"]);
    assert_eq!(row("lonely")[..3], ["lonely", "1", "-"]);
    let brokers_row = shown.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() > 2 && words[0] == "dev" && words[2] == dev.address
    });
    assert!(brokers_row, "{shown}");
    let some = stdout(&dev.run(&["status", "order.*"], b""));
    assert!(
        some.contains("ticket") && !some.contains("lonely"),
        "{some}"
    );
    let lines = json_lines(&dev.run(&["status", "--json"], b""));
    assert_eq!(lines[0]["kind"], "meta");
    assert_eq!(lines[0]["database_up"], true);
    let node = lines.iter().find(|line| line["kind"] == "node").unwrap();
    assert_eq!(node["produced"], 8);
    assert_eq!(node["subjects"], 2);
    let group = lines.iter().find(|line| line["group"] == "ticket").unwrap();
    assert_eq!(group["lag"], 2);
    assert_eq!(group["unacked"], 0);
    assert_eq!(group["cursor"], 5);
    let mut watch = Process::start(
        dev.command(&["status", "--watch", "--every", "200ms", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let reader = BufReader::new(watch.0.stdout.take().unwrap());
    let rated = reader
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
        .find(|line| line["produced_per_s"].is_number());
    assert!(rated.is_some(), "the second reading has rates");
    watch.signal(Signal::INT);
    watch.ended();
}

#[test]
fn status_shows_the_groups_with_the_most_lag_of_very_many_subjects() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    // More than one page of subjects.
    const SUBJECTS: usize = 1_050;
    let store = folder.path().join("dev/store");
    drop(dev);
    let subjects: Vec<String> = (0..SUBJECTS).map(|n| format!("s{n:04}")).collect();
    {
        let store = qmq_store::Store::open(&store, qmq_store::Options::default()).unwrap();
        for subject in &subjects {
            store
                .append_with(
                    &qmq_store::Message::new(subject, "x"),
                    qmq_store::Durability::Buffered,
                )
                .unwrap();
        }
        let pull =
            qmq_store::PullRequest::new("s0777", "busy", "host").start(qmq_store::Start::Earliest);
        store.pull(&pull).unwrap();
        store
            .append(&qmq_store::Message::new("s0777", "y"))
            .unwrap();
        store.close().unwrap();
    }
    let dev = Dev::start(folder.path());
    let shown = stdout(&dev.run(&["status"], b""));
    assert!(shown.contains("40 of 1,050 rows"), "{shown}");
    let first = shown.lines().find(|line| line.starts_with(" s")).unwrap();
    let first = shown
        .lines()
        .skip_while(|line| *line != first)
        .nth(2)
        .unwrap();
    assert!(first.contains("s0777") && first.contains("busy"), "{shown}");
    let all = stdout(&dev.run(&["status", "--all"], b""));
    assert!(
        subjects
            .iter()
            .all(|subject| all.contains(subject.as_str()))
    );
    let lines = json_lines(&dev.run(&["status", "--json"], b""));
    let of_brokers = |line: &&serde_json::Value| {
        !["meta", "broker_group", "member"].contains(&line["kind"].as_str().unwrap())
    };
    assert_eq!(lines.iter().filter(of_brokers).count(), 1 + SUBJECTS + 1);
}

#[test]
fn sigterm_ends_a_broker_in_order_and_its_data_is_there_afterwards() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    assert_eq!(code(&dev.run(&["produce", "s"], &numbers(0, 100))), Some(0));
    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.ended().code(), Some(0));
    let dev = Dev::start(folder.path());
    let consumed = dev.run(&["consume", "s", "--group", "g", "--count", "100"], b"");
    assert_eq!(consumed.stdout, numbers(0, 100));
}

#[test]
fn a_producer_goes_on_at_once_when_a_killed_broker_comes_back() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    let port = dev.address.rsplit(':').next().unwrap().to_owned();
    let mut produce = Process::start(
        dev.command(&["produce", "s", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut input = produce.0.stdin.take().unwrap();
    let mut reports = BufReader::new(produce.0.stdout.take().unwrap()).lines();
    writeln!(input, "before").unwrap();
    reports.next().unwrap().unwrap();
    dev.process.0.kill().unwrap();
    dev.process.0.wait().unwrap();
    let dev = Dev::start_with(folder.path(), &["--port", &port, "--http-port", "0"]);
    let began = Instant::now();
    writeln!(input, "after").unwrap();
    let report = reports.next().unwrap().unwrap();
    // Without a word from the new process it would wait until the connection has been silent for 6 s.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(report.contains("\"line\":2"), "{report}");
    drop(input);
    assert_eq!(produce.ended().code(), Some(0));
    let consumed = dev.run(&["consume", "s", "--group", "g", "--count", "2"], b"");
    assert_eq!(stdout(&consumed), "before\nafter\n");
}

#[test]
fn a_second_signal_ends_a_broker_at_once() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    assert_eq!(code(&dev.run(&["produce", "s"], b"1\n")), Some(0));
    // A consumer that holds a message keeps the broker from ending at once: its output is not read.
    assert_eq!(
        code(&dev.run(&["produce", "s"], &numbers(0, 100_000))),
        Some(0)
    );
    let _stuck = Process::start(
        dev.command(&["consume", "s", "--group", "g"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    std::thread::sleep(Duration::from_millis(500));
    dev.process.signal(Signal::TERM);
    let mut said = BufReader::new(dev.process.0.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("a second signal stops at once"), "{line}");
    assert!(dev.process.0.try_wait().unwrap().is_none());
    // Two that come at once are one.
    std::thread::sleep(Duration::from_millis(400));
    dev.process.signal(Signal::INT);
    let began = Instant::now();
    assert_eq!(dev.process.ended().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5));
    let dev = Dev::start(folder.path());
    let consumed = dev.run(&["consume", "s", "--group", "other", "--count", "1"], b"");
    assert_eq!(stdout(&consumed), "1\n");
}

#[test]
fn a_stream_of_lines_is_sent_as_it_comes() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let mut produce = Process::start(
        dev.command(&["produce", "s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let mut input = produce.0.stdin.take().unwrap();
    for n in 0..3 {
        writeln!(input, "{n}").unwrap();
        input.flush().unwrap();
        let consumed = dev.run(&["consume", "s", "--group", "g", "--count", "1"], b"");
        assert_eq!(stdout(&consumed), format!("{n}\n"));
    }
    drop(input);
    assert_eq!(produce.ended().code(), Some(0));
}

#[test]
fn a_wrong_command_line_of_these_exits_with_2() {
    let folder = folder();
    for args in [
        &["produce"][..],
        &["produce", "a/b"],
        &["produce", "s", "--durability", "maybe"],
        &["produce", "s", "--property", "novalue"],
        &["produce", "s", "--tag", ""],
        &["consume", "s"],
        &["consume", "s", "--group", ""],
        &["consume", "s", "--group", "g", "--count", "0"],
        &["consume", "s", "--group", "g", "--every-tag"],
        &["consume", "s", "--group", "g", "--from", "soon"],
        &["group", "reset", "s", "g"],
        &["group", "reset", "s", "g", "--to", "-1"],
        &["consume", "s", "--group", "g", "--timeout", "0s"],
        &["status", "--every", "soon"],
        &["status", "--watch", "--every", "0s"],
    ] {
        let output = run_bounded(&mut of_user(folder.path(), args), b"");
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
    }
    for args in [
        &["produce"][..],
        &["consume"],
        &["status"],
        &["group"],
        &["group", "reset"],
        &["group", "drop"],
        &["dev"],
    ] {
        let mut with_help = args.to_vec();
        with_help.push("--help");
        let output = run_bounded(&mut of_user(folder.path(), &with_help), b"");
        assert!(stdout(&output).contains("Examples:\n"), "{args:?}");
    }
}

#[test]
fn dev_refuses_settings_of_addresses_and_ports_and_says_what_to_use() {
    let folder = tempfile::tempdir().unwrap();
    for (set, instead) in [
        ("broker.port=20999", "--port"),
        ("http.port=0", "--http-port"),
        ("broker.listen=0.0.0.0", "qmq broker"),
        ("http.listen=0.0.0.0", "qmq broker"),
    ] {
        let args = ["dev", "--port", "0", "--set", set];
        let mut command = of_user(folder.path(), &args);
        command.arg("--dir").arg(folder.path().join("dev"));
        let output = run_bounded(&mut command, b"");
        assert_eq!(code(&output), Some(1), "{set}: {}", stdout(&output));
        let said = stderr(&output);
        let key = set.split('=').next().unwrap();
        assert!(said.contains(key) && said.contains(instead), "{said}");
    }
}
