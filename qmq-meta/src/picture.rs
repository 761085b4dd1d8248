//! Everything that the database had when it was last read, arranged for questions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::database::Everything;
use crate::model::{
    Broker, BrokerGroup, BrokerRole, GroupKind, GroupState, OfflineRow, ReadonlyRow, Standing,
    Subject, SubjectRoute,
};

/// The tag of subjects and groups of which nobody said another.
pub(crate) const DEFAULT_TAG: &str = "_default_";
/// Stands for any, in read-only settings and switches.
pub(crate) const ANY: &str = "*";

/// Everything that the database had when it was last read, arranged for questions.
#[derive(Default)]
pub(crate) struct Picture {
    pub(crate) at: u64,
    pub(crate) subjects: HashMap<String, Subject>,
    pub(crate) groups: BTreeMap<String, BrokerGroup>,
    /// By group, role and host name.
    pub(crate) brokers: Vec<Broker>,
    /// The same in the order in which they were entered, as QMQ lists them.
    pub(crate) entered: Vec<Broker>,
    routes: HashMap<String, SubjectRoute>,
    /// Groups that are read-only, by subject or [`ANY`].
    readonly: HashMap<String, BTreeSet<String>>,
    /// Clients and groups that are switched off, by subject or [`ANY`].
    offline: HashMap<String, HashSet<(String, String)>>,
    /// Routes that name a group.
    loads: HashMap<String, u64>,
}

impl Picture {
    pub(crate) fn of(everything: Everything) -> Self {
        let mut picture = Self {
            at: everything.at,
            subjects: named(everything.subjects, |subject| subject.name.clone()),
            groups: everything
                .groups
                .into_iter()
                .map(|group| (group.name.clone(), group))
                .collect(),
            entered: everything.brokers.clone(),
            brokers: everything.brokers,
            ..Self::default()
        };
        picture.brokers.sort_by(|a, b| {
            (&a.group, a.role, &a.hostname, a.serve_port).cmp(&(
                &b.group,
                b.role,
                &b.hostname,
                b.serve_port,
            ))
        });
        for row in everything.readonly {
            let groups = picture.readonly.entry(row.subject).or_default();
            groups.insert(row.group);
        }
        for row in everything.offline {
            let consumers = picture.offline.entry(row.subject).or_default();
            consumers.insert((row.client, row.group));
        }
        for route in everything.routes {
            picture.put_route(route);
        }
        picture
    }

    /// What it was made of, for the snapshot.
    pub(crate) fn everything(&self) -> Everything {
        Everything {
            at: self.at,
            subjects: self.subjects.values().cloned().collect(),
            routes: self.routes.values().cloned().collect(),
            groups: self.groups.values().cloned().collect(),
            brokers: self.brokers.clone(),
            readonly: self.readonly_rows(),
            offline: (self.offline.iter())
                .flat_map(|(subject, consumers)| {
                    consumers.iter().map(|(client, group)| OfflineRow {
                        client: client.clone(),
                        subject: subject.clone(),
                        group: group.clone(),
                    })
                })
                .collect(),
        }
    }

    pub(crate) fn readonly_rows(&self) -> Vec<ReadonlyRow> {
        (self.readonly.iter())
            .flat_map(|(subject, groups)| {
                groups.iter().map(|group| ReadonlyRow {
                    subject: subject.clone(),
                    group: group.clone(),
                })
            })
            .collect()
    }

    /// Whether some client may get another answer than by `other`.
    pub(crate) fn routes_differ(&self, other: &Self) -> bool {
        let same_group = |a: &BrokerGroup, b: &BrokerGroup| {
            (a.kind, &a.master, a.state, &a.tag, a.epoch, a.retiring)
                == (b.kind, &b.master, b.state, &b.tag, b.epoch, b.retiring)
        };
        self.groups.len() != other.groups.len()
            || self.routes.len() != other.routes.len()
            || self.readonly != other.readonly
            || self.offline != other.offline
            || self.groups.iter().any(|(name, group)| {
                !(other.groups.get(name)).is_some_and(|theirs| same_group(group, theirs))
            })
            || self.routes.iter().any(|(subject, route)| {
                (other.routes.get(subject)).is_none_or(|theirs| theirs.groups != route.groups)
            })
    }

    /// Whether anything differs that the snapshot should have; times do not count.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        self.routes_differ(other)
            || self.brokers != other.brokers
            || self.subjects.len() != other.subjects.len()
            || self.subjects.values().any(|subject| {
                (other.subjects.get(&subject.name)).is_none_or(|theirs| theirs.tag != subject.tag)
            })
            || self.routes.values().any(|route| {
                (other.routes.get(&route.subject))
                    .is_none_or(|theirs| theirs.version != route.version)
            })
    }

    pub(crate) fn route(&self, subject: &str) -> Option<&SubjectRoute> {
        self.routes.get(subject)
    }

    pub(crate) fn routes(&self) -> impl ExactSizeIterator<Item = &SubjectRoute> {
        self.routes.values()
    }

    pub(crate) fn put_route(&mut self, route: SubjectRoute) {
        for group in &route.groups {
            *self.loads.entry(group.clone()).or_default() += 1;
        }
        let before = self.routes.insert(route.subject.clone(), route);
        for group in before.into_iter().flat_map(|route| route.groups) {
            if let Some(load) = self.loads.get_mut(&group) {
                *load = load.saturating_sub(1);
            }
        }
    }

    /// How many routes name a group.
    pub(crate) fn load(&self, group: &str) -> u64 {
        self.loads.get(group).copied().unwrap_or(0)
    }

    /// Whether producers of the subject leave the group to consumers because an operator or a rebalance said so.
    pub(crate) fn is_readonly(&self, subject: &str, group: &str) -> bool {
        self.is_readonly_for(ANY, group) || self.is_readonly_for(subject, group)
    }

    /// Whether there is a row with this very subject, or [`ANY`].
    pub(crate) fn is_readonly_for(&self, subject: &str, group: &str) -> bool {
        (self.readonly.get(subject)).is_some_and(|groups| groups.contains(group))
    }

    /// Whether a subject's producers may be sent to this group, now or when it is back.
    pub(crate) fn takes(&self, subject: &str, group: &str) -> bool {
        (self.groups.get(group)).is_some_and(|found| {
            found.kind == GroupKind::Normal && !found.retiring && !self.is_readonly(subject, group)
        })
    }

    /// Whether they can be sent there right now.
    pub(crate) fn takes_now(&self, subject: &str, group: &str) -> bool {
        self.takes(subject, group)
            && (self.groups.get(group)).is_some_and(|found| found.state.can_write())
    }

    pub(crate) fn standing(&self, client: &str, subject: &str, group: &str) -> Standing {
        let off = |subject: &str, client: &str, group: &str| {
            self.offline
                .get(subject)
                .is_some_and(|consumers| consumers.contains(&(client.to_owned(), group.to_owned())))
        };
        let is_off = !self.offline.is_empty()
            && (off(subject, client, group) || off(subject, ANY, group) || off(ANY, client, ANY));
        if is_off {
            Standing::Offline
        } else {
            Standing::Online
        }
    }

    pub(crate) fn broker(&self, hostname: &str, port: u16) -> Option<&Broker> {
        (self.brokers.iter())
            .find(|broker| broker.hostname == hostname && broker.serve_port == port)
    }

    pub(crate) fn brokers_of<'a, 'b>(
        &'a self,
        group: &'b str,
    ) -> impl Iterator<Item = &'a Broker> + use<'a, 'b> {
        self.brokers
            .iter()
            .filter(move |broker| broker.group == group)
    }

    pub(crate) fn broker_in(&self, group: &str, role: BrokerRole) -> Option<&Broker> {
        self.brokers_of(group).find(|broker| broker.role == role)
    }

    /// The groups that a new subject of this tag, or one with too few, may be given: of its tag, or of the default tag if no group bears its tag.
    pub(crate) fn eligible(&self, subject: &str) -> Vec<&BrokerGroup> {
        let tag = self
            .subjects
            .get(subject)
            .map_or(DEFAULT_TAG, |subject| real_tag(&subject.tag));
        let serving = |group: &&BrokerGroup| group.kind == GroupKind::Normal && !group.retiring;
        let has_tag =
            (self.groups.values().filter(serving)).any(|group| real_tag(&group.tag) == tag);
        let tag = if has_tag { tag } else { DEFAULT_TAG };
        (self.groups.values().filter(serving))
            .filter(|group| real_tag(&group.tag) == tag && group.state != GroupState::None)
            .filter(|group| !self.is_readonly(subject, &group.name))
            .collect()
    }
}

/// An empty tag is the default one.
fn real_tag(tag: &str) -> &str {
    if tag.is_empty() { DEFAULT_TAG } else { tag }
}

fn named<T>(rows: Vec<T>, name: impl Fn(&T) -> String) -> HashMap<String, T> {
    rows.into_iter().map(|row| (name(&row), row)).collect()
}
