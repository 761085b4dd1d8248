//! What every database must do, whichever it is. Each promise takes an empty database.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod brokers;
pub(crate) mod clients;
pub(crate) mod groups;
pub(crate) mod limits;
pub(crate) mod subjects;

use std::sync::Arc;

use qmq_meta::{Broker, BrokerRole, Database, DatabaseError, GroupState, Liveness, Now};

pub(crate) type Db = Arc<dyn Database>;

/// Makes one test of each promise; `$empty` gives an empty database and whatever must live as long as it.
#[macro_export]
macro_rules! promises {
    ($empty:path) => {
        $crate::promises!($empty;
            subjects::a_database_begins_empty,
            subjects::subjects_and_routes_are_kept,
            subjects::a_route_changes_only_from_the_version_that_was_seen,
            subjects::of_racing_changes_of_a_route_one_wins,
            brokers::brokers_are_unique_by_place_and_by_role,
            brokers::further_slaves_and_long_addresses_are_kept,
            brokers::a_broker_takes_the_place_of_another,
            groups::a_heartbeat_makes_and_changes_the_group,
            groups::a_slave_changes_no_group,
            groups::a_heartbeat_of_nobody_changes_nothing,
            groups::only_an_operator_brings_a_removed_group_back,
            groups::a_stale_epoch_is_refused,
            groups::of_heartbeats_at_once_each_has_its_own_outcome,
            groups::of_racing_masters_exactly_one_gets_the_epoch,
            groups::an_epoch_outlives_its_group,
            groups::silent_groups_are_swept_after_the_grace,
            groups::a_group_that_our_meta_never_heard_of_is_not_swept,
            groups::the_clock_never_falls,
            clients::consumers_are_switched_off_and_on,
            clients::clients_are_remembered_once,
            groups::groups_retire_and_are_tagged,
            groups::a_group_goes_only_when_no_route_names_it,
            subjects::data_sources_are_listed_by_room,
            limits::values_longer_than_their_columns_are_refused,
            subjects::names_with_quotes_are_names,
            brokers::f7_long_group_names_ipv6_and_long_routes,
        );
    };
    ($empty:path; $($about:ident::$promise:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let (database, _keep) = $empty(stringify!($promise)).await;
                $crate::database::$about::$promise(database.clone()).await;
                database.close().await;
            }
        )+
    };
}

pub(crate) fn broker(group: &str, role: BrokerRole, hostname: &str, ip: &str, port: u16) -> Broker {
    Broker {
        group: group.into(),
        role,
        hostname: hostname.into(),
        ip: ip.into(),
        serve_port: port,
        sync_port: Some(port + 1),
    }
}

pub(crate) fn master(group: &str, address: &str) -> Liveness {
    Liveness {
        group: group.into(),
        role: BrokerRole::Master,
        address: address.into(),
        state: GroupState::ReadWrite,
        epoch: 0,
    }
}

/// A heartbeat of a master that is entered, if it can be.
pub(crate) async fn seen(db: &dyn Database, said: &Liveness) -> Result<Now, DatabaseError> {
    let host: String = (said.group.chars().take(30)).collect();
    let entry = broker(&said.group, said.role, &host, "10.0.0.1", 1);
    if said.role.is_master() {
        let _ = db.add_broker(&entry).await;
    }
    db.seen(said).await
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) fn is_too_long<T: std::fmt::Debug>(
    result: Result<T, DatabaseError>,
    of: (&str, &str, usize),
    with: usize,
) {
    match result {
        Err(DatabaseError::TooLong {
            table,
            column,
            limit,
            len,
            ..
        }) => assert_eq!(((table, column, limit), len), (of, with)),
        other => panic!("{of:?}: {other:?}"),
    }
}
