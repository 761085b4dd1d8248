//! Clients.

use qmq_meta::{ClientKind, ClientRow, OfflineRow};

use super::Db;

pub(crate) async fn consumers_are_switched_off_and_on(db: Db) {
    let row = |client: &str, subject: &str| OfflineRow {
        client: client.into(),
        subject: subject.into(),
        group: "cg".into(),
    };
    for row in [
        row("c1", "s"),
        row("c2", "s"),
        row("c1", "s"),
        row("*", "s"),
        row("c1", "t"),
    ] {
        db.switch_off(&row).await.unwrap();
    }
    let offline = db.read().await.unwrap().offline;
    assert_eq!(
        offline,
        [
            row("c1", "s"),
            row("c2", "s"),
            row("*", "s"),
            row("c1", "t")
        ]
    );
    assert_eq!(db.switch_on(&row("c1", "s")).await.unwrap(), 1);
    assert_eq!(db.switch_on(&row("c1", "s")).await.unwrap(), 0);
    assert_eq!(db.switch_on(&row("*", "s")).await.unwrap(), 2);
    assert_eq!(db.read().await.unwrap().offline, [row("c1", "t")]);
}

pub(crate) async fn clients_are_remembered_once(db: Db) {
    let row = |client: &str, kind: ClientKind, application: &str| ClientRow {
        subject: "s".into(),
        kind,
        group: "cg".into(),
        client: client.into(),
        application: application.into(),
        room: "r1".into(),
    };
    let consumer = row("c2", ClientKind::Consumer, "app");
    let both = row("c1", ClientKind::Other, "app");
    let producer = row("c3", ClientKind::Producer, "app");
    db.add_clients(&[]).await.unwrap();
    db.add_clients(&[consumer.clone(), both.clone()])
        .await
        .unwrap();
    db.add_clients(&[row("c2", ClientKind::Consumer, "other app"), producer])
        .await
        .unwrap();
    assert_eq!(db.consumers("s").await.unwrap(), [both, consumer]);
    assert!(db.consumers("t").await.unwrap().is_empty());
    let many: Vec<_> = (0..1500)
        .map(|n| row(&format!("m{n:05}"), ClientKind::Consumer, "app"))
        .collect();
    db.add_clients(&many).await.unwrap();
    assert_eq!(db.consumers("s").await.unwrap().len(), 1502);
}
