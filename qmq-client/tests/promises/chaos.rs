//! Whatever a broker does, each message has one outcome, and that is the true one.

use bytes::Bytes;
use qmq_client::Message;
use qmq_wire::Code;

use crate::fake::{FakeBroker, Reaction, within};

/// Numbers from a seed (xorshift).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn reaction(&mut self) -> Option<Reaction> {
        Some(match self.below(12) {
            0 => Reaction::LoseAnswer,
            1 => Reaction::LoseRequest,
            2 => Reaction::Refuse(Code::Busy),
            3 => Reaction::RefuseOne(self.below(3) as u32, Code::Busy),
            4 => Reaction::RefuseOne(self.below(3) as u32, Code::TooFewInSync),
            5 => Reaction::RefuseOne(self.below(3) as u32, Code::BadMessage),
            6 => Reaction::RefuseMany(Code::TooLarge),
            _ => return None,
        })
    }
}

async fn every_outcome_is_true(ordered: bool, seed: u64) {
    let mut chance = Chance(seed);
    let broker = FakeBroker::start();
    let client = broker
        .builder()
        .breaker(1_000, std::time::Duration::from_millis(1))
        .connect()
        .await
        .unwrap();
    let most = 1 + chance.below(5) as usize;
    let builder = client.producer().batch(most, 1 << 20);
    let builder = if ordered { builder.ordered() } else { builder };
    let producer = builder.build().unwrap();
    let mut sent = Vec::new();
    for n in 0..60 {
        if let Some(reaction) = chance.reaction() {
            broker.state().script.push_back(reaction);
        }
        let body = Bytes::from(n.to_string());
        sent.push((
            body.clone(),
            producer.queue(Message::new("a", body)).await.unwrap(),
        ));
        if chance.below(10) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let mut accepted = Vec::new();
    for (body, sent) in sent {
        match within("a report", sent).await {
            Ok(report) => {
                let place = report.sequence as usize;
                assert_eq!(broker.state().taken[place], body, "seed {seed}");
                accepted.push(body);
            }
            Err(failed) => {
                let taken = broker.state().taken.contains(&body);
                assert!(!taken || failed.may_be_stored, "seed {seed}: {failed}");
            }
        }
    }
    let mut taken = broker.state().taken.clone();
    if !ordered {
        taken.sort();
        accepted.sort();
    }
    assert_eq!(taken, accepted, "seed {seed}: each once, and none else");
}

#[tokio::test]
async fn each_message_is_taken_once_whatever_happens() {
    for seed in 1..=12 {
        every_outcome_is_true(false, seed).await;
    }
}

#[tokio::test]
async fn the_order_holds_whatever_happens() {
    for seed in 1..=12 {
        every_outcome_is_true(true, seed).await;
    }
}
