use super::*;

const PORT: Kind = Kind::Integer {
    low: 1,
    high: 65535,
    unit: "a UDP port",
};
const DELAY: Kind = Kind::Duration {
    unit: TimeUnit::Seconds,
    low: 1,
    high: 3600,
};
const SIZE: Kind = Kind::Bytes {
    low: 1024,
    high: 4 << 30,
};

#[test]
fn each_kind_takes_what_it_says_and_nothing_else() {
    let long = "x".repeat(11);
    let table: [(Kind, &[&str], &[&str]); 14] = [
        (
            Kind::Bool,
            &["true", "FALSE", " true "],
            &["", "yes", "1", "tru"],
        ),
        (
            PORT,
            &["1", "65535", "020881"],
            &[
                "",
                "0",
                "65536",
                "-1",
                "+1",
                "1.0",
                "0x50",
                "1 2",
                "1_000",
                "18446744073709551616",
            ],
        ),
        (
            DELAY,
            &["1", "3600"],
            &["", "0", "3601", "5s", "5.5", "five"],
        ),
        (
            SIZE,
            &["1024", "1K", "4G", "4 GiB", "2048b", "1kib"],
            &[
                "",
                "1023",
                "K",
                "5G",
                "4T",
                "1.5G",
                "-1K",
                "99999999999999999999G",
            ],
        ),
        (Kind::Path, &["/data", "a b", "../x"], &["", "  ", "a\0b"]),
        (
            Kind::Text { bytes_max: 10 },
            &["", "x", "中中中"],
            &[&long, "中中中中", "a\nb"],
        ),
        (
            Kind::Word(&["sync", "async"]),
            &["sync", "ASYNC"],
            &["", "syn", "sync,async"],
        ),
        (
            Kind::Address,
            &["0.0.0.0", "::", "127.0.0.1"],
            &["", "localhost", "1.2.3", "0.0.0.0:80", "[::]"],
        ),
        (
            Kind::Host,
            &["broker-1", "10.0.0.1", "[::1]", "a.example.org"],
            &["", "a b", "a:1", "::1", "http://a", "a/b", "<host>"],
        ),
        (
            Kind::HostPorts,
            &["a:1", "broker-1:20881, 10.0.0.1:5", "[::1]:9"],
            &[
                "", "a", "a:", ":1", "a:0", "a:65536", "a:1,", "::1:9", "a b:1", "h/x:1",
            ],
        ),
        (
            Kind::Urls,
            &[
                "http://127.0.0.1:8080/meta/address",
                "http://a/meta/address, http://[::1]:80/meta/address",
                "http://meta-1",
            ],
            &[
                "",
                "127.0.0.1:8080",
                "https://a/",
                "http://",
                "http://a/,",
                "http://a:0/",
                "http://a b/",
                "http://u:p@a/",
                "http://<metaserver address>/meta/address",
                &"http://a/,".repeat(17),
                &format!("http://a/{}", "x".repeat(3000)),
            ],
        ),
        (
            Kind::JdbcUrl,
            &[
                "jdbc:mysql://devmysql.hs.com:3306/qmq_metaserver?useSSL=false",
                "jdbc:mariadb://a/b",
                "jdbc:mysql://a:1,b:2/c",
            ],
            &[
                "",
                "mysql://a/b",
                "jdbc:oracle://a/b",
                "jdbc:mysql:///b",
                "jdbc:mysql://a/",
                "jdbc:mysql://a",
                "jdbc:mysql://a b/c",
                "jdbc:mysql://<address>:<port>/<db>?<params>",
            ],
        ),
        (
            Kind::Rights,
            &["", "produce:*", "produce:order.*;consume:*"],
            &["produce", "write:*", "produce:"],
        ),
        (
            Kind::Secret { bytes_max: 10 },
            &["s3cret", " x "],
            &[&long, "a\nb"],
        ),
    ];
    for (kind, good, bad) in table {
        for text in good {
            assert!(kind.read(text).is_some(), "{kind:?} refuses {text:?}");
        }
        for text in bad {
            assert_eq!(kind.read(text), None, "{kind:?} takes {text:?}");
        }
        assert!(!kind.allowed().is_empty());
    }
}

#[test]
fn units_are_applied() {
    assert_eq!(
        DELAY.read("5"),
        Some(Value::Duration(Duration::from_secs(5)))
    );
    assert_eq!(SIZE.read("64M"), Some(Value::Number(64 << 20)));
    let hours = Kind::Duration {
        unit: TimeUnit::Hours,
        low: 0,
        high: u64::MAX,
    };
    assert_eq!(
        hours.read("72"),
        Some(Value::Duration(Duration::from_secs(72 * 3600)))
    );
}

#[test]
fn a_secret_is_never_shown() {
    let value = Kind::Secret { bytes_max: 100 }.read("hunter2");
    let shown = format!("{value:?}");
    assert!(value.is_some() && !shown.contains("hunter2"), "{shown}");
}
