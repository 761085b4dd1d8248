//! Meta servers: where they are, and the routes that they tell.

mod lookup;
mod routes;
mod session;

pub(crate) use lookup::Place;
pub(crate) use routes::{Known, NotWatched, Routes, Watched};
