use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmq_client::{
    Client, ConfigError, ConnectError, ConnectionState, ConsumeError, Message, Pem, SendCause,
    Subscription,
};
use qmq_wire::CloseCode;
use tokio::net::UdpSocket;

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
async fn c2_every_wait_has_a_limit() {
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
    let subscription = Subscription::new("a", "g");
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

#[tokio::test]
async fn a_closed_client_tells_those_who_wait() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let producer = client.producer().build().unwrap();
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    broker.state().always = Some(crate::fake::Reaction::Silence);
    let sent = producer.queue(Message::new("a", "x")).await.unwrap();
    broker.until("asked", |state| !state.asked.is_empty()).await;
    let again = client.clone();
    client.close(Duration::from_secs(1)).await;
    let failed = within("the report", sent).await.unwrap_err();
    assert_eq!(failed.cause, SendCause::Closed);
    assert!(failed.may_be_stored);
    let told = within("the end", consumer.next()).await.unwrap_err();
    assert_eq!(told, ConsumeError::Closed);
    assert_eq!(again.connections()[0].1, ConnectionState::Closed);
    assert_eq!(again.ready().await, Err(ConnectError::ClientClosed));
}

/// Lets packets through in both directions, until it does not any more.
async fn relay(to: String, open: Arc<AtomicBool>) -> String {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        back.connect(to).await.unwrap();
        let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut there) => {
                    client = Some(from);
                    if open.load(Ordering::SeqCst) {
                        let _ = back.send(&there[..len]).await;
                    }
                }
                Ok(len) = back.recv(&mut here) => {
                    if let (Some(client), true) = (client, open.load(Ordering::SeqCst)) {
                        let _ = front.send_to(&here[..len], client).await;
                    }
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn f6_a_broker_that_falls_silent_is_noticed_within_the_idle_timeout_and_found_again() {
    let broker = FakeBroker::start();
    let open = Arc::new(AtomicBool::new(true));
    let address = relay(broker.address.clone(), Arc::clone(&open)).await;
    let client = Client::builder()
        .broker(&address)
        .authorities(Pem::Text(broker.certificate.clone().into_bytes()))
        .server_name("localhost")
        .idle_timeout(Duration::from_millis(300))
        .connect_timeout(Duration::from_millis(300))
        .reconnect_pause(Duration::from_millis(5), Duration::from_millis(40))
        .connect()
        .await
        .unwrap();
    // Nothing is sent for longer than that, and the connection lives.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(matches!(
        client.connections()[0].1,
        ConnectionState::Connected { .. }
    ));
    let producer = client.producer().build().unwrap();
    open.store(false, Ordering::SeqCst);
    let sent = producer.queue(Message::new("a", "x")).await.unwrap();
    within("noticed", async {
        while matches!(client.connections()[0].1, ConnectionState::Connected { .. }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    open.store(true, Ordering::SeqCst);
    within("the report", sent).await.unwrap();
    assert_eq!(broker.state().taken, ["x"]);
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let key = rcgen::generate_simple_self_signed(["billing".to_owned()]).unwrap();
    let broker = FakeBroker::start_for(Some(key.cert.der().clone()));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Pem::File(path)
    };
    let certificate = file("client.pem", key.cert.pem());
    let private = file("client.key", key.signing_key.serialize_pem());
    let identified = broker.builder().identity(certificate.clone(), private);
    identified.connect().await.unwrap();
    let brief = || broker.builder().connect_timeout(Duration::from_millis(500));
    assert!(brief().connect().await.is_err(), "without a certificate");
    let missing = Pem::File(folder.path().join("missing.key"));
    let told = brief().identity(certificate, missing).build().unwrap_err();
    assert!(told.to_string().contains("missing.key"), "{told}");
}
