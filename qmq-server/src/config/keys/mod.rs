//! The tables of all keys, one a file.
//!
//! QMQ's keys have QMQ's names. One that could have no meaning here is taken all the same, so that an installation's
//! files can stay as they are, and a warning says why nothing comes of it.

mod broker;
mod client;
mod datasource;
mod delay;
mod elsewhere;
mod make;
mod meta;
mod shared;

use super::key::Key;

pub use broker::BROKER;
pub use client::CLIENT;
pub use datasource::DATASOURCE;
pub use delay::DELAY;
pub use elsewhere::{BACKUP, DEAD_BACKUP, HBASE, PROMETHEUS, WATCHDOG};
pub use meta::META;

/// Every table.
pub const ALL: [&[Key]; 10] = [
    META,
    DATASOURCE,
    BROKER,
    DELAY,
    CLIENT,
    WATCHDOG,
    BACKUP,
    DEAD_BACKUP,
    HBASE,
    PROMETHEUS,
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::key::{Fallback, variable_of};
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in ALL.into_iter().flatten() {
            if let Fallback::Text(default) = key.default
                && !default.is_empty()
            {
                assert!(key.kind.read(default).is_some(), "{}", key.name);
            }
            let sentences = [Some(key.meaning), key.differs];
            for sentence in sentences.into_iter().flatten() {
                assert!(
                    !sentence.is_empty() && !sentence.ends_with('.'),
                    "{}",
                    key.name
                );
            }
        }
    }

    /// Names of a key as a file, `--set` and the environment have them.
    fn names(key: &Key) -> Vec<String> {
        let of_file = key.is_secret().then(|| format!("{}.file", key.name));
        std::iter::once(key.name.to_owned())
            .chain(of_file)
            .collect()
    }

    #[test]
    fn no_table_has_a_name_twice() {
        for table in ALL {
            let all: Vec<_> = table.iter().flat_map(names).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), all.len());
        }
    }

    /// One process may have the environment of several servers, so a variable must mean the same key in all tables.
    #[test]
    fn no_two_keys_of_any_tables_share_a_variable() {
        let mut variables = BTreeMap::new();
        for name in ALL
            .into_iter()
            .flatten()
            .filter(|key| !key.is_pattern())
            .flat_map(names)
        {
            let variable = variable_of(&name);
            let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(variable.chars().all(fits), "{variable}");
            assert!(
                !super::super::reader::OTHER_VARIABLES.contains(&&*variable),
                "{name}"
            );
            let other = variables.insert(variable, name.clone());
            assert!(other.is_none_or(|other| other == name), "{name}");
        }
        assert!(variables.len() > 150, "{}", variables.len());
        for expected in [
            "QMQ_CLUSTER_TOKEN_FILE",
            "QMQ_JDBC_PASSWORD_FILE",
            "QMQ_QMQ_HOST",
        ] {
            assert!(variables.contains_key(expected), "{expected}");
        }
    }

    /// Every key that QMQ's code reads, by file (qunarcorp/qmq, 1.1.44-SNAPSHOT).
    const OF_QMQ: [(&[Key], &str); 8] = [
        (
            BROKER,
            "meta.server.endpoint broker.port sync.port store.root messagelog.retention.hours consumerlog.retention.hours \
             pulllog.retention.hours smt.retention.hours consumerlog.v2.enable smt.enable memtable.max_reserved \
             memtable.max_active log_dispatcher.pause.millis log.retention.check.interval.seconds checkpoint.retain.count \
             message.checkpoint.interval action.checkpoint.interval message.retry.delay.seconds wait.slave.wrote \
             receive.queue.size Receiver.RejectIllegalSubject slave.sync.timeout sync.batch.size message.sync.timeout.ms \
             slave.message.lag.time.max.seconds slave.message.lag.mark_readonly put_need_retry_message.limiter \
             PullMessageProcessor.AllowNonPositiveRequestNum ConsumerStatusChecker.SkipCheckDuringOffline \
             sub_env_isolation_filter.enable sub_env_isolation_filter.rules_url slave.server.http.port query.max.threads \
             log.expired.delete.enable",
        ),
        (
            DELAY,
            "meta.server.endpoint broker.port sync.port store.root per.segment.file.size per.message.size \
             segment.scale.minute load.in.advance.min load.blocking.exit.sec load.segment.delay.min dispatch.log.keep.hour \
             schedule.clean.before.dispatch.hour messagelog.retention.hours log.expired.delete.enable \
             log.retention.check.interval.seconds wait.slave.wrote receive.queue.size Receiver.RejectIllegalSubject \
             sync.batch.size message.sync.timeout.ms dispatch.sync.timeout.ms slave.sync.timeout delay.send.threads \
             delay.send.batch.thread.size delay.send.wait.time delay.send.batch.executor.sleep.min.millis \
             netty.send.message.retry.max.times netty.send.message.retry.min.sleep.millis \
             netty.send.message.retry.max.sleep.millis netty.send.message.retry.without.fallback.max.times \
             netty.send.message.retry.without.fallback.max.sleep.millis add.wheel.exception.sleep.millis \
             slave.server.http.port",
        ),
        (
            META,
            "meta.server.discover.port meta.server.port refresh.period.seconds heartbeat.timeout.ms min.group.num \
             meta.server.load.balance",
        ),
        (
            DATASOURCE,
            "jdbc.driverClassName jdbc.url jdbc.username jdbc.password pool.size.max",
        ),
        (
            WATCHDOG,
            "appCode meta.server.endpoint namespace sendMessageTaskExecuteTimeout refreshInterval checkInterval",
        ),
        (
            BACKUP,
            "meta.server.endpoint acquire.server.meta.url store.root rocks.db.path rocks.db.ttl message.backup.batch.size \
             message.backup.max.retry.num record.backup.batch.size record.backup.max.retry.num \
             dead.message.backup.thread.size dead.record.backup.thread.size enable.record enable.index.log.delete \
             sync.offset.flush.interval message.backup.hfile.size store.type max.query.threads backup.server.http.port",
        ),
        (
            HBASE,
            "hbase.message.table hbase.delay.message.table hbase.record.table hbase.dead.table hbase.dead.content.table \
             hbase.zookeeper.quorum hbase.anything",
        ),
        (
            PROMETHEUS,
            "monitor.type monitor.action monitor.port graphite.host graphite.port",
        ),
    ];

    #[test]
    fn every_key_that_qmqs_code_reads_is_known() {
        for (table, names) in OF_QMQ {
            for name in names.split_whitespace() {
                assert!(table.iter().any(|key| key.is_of(name)), "{name}");
            }
        }
    }

    #[test]
    fn a_variable_is_the_name_in_capitals_with_underscores() {
        assert_eq!(variable_of("broker.port"), "QMQ_BROKER_PORT");
        assert_eq!(variable_of("a-b.c_d"), "QMQ_A_B_C_D");
        assert_eq!(
            variable_of("Receiver.RejectIllegalSubject"),
            "QMQ_RECEIVER_REJECTILLEGALSUBJECT"
        );
    }
}
