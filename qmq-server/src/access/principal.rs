//! Who is on the other end of a connection.

use std::fmt;

/// What a certificate says its holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A node of the installation: broker, slave, meta server.
    Node,
    /// A program that uses it.
    Client,
}

impl Role {
    /// The word that stands for it in a certificate's organizational unit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
        }
    }

    /// The role of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Node, Self::Client]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

/// Who is on the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// The holder of a token, by the name that the token file gives it.
    Token(String),
    /// The subject of a verified certificate.
    Certificate {
        /// The common name.
        name: String,
        /// The role.
        role: Role,
    },
    /// A node that has no certificate, and presented `cluster.token`.
    ClusterToken,
}

impl Principal {
    /// Whether it is a node of the cluster: by its certificate, or by `cluster.token`.
    #[must_use]
    pub fn is_node(&self) -> bool {
        matches!(
            self,
            Self::ClusterToken
                | Self::Certificate {
                    role: Role::Node,
                    ..
                }
        )
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::ClusterToken => f.write_str("a node (by cluster.token)"),
            Self::Token(name) => write!(f, "{name} (by token)"),
            Self::Certificate { name, role } => {
                write!(f, "{name} (by {} certificate)", role.word())
            }
        }
    }
}
