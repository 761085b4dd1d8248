//! Switches, consumers and slaves.

use qmq_meta::{Broker, BrokerRole, ClientKind, RouteRequest};

use crate::door::open;

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_switched_off_and_on() {
    let door = open(true).await;
    let path = |operation: &str, client: &str, state: &str| {
        format!(
            "/onoffline?operation={operation}&clientId={client}&subject=s&consumerGroup=g&state={state}"
        )
    };
    let answer = async |operation: &str, client: &str, state: &str| {
        let answer = door.get(&path(operation, client, state), "").await;
        assert_eq!(answer.status, 200);
        answer.body
    };
    let says =
        |message: &str| format!("{{\"status\":0,\"message\":\"{message}\",\"data\":null}}\n");
    assert_eq!(answer("query", "c1", "0").await, says("ON"));
    assert_eq!(answer("update", "c1", "1").await, says("ok"));
    assert_eq!(answer("query", "c1", "0").await, says("OFF"));
    assert_eq!(answer("query", "c2", "0").await, says("ON"));
    assert_eq!(answer("update", "c1", "0").await, says("ok"));
    assert_eq!(answer("query", "c1", "0").await, says("ON"));
    // Any state but 0 is off; a star switches all off, and on again.
    assert_eq!(answer("update", "*", "7").await, says("ok"));
    assert_eq!(answer("query", "c2", "1").await, says("OFF"));
    assert_eq!(answer("update", "*", "0").await, says("ok"));
    assert_eq!(answer("query", "c2", "1").await, says("ON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_without_a_parameter_is_refused() {
    let door = open(true).await;
    let invalid = "{\"status\":-1,\"message\":\"invalid parameter\",\"data\":null}\n";
    let all = [
        "operation=query",
        "clientId=c",
        "subject=s",
        "consumerGroup=g",
        "state=0",
    ];
    for missing in 0..all.len() {
        let mut rest = all.to_vec();
        rest.remove(missing);
        let answer = door
            .get(&format!("/onoffline?{}", rest.join("&")), "")
            .await;
        assert_eq!(answer.body, invalid, "{}", all[missing]);
    }
    let odd = "/onoffline?operation=query&clientId=c&subject=s&consumerGroup=g&state=on";
    assert_eq!(door.get(odd, "").await.body, invalid);
    let other = "/onoffline?operation=flip&clientId=c&subject=s&consumerGroup=g&state=0";
    let answer = door.get(other, "").await;
    assert_eq!(
        answer.body,
        "{\"status\":-1,\"message\":\"unsupport: flip\",\"data\":null}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_subject_are_listed_by_group() {
    let door = open(true).await;
    door.group("group-1", 20881).await;
    for (group, client) in [("g1", "c1"), ("g1", "c2"), ("g2", "c3")] {
        let request = RouteRequest {
            subject: "order.changed".to_owned(),
            kind: ClientKind::Consumer,
            group: group.to_owned(),
            client: client.to_owned(),
            application: "billing".to_owned(),
            room: "r1".to_owned(),
        };
        door.meta.route(&request).await.unwrap();
    }
    let expected = "{\"status\":0,\"message\":\"成功\",\"data\":[\
        {\"namespace\":\"newqmq\",\"prefix\":\"order.changed\",\"consumerGroup\":\"g1\",\"owner\":null,\
        \"endPoint\":[\"qmq://c1?room=r1&appCode=billing\",\"qmq://c2?room=r1&appCode=billing\"]},\
        {\"namespace\":\"newqmq\",\"prefix\":\"order.changed\",\"consumerGroup\":\"g2\",\"owner\":null,\
        \"endPoint\":[\"qmq://c3?room=r1&appCode=billing\"]}]}\n";
    // They are written behind the answer.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = door
            .get("/subject/consumers?subject=order.changed", "")
            .await;
        if answer.body == expected {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{}", answer.body);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let none = door.get("/subject/consumers", "").await;
    assert_eq!(
        none.body,
        "{\"status\":-1,\"message\":\"请求的主题不能为空\",\"data\":null}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_is_found_by_its_group() {
    let door = open(false).await;
    let slave = |group: &str, role, hostname: &str, ip: &str, port: u16| Broker {
        group: group.to_owned(),
        role,
        hostname: hostname.to_owned(),
        ip: ip.to_owned(),
        serve_port: port,
        sync_port: Some(port + 1),
    };
    for broker in [
        slave("g1", BrokerRole::Slave, "h2", "10.0.0.2", 20881),
        slave("g2", BrokerRole::DelaySlave, "h3", "10.0.0.3", 20801),
        slave("g3", BrokerRole::Master, "h4", "10.0.0.4", 20881),
    ] {
        door.meta.add_broker(&broker).await.unwrap();
    }
    for (query, expected) in [
        // Entered in broker-http-port-map.properties.
        ("?groupName=g1", "10.0.0.2:9090"),
        ("?groupName=g2", "10.0.0.3:8080"),
        ("?groupName=g3", ""),
        ("?groupName=nobody", ""),
        ("", ""),
    ] {
        let answer = door.get(&format!("/slave/meta{query}"), "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, expected),
            "{query}"
        );
    }
}
