//! Why the database did not do something.

/// Why the database did not do something.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It cannot be reached, or the connection broke: it may come back by itself. Whether a change was made is not known.
    #[error("the database is away: {reason}")]
    Away {
        /// What the driver said; no password in it.
        reason: String,
    },
    /// A value is longer than its column.
    #[error(
        "{table}.{column} takes {limit} characters and {value:?} has {len}; choose a shorter one"
    )]
    TooLong {
        /// Table of the column.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Most characters.
        limit: usize,
        /// Characters of the value.
        len: usize,
        /// The value, cut.
        value: String,
    },
    /// Another row has what must be unique.
    #[error("{what} is there already")]
    Exists {
        /// The row, in words: `broker group "g1" with role MASTER`.
        what: String,
    },
    /// The row that should change is not there, or not as it was.
    #[error("{what} has changed, or is gone; look again")]
    Changed {
        /// The row, in words.
        what: String,
    },
    /// Tables are missing, or have not the columns that they should.
    #[error("{reason}; type: {command}")]
    Schema {
        /// What is missing.
        reason: String,
        /// The command that mends it.
        command: String,
    },
    /// Another process has the embedded database.
    #[error(
        "{path} is open in another meta server; one meta server has one SQLite database: stop the other, or use MySQL for several"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// A setting of the connection is no good.
    #[error("{0}")]
    Setting(String),
    /// A broker entered itself into a group that was decommissioned.
    #[error("broker group {group:?} was decommissioned; to bring it back, type:\n{command}")]
    Decommissioned {
        /// The group.
        group: String,
        /// What an operator types.
        command: String,
    },
    /// The database refused a statement for another reason.
    #[error("the database refused {doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
}
