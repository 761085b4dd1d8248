use super::super::keys::BROKER;
use super::*;
use std::fs;

fn read(text: &str) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, text).unwrap();
    Settings::read(BROKER, &Sources::of_file(&path))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn the_command_line_comes_before_the_environment_before_the_file_before_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(
        &path,
        "# ports\nbroker.port=1\nstreams.max=11\nconnection.max=12\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some(path.clone()),
        environment: pairs(&[
            ("QMQ_BROKER_PORT", "2"),
            ("QMQ_STREAMS_MAX", "22"),
            ("HOME", "x"),
        ]),
        sets: pairs(&[("broker.port", "3"), ("broker.port", "4")]),
    };
    let settings = Settings::read(BROKER, &sources).unwrap();
    let found = |name| {
        let setting = settings.get(name).unwrap();
        (setting.value.to_string(), setting.origin.clone())
    };
    let line = Origin::File { path, line: 4 };
    assert_eq!(found("broker.port"), ("4".into(), Origin::Set));
    let variable = Origin::Environment("QMQ_STREAMS_MAX".into());
    assert_eq!(found("streams.max"), ("22".into(), variable));
    assert_eq!(found("connection.max"), ("12".into(), line));
    assert_eq!(found("broker.listen"), ("0.0.0.0".into(), Origin::Default));
    assert_eq!(settings.warnings, []);
    assert_eq!(settings.iter().count(), BROKER.len());
}

#[test]
fn every_bad_value_is_reported_with_file_line_key_value_and_what_is_allowed() {
    let error = read(
        "broker.port=abc\nflush.mode=never\nsubject.auto.create=yes\nstore.segment.bytes=1K\n\
         messagelog.retention.hours=0\nhttp.listen=localhost\nanonymous.rights=everything\nbroker.name=\\u12\n",
    )
    .unwrap_err();
    let shown = error.to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 8, "{shown}");
    for expected in [
        "broker.properties:1: broker.port = \"abc\" is refused; allowed is a whole number from 1 to 65535",
        "broker.properties:2: flush.mode = \"never\" is refused; allowed is sync or async",
        "broker.properties:3: subject.auto.create = \"yes\" is refused; allowed is true or false",
        "broker.properties:4: store.segment.bytes = \"1K\" is refused; allowed is a number of bytes from 65536 to",
        "broker.properties:5: messagelog.retention.hours = \"0\" is refused; allowed is a whole number of hours from 1",
        "broker.properties:6: http.listen = \"localhost\" is refused; allowed is an IP address",
        "broker.properties:7: anonymous.rights = \"everything\" is refused; allowed is rights",
        "broker.properties:8: \\u needs four",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{expected}\n{shown}"
        );
    }
}

#[test]
fn bad_values_of_all_places_are_reported_together() {
    let sources = Sources {
        file: Some("/nowhere/broker.properties".into()),
        environment: pairs(&[("QMQ_STREAMS_MAX", "x")]),
        sets: pairs(&[("broker.port", "0")]),
    };
    let shown = Settings::read(BROKER, &sources).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(
        shown.contains("/nowhere/broker.properties: cannot be read"),
        "{shown}"
    );
    assert!(
        shown.contains("environment variable QMQ_STREAMS_MAX: streams.max = \"x\""),
        "{shown}"
    );
    assert!(shown.contains("--set: broker.port = \"0\""), "{shown}");
}

#[test]
fn an_unknown_key_is_a_warning_with_the_name_it_may_have_meant() {
    let settings = read("broker.prot=1\nspring.name=x\n").unwrap();
    let shown: Vec<_> = settings.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 2);
    assert!(
        shown[0].ends_with("did you mean broker.port?"),
        "{}",
        shown[0]
    );
    assert!(shown[1].ends_with("passed over"), "{}", shown[1]);
    let sources = Sources {
        environment: pairs(&[
            ("QMQ_BROKER_PROT", "1"),
            ("QMQ_CLIENT", "x"),
            ("OTHER", "x"),
        ]),
        sets: pairs(&[("stream.max", "1")]),
        ..Sources::default()
    };
    let settings = Settings::read(BROKER, &sources).unwrap();
    let shown: Vec<_> = settings.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(
        shown[0].contains("QMQ_BROKER_PROT") && shown[0].ends_with("did you mean broker.port?")
    );
    assert!(
        shown[1].ends_with("did you mean streams.max?"),
        "{}",
        shown[1]
    );
}

#[test]
fn an_empty_value_is_the_default_with_a_warning() {
    let settings = read("streams.max\nbroker.group=\nbroker.port=  \n").unwrap();
    assert_eq!(settings.number::<u64>("streams.max").unwrap(), 1024);
    let shown: Vec<_> = settings.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(
        shown[0].contains("streams.max has no value; its default counts: 1024"),
        "{}",
        shown[0]
    );
}

#[test]
fn an_empty_value_is_the_default_also_above_a_place_that_sets_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, "streams.max=9\n").unwrap();
    let sources = Sources {
        sets: pairs(&[("streams.max", "")]),
        ..Sources::of_file(&path)
    };
    let settings = Settings::read(BROKER, &sources).unwrap();
    assert_eq!(settings.number::<u64>("streams.max").unwrap(), 1024);
    assert_eq!(settings.get("streams.max").unwrap().origin, Origin::Default);
    assert_eq!(settings.warnings.len(), 1);
}

#[test]
fn a_key_that_comes_twice_counts_as_its_last_line_says() {
    let settings = read("streams.max=9\nstreams.max=10\n").unwrap();
    assert_eq!(settings.number::<u64>("streams.max").unwrap(), 10);
    assert!(settings.warnings[0].to_string().contains("line 1 already"));
}

#[test]
fn a_relative_path_in_a_file_is_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, "store.root=data\ntls.key=/etc/node.key\n").unwrap();
    let sources = Sources {
        sets: pairs(&[("tls.ca", "ca.pem")]),
        ..Sources::of_file(&path)
    };
    let settings = Settings::read(BROKER, &sources).unwrap();
    let of = |name| settings.path(name).unwrap().unwrap();
    assert_eq!(of("store.root"), folder.path().join("data"));
    assert_eq!(of("tls.key"), Path::new("/etc/node.key"));
    assert_eq!(of("tls.cert"), folder.path().join("tls/node.pem"));
    assert_eq!(of("tls.ca"), Path::new("ca.pem"));
}

#[test]
fn a_key_without_effect_is_a_warning_that_says_why() {
    let settings = read("wait.slave.wrote=true\n").unwrap();
    let shown = settings.warnings[0].to_string();
    assert!(
        shown.contains("wait.slave.wrote is accepted without effect: this broker has no slaves"),
        "{shown}"
    );
}

#[test]
fn variables_of_the_other_table_are_passed_over_in_silence() {
    let sources = Sources {
        environment: pairs(&[
            ("QMQ_TOKEN", "x"),
            ("QMQ_TOKEN_FILE", "x"),
            ("QMQ_CONSUMER_ID", "x"),
        ]),
        ..Sources::default()
    };
    let settings = Settings::read(BROKER, &sources).unwrap();
    assert_eq!(settings.warnings, []);
}

#[test]
fn sources_are_taken_from_a_process_and_do_not_show_values() {
    let mut sources = Sources::default();
    let variables = [("QMQ_TOKEN", "hunter2"), ("HOME", "/root")];
    sources.take_environment(variables.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(sources.environment, pairs(&[("QMQ_TOKEN", "hunter2")]));
    sources.take_set("token=hunter2=hunter2").unwrap();
    assert_eq!(sources.sets, pairs(&[("token", "hunter2=hunter2")]));
    for bad in ["hunter2", "=hunter2", ""] {
        let refused = sources.take_set(bad).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
    assert!(!format!("{sources:?}").contains("hunter2"));
}

#[test]
fn a_bad_secret_is_refused_without_being_shown() {
    let sources = Sources {
        sets: pairs(&[("token", "hunter2\u{7}")]),
        ..Sources::default()
    };
    let error = Settings::read(super::super::keys::CLIENT, &sources).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("token = \"(secret)\"") && !shown.contains("hunter2"),
        "{shown}"
    );
}

/// Values just outside what a key takes.
fn outside(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Integer { low, high, .. }
        | Kind::Duration { low, high, .. }
        | Kind::Bytes { low, high } => {
            let numbers = [low.checked_sub(1), high.checked_add(1)]
                .into_iter()
                .flatten();
            numbers
                .map(|number| number.to_string())
                .chain(["-1".into(), "x".into()])
                .collect()
        }
        Kind::Text { bytes_max } => vec!["x".repeat(bytes_max + 1)],
        // A secret takes any text of its length.
        Kind::Secret { .. } => Vec::new(),
        Kind::Path => vec!["a\0b".into()],
        Kind::Host | Kind::Urls | Kind::JdbcUrl => vec!["no such value".into()],
        _ => vec!["no such value".into()],
    }
}

#[test]
fn every_key_refuses_what_is_just_outside_its_range_and_takes_its_ends() {
    for key in super::super::keys::ALL.into_iter().flatten() {
        for value in outside(key.kind) {
            assert_eq!(key.kind.read(&value), None, "{} {value}", key.name);
        }
        if let Kind::Integer { low, high, .. }
        | Kind::Duration { low, high, .. }
        | Kind::Bytes { low, high } = key.kind
        {
            for value in [low, high] {
                assert!(
                    key.kind.read(&value.to_string()).is_some(),
                    "{} {value}",
                    key.name
                );
            }
        }
    }
    let bad = |key: &&Key| !outside(key.kind).is_empty();
    let lines = BROKER
        .iter()
        .filter(bad)
        .map(|key| format!("{}={}\n", key.name, outside(key.kind)[0]));
    let error = read(&lines.collect::<String>()).unwrap_err();
    assert_eq!(error.problems.len(), BROKER.iter().filter(bad).count());
}

#[test]
fn what_is_written_of_a_setting_is_read_as_the_same() {
    for table in super::super::keys::ALL {
        let filled = Sources {
            sets: pairs(&[
                ("jdbc.url", "jdbc:mysql://h/db"),
                ("jdbc.username", "x"),
                ("meta.server.endpoint", "http://h/meta/address"),
            ]),
            ..Sources::default()
        };
        for setting in Settings::read(table, &filled).unwrap().iter() {
            let written = setting.written();
            if !written.is_empty() && !setting.key.is_secret() {
                let read = setting.key.kind.read(&written);
                assert_eq!(read.as_ref(), Some(&setting.value), "{}", setting.key.name);
            }
        }
    }
}
