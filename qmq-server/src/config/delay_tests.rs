use std::path::Path;

use super::*;
use crate::config::Role;

fn load(sets: &[(&str, &str)]) -> Result<DelayConfig, ConfigError> {
    let endpoint = ("meta.server.endpoint", "http://127.0.0.1:8080/meta/address");
    let sets = std::iter::once(&endpoint).chain(sets);
    DelayConfig::load(&Sources {
        sets: sets
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..Sources::default()
    })
}

#[test]
fn without_settings_the_defaults_of_qmqs_code_hold() {
    let config = load(&[]).unwrap();
    assert_eq!(config.warnings(), []);
    assert_eq!(config.listen, "0.0.0.0:20801".parse().unwrap());
    assert_eq!(
        config.http_address(),
        Some("127.0.0.1:30801".parse().unwrap())
    );
    assert_eq!(config.member.sync_port, 20802);
    assert_eq!(config.store_root, Path::new("/data"));
    assert_eq!(config.segment_scale_minute, 60);
    assert_eq!(config.due_max, Duration::from_secs(730 * 86_400));
    assert_eq!(config.retention, None);
    assert_eq!(config.send_batch_max, 1_000);
    assert_eq!(config.dead_letters_max, 100_000);
    assert_eq!(config.dynamic.retry_min, Duration::from_secs(1));
    assert_eq!(config.dynamic.retry_max, Duration::from_secs(10));
}

#[test]
fn every_key_is_in_its_place() {
    let config = load(&[
        ("log.expired.delete.enable", "true"),
        ("messagelog.retention.hours", "5"),
        ("segment.scale.minute", "5"),
        ("delay.due.max.days", "1"),
        ("delay.send.batch.size", "7"),
        ("delay.dead.letter.max", "8"),
        ("broker.role", "delay-slave"),
        ("cluster.token", "hunter2"),
        ("flush.mode", "async"),
        ("memory.deliver.bytes", "64M"),
    ])
    .unwrap();
    assert_eq!(config.retention, Some(Duration::from_secs(5 * 3_600)));
    assert_eq!(config.segment_scale_minute, 5);
    assert_eq!(config.due_max, Duration::from_secs(86_400));
    assert_eq!((config.send_batch_max, config.dead_letters_max), (7, 8));
    assert_eq!(config.member.role, Some(Role::DelaySlave));
    assert_eq!(config.flush_mode, FlushMode::Async);
    assert_eq!(config.memory.deliver_bytes, 64 << 20);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_the_scheduler_takes_is_what_the_key_takes() {
    for minutes in ["5", "60"] {
        let config = load(&[("segment.scale.minute", minutes)]).unwrap();
        let options = qmq_sched::Options {
            segment_scale_minute: config.segment_scale_minute,
            max_delay: config.due_max,
            ..qmq_sched::Options::default()
        };
        options.check().unwrap();
    }
    let days = load(&[("delay.due.max.days", "3653")]).unwrap();
    let options = qmq_sched::Options {
        max_delay: days.due_max,
        ..qmq_sched::Options::default()
    };
    options.check().unwrap();
    for (key, value) in [
        ("segment.scale.minute", "4"),
        ("segment.scale.minute", "61"),
        ("delay.due.max.days", "0"),
        ("delay.dead.letter.max", "1000001"),
        ("broker.role", "master"),
    ] {
        assert!(load(&[(key, value)]).is_err(), "{key}={value}");
    }
}

#[test]
fn a_delay_server_needs_a_meta_server_and_says_how_to_name_it() {
    let shown = DelayConfig::load(&Sources::default())
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains("meta.server.endpoint is required and not set")
            && shown.contains("QMQ_META_SERVER_ENDPOINT"),
        "{shown}"
    );
    let shown = load(&[("meta.server.endpoint", "")])
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains("--set: meta.server.endpoint is required and left empty"),
        "{shown}"
    );
}

#[test]
fn the_least_pause_is_not_above_the_longest() {
    let shown = load(&[(RETRY_MIN, "5000"), (RETRY_MAX, "4999")])
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains(RETRY_MIN) && shown.contains("at most 4999 ms"),
        "{shown}"
    );
    assert!(load(&[(RETRY_MIN, "5000"), (RETRY_MAX, "5000")]).is_ok());
}
