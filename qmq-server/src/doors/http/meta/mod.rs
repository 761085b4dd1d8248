//! The HTTP of a meta server, as QMQ's operators, their `tools.sh` and their scripts know it, over [`qmq_meta::Meta`].
//!
//! | path | method | what it answers |
//! |---|---|---|
//! | `/management` | POST | QMQ's actions, and ours: see `management` |
//! | `/onoffline` | GET | switches consumers on and off |
//! | `/subject/consumers` | GET | who consumes a subject |
//! | `/slave/meta` | GET | where a group's slave has its HTTP |
//!
//! Facts: QMQ's `meta/web/*.java` and `meta/management/*.java`. What differs is in `docs/protocol.md`, "Meta over HTTP".

mod brokers;
mod form;
mod looking;
mod management;
mod moves;
mod overview;
mod reach;
mod request;
mod shapes;
mod subjects;
mod switches;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use qmq_meta::Meta;

pub use form::{Form, FormError, encoded};
pub use overview::{DatabaseView, GroupView, NodeView, Overview};
pub use reach::{AsksBrokers, Brokers};

/// Who the holder of a token is, as `valid-api-tokens.properties` says; `None`: the token is not in it. The time that it takes must say nothing about
/// tokens that are.
pub type TokenOwner = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The HTTP port of a slave, by host name and port for clients (`broker-http-port-map.properties`); `None`: nobody entered it.
pub type HttpPort = Arc<dyn Fn(&str, u16) -> Option<u16> + Send + Sync>;

/// QMQ's words for a token that is missing or unknown.
const NO_TOKEN: &str = "没有提供合法的 Api Token";

/// What the pages need.
#[derive(Clone)]
pub struct MetaHttp {
    /// The rules.
    pub meta: Meta,
    /// Whose tokens are good.
    pub tokens: TokenOwner,
    /// `http.compat`: lists and switches need no token, as with QMQ.
    pub compat: bool,
    /// HTTP ports of slaves.
    pub http_ports: HttpPort,
    /// Asks brokers.
    pub brokers: Arc<dyn AsksBrokers>,
}

impl std::fmt::Debug for MetaHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaHttp")
            .field("compat", &self.compat)
            .finish_non_exhaustive()
    }
}

impl MetaHttp {
    /// Whose token a request has.
    fn caller(&self, headers: &HeaderMap) -> Option<String> {
        let token = headers.get("x-api-token")?.to_str().ok()?;
        (self.tokens)(token)
    }
}

/// The pages, to be merged with others.
pub fn router(door: MetaHttp) -> Router {
    Router::new()
        .route("/management", post(management::management).fallback(posted))
        .route("/onoffline", get(switches::onoffline))
        .route("/subject/consumers", get(switches::consumers))
        .route("/slave/meta", get(switches::slave))
        .with_state(door)
}

async fn posted() -> Response {
    let text = "actions are asked for by POST, with a form in UTF-8\n".to_owned();
    shapes::text(StatusCode::METHOD_NOT_ALLOWED, text)
}
