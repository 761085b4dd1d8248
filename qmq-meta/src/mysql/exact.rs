//! Names byte by byte. QMQ's columns are compared without case and trailing spaces, so `Order` is found where `order` is meant: such a row must
//! be taken for what it is, another one.

use crate::fault::{Fault, exists};

/// What is there under a name that was looked for.
pub(super) fn same(found: Option<&str>, wanted: &str) -> bool {
    found == Some(wanted)
}

/// Whether what was found is what is wanted; an error if it only looks like it.
pub(super) fn found_as(words: &str, found: Option<&str>, wanted: &str) -> Result<bool, Fault> {
    match found {
        None => Ok(false),
        Some(found) if found == wanted => Ok(true),
        Some(found) => Err(exists(format!(
            "{words} {found:?}, which this database does not tell from {wanted:?} (it ignores case and trailing spaces),"
        ))),
    }
}
