//! The async client of qmq: producers, consumers, reconnection.
