//! Whether a room takes new work.

use std::sync::Arc;

use parking_lot::RwLock;
use qmq_wire::Code;

/// Whether a room takes new work, and why not. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<RwLock<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// Not now, and here is why.
    Held(String),
    /// Not any more.
    Ended,
}

impl Gate {
    /// Whether it is open; `ended` is what is said once the node shuts down.
    ///
    /// # Errors
    /// [`Code::Draining`] with `ended`, or [`Code::NotMaster`] with what it was held for.
    pub fn check(&self, ended: &str) -> Result<(), (Code, String)> {
        match &*self.0.read() {
            State::Open => Ok(()),
            State::Held(why) => Err((Code::NotMaster, why.clone())),
            State::Ended => Err((Code::Draining, ended.to_owned())),
        }
    }

    /// Why it is held; `None`: it is not.
    #[must_use]
    pub fn held(&self) -> Option<String> {
        match &*self.0.read() {
            State::Held(why) => Some(why.clone()),
            State::Open | State::Ended => None,
        }
    }

    /// Takes nothing, until it is released.
    pub fn hold(&self, why: &str) {
        self.change(State::Held(why.to_owned()));
    }

    /// Takes work again.
    pub fn release(&self) {
        self.change(State::Open);
    }

    /// Takes nothing any more, whatever is said later.
    pub fn end(&self) {
        self.change(State::Ended);
    }

    fn change(&self, to: State) {
        let mut state = self.0.write();
        if !matches!(*state, State::Ended) {
            *state = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_held_and_released_until_it_ends() {
        let gate = Gate::default();
        assert!(gate.check("").is_ok());
        gate.hold("no role");
        assert_eq!(
            gate.check("").unwrap_err(),
            (Code::NotMaster, "no role".to_owned())
        );
        gate.release();
        assert!(gate.check("").is_ok() && gate.held().is_none());
        gate.end();
        gate.release();
        gate.hold("no role");
        assert_eq!(
            gate.check("over").unwrap_err(),
            (Code::Draining, "over".to_owned())
        );
    }
}
