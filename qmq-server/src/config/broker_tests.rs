use super::*;
use std::fs;
use std::path::Path;

fn load(text: &str) -> Result<BrokerConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.properties");
    fs::write(&path, text).unwrap();
    BrokerConfig::load(&Sources::of_file(&path))
}

#[test]
fn without_any_settings_the_defaults_hold() {
    let config = BrokerConfig::load(&Sources::default()).unwrap();
    assert_eq!(config.warnings(), []);
    assert_eq!(config.listen, "0.0.0.0:20881".parse().unwrap());
    assert_eq!(
        config.http_address(),
        Some("127.0.0.1:30881".parse().unwrap())
    );
    assert_eq!(config.store_root, Path::new("/data"));
    assert_eq!(config.flush_mode, FlushMode::Sync);
    assert_eq!(config.retention, Some(Duration::from_secs(72 * 3600)));
    assert_eq!(config.body_bytes_max, 4 << 20);
    assert_eq!(config.segment_bytes, 64 << 20);
    assert_eq!(config.dynamic.attempts_max, 32);
    assert_eq!(config.consumer.session_timeout, Duration::from_secs(10));
    assert_eq!(config.dedup.window, 4096);
    assert_eq!(config.dedup.log_bytes, 256 << 20);
    assert_eq!(config.connection.idle, Duration::from_secs(30));
    assert_eq!(config.tls_ca, Path::new("tls/ca.pem"));
    assert_eq!(config.client_auth, ClientAuth::Optional);
    assert!(config.anonymous_rights.is_empty());
    assert!(!config.tokens_required);
    assert_eq!(config.dynamic.retry_delay, Duration::from_secs(5));
    assert!(config.dynamic.subject_auto_create);
    assert_eq!(config.name, None);
}

#[test]
fn the_port_of_http_follows_that_of_the_broker_unless_it_is_set() {
    assert_eq!(load("broker.port=21000").unwrap().http_port, Some(31_000));
    assert_eq!(load("http.port=8080").unwrap().http_port, Some(8080));
    assert_eq!(load("http.port=0").unwrap().http_address(), None);
    assert_eq!(
        load("broker.port=60000\nhttp.port=0").unwrap().http_port,
        None
    );
    let error = load("broker.port=60000").unwrap_err().to_string();
    assert!(
        error.contains("broker.port = \"60000\"") && error.contains("http.port"),
        "{error}"
    );
}

#[test]
fn sizes_that_do_not_go_together_are_refused() {
    assert_eq!(
        load("store.segment.bytes=1M").unwrap().body_bytes_max,
        256 << 10
    );
    let error = load("store.segment.bytes=1M\nmessage.max.bytes=512K\n").unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains(":2: message.max.bytes = \"524288\" is refused; allowed is at most 262144"),
        "{shown}"
    );
    let error = load(
        "store.segment.bytes=1G\nmessage.max.bytes=200M\nmemory.produce.bytes=1M\nmemory.deliver.bytes=1M\n",
    );
    assert_eq!(error.unwrap_err().problems.len(), 2);
}

#[test]
fn windows_have_room_for_as_many_connections_as_there_may_be() {
    assert!(load("memory.windows.bytes=64M\nconnection.max=1024\n").is_ok());
    let error = load("memory.windows.bytes=64M\nconnection.max=1025\n").unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains(
            ":1: memory.windows.bytes = \"67108864\" is refused; allowed is at least 67174400"
        ),
        "{shown}"
    );
}

#[test]
fn names_follow_the_rules_of_names() {
    let config = load("broker.name=node-1\nbroker.group=qmq_group01\n").unwrap();
    assert_eq!(config.name.as_deref(), Some("node-1"));
    assert_eq!(config.group.as_deref(), Some("qmq_group01"));
    assert_eq!(
        load("broker.name=a/b\nbroker.group=a b\n")
            .unwrap_err()
            .problems
            .len(),
        2
    );
}

#[test]
fn everything_is_kept_if_expired_data_is_not_deleted() {
    assert_eq!(
        load("log.expired.delete.enable=false").unwrap().retention,
        None
    );
}

#[test]
fn a_token_file_that_was_named_must_be_there() {
    assert!(load("tokens.file=t.properties").unwrap().tokens_required);
}

/// As an installation's operators wrote it.
const INSTALLED: &str = "\
#必填，metaserver地址，即你第一步安装的meta server的ip地址
meta.server.endpoint=http://127.0.0.1:8080/meta/address
#可选，broker服务端口
broker.port=20891
#可选，同步数据端口
sync.port=20892
slave.sync.timeout=3000
#必填，数据存放目录
store.root=/data02
wait.slave.wrote=true
message.retry.delay.seconds=5
messagelog.retention.hours=72
consumerlog.retention.hours=72
#pulllog.retention.hours
log.expired.delete.enable=true
checkpoint.retain.count=5
action.checkpoint.interval=100000
message.checkpoint.interval=100000
put_need_retry_message.limiter=50
sync.batch.size=100000
message.sync.timeout.ms=10
";

/// As the handbook shows it, with keys that have no value.
const HANDBOOK: &str = "\
# 必填，metaserver地址
meta.server.endpoint=http://<metaserver address>/meta/address
broker.port=20881
sync.port=20882
slave.sync.timeout=3000
store.root=/data
wait.slave.wrote=false
message.retry.delay.seconds=5
messagelog.retention.hours=72
consumerlog.retention.hours=72
# 可选，动态生效，pulllog过期时间
pulllog.retention.hours
log.retention.check.interval.seconds
log.expired.delete.enable=true
checkpoint.retain.count=5
action.checkpoint.interval=100000
message.checkpoint.interval=100000
put_need_retry_message.limiter=50
sync.batch.size=100000
message.sync.timeout.ms=10
";

#[test]
fn files_of_qmq_installations_are_accepted_as_they_are() {
    let handbook = HANDBOOK.replace("<metaserver address>", "10.0.0.1:8080");
    for (text, port, root) in [(INSTALLED, 20891, "/data02"), (&handbook, 20881, "/data")] {
        let config = load(text).unwrap();
        assert_eq!(config.listen.port(), port);
        assert_eq!(config.store_root, Path::new(root));
        let unknown = |warning: &&Warning| matches!(warning, Warning::UnknownKey { .. });
        assert_eq!(config.warnings().iter().find(unknown), None);
        // Each key that does nothing says so: nobody is left to believe that slaves are waited for.
        let shown: Vec<_> = config.warnings().iter().map(Warning::to_string).collect();
        assert!(
            shown.iter().any(|text| text.contains("wait.slave.wrote")),
            "{shown:?}"
        );
    }
    let config = load(&handbook).unwrap();
    let empty = |warning: &&Warning| matches!(warning, Warning::EmptyValue { .. });
    assert_eq!(config.warnings().iter().filter(empty).count(), 2);
}

#[test]
fn a_broker_does_not_start_with_a_placeholder_for_its_meta_server() {
    let shown = load(HANDBOOK).unwrap_err().to_string();
    assert!(
        shown.contains(":2: meta.server.endpoint = \"http://<metaserver address>/meta/address\" is a placeholder"),
        "{shown}"
    );
    assert_eq!(shown.lines().count(), 1, "{shown}");
}

#[test]
fn what_the_cluster_knows_of_it_is_typed() {
    let alone = BrokerConfig::load(&Sources::default()).unwrap();
    assert_eq!(alone.member.meta_endpoints, Vec::<String>::new());
    assert_eq!(alone.member.role, None);
    assert_eq!(alone.member.ip, None);
    assert_eq!(alone.member.sync_port, 20882);
    assert_eq!(alone.cluster_token, None);
    let config = load(
        "meta.server.endpoint=http://a:8080/meta/address, http://b/meta/address\nmeta.server.name=meta.example.org\n\
         qmq.host=broker-1\nqmq.ip=10.0.0.7\nbroker.role=slave\nbroker.group=g\ncluster.token=hunter2\nsync.port=1\n",
    )
    .unwrap();
    let expected = Member {
        meta_endpoints: vec![
            "http://a:8080/meta/address".into(),
            "http://b/meta/address".into(),
        ],
        meta_name: Some("meta.example.org".into()),
        role: Some(crate::config::Role::Slave),
        host: Some("broker-1".into()),
        ip: Some("10.0.0.7".parse().unwrap()),
        sync_port: 1,
    };
    assert_eq!(config.member, expected);
    assert_eq!(
        config.cluster_token.as_ref().map(Secret::expose),
        Some("hunter2")
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = load("broker.role=delay-master\nmeta.server.endpoint=10.0.0.1:8080\n").unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
}
