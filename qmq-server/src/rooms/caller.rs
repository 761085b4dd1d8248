//! Who asks.

use std::sync::Arc;

use crate::access::{Access, Principal, Refused, Right};

/// A principal with the rules that say what it may do: they may change while it is connected.
#[derive(Clone, Debug)]
pub struct Caller {
    access: Arc<Access>,
    principal: Principal,
}

impl Caller {
    /// A principal under these rules.
    #[must_use]
    pub fn new(access: Arc<Access>, principal: Principal) -> Self {
        Self { access, principal }
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether it may do so now.
    #[must_use]
    pub fn may(&self, right: Right, subject: &str) -> bool {
        self.access.allows(&self.principal, right, subject)
    }

    /// As [`Caller::may`], with the refusal to answer with.
    ///
    /// # Errors
    /// [`Refused::NotAllowed`].
    pub fn check(&self, right: Right, subject: &str) -> Result<(), Refused> {
        self.access.check(&self.principal, right, subject)
    }
}
