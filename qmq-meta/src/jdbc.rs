//! `jdbc.url` as QMQ's operators write it: `jdbc:mysql://host:port/database?name=value&...`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::DatabaseError;

/// MySQL's.
const PORT: u16 = 3306;

/// Parameters of the Java drivers that change nothing here: what they ask for is so anyway, or is about that driver's inside.
const WITHOUT_EFFECT: &[&str] = &[
    "allowloadlocalinfile",
    "allowmultiqueries",
    "allowpublickeyretrieval",
    "autoreconnect",
    "autoreconnectforpools",
    "cacheprepstmts",
    "cacheresultsetmetadata",
    "cacheserverconfiguration",
    "characterencoding",
    "characterset",
    "charactersetresults",
    "connectioncollation",
    "connectiontimezone",
    "driverclassname",
    "dumpqueriesonexception",
    "elidesetautocommits",
    "failoverreadonly",
    "forceconnectiontimezonetosession",
    "initialtimeout",
    "interactiveclient",
    "logger",
    "maintaintimestats",
    "maxreconnects",
    "noaccesstoprocedurebodies",
    "nullcatalogmeanscurrent",
    "paranoid",
    "prepstmtcachesize",
    "prepstmtcachesqllimit",
    "profilesql",
    "rewritebatchedstatements",
    "servertimezone",
    "sessionvariables",
    "tcpkeepalive",
    "tcpnodelay",
    "tinyint1isbit",
    "useaffectedrows",
    "usecompression",
    "usecursorfetch",
    "useinformationschema",
    "usejdbccomplianttimezoneshift",
    "uselegacydatetimecode",
    "uselocalsessionstate",
    "useoldaliasmetadatabehavior",
    "useserverprepstmts",
    "usetimezone",
    "useunicode",
    "zerodatetimebehavior",
];

/// What an operator asks of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// None (`useSSL=false`).
    Off,
    /// If the server has it (nothing said).
    #[default]
    Preferred,
    /// Or no connection (`useSSL=true`, `sslMode=REQUIRED`); the certificate is not looked at.
    Required,
    /// With a certificate of a known authority (`sslMode=VERIFY_CA`).
    VerifyAuthority,
    /// And with the server's name in it (`sslMode=VERIFY_IDENTITY`).
    VerifyIdentity,
}

/// Where a database is. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct JdbcUrl {
    host: String,
    port: u16,
    database: String,
    user: Option<String>,
    password: Option<String>,
    tls: Tls,
    authority: Option<PathBuf>,
    connect_timeout: Option<Duration>,
    socket_timeout: Option<Duration>,
    warnings: Vec<String>,
}

impl JdbcUrl {
    /// Host name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port; 3306 if none was said.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// User, if the URL says one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Password, if the URL says one.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// TLS.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// A PEM file with the authority of the server's certificate (`serverSslCert`).
    #[must_use]
    pub fn authority(&self) -> Option<&PathBuf> {
        self.authority.as_ref()
    }

    /// `connectTimeout`, if it limits.
    #[must_use]
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// `socketTimeout`, if it limits.
    #[must_use]
    pub fn socket_timeout(&self) -> Option<Duration> {
        self.socket_timeout
    }

    /// What the caller should log: parameters that are not known, or not as they were meant.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn parameter(&mut self, name: &str, value: &str, ssl_mode: &mut Option<Tls>) {
        let truth = value.eq_ignore_ascii_case("true");
        match name.to_ascii_lowercase().as_str() {
            "user" => self.user = Some(decoded(value)),
            "password" => self.password = Some(decoded(value)),
            "usessl" | "requiressl" if truth => self.tls = self.tls.at_least(Tls::Required),
            "usessl" => self.tls = Tls::Off,
            "requiressl" => (),
            "verifyservercertificate" if truth => self.tls = Tls::VerifyAuthority,
            "verifyservercertificate" => (),
            "sslmode" => match ssl_mode_of(value) {
                Some(mode) => *ssl_mode = Some(mode),
                None => {
                    // An unknown wish for security must not end in less of it.
                    *ssl_mode = Some(Tls::VerifyIdentity);
                    self.warnings.push(format!(
                        "jdbc.url: sslMode={value} is not known (DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY); taken as VERIFY_IDENTITY"
                    ));
                }
            },
            "serversslcert" => self.authority = Some(PathBuf::from(decoded(value))),
            "connecttimeout" => self.connect_timeout = self.milliseconds(name, value),
            "sockettimeout" => self.socket_timeout = self.milliseconds(name, value),
            known if WITHOUT_EFFECT.contains(&known) => (),
            keys if keys.contains("keystore") => self.warnings.push(format!(
                "jdbc.url: {name} names a Java key store, which cannot be read here; name a PEM file with serverSslCert=FILE"
            )),
            _ => self
                .warnings
                .push(format!("jdbc.url: parameter {name} is not known and has no effect")),
        }
    }

    fn milliseconds(&mut self, name: &str, value: &str) -> Option<Duration> {
        match value.parse::<u64>() {
            Ok(0) => None,
            Ok(ms) => Some(Duration::from_millis(ms)),
            Err(_) => {
                self.warnings.push(format!(
                    "jdbc.url: {name}={value} is no number of ms and has no effect"
                ));
                None
            }
        }
    }
}

impl Tls {
    fn at_least(self, other: Self) -> Self {
        if self as u8 >= other as u8 {
            self
        } else {
            other
        }
    }
}

fn ssl_mode_of(value: &str) -> Option<Tls> {
    // MySQL's names, then MariaDB's.
    match value.to_ascii_lowercase().replace('_', "-").as_str() {
        "disabled" | "disable" => Some(Tls::Off),
        "preferred" => Some(Tls::Preferred),
        "required" | "trust" => Some(Tls::Required),
        "verify-ca" => Some(Tls::VerifyAuthority),
        "verify-identity" | "verify-full" => Some(Tls::VerifyIdentity),
        _ => None,
    }
}

/// Without `%XX`; what is no such sequence stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .filter(|two| two.iter().all(u8::is_ascii_hexdigit))
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wrong(why: &str) -> DatabaseError {
    DatabaseError::Setting(format!(
        "jdbc.url {why}; it should look like jdbc:mysql://HOST:3306/DATABASE?useSSL=false"
    ))
}

impl FromStr for JdbcUrl {
    type Err = DatabaseError;

    /// Reads `jdbc:mysql://...`, `jdbc:mariadb://...`, and the same without `jdbc:`, with `USER:PASSWORD@` before the host if need be.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Setting`] in words that say what is wrong, and never the password.
    fn from_str(text: &str) -> Result<Self, DatabaseError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("is empty"));
        }
        let plain = text.strip_prefix("jdbc:").unwrap_or(text);
        let rest = plain
            .strip_prefix("mysql://")
            .or_else(|| plain.strip_prefix("mariadb://"))
            .ok_or_else(|| wrong("begins with neither jdbc:mysql:// nor jdbc:mariadb://"))?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (user_info, rest) = match rest.rsplit_once('@') {
            Some((user_info, rest)) => (Some(user_info), rest),
            None => (None, rest),
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        if place.contains('<') || database.contains('<') {
            return Err(wrong("has a placeholder of the documents, <...>, in it"));
        }
        if place.contains(',') || place.contains('(') {
            return Err(wrong(
                "names several hosts, and one is taken: name that of the master, or of a proxy before all",
            ));
        }
        let (host, port) = host_and_port(place)?;
        if database.is_empty() {
            return Err(wrong("names no database"));
        }
        let mut url = Self {
            host,
            port,
            database: decoded(database),
            user: None,
            password: None,
            tls: Tls::default(),
            authority: None,
            connect_timeout: None,
            socket_timeout: None,
            warnings: Vec::new(),
        };
        if let Some(user_info) = user_info {
            let (user, password) = match user_info.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_info, None),
            };
            url.user = Some(decoded(user));
            url.password = password.map(decoded);
        }
        let mut ssl_mode = None;
        // In a file of XML, `&` is often left as it is written there.
        for parameter in parameters.replace("&amp;", "&").split('&') {
            if !parameter.is_empty() {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                url.parameter(name, value, &mut ssl_mode);
            }
        }
        url.tls = ssl_mode.unwrap_or(url.tls);
        Ok(url)
    }
}

fn host_and_port(place: &str) -> Result<(String, u16), DatabaseError> {
    let (host, port) = if let Some(six) = place.strip_prefix('[') {
        let (host, after) = six
            .split_once(']')
            .ok_or_else(|| wrong("has an IPv6 address without its closing bracket"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong("has in brackets what is no IPv6 address"));
        }
        (host, after.strip_prefix(':'))
    } else if place.matches(':').count() > 1 {
        return Err(wrong("has an IPv6 address without brackets"));
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("has a port that is none of 1 to 65535"))?,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((host.to_owned(), port))
}

impl fmt::Display for JdbcUrl {
    /// Without user, password and parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            database,
            ..
        } = self;
        if host.contains(':') {
            write!(f, "jdbc:mysql://[{host}]:{port}/{database}")
        } else {
            write!(f, "jdbc:mysql://{host}:{port}/{database}")
        }
    }
}

impl fmt::Debug for JdbcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JdbcUrl({self}, tls {:?})", self.tls)
    }
}

#[cfg(test)]
mod tests;
