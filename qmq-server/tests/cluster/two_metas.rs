//! Two meta servers on one database, one of which is killed.

use std::time::Duration;

use qmq_client::{Client, ConnectionState, Message};

use crate::nodes::{Cluster, LIMIT, Node, SILENCE, until};
use crate::states::{States, until_state};
use crate::traffic::Traffic;

async fn until_all_serve(metas: &[&Node]) {
    for meta in metas {
        for group in ["group-1", "group-2", "delay-1"] {
            until_state(meta, group, "RW").await;
        }
    }
}

fn is_at(client: &Client, meta: &str) -> bool {
    matches!(client.meta(), Some((at, ConnectionState::Connected { .. })) if at == meta)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meta_server_is_killed_and_all_go_on_with_the_other() {
    let cluster = Cluster::new().await;
    let mut one = cluster.meta("meta-1").await;
    let two = cluster.meta("meta-2").await;
    let broker_1 = cluster.broker("broker-1", &[&one, &two], "group-1").await;
    let broker_2 = cluster.broker("broker-2", &[&two, &one], "group-2").await;
    let delay = cluster.delay("delay-1", &[&one, &two], "delay-1").await;
    until_all_serve(&[&one, &two]).await;
    let states = States::watch(&cluster, &[&one, &two]).await;
    let traffic = Traffic::begin(&cluster, &[&one, &two], true);
    traffic.goes_on("before", 200).await;
    // Clients choose by chance: until one has chosen the first.
    let first = format!("127.0.0.1:{}", one.port);
    let mut clients = vec![traffic.producing.clone(), traffic.consuming.clone()];
    until("a client to choose the first", async || {
        let client = cluster.client(&[&one, &two]);
        client.ready().await.unwrap();
        clients.push(client);
        clients.iter().any(|client| is_at(client, &first))
    })
    .await;

    one.kill();
    let other = format!("127.0.0.1:{}", two.port);
    for node in [&broker_1, &delay] {
        let switched = format!("meta=\"{other}\"");
        node.until_logged(&switched).await;
    }
    until("the clients to switch", async || {
        clients.iter().all(|client| is_at(client, &other))
    })
    .await;
    // Longer than any of them may be silent.
    tokio::time::sleep(SILENCE + Duration::from_secs(2)).await;
    traffic.goes_on("with one meta server", 200).await;
    // A subject that nobody knew, and a client that comes now.
    let late = cluster.client(&[&one, &two]);
    let sent = late.producer().build().unwrap();
    let sent = sent.send(Message::new("new.subject", "1"));
    tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap();
    late.close(Duration::from_secs(1)).await;

    one.start().await;
    until_all_serve(&[&one, &two]).await;
    let brokers = traffic.brokers();
    assert_eq!(
        brokers.len(),
        3,
        "both groups and the delay server: {brokers:?}"
    );
    let count = traffic.end().await;
    assert!(count > 400, "{count}");
    states.were_all_read_write(&cluster).await;
    drop((broker_1, broker_2, delay));
}
