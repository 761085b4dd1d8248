//! What a broker's process keeps for many who wait: 1,000 idle subscriptions beside 40,000 subjects, while it is scraped.
//!
//! `QMQ_CONNECTIONS=1000` gives each a connection of its own, of which nothing is asserted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;
#[path = "common/broker.rs"]
mod user;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use qmq_client::{Client, Message, Pem, Start, Subscription};
use user::{Dev, LIMIT};

const SUBJECTS: usize = 40_000;
const SUBSCRIPTIONS: usize = 1_000;
const CONNECTIONS: usize = 250;
const SCRAPES: usize = 5;
/// Of the broker's process.
const ANONYMOUS_KIB_MAX: u64 = 160_000_000 / 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_subscriptions_on_forty_thousand_subjects_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let subject = |n: usize| format!("a.subject.of.an.ordinary.length-{n:05}");
    let producing = connect(&dev).await;
    let producer = producing.producer().queue(10_000, 64 << 20, LIMIT);
    let producer = producer.build().unwrap();
    for n in 0..SUBJECTS {
        drop(
            producer
                .queue(Message::new(subject(n), "body"))
                .await
                .unwrap(),
        );
    }
    producer.close().await.unwrap();
    producing.close(Duration::from_secs(5)).await;

    let asked = std::env::var("QMQ_CONNECTIONS").ok();
    let connections = asked.map_or(CONNECTIONS, |count| count.parse().unwrap());
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(&dev).await);
    }
    let mut waiting = Vec::new();
    for n in 0..SUBSCRIPTIONS {
        let client = &clients[n % connections];
        let subject = subject(n * SUBJECTS / SUBSCRIPTIONS);
        let subscription = Subscription::new(subject, "group").start(Start::Earliest);
        let mut consumer = client.subscribe(subscription).unwrap();
        let first = consumer.next().await.unwrap();
        first.ack().await.unwrap();
        waiting.push(consumer);
    }
    let mut kib = Vec::new();
    for _ in 0..SCRAPES {
        let text = scrape(&dev);
        assert!(text.contains("receivedMessagesCount"), "{text}");
        kib.push(anonymous_kib(dev.process.0.id()));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    println!("anonymous KiB with {connections} connections: {kib:?}");
    let is_more = connections > CONNECTIONS;
    assert!(
        is_more || kib.iter().all(|kib| *kib < ANONYMOUS_KIB_MAX),
        "{kib:?}"
    );
}

async fn connect(dev: &Dev) -> Client {
    Client::builder()
        .brokers([&dev.address])
        .authorities(Pem::File(dev.folder.join("dev/tls/ca.pem")))
        .connect()
        .await
        .unwrap()
}

fn scrape(dev: &Dev) -> String {
    let address = dev.said[0].split("http://").nth(1).unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn anonymous_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    anonymous
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
