//! Certificates: made, read, reloaded.
