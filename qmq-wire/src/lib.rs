//! The native protocol of qmq: requests, responses and their bytes, without I/O.
