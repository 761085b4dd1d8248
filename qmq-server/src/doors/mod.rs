//! The doors: how requests come in and answers go out. What they are about is the business of the [rooms](crate::rooms).

pub mod http;
pub mod quic;
mod seldom;

pub(crate) use seldom::Seldom;
