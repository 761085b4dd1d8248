//! Moving subjects between groups: steps over HTTP, and the commands that take them.

use std::process::Output;

use qmq_meta::GroupState;

use crate::common::{code, run, stderr, stdout};
use crate::door::{Door, TOKEN, open};

async fn routed() -> Door {
    let door = open(true).await;
    for (name, port) in [("group-1", 20881), ("group-2", 20891), ("group-3", 20871)] {
        door.group(name, port).await;
    }
    for subject in ["s", "t"] {
        for group in ["group-1", "group-2"] {
            let form =
                format!("action=AddSubjectBrokerGroup&subject={subject}&brokerGroup={group}");
            door.act(&form).await;
        }
    }
    door
}

fn meta(door: &Door, args: &[&str]) -> Output {
    let metaserver = format!("--metaserver={}", door.address);
    let token = format!("--token={TOKEN}");
    let mut all = vec!["meta"];
    all.extend_from_slice(args);
    all.extend([metaserver.as_str(), token.as_str()]);
    run(&all, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing() {
    let door = routed().await;
    let before = door.meta.routes();
    let output = meta(&door, &["decommission", "group-1", "--dry-run"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in ["s", "t", "group-1", "group-3"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(door.meta.routes(), before);
    assert!(door.meta.groups().iter().all(|group| !group.retiring));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_leaves_only_when_it_is_empty() {
    let door = routed().await;
    let key = ("group-1".to_owned(), "s".to_owned());
    door.brokers.0.lock().busy.insert(key.clone());
    let output = meta(
        &door,
        &[
            "decommission",
            "group-1",
            "--timeout",
            "1s",
            "--every",
            "100ms",
        ],
    );
    assert_eq!(code(&output), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("again"), "{}", stderr(&output));
    let route = |subject: &str| {
        let routes = door.meta.routes();
        let found = routes.into_iter().find(|route| route.subject == subject);
        let mut groups = found.unwrap().groups;
        groups.sort();
        groups
    };
    // Nobody writes to it any more, and who consumes still does.
    assert_eq!(route("s"), ["group-1", "group-2", "group-3"]);
    assert_eq!(route("t"), ["group-2", "group-3"]);
    assert!(door.meta.groups().iter().any(|group| group.retiring));
    // It goes on where it stopped.
    door.brokers.0.lock().busy.remove(&key);
    let output = meta(&door, &["decommission", "group-1", "--every", "100ms"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(route("s"), ["group-2", "group-3"]);
    // The group itself stays until somebody says so.
    assert!(
        door.meta
            .groups()
            .iter()
            .any(|group| group.name == "group-1")
    );
    let output = meta(
        &door,
        &["decommission", "group-1", "--every", "100ms", "--drop"],
    );
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(
        !door
            .meta
            .groups()
            .iter()
            .any(|group| group.name == "group-1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommission_can_be_ended() {
    let door = routed().await;
    let key = ("group-1".to_owned(), "s".to_owned());
    door.brokers.0.lock().busy.insert(key);
    let _ = meta(
        &door,
        &[
            "decommission",
            "group-1",
            "--timeout",
            "500ms",
            "--every",
            "100ms",
        ],
    );
    let output = meta(&door, &["decommission", "group-1", "--abort"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let groups = door.meta.groups();
    let group = groups.iter().find(|group| group.name == "group-1").unwrap();
    assert!(!group.retiring);
    assert_eq!(group.state, GroupState::ReadWrite);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_gives_a_new_group_its_share() {
    let door = routed().await;
    for n in 0..10 {
        for group in ["group-1", "group-2"] {
            let form = format!("action=AddSubjectBrokerGroup&subject=n{n}&brokerGroup={group}");
            door.act(&form).await;
        }
    }
    let plan = meta(&door, &["rebalance", "--dry-run", "--json"]);
    assert_eq!(code(&plan), Some(0), "{}", stderr(&plan));
    assert!(
        stdout(&plan).contains("\"to\":\"group-3\""),
        "{}",
        stdout(&plan)
    );
    let output = meta(&door, &["rebalance", "--every", "100ms"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let routes = door.meta.routes();
    let share = |name: &str| {
        routes
            .iter()
            .filter(|route| route.groups.iter().any(|g| g == name))
            .count()
    };
    let shares = ["group-1", "group-2", "group-3"].map(share);
    assert!(
        shares.iter().all(|share| (7..=9).contains(share)),
        "{shares:?}"
    );
    assert!(routes.iter().all(|route| route.groups.len() == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let door = routed().await;
    let output = meta(&door, &["decommission", "nobody"]);
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("nobody"), "{}", stderr(&output));
    for form in [
        "action=Decommission",
        "action=Recommission",
        "action=DropGroup",
        "action=Rebalance&dryRun=perhaps",
        "action=Rebalance&max=-1",
        "action=DropGroup&brokerGroup=group-1",
    ] {
        assert_eq!(door.acted(form).await["status"], -1, "{form}");
    }
}
