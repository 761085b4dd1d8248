//! One request to `/management`. hyper is there for the servers, and does it; a client with more (redirects, proxies, TLS, pools) has nothing to do here.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use qmq_server::doors::http::meta::encoded;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::target::Metaserver;
use crate::cli::failure::Failure;

/// A connection must stand by then; as with `tools.sh`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Routes of 40,000 subjects are some megabytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// An action must be done by then. `tools.sh` waits for 2 s; a list of all routes takes longer on a slow line.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Does an action and answers what the meta server said, without the line end.
pub(crate) fn post(
    target: &Metaserver,
    token: &str,
    parameters: &[(&str, &str)],
    limit: Duration,
) -> Result<String, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("starting", &error, "check `ulimit -n`"))?;
    runtime.block_on(ask(target, token, parameters, limit))
}

/// The same, in a runtime.
pub(crate) async fn ask(
    target: &Metaserver,
    token: &str,
    parameters: &[(&str, &str)],
    limit: Duration,
) -> Result<String, Failure> {
    let next =
        "see that a meta server runs there, and give its HTTP port (meta.server.discover.port)";
    let failed = |what: String| Failure::new(format!("{target}: {what}"), next);
    let connecting = TcpStream::connect(&target.authority);
    let stream = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| failed(format!("no connection within {CONNECT_TIMEOUT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let form = encoded(parameters.iter().copied());
    let mut request = Request::post(format!("{}/management", target.prefix))
        .header(header::HOST, &target.authority)
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if !token.is_empty() {
        request = request.header("X-Api-Token", token);
    }
    let request = request.body(Body::from(form));
    let request = request.map_err(|error| failed(error.to_string()))?;
    let answer = timeout(limit, exchange(stream, request)).await;
    let (status, text) = answer
        .map_err(|_| {
            Failure::new(
                format!("{target}: no answer within {limit:?}"),
                "a change may have been made: look (ListBrokers, ListSubjectRoutes), then try again",
            )
        })?
        .map_err(failed)?;
    let text = text.trim().to_owned();
    if status == StatusCode::OK {
        return Ok(text);
    }
    let start: String = text.chars().take(300).collect();
    Err(failed(format!("{status}: {start}")))
}

async fn exchange(
    stream: TcpStream,
    request: Request<Body>,
) -> Result<(StatusCode, String), String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(words)?;
    let driving = tokio::spawn(connection);
    let answered = async {
        let response = sender.send_request(request).await.map_err(words)?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        let text = String::from_utf8(body.to_vec());
        Ok((
            status,
            text.map_err(|_| "the answer is no text".to_owned())?,
        ))
    }
    .await;
    driving.abort();
    answered
}
