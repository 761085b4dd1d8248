//! Brokers, and what QMQ's columns cannot hold.

use qmq_meta::{BrokerRole, DatabaseError, ReadonlyRow};

use super::{Db, broker, is_too_long, master};

pub(crate) async fn brokers_are_unique_by_place_and_by_role(db: Db) {
    let first = broker("g1", BrokerRole::Master, "h1", "10.0.0.1", 20881);
    db.add_broker(&first).await.unwrap();
    for other in [
        broker("g2", BrokerRole::Master, "h1", "10.0.0.2", 20881),
        broker("g1", BrokerRole::Master, "h2", "10.0.0.2", 20881),
        // Not in QMQ's table, and still at the same place.
        broker("g2", BrokerRole::Master, "h1", "fe80::1", 20881),
        broker("g1", BrokerRole::Master, "h2", "fe80::1", 20881),
    ] {
        let refused = db.add_broker(&other).await;
        assert!(
            matches!(refused, Err(DatabaseError::Exists { .. })),
            "{other:?}: {refused:?}"
        );
    }
    let mut backup = broker("g1", BrokerRole::Backup, "h1", "10.0.0.1", 20891);
    backup.sync_port = None;
    db.add_broker(&backup).await.unwrap();
    assert_eq!(db.read().await.unwrap().brokers, [first, backup]);
}

pub(crate) async fn further_slaves_and_long_addresses_are_kept(db: Db) {
    let long = format!("{}.example", "h".repeat(60));
    let all = [
        broker("g1", BrokerRole::Slave, "h1", "255.255.255.255", 1),
        broker("g1", BrokerRole::Slave, "h2", "10.0.0.2", 20881),
        broker("g1", BrokerRole::Slave, "h3", "10.0.0.3", 20881),
        broker("g1", BrokerRole::Master, "h4", "2001:db8::4", 20881),
        broker("g2", BrokerRole::DelayMaster, &long, "10.0.0.5", 20801),
    ];
    for broker in &all {
        db.add_broker(broker).await.unwrap();
    }
    assert_eq!(db.read().await.unwrap().brokers, all);
    for broker in &all {
        let again = db.add_broker(broker).await;
        assert!(
            matches!(again, Err(DatabaseError::Exists { .. })),
            "{again:?}"
        );
    }
}

pub(crate) async fn a_broker_takes_the_place_of_another(db: Db) {
    let old = broker("g1", BrokerRole::Slave, "h1", "10.0.0.1", 20881);
    let new = broker("g1", BrokerRole::Slave, "h2", "10.0.0.2", 20881);
    assert_eq!(db.replace_broker(&new).await.unwrap(), None);
    assert!(db.read().await.unwrap().brokers.is_empty());
    db.add_broker(&old).await.unwrap();
    assert_eq!(db.replace_broker(&new).await.unwrap(), Some(old));
    assert_eq!(db.read().await.unwrap().brokers, std::slice::from_ref(&new));
    // Among several, the one at the same place is the one that is meant.
    let further = broker("g1", BrokerRole::Slave, "h3", "10.0.0.3", 20881);
    db.add_broker(&further).await.unwrap();
    let moved = broker("g1", BrokerRole::Slave, "h3", "10.0.0.33", 20881);
    assert_eq!(db.replace_broker(&moved).await.unwrap(), Some(further));
    // Into an address that QMQ's table cannot hold, and back.
    let six = broker("g1", BrokerRole::Slave, "h2", "2001:db8::2", 20881);
    assert_eq!(db.replace_broker(&six).await.unwrap(), Some(new.clone()));
    assert_eq!(db.replace_broker(&new).await.unwrap(), Some(six));
    let master = broker("g2", BrokerRole::Master, "h9", "10.0.0.9", 20881);
    db.add_broker(&master).await.unwrap();
    let taken = broker("g2", BrokerRole::Master, "h2", "10.0.0.9", 20881);
    let refused = db.replace_broker(&taken).await;
    assert!(
        matches!(refused, Err(DatabaseError::Exists { .. })),
        "{refused:?}"
    );
    let mut left = db.read().await.unwrap().brokers;
    left.sort_by(|one, other| one.hostname.cmp(&other.hostname));
    assert_eq!(left, [new, moved, master]);
}

/// QMQ's defect F7: a group name of 30 characters does not fit the read-only settings' 20, addresses are IPv4 only, and routes end at 300 characters.
pub(crate) async fn f7_long_group_names_ipv6_and_long_routes(db: Db) {
    let group = "qmq_group_of_thirty_characters";
    assert_eq!(group.len(), 30);
    let setting = ReadonlyRow {
        subject: "*".into(),
        group: group.into(),
    };
    db.add_readonly(&setting).await.unwrap();
    db.add_readonly(&setting).await.unwrap();
    let short = ReadonlyRow {
        subject: "s".into(),
        group: "g1".into(),
    };
    db.add_readonly(&short).await.unwrap();
    db.add_readonly(&short).await.unwrap();
    let mut readonly = db.read().await.unwrap().readonly;
    readonly.sort_by(|one, other| one.subject.cmp(&other.subject));
    assert_eq!(readonly, [setting.clone(), short.clone()]);
    assert!(db.remove_readonly(&setting).await.unwrap());
    assert!(!db.remove_readonly(&setting).await.unwrap());
    assert!(db.remove_readonly(&short).await.unwrap());
    assert!(!db.remove_readonly(&short).await.unwrap());

    let six = broker(group, BrokerRole::Master, "h6", "2001:db8::27", 20881);
    db.add_broker(&six).await.unwrap();
    let address = "[2001:db8:1111:2222:3333:4444:5555:27]:20881";
    db.seen(&master(group, address)).await.unwrap();
    let all = db.read().await.unwrap();
    assert_eq!(all.brokers, [six]);
    assert_eq!(all.groups[0].master, address);

    let many: Vec<String> = (0..30).map(|n| format!("qmq_group{n:02}")).collect();
    is_too_long(
        db.add_route("s", &many).await,
        ("subject_route", "broker_group_json", 300),
        30 * 14 + 1,
    );
    assert!(
        db.read().await.unwrap().routes.is_empty(),
        "refused, not cut"
    );
}
