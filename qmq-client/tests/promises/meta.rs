use std::time::{Duration, Instant};

use qmq_client::{Client, ConfigError, ConnectError, ConnectionState, Message, Pem, Producer};
use qmq_wire::{Purpose, Role};
use rcgen::{CertificateParams, CertifiedKey, Issuer, KeyPair, date_time_ymd};

use crate::fake::{FakeBroker, listen, within};
use crate::fake_meta::{FakeMeta, broker_of, group, route, settings};

fn message(body: &str) -> Message {
    Message::new("a", body.to_owned())
}

async fn send_until(producer: &Producer, broker: &FakeBroker) {
    within("the other broker", async {
        loop {
            let report = producer.send(message("x")).await.unwrap();
            if *report.broker == *broker.address {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn when_a_meta_server_dies_another_one_is_asked() {
    let (one, two) = (FakeMeta::start().await, FakeMeta::start().await);
    let (first, second) = (broker_of("g1"), broker_of("g2"));
    for meta in [&one, &two] {
        meta.tell("a", Purpose::Produce, route(5, [group("g1", &first)]));
    }
    let pem = [
        &one.certificate,
        &two.certificate,
        &first.certificate,
        &second.certificate,
    ];
    let builder = settings(pem.map(String::as_str).concat());
    let client = builder
        .meta(&one.url)
        .meta_address(&two.address)
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().unwrap();
    send_until(&producer, &first).await;
    let (address, _) = client.meta().unwrap();
    let (asked, other) = if address == one.address {
        (&one, &two)
    } else {
        (&two, &one)
    };
    asked.go_away();
    // What is known stays known.
    send_until(&producer, &first).await;
    other
        .until("asked", |state| !state.watched().is_empty())
        .await;
    other.tell("a", Purpose::Produce, route(6, [group("g2", &second)]));
    send_until(&producer, &second).await;
    assert!(matches!(
        client.meta().unwrap().1,
        ConnectionState::Connected { .. }
    ));
}

#[tokio::test]
async fn a_meta_server_that_comes_back_is_told_again_what_is_followed() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    meta.tell("a", Purpose::Produce, route(1, [group("g1", &first)]));
    let client = meta.client([&first, &second]).await;
    let producer = client.producer().build().unwrap();
    send_until(&producer, &first).await;
    meta.go_away();
    // Its HTTP fails too meanwhile: the last address is used.
    meta.state().http = ("503 Service Unavailable".to_owned(), String::new());
    send_until(&producer, &first).await;
    meta.tell("a", Purpose::Produce, route(2, [group("g2", &second)]));
    meta.come_back();
    send_until(&producer, &second).await;
}

#[tokio::test]
async fn older_routes_and_those_that_an_outage_emptied_are_not_taken() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    meta.tell("a", Purpose::Produce, route(10, [group("g1", &first)]));
    let client = meta.client([&first, &second]).await;
    let producer = client.producer().build().unwrap();
    send_until(&producer, &first).await;
    meta.tell("a", Purpose::Produce, route(9, [group("g2", &second)]));
    let mut emptied = route(11, []);
    emptied.stale = true;
    meta.tell("a", Purpose::Produce, emptied);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..10 {
        let sent = within("a report", producer.send(message("x"))).await;
        assert_eq!(*sent.unwrap().broker, *first.address);
    }
    meta.tell("a", Purpose::Produce, route(12, [group("g2", &second)]));
    send_until(&producer, &second).await;
}

#[tokio::test]
async fn a_meta_server_that_says_nothing_is_left_for_another_one() {
    let (silent, other, broker) = (
        FakeMeta::start().await,
        FakeMeta::start().await,
        broker_of("g1"),
    );
    other.tell("a", Purpose::Produce, route(1, [group("g1", &broker)]));
    let pem = [&silent.certificate, &other.certificate, &broker.certificate];
    let client = settings(pem.map(String::as_str).concat())
        .request_timeout(Duration::from_millis(200))
        .meta(&silent.url)
        .meta(&other.url)
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().unwrap();
    within("the report", producer.send(message("x")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lying_address_is_not_believed() {
    let (meta, liar) = (FakeMeta::start().await, FakeMeta::start().await);
    // Somebody answers for the meta server, and points to his own, with a certificate of his own.
    meta.state().http.1 = liar.address.clone();
    let brief = || meta.builder([]).connect_timeout(Duration::from_secs(1));
    let refused = brief().connect().await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::Transport { .. }),
        "{refused}"
    );
    assert!(liar.state().interests.is_empty());
    // To a node of the cluster that is no meta server.
    let broker = broker_of("g1");
    meta.state().http.1 = broker.address.clone();
    let pem = format!("{}{}", meta.certificate, broker.certificate);
    let client = brief().authorities(Pem::Text(pem.into_bytes()));
    let refused = client.connect().await.unwrap_err();
    assert!(refused.to_string().contains("no meta server"), "{refused}");
    // To a meta server of another name.
    meta.state().http.1 = meta.address.clone();
    let refused = brief()
        .meta_server_name("meta.example")
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ConnectError::Transport { .. }),
        "{refused}"
    );
    brief().connect().await.unwrap();
}

/// With a certificate of that authority, for that name alone.
fn of_authority(issuer: &Issuer<'_, KeyPair>, name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let cert = params.signed_by(&signing_key, issuer).unwrap();
    CertifiedKey { cert, signing_key }
}

#[tokio::test]
async fn http_that_points_to_another_node_of_the_same_authority_is_not_followed() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let meta = FakeMeta::start_with(&of_authority(&issuer, "localhost")).await;
    let other = FakeMeta::start_with(&of_authority(&issuer, "127.0.0.1")).await;
    let url = meta.url.replace("127.0.0.1", "localhost");
    let client = || {
        Client::builder()
            .authorities(Pem::Text(authority.clone().into_bytes()))
            .connect_timeout(Duration::from_secs(1))
            .meta(&url)
    };
    // What HTTP says is 127.0.0.1, and the certificate is for the name that the application knows.
    client().connect().await.unwrap();
    meta.state().http.1 = other.address.clone();
    let refused = client().connect().await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::Transport { .. }),
        "{refused}"
    );
    let named = client().meta_server_name("127.0.0.1");
    named.connect().await.unwrap();
}

/// Why no meta server is connected.
async fn trouble(client: &Client) -> String {
    within("told", async {
        loop {
            if let ConnectionState::Waiting { cause, .. } = client.meta().unwrap().1 {
                return cause.to_string();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test]
async fn whatever_http_answers_is_told_and_bounded() {
    let meta = FakeMeta::start().await;
    let cases = [
        ("200 OK", "no address".to_owned(), "no host:port"),
        ("200 OK", String::new(), "no host:port"),
        ("200 OK", "x".repeat(2_000), "longer than 1024"),
        ("503 Service Unavailable", meta.address.clone(), "503"),
    ];
    for (status, body, what) in cases {
        meta.state().http = (status.to_owned(), body);
        let client = meta.builder([]).build().unwrap();
        let text = trouble(&client).await;
        assert!(text.contains(what) && text.contains(&meta.url), "{text}");
    }
    // Nothing at all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/meta/address", silent.local_addr().unwrap());
    let started = Instant::now();
    let client = settings(meta.certificate.clone())
        .meta(&url)
        .build()
        .unwrap();
    let text = trouble(&client).await;
    assert!(text.contains("no answer came"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_expired_certificate_is_not_trusted() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let cert = params.self_signed(&key).unwrap();
    let expired = CertifiedKey {
        cert,
        signing_key: key,
    };
    let meta = FakeMeta::start_with(&expired).await;
    let brief = || settings(expired.cert.pem()).connect_timeout(Duration::from_secs(1));
    let refused = brief().meta(&meta.url).connect().await.unwrap_err();
    assert!(
        refused.to_string().to_lowercase().contains("expired"),
        "{refused}"
    );
    // A broker's neither.
    let (endpoint, _) = listen(&expired, None);
    let address = endpoint.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move { drop(incoming.await) });
        }
    });
    let refused = brief().broker(address).connect().await.unwrap_err();
    assert!(
        refused.to_string().to_lowercase().contains("expired"),
        "{refused}"
    );
}

#[tokio::test]
async fn brokers_are_named_by_the_application_or_by_meta_servers_and_not_by_both() {
    let builder = || Client::builder().authorities(Pem::Text(Vec::new()));
    let both = builder().broker("a:1").meta("http://a:1/meta/address");
    assert_eq!(both.build().unwrap_err(), ConfigError::BrokersAndMeta);
    let both = builder().meta_address("a:1").broker("a:1");
    assert_eq!(both.build().unwrap_err(), ConfigError::BrokersAndMeta);
    assert_eq!(builder().build().unwrap_err(), ConfigError::NoBrokers);
    let wrong = builder().meta("meta-1:8080").build().unwrap_err();
    assert!(
        wrong.to_string().contains("http://host:8080/meta/address"),
        "{wrong}"
    );
    assert!(builder().meta_address("meta-1").build().is_err());
}

#[tokio::test]
async fn a_broker_of_another_group_is_not_the_one_that_the_route_means() {
    let (meta, broker) = (FakeMeta::start().await, broker_of("g2"));
    meta.tell("a", Purpose::Produce, route(1, [group("g1", &broker)]));
    let client = meta.client([&broker]).await;
    let producer = client.producer().build().unwrap();
    let _sent = producer.queue(message("x")).await.unwrap();
    broker
        .until("greeted", |state| !state.greeted.is_empty())
        .await;
    assert_eq!(broker.state().greeted[0].expected_group, "g1");
    assert_eq!(broker.state().greeted[0].role, Role::Client);
}
