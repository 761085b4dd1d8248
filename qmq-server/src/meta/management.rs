//! Management over HTTP, with what the pages need of the process.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use qmq_client::{Client, Pem};
use qmq_meta::Meta;

use crate::config::{ApiTokens, HttpPorts, WatchedLines};
use crate::doors::http::meta::{Brokers, MetaHttp, router};
use crate::tls::TlsFiles;

/// A broker that is asked something must be connected by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Management {
    pub(super) meta: Meta,
    pub(super) compat: bool,
    pub(super) api_tokens: Option<Arc<WatchedLines<ApiTokens>>>,
    pub(super) http_ports: Option<Arc<WatchedLines<HttpPorts>>>,
    pub(super) tls: TlsFiles,
    pub(super) name: String,
}

/// The pages. Brokers are asked with this node's own certificate.
pub(super) fn pages(management: Management) -> Router {
    let Management {
        meta,
        compat,
        api_tokens,
        http_ports,
        tls,
        name,
    } = management;
    let brokers = Brokers::new(move || {
        Client::builder()
            .authorities(Pem::File(tls.authority.clone()))
            .identity(
                Pem::File(tls.own.certificate.clone()),
                Pem::File(tls.own.key.clone()),
            )
            .application(&name)
            .connect_timeout(CONNECT_TIMEOUT)
    });
    router(MetaHttp {
        meta,
        compat,
        tokens: Arc::new(move |token| api_tokens.as_ref()?.current().contains(token)),
        http_ports: Arc::new(move |host, port| http_ports.as_ref()?.current().of(host, port)),
        brokers: Arc::new(brokers),
    })
}
