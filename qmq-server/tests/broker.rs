//! A broker over real QUIC: produce, deliver, acknowledge.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use qmq_client::{Client, Pem, Start, Subscription};
use qmq_server::config::{ClientConfig, Sources};
use qmq_server::dev::{Dev, DevOptions};
use qmq_store::Message;

fn client(dev: &Dev) -> Client {
    let (config, _) = ClientConfig::load(&Sources::of_file(dev.client_file())).unwrap();
    Client::builder()
        .brokers(config.addresses)
        .authorities(Pem::File(config.tls_ca.unwrap()))
        .server_name(config.server_name.unwrap())
        .build()
        .unwrap()
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_is_delivered_and_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&DevOptions::in_folder(folder.path()))
        .await
        .unwrap();
    let client = client(&dev);
    let producer = client.producer().build().unwrap();
    for n in 0..100 {
        let report = producer
            .send(Message::new("order", format!("body {n}")).tag("t"))
            .await
            .unwrap();
        assert_eq!(report.sequence, n);
    }
    let subscription = Subscription::new("order", "billing").start(Start::Earliest);
    let mut consumer = client.subscribe(subscription).unwrap();
    for n in 0..100 {
        let received = tokio::time::timeout(LIMIT, consumer.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(received.body(), format!("body {n}").as_bytes());
        received.ack().await.unwrap();
    }
    consumer.close().await.unwrap();
    let stats = client
        .admin(&dev.broker().address().to_string())
        .unwrap()
        .subjects("", "", 10)
        .await
        .unwrap();
    assert_eq!(stats[0].groups[0].unacked, 0);
    assert_eq!(stats[0].groups[0].lag, 0);
    client.close(LIMIT).await;
    dev.drain().await.unwrap();
}
