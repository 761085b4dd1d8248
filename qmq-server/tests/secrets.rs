//! No secret is ever logged, at whatever level.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "common/test_broker.rs"]
mod test_broker;
#[path = "common/wire_client.rs"]
mod wire_client;

use std::io::Write;
use std::sync::{Arc, Mutex};

use qmq_server::access::token_hash;
use test_broker::Home;
use wire_client::{Batch, flow, sleep_ms};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const GOOD: &str = "hunter2-the-good-one";
const BAD: &str = "hunter2-the-bad-one";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_key_is_ever_logged() {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let home = Home::new(&[("anonymous.rights", "")]);
    let tokens = home.path("tokens");
    let line = format!("{}=billing;consume:order\n", token_hash(GOOD));
    std::fs::write(&tokens, &line).unwrap();
    let broker = home.start().await;
    assert!(broker.dial().token(BAD).peer().await.is_err());
    let peer = broker.dial().token(GOOD).peer().await.unwrap();
    peer.produce(&Batch::bodies("order", ["x"])).await;
    let _ = peer.subscribe(&flow("order", "g", "c"), 1, 1).await;
    // The secrets themselves where their hashes should be.
    std::fs::write(
        &tokens,
        format!("{line}{BAD}=x;consume:*\n{GOOD}=hunter2;nonsense\n"),
    )
    .unwrap();
    sleep_ms(1_500).await;
    let key = std::fs::read_to_string(broker.home.path("tls/node.key")).unwrap();
    broker.drain().await;
    let text = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(text.contains("billing"), "what is not secret is there");
    assert!(text.contains("tokens"), "the bad file was told of");
    for secret in [GOOD, BAD, &token_hash(GOOD)] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
    for line in key.lines().filter(|line| !line.contains("-----")) {
        assert!(!text.contains(line), "a line of the private key");
    }
}
