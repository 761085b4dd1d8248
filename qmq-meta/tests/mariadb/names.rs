//! Names that QMQ's columns do not tell apart.

use qmq_meta::{
    BrokerRole, ClientKind, ClientRow, Database, DatabaseError, GroupKind, OfflineRow, ReadonlyRow,
};

use crate::database::{broker, master, seen};
use crate::mariadb_server::Server;

#[tokio::test]
async fn names_that_this_database_does_not_tell_apart_are_refused_and_never_served_as_another() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let meta = scratch.meta();
    let groups = ["g1".to_owned()];
    meta.add_subject("order", "").await.unwrap();
    meta.add_route("order", &groups).await.unwrap();
    meta.add_broker(&broker("g1", BrokerRole::Master, "host", "10.0.0.1", 1))
        .await
        .unwrap();
    seen(&meta, &master("g1", "a:1")).await.unwrap();
    let off = OfflineRow {
        client: "c".into(),
        subject: "order".into(),
        group: "cg".into(),
    };
    meta.switch_off(&off).await.unwrap();
    let setting = ReadonlyRow {
        subject: "order".into(),
        group: "g1".into(),
    };
    meta.add_readonly(&setting).await.unwrap();
    let client = ClientRow {
        subject: "order".into(),
        kind: ClientKind::Consumer,
        group: "cg".into(),
        client: "c".into(),
        application: String::new(),
        room: String::new(),
    };
    meta.add_clients(&[client]).await.unwrap();
    let before = meta.read().await.unwrap();
    for other in ["Order", "order ", "ordér"] {
        let refusals = [
            meta.add_subject(other, "").await.map(drop),
            meta.add_route(other, &groups).await.map(drop),
            meta.switch_off(&OfflineRow {
                subject: other.into(),
                ..off.clone()
            })
            .await,
            meta.add_readonly(&ReadonlyRow {
                subject: other.into(),
                ..setting.clone()
            })
            .await,
        ];
        for refused in refusals {
            match refused {
                Err(DatabaseError::Exists { what }) => {
                    assert!(what.contains("\"order\""), "{what}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!meta.change_route(other, &groups, 0).await.unwrap());
        let row = ReadonlyRow {
            subject: other.into(),
            ..setting.clone()
        };
        assert!(!meta.remove_readonly(&row).await.unwrap());
        let row = OfflineRow {
            subject: other.into(),
            ..off.clone()
        };
        assert_eq!(meta.switch_on(&row).await.unwrap(), 0);
        assert!(meta.consumers(other).await.unwrap().is_empty());
    }
    for other in ["G1", "g1 "] {
        let refused = seen(&meta, &master(other, "b:2")).await;
        assert!(
            matches!(refused, Err(DatabaseError::Exists { .. })),
            "{refused:?}"
        );
        let refused = meta.grant_epoch(other, 0, "b:2").await;
        assert!(
            matches!(refused, Err(DatabaseError::Changed { .. })),
            "{refused:?}"
        );
        let refused = meta.remove_group(other).await;
        assert!(
            matches!(refused, Err(DatabaseError::Changed { .. })),
            "{refused:?}"
        );
        assert!(!meta.set_retiring(other, true).await.unwrap());
        assert!(
            !meta
                .set_group_tag(other, GroupKind::Delay, "t")
                .await
                .unwrap()
        );
    }
    let same = broker("g2", BrokerRole::Master, "HOST", "10.0.0.1", 1);
    let refused = meta.add_broker(&same).await;
    assert!(
        matches!(refused, Err(DatabaseError::Exists { .. })),
        "{refused:?}"
    );
    let after = meta.read().await.unwrap();
    assert_eq!(
        qmq_meta::Everything {
            at: before.at,
            ..after
        },
        before
    );
}
