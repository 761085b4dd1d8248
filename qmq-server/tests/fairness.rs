//! Groups share a broker evenly, whatever the numbers of their consumers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use qmq_client::{Client, Consumer, Durability, Message, Pem, Start, Subscription};
use qmq_server::config::{ClientConfig, Sources};
use qmq_server::dev::{Dev, DevOptions};

fn client(dev: &Dev) -> Client {
    let (config, _) = ClientConfig::load(&Sources::of_file(dev.client_file())).unwrap();
    Client::builder()
        .brokers(config.addresses)
        .authorities(Pem::File(config.tls_ca.unwrap()))
        .server_name(config.server_name.unwrap())
        .build()
        .unwrap()
}

/// Connections of the large group, and consumers on each.
const CONNECTIONS: usize = 50;
const CONSUMERS: usize = 20;
const BODY: usize = 4_000;
const MESSAGES: u64 = 60_000;
/// The small group's share is looked at when so many messages have come to both together.
const LOOK_AT: u64 = 40_000;

#[derive(Default)]
struct Taken {
    large: AtomicU64,
    small: AtomicU64,
    begin: AtomicBool,
}

async fn take(mut consumer: Consumer, taken: Arc<Taken>, large: bool) {
    while let Ok(received) = consumer.next().await {
        if taken.begin.load(Ordering::Acquire) {
            let count = if large { &taken.large } else { &taken.small };
            count.fetch_add(1, Ordering::Relaxed);
        }
        received.ack_soon();
    }
}

fn subscription(group: &str) -> Subscription {
    Subscription::new("backlog", group).start(Start::Earliest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_consumers_leave_half_of_the_broker_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&DevOptions::in_folder(folder.path()))
        .await
        .unwrap();
    let producing = client(&dev);
    let producer = producing
        .producer()
        .durability(Durability::Buffered)
        .build()
        .unwrap();
    for _ in 0..MESSAGES {
        let message = Message::new("backlog", vec![7; BODY]);
        drop(producer.queue(message).await.unwrap());
    }
    producer.close().await.unwrap();

    let taken = Arc::new(Taken::default());
    let mut clients = Vec::new();
    let mut tasks = Vec::new();
    for connection in 0..=CONNECTIONS {
        let client = client(&dev);
        let (group, count) = match connection {
            0 => ("one", 1),
            _ => ("thousand", CONSUMERS),
        };
        for _ in 0..count {
            let consumer = client.subscribe(subscription(group)).unwrap();
            tasks.push(tokio::spawn(take(
                consumer,
                Arc::clone(&taken),
                connection > 0,
            )));
        }
        clients.push(client);
    }
    let both = |taken: &Taken| {
        let large = taken.large.load(Ordering::Relaxed);
        (large, taken.small.load(Ordering::Relaxed))
    };
    taken.begin.store(true, Ordering::Release);
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    let (large, small) = loop {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (large, small) = both(&taken);
        if large + small >= LOOK_AT || large >= MESSAGES || small >= MESSAGES {
            break (large, small);
        }
        assert!(tokio::time::Instant::now() < limit, "{large} and {small}");
    };
    let share = small as f64 / (large + small) as f64;
    eprintln!("1,000 consumers got {large}, one got {small}: {share:.2}");
    for group in dev
        .broker()
        .administering()
        .store
        .subject_stats("backlog")
        .unwrap()
        .groups
    {
        eprintln!(
            "{} cursor {} unacked {} waiting {}",
            group.group, group.cursor, group.unacked, group.waiting
        );
    }
    for task in tasks {
        task.abort();
    }
    assert!(
        (0.4..=0.6).contains(&share),
        "1,000 consumers got {large} messages, one got {small}: {share:.2} of them"
    );
}
