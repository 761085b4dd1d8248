//! What scraping costs with many subjects, in a process of its own.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot talk to its broker has failed"
)]
#![allow(dead_code, reason = "only a part of the modules is used")]

#[path = "http/broker.rs"]
mod broker;
#[path = "http/exposition.rs"]
mod exposition;

use std::time::Duration;

const SUBJECTS: usize = 40_000;
const SUBSCRIPTIONS: usize = 1_000;
const NAMED: usize = 1_000;
/// Anonymous memory of the whole process, the reader of the text and this test's clients included.
const KIB_MAX: u64 = 160 << 10;
/// What scrapes may add to what there was before the first.
const SCRAPES_KIB_MAX: u64 = 16 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrapes_of_forty_thousand_subjects_stay_small() {
    let running = broker::start(NAMED).await;
    let names: Vec<String> = (0..SUBJECTS)
        .map(|n| format!("a.subject.of.an.ordinary.length-{n:05}"))
        .collect();
    for some in names.chunks(10_000) {
        let messages: Vec<(&str, &[u8])> = some
            .iter()
            .map(|name| (name.as_str(), &b"body"[..]))
            .collect();
        assert!(running.produce(&messages).await.refused.is_empty());
    }
    let mut subscriptions = Vec::new();
    for name in names.iter().step_by(SUBJECTS / SUBSCRIPTIONS) {
        subscriptions.push(running.subscribe(name, "group", "consumer", 10).await);
    }
    drop(names);
    let before_kib = anonymous_kib();
    for _ in 0..5 {
        let answer = running.get("/metrics", "").await;
        assert_eq!(answer.status, 200);
        drop(answer);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let after_kib = anonymous_kib();
    println!("{before_kib} KiB before, {after_kib} KiB after");
    assert!(after_kib < KIB_MAX, "{after_kib} KiB");
    let added_kib = after_kib.saturating_sub(before_kib);
    assert!(added_kib < SCRAPES_KIB_MAX, "{added_kib} KiB more");
    let scraped = running.scrape().await;
    assert_eq!(scraped.of("receivedMessagesCount_total").count(), NAMED + 1);
    assert_eq!(scraped.sum("receivedMessagesCount_total"), SUBJECTS as f64);
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}
