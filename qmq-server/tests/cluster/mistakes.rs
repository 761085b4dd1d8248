//! The mistakes of the operators' document, with the line to type in the log of the node, typed as it stands there.

use crate::common::stdout;
use crate::nodes::{Cluster, Node, TOKEN, typed};
use crate::states::until_state;

/// The command in the log that begins so; with a token, which only the operator knows.
async fn told(node: &Node, begins: &str) -> String {
    node.until_logged(begins).await;
    let log = node.log();
    let line = log.lines().find_map(|line| line.split_once(begins));
    let rest = line.unwrap().1;
    assert!(!rest.contains("--metaserver=META"), "{log}");
    format!("{begins}{rest}").replace("--token=TOKEN", &format!("--token={TOKEN}"))
}

async fn works(meta: &Node, node: &Node, line: &str, group: &str) {
    assert!(!line.contains('<'), "{line}");
    let answer = typed(line);
    let said = stdout(&answer);
    assert!(said.contains("\"status\":0"), "{line}: {answer:?}");
    until_state(meta, group, "RW").await;
    node.until_logged("the meta server has this node online")
        .await;
}

const ADD: &str = "qmq tools AddBroker ";
const REPLACE: &str = "qmq tools ReplaceBroker ";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_says_to_type_works_as_it_stands() {
    let cluster = Cluster::new().await;
    let meta = cluster.meta("meta-1").await;

    // Nobody has entered it.
    let settings = "broker.group=group-1\nqmq.host=host-1\n";
    let mut forgotten = cluster.broker_to_be("forgotten", &[&meta], settings);
    forgotten.start().await;
    let line = told(&forgotten, ADD).await;
    let port = forgotten.port;
    let entry = format!(
        "--brokerGroup=group-1 --role=0 --hostname=host-1 --ip=127.0.0.1 --servePort={port} --syncPort="
    );
    assert!(line.contains(&entry), "{line}");
    // It waits, and has not ended as QMQ's does.
    assert!(!forgotten.has_ended());
    works(&meta, &forgotten, &line, "group-1").await;

    // Entered under another name: with its domain, in capitals.
    for (number, entered, is) in [(2, "host-2.example.org", "host-2"), (3, "HOST-3", "host-3")] {
        let group = format!("group-{number}");
        let settings = format!("broker.group={group}\nqmq.host={is}\n");
        let mut node = cluster.broker_to_be(is, &[&meta], &settings);
        let line = format!(
            "{ADD}--metaserver=127.0.0.1:{} --token={TOKEN} --brokerGroup={group} --role=0 --hostname={entered} --ip=127.0.0.1 --servePort={} --syncPort=20882",
            meta.http, node.port
        );
        assert!(stdout(&typed(&line)).contains("\"status\":0"));
        node.start().await;
        let line = told(&node, REPLACE).await;
        assert!(
            node.log().contains(&format!("set qmq.host={entered}")),
            "{}",
            node.log()
        );
        works(&meta, &node, &line, &group).await;
    }

    // Entered with another port; the line is for a group of its own.
    let settings = "broker.group=group-4\nqmq.host=host-1\n";
    let mut moved = cluster.broker_to_be("moved", &[&meta], settings);
    moved.start().await;
    let hint = format!("host-1 is entered with port {port}; broker.port must be the --servePort");
    moved.until_logged(&hint).await;
    let line = told(&moved, ADD).await;
    works(&meta, &moved, &line, "group-4").await;
}

/// The group is another's: what the refusal says works in its turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_a_master_is_not_taken_from_it_unasked() {
    let cluster = Cluster::new().await;
    let meta = cluster.meta("meta-1").await;
    let mut gone = cluster.broker("host-1", &[&meta], "group-1").await;
    until_state(&meta, "group-1", "RW").await;
    gone.kill();
    let settings = "broker.group=group-1\nqmq.host=host-2\n";
    let mut other = cluster.broker_to_be("host-2", &[&meta], settings);
    other.start().await;
    let line = told(&other, ADD).await;
    let refused = stdout(&typed(&line));
    assert!(refused.contains("\"status\":-1"), "{refused}");
    let (_, replace) = refused
        .split_once(REPLACE)
        .unwrap_or_else(|| panic!("{refused}"));
    let replace = replace.split(['"', '\\']).next().unwrap();
    let replace =
        format!("{REPLACE}{replace}").replace("--token=TOKEN", &format!("--token={TOKEN}"));
    let replace = replace.replace(
        "--metaserver=META",
        &format!("--metaserver=127.0.0.1:{}", meta.http),
    );
    works(&meta, &other, &replace, "group-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_port_of_the_meta_server_is_named() {
    let cluster = Cluster::new().await;
    let meta = cluster.meta("meta-1").await;
    // As if the native port were the one to give.
    let settings = format!(
        "qmq.host=host-1\nmeta.server.endpoint=http://127.0.0.1:{}/meta/address\n",
        meta.port
    );
    let mut node = cluster.broker_to_be("host-1", &[], &settings);
    node.start().await;
    node.until_logged("meta.server.discover.port").await;
}
