//! A meta server's pages in a folder of its own, and brokers that are only said to be there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use qmq_client::ResetTo;
use qmq_meta::{
    Broker, BrokerRole, Emptiness, GroupState, Liveness, Meta, MetaOptions, Presence, Sqlite,
};
use qmq_server::doors::http::HttpDoor;
use qmq_server::doors::http::meta::{AsksBrokers, MetaHttp, router};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The token of the operators' documents.
pub(crate) const TOKEN: &str = "<token-1>";

/// What brokers were asked, and what they say.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) resets: Vec<(String, String, String, String, ResetTo)>,
    /// Why a group cannot be reset.
    pub(crate) broken: HashMap<String, String>,
    /// Groups and subjects that have something left.
    pub(crate) busy: HashSet<(String, String)>,
}

#[derive(Clone, Default)]
pub(crate) struct Brokers(pub(crate) Arc<Mutex<Said>>);

#[async_trait]
impl AsksBrokers for Brokers {
    async fn reset(
        &self,
        group: &str,
        master: &str,
        subject: &str,
        consumers: &str,
        to: ResetTo,
    ) -> Result<(), String> {
        let mut said = self.0.lock();
        if let Some(why) = said.broken.get(group) {
            return Err(why.clone());
        }
        let texts = [group, master, subject, consumers].map(str::to_owned);
        let [group, master, subject, consumers] = texts;
        said.resets.push((group, master, subject, consumers, to));
        Ok(())
    }

    fn look(&self, _: Duration) -> Box<dyn Emptiness> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Emptiness for Brokers {
    async fn is_empty(&self, group: &str, _: &str, subject: &str) -> Result<bool, String> {
        let key = (group.to_owned(), subject.to_owned());
        Ok(!self.0.lock().busy.contains(&key))
    }
}

pub(crate) struct Door {
    pub(crate) meta: Meta,
    pub(crate) brokers: Brokers,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    _door: HttpDoor,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) async fn open(compat: bool) -> Door {
    let folder = tempfile::tempdir().unwrap();
    let database = Sqlite::open(folder.path().join("meta.db")).await.unwrap();
    let mut next = 0_u64;
    let random = move |below: u64| {
        next += 1;
        next % below
    };
    let options = MetaOptions {
        refresh: Duration::from_millis(200),
        settle: Duration::ZERO,
        ..MetaOptions::new("meta-1", Box::new(random))
    };
    let meta = Meta::start(Arc::new(database), options).await.unwrap();
    let brokers = Brokers::default();
    let pages = router(MetaHttp {
        meta: meta.clone(),
        tokens: Arc::new(|token| (token == TOKEN).then(|| "token1".to_owned())),
        compat,
        http_ports: Arc::new(|host, port| (host == "h2" && port == 20881).then_some(9090)),
        brokers: Arc::new(brokers.clone()),
    });
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let door = HttpDoor::serve(local, pages).await.unwrap();
    Door {
        meta,
        brokers,
        address: door.address(),
        folder,
        _door: door,
    }
}

impl Door {
    /// A group whose master lives.
    pub(crate) async fn group(&self, name: &str, port: u16) {
        let broker = Broker {
            group: name.to_owned(),
            role: BrokerRole::Master,
            hostname: "h1".to_owned(),
            ip: "10.0.0.1".to_owned(),
            serve_port: port,
            sync_port: Some(port + 1),
        };
        self.meta.add_broker(&broker).await.unwrap();
        let liveness = Liveness {
            group: name.to_owned(),
            role: BrokerRole::Master,
            address: format!("10.0.0.1:{port}"),
            state: GroupState::ReadWrite,
            epoch: 0,
        };
        let heard = self.meta.present(Presence::Online, "h1", port, &liveness);
        assert!(heard.await.unwrap().stored);
    }

    /// A request as it stands.
    pub(crate) async fn ask(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes));
        let _ = read.await.expect("an answer in time");
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or_default(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: meta\r\n{headers}\r\n");
        self.ask(request.as_bytes()).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: meta\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.ask(request.as_bytes()).await
    }

    /// An action with the token, as `tools.sh` asks for it. The answer must be one of QMQ's: status 200 and a line end.
    pub(crate) async fn act(&self, form: &str) -> String {
        let headers =
            format!("X-Api-Token: {TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        let answer = self.post("/management", &headers, form).await;
        assert_eq!(answer.status, 200, "{form}: {answer:?}");
        let body = answer.body.strip_suffix('\n');
        body.unwrap_or_else(|| panic!("{form}: no line end: {}", answer.body))
            .to_owned()
    }

    pub(crate) async fn acted(&self, form: &str) -> Value {
        serde_json::from_str(&self.act(form).await).unwrap()
    }
}
