//! A broker whose disk is full refuses messages and says why, goes on with what is there, and takes messages again when there is room.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/small_disk.rs"]
mod small_disk;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use qmq_client::{Client, Consumer, Message, Pem, Producer, Start, Subscription};
use qmq_server::dev::{Dev, DevOptions};
use tokio::time::timeout;

const SUBJECT: &str = "full";
const LIMIT: Duration = Duration::from_secs(20);
const BODY_BYTES: usize = 60_000;

/// Runs the inner test with a small file system of its own, if that is allowed here.
#[test]
fn a_broker_with_a_full_disk_refuses_messages_and_goes_on_delivering() {
    small_disk::run_inside();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a mount namespace of its own: cargo test -p qmq-server --test full_disk_broker"]
async fn inside_a_small_file_system() {
    let Some(folder) = small_disk::mounted("144m") else {
        return;
    };
    let folder = folder.as_path();
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 32 << 20]).unwrap();
    let mut options = DevOptions::in_folder(folder.join("broker"));
    options.http_port = None;
    options.sets = [("store.segment.bytes", "1M"), ("message.max.bytes", "100K")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let dev = Dev::start(&options).await.unwrap();
    let client = Client::builder()
        .broker(dev.broker().address().to_string())
        .authorities(Pem::File(folder.join("broker").join("tls").join("ca.pem")))
        .server_name("localhost")
        .connect()
        .await
        .unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_secs(1))
        .build()
        .unwrap();

    let mut stored = Vec::new();
    let mut refusal = None;
    for n in 0..2_000 {
        match send(&producer, n).await {
            Ok(()) => stored.push(n),
            Err(why) => {
                refusal = Some(why);
                break;
            }
        }
    }
    let refusal = refusal.expect("64 MiB take no 2,000 messages of 60,000 bytes");
    assert!(refusal.contains("full"), "{refusal}");
    assert!(
        stored.len() > 100,
        "{} before the disk was full",
        stored.len()
    );
    // Still refused, still answering.
    assert!(send(&producer, 5_000).await.is_err());

    // What is there is delivered and acknowledged meanwhile.
    let subscription = || {
        Subscription::new(SUBJECT, "group")
            .start(Start::Earliest)
            .window(20, 16 << 20)
    };
    let mut consumer = client.subscribe(subscription()).unwrap();
    let half = stored.len() / 2;
    for n in &stored[..half] {
        assert_eq!(next(&mut consumer).await, *n);
    }
    consumer.close().await.unwrap();

    fs::remove_file(&ballast).unwrap();
    let until = Instant::now() + LIMIT;
    while let Err(why) = send(&producer, 6_000).await {
        assert!(Instant::now() < until, "32 MiB are free: {why}");
    }
    for n in 6_001..6_050 {
        send(&producer, n).await.unwrap();
    }
    stored.extend(6_000..6_050);

    // A new life finds everything that was acknowledged, and the group goes on where it was.
    client.close(LIMIT).await;
    dev.drain().await.unwrap();
    let dev = Dev::start(&options).await.unwrap();
    let client = Client::builder()
        .broker(dev.broker().address().to_string())
        .authorities(Pem::File(folder.join("broker").join("tls").join("ca.pem")))
        .server_name("localhost")
        .connect()
        .await
        .unwrap();
    let mut consumer = client.subscribe(subscription()).unwrap();
    let mut left: BTreeSet<usize> = stored[half..].iter().copied().collect();
    while !left.is_empty() {
        let n = next(&mut consumer).await;
        // A message that was refused may not be there; one that was given up by its producer may.
        assert!(left.remove(&n) || n == 6_000, "{n} came, and was not due");
    }
    consumer.close().await.unwrap();
    client.close(LIMIT).await;
    dev.drain().await.unwrap();
}

/// Sends the n-th message.
async fn send(producer: &Producer, n: usize) -> Result<(), String> {
    let body = format!("{n} {}", ".".repeat(BODY_BYTES));
    let sent = timeout(LIMIT, producer.send(Message::new(SUBJECT, body)));
    let sent = sent.await.expect("an answer in time");
    sent.map(|_| ()).map_err(|error| error.to_string())
}

/// The number of the next message, which is acknowledged.
async fn next(consumer: &mut Consumer) -> usize {
    let received = timeout(LIMIT, consumer.next()).await;
    let received = received.expect("a message in time").unwrap();
    let body = String::from_utf8(received.body().to_vec()).unwrap();
    let (number, rest) = body.split_once(' ').unwrap();
    assert!(rest.len() == BODY_BYTES && rest.bytes().all(|byte| byte == b'.'));
    let number = number.parse().unwrap();
    timeout(LIMIT, received.ack())
        .await
        .expect("an answer to the ack in time")
        .unwrap();
    number
}
