//! What is refused, and how much may wait.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::Caller;
use qmq_store::Message;
use qmq_wire::{Code, DelayRequest, Durability, Role, Scheduled, features};

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, TestDelay, ask, ids, later, now_ms, refusal, schedule};
use super::wire_client::{Batch, LIMIT, sleep_ms};

const DAY: u64 = 86_400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_due_time_or_due_too_late_is_refused_with_what_to_do() {
    let broker = TestBroker::start(&[]).await;
    let home = DelayHome::new(&[("delay.due.max.days", "2")]).to("*", &broker);
    let delay = home.start().await;
    let peer = delay.peer().await;
    assert_eq!(peer.hello.role, Role::Delay);
    assert_eq!(peer.hello.features, features::SCHEDULE | features::CONTROL);
    assert_eq!(peer.hello.limits.body_bytes_max, 1 << 20);
    let (code, text) = refusal(&peer, Message::new("order", "x")).await;
    assert_eq!(code, Code::NotDelayed, "{text}");
    let far = now_ms() + 2 * DAY + 60_000;
    let (code, text) = refusal(&peer, later("order", "x", far)).await;
    assert_eq!(code, Code::DueTooFar);
    assert!(text.contains("delay.due.max.days"), "{text}");
    let id = ids(&peer, [later("order", "x", far - 120_000)]).await[0];
    let move_far = DelayRequest::Reschedule { id, due_ms: far };
    assert_eq!(
        ask(&peer, move_far).await.unwrap_err().code,
        Code::DueTooFar
    );
    let max = 1 << 20;
    let (code, _) = refusal(&peer, later("order", &"x".repeat(max + 1), now_ms() + DAY)).await;
    assert_eq!(code, Code::TooLarge);
    ids(&peer, [later("order", &"x".repeat(max), now_ms() + DAY)]).await;
    let replicated =
        Batch::of([later("order", "x", now_ms() + DAY)]).durability(Durability::Replicated);
    let refused = schedule(&peer, &replicated).await.refused;
    assert_eq!(refused[0].code, Code::NotReplicated);
    assert_eq!(delay.pending(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_message_costs_no_other_of_its_request() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + DAY;
    let batch = Batch::of([
        later("order", "0", due),
        Message::new("order", "1"),
        later("order", "2", due),
    ]);
    let scheduled = schedule(&peer, &batch.number(77)).await;
    assert_eq!(scheduled.number, 77);
    let accepted: Vec<u32> = scheduled.accepted.iter().map(|one| one.index).collect();
    assert_eq!((accepted, scheduled.refused[0].index), (vec![0, 2], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_first_answer() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + DAY;
    let batch = || Batch::of((0..3).map(|n| later("order", &n.to_string(), due))).by(7, 100);
    let first = schedule(&peer, &batch()).await;
    assert_eq!(first.accepted.len(), 3);
    assert_eq!(schedule(&peer, &batch()).await, first);
    let overlapping = Batch::of([later("order", "2", due), later("order", "3", due)]).by(7, 102);
    let second = schedule(&peer, &overlapping).await;
    assert_eq!(second.accepted[0].id, first.accepted[2].id);
    assert_eq!(delay.pending(), 4);
    // Two at once, before either is answered.
    let racing = Batch::of([later("order", "4", due)]).by(8, 0);
    let (one, two) = tokio::join!(schedule(&peer, &racing), schedule(&peer, &racing));
    assert_eq!(one.accepted, two.accepted);
    assert_eq!(delay.pending(), 5);
}

/// Keeps the room's thread: it says that it is kept, and waits to be let go.
type Blocked = (Sender<()>, Receiver<()>);

/// Keeps the room's thread until the sender is used.
fn keep(delay: &TestDelay) -> Sender<()> {
    let ((began, begun), (let_go, go_on)) = (channel(), channel());
    // It has no due time, so the answer comes from the thread itself.
    let refused = Batch::of([Message::new("order", "x")]);
    let _ = submit(delay, &refused, Some((began, go_on)));
    begun.recv_timeout(LIMIT).unwrap();
    let_go
}

/// Gives a request to the room itself; its answer.
fn submit(delay: &TestDelay, batch: &Batch, blocked: Option<Blocked>) -> Receiver<Scheduled> {
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let caller = Caller::new(access, Principal::Anonymous);
    let (tell, told) = channel();
    let reply = move |answer| {
        // As a room that has much to do.
        if let Some((began, go_on)) = blocked {
            let _ = began.send(());
            let _ = go_on.recv_timeout(LIMIT);
        }
        let _ = tell.send(answer);
    };
    let scheduling = delay.server.controlling().scheduling();
    scheduling.submit(batch.decoded(), &caller, Box::new(()), Box::new(reply));
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_full_queue_busy_is_the_answer_and_what_was_taken_is_kept() {
    let broker = TestBroker::start(&[]).await;
    let mut home = DelayHome::new(&[]).to("*", &broker);
    home.adjust = |options| options.schedule.queue_max = 1;
    let delay = home.start().await;
    let good = Batch::of([later("order", "x", now_ms() + DAY)]);
    let go_on = keep(&delay);
    let queue = || delay.server.controlling().scheduling().queue();
    let second = submit(&delay, &good, None);
    assert_eq!(queue(), (1, 1));
    let third = submit(&delay, &good, None).recv_timeout(LIMIT).unwrap();
    assert_eq!(third.refused[0].code, Code::Busy);
    go_on.send(()).unwrap();
    assert_eq!(second.recv_timeout(LIMIT).unwrap().accepted.len(), 1);
    assert_eq!(delay.pending(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_looked_at_too_late_is_not_done() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let go_on = keep(&delay);
    let late = Batch::of([later("order", "x", now_ms() + DAY)]).deadline_ms(1);
    let late = submit(&delay, &late, None);
    let patient = Batch::of([later("order", "x", now_ms() + DAY)]).deadline_ms(60_000);
    let patient = submit(&delay, &patient, None);
    sleep_ms(20).await;
    go_on.send(()).unwrap();
    let refused = late.recv_timeout(LIMIT).unwrap().refused;
    assert_eq!(refused[0].code, Code::TooLate);
    assert_eq!(patient.recv_timeout(LIMIT).unwrap().accepted.len(), 1);
    assert_eq!(delay.pending(), 1);
}
