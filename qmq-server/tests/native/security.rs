//! Who may do what: every cell of the table in `docs/security.md` is tried.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use qmq_server::access::token_hash;
use qmq_server::tls::{Authority, Overwrite};
use qmq_store::PullRequest;
use qmq_wire::{
    Ack, CloseCode, Code, ControlRequest, ControlResponse, Durability, Nack, Renew, ResetTo,
};
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::test_broker::{Home, TestBroker};
use super::wire_client::{
    Answer, Batch, Dial, Peer, Stream, flow, open, outcomes, ranges, sleep_ms, within,
};

/// The columns behind the first ones, and the rows, of the table whose head begins so.
fn table(begins: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(begins));
    let head = cells(lines.next().expect("the table is there"));
    let rows = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    let columns = begins.matches(" |").count();
    (head[columns..].to_vec(), rows)
}

struct Principals {
    home: Home,
    other: tempfile::TempDir,
}

impl Principals {
    fn new(sets: &[(&str, &str)]) -> Self {
        let mut all = vec![("anonymous.rights", "")];
        all.extend_from_slice(sets);
        let home = Home::new(&all);
        let tokens = ["produce", "consume", "administer"].map(|right| {
            format!(
                "{}=holder-{right};{right}:order\n",
                token_hash(&token(right))
            )
        });
        std::fs::write(home.path("tokens"), tokens.concat()).unwrap();
        Self {
            home,
            other: tempfile::tempdir().unwrap(),
        }
    }

    /// Connects as the principal of that column.
    fn dial(&self, broker: &TestBroker, column: &str) -> Dial {
        let now = SystemTime::now();
        let ago = now - Duration::from_secs(3 * 86_400);
        let mut dial = broker.dial();
        let authority = &broker.home.authority;
        let issued = match column {
            "anonymous" => return dial,
            "unknown token" => return dial.token("nobody-has-this"),
            "client certificate" => authority.client("client", 1, now),
            "node certificate" => authority.node("other-node", &["localhost".to_owned()], 1, now),
            "expired certificate" => authority.client("late", 1, ago),
            "other authority" => {
                let folder = self.other.path();
                let other = Authority::create(folder, "other", 1, now, Overwrite::Yes).unwrap();
                other.node("stranger", &["localhost".to_owned()], 1, now)
            }
            column => {
                let right = column.strip_prefix("token: ").expect(column);
                return dial.token(&token(right));
            }
        };
        dial.own = Some(
            broker
                .home
                .write(&column.replace(' ', "-"), &issued.unwrap()),
        );
        dial
    }
}

fn token(right: &str) -> String {
    format!("secret-of-{right}")
}

/// A connection with HELLO done, or how it ended, as a cell says it.
async fn connect(dial: &Dial) -> Result<(Endpoint, Connection, Stream), String> {
    let ended = |error: ConnectionError| match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.to_string(),
        _ => "TLS".to_owned(),
    };
    let (endpoint, connection) = dial.bare().await.map_err(ended)?;
    let mut control = open(&connection).await.map_err(ended)?;
    let mut hello = bytes::BytesMut::new();
    dial.hello.encode(&mut hello);
    let _ = control.send.write_all(&hello).await;
    match control.next().await {
        Some(Answer::Hello(_)) => Ok((endpoint, connection, control)),
        Some(other) => panic!("{other:?}"),
        None => Err(ended(within("a close", connection.closed()).await)),
    }
}

fn cell(code: Option<Code>) -> String {
    code.map_or("yes".to_owned(), |code| code.number().to_string())
}

/// Tries one request; what came of it, as a cell says it.
async fn tried(connection: &Connection, request: &str) -> String {
    let mut stream = open(connection).await.unwrap();
    let flow = flow("order", "g", "c");
    let control = match request {
        "PRODUCE" => {
            stream
                .send(|out| Batch::bodies("order", ["x"]).encode(out))
                .await;
            let outcome = outcomes(&stream.produced().await)[0];
            return cell(outcome.err());
        }
        "SUBSCRIBE" => {
            let subscribe = qmq_wire::Subscribe {
                flow,
                credit: qmq_wire::Credit::default(),
            };
            stream.send(|out| subscribe.encode(out)).await;
            return match stream.answer().await {
                Answer::Subscribed(_) => cell(None),
                Answer::Refused(refusal) => cell(Some(refusal.code)),
                other => panic!("{other:?}"),
            };
        }
        "PULL" => {
            stream.pull(1, 1, 0, &flow).await;
            return match stream.answer().await {
                Answer::Pulled(_) => cell(None),
                Answer::Refused(refusal) => cell(Some(refusal.code)),
                other => panic!("{other:?}"),
            };
        }
        "ACK" | "NACK" => {
            let (flow, number, durability) = (Some(flow), 1, Durability::Default);
            let ranges = vec![(0, 0)];
            let (ack, incarnation) = (request == "ACK", 1);
            stream
                .send(|out| match ack {
                    true => Ack {
                        flow,
                        number,
                        durability,
                        incarnation,
                        ranges,
                    }
                    .encode(out),
                    false => {
                        let delay_ms = None;
                        Nack {
                            flow,
                            number,
                            durability,
                            incarnation,
                            delay_ms,
                            unseen: false,
                            ranges,
                        }
                        .encode(out);
                    }
                })
                .await;
            return match stream.answer().await {
                Answer::Acked(_) => cell(None),
                Answer::Refused(refusal) => cell(Some(refusal.code)),
                other => panic!("{other:?}"),
            };
        }
        "CONTROL Status" => ControlRequest::Status,
        "CONTROL Subjects" => ControlRequest::Subjects {
            pattern: String::new(),
            after: String::new(),
            max: 10,
        },
        "CONTROL Reset" => ControlRequest::Reset {
            subject: "order".to_owned(),
            group: "g".to_owned(),
            to: ResetTo::Earliest,
        },
        "CONTROL DropGroup" => ControlRequest::DropGroup {
            subject: "order".to_owned(),
            group: "g".to_owned(),
        },
        other => panic!("nobody knows how to try {other:?}"),
    };
    let mut out = bytes::BytesMut::new();
    control.encode(1, &mut out).unwrap();
    stream.send_bytes(&out).await;
    match stream.answer().await {
        Answer::Controlled(answer) => match answer.response {
            ControlResponse::Subjects(subjects) if subjects.is_empty() => "none".to_owned(),
            _ => cell(None),
        },
        Answer::Refused(refusal) => cell(Some(refusal.code)),
        other => panic!("{other:?}"),
    }
}

async fn http(broker: &TestBroker, request: &str, header: &str) -> String {
    let address = broker.broker.http_address().unwrap();
    let mut tcp = within("TCP", tokio::net::TcpStream::connect(address))
        .await
        .unwrap();
    let request =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", tcp.read_to_string(&mut answer))
        .await
        .unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Whether what one holds is kept for it when another one renews it.
async fn renewed(broker: &TestBroker, holder: &Peer, connection: &Connection) -> String {
    let lost = || {
        let counters = broker.broker.consumers().counters();
        counters.leases_lost.load(Ordering::SeqCst)
    };
    let before = lost();
    holder.publish("order", 1, 1).await;
    let held = flow("order", "renewed", "holder");
    let mut pulls = holder.stream().await;
    pulls.pull(1, 1, 10_000, &held).await;
    let pulled = pulls.pulled().await;
    let mut renews = open(connection).await.unwrap();
    let end = Instant::now() + Duration::from_millis(2_000);
    while lost() == before && Instant::now() < end {
        let renew = Renew {
            flow: Some(held.clone()),
            incarnation: pulled.incarnation,
            ranges: ranges(&pulled.messages),
        };
        renews.send(|out| renew.encode(out)).await;
        sleep_ms(50).await;
    }
    let kept = lost() == before;
    broker.store().drop_group("order", "renewed").unwrap();
    if kept { "yes" } else { "no" }.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_answers_whoever_reaches_it_as_documented() {
    let principals = Principals::new(&[]);
    let options = principals.home.options();
    let broker = principals.home.start_with(options).await;
    let (columns, rows) = table("| request over HTTP |");
    assert_eq!((columns.len(), rows.len()), (1, 4), "it is read whole");
    for row in &rows {
        for header in ["", "Authorization: Bearer secret-of-administer\r\n"] {
            assert_eq!(http(&broker, &row[0], header).await, row[1], "{}", row[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c10_every_cell_of_the_documented_table_holds() {
    let (columns, rows) = table("| door | request |");
    assert_eq!(
        (columns.len(), rows.len()),
        (9, 11),
        "the table is read whole"
    );
    let principals = Principals::new(&[("consumer.ack.timeout.ms", "1000")]);
    let options = principals.home.options();
    let other = principals.other;
    let broker = principals.home.start_with(options).await;
    let principals = Principals {
        home: Home::new(&[]),
        other,
    };
    let holder = principals.dial(&broker, "node certificate");
    let holder = holder.peer().await.unwrap();
    broker
        .store()
        .append(&qmq_store::Message::new("order", "x"))
        .unwrap();
    for (at, column) in columns.iter().enumerate() {
        let dial = principals.dial(&broker, column);
        let connected = connect(&dial).await;
        for row in &rows {
            let (door, request, expected) = (&row[0], &row[1], &row[at + 2]);
            // The group is there each time.
            let setup = PullRequest::new("order", "g", "setup").max(0);
            broker.store().pull(&setup).unwrap();
            let came = match (&**request, &connected) {
                ("HELLO", Ok(_)) => "yes".to_owned(),
                ("HELLO", Err(ended)) => ended.clone(),
                (_, Err(_)) => "-".to_owned(),
                ("RENEW", Ok((_, connection, _))) => renewed(&broker, &holder, connection).await,
                (_, Ok((_, connection, _))) => tried(connection, request).await,
            };
            assert_eq!(came, *expected, "{door} {request} by {column}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_certificates_are_required_nobody_comes_without_one() {
    let principals = Principals::new(&[("client.auth", "required")]);
    let options = principals.home.options();
    let other = principals.other;
    let broker = principals.home.start_with(options).await;
    let principals = Principals {
        home: Home::new(&[]),
        other,
    };
    for (column, expected) in [
        ("anonymous", Some("TLS")),
        ("token: produce", Some("TLS")),
        ("expired certificate", Some("TLS")),
        ("other authority", Some("TLS")),
        ("client certificate", None),
        ("node certificate", None),
    ] {
        let connected = connect(&principals.dial(&broker, column)).await;
        assert_eq!(connected.err().as_deref(), expected, "{column}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_change_while_somebody_is_connected() {
    let principals = Principals::new(&[]);
    let options = principals.home.options();
    let broker = principals.home.start_with(options).await;
    let both = |rights: &str| {
        let line = format!("{}=both;{rights}\n", token_hash("both"));
        std::fs::write(broker.home.path("tokens"), line).unwrap();
    };
    both("produce:order;consume:order");
    let dial = broker.dial().token("both");
    let end = Instant::now() + super::wire_client::LIMIT;
    let peer = loop {
        match connect(&dial).await {
            Ok(_) => break dial.peer().await.unwrap(),
            Err(ended) => assert_eq!(ended, (CloseCode::Unauthorized as u32).to_string()),
        }
        assert!(Instant::now() < end, "the tokens are not read anew");
        sleep_ms(50).await;
    };
    peer.publish("order", 1, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 10, 1 << 20).await;
    sub.take(1).await;
    let mut pulls = peer.stream().await;
    pulls
        .pull(1, 1, 30_000, &flow("order", "pulling", "c"))
        .await;
    pulls.pulled().await;
    pulls
        .pull(2, 1, 30_000, &flow("order", "pulling", "c"))
        .await;
    both("consume:other");
    assert_eq!(sub.end().await.code, Some(Code::Denied));
    let refusal = pulls.refused().await;
    assert_eq!((refusal.number, refusal.code), (2, Code::Denied));
    let produced = peer.produce(&Batch::bodies("order", ["x"])).await;
    assert_eq!(outcomes(&produced), [Err(Code::Denied)]);
    let refused = peer
        .try_subscribe(&flow("order", "g", "c"), 1, 1)
        .await
        .err();
    assert_eq!(refused.map(|refusal| refusal.code), Some(Code::Denied));
    peer.subscribe(&flow("other", "g", "c"), 1, 1).await;
}
