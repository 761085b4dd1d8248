//! Whether a broker group has anything left of a subject, and a group of delay servers anything at all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use qmq_client::{Admin, AdminError, Client, DeadLetters, SubjectStatus};
use qmq_message::subject::{SubjectName, parse, retry_subject};
use qmq_meta::Emptiness;
use tokio::sync::Mutex;

use super::reach::{MakeClient, connect};

/// Subjects of one answer.
const PAGE: u32 = 1_000;
/// How long brokers may take to hear that the client goes.
const GOODBYE: Duration = Duration::from_millis(200);

/// One look around: what a broker has left is read once, and asked again for each subject that seems empty. So subjects that are not cost nothing more,
/// and an answer that lets a group go is always a fresh one.
pub(super) struct Looking {
    make: MakeClient,
    until: Instant,
    seen: Mutex<HashMap<(String, String), Arc<Seen>>>,
}

struct Seen {
    client: Client,
    admin: Admin,
    /// Subjects that have something left.
    busy: HashSet<String>,
}

impl Looking {
    pub(super) fn new(make: MakeClient, limit: Duration) -> Self {
        Self {
            make,
            until: Instant::now() + limit,
            seen: Mutex::default(),
        }
    }

    async fn seen(&self, group: &str, master: &str) -> Result<Arc<Seen>, String> {
        let mut all = self.seen.lock().await;
        let key = (group.to_owned(), master.to_owned());
        if let Some(seen) = all.get(&key) {
            return Ok(Arc::clone(seen));
        }
        let (client, admin) = connect(&self.make, group, master)?;
        let busy = match read_busy(&admin).await {
            Ok(busy) => busy,
            Err(error) => {
                client.close(GOODBYE).await;
                return Err(error);
            }
        };
        let seen = Arc::new(Seen {
            client,
            admin,
            busy,
        });
        all.insert(key, Arc::clone(&seen));
        Ok(seen)
    }

    /// Whether nothing waits at a delay server or is on its way to a broker. Dead letters stay where they are, as a broker's do.
    async fn is_delay_empty(&self, group: &str, master: &str) -> Result<bool, String> {
        let (client, admin) = connect(&self.make, group, master)?;
        let status = admin.status().await;
        let letters = match status {
            Ok(_) => client.delay(master).dead_letters(0, 1).await,
            Err(_) => Ok(DeadLetters::default()),
        };
        client.close(GOODBYE).await;
        let text = |error: AdminError| error.to_string();
        let (status, letters) = (status.map_err(text)?, letters.map_err(text)?);
        // Of these it counts the subjects of which something waits.
        let is_empty = status.subjects == 0;
        if is_empty && letters.total > 0 {
            tracing::warn!(
                group,
                master,
                letters = letters.total,
                "a delay server that goes keeps what brokers refused for good"
            );
        }
        Ok(is_empty)
    }
}

#[async_trait]
impl Emptiness for Looking {
    async fn is_empty(&self, group: &str, master: &str, subject: &str) -> Result<bool, String> {
        if master.is_empty() {
            return Err(format!(
                "broker group {group:?} has no master that could tell; start it"
            ));
        }
        // Out of time is not empty: the next step asks again.
        if Instant::now() >= self.until {
            return Ok(false);
        }
        // Asked of a group of delay servers: what waits there is in no subject of theirs.
        if subject == "*" {
            return self.is_delay_empty(group, master).await;
        }
        let seen = self.seen(group, master).await?;
        if seen.busy.contains(subject) {
            return Ok(false);
        }
        for pattern in [subject.to_owned(), retry_subject(subject, "*")] {
            let mut left = false;
            each(&seen.admin, &pattern, |status| {
                left |= root(&status.subject) == subject && has_left(status);
            })
            .await
            .map_err(|error| error.to_string())?;
            if left {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        for (_, seen) in self.seen.get_mut().drain() {
            let client = seen.client.clone();
            runtime.spawn(client.close(GOODBYE));
        }
    }
}

/// Subjects of which something is left. A broker shows a caller what it may see, so it is made sure that this is everything.
async fn read_busy(admin: &Admin) -> Result<HashSet<String>, String> {
    let text = |error: AdminError| error.to_string();
    let status = admin.status().await.map_err(text)?;
    let mut busy = HashSet::new();
    let mut shown = 0_u64;
    each(admin, "", |status| {
        shown += 1;
        if has_left(status) {
            busy.insert(root(&status.subject).to_owned());
        }
    })
    .await
    .map_err(text)?;
    if shown < status.subjects {
        return Err(format!(
            "{} has {} subjects and shows {shown} of them to the meta server; give it a node certificate of tls.ca, or the brokers' cluster.token",
            status.node, status.subjects
        ));
    }
    Ok(busy)
}

async fn each(
    admin: &Admin,
    pattern: &str,
    mut look: impl FnMut(&SubjectStatus),
) -> Result<(), AdminError> {
    let mut after = String::new();
    loop {
        let page = admin.subjects(pattern, &after, PAGE).await?;
        page.iter().for_each(&mut look);
        match page.last() {
            Some(last) => after.clone_from(&last.subject),
            None => return Ok(()),
        }
    }
}

/// The subject that retries and dead letters are of.
fn root(name: &str) -> &str {
    match parse(name) {
        SubjectName::Plain(name) => name,
        SubjectName::Retry { subject, .. } | SubjectName::DeadLetter { subject, .. } => {
            root(subject)
        }
    }
}

/// Whether a group has something to consume, or nobody has consumed what is there. Dead letters that nobody consumes stay where they are.
fn has_left(status: &SubjectStatus) -> bool {
    if status.groups.is_empty() {
        let dead = matches!(parse(&status.subject), SubjectName::DeadLetter { .. });
        return !dead && status.next_sequence > status.first_sequence;
    }
    let has = |group: &qmq_wire::GroupStatus| group.lag + group.unacked + group.waiting > 0;
    status.groups.iter().any(has)
}

#[cfg(test)]
mod tests {
    use qmq_wire::GroupStatus;

    use super::*;

    fn status(subject: &str, kept: u64, groups: &[(u64, u64, u64)]) -> SubjectStatus {
        let group = |&(lag, unacked, waiting): &(u64, u64, u64)| GroupStatus {
            lag,
            unacked,
            waiting,
            ..GroupStatus::default()
        };
        SubjectStatus {
            subject: subject.to_owned(),
            first_sequence: 7,
            next_sequence: 7 + kept,
            groups: groups.iter().map(group).collect(),
        }
    }

    #[test]
    fn something_is_left_until_every_group_has_settled_everything() {
        assert!(!has_left(&status("s", 0, &[])));
        assert!(!has_left(&status("s", 9, &[(0, 0, 0), (0, 0, 0)])));
        for busy in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert!(has_left(&status("s", 9, &[(0, 0, 0), busy])), "{busy:?}");
        }
    }

    #[test]
    fn messages_that_nobody_has_consumed_are_left_but_for_dead_letters() {
        assert!(has_left(&status("s", 1, &[])));
        assert!(has_left(&status("%RETRY%s%g", 1, &[])));
        assert!(!has_left(&status("%DEAD_RETRY%s%g", 1, &[])));
        assert!(has_left(&status("%DEAD_RETRY%s%g", 1, &[(1, 0, 0)])));
    }

    #[test]
    fn retries_and_dead_letters_are_of_their_subject() {
        for name in ["s", "%RETRY%s%g", "%DEAD_RETRY%s%g", "%RETRY%%RETRY%s%g%h"] {
            assert_eq!(root(name), "s", "{name}");
        }
    }
}
