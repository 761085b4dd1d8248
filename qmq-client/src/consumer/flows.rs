//! The flows behind a consumer: one for each broker and subject, which come and go with the route.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_wire::{Interest, Purpose, Route, RouteGroup, features};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::error::ConsumeError;
use super::flow::{FlowCommand, FlowTask};
use super::put_off::PutOff;
use super::subscription::{Part, Subscription};
use super::{Incoming, puller::PullError};
use crate::client::Shared;
use crate::connection::Broker;
use crate::connection::meta::Watched;
use crate::error::ConfigError;

/// See the module. When it is dropped, the flows close in the background.
#[derive(Debug)]
pub(crate) struct Flows {
    set: Arc<FlowSet>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct FlowSet {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    incoming: Option<mpsc::UnboundedSender<Incoming>>,
    put_off: Arc<PutOff>,
    /// `None`: the application named the brokers.
    watched: Option<Watched>,
    open: watch::Sender<Vec<OpenFlow>>,
    closed: Mutex<bool>,
}

/// A flow, from its beginning to its end.
#[derive(Clone, Debug)]
struct OpenFlow {
    part: Part,
    group: Arc<str>,
    broker: Arc<Broker>,
    /// Epoch and stamp of the route that named the broker.
    as_of: (u64, u64),
    commands: mpsc::UnboundedSender<FlowCommand>,
    /// It ends, and what it brought and nobody has looked at is given back.
    withdrawn: Arc<AtomicBool>,
}

impl OpenFlow {
    fn is(&self, part: &Part, group: &str) -> bool {
        self.part.subject == part.subject && *self.group == *group
    }

    fn is_leaving(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Whether messages may come of it; `true` as long as nothing else is known.
    fn can_deliver(&self) -> bool {
        let link = self.broker.connected();
        link.is_none_or(|link| link.hello().features & features::CONSUME != 0)
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.keeper.abort();
        let until = Instant::now() + self.set.subscription.close_timeout;
        self.set.close(|| FlowCommand::Close { until, done: None });
    }
}

impl Flows {
    pub(super) fn start(
        shared: &Arc<Shared>,
        subscription: &Arc<Subscription>,
        incoming: Option<&mpsc::UnboundedSender<Incoming>>,
    ) -> Result<Self, ConfigError> {
        let interest = || Interest {
            subject: subscription.subject().to_owned(),
            purpose: Purpose::Consume,
            group: subscription.group().to_owned(),
            client: subscription.consumer().to_owned(),
            application: shared.config.application.clone(),
            room: shared.config.room.clone(),
        };
        let watched = match &shared.routes {
            Some(routes) => {
                Some(
                    routes
                        .watch(interest())
                        .map_err(|error| ConfigError::NotFollowed {
                            reason: error.to_string(),
                        })?,
                )
            }
            None => None,
        };
        let set = Arc::new(FlowSet {
            shared: Arc::clone(shared),
            subscription: Arc::clone(subscription),
            incoming: incoming.cloned(),
            put_off: Arc::new(PutOff::new(shared, subscription)),
            watched,
            open: watch::Sender::default(),
            closed: Mutex::new(false),
        });
        let keeper = match &set.watched {
            Some(watched) => {
                let changes = watched.changes();
                tokio::spawn(follow(Arc::clone(&set), changes))
            }
            None => {
                for part in subscription.parts() {
                    for broker in shared.pool.fixed() {
                        set.open(&part, "", Arc::clone(broker), (0, 0));
                    }
                }
                tokio::spawn(follow_retries(Arc::clone(&set)))
            }
        };
        Ok(Self {
            set,
            keeper: keeper.abort_handle(),
        })
    }

    /// Lets all flows finish what is in hand. Answers how many messages were not settled.
    pub(super) async fn close(&self) -> usize {
        self.keeper.abort();
        let until = Instant::now() + self.set.subscription.close_timeout;
        let mut waits = Vec::new();
        self.set.close(|| {
            let (done, closed) = oneshot::channel();
            waits.push(closed);
            FlowCommand::Close {
                until,
                done: Some(done),
            }
        });
        let mut left = 0;
        for closed in waits {
            left += closed.await.unwrap_or(0);
        }
        left
    }

    /// The flow that is asked next; waits until there is one. `None`: there is none, and that is as operators want it.
    pub(super) async fn next(
        &self,
        turn: usize,
        until: Instant,
    ) -> Result<Option<mpsc::UnboundedSender<FlowCommand>>, PullError> {
        let usable = |flows: &Vec<OpenFlow>| {
            let can =
                |flow: &&OpenFlow| !flow.part.optional && !flow.is_leaving() && flow.can_deliver();
            let flows: Vec<&OpenFlow> = flows.iter().filter(can).collect();
            let flow = flows.get(turn % flows.len().max(1));
            flow.map(|flow| flow.commands.clone())
        };
        let mut open = self.set.open.subscribe();
        let any = open.wait_for(|flows| usable(flows).is_some());
        let found = tokio::time::timeout_at(until.into(), any).await;
        if let Ok(Ok(flows)) = found {
            return Ok(usable(&flows));
        }
        let routes = self.set.shared.routes.as_ref();
        match &self.set.watched {
            _ if routes.is_none_or(|routes| routes.is_closed()) => Err(PullError::Closed),
            Some(watched) if watched.known().route.is_some() => Ok(None),
            Some(watched) => Err(PullError::NoRoute {
                reason: watched.trouble(),
            }),
            None => Err(PullError::Closed),
        }
    }

    /// The flow of the retry subject that is asked next, if there is a connected one.
    pub(super) fn next_of_retries(
        &self,
        turn: usize,
    ) -> Option<mpsc::UnboundedSender<FlowCommand>> {
        let flows = self.set.open.borrow();
        let can = |flow: &&OpenFlow| {
            flow.part.optional && !flow.is_leaving() && flow.broker.connected().is_some()
        };
        let flows: Vec<&OpenFlow> = flows
            .iter()
            .filter(can)
            .filter(|flow| flow.can_deliver())
            .collect();
        let flow = flows.get(turn % flows.len().max(1));
        flow.map(|flow| flow.commands.clone())
    }

    /// Whether meta servers say which flows there are.
    pub(super) fn are_routed(&self) -> bool {
        self.set.watched.is_some()
    }
}

impl FlowSet {
    fn open(&self, part: &Part, group: &str, broker: Arc<Broker>, as_of: (u64, u64)) {
        if *self.closed.lock() {
            return;
        }
        let (commands, taken) = mpsc::unbounded_channel();
        let withdrawn = Arc::new(AtomicBool::new(false));
        let task = FlowTask::new(
            (Arc::clone(&self.shared), Arc::clone(&self.subscription)),
            Arc::clone(&broker),
            part,
            commands.downgrade(),
            (self.incoming.clone(), Arc::clone(&withdrawn)),
            Arc::clone(&self.put_off),
        );
        tokio::spawn(task.run(taken));
        let flow = OpenFlow {
            part: part.clone(),
            group: group.into(),
            broker,
            as_of,
            commands,
            withdrawn,
        };
        self.open.send_modify(|flows| flows.push(flow));
    }

    /// Nothing begins any more, and what there is ends.
    fn close(&self, mut command: impl FnMut() -> FlowCommand) {
        *self.closed.lock() = true;
        for flow in self.open.borrow().iter() {
            let _ = flow.commands.send(command());
        }
    }

    /// Opens, moves and ends flows as a route says. Answers those that end.
    fn adjust(&self, route: &Route) -> Vec<(OpenFlow, oneshot::Receiver<usize>)> {
        let usable =
            |group: &&RouteGroup| route.online && group.readable && !group.master.is_empty();
        let groups: Vec<&RouteGroup> = route.groups.iter().filter(usable).collect();
        let parts = self.subscription.parts_with_retries();
        for part in &parts {
            for group in &groups {
                self.place(part, group, route.stamp);
            }
        }
        let wanted = |flow: &OpenFlow| groups.iter().any(|group| *group.name == *flow.group);
        let mut ending = Vec::new();
        for flow in self.open.borrow().iter() {
            if wanted(flow) || flow.withdrawn.swap(true, Ordering::AcqRel) {
                continue;
            }
            tracing::info!(subject = %flow.part.subject, group = %flow.group, online = route.online, "consuming ends");
            let (done, ended) = oneshot::channel();
            let close = FlowCommand::Close {
                until: Instant::now() + self.subscription.close_timeout,
                done: Some(done),
            };
            let _ = flow.commands.send(close);
            ending.push((flow.clone(), ended));
        }
        ending
    }

    /// Lets there be a flow with the master of a group.
    fn place(&self, part: &Part, group: &RouteGroup, stamp: u64) {
        let as_of = (group.epoch, stamp);
        let known = {
            let flows = self.open.borrow();
            let known = flows.iter().find(|flow| flow.is(part, &group.name));
            known.cloned()
        };
        let Some(known) = known else {
            let broker = self.shared.pool.get(&group.name, &group.master);
            return self.open(part, &group.name, broker, as_of);
        };
        if as_of < known.as_of {
            return;
        }
        let moves = **known.broker.address() != *group.master;
        let broker = match moves {
            true => self.shared.pool.get(&group.name, &group.master),
            false => Arc::clone(&known.broker),
        };
        if moves {
            let _ = known.commands.send(FlowCommand::Move(Arc::clone(&broker)));
        }
        self.open.send_modify(|flows| {
            for flow in flows.iter_mut().filter(|flow| flow.is(part, &group.name)) {
                flow.broker = Arc::clone(&broker);
                flow.as_of = as_of;
            }
        });
    }
}

/// Lets flows come and go with the route, until the consumer is closed.
async fn follow(set: Arc<FlowSet>, mut changes: watch::Receiver<crate::connection::meta::Known>) {
    let mut ending = JoinSet::new();
    loop {
        let known = changes.borrow_and_update().clone();
        if let (Some(refusal), Some(incoming)) = (known.lasting_refusal(), &set.incoming) {
            let _ = incoming.send(Err(ConsumeError::Refused {
                broker: Arc::clone(&refusal.meta),
                subject: set.subscription.subject().to_owned(),
                code: refusal.code,
                text: refusal.text.to_string(),
            }));
            return;
        }
        let route = known.route;
        for (flow, ended) in route.map(|route| set.adjust(&route)).unwrap_or_default() {
            let set = Arc::clone(&set);
            ending.spawn(async move {
                let _ = ended.await;
                set.open.send_modify(|flows| {
                    flows.retain(|open| !open.commands.same_channel(&flow.commands));
                });
            });
        }
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    if let Some(incoming) = &set.incoming {
                        let _ = incoming.send(Err(ConsumeError::Closed));
                    }
                    return;
                }
            }
            // What is wanted again begins again when its end is done.
            Some(_) = ending.join_next() => {}
        }
    }
}

/// Where the application named a delay server among its brokers, messages may come back by way of the retry subject.
async fn follow_retries(set: Arc<FlowSet>) {
    let Some(part) = set.subscription.retries() else {
        return;
    };
    let mut waits = JoinSet::new();
    for broker in set.shared.pool.fixed() {
        let broker = Arc::clone(broker);
        waits.spawn(async move {
            let link = broker.link(false).await;
            link.is_ok_and(|link| link.hello().features & features::SCHEDULE != 0)
        });
    }
    while let Some(schedules) = waits.join_next().await {
        if schedules.unwrap_or(false) {
            for broker in set.shared.pool.fixed() {
                set.open(&part, "", Arc::clone(broker), (0, 0));
            }
            return;
        }
    }
}

/// How long an optional part of a subscription that was refused for good is left alone.
pub(super) const OPTIONAL_PAUSE: Duration = Duration::from_secs(10);
