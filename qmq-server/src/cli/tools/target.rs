//! Which meta server, and who asks.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use axum::http::Uri;
use qmq_server::config::read_limited;

use crate::cli::client::meta_endpoint;
use crate::cli::failure::Failure;

/// Port of a meta server's HTTP (`meta.server.discover.port`).
const PORT: u16 = 8080;
/// What `meta.server.endpoint` ends with.
const ADDRESS_PATH: &str = "/meta/address";
/// Names the meta server where there is no `--metaserver`.
const METASERVER_VARIABLE: &str = "QMQ_METASERVER";
/// The token where there is neither `--token` nor `--token-file`.
const TOKEN_VARIABLE: &str = "QMQ_API_TOKEN";
/// Bytes of a token's file.
const TOKEN_FILE_BYTES_MAX: u64 = 16 << 10;

/// How a command finds a meta server.
#[derive(Debug, clap::Args)]
struct MetaArgs {
    /// Meta server: HOST, HOST:PORT or a URL; without a port 8080 [default: $QMQ_METASERVER, else meta.server.endpoint of the client.properties that $QMQ_CLIENT names or `qmq dev` wrote last]
    #[arg(long, value_name = "ADDRESS")]
    metaserver: Option<Metaserver>,
}

/// How a command finds a meta server, and says who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    meta: MetaArgs,
    /// One of the tokens of valid-api-tokens.properties; other users of this machine see it here [default: $QMQ_API_TOKEN]
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl MetaArgs {
    /// The meta server that is named here or in the environment, if any is.
    fn named(&self) -> Result<Option<Metaserver>, Failure> {
        if let Some(named) = &self.metaserver {
            return Ok(Some(named.clone()));
        }
        match std::env::var(METASERVER_VARIABLE) {
            Ok(text) if !text.is_empty() => text.parse().map(Some).map_err(|why: String| {
                Failure::usage(why, format!("correct {METASERVER_VARIABLE}"))
            }),
            _ => Ok(None),
        }
    }

    fn metaserver(&self) -> Result<Metaserver, Failure> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        let Some((endpoint, file)) = meta_endpoint()? else {
            return Err(Failure::usage(
                "no meta server is named",
                format!(
                    "give --metaserver=HOST:{PORT}, set {METASERVER_VARIABLE}, or set QMQ_CLIENT to a client.properties with meta.server.endpoint"
                ),
            ));
        };
        let wrong = |why| Failure::new(why, format!("correct {}", file.display()));
        endpoint.parse().map_err(wrong)
    }
}

impl TokenArgs {
    /// The meta server that is named, if any is.
    pub(crate) fn named(&self) -> Result<Option<Metaserver>, Failure> {
        self.meta.named()
    }

    /// The meta server.
    pub(crate) fn metaserver(&self) -> Result<Metaserver, Failure> {
        self.meta.metaserver()
    }

    /// The token; empty: none is given.
    pub(crate) fn token(&self) -> Result<String, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => read_token(file)?,
            (None, None) => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        };
        if token.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return Err(Failure::usage(
                "a token has visible ASCII characters only",
                "choose another, in valid-api-tokens.properties too",
            ));
        }
        Ok(token)
    }

    /// The token, which must be there.
    pub(crate) fn required_token(&self) -> Result<String, Failure> {
        match self.token()? {
            token if token.is_empty() => Err(Failure::usage(
                "no token is given",
                format!(
                    "give --token-file=FILE or --token=TOKEN, or set {TOKEN_VARIABLE}; tokens are in the meta server's valid-api-tokens.properties"
                ),
            )),
            token => Ok(token),
        }
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let bytes = read_limited(file, TOKEN_FILE_BYTES_MAX)
        .map_err(|error| Failure::of(format!("reading {shown}"), &error, "give another file"))?;
    match String::from_utf8(bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ => Err(Failure::new(
            format!("{shown} has no token"),
            "put it there, as text",
        )),
    }
}

/// Where a meta server has its HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metaserver {
    /// `host:port`.
    pub(super) authority: String,
    /// What stands in front of its paths behind a proxy.
    pub(super) prefix: String,
}

impl std::fmt::Display for Metaserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl FromStr for Metaserver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(200).collect();
        let wrong = |why: &str| {
            format!("{shown:?} {why}; write HOST, HOST:PORT, [ADDRESS]:PORT or http://HOST:PORT")
        };
        if text.contains(',') {
            return Err(wrong("names several meta servers, and one is asked"));
        }
        let is_url = text.contains("://");
        let url = match is_url {
            true => text.trim().to_owned(),
            false => format!("http://{}", text.trim()),
        };
        let uri: Uri = url.parse().map_err(|_| wrong("is no address"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("asks for https, which meta servers do not speak")),
            _ => return Err(wrong("does not begin with http://")),
        }
        let host = uri.host().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if host.is_empty() || authority.contains('@') || uri.query().is_some() {
            return Err(wrong("is no address"));
        }
        let has_port = authority.len() > host.len();
        let port = match uri.port_u16() {
            Some(0) => return Err(wrong("has port 0")),
            Some(port) => port,
            None if has_port => return Err(wrong("has no port behind the colon")),
            None if is_url => 80,
            None => PORT,
        };
        let prefix = uri.path().trim_end_matches('/');
        let prefix = prefix.strip_suffix(ADDRESS_PATH).unwrap_or(prefix);
        Ok(Self {
            authority: format!("{host}:{port}"),
            prefix: prefix.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_servers_are_named_as_people_do() {
        for (text, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("meta-1", "http://meta-1:8080"),
            ("[::1]:9080", "http://[::1]:9080"),
            ("[::1]", "http://[::1]:8080"),
            ("http://meta:9080/", "http://meta:9080"),
            ("http://meta/meta/address", "http://meta:80"),
            ("http://proxy:80/qmq/meta/address", "http://proxy:80/qmq"),
        ] {
            let target: Metaserver = text.parse().unwrap();
            assert_eq!(target.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_meta_server_is_refused_with_what_to_write() {
        for text in [
            "",
            ":8080",
            "a b",
            "meta:",
            "meta:0",
            "meta:70000",
            "https://meta",
            "ftp://meta",
            "user@meta",
            "a:1,b:2",
            "http://",
            "meta?x=1",
        ] {
            let why = text.parse::<Metaserver>().unwrap_err();
            assert!(why.contains("HOST:PORT"), "{text}: {why}");
        }
    }
}
