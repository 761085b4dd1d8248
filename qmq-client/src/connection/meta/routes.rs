//! What a client wants to know of meta servers, and what it knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use qmq_wire::{Code, Interest, Purpose, Retry, Route, RouteGroup};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::Place;
use super::session;
use crate::config::ClientConfig;
use crate::connection::{ConnectionState, Dialer, Link, Pool};
use crate::error::ConnectError;

/// Most interests of a client.
pub(crate) const INTERESTS_MAX: usize = 100_000;

/// What is known of an interest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The last route that was told.
    pub(crate) route: Option<Arc<Route>>,
    /// What a meta server said in place of one.
    pub(crate) refusal: Option<RouteRefusal>,
}

/// Why a meta server tells no route.
#[derive(Clone, Debug)]
pub(crate) struct RouteRefusal {
    /// The address of the meta server.
    pub(crate) meta: Arc<str>,
    pub(crate) code: Code,
    /// For a person.
    pub(crate) text: Arc<str>,
}

impl std::fmt::Display for RouteRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, text, .. } = self;
        write!(f, "the meta server refused ({code}): {text}")
    }
}

impl Known {
    /// Why there is no route, if that will not change by itself.
    pub(crate) fn lasting_refusal(&self) -> Option<&RouteRefusal> {
        let refusal = self.refusal.as_ref()?;
        (self.route.is_none() && refusal.code.retry() == Retry::Never).then_some(refusal)
    }
}

/// Why an interest is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWatched {
    #[error(
        "this client follows {INTERESTS_MAX} routes already; use fewer subjects, or more clients"
    )]
    TooMany,
    #[error("the client is closed")]
    Closed,
}

/// How the client is connected to its meta servers.
#[derive(Clone, Debug)]
pub(crate) struct MetaStanding {
    /// The address of the one that is connected, or as the application gave it.
    pub(crate) address: Arc<str>,
    pub(crate) state: ConnectionState,
    /// Why there is no connection, as far as is known.
    pub(crate) trouble: Option<ConnectError>,
    pub(crate) link: Option<Arc<Link>>,
}

/// The routes that a client follows, and the task that hears of them.
#[derive(Debug)]
pub(crate) struct Routes {
    interests: Arc<Interests>,
    task: AbortHandle,
}

/// Interests and what is known of them; shared with the task.
#[derive(Debug)]
pub(super) struct Interests {
    pub(super) table: Mutex<Table>,
    /// Something has changed that the meta server must be told.
    pub(super) changed: Notify,
    pub(super) standing: watch::Sender<MetaStanding>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    numbers: HashMap<Arc<Interest>, u32>,
    /// By number.
    pub(super) entries: BTreeMap<u32, Entry>,
    next: u32,
    /// A meta server is connected, and is told of changes.
    live: bool,
    /// Not told to it yet: numbers to watch, and not to watch any more.
    pub(super) begun: Vec<u32>,
    pub(super) ended: Vec<u32>,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) interest: Arc<Interest>,
    pub(super) known: watch::Sender<Known>,
    users: usize,
}

impl Routes {
    /// Begins to connect.
    pub(crate) fn start(
        places: &[Place],
        config: &Arc<ClientConfig>,
        dialer: &Arc<Dialer>,
        pool: &Arc<Pool>,
    ) -> Self {
        let first = places.first().map_or("", Place::text);
        let interests = Arc::new(Interests {
            table: Mutex::default(),
            changed: Notify::new(),
            standing: watch::Sender::new(MetaStanding {
                address: first.into(),
                state: ConnectionState::Connecting,
                trouble: None,
                link: None,
            }),
        });
        let session = session::Session {
            interests: Arc::clone(&interests),
            config: Arc::clone(config),
            dialer: Arc::clone(dialer),
        };
        let pool = Arc::downgrade(pool);
        let task = tokio::spawn(session.run(places.to_vec(), pool));
        Self {
            interests,
            task: task.abort_handle(),
        }
    }

    /// Follows the route of an interest, for as long as the answer is kept.
    pub(crate) fn watch(&self, interest: Interest) -> Result<Watched, NotWatched> {
        let mut table = self.interests.table.lock();
        if table.closed {
            return Err(NotWatched::Closed);
        }
        let number = match table.numbers.get(&interest) {
            Some(number) => *number,
            None if table.entries.len() >= INTERESTS_MAX => return Err(NotWatched::TooMany),
            None => table.begin(interest),
        };
        let entry = table.entries.get_mut(&number);
        let known = entry.map(|entry| {
            entry.users += 1;
            entry.known.subscribe()
        });
        drop(table);
        self.interests.changed.notify_one();
        Ok(Watched {
            number,
            known: known.ok_or(NotWatched::Closed)?,
            interests: Arc::clone(&self.interests),
        })
    }

    pub(crate) fn standing(&self) -> watch::Receiver<MetaStanding> {
        self.interests.standing.subscribe()
    }

    /// The meta server that is connected; waits until one is.
    pub(crate) async fn link(&self) -> Result<(Arc<str>, Arc<Link>), ConnectError> {
        let mut standing = self.standing();
        let seen = standing
            .wait_for(|standing| {
                standing.link.is_some() || standing.state == ConnectionState::Closed
            })
            .await
            .map_err(|_| ConnectError::ClientClosed)?;
        match &seen.link {
            Some(link) => Ok((Arc::clone(&seen.address), Arc::clone(link))),
            None => Err(ConnectError::ClientClosed),
        }
    }

    /// Where a group of delay servers is, by the routes that are followed.
    pub(crate) fn delay_group(&self, name: &str) -> Option<RouteGroup> {
        let table = self.interests.table.lock();
        let entries = table.entries.values();
        let delayed = entries.filter(|entry| entry.interest.purpose == Purpose::Delay);
        let routes = delayed.filter_map(|entry| entry.known.borrow().route.clone());
        let newest = routes
            .flat_map(|route| {
                let named = |group: &&RouteGroup| group.name == name && !group.master.is_empty();
                let group = route.groups.iter().find(named).cloned();
                group.map(|group| (route.stamp, group))
            })
            .max_by_key(|(stamp, group)| (group.epoch, *stamp));
        newest.map(|(_, group)| group)
    }

    /// Whether the client is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.interests.table.lock().closed
    }

    /// Hears of no more routes. Those who follow one are told.
    pub(crate) fn close(&self) {
        self.task.abort();
        {
            let mut table = self.interests.table.lock();
            table.closed = true;
            table.numbers.clear();
            table.entries.clear();
        }
        self.interests.standing.send_modify(|standing| {
            standing.state = ConnectionState::Closed;
            standing.link = None;
        });
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.close();
    }
}

impl Table {
    fn begin(&mut self, interest: Interest) -> u32 {
        while self.entries.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let interest = Arc::new(interest);
        self.numbers.insert(Arc::clone(&interest), number);
        let entry = Entry {
            interest,
            known: watch::Sender::default(),
            users: 0,
        };
        self.entries.insert(number, entry);
        if self.live {
            self.begun.push(number);
        }
        number
    }

    /// A meta server is connected and must be told of all interests, or is not any more.
    pub(super) fn connected(&mut self, live: bool) {
        self.live = live;
        self.ended.clear();
        self.begun = match live {
            true => self.entries.keys().copied().collect(),
            false => Vec::new(),
        };
    }

    /// A route was told. An older one than what is known is not taken; nor is one without groups from a meta server that cannot see its database.
    pub(super) fn heard(&mut self, number: u32, route: Route) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        entry.known.send_if_modified(|known| {
            let older = known.route.as_ref().is_some_and(|before| {
                let emptied = route.stale && route.groups.is_empty() && !before.groups.is_empty();
                route.stamp < before.stamp || emptied
            });
            if older {
                return false;
            }
            let same = known.refusal.is_none() && known.route.as_deref() == Some(&route);
            known.refusal = None;
            known.route = Some(Arc::new(route));
            !same
        });
    }

    /// A meta server refused to tell. What is known stays known.
    pub(super) fn refused(&mut self, number: u32, refusal: RouteRefusal) {
        if let Some(entry) = self.entries.get(&number) {
            entry
                .known
                .send_modify(|known| known.refusal = Some(refusal));
        }
    }
}

/// An interest that is followed until this is dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    number: u32,
    known: watch::Receiver<Known>,
    interests: Arc<Interests>,
}

impl Watched {
    /// What is known now.
    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Tells of changes; its end means that the client is closed.
    pub(crate) fn changes(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// Why there is no route, as far as is known.
    pub(crate) fn trouble(&self) -> String {
        if let Some(refusal) = &self.known.borrow().refusal {
            return refusal.to_string();
        }
        let standing = self.interests.standing.borrow();
        match (&standing.trouble, &standing.link) {
            (Some(trouble), _) => trouble.to_string(),
            (None, Some(_)) => {
                format!("the meta server {} has not answered yet", standing.address)
            }
            (None, None) => format!("the meta server {} is not connected yet", standing.address),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut table = self.interests.table.lock();
        let Some(entry) = table.entries.get_mut(&self.number) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0
            && let Some(entry) = table.entries.remove(&self.number)
        {
            table.numbers.remove(&entry.interest);
            if table.live {
                table.ended.push(self.number);
                drop(table);
                self.interests.changed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let interests = Arc::new(Interests {
            table: Mutex::default(),
            changed: Notify::new(),
            standing: watch::Sender::new(MetaStanding {
                address: "".into(),
                state: ConnectionState::Connecting,
                trouble: None,
                link: None,
            }),
        });
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        Routes { interests, task }
    }

    fn interest(number: usize) -> Interest {
        Interest {
            subject: number.to_string(),
            purpose: Purpose::Produce,
            group: String::new(),
            client: String::new(),
            application: String::new(),
            room: String::new(),
        }
    }

    #[tokio::test]
    async fn interests_are_bounded_and_shared() {
        let routes = routes();
        let watch = |number: usize| routes.watch(interest(number));
        let mut all: Vec<Watched> = (0..INTERESTS_MAX)
            .map(|number| watch(number).unwrap())
            .collect();
        assert_eq!(watch(INTERESTS_MAX).unwrap_err(), NotWatched::TooMany);
        assert!(watch(0).is_ok(), "one more of the same takes no room");
        all.pop();
        assert!(watch(INTERESTS_MAX).is_ok());
        drop(all);
        assert!(routes.interests.table.lock().entries.is_empty());
        assert!(routes.interests.table.lock().numbers.is_empty());
    }

    #[tokio::test]
    async fn an_older_route_changes_nothing_and_the_end_is_told() {
        let routes = routes();
        let watched = routes.watch(interest(1)).unwrap();
        let hear = |stamp| {
            let route = Route {
                stamp,
                ..Route::default()
            };
            let mut table = routes.interests.table.lock();
            table.heard(watched.number, route);
        };
        let stamp = || watched.known().route.map(|route| route.stamp);
        hear(5);
        hear(4);
        assert_eq!(stamp(), Some(5));
        hear(6);
        assert_eq!(stamp(), Some(6));
        routes.close();
        assert!(watched.changes().has_changed().is_err());
        assert_eq!(routes.watch(interest(1)).unwrap_err(), NotWatched::Closed);
    }
}
