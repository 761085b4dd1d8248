//! Where a meta server is: said by itself, over HTTP, to whoever asks.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::route::host;
use crate::error::{ConfigError, ConnectError};

/// Most bytes of the answer.
const ANSWER_BYTES_MAX: usize = 1 << 10;
/// How long the connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long all may take.
const WHOLE: Duration = Duration::from_millis(1_500);
/// Port of HTTP if the address has none.
const HTTP_PORT: u16 = 80;

/// Where a meta server is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// HTTP there answers with the address of its QUIC.
    Url(String),
    /// The address of its QUIC.
    Address(String),
}

impl Place {
    /// As the application gave it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Url(text) | Self::Address(text) => text,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Url(url) => parse(url).map(drop),
            Self::Address(address) => host(address).map(drop),
        }
    }

    /// The host that the application named, whatever HTTP there says.
    pub(crate) fn host(&self) -> Result<String, ConfigError> {
        match self {
            Self::Url(url) => Ok(bare_host(&parse(url)?).to_owned()),
            Self::Address(address) => host(address).map(str::to_owned),
        }
    }

    /// The address of its QUIC.
    pub(crate) async fn address(&self) -> Result<String, ConnectError> {
        let url = match self {
            Self::Url(url) => url,
            Self::Address(address) => return Ok(address.clone()),
        };
        let failed = |reason: String| ConnectError::MetaLookup {
            url: url.clone(),
            reason,
        };
        let answer = timeout(WHOLE, ask(url))
            .await
            .map_err(|_| failed(format!("no answer came within {WHOLE:?}")))?
            .map_err(failed)?;
        let answer = answer.trim();
        match host(answer) {
            Ok(_) => Ok(answer.to_owned()),
            Err(_) => Err(failed(format!(
                "it answered {:?}, which is no host:port",
                answer.chars().take(80).collect::<String>()
            ))),
        }
    }
}

fn parse(url: &str) -> Result<Uri, ConfigError> {
    let wrong = |reason: String| ConfigError::MetaUrl {
        url: url.to_owned(),
        reason,
    };
    let uri: Uri = url.parse().map_err(|error| wrong(format!("{error}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("it does not begin with http://".to_owned()));
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(uri),
        _ => Err(wrong("it has no host".to_owned())),
    }
}

/// Without the brackets of IPv6.
fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The body of the answer to a GET.
async fn ask(url: &str) -> Result<String, String> {
    let uri = parse(url).map_err(|error| error.to_string())?;
    let authority = uri.authority().ok_or("it has no host")?.as_str();
    let name = bare_host(&uri);
    let port = uri.port_u16().unwrap_or(HTTP_PORT);
    let stream = timeout(CONNECT, TcpStream::connect((name, port)))
        .await
        .map_err(|_| format!("it did not connect within {CONNECT:?}"))?
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake::<_, String>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .body(String::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        read(response.into_body()).await
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn read(body: Incoming) -> Result<String, String> {
    let mut body = pin!(body);
    let mut answer = Vec::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(format!(
                    "its answer is longer than {ANSWER_BYTES_MAX} bytes"
                ));
            }
            answer.extend_from_slice(data);
        }
    }
    String::from_utf8(answer).map_err(|_| "its answer is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_that_the_application_named() {
        let host = |place: Place| place.host().unwrap();
        let url = |text: &str| Place::Url(text.to_owned());
        assert_eq!(host(url("http://meta-1:8080/meta/address")), "meta-1");
        assert_eq!(host(url("http://[::1]:8080/meta/address")), "::1");
        assert_eq!(host(Place::Address("[::1]:20880".to_owned())), "::1");
    }

    #[test]
    fn an_address_of_http_has_a_scheme_and_a_host() {
        assert!(parse("http://meta-1:8080/meta/address").is_ok());
        assert!(parse("http://[::1]:8080/meta/address").is_ok());
        for wrong in [
            "meta-1:8080",
            "https://meta-1/meta/address",
            "/meta/address",
            "http://",
            "",
        ] {
            let told = parse(wrong).unwrap_err().to_string();
            assert!(told.contains("http://host:8080/meta/address"), "{told}");
        }
    }
}
