use std::time::{Duration, Instant};

use qmq_client::{Client, ConfigError, ConnectError, ConnectionState, Message, Pem};
use qmq_wire::CloseCode;

use crate::fake::{FakeBroker, within};

#[tokio::test]
async fn a_broker_that_refuses_the_token_is_reported_at_once() {
    let broker = FakeBroker::start();
    broker.state().closes = Some((CloseCode::Unauthorized, "no such token"));
    let started = Instant::now();
    let refused = broker.builder().token("wrong").connect().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(refused.is_lasting());
    let text = refused.to_string();
    assert!(
        text.contains("no such token") && text.contains(&broker.address),
        "{text}"
    );
}

#[tokio::test]
async fn every_wait_has_a_limit() {
    // Nobody listens there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let broker = FakeBroker::start();
    let builder = || {
        Client::builder()
            .broker(&address)
            .authorities(Pem::Text(broker.certificate.clone().into_bytes()))
            .connect_timeout(Duration::from_millis(200))
            .request_timeout(Duration::from_millis(200))
    };
    let limit = Duration::from_secs(3);
    let started = Instant::now();
    let refused = builder().connect().await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::TimedOut { .. }),
        "{refused}"
    );

    let client = builder().build().unwrap();
    let admin = client.admin(&address).unwrap();
    assert!(admin.status().await.is_err());
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(200))
        .close_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let failed = producer.send(Message::new("a", "x")).await.unwrap_err();
    assert!(!failed.may_be_stored);
    assert!(failed.to_string().contains(&address), "{failed}");
    let _left = producer.queue(Message::new("a", "y")).await.unwrap();
    assert_eq!(producer.close().await.unwrap_err().messages, 1);
    let subscription = qmq_client::Subscription::new("a", "g");
    let puller = client.puller(subscription.clone()).unwrap();
    assert!(puller.pull(1, Duration::from_millis(10)).await.is_err());
    let consumer = client.subscribe(subscription).unwrap();
    consumer.close().await.unwrap();
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_client_connects_again_by_itself() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    broker.go_away();
    within("seen as lost", async {
        while matches!(client.connections()[0].1, ConnectionState::Connected { .. }) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    broker.come_back();
    within("connected again", async {
        while !matches!(client.connections()[0].1, ConnectionState::Connected { .. }) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_broker_with_a_strange_certificate_is_not_trusted() {
    let (broker, other) = (FakeBroker::start(), FakeBroker::start());
    let refused = broker
        .builder()
        .authorities(Pem::Text(other.certificate.clone().into_bytes()))
        .connect_timeout(Duration::from_millis(500))
        .connect()
        .await;
    assert!(
        matches!(refused, Err(ConnectError::Transport { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_bad_setting_is_named_with_its_range() {
    let refused = Client::builder().broker("no-port").build().unwrap_err();
    assert!(matches!(refused, ConfigError::Address { .. }));
    let broker = FakeBroker::start();
    let refused = broker.builder().idle_timeout(Duration::ZERO).build();
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("idle_timeout") && text.contains("100ms"),
        "{text}"
    );
    let no_trust = Client::builder().broker("a:1").build().unwrap_err();
    assert_eq!(no_trust, ConfigError::NoAuthorities);
}

#[tokio::test]
async fn no_debug_output_shows_the_token() {
    let broker = FakeBroker::start();
    let builder = broker.builder().token("s3cret");
    assert!(!format!("{builder:?}").contains("s3cret"));
    let client = builder.connect().await.unwrap();
    assert!(!format!("{client:?}").contains("s3cret"));
}
