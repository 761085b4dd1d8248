//! One look at all brokers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use qmq_client::{Admin, AdminError, Client, NodeStatus, SubjectStatus};

use crate::cli::failure::{Failure, complain};

/// Subjects asked for at once.
const PAGE: u32 = 1_000;

/// What was seen.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) brokers: Vec<Seen>,
}

/// A broker, and when it was asked.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) address: String,
    pub(super) at: Instant,
    pub(super) node: Result<NodeStatus, AdminError>,
    /// By name.
    pub(super) subjects: Vec<SubjectStatus>,
    /// Why there are no more subjects than these.
    pub(super) cut_off: Option<AdminError>,
}

impl Reading {
    /// Asks all brokers, page by page.
    pub(super) async fn take(client: &Client, addresses: &[String], pattern: &str) -> Self {
        let mut brokers = Vec::new();
        for address in addresses {
            if let Some(admin) = client.admin(address) {
                brokers.push(look(&admin, address, pattern).await);
            }
        }
        Self { brokers }
    }

    /// Whether every broker answered; says which did not.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        let mut failed = false;
        for seen in &self.brokers {
            for error in seen.node.as_ref().err().into_iter().chain(&seen.cut_off) {
                complain(&format!("cannot see how {} is: {error}", seen.address));
                failed = true;
            }
        }
        if failed {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }

    /// An earlier look at the same broker.
    pub(super) fn of(&self, address: &str) -> Option<&Seen> {
        self.brokers.iter().find(|seen| seen.address == address)
    }
}

async fn look(admin: &Admin, address: &str, pattern: &str) -> Seen {
    let mut seen = Seen {
        address: address.to_owned(),
        at: Instant::now(),
        node: admin.status().await,
        subjects: Vec::new(),
        cut_off: None,
    };
    if seen.node.is_err() {
        return seen;
    }
    let mut after = String::new();
    loop {
        match admin.subjects(pattern, &after, PAGE).await {
            Ok(page) => match page.last() {
                // A broker may give fewer at a time than it is asked for.
                Some(last) => {
                    after.clone_from(&last.subject);
                    seen.subjects.extend(page);
                }
                None => return seen,
            },
            Err(error) => {
                seen.cut_off = Some(error);
                return seen;
            }
        }
    }
}

/// What may be compared with what was there before, to give rates.
#[derive(Debug, Default)]
pub(super) struct Before<'a> {
    pub(super) node: Option<&'a NodeStatus>,
    since: Duration,
    subjects: HashMap<&'a str, &'a SubjectStatus>,
}

impl<'a> Before<'a> {
    pub(super) fn new(now: &Seen, earlier: Option<&'a Seen>) -> Self {
        let Some(earlier) = earlier else {
            return Self::default();
        };
        Self {
            node: earlier.node.as_ref().ok(),
            since: now.at.duration_since(earlier.at),
            subjects: earlier
                .subjects
                .iter()
                .map(|subject| (subject.subject.as_str(), subject))
                .collect(),
        }
    }

    /// Per second; `None`: nothing to compare with, or the broker began anew.
    pub(super) fn rate(&self, now: u64, before: Option<u64>) -> Option<f64> {
        let more = now.checked_sub(before?)?;
        (!self.since.is_zero()).then(|| more as f64 / self.since.as_secs_f64())
    }

    /// Messages into a subject, per second.
    pub(super) fn rate_in(&self, subject: &SubjectStatus) -> Option<f64> {
        let before = self.subjects.get(subject.subject.as_str());
        self.rate(
            subject.next_sequence,
            before.map(|before| before.next_sequence),
        )
    }

    /// Messages handed out for the first time to a group, per second.
    pub(super) fn rate_out(
        &self,
        subject: &SubjectStatus,
        group: &qmq_wire::GroupStatus,
    ) -> Option<f64> {
        let name = name(group);
        let before = self.subjects.get(subject.subject.as_str());
        let before = before.and_then(|before| before.groups.iter().find(|g| self::name(g) == name));
        self.rate(group.cursor, before.map(|before| before.cursor))
    }
}

/// A group's name; of a broadcast group, with that of the consumer.
pub(super) fn name(group: &qmq_wire::GroupStatus) -> String {
    match group.consumers.first() {
        Some(only) if group.broadcast => format!("{}/{}", group.group, only.consumer),
        _ => group.group.clone(),
    }
}
