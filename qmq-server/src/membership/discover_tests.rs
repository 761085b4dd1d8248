use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers one request with these bytes, and keeps the connection if it `hangs`.
async fn answering(answer: String, hangs: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 4096];
        let _ = stream.read(&mut read).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        if hangs {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
    address
}

fn ok(body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}")
}

async fn asked(answer: String) -> Result<Discovered, DiscoverError> {
    let address = answering(answer, false).await;
    let url = format!("http://{address}/meta/address");
    // What a busy machine may take; `silence_ends` has short ones.
    let limits = HttpLimits {
        connect: Duration::from_secs(10),
        read: Duration::from_secs(10),
    };
    meta_address(&url, limits).await
}

#[tokio::test]
async fn an_address_is_trimmed_and_taken() {
    for (body, address) in [
        (" 10.0.0.1:20880 \n", "10.0.0.1:20880"),
        ("meta-1.example.org:20880", "meta-1.example.org:20880"),
        ("[::1]:20880", "[::1]:20880"),
    ] {
        let found = asked(ok(body)).await.unwrap();
        assert_eq!(found.address, address);
        assert_eq!(found.host, "127.0.0.1");
        assert!(found.local.is_loopback());
    }
    let until_the_end = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n10.0.0.1:1".to_owned();
    assert_eq!(asked(until_the_end).await.unwrap().address, "10.0.0.1:1");
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for body in [
        "",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:70000",
        "::1:20880",
        "<html>:1",
        "a b:1",
        &"a:1".repeat(1_000),
    ] {
        let error = asked(ok(body)).await.unwrap_err().to_string();
        assert!(error.contains("meta.server.discover.port"), "{error}");
    }
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n";
    for answer in [
        elsewhere,
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        let error = asked(answer.to_owned()).await.unwrap_err();
        assert!(matches!(error, DiscoverError::Answer { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_limit() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{}",
        "a".repeat(100_000)
    );
    let address = answering(answer, true).await;
    let limits = HttpLimits {
        connect: Duration::from_secs(10),
        read: Duration::from_secs(30),
    };
    let error = meta_address(&format!("http://{address}"), limits)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("512 bytes"), "{error}");
}

#[tokio::test]
async fn silence_ends() {
    let address = answering(String::new(), true).await;
    let limits = HttpLimits {
        connect: Duration::from_secs(10),
        read: Duration::from_millis(50),
    };
    let error = meta_address(&format!("http://{address}"), limits)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no answer within 50 ms"),
        "{error}"
    );
}

/// A mistake that operators of QMQ write of: whoever gives the port of the meta server's QUIC door, where nothing listens on TCP.
#[tokio::test]
async fn the_wrong_port_of_the_meta_server_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/meta/address");
    let error = meta_address(&url, HttpLimits::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("8080") && error.contains("20880"), "{error}");
}

#[test]
fn a_url_says_host_port_and_path() {
    let of = |url| target(url).map(|target| (target.host, target.port, target.path));
    let is = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
    assert_eq!(of("http://meta/meta/address"), is("meta", 80, PATH));
    assert_eq!(of("http://meta:8080"), is("meta", 8080, PATH));
    assert_eq!(of("http://[::1]:8080/a?b=c"), is("::1", 8080, "/a?b=c"));
    for wrong in [
        "",
        "meta:8080",
        "https://meta:8080/meta/address",
        "http:///meta/address",
        "10.0.0.1",
    ] {
        let error = target(wrong).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("http://HOST:8080/meta/address"), "{error}");
    }
}
