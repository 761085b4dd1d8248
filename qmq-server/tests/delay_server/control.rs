//! Cancelling, moving, looking; and who may.

use qmq_wire::{Code, DelayOutcome, DelayRequest, DelayResponse, DelayedMessage};

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, ask, ids, later, letters, now_ms, outcome, until_letters};
use super::wire_client::{Peer, flow, sleep_ms, until};

const PLENTY: u64 = 1 << 40;
const HOUR: u64 = 3_600_000;

async fn get(peer: &Peer, id: [u8; 16]) -> Option<DelayedMessage> {
    match ask(peer, DelayRequest::Get { id }).await.unwrap() {
        DelayResponse::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

async fn list(
    peer: &Peer,
    subject: &str,
    after: Vec<u8>,
    max: u32,
) -> (Vec<DelayedMessage>, Vec<u8>) {
    let request = DelayRequest::List {
        subject: subject.to_owned(),
        from_ms: 0,
        after,
        max,
    };
    match ask(peer, request).await.unwrap() {
        DelayResponse::Page { messages, next } => (messages, next),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_does_not_come_and_what_is_moved_comes_then() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let (peer, there) = (delay.peer().await, broker.peer().await);
    let mut sub = there.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    let due = now_ms() + 800;
    let all = ids(
        &peer,
        ["cancelled", "moved", "as it was"].map(|body| later("order", body, due)),
    )
    .await;
    let cancel = DelayRequest::Cancel { id: all[0] };
    assert_eq!(outcome(&peer, cancel.clone()).await, DelayOutcome::Done);
    assert_eq!(
        outcome(&peer, cancel).await,
        DelayOutcome::Done,
        "it is, as before"
    );
    let due_ms = now_ms();
    let moved = DelayRequest::Reschedule { id: all[1], due_ms };
    assert_eq!(outcome(&peer, moved.clone()).await, DelayOutcome::Done);
    assert_eq!(&sub.one().await.body[..], b"moved");
    assert!(now_ms() < due, "it is not that early");
    assert_eq!(&sub.one().await.body[..], b"as it was");
    sub.none_within(100).await;
    until("the record", || delay.pending() == 0).await;
    assert_eq!(outcome(&peer, moved).await, DelayOutcome::Fired);
    let cancelled = DelayRequest::Reschedule { id: all[0], due_ms };
    assert_eq!(outcome(&peer, cancelled).await, DelayOutcome::Cancelled);
    let unknown = DelayRequest::Cancel { id: [9; 16] };
    assert_eq!(outcome(&peer, unknown).await, DelayOutcome::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_shown_one_by_one_and_in_pages() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + HOUR;
    let a = ids(&peer, (0..25).map(|n| later("a", "12345", due + n))).await;
    ids(&peer, (0..5).map(|n| later("b", "x", due + n))).await;
    let one = get(&peer, a[3]).await.unwrap();
    assert_eq!((one.subject.as_str(), one.due_ms), ("a", due + 3));
    assert_eq!((one.body_bytes, one.standing.as_str()), (5, "pending"));
    assert_eq!(get(&peer, [1; 16]).await, None);
    let (mut all, mut after) = (Vec::new(), Vec::new());
    loop {
        let (page, next) = list(&peer, "a", after, 10).await;
        assert!(page.len() <= 10);
        all.extend(page.iter().map(|one| one.id));
        after = next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(all, a);
    assert_eq!(list(&peer, "", Vec::new(), 1_000).await.0.len(), 30);
    let bad = DelayRequest::List {
        subject: String::new(),
        from_ms: 0,
        after: vec![1, 2],
        max: 1,
    };
    assert_eq!(ask(&peer, bad).await.unwrap_err().code, Code::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_hold_for_every_request() {
    let rights = "produce:mine.*;consume:shop";
    let broker = TestBroker::start(&[]).await;
    let home = DelayHome::new(&[("anonymous.rights", rights)]).to("*", &broker);
    let delay = home.start().await;
    let peer = delay.peer().await;
    let due = now_ms() + HOUR;
    let mine = ids(&peer, [later("mine.a", "x", due)]).await[0];
    // Whoever consumes a subject sends its retries himself.
    ids(&peer, [later("%RETRY%shop%g", "x", due)]).await;
    for subject in ["other", "shop", "%RETRY%other%g"] {
        let (code, text) = super::test_delay::refusal(&peer, later(subject, "x", due)).await;
        assert_eq!(code, Code::Denied, "{subject}");
        assert!(text.contains(&format!("produce:{subject}")), "{text}");
    }
    assert!(get(&peer, mine).await.is_some());
    for request in [
        DelayRequest::List {
            subject: "mine.a".to_owned(),
            from_ms: 0,
            after: Vec::new(),
            max: 1,
        },
        DelayRequest::DeadLetters { after: 0, max: 1 },
        DelayRequest::RetryDeadLetters { numbers: vec![] },
        DelayRequest::DropDeadLetters { numbers: vec![] },
    ] {
        let refusal = ask(&peer, request.clone()).await.unwrap_err();
        assert_eq!(refusal.code, Code::Denied, "{request:?}");
    }
    // Somebody else, with the id of it.
    let mut home = delay.drain().await;
    home.set("anonymous.rights", "produce:other");
    let delay = home.start().await;
    let peer = delay.peer().await;
    let due_ms = now_ms();
    for request in [
        DelayRequest::Cancel { id: mine },
        DelayRequest::Reschedule { id: mine, due_ms },
        DelayRequest::Get { id: mine },
    ] {
        let refusal = ask(&peer, request.clone()).await.unwrap_err();
        assert_eq!(refusal.code, Code::Denied, "{request:?}");
    }
    assert_eq!(delay.pending(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_survive_restarts_and_are_tried_again_or_dropped() {
    let broker = TestBroker::start(&[("subject.auto.create", "false")]).await;
    let mut delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let due = now_ms();
    let peer = delay.peer().await;
    let all = ids(
        &peer,
        (0..4).map(|n| later("nowhere", &format!("m{n}"), due)),
    )
    .await;
    until_letters(&delay, 4).await;
    for in_order in [true, false] {
        let home = match in_order {
            true => delay.drain().await,
            false => delay.crash(),
        };
        delay = home.start().await;
        let peer = delay.peer().await;
        let (found, total, _) = letters(&peer).await;
        assert_eq!(total, 4);
        let mut came: Vec<_> = found.iter().map(|one| one.id).collect();
        let mut sent = all.clone();
        came.sort_unstable();
        sent.sort_unstable();
        assert_eq!(came, sent);
        for one in &found {
            assert_eq!((one.subject.as_str(), one.due_ms), ("nowhere", due));
            assert!(one.reason.contains("subject.auto.create"), "{}", one.reason);
        }
    }
    let peer = delay.peer().await;
    let (found, ..) = letters(&peer).await;
    let numbers = vec![found[0].number, 12];
    let dropped = ask(&peer, DelayRequest::DropDeadLetters { numbers })
        .await
        .unwrap();
    assert_eq!(dropped, DelayResponse::Done(1));
    let after = found[1].number;
    let request = DelayRequest::DeadLetters { after, max: 100 };
    let DelayResponse::DeadLetters { letters: rest, .. } = ask(&peer, request).await.unwrap()
    else {
        panic!();
    };
    assert_eq!(rest, found[2..]);
    // They lie under ids of their own, which lead nowhere.
    let (page, _) = list(&peer, "", Vec::new(), 100).await;
    assert_eq!(page, []);
    // The subject is there now.
    let home = broker.drain().await;
    let mut home = home;
    home.set("subject.auto.create", "true");
    let broker = home.start().await;
    let mut home = delay.drain().await;
    home.route(
        "*",
        broker.broker.address(),
        &broker.home.path("tls/ca.pem"),
    );
    let delay = home.start().await;
    let peer = delay.peer().await;
    let numbers = vec![found[1].number];
    let one = ask(&peer, DelayRequest::RetryDeadLetters { numbers })
        .await
        .unwrap();
    assert_eq!(one, DelayResponse::Done(1));
    let rest = DelayRequest::RetryDeadLetters { numbers: vec![] };
    assert_eq!(ask(&peer, rest).await.unwrap(), DelayResponse::Done(2));
    let there = broker.peer().await;
    let mut sub = there
        .subscribe(&flow("nowhere", "g", "c"), 10, PLENTY)
        .await;
    let came = sub.take(3).await;
    assert!(came.iter().all(|one| one.body.starts_with(b"m")));
    until("no letters", || {
        delay.server.controlling().pending() == (0, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_newest_dead_letters_are_kept() {
    let broker = TestBroker::start(&[("subject.auto.create", "false")]).await;
    let home = DelayHome::new(&[("delay.dead.letter.max", "3")]).to("*", &broker);
    let delay = home.start().await;
    let peer = delay.peer().await;
    for n in 0..5 {
        ids(&peer, [later("nowhere", &n.to_string(), now_ms())]).await;
        until("its end", || delay.pending() == 0).await;
        sleep_ms(2).await;
    }
    let (found, total, forgotten) = letters(&peer).await;
    assert_eq!((found.len(), total, forgotten), (3, 3, 2));
}
