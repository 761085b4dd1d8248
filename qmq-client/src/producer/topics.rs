//! Where the messages of each subject go.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{Interest, Purpose, Route, RouteGroup};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::keeper::Event;
use super::lines::{Line, Lines};
use super::outcome::SendCause;
use super::queue::Pending;
use crate::client::Shared;
use crate::connection::meta::{NotWatched, Watched};

/// The route of a subject to which nothing is sent is followed for so long.
const UNUSED: Duration = Duration::from_secs(300);

/// A subject, as far as a producer uses it.
pub(super) struct Topic {
    pub(super) watched: Watched,
    /// Where its messages go; `None`: no broker takes them now.
    pub(super) line: Option<u32>,
    /// Messages without a line.
    pub(super) waiting: VecDeque<Pending>,
    /// In order: the only group that is used.
    pub(super) pinned: Option<Arc<str>>,
    /// In order: the group that must have answered everything before another one is used.
    pub(super) behind: Option<Arc<str>>,
    used: Instant,
    follower: AbortHandle,
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Subjects by purpose and name.
#[derive(Default)]
pub(super) struct Topics {
    at_once: HashMap<Arc<str>, Topic>,
    delayed: HashMap<Arc<str>, Topic>,
    /// Messages that wait for a route.
    pub(super) waiting: usize,
}

impl Topics {
    fn of(&self, purpose: Purpose) -> &HashMap<Arc<str>, Topic> {
        match purpose {
            Purpose::Delay => &self.delayed,
            _ => &self.at_once,
        }
    }

    fn of_mut(&mut self, purpose: Purpose) -> &mut HashMap<Arc<str>, Topic> {
        match purpose {
            Purpose::Delay => &mut self.delayed,
            _ => &mut self.at_once,
        }
    }

    pub(super) fn get(&self, purpose: Purpose, subject: &str) -> Option<&Topic> {
        self.of(purpose).get(subject)
    }

    pub(super) fn get_mut(&mut self, purpose: Purpose, subject: &str) -> Option<&mut Topic> {
        self.of_mut(purpose).get_mut(subject)
    }

    /// Whether nothing is followed.
    pub(super) fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.delayed.is_empty()
    }

    /// Follows a subject's route.
    pub(super) fn open(
        &mut self,
        purpose: Purpose,
        subject: &str,
        shared: &Shared,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), NotWatched> {
        let routes = shared.routes.as_ref().ok_or(NotWatched::Closed)?;
        let config = &shared.config;
        let watched = routes.watch(Interest {
            subject: subject.to_owned(),
            purpose,
            group: String::new(),
            client: config.application.clone(),
            application: config.application.clone(),
            room: config.room.clone(),
        })?;
        let subject: Arc<str> = subject.into();
        let mut changes = watched.changes();
        // What is known already is looked at by whoever opens it.
        changes.mark_unchanged();
        let (events, name) = (events.clone(), Arc::clone(&subject));
        let follower = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                if events
                    .send(Event::Route(purpose, Arc::clone(&name)))
                    .is_err()
                {
                    return;
                }
            }
            let _ = events.send(Event::RouteEnded);
        });
        let topic = Topic {
            watched,
            line: None,
            waiting: VecDeque::new(),
            pinned: None,
            behind: None,
            used: Instant::now(),
            follower: follower.abort_handle(),
        };
        self.of_mut(purpose).insert(subject, topic);
        Ok(())
    }

    /// Takes the messages without a line whose time is over, and why they had none.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<(Pending, String)> {
        let mut all = Vec::new();
        if self.waiting == 0 {
            return all;
        }
        for topic in self.at_once.values_mut().chain(self.delayed.values_mut()) {
            while let Some(late) = topic.waiting.pop_front_if(|first| first.deadline <= now) {
                all.push((late, topic.trouble()));
            }
        }
        self.waiting -= all.len();
        all
    }

    /// Takes everything.
    pub(super) fn clear(&mut self) -> Vec<Pending> {
        self.waiting = 0;
        let topics = self.at_once.values_mut().chain(self.delayed.values_mut());
        topics
            .flat_map(|topic| std::mem::take(&mut topic.waiting))
            .collect()
    }

    /// Those whose messages wait until another group has answered.
    pub(super) fn held_back(&self) -> Vec<(Purpose, Arc<str>)> {
        let both = [
            (Purpose::Produce, &self.at_once),
            (Purpose::Delay, &self.delayed),
        ];
        both.into_iter()
            .flat_map(|(purpose, topics)| topics.iter().map(move |topic| (purpose, topic)))
            .filter(|(_, (_, topic))| topic.behind.is_some())
            .map(|(purpose, (subject, _))| (purpose, Arc::clone(subject)))
            .collect()
    }

    /// Follows no more routes of subjects to which nothing is sent.
    pub(super) fn retire(&mut self, now: Instant, lines: &mut Lines) {
        for topics in [&mut self.at_once, &mut self.delayed] {
            topics.retain(|subject, topic| {
                let line = topic.line.and_then(|number| lines.get_mut(number));
                let queued = line.as_ref().is_some_and(|line| line.has(subject));
                let keep = queued || !topic.waiting.is_empty() || now < topic.used + UNUSED;
                if let (false, Some(line)) = (keep, line) {
                    line.topics -= 1;
                }
                keep
            });
        }
    }
}

impl Line {
    fn has(&self, subject: &str) -> bool {
        let mut queued = self.queue.iter();
        queued.any(|pending| pending.message.subject() == subject)
    }
}

impl Topic {
    /// Something is sent to it.
    pub(super) fn touch(&mut self) {
        self.used = Instant::now();
    }

    /// Why its messages need not wait for a route: a meta server tells none, and that will not change by itself.
    pub(super) fn refusal(&self) -> Option<SendCause> {
        let known = self.watched.known();
        let refusal = known.lasting_refusal()?;
        Some(SendCause::RouteRefused {
            meta: Arc::clone(&refusal.meta),
            code: refusal.code,
            text: Arc::clone(&refusal.text),
        })
    }

    /// Why its messages do not go anywhere.
    pub(super) fn trouble(&self) -> String {
        let known = self.watched.known();
        let Some(route) = known.route.filter(|_| known.refusal.is_none()) else {
            return self.watched.trouble();
        };
        if route.groups.is_empty() {
            return "its route has no broker group; see `qmq tools ListSubjectRoutes`".to_owned();
        }
        let names: Vec<&str> = route
            .groups
            .iter()
            .map(|group| group.name.as_str())
            .collect();
        format!(
            "none of its broker groups takes messages now: {}",
            names.join(", ")
        )
    }
}

/// The groups of a route that producers use, sorted by name.
pub(super) fn usable(route: &Route) -> Vec<&RouteGroup> {
    let mut groups: Vec<&RouteGroup> = route
        .groups
        .iter()
        .filter(|group| group.writable && !group.master.is_empty())
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    groups
}

/// The group that a subject's messages stay with: the same for all producers, and for most subjects the same when groups come and go.
pub(super) fn pinned<'a>(subject: &str, groups: &[&'a RouteGroup]) -> Option<&'a RouteGroup> {
    let weight = |group: &&&RouteGroup| {
        let mut hasher = DefaultHasher::new();
        (subject, &group.name).hash(&mut hasher);
        hasher.finish()
    };
    groups.iter().max_by_key(weight).copied()
}
