//! Watches the states of groups all the time: no change in the table goes unseen, and the meta servers are asked over and over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::nodes::{Cluster, Node, act, until};

/// States of all groups as a meta server tells them; `None`: it does not answer.
pub(crate) async fn told(http: u16) -> Option<BTreeMap<String, String>> {
    let asked = act(http, "action=ListBrokerGroups");
    let body = tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .ok()??;
    let answer: Value = serde_json::from_str(&body).unwrap();
    let groups = answer.as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let states = groups.map(|group| (text(&group["groupName"]), text(&group["brokerState"])));
    Some(states.collect())
}

/// Waits until a meta server tells this state of a group.
pub(crate) async fn until_state(meta: &Node, group: &str, state: &str) {
    until(&format!("{group} to be {state}"), async || {
        told(meta.http)
            .await
            .is_some_and(|all| all.get(group).is_some_and(|told| told == state))
    })
    .await;
}

/// From now on, groups that were not read-write.
pub(crate) struct States {
    seen: Arc<Mutex<BTreeSet<String>>>,
    answers: Arc<Mutex<u64>>,
    task: JoinHandle<()>,
}

impl Drop for States {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl States {
    pub(crate) async fn watch(cluster: &Cluster, metas: &[&Node]) -> Self {
        cluster
            .scratch
            .run(
                "CREATE TABLE states_seen (group_name VARCHAR(30), broker_state TINYINT);
                 CREATE TRIGGER states_kept AFTER UPDATE ON broker_group FOR EACH ROW
                 INSERT INTO states_seen SELECT NEW.group_name, NEW.broker_state FROM DUAL WHERE NEW.broker_state <> 1",
            )
            .await;
        let ports: Vec<u16> = metas.iter().map(|meta| meta.http).collect();
        let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let answers: Arc<Mutex<u64>> = Arc::default();
        let (seeing, counting) = (Arc::clone(&seen), Arc::clone(&answers));
        let task = tokio::spawn(async move {
            loop {
                for &port in &ports {
                    let Some(states) = told(port).await else {
                        continue;
                    };
                    *counting.lock() += 1;
                    let others = states.into_iter().filter(|(_, state)| state != "RW");
                    let others = others.map(|(group, state)| format!("{group} {state}"));
                    seeing.lock().extend(others);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self {
            seen,
            answers,
            task,
        }
    }

    /// No group was anything but read-write, in the table or in an answer.
    pub(crate) async fn were_all_read_write(self, cluster: &Cluster) {
        assert!(*self.answers.lock() > 20, "hardly anybody answered");
        assert_eq!(*self.seen.lock(), BTreeSet::new());
        let kept = cluster
            .rows("SELECT group_name, CAST(broker_state AS CHAR) FROM states_seen")
            .await;
        assert_eq!(kept, []);
    }
}
