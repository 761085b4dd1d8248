//! One scrape at a time, and at most one a second.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::naming::Naming;
use super::{Looking, Sources};

/// What the text is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// For so long others get the same text.
const SAME_TEXT: Duration = Duration::from_secs(1);

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The encoder refused.
    #[error("the metrics cannot be written as text")]
    Encode(#[from] std::fmt::Error),
    /// The thread died, or the runtime is ending.
    #[error("looking at the metrics ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// Makes the text. A clone is the same.
#[derive(Clone, Debug)]
pub struct Scrapes {
    registry: Arc<Registry>,
    /// There for a second. Locked while it is made.
    latest: Arc<tokio::sync::Mutex<Option<Bytes>>>,
}

impl Scrapes {
    /// Of these.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self::of(Box::new(Looking {
            sources,
            naming: Mutex::new(Naming::new()),
        }))
    }

    /// Of what this looks at.
    pub(crate) fn of(collector: Box<dyn Collector>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(collector);
        Self {
            registry: Arc::new(registry),
            latest: Arc::default(),
        }
    }

    /// The text as of now, or not more than a second ago.
    ///
    /// # Errors
    /// See [`ScrapeError`].
    pub async fn text(&self) -> Result<Bytes, ScrapeError> {
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some(text) = &*latest {
            return Ok(text.clone());
        }
        let (registry, forget) = (Arc::clone(&self.registry), Arc::clone(&self.latest));
        // The lock goes along: whoever gives up waiting does not let a second one begin beside this.
        let made = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            encode(&mut text, &registry)?;
            text.shrink_to_fit();
            let text = Bytes::from(text);
            *latest = Some(text.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SAME_TEXT).await;
                *forget.lock().await = None;
            });
            Ok(text)
        });
        made.await?
    }
}
