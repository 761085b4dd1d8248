//! Who comes in, and what each may do.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Principal, Right, Rights, Role, Tokens, TokensError};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nobody holds the token that was presented.
    #[error(
        "the token is not known; ask whoever runs the broker for one, or for its line in tokens.file"
    )]
    UnknownToken,
    /// The principal lacks the right.
    #[error("{principal} may not {right} {subject:?}; {}", way_out(principal))]
    NotAllowed {
        /// Who asked.
        principal: Principal,
        /// The right that is missing.
        right: Right,
        /// The subject.
        subject: String,
    },
}

fn way_out(principal: &Principal) -> &'static str {
    match principal {
        Principal::Anonymous => "present a token or a certificate, or set anonymous.rights",
        Principal::Token(_) => "add the right to the token's line in tokens.file",
        Principal::Certificate { .. } | Principal::ClusterToken => "use a token that has the right",
    }
}

/// Who comes in, and what each may do: the tokens, and the rights of everyone without one.
pub struct Access {
    tokens: Tokens,
    anonymous: Rights,
    clients: Rights,
    /// Hash of what makes its holder a node.
    cluster_token: Option<[u8; 32]>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("tokens", &self.tokens)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Rules with these tokens, and these rights for whoever has neither token nor certificate.
    #[must_use]
    pub fn new(tokens: Tokens, anonymous: Rights) -> Self {
        Self {
            tokens,
            anonymous,
            clients: Rights::of_clients(),
            cluster_token: None,
        }
    }

    /// With a secret (`cluster.token`) that makes whoever presents it as its token a node. An empty one is none.
    #[must_use]
    pub fn with_cluster_token(mut self, secret: &str) -> Self {
        self.cluster_token = (!secret.is_empty()).then(|| Sha256::digest(secret.as_bytes()).into());
        self
    }

    /// Takes the same time whatever the token is: hashes are compared, and all of their bytes.
    fn is_cluster_token(&self, token: &str) -> bool {
        let presented = Sha256::digest(token.as_bytes());
        self.cluster_token.as_ref().is_some_and(|expected| {
            let bytes = expected.iter().zip(presented.iter());
            bytes.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
        })
    }

    /// Who comes in with this token and this verified certificate. The token counts if there are both, since it is the more
    /// particular of the two; an unknown one is refused whatever the certificate says.
    ///
    /// # Errors
    /// [`Refused::UnknownToken`].
    pub fn identify(
        &self,
        token: Option<&str>,
        certificate: Option<Principal>,
    ) -> Result<Principal, Refused> {
        match token {
            Some(token) if self.is_cluster_token(token) => Ok(Principal::ClusterToken),
            Some(token) => {
                let holder = self.tokens.holder(token);
                holder.map(Principal::Token).ok_or(Refused::UnknownToken)
            }
            None => Ok(certificate.unwrap_or(Principal::Anonymous)),
        }
    }

    /// Whether the principal may do so now. A node may do everything, a client certificate produces and consumes everything,
    /// a token has the rights of its line.
    #[must_use]
    pub fn allows(&self, principal: &Principal, right: Right, subject: &str) -> bool {
        match principal {
            Principal::Anonymous => self.anonymous.allows(right, subject),
            Principal::Token(name) => self.tokens.allows(name, right, subject),
            Principal::ClusterToken => true,
            Principal::Certificate { role, .. } => match role {
                Role::Node => true,
                Role::Client => self.clients.allows(right, subject),
            },
        }
    }

    /// As [`Self::allows`], with the refusal to answer with.
    ///
    /// # Errors
    /// [`Refused::NotAllowed`].
    pub fn check(&self, principal: &Principal, right: Right, subject: &str) -> Result<(), Refused> {
        if self.allows(principal, right, subject) {
            return Ok(());
        }
        Err(Refused::NotAllowed {
            principal: principal.clone(),
            right,
            subject: subject.to_owned(),
        })
    }

    /// Re-reads the token file if it changed; see [`Tokens::poll`].
    ///
    /// # Errors
    /// As [`Tokens::poll`].
    pub fn poll(&self) -> Result<bool, TokensError> {
        self.tokens.poll()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::token_hash;
    use super::*;

    fn certificate(role: Role) -> Principal {
        let name = "host-1".to_owned();
        Principal::Certificate { name, role }
    }

    #[test]
    fn without_rights_the_anonymous_may_do_nothing() {
        let access = Access::new(Tokens::none(), Rights::none());
        let principal = access.identify(None, None).unwrap();
        assert_eq!(principal, Principal::Anonymous);
        let refused = access
            .check(&principal, Right::Produce, "order")
            .unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("anonymous may not produce \"order\""),
            "{text}"
        );
        let open = Access::new(Tokens::none(), "produce:*".parse().unwrap());
        assert_eq!(open.check(&principal, Right::Produce, "order"), Ok(()));
    }

    #[test]
    fn a_token_counts_before_a_certificate_and_an_unknown_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, format!("{}=billing;consume:order", token_hash("t"))).unwrap();
        let access = Access::new(Tokens::open(&path, true).unwrap(), Rights::none());
        let node = Some(certificate(Role::Node));
        let principal = access.identify(Some("t"), node.clone()).unwrap();
        assert_eq!(principal, Principal::Token("billing".into()));
        assert!(access.allows(&principal, Right::Consume, "order"));
        assert!(!access.allows(&principal, Right::Consume, "pay"));
        let refused = access.identify(Some("hunter2"), node).unwrap_err();
        assert_eq!(refused, Refused::UnknownToken);
        assert!(!format!("{refused} {refused:?} {access:?}").contains("hunter2"));
    }

    #[test]
    fn a_node_may_do_everything_and_a_client_does_not_administer() {
        let access = Access::new(Tokens::none(), Rights::none());
        let node = access
            .identify(None, Some(certificate(Role::Node)))
            .unwrap();
        let client = access
            .identify(None, Some(certificate(Role::Client)))
            .unwrap();
        assert!(access.allows(&node, Right::Administer, "order"));
        assert!(access.allows(&client, Right::Produce, "order"));
        assert!(access.allows(&client, Right::Consume, "order"));
        assert!(!access.allows(&client, Right::Administer, "order"));
    }

    #[test]
    fn whoever_presents_the_cluster_token_is_a_node() {
        let access = Access::new(Tokens::none(), Rights::none()).with_cluster_token("hunter2");
        let node = access.identify(Some("hunter2"), None).unwrap();
        assert!(node.is_node() && access.allows(&node, Right::Administer, "order"));
        for other in ["hunter", "hunter22", "Hunter2", ""] {
            let refused = access.identify(Some(other), None).unwrap_err();
            assert_eq!(refused, Refused::UnknownToken, "{other}");
        }
        assert!(!format!("{access:?} {node:?} {node}").contains("hunter2"));
        let none = Access::new(Tokens::none(), Rights::none()).with_cluster_token("");
        assert!(none.identify(Some(""), None).is_err());
        assert!(!certificate(Role::Client).is_node() && certificate(Role::Node).is_node());
    }
}
