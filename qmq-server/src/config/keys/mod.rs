//! The table of all keys: of `broker.properties`, and of `client.properties`.
//!
//! QMQ's keys have QMQ's names. One that could have no meaning here is taken all the same, so that an installation's
//! files can stay as they are, and a warning says why nothing comes of it.

mod broker;
mod client;
mod make;

pub use broker::BROKER;
pub use client::CLIENT;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::key::{Fallback, variable_of};
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in BROKER.iter().chain(CLIENT) {
            if let Fallback::Text(default) = key.default
                && !default.is_empty()
            {
                assert!(key.kind.read(default).is_some(), "{}", key.name);
            }
            assert!(
                !key.meaning.is_empty() && !key.meaning.ends_with('.'),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn no_two_keys_share_a_name_or_a_variable() {
        for table in [BROKER, CLIENT] {
            let mut variables = BTreeMap::new();
            for key in table {
                let mut names = vec![key.name.to_owned()];
                if key.is_secret() {
                    names.push(format!("{}.file", key.name));
                }
                for name in names {
                    let variable = variable_of(&name);
                    assert!(!["QMQ_CLIENT", "QMQ_LOG"].contains(&&*variable), "{name}");
                    let other = variables.insert(variable, name.clone());
                    assert_eq!(other, None, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_variable_is_the_name_in_capitals_with_underscores() {
        assert_eq!(variable_of("broker.port"), "QMQ_BROKER_PORT");
        assert_eq!(variable_of("a-b.c_d"), "QMQ_A_B_C_D");
        assert_eq!(
            variable_of("Receiver.RejectIllegalSubject"),
            "QMQ_RECEIVER_REJECTILLEGALSUBJECT"
        );
    }
}
