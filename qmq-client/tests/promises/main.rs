//! What the client promises, against a broker that follows a script.

mod admin;
mod connecting;
mod consuming;
mod fake;
mod ordering;
mod producing;
