//! Streams cut and taken up again while turns are on their way: nothing that was taken from the store for a consumer is lost on its way there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmq_wire::{Ack, Delivery, Durability, Flow};

use super::test_broker::TestBroker;
use super::wire_client::{Answer, Batch, LIMIT, Peer, Stream, Sub, flow, ranges};

const PLENTY: u64 = 1 << 40;
const SEED: u64 = 77;
const ROUGH: Duration = Duration::from_secs(4);
const CONSUMERS: u64 = 6;
/// Messages of one round, each published alone so that turns go on all the time.
const MESSAGES: usize = 24;

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// How a subscription is cut off.
async fn cut(sub: Sub, dice: &mut Dice) {
    match dice.below(3) {
        0 => sub.vanish(),
        1 => sub.leave_at_once().await,
        // The next one takes its place while it is there.
        _ => drop(tokio::spawn(async move {
            let mut sub = sub;
            while sub.stream.next_within(1_000).await.is_some() {}
        })),
    }
}

async fn acknowledge(stream: &mut Stream, delivery: &Delivery) {
    let ack = Ack {
        flow: None,
        number: 1,
        durability: Durability::Default,
        incarnation: delivery.incarnation,
        ranges: ranges(&delivery.messages),
    };
    stream.send(|out| ack.encode(out)).await;
}

/// One consumer is cut off a few times while messages come, and then stays, or another one comes in its place. It must get all that is not settled,
/// and no lease may be needed for that.
async fn round(broker: &TestBroker, peer: &Arc<Peer>, subject: &str, dice: &mut Dice) {
    let published = Arc::<AtomicBool>::default();
    let publishing = {
        let (peer, subject) = (Arc::clone(peer), subject.to_owned());
        let published = Arc::clone(&published);
        tokio::spawn(async move {
            for _ in 0..MESSAGES {
                peer.produce(&Batch::bodies(&subject, ["x"])).await;
            }
            published.store(true, Ordering::SeqCst);
        })
    };
    let mut flow: Flow = flow(subject, "g", "c");
    flow.flags.broadcast = dice.below(4) == 0;
    for _ in 0..1 + dice.below(4) {
        let mut sub = peer.subscribe(&flow, dice.below(20) as u32, PLENTY).await;
        if dice.below(2) == 0
            && let Some(Answer::Deliver(delivery)) = sub.stream.next_within(dice.below(3)).await
        {
            acknowledge(&mut sub.stream, &delivery).await;
        }
        cut(sub, dice).await;
        match dice.below(4) {
            0 => flow.session += 1,
            1 => flow.flags.fresh = true,
            _ => flow.flags.fresh = false,
        }
    }
    if dice.below(4) == 0 && !flow.flags.broadcast {
        flow.consumer = "other".to_owned();
    }
    let mut last = peer.subscribe(&flow, 1_000, PLENTY).await;
    let end = Instant::now() + LIMIT;
    loop {
        match last.stream.next_within(5).await {
            Some(Answer::Deliver(delivery)) => acknowledge(&mut last.stream, &delivery).await,
            Some(Answer::Acked(_)) | None => {}
            Some(other) => panic!("{other:?}"),
        }
        let groups = broker.store().subject_stats(subject).unwrap().groups;
        let all = groups
            .iter()
            .all(|group| (group.lag, group.unacked, group.waiting) == (0, 0, 0));
        if all && published.load(Ordering::SeqCst) {
            break;
        }
        assert!(Instant::now() < end, "not settled: {groups:#?}");
    }
    publishing.await.unwrap();
    last.leave_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_cut_off_in_the_middle_of_a_turn_gets_all_of_it_in_the_end() {
    // No lease runs out while it lasts: what was lost on its way would stay so.
    let broker = TestBroker::start(&[
        ("consumer.ack.timeout.ms", "600000"),
        ("consumer.session.timeout.ms", "500"),
        ("consumer.max.attempts", "1000000"),
    ])
    .await;
    let broker = Arc::new(broker);
    let end = Instant::now() + ROUGH;
    let mut all = Vec::new();
    for n in 1..=CONSUMERS {
        let peer = Arc::new(broker.peer().await);
        let broker = Arc::clone(&broker);
        all.push(tokio::spawn(async move {
            let mut dice = Dice(SEED * n);
            let mut rounds = 0;
            while Instant::now() < end {
                round(&broker, &peer, &format!("s{n}-{rounds}"), &mut dice).await;
                rounds += 1;
            }
            rounds
        }));
    }
    let mut rounds = 0;
    for one in all {
        rounds += one.await.unwrap();
    }
    assert!(rounds >= CONSUMERS, "{rounds}");
}
