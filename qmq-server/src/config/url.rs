//! Hosts, addresses of HTTP and of databases, and the placeholders that documents have in their place.

use std::net::Ipv6Addr;

use super::key::whole;

/// Most bytes of one address.
const URL_BYTES_MAX: usize = 2048;

pub(super) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    is_host(host) && is_port(port)
}

fn is_port(text: &str) -> bool {
    whole(text).is_some_and(|port| (1..=65535).contains(&port))
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.len() <= 253 && host.chars().all(allowed)
        }
    }
}

fn is_host_maybe_port(text: &str) -> bool {
    is_host(text) || is_host_port(text)
}

fn is_plain(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>');
    text.len() <= URL_BYTES_MAX && !text.contains(odd)
}

/// `http://HOST[:PORT][/PATH]`. No user and no password: the log shows these addresses.
pub(super) fn is_http_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    is_plain(text) && is_host_maybe_port(authority)
}

/// `jdbc:mysql://HOST[:PORT][,...]/DATABASE[?PARAMETERS]`; what uses it reads the parameters.
pub(super) fn is_jdbc_url(text: &str) -> bool {
    let rest = ["jdbc:mysql://", "jdbc:mariadb://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let Some((hosts, path)) = rest.and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let database = path.split('?').next().unwrap_or(path);
    is_plain(text) && !database.is_empty() && hosts.split(',').all(is_host_maybe_port)
}

/// An address with `***` for what it says of passwords, in front of `@` and in its parameters.
pub(super) fn masked(url: &str) -> String {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, Some(parameters)),
        None => (url, None),
    };
    let mut shown = match address.rsplit_once('@') {
        Some((_, behind)) => {
            let scheme = address.find("//").map_or("", |at| &address[..at + 2]);
            format!("{scheme}***@{behind}")
        }
        None => address.to_owned(),
    };
    for (index, parameter) in parameters
        .into_iter()
        .flat_map(|p| p.split('&'))
        .enumerate()
    {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if is_secret_name(name) => {
                shown.push_str(name);
                shown.push_str("=***");
            }
            _ => shown.push_str(parameter),
        }
    }
    shown
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// Whether a value has a placeholder of the documentation in it, such as `<metaserver address>`.
pub(super) fn has_placeholder(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| {
        let inner = text[at + 1..].split('>').next().unwrap_or("");
        let closed = text[at + 1..].len() > inner.len();
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
        let begins = inner.starts_with(char::is_alphabetic);
        closed && begins && inner.len() <= 60 && inner.chars().all(allowed)
    })
}

/// Whether a value is nothing but one placeholder.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    text.ends_with('>') && text.rfind('<') == Some(0) && has_placeholder(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_the_documents_are_known() {
        for text in [
            "http://<metaserver address>/meta/address",
            "http://<host>[:<port>]/meta/address",
            "jdbc:mysql://<address>:<port>/<db>?<params>",
            "<password>",
            "<token-1>",
            "<中文>",
        ] {
            assert!(has_placeholder(text), "{text}");
        }
        for text in ["", "a<b", "<>", "< a>", "1<2>1", "a>b<c", "<a=b>", "x<y"] {
            assert!(!has_placeholder(text), "{text}");
        }
        assert!(is_placeholder(" <password> "));
        assert!(!is_placeholder("a<b>") && !is_placeholder("<a><b>"));
    }

    #[test]
    fn passwords_in_an_address_are_not_shown() {
        for (url, shown) in [
            (
                "jdbc:mysql://h:3306/db?useSSL=false",
                "jdbc:mysql://h:3306/db?useSSL=false",
            ),
            (
                "jdbc:mysql://h/db?user=me&password=hunter2&useSSL=false",
                "jdbc:mysql://h/db?user=me&password=***&useSSL=false",
            ),
            (
                "jdbc:mysql://h/db?trustCertificateKeyStorePassword=hunter2",
                "jdbc:mysql://h/db?trustCertificateKeyStorePassword=***",
            ),
            ("jdbc:mysql://me:hunter2@h/db", "jdbc:mysql://***@h/db"),
            ("me:hunter2@h", "***@h"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
