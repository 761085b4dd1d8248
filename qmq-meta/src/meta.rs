//! The handle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::answers::{Acquired, Heard, Presence, RouteAnswer, RouteRequest};
use crate::clients::clients;
use crate::database::{Database, Liveness};
use crate::model::{
    Broker, BrokerGroup, BrokerRole, ClientRow, DataSource, GroupKind, Standing, Subject,
    SubjectRoute,
};
use crate::options::MetaOptions;
use crate::problem::MetaError;
use crate::refresh::keep_fresh;
use crate::routing::real_subject;
use crate::share::{Emptiness, Plan, Progress};
use crate::shared::Shared;
use crate::status::MetaStatus;

/// A meta server. Clones are cheap and are the same one; its background tasks end with the last of them, or with [`Meta::close`].
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

type Done<T> = Result<T, MetaError>;

/// How long [`Meta::close`] waits for what is still to be written.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// The background tasks, which end with this.
struct Tasks {
    refresh: AbortHandle,
    clients: AbortHandle,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.refresh.abort();
        self.clients.abort();
    }
}

impl Meta {
    /// Reads everything from the database, or from the snapshot file if the database is away, and starts the tasks that keep it fresh.
    ///
    /// # Errors
    /// The database is there but no good: [`MetaError::Database`]. (Away is no error: the snapshot is used, or, without one, routes are
    /// [`MetaError::Unavailable`] until it is back.)
    pub async fn start(database: Arc<dyn Database>, options: MetaOptions) -> Done<Self> {
        let (clients, writer) = clients();
        let shared = Arc::new(Shared::new(database, options, clients));
        shared.first_read().await?;
        let pause = shared.pause();
        let refresh = tokio::spawn(keep_fresh(Arc::downgrade(&shared), pause)).abort_handle();
        let clients = tokio::spawn(writer.write(shared.database.clone(), pause)).abort_handle();
        let tasks = Arc::new(Tasks { refresh, clients });
        Ok(Self { shared, tasks })
    }

    /// A number that grows when a route may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> MetaStatus {
        self.shared.status()
    }

    /// Ends the background tasks, writes what waits to be written as far as the database takes it within 10 s, and lets go of the database.
    pub async fn close(&self) {
        self.tasks.refresh.abort();
        let _ = timeout(CLOSE_WAIT, self.shared.read_anew()).await;
        self.shared.save().await;
        if !self.shared.is_away() {
            let _ = timeout(CLOSE_WAIT, self.shared.clients.drain()).await;
        }
        self.tasks.clients.abort();
        let _ = timeout(CLOSE_WAIT, self.shared.database.close()).await;
    }

    /// Who serves a subject. An unknown subject is given groups, which are stored.
    ///
    /// # Errors
    /// [`MetaError::Name`]; [`MetaError::Database`] if the name does not fit its column; [`MetaError::Unavailable`] if the database is away and no
    /// group is known.
    pub async fn route(&self, request: &RouteRequest) -> Done<RouteAnswer> {
        self.shared.route(request).await
    }

    /// What the node that is entered under this host name and port is. With a claim (pass one only of a caller that is proven to be a node) a node that
    /// is not entered is entered; where the table says otherwise the table wins.
    ///
    /// # Errors
    /// [`MetaError::UnknownNode`], whose text has the line to type; [`MetaError::Refused`] if the claim breaks a rule or what the node should copy is
    /// not entered; [`MetaError::Unavailable`] if the database is away and the node is not known.
    pub async fn acquire(
        &self,
        hostname: &str,
        port: u16,
        claim: Option<&Broker>,
    ) -> Done<Acquired> {
        self.shared.acquire(hostname, port, claim).await
    }

    /// Takes down that a node lives, starts or ends. Only masters change their group's state.
    ///
    /// # Errors
    /// [`MetaError::UnknownNode`]; [`MetaError::WrongRole`] if it is entered in another group or role; [`MetaError::Fenced`] if its epoch is old.
    pub async fn present(
        &self,
        presence: Presence,
        hostname: &str,
        port: u16,
        liveness: &Liveness,
    ) -> Done<Heard> {
        self.shared
            .present(presence, hostname, port, liveness)
            .await
    }

    /// Raises a group's epoch from `known` by one, for this master (`host:port`). Exactly one of several callers gets it.
    ///
    /// # Errors
    /// [`MetaError::Fenced`] if it is not `known` any more.
    pub async fn grant_epoch(&self, group: &str, known: u64, master: &str) -> Done<u64> {
        self.shared.grant_epoch(group, known, master).await
    }

    /// Enters a broker (`AddBroker`).
    ///
    /// # Errors
    /// [`MetaError::Refused`] names the rule; [`MetaError::Database`].
    pub async fn add_broker(&self, broker: &Broker) -> Done<Broker> {
        self.shared.add_broker(broker).await
    }

    /// Puts a broker in the place of the one with the same group and role, which is returned (`ReplaceBroker`).
    ///
    /// # Errors
    /// As [`Meta::add_broker`]; [`MetaError::Refused`] if there is none.
    pub async fn replace_broker(&self, broker: &Broker) -> Done<Broker> {
        self.shared.replace_broker(broker).await
    }

    /// The brokers of a group, or all (`ListBrokers`), in the order in which they were entered; as they were at the last refresh.
    #[must_use]
    pub fn brokers(&self, group: Option<&str>) -> Vec<Broker> {
        let known = self.shared.known.read();
        let wanted = |broker: &&Broker| group.is_none_or(|group| broker.group == group);
        known
            .picture
            .entered
            .iter()
            .filter(wanted)
            .cloned()
            .collect()
    }

    /// All groups, by name (`ListBrokerGroups`).
    #[must_use]
    pub fn groups(&self) -> Vec<BrokerGroup> {
        self.shared
            .known
            .read()
            .picture
            .groups
            .values()
            .cloned()
            .collect()
    }

    /// All routes, by subject (`ListSubjectRoutes`).
    #[must_use]
    pub fn routes(&self) -> Vec<SubjectRoute> {
        let mut routes: Vec<SubjectRoute> =
            self.shared.known.read().picture.routes().cloned().collect();
        routes.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        routes
    }

    /// All subjects, by name.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = self
            .shared
            .known
            .read()
            .picture
            .subjects
            .values()
            .cloned()
            .collect();
        subjects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        subjects
    }

    /// Adds a group to a subject's route (`AddSubjectBrokerGroup`).
    ///
    /// # Errors
    /// [`MetaError::AlreadyRouted`]; [`MetaError::Refused`] names the rule.
    pub async fn add_subject_group(&self, group: &str, subject: &str) -> Done<SubjectRoute> {
        self.shared.add_subject_group(group, subject).await
    }

    /// Takes a group out of a subject's route, or of all (`*`) (`RemoveSubjectBrokerGroup`). Subjects where that was refused, and why.
    ///
    /// # Errors
    /// [`MetaError::Refused`] for a subject or group that is not there; [`MetaError::Database`].
    pub async fn remove_subject_group(
        &self,
        group: &str,
        subject: &str,
    ) -> Done<BTreeMap<String, String>> {
        self.shared.remove_subject_group(group, subject).await
    }

    /// Adds a subject with a tag; empty: `_default_` (`AddNewSubject`).
    ///
    /// # Errors
    /// [`MetaError::SubjectExists`]; [`MetaError::Name`].
    pub async fn add_subject(&self, name: &str, tag: &str) -> Done<Subject> {
        self.shared.add_subject(name, tag).await
    }

    /// Adds `new_group` to the routes that have `related_group`, of one subject or of all (`*`) (`ExtendSubjectRoute`). How many it changed.
    ///
    /// # Errors
    /// [`MetaError::Refused`] names the rule.
    pub async fn extend_route(
        &self,
        related_subject: &str,
        related_group: &str,
        new_group: &str,
    ) -> Done<u64> {
        (self.shared)
            .extend_route(related_subject, related_group, new_group)
            .await
    }

    /// Adds or changes a database of messages to be sent (`AddDb`).
    ///
    /// # Errors
    /// [`MetaError::Database`].
    pub async fn add_data_source(&self, source: &DataSource) -> Done<()> {
        let added = self.shared.database.add_data_source(source).await;
        Ok(self.shared.noted(added)?)
    }

    /// The databases of a room; empty: all.
    ///
    /// # Errors
    /// [`MetaError::Database`].
    pub async fn data_sources(&self, room: &str) -> Done<Vec<DataSource>> {
        let sources = self.shared.database.data_sources(room).await;
        Ok(self.shared.noted(sources)?)
    }

    /// Makes a group read-only for a subject, or for all (`*`): producers leave it (`MarkReadonlyBrokerGroup`).
    ///
    /// # Errors
    /// [`MetaError::Refused`] names the rule; [`MetaError::Database`].
    pub async fn mark_readonly(&self, subject: &str, group: &str) -> Done<()> {
        self.shared.mark_readonly(subject, group).await
    }

    /// Undoes [`Meta::mark_readonly`] (`UnMarkReadonlyBrokerGroup`). Whether it was marked.
    ///
    /// # Errors
    /// [`MetaError::Database`].
    pub async fn unmark_readonly(&self, subject: &str, group: &str) -> Done<bool> {
        self.shared.unmark_readonly(subject, group).await
    }

    /// Switches consumers on or off; `*` stands for any client, or for any subject and group.
    ///
    /// # Errors
    /// [`MetaError::Refused`] for a pattern that nothing matches; [`MetaError::Database`].
    pub async fn switch(
        &self,
        client: &str,
        subject: &str,
        group: &str,
        standing: Standing,
    ) -> Done<()> {
        self.shared.switch(client, subject, group, standing).await
    }

    /// Whether a consumer is switched on.
    #[must_use]
    pub fn standing(&self, client: &str, subject: &str, group: &str) -> Standing {
        let Ok(subject) = real_subject(subject) else {
            return Standing::Online;
        };
        self.shared
            .known
            .read()
            .picture
            .standing(client, subject, group)
    }

    /// The clients that consume a subject, by group and client; 10,000 at most.
    ///
    /// # Errors
    /// [`MetaError::Database`]; [`MetaError::Name`].
    pub async fn consumers(&self, subject: &str) -> Done<Vec<ClientRow>> {
        self.shared.consumers(subject).await
    }

    /// The slave of a group, for `/slave/meta`; of several the first by host name.
    #[must_use]
    pub fn slave_of(&self, group: &str) -> Option<Broker> {
        let known = self.shared.known.read();
        (known.picture.broker_in(group, BrokerRole::Slave))
            .or_else(|| known.picture.broker_in(group, BrokerRole::DelaySlave))
            .cloned()
    }

    /// The groups that serve a subject, for `ResetOffset`; also those that are away, retiring or read-only.
    #[must_use]
    pub fn masters_of(&self, subject: &str) -> Vec<BrokerGroup> {
        self.shared.masters_of(subject)
    }

    /// Sets kind and tag of a group.
    ///
    /// # Errors
    /// [`MetaError::Refused`] if there is none, or its brokers are of the other kind.
    pub async fn set_group_tag(&self, group: &str, kind: GroupKind, tag: &str) -> Done<()> {
        self.shared.set_group_tag(group, kind, tag).await
    }

    /// What a rebalance would do now; changes nothing.
    #[must_use]
    pub fn rebalance_plan(&self) -> Plan {
        self.shared.rebalance_plan()
    }

    /// One step of a rebalance: begins at most `begin_max` moves, and ends those begun earlier whose group is empty for the subject. Call again until
    /// [`Progress::is_done`]. All state is in the database: another meta server, or this one after a restart, can go on.
    ///
    /// # Errors
    /// [`MetaError::Unavailable`] while the database is away.
    pub async fn rebalance(&self, begin_max: usize, emptiness: &dyn Emptiness) -> Done<Progress> {
        self.shared.rebalance(begin_max, emptiness).await
    }

    /// What a decommission of a group would do now; changes nothing.
    ///
    /// # Errors
    /// [`MetaError::Refused`] if some subject would be left without a group to write to.
    pub fn decommission_plan(&self, group: &str) -> Done<Plan> {
        self.shared.decommission_plan(group)
    }

    /// One step of a decommission: marks the group as retiring, gives at most `begin_max` of its subjects another group, and takes it out of the routes
    /// of subjects for which it is empty. Call again until [`Progress::is_done`], then [`Meta::drop_group`].
    ///
    /// # Errors
    /// [`MetaError::Refused`] if some subject would be left without a group to write to; [`MetaError::Unavailable`] while the database is away.
    pub async fn decommission(
        &self,
        group: &str,
        begin_max: usize,
        emptiness: &dyn Emptiness,
    ) -> Done<Progress> {
        self.shared.decommission(group, begin_max, emptiness).await
    }

    /// Ends a decommission without doing it: the group is as others again; subjects that it has left stay away.
    ///
    /// # Errors
    /// [`MetaError::Refused`] if there is no such group.
    pub async fn recommission(&self, group: &str) -> Done<()> {
        self.shared.set_retiring(group, false).await
    }

    /// Deletes a group that is retiring and that no route names, with its brokers.
    ///
    /// # Errors
    /// [`MetaError::Refused`] names what still uses it.
    pub async fn drop_group(&self, group: &str) -> Done<()> {
        self.shared.drop_group(group).await
    }
}
