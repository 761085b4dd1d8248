//! Random operations on a store and on a plain picture of it in memory: both must answer the same, through every restart.
//!
//! 64 cases; `QMQ_MODEL_CASES=100000 cargo test --release --test model` runs as many as one likes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "model/picture.rs"]
mod picture;

use std::time::Duration;

use proptest::prelude::*;
use qmq_store::{Batch, Durability, Error, Member, Message, PullRequest, ResetTo, TagFilter};
use support::{House, pull_sequences};

use picture::{Given, Picture};

const SUBJECTS: [&str; 3] = ["one", "two", "three"];
const CONSUMERS: [&str; 3] = ["ann", "bob", "cid"];
/// A plain group, one with a filter, one in which everybody gets everything.
pub(crate) const GROUPS: [&str; 3] = ["plain", "picky", "broadcast"];
const TAGS: [Option<&str>; 3] = [None, Some("a"), Some("b")];
const LEASE_MS: u64 = 30_000;

#[derive(Clone, Debug)]
enum Op {
    Append {
        subject: usize,
        len: usize,
        tag: usize,
    },
    AppendBatch {
        subjects: Vec<usize>,
        len: usize,
    },
    Pull {
        who: Who,
        max: usize,
        returning: bool,
    },
    Ack {
        batch: usize,
        from: usize,
        len: usize,
    },
    Nack {
        batch: usize,
        from: usize,
        len: usize,
        delay_ms: u64,
    },
    Move {
        batch: usize,
        at: usize,
        to: usize,
    },
    Gone {
        who: Who,
    },
    Expire,
    Wait {
        ms: u64,
    },
    Reset {
        who: Who,
        to: u64,
    },
    DropGroup {
        who: Who,
    },
    Maintain,
    Checkpoint,
    Restart,
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    subject: usize,
    group: usize,
    consumer: usize,
}

fn who() -> impl Strategy<Value = Who> {
    (0..3_usize, 0..3_usize, 0..3_usize).prop_map(|(subject, group, consumer)| Who {
        subject,
        group,
        consumer,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (any::<prop::sample::Index>(), 0..12_usize, 1..12_usize);
    prop_oneof![
        8 => (0..3_usize, 0..3_000_usize, 0..3_usize)
            .prop_map(|(subject, len, tag)| Op::Append { subject, len, tag }),
        3 => (prop::collection::vec(0..3_usize, 1..6), 0..200_usize)
            .prop_map(|(subjects, len)| Op::AppendBatch { subjects, len }),
        10 => (who(), 1..15_usize, prop::bool::weighted(0.1))
            .prop_map(|(who, max, returning)| Op::Pull { who, max, returning }),
        6 => place().prop_map(|(batch, from, len)| Op::Ack { batch: batch.index(1_000), from, len }),
        4 => (place(), 0..3_u64).prop_map(|((batch, from, len), delay)| Op::Nack {
            batch: batch.index(1_000), from, len, delay_ms: delay * 10_000,
        }),
        2 => (place(), 0..3_usize)
            .prop_map(|((batch, at, _), to)| Op::Move { batch: batch.index(1_000), at, to }),
        2 => who().prop_map(|who| Op::Gone { who }),
        1 => Just(Op::Expire),
        2 => (0..40_u64).prop_map(|seconds| Op::Wait { ms: seconds * 1_000 }),
        1 => (who(), 0..40_u64).prop_map(|(who, to)| Op::Reset { who, to }),
        1 => who().prop_map(|who| Op::DropGroup { who }),
        2 => Just(Op::Maintain),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
    ]
}

/// The store, the picture, and what consumers still have in their hands.
struct Both {
    house: House,
    picture: Picture,
    hands: Vec<(Who, Member, Vec<u64>)>,
    sent: u64,
    now: u64,
    /// A kill raises the incarnation; what was pulled before is refused from then on.
    kills: u32,
}

impl Both {
    fn new() -> Self {
        let house = House::with(|options| options.lease = Duration::from_millis(LEASE_MS));
        Self {
            house,
            picture: Picture::default(),
            hands: Vec::new(),
            sent: 0,
            now: support::NOON,
            kills: 0,
        }
    }

    fn message(&mut self, subject: usize, len: usize, tag: usize) -> Message {
        self.sent += 1;
        let body = format!("{} {}", self.sent, "x".repeat(len));
        self.picture.append(SUBJECTS[subject], &body, TAGS[tag]);
        let message = Message::new(SUBJECTS[subject], body);
        match TAGS[tag] {
            Some(tag) => message.tag(tag),
            None => message,
        }
    }

    fn take(&mut self, op: &Op) {
        match op {
            Op::Append { subject, len, tag } => {
                let message = self.message(*subject, *len, *tag);
                let at = self.house.send_message(&message);
                assert_eq!(at.sequence + 1, self.picture.next(SUBJECTS[*subject]));
            }
            Op::AppendBatch { subjects, len } => {
                let batch: Vec<Message> = subjects
                    .iter()
                    .map(|subject| self.message(*subject, *len, *subject))
                    .collect();
                let store = self.house.store();
                store.append_batch(&batch, Durability::Buffered).unwrap();
            }
            Op::Pull {
                who,
                max,
                returning,
            } => self.pull(*who, *max, *returning),
            Op::Ack { batch, from, len } => self.settle(*batch, *from, *len, None),
            Op::Nack {
                batch,
                from,
                len,
                delay_ms,
            } => {
                self.settle(*batch, *from, *len, Some(*delay_ms));
            }
            Op::Move { batch, at, to } => self.move_one(*batch, *at, *to),
            Op::Gone { who } => self.gone(*who),
            Op::Expire => {
                let expired = self.house.store().expire(self.now).unwrap();
                let mut messages: Vec<(String, String, String, u64)> = expired
                    .into_iter()
                    .map(|one| (one.subject, one.group, one.consumer, one.messages))
                    .collect();
                messages.sort();
                assert_eq!(messages, self.picture.expire(self.now, LEASE_MS));
            }
            Op::Wait { ms } => {
                self.now += ms;
                self.house.clock.set(self.now);
            }
            Op::Reset { who, to } => {
                let (subject, group) = (SUBJECTS[who.subject], GROUPS[who.group]);
                let outcome = self
                    .house
                    .store()
                    .reset(subject, group, ResetTo::Sequence(*to));
                assert_eq!(outcome.ok(), self.picture.reset(subject, group, *to));
            }
            Op::DropGroup { who } => {
                let (subject, group) = (SUBJECTS[who.subject], GROUPS[who.group]);
                let outcome = self.house.store().drop_group(subject, group);
                assert_eq!(outcome.is_ok(), self.picture.drop_group(subject, group));
            }
            Op::Maintain => self.house.store().maintain().unwrap(),
            Op::Checkpoint => self.house.store().checkpoint().unwrap(),
            Op::Restart => {
                self.house.restart();
                assert!(self.house.store().open_report().clean);
                self.opened();
            }
            Op::Kill => {
                self.house.kill();
                self.kills += 1;
                self.opened();
            }
        }
    }

    fn opened(&mut self) {
        let report = self.house.store().open_report();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert_eq!(report.cut_bytes, 0);
        self.picture.opened(self.now);
        self.compare();
    }

    fn pull(&mut self, who: Who, max: usize, returning: bool) {
        let (subject, group, consumer) = names(who);
        let filter = match group {
            "picky" => TagFilter::Any(vec!["a".into()]),
            _ => TagFilter::All,
        };
        let request = PullRequest::new(subject, group, consumer)
            .max(max)
            .filter(filter)
            .broadcast(group == "broadcast")
            .returning(returning);
        let batch = self.house.store().pull(&request).unwrap();
        let expected = self
            .picture
            .pull(subject, group, consumer, max, returning, self.now);
        let got: Vec<Given> = batch
            .iter()
            .map(|one| Given {
                sequence: one.sequence(),
                attempt: one.attempt(),
                body: String::from_utf8(one.message().unwrap().body().to_vec()).unwrap(),
            })
            .collect();
        assert_eq!(got, expected, "{who:?}");
        let numbers = pull_sequences(&batch);
        self.picture
            .numbered(subject, group, consumer, &numbers, &expected);
        if !batch.is_empty() {
            self.keep(who, &batch);
        }
    }

    fn keep(&mut self, who: Who, batch: &Batch) {
        let member = batch.member().clone();
        self.hands.push((who, member, pull_sequences(batch)));
    }

    /// A hand that holds something, or held it once.
    fn hand(&self, batch: usize) -> Option<(Who, Member, Vec<u64>)> {
        let at = batch.checked_rem(self.hands.len())?;
        Some(self.hands[self.hands.len() - 1 - at].clone())
    }

    fn stale(&self, member: &Member) -> bool {
        member.incarnation != 1 + self.kills
    }

    fn settle(&mut self, batch: usize, from: usize, len: usize, delay_ms: Option<u64>) {
        let Some((who, member, numbers)) = self.hand(batch) else {
            return;
        };
        let (subject, group, consumer) = names(who);
        let from = from.min(numbers.len() - 1);
        let chosen = &numbers[from..numbers.len().min(from + len)];
        let ranges: Vec<_> = chosen
            .iter()
            .rev()
            .map(|number| *number..=*number)
            .collect();
        let store = self.house.store();
        let level = Durability::Buffered;
        let outcome = match delay_ms {
            None => store.ack_ranges(&member, &ranges, level),
            Some(ms) => store.nack(&member, &ranges, Duration::from_millis(ms), level),
        };
        if self.stale(&member) {
            assert!(matches!(outcome, Err(Error::StaleIncarnation { .. })));
            return;
        }
        let until = delay_ms.map(|ms| self.now + ms);
        let expected = self
            .picture
            .settle(subject, group, consumer, chosen, until, self.now);
        // Of a group that was dropped, or created again, since.
        let Some(expected) = expected else {
            assert!(matches!(outcome, Err(Error::UnknownGroup { .. })));
            return;
        };
        let outcome = outcome.unwrap();
        assert_eq!(outcome.acked, expected);
        let named = outcome.acked + outcome.already + outcome.not_owned;
        assert_eq!(named, chosen.len() as u64);
    }

    fn move_one(&mut self, batch: usize, at: usize, to: usize) {
        let Some((who, member, numbers)) = self.hand(batch) else {
            return;
        };
        let (subject, group, consumer) = names(who);
        let number = numbers[at % numbers.len()];
        let store = self.house.store();
        let outcome = store.copy_and_ack(&member, number, SUBJECTS[to], Durability::Buffered);
        if self.stale(&member) {
            assert!(matches!(outcome, Err(Error::StaleIncarnation { .. })));
            return;
        }
        let expected =
            self.picture
                .take_one(subject, group, consumer, number, SUBJECTS[to], self.now);
        assert_eq!(outcome.ok().map(|at| at.sequence), expected);
    }

    fn gone(&mut self, who: Who) {
        let (subject, group, consumer) = names(who);
        let outcome = self.house.store().consumer_gone(subject, group, consumer);
        let expected = self.picture.gone(subject, group, consumer);
        assert_eq!(outcome.unwrap_or(0), expected);
    }

    /// Everything that can be seen without changing it.
    fn compare(&self) {
        for subject in SUBJECTS {
            let expected = self.picture.bodies(subject);
            let Ok(read) = self.house.store().read(subject, 0, usize::MAX) else {
                assert!(expected.is_empty());
                continue;
            };
            assert_eq!(support::bodies(&read), expected, "{subject}");
            let stats = self.house.store().subject_stats(subject).unwrap();
            for group in GROUPS {
                let sum = |of: fn(&qmq_store::GroupStats) -> u64| -> u64 {
                    let groups = stats.groups.iter().filter(|one| one.group == group);
                    groups.map(of).sum()
                };
                let seen = (sum(|one| one.unacked), sum(|one| one.waiting));
                assert_eq!(
                    seen,
                    self.picture.totals(subject, group),
                    "{subject} {group}"
                );
                assert_eq!(sum(|one| one.skipped), 0);
            }
        }
    }
}

fn names(who: Who) -> (&'static str, &'static str, &'static str) {
    (
        SUBJECTS[who.subject],
        GROUPS[who.group],
        CONSUMERS[who.consumer],
    )
}

fn cases() -> u32 {
    let asked = std::env::var("QMQ_MODEL_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_answers_as_a_plain_picture_of_it_does(ops in prop::collection::vec(op(), 1..160)) {
        let mut both = Both::new();
        for op in &ops {
            both.take(op);
        }
        both.compare();
        both.take(&Op::Kill);
        both.take(&Op::Restart);
    }
}
