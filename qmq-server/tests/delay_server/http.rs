//! Health and metrics.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use qmq_client::{Client, Pem};
use qmq_server::access::Pattern;
use qmq_server::delay::Destination;

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, TestDelay, ids, later, now_ms, refusal};
use super::wire_client::{until, within};

async fn get(delay: &TestDelay, path: &str) -> String {
    let address = delay.server.http_address().unwrap();
    let answer = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    within("HTTP", answer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_say_what_waits_and_what_has_gone() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    ids(&peer, (0..3).map(|_| later("order", "x", now_ms()))).await;
    until("the record", || delay.pending() == 0).await;
    ids(&peer, [later("order", "x", now_ms() + 60_000)]).await;
    refusal(&peer, later("order", "x", u64::MAX)).await;
    let health = get(&delay, "/health?verbose").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    for line in ["ok\n", "node: delay\n", "pending: 1\n", "dead_letters: 0\n"] {
        assert!(health.contains(line), "{line} in {health}");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let metrics = get(&delay, "/metrics").await;
    for line in [
        "receivedMessagesCount_total 4\n",
        "scheduleDispatch_total 3\n",
        "overDelayMessage_total 1\n",
        "delayTime_seconds_count 3\n",
        "qmq_delay_pending 1\n",
        "qmq_messages_refused_total{code=\"due_too_far\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_that_no_meta_server_is_reached() {
    let mut home = DelayHome::new(&[]);
    home.adjust = |options| {
        let client = Client::builder()
            .meta("http://127.0.0.1:1/meta/address")
            .authorities(Pem::File(options.tls.authority.clone()));
        options.destinations = vec![Destination {
            subjects: Pattern::new("*"),
            client,
        }];
    };
    let delay = home.start().await;
    let counters = std::sync::Arc::clone(delay.server.dispatched());
    until("the trouble", || counters.delivering.get().is_some()).await;
    let health = get(&delay, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let told = "ok\ndelivery: not reached: http://127.0.0.1:1/meta/address did not say";
    assert!(health.contains(told), "{health}");
}
