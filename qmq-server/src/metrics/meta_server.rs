//! What monitoring sees of a meta server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use qmq_meta::DatabaseStatus;

use super::families::Families;
use crate::rooms::meta::MetaRoom;
use crate::tls::ReloadingServer;

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) struct MetaSources {
    /// The room.
    pub(crate) room: MetaRoom,
    /// The certificate.
    pub(crate) tls: Arc<ReloadingServer>,
}

fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Collector for MetaSources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut families = Families::new(encoder);
        let status = self.room.meta.status();
        let connections = self.room.connections.load(Ordering::Relaxed);
        let is_up = matches!(status.database, DatabaseStatus::Up);
        for (name, help, value) in [
            (
                "qmq_meta_database_up",
                "1: the database answers; 0: what was known last is told",
                i64::from(is_up),
            ),
            ("qmq_meta_subjects", "Subjects", gauge(status.subjects)),
            (
                "qmq_meta_routes",
                "Subjects that have groups",
                gauge(status.routes),
            ),
            (
                "qmq_meta_brokers",
                "Nodes that are entered",
                gauge(status.brokers),
            ),
            (
                "qmq_meta_routes_to_store",
                "Routes given while the database was away that it does not have yet",
                gauge(status.routes_to_store),
            ),
            (
                "qmq_connections",
                "Open connections: a client has one",
                gauge(connections),
            ),
            (
                "qmq_certificate_days_left",
                "Days until the certificate ends",
                self.tls.days_left(SystemTime::now()),
            ),
        ] {
            families.gauge(name, help, value)?;
        }
        families.counter(
            "qmq_meta_clients_dropped",
            "Clients that were not remembered, since too many came at once or a name was too long",
            status.clients_dropped,
        )?;
        let groups = self.room.meta.groups();
        let states = groups.iter().map(|group| {
            let labels = [
                ("group", group.name.as_str()),
                ("state", group.state.name()),
            ];
            (labels, 1)
        });
        families.gauges("qmq_meta_group_state", "State of each broker group", states)?;
        let nodes = status.nodes.iter().map(|node| {
            let labels = [
                ("group", node.group.as_str()),
                ("hostname", node.hostname.as_str()),
                ("role", node.role.name()),
            ];
            (labels, node.silent_ms)
        });
        families.gauges(
            "qmq_meta_node_silent_ms",
            "How long ago each node spoke to this meta server, in ms",
            nodes,
        )
    }
}
