//! The servers of qmq as a library: the same types that the `qmq` binary starts.

pub mod access;
pub mod config;
pub mod tls;
