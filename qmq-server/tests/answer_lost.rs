//! A broker takes messages, its answer is lost, and it ends: what the client sends again gets the first answer from the broker that comes after it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/broker.rs"]
mod broker;
mod common;
#[path = "common/deaf_proxy.rs"]
mod deaf_proxy;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use broker::{Dev, LIMIT};
use deaf_proxy::DeafProxy;
use qmq_client::{Client, Message, Pem, Producer, Sent};
use qmq_store::{Options, Store};
use rustix::process::Signal;

/// Messages of each producer whose answers are lost.
const LOST: usize = 40;

fn client(proxy: &DeafProxy, folder: &Path) -> Client {
    Client::builder()
        .broker(proxy.address.to_string())
        .authorities(Pem::File(folder.join("dev/tls/ca.pem")))
        .server_name("localhost")
        .connect_timeout(Duration::from_secs(2))
        .idle_timeout(Duration::from_secs(3))
        .reconnect_pause(Duration::from_millis(20), Duration::from_millis(200))
        .breaker(1_000, Duration::from_millis(100))
        .build()
        .unwrap()
}

/// Several requests for each producer, and two subjects in each of them.
fn producers(client: &Client) -> [(&'static str, Producer); 2] {
    let of = || {
        let producer = client.producer().delivery_timeout(LIMIT);
        // All of them are under way although none is answered, however they come together.
        producer.batch(6, 1 << 20).in_flight(1_000)
    };
    let ordered = of().ordered().build().unwrap();
    [("any", of().build().unwrap()), ("ordered", ordered)]
}

fn message(name: &str, n: usize) -> Message {
    Message::new(format!("{name}.{}", n % 2), format!("{name} {n}"))
}

/// All messages by body: subject and sequence of each place where it stands.
fn stored(folder: &Path) -> BTreeMap<String, Vec<(String, u64)>> {
    let store = Store::open_read_only(folder.join("dev/store"), &Options::default()).unwrap();
    let mut found: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for subject in store.subjects() {
        for one in store.read(&subject, 0, 10_000).unwrap().iter() {
            let body = String::from_utf8(one.message().unwrap().body().to_vec()).unwrap();
            let place = (subject.clone(), one.sequence());
            found.entry(body).or_default().push(place);
        }
    }
    found
}

async fn until_stored(folder: &Path, count: usize) {
    let until = Instant::now() + LIMIT;
    while stored(folder).len() < count {
        assert!(Instant::now() < until, "{:?}", stored(folder));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_repeat_gets_the_first_answer_after(end: Signal) {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path());
    let proxy = DeafProxy::before(dev.address.parse().unwrap());
    let client = client(&proxy, folder.path());
    let producers = producers(&client);
    for (name, producer) in &producers {
        producer.send(message(name, 0)).await.unwrap();
    }

    proxy.lose_answers(true);
    let mut sent: Vec<(String, Sent)> = Vec::new();
    for n in 1..=LOST {
        for (name, producer) in &producers {
            let sending = producer.queue(message(name, n)).await.unwrap();
            sent.push((format!("{name} {n}"), sending));
        }
    }
    until_stored(folder.path(), 2 * (LOST + 1)).await;
    let first = stored(folder.path());
    dev.process.signal(end);
    dev.process.ended();
    proxy.lose_answers(false);
    let port = dev.address.rsplit(':').next().unwrap().to_owned();
    let _dev = Dev::start_with(folder.path(), &["--port", &port]);

    for (body, sending) in sent {
        let report = tokio::time::timeout(LIMIT, sending).await.unwrap().unwrap();
        assert_eq!(report.sequence, first[&body][0].1, "{body}");
    }
    for (name, producer) in &producers {
        producer.send(message(name, LOST + 1)).await.unwrap();
    }
    let stored = stored(folder.path());
    assert_eq!(stored.len(), 2 * (LOST + 2));
    for (body, places) in &stored {
        assert_eq!(places.len(), 1, "{body}: {places:?}");
        assert!(first.get(body).is_none_or(|before| before == places));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_after_a_kill_is_stored_once() {
    a_repeat_gets_the_first_answer_after(Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_after_an_orderly_end_is_stored_once() {
    a_repeat_gets_the_first_answer_after(Signal::TERM).await;
}
