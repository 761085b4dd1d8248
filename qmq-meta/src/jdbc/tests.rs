//! What operators write, and what is made of it.

use proptest::prelude::*;

use super::*;

fn url(text: &str) -> JdbcUrl {
    text.parse().unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<JdbcUrl>().unwrap_err().to_string()
}

#[test]
fn the_seeds_url_is_read() {
    let url = url("jdbc:mysql://devmysql.hs.com:3306/qmq_metaserver?useSSL=false");
    assert_eq!((url.host(), url.port()), ("devmysql.hs.com", 3306));
    assert_eq!(url.database(), "qmq_metaserver");
    assert_eq!(url.tls(), Tls::Off);
    assert!(url.warnings().is_empty());
}

#[test]
fn hosts_and_ports_are_read_as_written() {
    for (text, host, port) in [
        ("jdbc:mysql://h/db", "h", 3306),
        ("jdbc:mariadb://h:3307/db", "h", 3307),
        ("mysql://10.0.0.1:1/db", "10.0.0.1", 1),
        ("jdbc:mysql:///db", "localhost", 3306),
        ("jdbc:mysql://[2001:db8::1]:3307/db", "2001:db8::1", 3307),
        ("jdbc:mysql://[::1]/db", "::1", 3306),
        (" jdbc:mysql://h:3306/db \n", "h", 3306),
    ] {
        let url = url(text);
        assert_eq!(
            (url.host(), url.port(), url.database()),
            (host, port, "db"),
            "{text}"
        );
    }
    assert_eq!(
        url("jdbc:mysql://[::1]/db").to_string(),
        "jdbc:mysql://[::1]:3306/db"
    );
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (text, word) in [
        ("", "empty"),
        ("jdbc:oracle:thin:@h:1521:db", "jdbc:mysql://"),
        ("jdbc:mysql:loadbalance://a,b/db", "jdbc:mysql://"),
        ("jdbc:mysql://a:1,b:2/db", "several hosts"),
        ("jdbc:mysql://address=(host=a)(port=1)/db", "several hosts"),
        ("jdbc:mysql://<address>:<port>/<db>?<params>", "placeholder"),
        ("jdbc:mysql://h:3306", "no database"),
        ("jdbc:mysql://h:0/db", "port"),
        ("jdbc:mysql://h:99999/db", "port"),
        ("jdbc:mysql://2001:db8::1/db", "brackets"),
        ("jdbc:mysql://[2001:db8::1/db", "closing bracket"),
        ("jdbc:mysql://[nonsense]/db", "no IPv6"),
    ] {
        let why = refused(text);
        assert!(why.contains(word), "{text}: {why}");
    }
}

#[test]
fn parameters_are_understood_without_effect_or_warned_about() {
    let url = url(
        "jdbc:mysql://h/db?useUnicode=true&characterEncoding=UTF-8&serverTimezone=Asia/Shanghai&connectTimeout=1000&amp;socketTimeout=3000&foo=bar",
    );
    assert_eq!(url.connect_timeout(), Some(Duration::from_secs(1)));
    assert_eq!(url.socket_timeout(), Some(Duration::from_secs(3)));
    assert_eq!(url.tls(), Tls::Preferred);
    assert_eq!(url.warnings().len(), 1);
    assert!(url.warnings()[0].contains("foo"));
}

#[test]
fn tls_is_what_was_asked_for_and_never_less() {
    for (parameters, tls) in [
        ("", Tls::Preferred),
        ("useSSL=true", Tls::Required),
        (
            "useSSL=true&verifyServerCertificate=true",
            Tls::VerifyAuthority,
        ),
        (
            "verifyServerCertificate=true&useSSL=true",
            Tls::VerifyAuthority,
        ),
        ("requireSSL=true", Tls::Required),
        ("useSSL=true&sslMode=VERIFY_IDENTITY", Tls::VerifyIdentity),
        ("sslMode=verify-full&useSSL=true", Tls::VerifyIdentity),
        ("sslMode=DISABLED", Tls::Off),
        ("sslMode=VERIFY_EVERYTHING", Tls::VerifyIdentity),
    ] {
        assert_eq!(
            url(&format!("jdbc:mysql://h/db?{parameters}")).tls(),
            tls,
            "{parameters}"
        );
    }
}

#[test]
fn a_password_is_read_and_never_shown() {
    let secret = url("mysql://ad%40min:p%40ss@h/db?useSSL=false");
    assert_eq!(
        (secret.user(), secret.password()),
        (Some("ad@min"), Some("p@ss"))
    );
    let parameter = url("jdbc:mysql://h/db?user=u&password=hushhush");
    assert_eq!(
        (parameter.user(), parameter.password()),
        (Some("u"), Some("hushhush"))
    );
    for shown in [
        format!("{secret} {secret:?}"),
        format!("{parameter} {parameter:?}"),
    ] {
        assert!(
            !shown.contains("p@ss") && !shown.contains("hushhush"),
            "{shown}"
        );
    }
    for text in [
        "mysql://u:hushhush@h:0/db",
        "mysql://u:hushhush@h",
        "u:hushhush",
    ] {
        assert!(!refused(text).contains("hushhush"));
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_tell_the_password(text in "(jdbc:)?mysql://(u:hushhush@)?[a-z%<\\[:,]{0,9}(/[a-z%]{0,3})?(\\?[a-zA-Z=&%]{0,20})?") {
        let shown = match text.parse::<JdbcUrl>() {
            Ok(url) => format!("{url} {url:?} {:?}", url.warnings()),
            Err(error) => error.to_string(),
        };
        prop_assert!(!shown.contains("hushhush"), "{}", shown);
    }
}
