//! `qmq config`: files of QMQ's operators pass their check, values have their origin, and secrets stay where they are.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot run its command has failed"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{code, json_lines, qmq, stderr, stdout};
use qmq_server::config::{FileKind, document};

/// `qmq config ARGS` without the variables of whoever runs the tests.
fn config(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = qmq(["config"]);
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QMQ_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds")
}

fn seed(name: &str) -> String {
    seeds().join(name).to_str().unwrap().to_owned()
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_document_is_that_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let committed = fs::read_to_string(path).unwrap();
    assert!(
        committed == document(),
        "docs/configuration.md is not current; `qmq config docs > docs/configuration.md` makes it anew"
    );
    let printed = config(&["docs"], &[]);
    assert_eq!(stdout(&printed), committed);
    for kind in FileKind::ALL {
        assert!(committed.contains(&format!("\n## {}.properties\n", kind.name())));
        for key in kind.keys() {
            assert!(
                committed.contains(&format!("\n| `{}` |", key.name)),
                "{}",
                key.name
            );
        }
    }
}

#[test]
fn the_files_of_qmqs_operators_pass_their_check_as_they_are() {
    let files = files_in(&seeds());
    assert_eq!(files.len(), 36);
    for file in files {
        let name = file.to_str().unwrap();
        let checked = config(&["check", name], &[]);
        assert_eq!(code(&checked), Some(0), "{name}: {}", stdout(&checked));
        assert_eq!(stderr(&checked), "", "{name}");
        let said = stdout(&checked);
        assert!(!said.contains("error:"), "{said}");
        // Only RocketMQ's files have keys that are not known.
        let is_rocketmq = name.contains("/003/") || name.contains("/004/");
        assert_eq!(said.contains("is no known key"), is_rocketmq, "{said}");
        let shown = config(&["show", name], &[]);
        assert_eq!(code(&shown), Some(0), "{name}: {}", stderr(&shown));
    }
}

#[test]
fn what_is_a_template_says_what_is_to_be_filled_in() {
    let said = stdout(&config(&["check", &seed("000/datasource.properties")], &[]));
    for expected in [
        "to fill in: ",
        "datasource.properties:4: jdbc.url = \"jdbc:mysql://<address>:<port>/<db>?<params>\" is a placeholder",
        "datasource.properties:6: jdbc.username is required and left empty",
        "is a template that can be used once it is filled in",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let started = qmq(["broker", "--config", &seed("000/broker.properties")])
        .output()
        .unwrap();
    assert_eq!(code(&started), Some(1));
    assert!(stderr(&started).contains("broker.properties:2: meta.server.endpoint"));
}

#[test]
fn values_of_qmqs_files_are_what_they_say() {
    let value = |file: &str, key: &str| {
        let shown = config(&["show", &seed(file), "--json"], &[]);
        let lines = json_lines(&shown);
        let line = lines.iter().find(|line| line["key"] == key).cloned();
        line.unwrap_or_else(|| panic!("{file} {key}: {}", stderr(&shown)))
    };
    let meta = "001/qmq-server01/qmq-metaserver/conf";
    let port = value(
        &format!("{meta}/../../../qmq-server02/qmq-metaserver/conf/metaserver.properties"),
        "meta.server.discover.port",
    );
    assert_eq!(
        (&port["value"], &port["origin"]["line"]),
        (&"8080".into(), &2.into()),
        "{port}"
    );
    let url = value(&format!("{meta}/datasource.properties"), "jdbc.url");
    assert_eq!(
        url["value"],
        "jdbc:mysql://devmysql.hs.com:3306/qmq_metaserver?useSSL=false"
    );
    let delay = "001/qmq-server02/qmq-delay-server/conf/delay.properties";
    assert_eq!(value(delay, "segment.scale.minute")["value"], "10");
    assert_eq!(value(delay, "log.expired.delete.enable")["value"], "true");
    assert_eq!(
        value(delay, "meta.server.endpoint")["value"],
        "http://127.0.0.1:8080/meta/address"
    );
    assert_eq!(value(delay, "wait.slave.wrote")["status"], "no effect");
}

#[test]
fn errors_have_file_line_key_value_and_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let good = written(folder.path(), "broker.properties", "broker.port=1\n");
    let bad = written(
        folder.path(),
        "delay.properties",
        "# c\nsegment.scale.minute=61\n",
    );
    let checked = config(&["check", &good, &bad], &[]);
    assert_eq!(code(&checked), Some(1));
    let said = stdout(&checked);
    assert!(said.contains("delay.properties:2: segment.scale.minute = \"61\" is refused; allowed is a whole number from 5 to 60"), "{said}");
    assert!(
        said.contains("meta.server.endpoint is required and not set"),
        "{said}"
    );
    assert!(
        said.contains("broker.properties (broker) can be used"),
        "{said}"
    );
    let checked = config(&["check", &good, &bad, "--json"], &[]);
    assert_eq!(code(&checked), Some(1));
    let lines = json_lines(&checked);
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["ok"], &lines[1]["ok"]),
        (&true.into(), &false.into())
    );
    let error = &lines[1]["errors"][0];
    assert_eq!(error["key"], "segment.scale.minute");
    assert_eq!((&error["line"], &error["value"]), (&2.into(), &"61".into()));
    assert!(
        error["allowed"].as_str().unwrap().contains("5 to 60"),
        "{error}"
    );
    let shown = config(&["show", &bad], &[]);
    assert_eq!((code(&shown), stdout(&shown).as_str()), (Some(1), ""));
    assert!(stderr(&shown).contains("delay.properties:2"));
}

#[test]
fn warnings_have_line_key_value_and_what_is_allowed() {
    let checked = config(&["check", &seed("000/broker.properties"), "--json"], &[]);
    let line = &json_lines(&checked)[0];
    let warnings = line["warnings"].as_array().unwrap();
    let of = |key: &str| {
        warnings
            .iter()
            .find(|warning| warning["key"] == key)
            .unwrap()
    };
    let empty = of("pulllog.retention.hours");
    assert_eq!((&empty["line"], &empty["value"]), (&20.into(), &"".into()));
    assert_eq!(empty["allowed"], "a whole number of hours from 0 to 87600");
    let idle = of("wait.slave.wrote");
    assert_eq!(
        (&idle["line"], &idle["value"]),
        (&12.into(), &"false".into())
    );
    assert_eq!(line["to_fill_in"][0]["key"], "meta.server.endpoint");
}

#[test]
fn show_says_where_each_value_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(
        folder.path(),
        "metaserver.properties",
        "min.group.num=1\nrefresh.period.seconds=7\nheartbeat.timeout.ms=8000\n",
    );
    let args = [
        "show",
        &file,
        "--changed",
        "--set",
        "min.group.num=3",
        "--json",
    ];
    let shown = config(
        &args,
        &[
            ("QMQ_MIN_GROUP_NUM", "2"),
            ("QMQ_REFRESH_PERIOD_SECONDS", "9"),
        ],
    );
    let lines = json_lines(&shown);
    let of = |key: &str| lines.iter().find(|line| line["key"] == key).unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let min = of("min.group.num");
    assert_eq!(
        (&min["value"], &min["origin"]["from"], &min["status"]),
        (&"3".into(), &"set".into(), &"dynamic".into())
    );
    let refresh = of("refresh.period.seconds");
    assert_eq!(refresh["origin"]["variable"], "QMQ_REFRESH_PERIOD_SECONDS");
    let heartbeat = of("heartbeat.timeout.ms");
    assert_eq!(
        (&heartbeat["value"], &heartbeat["origin"]["line"]),
        (&"8000".into(), &3.into())
    );
    let all = stdout(&config(&["show", &file], &[]));
    for expected in [
        "meta.server.port",
        "20880",
        "default",
        "metaserver.properties:3",
        "8000",
        "no effect",
    ] {
        assert!(all.contains(expected), "{expected}\n{all}");
    }
}

#[test]
fn secrets_are_shown_by_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let secret = written(folder.path(), "secret", "hunter2\n");
    let files = [
        written(
            folder.path(),
            "broker.properties",
            "cluster.token=hunter2\n",
        ),
        written(folder.path(), "client.properties", "token=hunter2\n"),
        written(
            folder.path(),
            "datasource.properties",
            "jdbc.url=jdbc:mysql://me:hunter2@h/db?password=hunter2\njdbc.username=x\njdbc.password=hunter2\n",
        ),
        written(
            folder.path(),
            "datasource2.properties",
            &format!(
                "jdbc.url=jdbc:mysql://h/db?password=hunter2\njdbc.username=x\njdbc.password.file={secret}\n"
            ),
        ),
        written(
            folder.path(),
            "datasource3.properties",
            "jdbc.password=hunter2\u{7}\njdbc.pasword=hunter2\n",
        ),
        written(
            folder.path(),
            "valid-api-tokens.properties",
            "hunter2=for CI\nhunter2=for me\n\\u00=hunter2\n",
        ),
        written(
            folder.path(),
            "valid-api-tokens2.properties",
            "hunter2=for CI\nhunter2=for me\n",
        ),
    ];
    for file in &files {
        for args in [
            &["check", file][..],
            &["check", file, "--json"],
            &["show", file],
            &["show", file, "--json"],
            &[
                "show",
                file,
                "--set",
                "jdbc.password=hunter2",
                "--set",
                "cluster.token=hunter2",
            ],
        ] {
            let said = config(
                args,
                &[("QMQ_TOKEN", "hunter2"), ("QMQ_JDBC_PASWORD", "hunter2")],
            );
            let all = format!("{}{}", stdout(&said), stderr(&said));
            assert!(!all.contains("hunter2"), "{args:?}: {all}");
            assert!(!all.is_empty(), "{args:?}");
        }
    }
    let shown = stdout(&config(&["show", &files[0], "--changed"], &[]));
    assert!(
        shown.contains("cluster.token") && shown.contains("(secret)"),
        "{shown}"
    );
    let shown = stdout(&config(&["show", &files[6]], &[]));
    assert!(
        shown.starts_with("1 token, not shown") && shown.contains("for me"),
        "{shown}"
    );
}

#[test]
fn a_file_of_another_name_is_checked_as_what_it_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "mine.conf", "order=yes\n");
    let unknown = config(&["check", &file], &[]);
    assert_eq!(code(&unknown), Some(2));
    assert!(stderr(&unknown).contains("--kind"), "{}", stderr(&unknown));
    let checked = config(&["check", &file, "--kind", "client_log_switch"], &[]);
    assert_eq!(code(&checked), Some(1));
    assert!(stdout(&checked).contains("mine.conf:1: \"order\" = \"yes\" is refused"));
    let missing = config(&["check", "/nowhere/broker.properties"], &[]);
    assert_eq!(code(&missing), Some(1));
    assert!(stdout(&missing).contains("/nowhere/broker.properties: cannot be read"));
}

#[test]
fn what_a_file_has_does_not_move_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(
        folder.path(),
        "broker.properties",
        "store.root=/\u{1b}[2J\nx\u{1b}[2J=1\n",
    );
    for args in [&["check", &file][..], &["show", &file]] {
        let said = config(args, &[]);
        let all = format!("{}{}", stdout(&said), stderr(&said));
        assert!(!all.contains('\u{1b}'), "{all}");
    }
}
