use std::fs;
use std::time::Duration;

use super::*;
use crate::config::told::log_of;
use crate::config::{DelayConfig, MetaConfig};

fn watched(text: &str) -> (tempfile::TempDir, PathBuf, WatchedConfig) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, text).unwrap();
    let (watched, _) = WatchedConfig::load(Sources::of_file(&path)).unwrap();
    (folder, path, watched)
}

#[test]
fn a_changed_dynamic_key_takes_effect_and_is_reported() {
    let (_folder, path, watched) = watched("message.retry.delay.seconds=5\n");
    assert_eq!(watched.poll().unwrap(), None);
    fs::write(
        &path,
        "message.retry.delay.seconds=60\nsubject.auto.create=false\n",
    )
    .unwrap();
    let reload = watched.poll().unwrap().unwrap();
    let changes: Vec<_> = reload
        .changed
        .iter()
        .map(|change| (change.key.name, &*change.old, &*change.new))
        .collect();
    let expected = [
        ("message.retry.delay.seconds", "5 s", "60 s"),
        ("subject.auto.create", "true", "false"),
    ];
    assert_eq!(changes, expected);
    assert_eq!(reload.needs_restart, []);
    let current = watched.current();
    assert_eq!(current.retry_delay, Duration::from_secs(60));
    assert!(!current.subject_auto_create);
    assert_eq!(watched.poll().unwrap(), None);
}

#[test]
fn a_change_that_needs_a_restart_is_reported_until_it_is_taken_back() {
    let (_folder, path, watched) = watched("broker.port=20881\n");
    fs::write(&path, "broker.port=20899\nslave.sync.timeout=1\n").unwrap();
    let reload = watched.poll().unwrap().unwrap();
    assert_eq!(reload.changed, []);
    let names: Vec<_> = reload.needs_restart.iter().map(|c| c.key.name).collect();
    assert_eq!(names, ["broker.port", "http.port"]);
    fs::write(&path, "broker.port=20899\nsubject.auto.create=false\n").unwrap();
    let reload = watched.poll().unwrap().unwrap();
    assert_eq!((reload.changed.len(), reload.needs_restart.len()), (1, 2));
    fs::write(&path, "broker.port=20881\nsubject.auto.create=false\n\n").unwrap();
    let reload = watched.poll().unwrap().unwrap();
    assert_eq!((reload.changed.len(), reload.needs_restart.len()), (0, 0));
}

#[test]
fn a_bad_file_is_reported_once_and_the_old_values_stay() {
    let (_folder, path, watched) = watched("message.retry.delay.seconds=7\n");
    fs::write(
        &path,
        "message.retry.delay.seconds=soon\nsubject.auto.create=maybe\n",
    )
    .unwrap();
    let error = watched.poll().unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    assert_eq!(watched.poll().unwrap(), None);
    assert_eq!(watched.current().retry_delay, Duration::from_secs(7));
    fs::remove_file(&path).unwrap();
    assert!(watched.poll().is_err());
    assert_eq!(watched.poll().unwrap(), None);
    assert_eq!(watched.current().retry_delay, Duration::from_secs(7));
    fs::write(&path, "message.retry.delay.seconds=8\n").unwrap();
    assert_eq!(watched.poll().unwrap().unwrap().changed.len(), 1);
    assert_eq!(watched.current().retry_delay, Duration::from_secs(8));
}

#[test]
fn without_a_file_there_is_nothing_to_poll() {
    let (watched, _) = WatchedConfig::load(Sources::default()).unwrap();
    assert_eq!(watched.poll().unwrap(), None);
}

#[test]
fn what_the_command_line_sets_is_not_changed_by_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, "").unwrap();
    let sets = vec![("message.retry.delay.seconds".to_owned(), "3".to_owned())];
    let sources = Sources {
        sets,
        ..Sources::of_file(&path)
    };
    let (watched, _) = WatchedConfig::load(sources).unwrap();
    fs::write(&path, "message.retry.delay.seconds=9\n").unwrap();
    assert_eq!(watched.poll().unwrap(), Some(Reload::default()));
    assert_eq!(watched.current().retry_delay, Duration::from_secs(3));
}

#[test]
fn the_delay_server_follows_its_file_and_refuses_what_does_not_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delay.properties");
    let head = "meta.server.endpoint=http://127.0.0.1:8080/meta/address\n";
    fs::write(&path, head).unwrap();
    let (watched, config) = Watched::<DelayConfig>::load(Sources::of_file(&path)).unwrap();
    assert_eq!(*watched.current(), config.dynamic);
    let line = "netty.send.message.retry.max.sleep.millis=2000\n";
    fs::write(&path, format!("{head}{line}")).unwrap();
    assert_eq!(watched.poll().unwrap().unwrap().changed.len(), 1);
    assert_eq!(watched.current().retry_max, Duration::from_secs(2));
    let line = "netty.send.message.retry.max.sleep.millis=10\n";
    fs::write(&path, format!("{head}{line}")).unwrap();
    let shown = watched.poll().unwrap_err().to_string();
    assert!(shown.contains("retry.min.sleep.millis"), "{shown}");
    assert_eq!(watched.current().retry_max, Duration::from_secs(2));
}

#[test]
fn the_meta_server_follows_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metaserver.properties");
    fs::write(&path, "heartbeat.timeout.ms=30000\n").unwrap();
    let (watched, _) = Watched::<MetaConfig>::load(Sources::of_file(&path)).unwrap();
    fs::write(
        &path,
        "heartbeat.timeout.ms=9000\nmin.group.num=3\nmeta.server.port=1\n",
    )
    .unwrap();
    let reload = watched.poll().unwrap().unwrap();
    assert_eq!((reload.changed.len(), reload.needs_restart.len()), (2, 1));
    assert_eq!(watched.current().heartbeat_timeout, Duration::from_secs(9));
    assert_eq!(watched.current().min_group_num, 3);
}

#[test]
fn a_changed_file_of_a_secret_is_seen_and_its_content_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    let secret = folder.path().join("secret");
    fs::write(&secret, "hunter2").unwrap();
    fs::write(&path, "cluster.token.file=secret\n").unwrap();
    let (watched, config) = WatchedConfig::load(Sources::of_file(&path)).unwrap();
    assert_eq!(config.cluster_token.unwrap().expose(), "hunter2");
    assert_eq!(watched.poll().unwrap(), None);
    fs::write(&secret, "correct horse").unwrap();
    let said = log_of(|| watched.poll().unwrap().unwrap().log());
    assert!(
        said.contains("cluster.token") && said.contains("a secret has changed"),
        "{said}"
    );
    assert!(
        !said.contains("hunter2") && !said.contains("horse"),
        "{said}"
    );
    let second = folder.path().join("second");
    fs::write(&second, "third").unwrap();
    fs::write(&path, "cluster.token.file=second\n").unwrap();
    assert!(watched.poll().unwrap().is_some());
    assert_eq!(watched.poll().unwrap(), None);
    fs::write(&second, "fourth!").unwrap();
    assert!(watched.poll().unwrap().is_some());
    fs::remove_file(&second).unwrap();
    assert!(watched.poll().is_err());
    assert_eq!(watched.poll().unwrap(), None);
}

#[test]
fn the_log_says_the_old_value_and_the_new_one() {
    let (_folder, path, watched) = watched("message.retry.delay.seconds=5\n");
    fs::write(
        &path,
        "message.retry.delay.seconds=60\nbroker.port=1\nbroker.prot=1\n",
    )
    .unwrap();
    let said = log_of(|| watched.poll().unwrap().unwrap().log());
    let has = |parts: &[&str]| {
        said.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(
        has(&[
            "message.retry.delay.seconds",
            "old=\"5 s\"",
            "new=\"60 s\"",
            "has changed"
        ]),
        "{said}"
    );
    assert!(
        has(&["broker.port", "old=\"20881\"", "new=\"1\"", "next start"]),
        "{said}"
    );
    assert!(has(&["broker.prot", "did you mean broker.port?"]), "{said}");
}
