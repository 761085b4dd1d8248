//! What operators ask of a broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use qmq_wire::{
    Code, ControlRequest, ControlResponse, Controlled, Kind, NodeStatus, Refusal, ResetTo,
    SubjectStatus, WireError, features,
};
use tokio::time::timeout;

use crate::client::Shared;
use crate::config::ClientConfig;
use crate::connection::{Broker, Link, pipe};
use crate::error::ConnectError;

/// Why a control request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker is not connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker refused.
    #[error("{broker} refused ({code}): {text}")]
    Refused {
        /// The broker's address.
        broker: String,
        /// Why.
        code: Code,
        /// Why, for a person.
        text: String,
    },
    /// The connection was lost before the answer. A reset or a deletion may have been done.
    #[error(
        "{broker}: the connection was lost before the answer came: {reason}; see whether it was done"
    )]
    Lost {
        /// The broker's address.
        broker: String,
        /// Why.
        reason: String,
    },
    /// No answer came in time. A reset or a deletion may have been done.
    #[error("{broker} did not answer within {limit:?}; see whether it was done")]
    TimedOut {
        /// The broker's address.
        broker: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// There is no such group of delay servers, as far as is known.
    #[error("no delay server of group {name:?} is known: {reason}")]
    NoGroup {
        /// The name that was given.
        name: String,
        /// Why.
        reason: String,
    },
    /// The request is too large, or the answer does not decode or does not fit the request.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Asks one broker. Every request waits for the connection and then for the answer, no longer than the request timeout in all.
#[derive(Clone, Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    broker: Arc<Broker>,
}

impl Admin {
    pub(crate) fn new(shared: Arc<Shared>, broker: Arc<Broker>) -> Self {
        Self { shared, broker }
    }

    /// How the broker is.
    ///
    /// # Errors
    /// [`AdminError`], as with all.
    pub async fn status(&self) -> Result<NodeStatus, AdminError> {
        match self.ask(&ControlRequest::Status).await? {
            ControlResponse::Status(status) => Ok(status),
            _ => Err(misfit()),
        }
    }

    /// Up to `max` subjects whose names match `pattern` (with `*`; empty: all), from the one after `after` on, in the order of their names.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn subjects(
        &self,
        pattern: &str,
        after: &str,
        max: u32,
    ) -> Result<Vec<SubjectStatus>, AdminError> {
        let request = ControlRequest::Subjects {
            pattern: pattern.to_owned(),
            after: after.to_owned(),
            max,
        };
        match self.ask(&request).await? {
            ControlResponse::Subjects(subjects) => Ok(subjects),
            _ => Err(misfit()),
        }
    }

    /// Lets a group go on at another place. Answers the sequence that comes next.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn reset(&self, subject: &str, group: &str, to: ResetTo) -> Result<u64, AdminError> {
        let request = ControlRequest::Reset {
            subject: subject.to_owned(),
            group: group.to_owned(),
            to,
        };
        match self.ask(&request).await? {
            ControlResponse::Reset(next) => Ok(next),
            _ => Err(misfit()),
        }
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn drop_group(&self, subject: &str, group: &str) -> Result<(), AdminError> {
        let request = ControlRequest::DropGroup {
            subject: subject.to_owned(),
            group: group.to_owned(),
        };
        match self.ask(&request).await? {
            ControlResponse::Dropped => Ok(()),
            _ => Err(misfit()),
        }
    }

    async fn ask(&self, request: &ControlRequest) -> Result<ControlResponse, AdminError> {
        let limit = self.shared.config.request_timeout;
        timeout(limit, self.ask_without_limit(request))
            .await
            .unwrap_or_else(|_| match (self.broker.connected(), self.broker.trouble()) {
                (None, Some(trouble)) => Err(trouble.into()),
                _ => Err(AdminError::TimedOut {
                    broker: self.broker.address().to_string(),
                    limit,
                }),
            })
    }

    async fn ask_without_limit(
        &self,
        request: &ControlRequest,
    ) -> Result<ControlResponse, AdminError> {
        let link = self.broker.link(true).await?;
        ask(&link, self.broker.address(), request, &self.shared.config).await
    }
}

/// Asks the node at the other end of a link.
pub(crate) async fn ask(
    link: &Link,
    address: &str,
    request: &ControlRequest,
    config: &ClientConfig,
) -> Result<ControlResponse, AdminError> {
    let broker = || address.to_owned();
    let lost = |lost: pipe::Lost| AdminError::Lost {
        broker: broker(),
        reason: lost.to_string(),
    };
    let mut bytes = BytesMut::new();
    request.encode(1, &mut bytes)?;
    let (writer, mut reader) = pipe::open(
        link,
        features::CONTROL,
        config.request_timeout,
        config.frame_bytes_max,
    )
    .await
    .map_err(lost)?;
    writer.send(vec![bytes.freeze()]);
    loop {
        let frame = reader.next().await.map_err(lost)?;
        match Kind::from_byte(frame.kind) {
            Some(Kind::Controlled) => {
                return Ok(Controlled::decode(&mut frame.reader())?.response);
            }
            Some(Kind::Refused) => {
                let refusal = Refusal::decode(&mut frame.reader())?;
                return Err(AdminError::Refused {
                    broker: broker(),
                    code: refusal.code,
                    text: refusal.text,
                });
            }
            _ => {}
        }
    }
}

/// The answer is one to another request.
pub(crate) fn misfit() -> AdminError {
    AdminError::Wire(WireError::Control(
        "the answer is one to another request".to_owned(),
    ))
}
