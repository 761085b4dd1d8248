//! Asking brokers, with the meta server's own credential.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qmq_client::{Admin, Client, ClientBuilder, ResetTo};
use qmq_meta::Emptiness;

use super::looking::Looking;

/// A broker must have moved a group by then: `tools.sh` waits for 2 s.
const RESET_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a broker may take to hear that the client goes.
const GOODBYE: Duration = Duration::from_millis(100);

/// What a meta server asks of brokers.
#[async_trait]
pub trait AsksBrokers: Send + Sync {
    /// Moves the consumer group `consumers` of `subject` at the broker group `group`, whose master is at `master` (`host:port`).
    ///
    /// # Errors
    /// In words, if the master did not say that it was done.
    async fn reset(
        &self,
        group: &str,
        master: &str,
        subject: &str,
        consumers: &str,
        to: ResetTo,
    ) -> Result<(), String>;

    /// Tells what is left at brokers, for one step of a rebalance or decommission. It takes no new looks after `limit`.
    fn look(&self, limit: Duration) -> Box<dyn Emptiness>;
}

/// Makes clients without brokers.
pub(super) type MakeClient = Arc<dyn Fn() -> ClientBuilder + Send + Sync>;

/// Asks brokers over the native protocol.
pub struct Brokers {
    make: MakeClient,
}

impl Brokers {
    /// `make` makes a client that has everything (authorities, the node's certificate or token) but a broker.
    pub fn new(make: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
        }
    }
}

impl std::fmt::Debug for Brokers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brokers").finish_non_exhaustive()
    }
}

/// A client of one master, that must be of this group: another one there would answer for messages that it does not have.
pub(super) fn connect(
    make: &MakeClient,
    group: &str,
    master: &str,
) -> Result<(Client, Admin), String> {
    let client = make().broker(master).expect_group(group).build();
    let client = client.map_err(|error| error.to_string())?;
    match client.admin(master) {
        Some(admin) => Ok((client, admin)),
        None => Err(format!("{master:?} is no address of a broker")),
    }
}

#[async_trait]
impl AsksBrokers for Brokers {
    async fn reset(
        &self,
        group: &str,
        master: &str,
        subject: &str,
        consumers: &str,
        to: ResetTo,
    ) -> Result<(), String> {
        let (client, admin) = connect(&self.make, group, master)?;
        let answer = tokio::time::timeout(RESET_TIMEOUT, admin.reset(subject, consumers, to));
        let answer = answer.await;
        client.close(GOODBYE).await;
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "{master} did not answer within {} ms; see whether it was done",
                RESET_TIMEOUT.as_millis()
            )),
        }
    }

    fn look(&self, limit: Duration) -> Box<dyn Emptiness> {
        Box::new(Looking::new(Arc::clone(&self.make), limit))
    }
}
