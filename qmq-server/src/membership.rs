//! A node's place in its cluster: it asks the meta servers what it is, and tells them that it lives.
//!
//! Brokers and delay servers are entered in the meta server's table by host name and port (`qmq tools AddBroker`), as in QMQ. Unlike QMQ's, a node that
//! nobody has entered does not exit: it says the line to type, and goes on asking. With a claim (`broker.group`, `broker.role`) and a node's credential
//! it enters itself. Where the table says otherwise the table counts, and the log says so.
//!
//! What a meta server said last lies in a file of the store's folder: a node that starts while none can be reached is what it was.
//!
//! ```text
//! asking -- unknown, denied, a role that it cannot play --> waiting (says why, asks again)
//!   | \ none can be reached, and the file says what it was --> serving
//!   `-- the table says what it is ------------------------> serving -- the table has made it another --> stopped
//! ```

mod advice;
mod discover;
mod keeper;
mod link;
mod options;
mod remembered;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_wire::{Acquired, NodeRole};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

pub(crate) use discover::join as host_and_port;
pub use discover::{DiscoverError, Discovered, HttpLimits, meta_address};
use keeper::Keeper;
pub use options::{MembershipOptions, NodeKind, Timing};

/// Whether a node may serve, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Nobody has said what it is.
    Waiting {
        /// What it waits for, and what to type.
        why: String,
    },
    /// It serves.
    Serving {
        /// As what.
        acquired: Acquired,
        /// No meta server has said so since this process began: the file has.
        remembered: bool,
    },
    /// It served, and does not any more.
    Stopped {
        /// As what it served.
        acquired: Acquired,
        /// Why it does not any more.
        why: String,
    },
}

impl Standing {
    /// What the node is, or was.
    #[must_use]
    pub fn acquired(&self) -> Option<&Acquired> {
        match self {
            Self::Waiting { .. } => None,
            Self::Serving { acquired, .. } | Self::Stopped { acquired, .. } => Some(acquired),
        }
    }

    /// Why it does not serve; `None`: it does.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Waiting { why } | Self::Stopped { why, .. } => Some(why),
            Self::Serving { .. } => None,
        }
    }
}

/// What the task and its owner share.
#[derive(Debug)]
struct Shared {
    standing: watch::Sender<Standing>,
    online: AtomicBool,
    writable: AtomicBool,
    /// There is something to be said before the next heartbeat is due.
    changed: Notify,
    /// When a meta server has heard of the node, and what is wrong since.
    contact: Mutex<Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    heard: Option<Instant>,
    trouble: Option<String>,
}

impl Shared {
    fn acquired(&self) -> Option<Acquired> {
        self.standing.borrow().acquired().cloned()
    }

    fn is_waiting(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Waiting { .. })
    }

    fn may_serve(&self) -> bool {
        self.standing.borrow().refusal().is_none()
    }

    fn serve(&self, acquired: Acquired, remembered: bool) {
        if !remembered {
            self.contact.lock().trouble = None;
        }
        self.standing.send_replace(Standing::Serving {
            acquired,
            remembered,
        });
    }

    fn wait(&self, why: &str) {
        self.standing.send_replace(Standing::Waiting {
            why: why.to_owned(),
        });
    }

    fn stop(&self, why: &str) {
        match self.acquired() {
            None => self.wait(why),
            Some(acquired) => {
                let why = why.to_owned();
                self.standing
                    .send_replace(Standing::Stopped { acquired, why });
            }
        }
    }

    fn heard(&self) {
        let mut contact = self.contact.lock();
        contact.heard = Some(Instant::now());
        contact.trouble = None;
    }

    fn trouble(&self, text: &str) {
        self.contact.lock().trouble = Some(text.to_owned());
    }
}

/// A node's place in its cluster. A clone is the same; dropping the last one ends the asking, and says nothing to the meta servers.
#[derive(Clone, Debug)]
pub struct Membership {
    shared: Arc<Shared>,
    kind: NodeKind,
    offline: mpsc::Sender<oneshot::Sender<bool>>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Membership {
    /// Begins to ask, in a task of the runtime that this is called in.
    #[must_use]
    pub fn start(options: MembershipOptions) -> Self {
        let kind = options.kind;
        let shared = Arc::new(Shared {
            standing: watch::Sender::new(Standing::Waiting {
                why: format!(
                    "this {} has not heard from a meta server yet what it is",
                    kind.word()
                ),
            }),
            online: AtomicBool::new(false),
            writable: AtomicBool::new(true),
            changed: Notify::new(),
            contact: Mutex::default(),
        });
        let (offline, mut ends) = mpsc::channel::<oneshot::Sender<bool>>(1);
        let mut keeper = Keeper::new(Arc::new(options), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let end = tokio::select! {
                () = keeper.keep() => None,
                end = ends.recv() => end,
            };
            if let Some(told) = end {
                let _ = told.send(keeper.offline().await);
            }
        });
        Self {
            shared,
            kind,
            offline,
            _task: Arc::new(Task(task.abort_handle())),
        }
    }

    /// Whether the node may serve, and as what, now and whenever it changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Waits until the node knows that it takes messages, and as what: however long that takes. A node that the table has in a role that this
    /// program cannot play goes on waiting, as one that is not known.
    pub async fn acquired(&self) -> Acquired {
        let mut standing = self.standing();
        loop {
            let seen = standing.borrow_and_update().clone();
            if let Standing::Serving { acquired, .. } = seen {
                return acquired;
            }
            if standing.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What the node is, or was, as far as is known.
    #[must_use]
    pub fn known(&self) -> Option<Acquired> {
        self.shared.acquired()
    }

    /// Its role, as far as is known.
    #[must_use]
    pub fn role(&self) -> Option<NodeRole> {
        self.known().map(|acquired| acquired.role)
    }

    /// Which program this is.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// What keeps it from serving, or from being heard; `None`: nothing.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let waiting = self.shared.standing.borrow().refusal().map(str::to_owned);
        let contact = self.shared.contact.lock();
        contact.trouble.clone().or(waiting)
    }

    /// How long ago a meta server heard of it last; `None`: never.
    #[must_use]
    pub fn heard(&self) -> Option<Duration> {
        let heard = self.shared.contact.lock().heard;
        heard.map(|at| at.elapsed())
    }

    /// From now on the meta servers are told that it lives: its doors are open.
    pub fn online(&self) {
        self.shared.online.store(true, Ordering::Release);
        self.shared.changed.notify_one();
    }

    /// Whether it takes messages: the meta servers are told at once if that has changed.
    pub fn set_writable(&self, writable: bool) {
        if self.shared.writable.swap(writable, Ordering::AcqRel) != writable {
            self.shared.changed.notify_one();
        }
    }

    /// Tells the meta servers that the node ends, in up to three attempts and for `limit` at most. Whether one has heard. No heartbeats follow.
    pub async fn offline(&self, limit: Duration) -> bool {
        if !self.shared.online.swap(false, Ordering::AcqRel) {
            return true;
        }
        let (tell, told) = oneshot::channel();
        let said = async {
            self.offline.send(tell).await.ok()?;
            told.await.ok()
        };
        let said = tokio::time::timeout(limit, said).await;
        said.ok().flatten().unwrap_or(false)
    }
}
