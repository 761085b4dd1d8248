//! Why the meta server did not do something.

use crate::error::DatabaseError;
use crate::model::{Subject, SubjectRoute};

/// Why the meta server did not do something. Each text names the thing, the rule and the way out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A name breaks a rule of names.
    #[error(transparent)]
    Name(#[from] qmq_message::subject::NameError),
    /// Nobody has entered the node, and it claims nothing. The text has the line to type, and what is nearly right.
    #[error("{text}")]
    UnknownNode {
        /// Several lines; one of them is the whole command.
        text: String,
    },
    /// The node is entered otherwise than it says.
    #[error("{text}")]
    WrongRole {
        /// As what it is entered, as what it spoke, and what to type.
        text: String,
    },
    /// A master of an older epoch than its group's spoke: another one has taken over.
    #[error(
        "broker group {group:?} is at epoch {known} and this master speaks of {epoch}: another has taken over; restart this one as its slave"
    )]
    Fenced {
        /// The group.
        group: String,
        /// What the master says.
        epoch: u64,
        /// What the group has, as far as is known.
        known: u64,
    },
    /// What is needed cannot be reached at the moment, and nothing is remembered that could stand in for it.
    #[error("{reason}; try again, or another meta server")]
    Unavailable {
        /// What is away.
        reason: String,
    },
    /// The subject's route has the group already.
    #[error("subject {:?} is served by broker group {group:?} already", route.subject)]
    AlreadyRouted {
        /// The group.
        group: String,
        /// The route as it is.
        route: Box<SubjectRoute>,
    },
    /// The subject is there already.
    #[error("subject {:?} is there already, with tag {:?}", subject.name, subject.tag)]
    SubjectExists {
        /// The subject as it is.
        subject: Box<Subject>,
    },
    /// A rule of the meta server forbids it.
    #[error("{reason}")]
    Refused {
        /// The thing, the rule and the way out.
        reason: String,
    },
}

impl MetaError {
    /// A rule that forbids something.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
        }
    }
}
