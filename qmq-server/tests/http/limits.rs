//! What the door does not take.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::broker::start;

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_says_what_there_is() {
    let running = start(10).await;
    let answer = running.get("/metric", "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("/metrics"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_reading_is_allowed() {
    let running = start(10).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} /health HTTP/1.1\r\nHost: qmq\r\n\r\n");
        assert_eq!(running.ask(&request).await.status, 405, "{method}");
    }
    let head = running.ask("HEAD /health HTTP/1.1\r\nHost: qmq\r\n\r\n");
    let head = head.await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_size() {
    let running = start(10).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(20 << 10));
    assert_eq!(running.get("/health", &long).await.status, 431);
    let many: String = (0..100).map(|n| format!("X-{n}: x\r\n")).collect();
    assert_eq!(running.get("/health", &many).await.status, 431);
    assert_eq!(running.get("/health", "X: x\r\n").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_nobody_out_for_long() {
    let running = start(10).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(running.http).await.unwrap());
    }
    let answer = tokio::time::timeout(Duration::from_secs(20), running.get("/health", ""));
    assert_eq!(answer.await.unwrap().status, 200);
    for mut one in silent {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), one.read_to_end(&mut rest));
        let _ = read.await.expect("it is closed");
    }
}
