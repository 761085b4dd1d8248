//! The database stops under load, and comes back.

use std::time::Duration;

use qmq_client::{Client, Listening, Message, Start, Subscription};

use crate::mariadb_server::Server;
use crate::nodes::{Cluster, LIMIT, Node, SILENCE, until};
use crate::states::{States, until_state};
use crate::traffic::Traffic;

const NEW: &str = "new.subject";

async fn until_verbose(meta: &Node, parts: &[&str]) -> u16 {
    let mut status = 0;
    until(
        &format!("{parts:?} in the health of a meta server"),
        async || {
            let Some((now, text)) = meta.get("/health?verbose").await else {
                return false;
            };
            status = now;
            parts.iter().all(|part| text.contains(part))
        },
    )
    .await;
    status
}

/// A consumer of the new subject, which counts.
fn count_new(client: &Client) -> (Listening, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let subscription = Subscription::new(NEW, "billing").start(Start::Earliest);
    let listening = client
        .subscribe(subscription)
        .unwrap()
        .listen(move |message| {
            let _ = tell.send(String::from_utf8(message.body().to_vec()).unwrap());
            async { Ok(()) }
        });
    (listening, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_and_returns_under_load_changes_nothing_for_anybody() {
    let server = Server::own();
    let scratch = server.own_database().await;
    scratch.migrate().await;
    let cluster = Cluster::on(scratch);
    let one = cluster.meta("meta-1").await;
    let mut two = cluster.meta("meta-2").await;
    let mut broker = cluster.broker("broker-1", &[&one, &two], "group-1").await;
    let _other = cluster.broker("broker-2", &[&two, &one], "group-2").await;
    let _delay = cluster.delay("delay-1", &[&one, &two], "delay-1").await;
    for group in ["group-1", "group-2", "delay-1"] {
        until_state(&one, group, "RW").await;
        until_state(&two, group, "RW").await;
    }
    let states = States::watch(&cluster, &[&one, &two]).await;
    let traffic = Traffic::begin(&cluster, &[&one, &two], true);
    traffic.goes_on("before", 100).await;

    server.down();
    for meta in [&one, &two] {
        let status = until_verbose(meta, &["database: away", "stale: true"]).await;
        assert_eq!(status, 200);
    }
    traffic.goes_on("without the database", 100).await;
    // A meta server that begins now knows what it knew.
    two.kill();
    two.start().await;
    assert!(
        two.log()
            .contains("starting with the snapshot, since the database is away")
    );
    until_verbose(&two, &["database: away", "stale: true", "brokers: 3"]).await;
    until_state(&two, "group-1", "RW").await;
    // One that never knew anything says that.
    let mut ignorant = cluster.meta_to_be("meta-3");
    ignorant.start().await;
    let (status, text) = ignorant.get("/health").await.unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("there is no snapshot"), "{text}");
    assert!(ignorant.log().contains("starting without knowing anything"));
    // A broker that begins now is what it was.
    broker.kill();
    broker.start().await;
    let sent = traffic.brokers();
    let address = format!("127.0.0.1:{}", broker.port);
    until("the broker to take messages again", async || {
        traffic.brokers()[&address] > sent[&address] + 20
    })
    .await;
    // A subject that nobody knew gets a route, at both.
    let late = cluster.client(&[&one, &two]);
    let (listening, mut told) = count_new(&late);
    let sent = late.producer().build().unwrap();
    let sent = sent.send(Message::new(NEW, "first"));
    tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap();
    let first = tokio::time::timeout(LIMIT, told.recv()).await.unwrap();
    assert_eq!(first.unwrap(), "first");
    // Longer than any heartbeat may be late.
    tokio::time::sleep(SILENCE + Duration::from_secs(1)).await;
    traffic.goes_on("still without the database", 100).await;

    server.up();
    for meta in [&one, &two, &ignorant] {
        let status = until_verbose(meta, &["database: up", "stale: false", "groups: 3"]).await;
        assert_eq!(status, 200);
    }
    let stored = format!(
        "SELECT subject_info, broker_group_json FROM subject_route WHERE subject_info = '{NEW}'"
    );
    until("the new subject's route to be stored", async || {
        cluster.rows(&stored).await.len() == 1
    })
    .await;
    // All who are silent would be swept in this time.
    tokio::time::sleep(SILENCE * 2).await;
    traffic.goes_on("with the database", 100).await;
    let offline = cluster
        .rows("SELECT client_id, subject_info FROM client_offline_state")
        .await;
    assert_eq!(offline, []);
    tokio::time::timeout(LIMIT, listening.close())
        .await
        .unwrap()
        .unwrap();
    late.close(Duration::from_secs(1)).await;
    traffic.end().await;
    states.were_all_read_write(&cluster).await;
    drop(cluster);
}
