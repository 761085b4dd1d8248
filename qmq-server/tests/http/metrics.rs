//! What a scrape says.

use crate::broker::{CERTIFICATE_DAYS, ack, start, start_in};
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_on_their_way_in_and_out() {
    let running = start(10).await;
    let body: &[u8] = b"0123456789";
    let messages = [("orders", body); 8];
    assert!(running.produce(&messages).await.refused.is_empty());
    let (attached, _taken) = running.subscribe("orders", "billing", "c", 5).await;
    let scraped = running
        .scrape_until(|scraped| scraped.value("qmq_messages_delivered_total", &[]) == 5.0)
        .await;
    let orders = [("subject", "orders")];
    let billing = [("subject", "orders"), ("group", "billing")];
    assert_eq!(scraped.value("qmq_messages_produced_total", &[]), 8.0);
    assert!(scraped.value("qmq_produced_bytes_total", &[]) >= 80.0);
    assert!(scraped.value("pulledMessageBytesCount_total", &[]) >= 50.0);
    assert_eq!(scraped.value("receivedMessagesCount_total", &orders), 8.0);
    assert_eq!(scraped.value("pulledMessagesCount_total", &orders), 5.0);
    assert_eq!(scraped.value("messageSequenceLag", &billing), 3.0);
    assert_eq!(scraped.value("qmq_group_unacked_messages", &billing), 5.0);
    assert_eq!(scraped.value("qmq_subscriptions", &[]), 1.0);
    assert_eq!(scraped.value("produceTime_seconds_count", &[]), 1.0);
    let waited = scraped.value("qmq_append_to_delivery_seconds_count", &[]);
    assert_eq!(waited, 5.0);

    let consumers = running.broker.administering().store.subject_stats("orders");
    let next = consumers.unwrap().groups[0].consumers[0].next_pull_sequence;
    assert_eq!(ack(&attached, next - 5, next - 1).await.settled, 5);
    let scraped = running
        .scrape_until(|scraped| scraped.value("qmq_messages_acked_total", &[]) == 5.0)
        .await;
    assert_eq!(scraped.value("consumerAckCount_total", &orders), 5.0);
    assert_eq!(scraped.value("qmq_group_unacked_messages", &billing), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_their_code() {
    let running = start(10).await;
    let refused = running.produce(&[("bad name", b""), ("good", b"")]).await;
    assert_eq!(refused.refused.len(), 1);
    running.broker.administering().producing.stop_accepting();
    assert_eq!(running.produce(&[("good", b"")]).await.refused.len(), 1);
    let scraped = running.scrape().await;
    let of = |code| scraped.value("qmq_messages_refused_total", &[("code", code)]);
    assert_eq!(
        (of("bad_message"), of("draining"), of("busy")),
        (1.0, 1.0, 0.0)
    );
    assert_eq!(scraped.sum("qmq_messages_refused_total"), 2.0);
    assert_eq!(scraped.value("produceTime_seconds_count", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_the_store_and_the_limits_are_there() {
    let running = start(10).await;
    running.produce(&[("orders", b"body")]).await;
    let scraped = running.scrape().await;
    let about = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("node", "node-1"),
        ("broker_group", "group-1"),
    ];
    assert_eq!(scraped.value("qmq_build_info", &about), 1.0);
    let days = scraped.value("qmq_certificate_days_left", &[]);
    assert_eq!(days, f64::from(CERTIFICATE_DAYS));
    assert_eq!(scraped.value("qmq_draining", &[]), 0.0);
    assert_eq!(scraped.value("qmq_store_healthy", &[]), 1.0);
    assert_eq!(scraped.value("qmq_subjects", &[]), 1.0);
    for name in [
        "qmq_store_log_bytes",
        "qmq_store_free_bytes",
        "qmq_store_written_offset",
        "qmq_store_segments",
        "qmq_connections_max",
    ] {
        assert!(scraped.value(name, &[]) > 0.0, "{name}");
    }
    for name in [
        "qmq_store_mapped_files",
        "qmq_store_pinned_bytes",
        "qmq_store_housekeeping_failures_total",
        "brokerActiveClientCount",
        "qmq_messages_redelivered_total",
        "putNeedRetryMessagesCount_total",
        "qmq_leases_lost_total",
        "qmq_consumers_gone_total",
        "qmq_consumers_taken_over_total",
        "deadLetterQueueCount_total",
        "qmq_messages_repeated_total",
    ] {
        assert_eq!(scraped.value(name, &[]), 0.0, "{name}");
    }
    for budget in ["produce", "deliver"] {
        let labels = [("budget", budget)];
        assert_eq!(scraped.value("qmq_memory_used_bytes", &labels), 0.0);
        let max = scraped.value("qmq_memory_max_bytes", &labels);
        assert_eq!(max, f64::from(256 << 20));
    }
    let draining = &running.broker.administering().draining;
    draining.store(true, Ordering::Relaxed);
    running
        .scrape_until(|scraped| scraped.value("qmq_draining", &[]) == 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_most_active_subjects_have_names_and_the_others_are_added_up() {
    const SUBJECTS: usize = 3_000;
    const NAMED: usize = 100;
    let running = start(NAMED).await;
    // Subject 0 gets one message, and each of the last hundred two.
    let names: Vec<String> = (0..SUBJECTS).map(|n| format!("subject-{n:04}")).collect();
    let quiet = SUBJECTS - NAMED;
    let all = names.iter().chain(&names[quiet..]);
    let messages: Vec<(&str, &[u8])> = all.map(|name| (name.as_str(), &b"x"[..])).collect();
    assert!(running.produce(&messages).await.refused.is_empty());
    let scraped = running.scrape().await;
    for family in [
        "receivedMessagesCount_total",
        "qmq_subject_produced_bytes_total",
        "pulledMessagesCount_total",
        "consumerAckCount_total",
    ] {
        assert_eq!(scraped.of(family).count(), NAMED + 1, "{family}");
    }
    let received = "receivedMessagesCount_total";
    for name in &names[quiet..] {
        assert_eq!(scraped.value(received, &[("subject", name)]), 2.0);
    }
    let other = [("subject", "_other")];
    assert_eq!(scraped.value(received, &other), quiet as f64);
    let total = scraped.value("qmq_messages_produced_total", &[]);
    assert_eq!(scraped.sum(received), total);
    let bytes = scraped.value("qmq_produced_bytes_total", &[]);
    assert_eq!(scraped.sum("qmq_subject_produced_bytes_total"), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_one_label_each() {
    let running = start(100).await;
    let store = &running.broker.administering().store;
    let long = "ü".repeat(127);
    let names = [
        "a\"b",
        "%RETRY%orders%billing",
        "{x=\"y\"}",
        "a,b=\"c\"}",
        "日本語-☃",
        "# EOF",
        "0",
        "_other",
        &long,
    ];
    for name in names {
        let produced = running.produce(&[(name, b"x")]).await;
        // White space is no part of a name, so nothing can end a line.
        assert_eq!(produced.refused.is_empty(), name != "# EOF", "{name}");
        for group in ["a\"g", "_other"].into_iter().filter(|_| name != "# EOF") {
            let request = qmq_store::PullRequest::new(name, group, "c");
            store
                .pull(&request.start(qmq_store::Start::Earliest))
                .unwrap();
        }
    }
    let scraped = running.scrape().await;
    let groups = |group| {
        let unacked = scraped.of("qmq_group_unacked_messages");
        unacked
            .filter(|(labels, value)| labels["group"] == group && *value == 1.0)
            .count()
    };
    // Groups of what is added up are not shown.
    assert_eq!((groups("a\"g"), groups("_other")), (7, 7));
    for name in names.into_iter().filter(|name| *name != "# EOF") {
        let labels = [("subject", name)];
        let received = scraped.value("receivedMessagesCount_total", &labels);
        assert_eq!(received, 1.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_that_lag_most_have_names() {
    let running = start(10).await;
    let store = &running.broker.administering().store;
    for n in 0..20_usize {
        running.produce(&[("orders", b"x")]).await;
        let request = qmq_store::PullRequest::new("orders", format!("g{n:02}"), "c")
            .start(qmq_store::Start::Earliest)
            .max(n + 1);
        store.pull(&request).unwrap();
    }
    for consumer in ["one", "two"] {
        let request = qmq_store::PullRequest::new("orders", "everybody", consumer)
            .broadcast(true)
            .start(qmq_store::Start::Earliest)
            .max(1);
        store.pull(&request).unwrap();
    }
    let scraped = running.scrape().await;
    let of = |group| {
        let labels = [("subject", "orders"), ("group", group)];
        scraped.find("messageSequenceLag", &labels)
    };
    // A group was handed all that there was then: the first has the longest way to go.
    assert_eq!(of("g00"), Some(19.0));
    assert_eq!(of("everybody"), Some(19.0));
    assert_eq!(of("g14"), Some(5.0));
    assert_eq!(of("g15"), None);
    assert_eq!(of("_other"), Some(4.0 + 3.0 + 2.0 + 1.0));
    assert_eq!(scraped.of("messageSequenceLag").count(), 17);
    let unacked = [("subject", "orders"), ("group", "everybody")];
    assert_eq!(scraped.value("qmq_group_unacked_messages", &unacked), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_without_traffic_since_the_start_still_shows_its_lag() {
    let running = start(10).await;
    running.produce(&[("orders", b"x")]).await;
    let store = &running.broker.administering().store;
    let request = qmq_store::PullRequest::new("orders", "billing", "c");
    store
        .pull(&request.start(qmq_store::Start::Latest))
        .unwrap();
    running.produce(&[("orders", b"x")]).await;
    let (broker, folder) = (running.broker, running.folder);
    broker.drain().await.unwrap();
    let running = start_in(folder, 10).await;
    let scraped = running.scrape().await;
    let labels = [("subject", "orders"), ("group", "billing")];
    assert_eq!(scraped.value("messageSequenceLag", &labels), 1.0);
    let received = scraped.value("receivedMessagesCount_total", &[("subject", "orders")]);
    assert_eq!(received, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_of_the_same_second_get_the_same_text() {
    let running = start(10).await;
    let before = running.scrape().await;
    running.produce(&[("orders", b"x")]).await;
    let produced = "qmq_messages_produced_total";
    let soon = running.scrape().await;
    assert_eq!(before.value(produced, &[]), soon.value(produced, &[]));
    running
        .scrape_until(|scraped| scraped.value(produced, &[]) == 1.0)
        .await;
}
