use std::fs;
use std::path::Path;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn load(sets: &[(&str, &str)]) -> Result<MetaConfig, ConfigError> {
    MetaConfig::load(&Sources {
        sets: pairs(sets),
        ..Sources::default()
    })
}

#[test]
fn without_settings_the_defaults_hold() {
    let config = load(&[]).unwrap();
    assert_eq!(config.warnings(), []);
    assert_eq!(config.listen, "0.0.0.0:20880".parse().unwrap());
    assert_eq!(config.http, "0.0.0.0:8080".parse().unwrap());
    assert!(!config.http_compat);
    assert_eq!(config.refresh_period, Duration::from_secs(5));
    assert_eq!(config.dynamic.heartbeat_timeout, Duration::from_secs(30));
    assert_eq!(config.dynamic.min_group_num, 2);
    let MetaDatabase::Sqlite(path) = &config.database else {
        panic!("{:?}", config.database);
    };
    assert_eq!(path, Path::new("meta/meta.db"));
    assert_eq!(config.snapshot_file, Path::new("meta/meta.snapshot"));
    assert_eq!(
        config.api_tokens_file,
        Path::new("valid-api-tokens.properties")
    );
    assert!(!config.api_tokens_required && !config.client_log_switch_required);
}

#[test]
fn compatible_answers_are_the_default_on_loopback_alone() {
    for (listen, compat, expected) in [
        ("127.0.0.1", "auto", true),
        ("::1", "auto", true),
        ("0.0.0.0", "auto", false),
        ("0.0.0.0", "true", true),
        ("127.0.0.1", "false", false),
    ] {
        let config = load(&[("http.listen", listen), ("http.compat", compat)]).unwrap();
        assert_eq!(config.http_compat, expected, "{listen} {compat}");
    }
}

#[test]
fn files_are_beside_the_configuration_and_folders_follow_their_root() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metaserver.properties");
    fs::write(
        &path,
        "meta.root=data\nclient.log.switch.file=/x\nmeta.snapshot.file=s\n",
    )
    .unwrap();
    let config = MetaConfig::load(&Sources::of_file(&path)).unwrap();
    assert_eq!(config.root, folder.path().join("data"));
    let MetaDatabase::Sqlite(database) = &config.database else {
        panic!("{:?}", config.database);
    };
    assert_eq!(*database, folder.path().join("data/meta.db"));
    assert_eq!(config.snapshot_file, folder.path().join("s"));
    assert_eq!(config.client_log_switch_file, Path::new("/x"));
    assert!(config.client_log_switch_required && !config.api_tokens_required);
}

fn datasource_of(config: &MetaConfig) -> &DatasourceConfig {
    match &config.database {
        MetaDatabase::Datasource(datasource) => datasource,
        other @ MetaDatabase::Sqlite(_) => panic!("{other:?}"),
    }
}

const DATASOURCE: &str = "jdbc.url=jdbc:mysql://devmysql.hs.com:3306/qmq_metaserver?useSSL=false\n\
                          jdbc.username=qmq\njdbc.password=hunter2\n";

#[test]
fn a_datasource_beside_the_configuration_counts_and_its_secrets_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metaserver.properties");
    fs::write(&path, "").unwrap();
    fs::write(folder.path().join("datasource.properties"), DATASOURCE).unwrap();
    let sources = Sources {
        sets: pairs(&[("pool.size.max", "3"), ("min.group.num", "1")]),
        ..Sources::of_file(&path)
    };
    let config = MetaConfig::load(&sources).unwrap();
    let datasource = datasource_of(&config);
    assert_eq!(
        datasource.url,
        "jdbc:mysql://devmysql.hs.com:3306/qmq_metaserver?useSSL=false"
    );
    assert_eq!(datasource.username, "qmq");
    assert_eq!(
        datasource.password.as_ref().map(Secret::expose),
        Some("hunter2")
    );
    assert_eq!(datasource.pool_size_max, 3);
    assert_eq!(config.dynamic.min_group_num, 1);
    assert_eq!(config.warnings(), []);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_datasource_may_be_named_by_the_environment_alone() {
    let environment = pairs(&[
        ("QMQ_JDBC_URL", "jdbc:mariadb://db/qmq?password=hunter2"),
        ("QMQ_JDBC_USERNAME", "qmq"),
    ]);
    let sources = Sources {
        environment,
        ..Sources::default()
    };
    let config = MetaConfig::load(&sources).unwrap();
    let datasource = datasource_of(&config);
    assert_eq!(datasource.password, None);
    assert_eq!(datasource.shown_url(), "jdbc:mariadb://db/qmq?password=***");
    assert!(!format!("{config:?} {datasource:?} {:?}", datasource.settings).contains("hunter2"));
}

#[test]
fn a_datasource_that_is_named_and_missing_or_not_filled_in_is_refused() {
    let shown = load(&[("datasource.file", "/nowhere/d.properties")])
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains("/nowhere/d.properties: cannot be read"),
        "{shown}"
    );
    let shown = load(&[("jdbc.url", "jdbc:mysql://<address>:<port>/<db>?<params>")])
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains("is a placeholder of the documentation"),
        "{shown}"
    );
    assert!(
        shown.contains("jdbc.username is required and not set"),
        "{shown}"
    );
}

#[test]
fn other_ways_to_balance_are_refused() {
    assert_eq!(
        load(&[("meta.server.load.balance", "random")])
            .unwrap()
            .warnings()
            .len(),
        1
    );
    assert!(load(&[("meta.server.load.balance", "roundrobin")]).is_err());
}

use crate::config::Secret;
