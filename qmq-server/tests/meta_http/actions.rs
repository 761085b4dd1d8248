//! Each action: what it answers when it is done, and when it is not.

use serde_json::Value;

use crate::door::{Door, open};

const DONE: &str = r#"{"status":0,"message":"","data":"success"}"#;

/// An `ActionResult` that says no.
fn refused(message: &str) -> String {
    format!("{{\"status\":-1,\"message\":\"{message}\",\"data\":null}}")
}

/// JSON with each number of ms since 1970 as 0.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"updateTime\":") {
        let (before, after) = rest.split_at(at + "\"updateTime\":".len());
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        assert_eq!(digits, 13, "{text}");
        out += before;
        out.push('0');
        rest = &after[digits..];
    }
    out + rest
}

async fn with_groups() -> Door {
    let door = open(true).await;
    door.group("group-1", 20881).await;
    door.group("group-2", 20891).await;
    door
}

async fn routed(door: &Door, subject: &str, groups: &[&str]) {
    for group in groups {
        let form = format!("action=AddSubjectBrokerGroup&subject={subject}&brokerGroup={group}");
        assert_eq!(door.acted(&form).await["subject"], subject);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_break_a_rule_are_refused() {
    let door = open(true).await;
    let add = "action=AddBroker&brokerGroup=g1&role=0&hostname=h1&ip=10.0.0.1&servePort=20881&syncPort=20882";
    assert!(door.act(add).await.starts_with("{\"status\":0,"));
    let ports = "serve port and sync port should valid and should be different port";
    for (change, message) in [
        (
            ("brokerGroup=g1", "brokerGroup="),
            "please provide broker group name",
        ),
        (
            ("hostname=h1", "hostname="),
            "please provide broker hostname",
        ),
        (("ip=10.0.0.1", "x=1"), "please provide broker ip"),
        (("role=0", "role=3"), "invalid broker role code 3"),
        (("role=0", "role=2"), "invalid broker role code 2"),
        (("servePort=20881", "servePort=0"), ports),
        (("servePort=20881", "servePort=70000"), ports),
        (("syncPort=20882", "syncPort=-1"), ports),
        (("syncPort=20882", "syncPort=20881"), ports),
    ] {
        let form = add.replace(change.0, change.1);
        assert_eq!(door.act(&form).await, refused(message), "{form}");
    }
    for (change, part) in [
        (("role=0", "role=x"), "add broker failed, caused by: role"),
        (
            ("syncPort=20882", ""),
            "add broker failed, caused by: syncPort is missing",
        ),
        (("hostname=h1", "hostname=h2"), "role"),
        (("brokerGroup=g1", "brokerGroup=g2"), "h1"),
    ] {
        let answer = door.acted(&add.replace(change.0, change.1)).await;
        assert_eq!(answer["status"], -1, "{answer}");
        assert_eq!(answer["data"], Value::Null);
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(door.meta.brokers(None).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_no_port_for_slaves() {
    let door = open(true).await;
    for (role, name, port) in [(4, "BACKUP", 20881), (7, "DELAY_BACKUP", 20801)] {
        let slave = role - 3;
        let slave = if slave == 4 { 6 } else { slave };
        let first = format!(
            "action=AddBroker&brokerGroup=g{role}&role={slave}&hostname=s&ip=10.0.0.9&servePort={port}&syncPort=1"
        );
        assert_eq!(door.acted(&first).await["status"], 0);
        let form = format!(
            "action=AddBroker&brokerGroup=g{role}&role={role}&hostname=h1&ip=10.0.0.1&servePort={port}"
        );
        let expected = format!(
            "{{\"status\":0,\"message\":\"\",\"data\":{{\"group\":\"g{role}\",\"role\":\"{name}\",\"hostname\":\"h1\",\"ip\":\"10.0.0.1\",\"servePort\":{port},\"syncPort\":-1}}}}"
        );
        assert_eq!(door.act(&form).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_broker_is_answered_as_it_was() {
    let door = open(true).await;
    let add = "action=AddBroker&brokerGroup=g1&role=0&hostname=h1&ip=10.0.0.1&servePort=20881&syncPort=20882";
    door.act(add).await;
    let replace = "action=ReplaceBroker&brokerGroup=g1&role=0&hostname=h2&ip=10.0.0.2&servePort=20891&syncPort=20892";
    let old = r#"{"status":0,"message":"","data":{"group":"g1","role":"MASTER","hostname":"h1","ip":"10.0.0.1","servePort":20881,"syncPort":20882}}"#;
    assert_eq!(door.act(replace).await, old);
    let list = door.act("action=ListBrokers&brokerGroup=g1").await;
    assert_eq!(
        list,
        r#"{"status":0,"message":"","data":[{"group":"g1","role":"MASTER","hostname":"h2","ip":"10.0.0.2","servePort":20891,"syncPort":20892}]}"#
    );
    for (form, message) in [
        (
            replace.replace("g1", "g9"),
            "no exist broker with this broker group name and role",
        ),
        (
            replace.replace("role=0", "role=1"),
            "no exist broker with this broker group name and role",
        ),
        (
            replace.replace("brokerGroup=g1", ""),
            "should provide broker group name",
        ),
    ] {
        assert_eq!(door.act(&form).await, refused(message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_routes_are_bare_arrays() {
    let door = open(true).await;
    assert_eq!(door.act("action=ListBrokerGroups").await, "[]");
    assert_eq!(door.act("action=ListSubjectRoutes").await, "[]");
    door.group("group-1", 20881).await;
    let groups = timeless(&door.act("action=ListBrokerGroups").await);
    let without_ext = r#"[{"groupName":"group-1","master":"10.0.0.1:20881","slaves":null,"updateTime":0,"brokerState":"RW","tag":"","kind":"NORMAL","ext":"#;
    assert!(groups.starts_with(without_ext), "{groups}");
    assert!(
        ["null}]", "{}}]"].contains(&&groups[without_ext.len()..]),
        "{groups}"
    );
    routed(&door, "s", &["group-1"]).await;
    let routes = timeless(&door.act("action=ListSubjectRoutes").await);
    let version = door.meta.routes()[0].version;
    let route = format!(
        "{{\"subject\":\"s\",\"brokerGroups\":[\"group-1\"],\"version\":{version},\"updateTime\":0}}"
    );
    assert_eq!(routes, format!("[{route}]"));
    let one = timeless(&door.act("action=QuerySubjectRoute&subject=s").await);
    assert_eq!(
        one,
        format!("{{\"status\":0,\"message\":\"\",\"data\":{route}}}")
    );
    let none = door.act("action=QuerySubjectRoute").await;
    assert_eq!(none, refused("subject不能为空"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_entered_once() {
    let door = open(true).await;
    let form = "action=AddNewSubject&subject=order.changed&tag=gold";
    let subject = r#"{"name":"order.changed","tag":"gold","updateTime":0}"#;
    let answer = timeless(&door.act(form).await);
    assert_eq!(answer, format!("{{\"data\":{subject}}}"));
    let answer = timeless(&door.act(form).await);
    assert_eq!(
        answer,
        format!("{{\"error\":\"主题已存在\",\"data\":{subject}}}")
    );
    for missing in [
        "action=AddNewSubject&subject=s",
        "action=AddNewSubject&tag=t",
    ] {
        let answer = door.act(missing).await;
        assert_eq!(
            answer,
            r#"{"error":"必须同时提供 subject 和 tag 两个参数"}"#
        );
    }
    let odd = door.acted("action=AddNewSubject&subject=a%2Fb&tag=t").await;
    assert!(odd["error"].as_str().unwrap().contains("'/'"), "{odd}");
    assert_eq!(odd.get("data"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_gains_a_group() {
    let door = with_groups().await;
    routed(&door, "s", &["group-1"]).await;
    let form = "action=AddSubjectBrokerGroup&subject=s&brokerGroup=group-2";
    let answer = timeless(&door.act(form).await);
    assert!(
        answer.starts_with(r#"{"subject":"s","brokerGroups":["group-1","group-2"],"version":"#),
        "{answer}"
    );
    // Once more says the same.
    assert_eq!(timeless(&door.act(form).await), answer);
    let answer = door.act("action=AddSubjectBrokerGroup&subject=s").await;
    assert_eq!(
        answer,
        r#"{"error":"必须同时提供 brokerGroup 和 subject 两个参数"}"#
    );
    let answer = door
        .act("action=AddSubjectBrokerGroup&subject=s&brokerGroup=g9")
        .await;
    assert_eq!(answer, r#"{"error":"提供的 brokerGroup 暂时不存在"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_loses_a_group_but_not_its_last() {
    let door = with_groups().await;
    routed(&door, "s", &["group-1", "group-2"]).await;
    routed(&door, "t", &["group-2"]).await;
    let nothing = r#"{"status":0,"message":"","data":{}}"#;
    let remove = |subject: &str, group: &str| {
        format!("action=RemoveSubjectBrokerGroup&subject={subject}&brokerGroup={group}")
    };
    assert_eq!(door.act(&remove("s", "group-1")).await, nothing);
    // It is not there any more, which is what was asked for.
    assert_eq!(door.act(&remove("s", "group-1")).await, nothing);
    let last = door.acted(&remove("s", "group-2")).await;
    assert_eq!(
        (&last["status"], &last["message"]),
        (&(-1).into(), &"路由缩减失败".into())
    );
    let why = last["data"]["s"].as_str().unwrap();
    assert!(
        why.starts_with("不允许删除主题的最后一个 brokerGroup"),
        "{why}"
    );
    routed(&door, "s", &["group-1"]).await;
    let all = door.acted(&remove("*", "group-2")).await;
    assert_eq!(
        (&all["status"], &all["message"]),
        (&(-1).into(), &"部分主题路由缩减失败".into())
    );
    let why = all["data"].as_object().unwrap();
    assert_eq!(why.keys().collect::<Vec<_>>(), ["t"]);
    let routes = door.meta.routes();
    assert_eq!(routes[0].groups, ["group-1"]);
    assert_eq!(routes[1].groups, ["group-2"]);
    assert_eq!(
        door.act(&remove("nobody", "group-1")).await,
        r#"{"status":-1,"message":"提供的 subject 暂时没有分配过 brokerGroup","data":{}}"#
    );
    let missing = door.act("action=RemoveSubjectBrokerGroup&subject=s").await;
    assert_eq!(
        missing,
        refused("必须同时提供 brokerGroup 和 subject 两个参数")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_have_a_group_gain_another() {
    let door = with_groups().await;
    routed(&door, "s", &["group-1"]).await;
    routed(&door, "t", &["group-1"]).await;
    routed(&door, "u", &["group-2"]).await;
    let form = "action=ExtendSubjectRoute&relatedSubject=*&relatedBrokerGroup=group-1&newBrokerGroup=group-2";
    for updated in [2, 0] {
        let expected = format!(
            "{{\"status\":0,\"message\":\"\",\"data\":\"成功更新{updated}个subject的路由\"}}"
        );
        assert_eq!(door.act(form).await, expected);
    }
    let missing = door.act("action=ExtendSubjectRoute&relatedSubject=*").await;
    assert_eq!(
        missing,
        refused("必须同时提供 relatedSubject、relatedBrokerGroup 和 newBrokerGroup 三个参数")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_marked_read_only_and_unmarked() {
    let door = with_groups().await;
    for action in [
        "MarkReadonlyBrokerGroup",
        "UnMarkReadonlyBrokerGroup",
        "UnMarkReadonlyBrokerGroup",
    ] {
        let form = format!("action={action}&subject=*&brokerGroup=group-1");
        assert_eq!(door.act(&form).await, DONE);
    }
    let missing = door
        .act("action=MarkReadonlyBrokerGroup&brokerGroup=group-1")
        .await;
    assert_eq!(
        missing,
        refused("必须同时提供 subject 和 brokerGroup 两个参数")
    );
    let form = "action=MarkReadonlyBrokerGroup&subject=*&brokerGroup=nobody";
    assert_eq!(door.acted(form).await["status"], -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_entered() {
    let door = open(true).await;
    let form = "action=AddDb&type=mmm&host=db1&port=3306&username=qmq&password=p%26%2Bw&room=";
    assert_eq!(
        door.act(form).await,
        r#"{"status":0,"message":"","data":"register success"}"#
    );
    let sources = door.meta.data_sources("default").await.unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].url, "mmm://db1:3306");
    assert_eq!(sources[0].password, "p&+w");
    let missing = door.acted("action=AddDb&type=mmm&host=db1&port=3306").await;
    assert_eq!(missing["message"], "register failed username is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_seen_at_one_glance() {
    let door = with_groups().await;
    routed(&door, "s", &["group-1"]).await;
    let answer = door.acted("action=ClusterStatus").await;
    let data = &answer["data"];
    assert_eq!(data["database"]["up"], true);
    assert_eq!(data["routes"], 1);
    let group = &data["groups"][0];
    assert_eq!(group["group"], "group-1");
    assert_eq!(group["state"], "RW");
    assert_eq!(group["subjects"], 1);
    assert!(
        group["lastSeen"].as_u64().unwrap() > 1_700_000_000_000,
        "{group}"
    );
    let node = &data["nodes"][0];
    assert_eq!(
        (&node["role"], &node["servePort"]),
        (&"MASTER".into(), &20881.into())
    );
    assert!(node["silentMs"].as_u64().unwrap() < 60_000, "{node}");
}
