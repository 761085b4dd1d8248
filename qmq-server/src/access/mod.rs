//! Who may do what: principals, tokens, rights by subject pattern.
//!
//! A connection is somebody: nobody in particular, the holder of a token, or the subject of a client certificate
//! ([`Principal`]). What it may do is a list of rights, each on a pattern of subjects ([`Rights`]). Tokens and their rights stand in
//! `client-tokens.properties`, by the hash of the token, and are re-read when the file changes ([`Tokens`]). [`Access`] puts
//! the three together.

mod door;
mod pattern;
mod principal;
mod rights;
mod tokens;

pub use door::{Access, Refused};
pub use pattern::Pattern;
pub use principal::{Principal, Role};
pub use rights::{RIGHTS_ALLOWED, Right, Rights, RightsError};
pub use tokens::{BadLine, Tokens, TokensError, token_hash};
