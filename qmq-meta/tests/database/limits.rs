//! What is longer than its column.

use qmq_meta::{
    Broker, BrokerRole, ClientKind, ClientRow, DataSource, GroupKind, OfflineRow, ReadonlyRow,
};

use super::{Db, broker, is_too_long, master};

pub(crate) async fn values_longer_than_their_columns_are_refused(db: Db) {
    let of = |len: usize| "长".repeat(len);
    let (s30, s31, s100, s101, s20, s21) = (of(30), of(31), of(100), of(101), of(20), of(21));
    let (s255, s256) = ("h".repeat(255), "h".repeat(256));
    let plain = broker("g", BrokerRole::Master, "h", "10.0.0.1", 1);
    for (broken, column) in [
        (
            Broker {
                group: s31.clone(),
                ..plain.clone()
            },
            ("broker", "group_name", 30),
        ),
        (
            Broker {
                hostname: s256.clone(),
                ..plain.clone()
            },
            ("qmqx_broker", "hostname", 255),
        ),
        (
            Broker {
                ip: s256.clone(),
                ..plain.clone()
            },
            ("qmqx_broker", "address", 255),
        ),
    ] {
        is_too_long(db.add_broker(&broken).await, column, column.2 + 1);
        is_too_long(db.replace_broker(&broken).await, column, column.2 + 1);
    }
    db.add_broker(&Broker {
        group: s30.clone(),
        hostname: s255.clone(),
        ..plain
    })
    .await
    .unwrap();
    is_too_long(
        db.seen(&master(&s31, "a:1")).await,
        ("broker_group", "group_name", 30),
        31,
    );
    is_too_long(
        db.seen(&master("g", &s256)).await,
        ("qmqx_group", "master_address", 255),
        256,
    );
    db.seen(&master(&s30, &s255)).await.unwrap();
    is_too_long(
        db.grant_epoch(&s30, 0, &s256).await,
        ("qmqx_group", "master_address", 255),
        256,
    );
    let tagged = db.set_group_tag(&s30, GroupKind::Normal, &s31).await;
    is_too_long(tagged, ("broker_group", "tag", 30), 31);
    is_too_long(
        db.add_subject(&s101, "").await,
        ("subject_info", "name", 100),
        101,
    );
    is_too_long(
        db.add_subject("s", &s31).await,
        ("subject_info", "tag", 30),
        31,
    );
    db.add_subject(&s100, &s30).await.unwrap();
    is_too_long(
        db.add_route(&s101, &[]).await,
        ("subject_route", "subject_info", 100),
        101,
    );
    // ["…"] takes four characters more than the name.
    let route = ("subject_route", "broker_group_json", 300);
    is_too_long(db.add_route(&s100, &[of(297)]).await, route, 301);
    db.add_route(&s100, &[of(296)]).await.unwrap();
    is_too_long(db.change_route(&s100, &[of(297)], 0).await, route, 301);
    let readonly = |subject: &str, group: &str| ReadonlyRow {
        subject: subject.into(),
        group: group.into(),
    };
    let setting = "readonly_broker_group_setting";
    is_too_long(
        db.add_readonly(&readonly(&s101, "g")).await,
        (setting, "subject", 100),
        101,
    );
    is_too_long(
        db.add_readonly(&readonly("s", &s31)).await,
        ("qmqx_readonly", "broker_group", 30),
        31,
    );
    db.add_readonly(&readonly(&s100, &s30)).await.unwrap();
    let offline = |client: &str, subject: &str, group: &str| OfflineRow {
        client: client.into(),
        subject: subject.into(),
        group: group.into(),
    };
    let state = "client_offline_state";
    is_too_long(
        db.switch_off(&offline(&s101, "s", "g")).await,
        (state, "client_id", 100),
        101,
    );
    is_too_long(
        db.switch_off(&offline("c", &s101, "g")).await,
        (state, "subject_info", 100),
        101,
    );
    is_too_long(
        db.switch_off(&offline("c", "s", &s101)).await,
        (state, "consumer_group", 100),
        101,
    );
    db.switch_off(&offline(&s100, &s100, &s100)).await.unwrap();
    let client = ClientRow {
        subject: s100.clone(),
        kind: ClientKind::Consumer,
        group: s100.clone(),
        client: s100.clone(),
        application: s100.clone(),
        room: s20.clone(),
    };
    let info = "client_meta_info";
    for (broken, column) in [
        (
            ClientRow {
                subject: s101.clone(),
                ..client.clone()
            },
            (info, "subject_info", 100),
        ),
        (
            ClientRow {
                group: s101.clone(),
                ..client.clone()
            },
            (info, "consumer_group", 100),
        ),
        (
            ClientRow {
                client: s101.clone(),
                ..client.clone()
            },
            (info, "client_id", 100),
        ),
        (
            ClientRow {
                application: s101.clone(),
                ..client.clone()
            },
            (info, "app_code", 100),
        ),
        (
            ClientRow {
                room: s21.clone(),
                ..client.clone()
            },
            (info, "room", 20),
        ),
    ] {
        // One that is too long stops all of them.
        is_too_long(
            db.add_clients(&[client.clone(), broken]).await,
            column,
            column.2 + 1,
        );
    }
    assert!(db.consumers(&s100).await.unwrap().is_empty());
    db.add_clients(std::slice::from_ref(&client)).await.unwrap();
    assert_eq!(db.consumers(&s100).await.unwrap(), [client]);
    let source = DataSource {
        url: of(128),
        user: s100.clone(),
        password: s100.clone(),
        room: s20.clone(),
    };
    let config = "datasource_config";
    for (broken, column) in [
        (
            DataSource {
                url: of(129),
                ..source.clone()
            },
            (config, "url", 128),
        ),
        (
            DataSource {
                user: s101.clone(),
                ..source.clone()
            },
            (config, "user_name", 100),
        ),
        (
            DataSource {
                password: s101.clone(),
                ..source.clone()
            },
            (config, "password", 100),
        ),
        (
            DataSource {
                room: s21.clone(),
                ..source.clone()
            },
            (config, "room", 20),
        ),
    ] {
        is_too_long(db.add_data_source(&broken).await, column, column.2 + 1);
    }
    let secret = DataSource {
        password: "s3cret".repeat(20),
        ..source.clone()
    };
    let refused = db.add_data_source(&secret).await.unwrap_err();
    assert!(
        !format!("{refused} {refused:?}").contains("s3cret"),
        "{refused}"
    );
    db.add_data_source(&source).await.unwrap();
    assert_eq!(db.data_sources(&s20).await.unwrap(), [source]);
    let all = db.read().await.unwrap();
    assert_eq!(
        (all.brokers.len(), all.groups.len(), all.subjects.len()),
        (1, 1, 1)
    );
    assert_eq!(
        (all.routes.len(), all.readonly.len(), all.offline.len()),
        (1, 1, 1)
    );
}
