//! A broker dies without a word.

use std::time::{Duration, Instant};

use crate::nodes::{Cluster, REFRESH, SILENCE, until};
use crate::states::{told, until_state};
use crate::traffic::Traffic;

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_left_alone_until_it_is_back_whichever_meta_server_lives() {
    let cluster = Cluster::new().await;
    let mut one = cluster.meta("meta-1").await;
    let two = cluster.meta("meta-2").await;
    let mut broker = cluster.broker("broker-1", &[&one], "group-1").await;
    let _other = cluster.broker("broker-2", &[&two, &one], "group-2").await;
    for group in ["group-1", "group-2"] {
        until_state(&two, group, "RW").await;
    }
    let traffic = Traffic::begin(&cluster, &[&two], false);
    traffic.goes_on("at both", 100).await;

    // The one meta server that ever heard of it dies with it.
    one.kill();
    broker.kill();
    let killed = Instant::now();
    until("group-1 to be NRW", async || {
        let states = told(two.http).await.unwrap();
        assert_eq!(states["group-2"], "RW");
        states["group-1"] == "NRW"
    })
    .await;
    let took = killed.elapsed();
    assert!(took < SILENCE + REFRESH + SLACK, "{took:?}");
    two.until_logged("no heartbeat").await;
    // The clients were told: nothing new goes there.
    let address = format!("127.0.0.1:{}", broker.port);
    let before = traffic.brokers()[&address];
    traffic.goes_on("at the other", 100).await;
    assert_eq!(traffic.brokers()[&address], before);

    one.start().await;
    broker.start().await;
    until_state(&two, "group-1", "RW").await;
    until("messages to go to both again", async || {
        traffic.brokers()[&address] > before + 50
    })
    .await;
    traffic.end().await;
}
