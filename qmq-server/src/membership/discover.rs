//! Where a meta server is: one HTTP GET, as QMQ's nodes and clients ask (QMQ: `MetaServerLocator`).
//!
//! What is answered is not trusted: it says where to try, and TLS says whether that is a meta server of the cluster.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer in bytes: a name of 255, a port, and white space around them.
const ANSWER_BYTES_MAX: usize = 512;
/// Where QMQ's meta servers answer.
const PATH: &str = "/meta/address";

/// How long to wait for what. The defaults are QMQ's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the whole answer is there.
    pub read: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(1_000),
            read: Duration::from_millis(500),
        }
    }
}

/// Why nobody says where a meta server is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// What is configured is no such URL.
    #[error(
        "meta.server.endpoint={url}: {reason}; write it as http://HOST:8080/meta/address, with the port that meta.server.discover.port of the meta server says"
    )]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no connection.
    #[error(
        "{url}: {reason}; does the meta server run, and is this its HTTP port (meta.server.discover.port, 8080 by default; meta.server.port, 20880 by default, is another)?"
    )]
    Connect {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// What was answered is not an address.
    #[error("{url}: {reason}; is this the HTTP port of a meta server (meta.server.discover.port)?")]
    Answer {
        /// The URL.
        url: String,
        /// What came instead.
        reason: String,
    },
}

/// Where a meta server is, as its HTTP says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// `host:port`, on UDP.
    pub address: String,
    /// The host of the URL: the name that the certificate carries unless `meta.server.name` says another.
    pub host: String,
    /// `host:port` of the URL, for commands.
    pub http: String,
    /// Our own address on the way there.
    pub local: IpAddr,
}

/// Asks one URL.
///
/// # Errors
/// See [`DiscoverError`].
pub async fn meta_address(url: &str, limits: HttpLimits) -> Result<Discovered, DiscoverError> {
    let Target { host, port, path } = target(url)?;
    let failed = |reason: String| DiscoverError::Connect {
        url: url.to_owned(),
        reason,
    };
    let connecting = TcpStream::connect((host.as_str(), port));
    let stream = timeout(limits.connect, connecting)
        .await
        .map_err(|_| {
            failed(format!(
                "no connection within {} ms",
                limits.connect.as_millis()
            ))
        })?
        .map_err(|error| failed(error.to_string()))?;
    let local = stream
        .local_addr()
        .map_err(|error| failed(error.to_string()))?
        .ip();
    let http = join(&host, port);
    let text = timeout(limits.read, get(stream, &http, &path))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", limits.read.as_millis())));
    let address = text.and_then(|text| checked(text.trim()));
    Ok(Discovered {
        address: address.map_err(|reason| DiscoverError::Answer {
            url: url.to_owned(),
            reason,
        })?,
        host,
        http,
        local,
    })
}

struct Target {
    host: String,
    port: u16,
    path: String,
}

fn target(url: &str) -> Result<Target, DiscoverError> {
    let wrong = |reason| DiscoverError::Url {
        url: url.chars().take(200).collect(),
        reason,
    };
    let uri: Uri = url.trim().parse().map_err(|_| wrong("it is no URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong(
                "https is not spoken here; this address needs no secrecy, and TLS to the meta server itself checks who it is",
            ));
        }
        _ => return Err(wrong("it does not begin with http://")),
    }
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    Ok(Target {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(80),
        path: if matches!(path, "" | "/") { PATH } else { path }.to_owned(),
    })
}

/// The body of the answer, if it is one of text with status 200.
async fn get(stream: TcpStream, host: &str, path: &str) -> Result<String, String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(text)?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = axum::body::to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|_| {
            format!(
                "the answer has more than {ANSWER_BYTES_MAX} bytes, or does not come to its end"
            )
        })?;
        String::from_utf8(body.to_vec()).map_err(|_| "the answer is no text".to_owned())
    };
    // The connection is driven here, so that nothing of it outlives the wait.
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => return answer,
        ended = &mut connection => ended.map_err(text)?,
    }
    answered.await
}

/// `host:port` or `[address]:port`.
fn checked(text: &str) -> Result<String, String> {
    let cut: String = text.chars().take(100).collect();
    let wrong = || format!("the answer {cut:?} is no host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let inner = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    if port == 0 || inner.is_empty() || inner.len() > 255 || !inner.chars().all(fits) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// `host:port`, with brackets where an IPv6 address needs them.
pub(crate) fn join(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
