use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use qmq_client::{
    ConsumeError, Consumer, HandlerError, Idempotence, Known, Outcome, Received, Recent,
    SettleError, Standing, Subscription,
};
use qmq_wire::Code;

use crate::fake::{FakeBroker, within};

fn subscription() -> Subscription {
    Subscription::new("order.changed", "billing").close_timeout(Duration::from_secs(2))
}

async fn consumer(broker: &FakeBroker) -> Consumer {
    broker.client().await.subscribe(subscription()).unwrap()
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Received> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(within("a message", consumer.next()).await.unwrap());
    }
    taken
}

fn body(received: &Received) -> &str {
    std::str::from_utf8(received.body()).unwrap()
}

#[tokio::test]
async fn messages_come_and_are_acknowledged() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b", "c"]);
    for expected in ["a", "b", "c"] {
        let received = take(&mut consumer, 1).await.remove(0);
        assert_eq!(body(&received), expected);
        assert_eq!(received.subject(), "order.changed");
        within("an ack", received.ack()).await.unwrap();
    }
    assert_eq!(broker.state().acked, [0, 1, 2]);
    assert!(broker.state().subscribes[0].flow.flags.fresh);
}

#[tokio::test]
async fn an_ack_that_nobody_waits_for_arrives_too_before_the_consumer_closes() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b"]);
    take(&mut consumer, 2)
        .await
        .into_iter()
        .for_each(Received::ack_soon);
    within("close", consumer.close()).await.unwrap();
    assert_eq!(broker.state().acked, [0, 1]);
}

#[tokio::test]
async fn a_handler_decides_by_its_result() {
    let broker = FakeBroker::start();
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let consumer = consumer(&broker)
        .await
        .filter(|received| body(received) != "unwanted")
        .after(move |received, outcome| {
            seen.lock()
                .push((body(received).to_owned(), outcome.clone()));
        });
    let listening = consumer.listen(|received| async move {
        match body(&received) {
            "bad" => Err("bad".into()),
            "later" => Err(HandlerError::retry_after(Duration::from_secs(7), "later")),
            "panic" => panic!("as the test wants it"),
            _ => Ok(()),
        }
    });
    broker.publish(["good", "bad", "later", "panic", "unwanted"]);
    broker
        .until("all settled", |state| {
            state.acked.len() + state.nacked.len() == 5
        })
        .await;
    within("close", listening.close()).await.unwrap();
    let mut state = broker.state();
    state.acked.sort_unstable();
    state.nacked.sort_unstable();
    assert_eq!(state.acked, [0, 4]);
    assert_eq!(state.nacked, [(1, None), (2, Some(7_000)), (3, None)]);
    let outcomes = outcomes.lock();
    assert!(outcomes.contains(&("panic".to_owned(), Outcome::Panicked)));
    assert!(outcomes.contains(&("unwanted".to_owned(), Outcome::Filtered)));
    assert_eq!(outcomes.len(), 5);
}

#[tokio::test]
async fn no_more_handlers_run_at_a_time_than_said() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let consumer = client.subscribe(subscription().concurrency(2)).unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let listening = consumer.listen(move |_received| {
        let (now, most) = (Arc::clone(&counted), Arc::clone(&highest));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    broker.publish(["x"; 20]);
    broker
        .until("all acked", |state| state.acked.len() == 20)
        .await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    listening.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_message_comes_again() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a"]);
    drop(take(&mut consumer, 1).await);
    broker
        .until("a nack", |state| state.nacked == [(0, None)])
        .await;
}

#[tokio::test]
async fn what_is_in_hand_is_not_handed_out_twice_after_a_reconnect() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b", "c"]);
    let mut in_hand = take(&mut consumer, 3).await;
    broker.drop_connections();
    // One is done while the connection is away.
    let early = in_hand.remove(0);
    let early = tokio::spawn(early.ack());
    broker
        .until("subscribed again", |state| state.subscribes.len() == 2)
        .await;
    assert!(!broker.state().subscribes[1].flow.flags.fresh);
    within("the early ack", early).await.unwrap().unwrap();
    broker.publish(["d"]);
    let next = take(&mut consumer, 1).await.remove(0);
    assert_eq!(body(&next), "d");
    in_hand.push(next);
    for received in in_hand {
        within("an ack", received.ack()).await.unwrap();
    }
    assert_eq!(broker.state().acked, [0, 1, 2, 3]);
}

#[tokio::test]
async fn nothing_is_acknowledged_under_an_old_incarnation() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b"]);
    let mut in_hand = take(&mut consumer, 2).await;
    broker.state().hello.incarnation = 2;
    broker.drop_connections();
    let early = tokio::spawn(in_hand.remove(0).ack());
    broker
        .until("subscribed again", |state| state.subscribes.len() == 2)
        .await;
    within("the early ack", early).await.unwrap().unwrap();
    within("an ack", in_hand.remove(0).ack()).await.unwrap();
    assert!(broker.state().ack_incarnations.iter().all(|it| *it == 2));
}

#[tokio::test]
async fn an_ack_of_what_somebody_else_has_says_so_and_the_others_do_not() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b", "c", "d"]);
    let in_hand = take(&mut consumer, 4).await;
    broker.state().held.remove(&1);
    let mut acks = Vec::new();
    for received in in_hand {
        acks.push(tokio::spawn(received.ack()));
    }
    let mut outcomes = Vec::new();
    for ack in acks {
        outcomes.push(within("an ack", ack).await.unwrap());
    }
    assert_eq!(outcomes[1], Err(SettleError::NotHeld));
    assert_eq!(broker.state().acked.len(), 3);
}

#[tokio::test]
async fn acks_that_come_together_travel_together() {
    let broker = FakeBroker::start();
    let listening = consumer(&broker).await.listen(|_received| async { Ok(()) });
    broker.publish(["x"; 900]);
    broker
        .until("all acked", |state| state.acked.len() == 900)
        .await;
    let requests = broker.state().ack_requests;
    assert!(requests < 450, "{requests} requests");
    listening.close().await.unwrap();
}

#[tokio::test]
async fn no_more_is_delivered_than_the_window_and_credit_comes_back_in_halves() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let mut consumer = client.subscribe(subscription().window(4, 1 << 20)).unwrap();
    broker.publish(["x"; 10]);
    let mut in_hand = take(&mut consumer, 4).await;
    assert_eq!(broker.state().held.len(), 4);
    in_hand.remove(0).ack().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(broker.state().credits.is_empty());
    in_hand.remove(0).ack().await.unwrap();
    broker
        .until("credit", |state| state.credits.len() == 1)
        .await;
    assert_eq!(broker.state().credits[0].messages, 2);
    in_hand.extend(take(&mut consumer, 2).await);
}

#[tokio::test]
async fn what_is_in_hand_is_renewed() {
    let broker = FakeBroker::start();
    broker.state().hello.limits.ack_timeout_ms = 60;
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b"]);
    let in_hand = take(&mut consumer, 2).await;
    broker
        .until("renewed", |state| state.renewed.len() >= 3)
        .await;
    assert!(broker.state().renewed.iter().all(|range| *range == (0, 1)));
    drop(in_hand);
}

#[tokio::test]
async fn a_fenced_consumer_is_told() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker
        .until("subscribed", |state| state.subscribes.len() == 1)
        .await;
    broker.end_subscriptions(Code::Fenced, "host-2 is here");
    let told = within("the end", consumer.next()).await.unwrap_err();
    assert!(matches!(&told, ConsumeError::Fenced { .. }), "{told}");
    assert!(told.to_string().contains("host-2 is here"));
    assert_eq!(consumer.next().await.unwrap_err(), told, "now and later");
}

#[tokio::test]
async fn what_a_fenced_consumer_settles_is_fenced_before_the_end_and_after_it() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker.publish(["a", "b"]);
    let mut in_hand = take(&mut consumer, 2).await;
    broker.state().silent_acks = true;
    let early = tokio::spawn(in_hand.remove(0).ack());
    broker
        .until("an ack", |state| state.ack_requests == 1)
        .await;
    broker.end_subscriptions(Code::Fenced, "host-2 is here");
    let early = within("the early ack", early).await.unwrap();
    assert_eq!(early, Err(SettleError::Fenced));
    within("the end", consumer.next()).await.unwrap_err();
    let late = within("the late ack", in_hand.remove(0).ack()).await;
    assert_eq!(late, Err(SettleError::Fenced));
    within("close", consumer.close()).await.unwrap();
}

#[tokio::test]
async fn a_fenced_listener_is_told() {
    let broker = FakeBroker::start();
    let mut listening = consumer(&broker).await.listen(|_received| async { Ok(()) });
    broker
        .until("subscribed", |state| state.subscribes.len() == 1)
        .await;
    broker.end_subscriptions(Code::Fenced, "host-2 is here");
    let told = within("the end", listening.stopped()).await.unwrap_err();
    assert!(matches!(told, ConsumeError::Fenced { .. }));
}

#[tokio::test]
async fn a_refused_subscription_is_an_error() {
    let broker = FakeBroker::start();
    broker.state().refuse_subscribe = Some(Code::Denied);
    let told = within("the end", consumer(&broker).await.next())
        .await
        .unwrap_err();
    assert!(
        matches!(
            told,
            ConsumeError::Refused {
                code: Code::Denied,
                ..
            }
        ),
        "{told}"
    );
}

#[tokio::test]
async fn a_draining_broker_is_subscribed_to_again() {
    let broker = FakeBroker::start();
    let mut consumer = consumer(&broker).await;
    broker
        .until("subscribed", |state| state.subscribes.len() == 1)
        .await;
    broker.end_subscriptions(Code::Draining, "bye");
    broker
        .until("subscribed again", |state| state.subscribes.len() == 2)
        .await;
    broker.publish(["a"]);
    take(&mut consumer, 1).await.remove(0).ack().await.unwrap();
}

#[tokio::test]
async fn closing_finishes_what_is_in_hand_and_gives_the_rest_back() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let consumer = client.subscribe(subscription().concurrency(1)).unwrap();
    let (begun, begin) = tokio::sync::oneshot::channel();
    let begun = Arc::new(Mutex::new(Some(begun)));
    let listening = consumer.listen(move |_received| {
        let begun = begun.lock().take();
        async move {
            if let Some(begun) = begun {
                begun.send(()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
    });
    broker.publish(["a", "b", "c"]);
    within("a handler", begin).await.unwrap();
    within("close", listening.close()).await.unwrap();
    broker.until("END", |state| state.ends == 1).await;
    let state = broker.state();
    assert_eq!(state.acked, [0]);
    assert_eq!(state.given_back, [1, 2], "nobody has looked at these");
    assert_eq!(state.nacked, [(1, Some(0)), (2, Some(0))]);
    assert_eq!(state.unseen_ends, 1, "nor at what may be on its way");
}

#[tokio::test]
async fn closing_tells_what_was_not_settled() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let brief = subscription().close_timeout(Duration::from_millis(50));
    let mut consumer = client.subscribe(brief).unwrap();
    broker.publish(["a", "b"]);
    let in_hand = take(&mut consumer, 2).await;
    assert_eq!(consumer.close().await.unwrap_err().messages, 2);
    for received in in_hand {
        assert_eq!(received.ack().await, Err(SettleError::Closed));
    }
}

#[tokio::test]
async fn an_ack_that_nobody_answers_is_sent_again_and_its_wait_has_a_limit() {
    let broker = FakeBroker::start();
    let client = broker
        .builder()
        .request_timeout(Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    let brief = subscription().settle_timeout(Duration::from_millis(50));
    let mut consumer = client.subscribe(brief).unwrap();
    broker.state().silent_acks = true;
    broker.publish(["a"]);
    let received = take(&mut consumer, 1).await.remove(0);
    let told = received.ack().await.unwrap_err();
    assert!(matches!(told, SettleError::TimedOut { .. }));
    broker.state().silent_acks = false;
    broker.until("the ack", |state| state.acked == [0]).await;
}

#[tokio::test]
async fn a_message_already_handled_is_acknowledged_without_handling() {
    let broker = FakeBroker::start();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let consumer = consumer(&broker).await.idempotence(Recent::new(100));
    let _listening = consumer.listen(move |_received| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    broker.publish(["a"]);
    broker.until("acked", |state| state.acked.len() == 1).await;
    // The broker delivers it once more, as after a restart that lost the ack.
    broker.state().cursor = 0;
    broker.publish([]);
    broker
        .until("acked again", |state| state.acked.len() == 2)
        .await;
    assert_eq!(handled.load(Ordering::SeqCst), 1);
}

/// Does not know whether the message at sequence 0 was handled, and must be told twice of the first failure.
struct Shaky {
    failed: Arc<Mutex<Vec<String>>>,
    told: AtomicUsize,
}

impl Idempotence for Shaky {
    fn begin<'a>(&'a self, key: &'a str) -> Known<'a, Standing> {
        Box::pin(async move {
            match key.ends_with(" 0") {
                true => Err("the database is away".into()),
                false => Ok(Standing::New),
            }
        })
    }

    fn done<'a>(&'a self, _: &'a str) -> Known<'a, ()> {
        Box::pin(async move { Ok(()) })
    }

    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        Box::pin(async move {
            if self.told.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err("the database is away".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.failed.lock().push(key.to_owned());
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_message_that_was_not_handled_comes_again_only_when_its_key_is_taken_back() {
    let broker = FakeBroker::start();
    let (failed, handled) = (
        Arc::<Mutex<Vec<String>>>::default(),
        Arc::new(AtomicUsize::new(0)),
    );
    let shaky = Shaky {
        failed: Arc::clone(&failed),
        told: AtomicUsize::new(0),
    };
    let count = Arc::clone(&handled);
    let consumer = consumer(&broker).await.idempotence(shaky);
    let _listening = consumer.listen(move |received| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            match body(&received) {
                "bad" => Err("bad".into()),
                "panic" => panic!("as the test wants it"),
                _ => Ok(()),
            }
        }
    });
    broker.publish(["not known", "bad", "panic", "good"]);
    for nacked in 1..=3 {
        broker
            .until("a nack", |state| state.nacked.len() >= nacked)
            .await;
        assert!(failed.lock().len() >= nacked);
    }
    broker.until("an ack", |state| state.acked == [3]).await;
    assert_eq!(handled.load(Ordering::SeqCst), 3);
    let mut failed = failed.lock().clone();
    failed.sort_unstable_by_key(|key| key.chars().last());
    let places = failed.iter().filter_map(|key| key.rsplit(' ').next());
    assert_eq!(places.collect::<Vec<_>>(), ["0", "1", "2"]);
}

/// Another process is at work on every message, and says nothing.
struct Elsewhere;

impl Idempotence for Elsewhere {
    fn begin<'a>(&'a self, _: &'a str) -> Known<'a, Standing> {
        let again_after = Duration::from_secs(7);
        Box::pin(async move { Ok(Standing::Begun { again_after }) })
    }

    fn done<'a>(&'a self, _: &'a str) -> Known<'a, ()> {
        panic!("it did not handle it")
    }

    fn failed<'a>(&'a self, _: &'a str) -> Known<'a, ()> {
        panic!("it did not handle it")
    }
}

#[tokio::test]
async fn a_message_that_another_one_has_begun_with_is_put_off_and_counts_for_nothing() {
    let broker = FakeBroker::start();
    let consumer = consumer(&broker).await.idempotence(Elsewhere);
    let _listening = consumer.listen(|_received| async { panic!("it is another one's") });
    broker.publish(["a"]);
    broker
        .until("put off", |state| !state.nacked.is_empty())
        .await;
    assert_eq!(broker.state().nacked, [(0, Some(7_000))]);
    assert_eq!(broker.state().given_back, [0]);
}

#[tokio::test]
async fn an_at_most_once_consumer_tells_nothing_and_gets_its_credit_back() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let once = subscription().at_most_once(true).window(2, 1 << 20);
    let mut consumer = client.subscribe(once).unwrap();
    broker.publish(["x"; 6]);
    for _ in 0..6 {
        take(&mut consumer, 1).await.remove(0).ack().await.unwrap();
    }
    assert_eq!(broker.state().ack_requests, 0);
}

#[tokio::test]
async fn a_puller_gets_what_it_asks_for_and_settles_it() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let puller = client.puller(subscription()).unwrap();
    broker.publish(["a", "b", "c"]);
    let wait = Duration::from_millis(50);
    let first = within("a pull", puller.pull(2, wait)).await.unwrap();
    assert_eq!(first.len(), 2);
    for received in first {
        within("an ack", received.ack()).await.unwrap();
    }
    let second = within("a pull", puller.pull(2, wait)).await.unwrap();
    assert_eq!(second.len(), 1);
    for received in second {
        let delay = Some(Duration::from_secs(3_600));
        within("a nack", received.nack(delay)).await.unwrap();
    }
    assert!(puller.pull(2, Duration::ZERO).await.unwrap().is_empty());
    within("close", puller.close()).await.unwrap();
    let state = broker.state();
    assert_eq!(state.acked, [0, 1]);
    assert_eq!(
        state.nacked,
        [(2, Some(60_000))],
        "no longer than the broker keeps it"
    );
}

#[tokio::test]
async fn a_retry_subject_is_read_on_request() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let _consumer = client
        .subscribe(subscription().with_retry_subject(true))
        .unwrap();
    broker
        .until("two", |state| state.subscribes.len() == 2)
        .await;
    let mut subjects: Vec<String> = broker
        .state()
        .subscribes
        .iter()
        .map(|subscribe| subscribe.flow.subject.clone())
        .collect();
    subjects.sort();
    assert_eq!(subjects, ["%RETRY%order.changed%billing", "order.changed"]);
}
