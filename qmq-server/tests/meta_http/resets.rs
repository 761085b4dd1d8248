//! `ResetOffset`: every master of the route is asked, and each answer is looked at.

use qmq_client::ResetTo;
use qmq_meta::{ClientKind, RouteRequest};

use crate::door::{Door, open};

async fn routed() -> Door {
    let door = open(true).await;
    door.group("group-1", 20881).await;
    door.group("group-2", 20891).await;
    let request = RouteRequest {
        subject: "order.changed".to_owned(),
        kind: ClientKind::Producer,
        group: String::new(),
        client: "c".to_owned(),
        application: "a".to_owned(),
        room: String::new(),
    };
    assert_eq!(door.meta.route(&request).await.unwrap().groups.len(), 2);
    door
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_of_the_route_is_asked() {
    let door = routed().await;
    for (code, to) in [("1", ResetTo::Latest), ("2", ResetTo::Earliest)] {
        door.brokers.0.lock().resets.clear();
        let form = format!("action=ResetOffset&subject=order.changed&group=ticket&code={code}");
        let answer = door.act(&form).await;
        assert_eq!(answer, r#"{"status":0,"message":"","data":"success"}"#);
        let mut asked = door.brokers.0.lock().resets.clone();
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        let row = |group: &str, master: &str| {
            let texts = [group, master, "order.changed", "ticket"].map(str::to_owned);
            let [group, master, subject, consumers] = texts;
            (group, master, subject, consumers, to)
        };
        let expected = [
            row("group-1", "10.0.0.1:20881"),
            row("group-2", "10.0.0.1:20891"),
        ];
        assert_eq!(asked, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_not_reset_is_named_and_the_others_are() {
    let door = routed().await;
    let why = "10.0.0.1:20881 refused (Denied): no".to_owned();
    door.brokers
        .0
        .lock()
        .broken
        .insert("group-1".to_owned(), why);
    let form = "action=ResetOffset&subject=order.changed&group=ticket&code=2";
    let answer = door.acted(form).await;
    assert_eq!(answer["status"], -1);
    assert_eq!(
        answer["message"],
        "reset failed: brokerGroupName=group-1: 10.0.0.1:20881 refused (Denied): no"
    );
    let said = door.brokers.0.lock();
    assert_eq!(said.resets.len(), 1);
    assert_eq!(said.resets[0].0, "group-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_as_qmq_does() {
    let door = routed().await;
    for (form, message) in [
        ("group=g&code=1", "subject and consumerGroup required"),
        ("subject=s&code=1", "subject and consumerGroup required"),
        (
            "subject=s&group=g",
            "action must 1 or 2, LATEST=1, EARLIEST=2",
        ),
        (
            "subject=s&group=g&code=3",
            "action must 1 or 2, LATEST=1, EARLIEST=2",
        ),
        ("subject=nobody&group=g&code=1", "find no route"),
    ] {
        let answer = door.act(&format!("action=ResetOffset&{form}")).await;
        let expected = format!("{{\"status\":-1,\"message\":\"{message}\",\"data\":null}}");
        assert_eq!(answer, expected, "{form}");
    }
    assert_eq!(door.brokers.0.lock().resets, []);
}
