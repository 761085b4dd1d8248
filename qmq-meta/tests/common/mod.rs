//! A database in memory with switches, and a small cluster on it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use qmq_meta::{
    Broker, BrokerRole, ClientKind, ClientRow, DataSource, Database, DatabaseError, Everything,
    GroupKind, GroupState, Liveness, Meta, MetaOptions, Now, OfflineRow, Presence, ReadonlyRow,
    RouteAnswer, RouteRequest, Subject, SubjectRoute,
};

type Outcome<T> = Result<T, DatabaseError>;

#[derive(Default)]
struct Tables {
    everything: Everything,
    clients: Vec<ClientRow>,
    removed: std::collections::HashSet<String>,
    swept: u64,
    grace_until: u64,
}

/// A database whose clock stands still until a test moves it.
pub(crate) struct Memory {
    tables: Mutex<Tables>,
    away: AtomicBool,
    fail_once: AtomicBool,
    slow_ms: AtomicU64,
    clock: AtomicU64,
    calls: AtomicU64,
}

impl Memory {
    async fn insert(&self, broker: &Broker) -> Outcome<()> {
        self.change(|tables, _| {
            let place = |b: &Broker| (b.hostname.clone(), b.serve_port);
            if (tables.everything.brokers.iter()).any(|other| place(other) == place(broker)) {
                return Err(DatabaseError::Exists {
                    what: "broker".to_owned(),
                });
            }
            tables.everything.brokers.push(broker.clone());
            Ok(())
        })
        .await
    }

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tables: Mutex::default(),
            away: AtomicBool::new(false),
            fail_once: AtomicBool::new(false),
            slow_ms: AtomicU64::new(0),
            clock: AtomicU64::new(1_000_000),
            calls: AtomicU64::new(0),
        })
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn fail_once(&self) {
        self.fail_once.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_slow(&self, slow: Duration) {
        self.slow_ms
            .store(slow.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    /// Calls other than sweeps and clients since the last question.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn clients(&self) -> Vec<ClientRow> {
        self.tables.lock().clients.clone()
    }

    pub(crate) fn route(&self, subject: &str) -> Option<SubjectRoute> {
        let tables = self.tables.lock();
        let mut routes = tables.everything.routes.iter();
        routes.find(|route| route.subject == subject).cloned()
    }

    /// Changes tables as a Java metaserver would.
    pub(crate) fn meddle(&self, change: impl FnOnce(&mut Everything)) {
        change(&mut self.tables.lock().everything);
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn answer(&self) -> Outcome<()> {
        let slow = self.slow_ms.load(Ordering::SeqCst);
        if slow > 0 {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
        if self.away.load(Ordering::SeqCst) || self.fail_once.swap(false, Ordering::SeqCst) {
            return Err(DatabaseError::Away {
                reason: "switched off by a test".to_owned(),
            });
        }
        Ok(())
    }

    async fn change<T>(&self, change: impl FnOnce(&mut Tables, u64) -> Outcome<T>) -> Outcome<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.answer().await?;
        let now = self.now();
        change(&mut self.tables.lock(), now)
    }
}

fn group_of<'a>(tables: &'a mut Tables, name: &str) -> Option<&'a mut BrokerGroupRow> {
    (tables.everything.groups.iter_mut()).find(|group| group.name == name)
}

type BrokerGroupRow = qmq_meta::BrokerGroup;

#[async_trait]
impl Database for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn verify(&self) -> Outcome<()> {
        self.answer().await
    }

    async fn read(&self) -> Outcome<Everything> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.answer().await?;
        let mut everything = self.tables.lock().everything.clone();
        everything.at = self.now();
        Ok(everything)
    }

    async fn seen(&self, liveness: &Liveness) -> Outcome<Now> {
        self.change(|tables, now| {
            let is_entry = |b: &Broker| (&b.group, b.role) == (&liveness.group, liveness.role);
            if !tables.everything.brokers.iter().any(is_entry) {
                return Err(DatabaseError::Changed {
                    what: "the entry".to_owned(),
                });
            }
            if group_of(tables, &liveness.group).is_none() {
                tables.everything.groups.push(BrokerGroupRow {
                    name: liveness.group.clone(),
                    kind: liveness.role.kind(),
                    master: String::new(),
                    state: GroupState::None,
                    tag: String::new(),
                    ext: None,
                    updated_ms: now,
                    epoch: 0,
                    last_seen_ms: None,
                    retiring: false,
                });
            }
            let Some(group) = group_of(tables, &liveness.group) else {
                unreachable!()
            };
            if liveness.epoch < group.epoch {
                return Err(DatabaseError::Changed {
                    what: "epoch".to_owned(),
                });
            }
            group.master.clone_from(&liveness.address);
            group.state = liveness.state;
            group.last_seen_ms = Some(now);
            Ok(now)
        })
        .await
    }

    async fn sweep(&self, silent_ms: u64) -> Outcome<Vec<String>> {
        self.answer().await?;
        let now = self.now();
        let mut tables = self.tables.lock();
        if now - tables.swept > silent_ms / 2 {
            tables.grace_until = now + silent_ms;
        }
        tables.swept = now;
        if now < tables.grace_until {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for group in &mut tables.everything.groups {
            let silent = group
                .last_seen_ms
                .is_some_and(|seen| seen + silent_ms < now);
            if silent && group.state != GroupState::None {
                group.state = GroupState::None;
                names.push(group.name.clone());
            }
        }
        Ok(names)
    }

    async fn grant_epoch(&self, name: &str, known: u64, master: &str) -> Outcome<u64> {
        self.change(|tables, _| match group_of(tables, name) {
            Some(group) if group.epoch == known => {
                group.epoch += 1;
                master.clone_into(&mut group.master);
                Ok(group.epoch)
            }
            _ => Err(DatabaseError::Changed {
                what: "epoch".to_owned(),
            }),
        })
        .await
    }

    async fn add_broker(&self, broker: &Broker) -> Outcome<()> {
        self.insert(broker).await?;
        self.tables.lock().removed.remove(&broker.group);
        Ok(())
    }

    async fn enter_broker(&self, broker: &Broker) -> Outcome<()> {
        if self.tables.lock().removed.contains(&broker.group) {
            return Err(DatabaseError::Decommissioned {
                group: broker.group.clone(),
                command: String::new(),
            });
        }
        self.insert(broker).await
    }

    async fn replace_broker(&self, broker: &Broker) -> Outcome<Option<Broker>> {
        self.change(|tables, _| {
            let mut brokers = tables.everything.brokers.iter_mut();
            Ok(brokers
                .find(|other| other.group == broker.group && other.role == broker.role)
                .map(|other| std::mem::replace(other, broker.clone())))
        })
        .await
    }

    async fn add_subject(&self, name: &str, tag: &str) -> Outcome<bool> {
        self.change(|tables, now| {
            let subjects = &mut tables.everything.subjects;
            if subjects.iter().any(|subject| subject.name == name) {
                return Ok(false);
            }
            subjects.push(Subject {
                name: name.to_owned(),
                tag: tag.to_owned(),
                updated_ms: now,
            });
            Ok(true)
        })
        .await
    }

    async fn add_route(&self, subject: &str, groups: &[String]) -> Outcome<bool> {
        self.change(|tables, now| {
            let routes = &mut tables.everything.routes;
            if routes.iter().any(|route| route.subject == subject) {
                return Ok(false);
            }
            routes.push(SubjectRoute {
                subject: subject.to_owned(),
                groups: groups.to_vec(),
                version: 0,
                updated_ms: now,
            });
            Ok(true)
        })
        .await
    }

    async fn change_route(&self, subject: &str, groups: &[String], version: i32) -> Outcome<bool> {
        self.change(|tables, now| {
            let mut routes = tables.everything.routes.iter_mut();
            let found = routes.find(|route| route.subject == subject && route.version == version);
            Ok(found
                .map(|route| {
                    route.groups = groups.to_vec();
                    route.version += 1;
                    route.updated_ms = now;
                })
                .is_some())
        })
        .await
    }

    async fn add_readonly(&self, row: &ReadonlyRow) -> Outcome<()> {
        self.change(|tables, _| {
            if !tables.everything.readonly.contains(row) {
                tables.everything.readonly.push(row.clone());
            }
            Ok(())
        })
        .await
    }

    async fn remove_readonly(&self, row: &ReadonlyRow) -> Outcome<bool> {
        self.change(|tables, _| {
            let before = tables.everything.readonly.len();
            tables.everything.readonly.retain(|other| other != row);
            Ok(tables.everything.readonly.len() < before)
        })
        .await
    }

    async fn switch_off(&self, row: &OfflineRow) -> Outcome<()> {
        self.change(|tables, _| {
            if !tables.everything.offline.contains(row) {
                tables.everything.offline.push(row.clone());
            }
            Ok(())
        })
        .await
    }

    async fn switch_on(&self, row: &OfflineRow) -> Outcome<u64> {
        self.change(|tables, _| {
            let before = tables.everything.offline.len();
            tables.everything.offline.retain(|other| {
                let same = (&other.subject, &other.group) == (&row.subject, &row.group);
                !(same && (row.client == "*" || other.client == row.client))
            });
            Ok((before - tables.everything.offline.len()) as u64)
        })
        .await
    }

    async fn add_clients(&self, rows: &[ClientRow]) -> Outcome<()> {
        self.answer().await?;
        if let Some(row) = rows.iter().find(|row| row.client.chars().count() > 100) {
            return Err(DatabaseError::TooLong {
                table: "client_meta_info",
                column: "client_id",
                limit: 100,
                len: row.client.chars().count(),
                value: row.client.clone(),
            });
        }
        self.tables.lock().clients.extend_from_slice(rows);
        Ok(())
    }

    async fn consumers(&self, subject: &str) -> Outcome<Vec<ClientRow>> {
        self.answer().await?;
        let tables = self.tables.lock();
        let consumes =
            |row: &&ClientRow| row.subject == subject && row.kind == ClientKind::Consumer;
        Ok(tables.clients.iter().filter(consumes).cloned().collect())
    }

    async fn set_retiring(&self, name: &str, retiring: bool) -> Outcome<bool> {
        self.change(|tables, _| {
            Ok(group_of(tables, name)
                .map(|group| group.retiring = retiring)
                .is_some())
        })
        .await
    }

    async fn remove_group(&self, name: &str) -> Outcome<()> {
        self.change(|tables, _| {
            let everything = &mut tables.everything;
            if (everything.routes.iter())
                .any(|route| route.groups.iter().any(|group| group == name))
            {
                return Err(DatabaseError::Refused {
                    doing: "removing a group",
                    reason: "a route names it".to_owned(),
                });
            }
            everything.groups.retain(|group| group.name != name);
            everything.brokers.retain(|broker| broker.group != name);
            tables.removed.insert(name.to_owned());
            Ok(())
        })
        .await
    }

    async fn set_group_tag(&self, name: &str, kind: GroupKind, tag: &str) -> Outcome<bool> {
        self.change(|tables, _| {
            Ok(group_of(tables, name)
                .map(|group| {
                    group.kind = kind;
                    tag.clone_into(&mut group.tag);
                })
                .is_some())
        })
        .await
    }

    async fn add_data_source(&self, _: &DataSource) -> Outcome<()> {
        self.change(|_, _| Ok(())).await
    }

    async fn data_sources(&self, _: &str) -> Outcome<Vec<DataSource>> {
        self.answer().await.map(|()| Vec::new())
    }

    async fn close(&self) {}
}

/// Repeatable chance.
pub(crate) fn random(mut seed: u64) -> qmq_meta::Random {
    Box::new(move |below| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    })
}

/// Reads every 20 ms; producers take no time to leave.
pub(crate) fn options(name: &str) -> MetaOptions {
    let mut options = MetaOptions::new(name, random(7));
    options.refresh = Duration::from_millis(20);
    options.settle = Duration::ZERO;
    options
}

/// Reads only when something makes it.
pub(crate) fn still(name: &str) -> MetaOptions {
    let mut options = options(name);
    options.refresh = Duration::from_secs(3600);
    options.heartbeat_timeout_ms = Arc::new(AtomicU64::new(24 * 3600 * 1000));
    options
}

pub(crate) fn broker(group: &str, role: BrokerRole, hostname: &str, ip: &str, port: u16) -> Broker {
    Broker {
        group: group.to_owned(),
        role,
        hostname: hostname.to_owned(),
        ip: ip.to_owned(),
        serve_port: port,
        sync_port: Some(port + 1),
    }
}

pub(crate) fn liveness(broker: &Broker) -> Liveness {
    Liveness {
        group: broker.group.clone(),
        role: broker.role,
        address: format!("{}:{}", broker.ip, broker.serve_port),
        state: GroupState::ReadWrite,
        epoch: 0,
    }
}

/// Master number `number`, on its own machine, in the group `g<number>`.
pub(crate) fn master(number: u16) -> Broker {
    let ip = format!("10.0.{}.{}", number / 250, number % 250 + 1);
    broker(
        &format!("g{number}"),
        BrokerRole::Master,
        &format!("host{number}"),
        &ip,
        20881,
    )
}

pub(crate) async fn present(meta: &Meta, presence: Presence, broker: &Broker) -> bool {
    let said = liveness(broker);
    let heard = meta
        .present(presence, &broker.hostname, broker.serve_port, &said)
        .await;
    heard.unwrap().stored
}

/// Enters and starts masters `g0` to `g<count - 1>`.
pub(crate) async fn masters(meta: &Meta, count: u16) {
    for number in 0..count {
        start(meta, &master(number)).await;
    }
}

pub(crate) async fn start(meta: &Meta, broker: &Broker) {
    meta.add_broker(broker).await.unwrap();
    assert!(present(meta, Presence::Online, broker).await);
}

pub(crate) fn ask(subject: &str, kind: ClientKind) -> RouteRequest {
    RouteRequest {
        subject: subject.to_owned(),
        kind,
        group: if kind == ClientKind::Consumer {
            "ticket"
        } else {
            ""
        }
        .to_owned(),
        client: "client-1".to_owned(),
        application: "app".to_owned(),
        room: String::new(),
    }
}

pub(crate) async fn producer(meta: &Meta, subject: &str) -> RouteAnswer {
    meta.route(&ask(subject, ClientKind::Producer))
        .await
        .unwrap()
}

pub(crate) async fn consumer(meta: &Meta, subject: &str) -> RouteAnswer {
    meta.route(&ask(subject, ClientKind::Consumer))
        .await
        .unwrap()
}

pub(crate) fn names(answer: &RouteAnswer) -> Vec<&str> {
    (answer.groups.iter())
        .map(|routed| routed.group.name.as_str())
        .collect()
}

/// Waits until `is_so`, 20 s at most.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
