//! The processes of a cluster, each in a folder of its own, all with certificates of one authority.

use std::fs::OpenOptions;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use qmq_client::{Client, Pem};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{code, qmq, stderr, stdout};
use crate::mariadb_server::{Scratch, Server};
use crate::user::{Process, run_bounded};

/// Longest that anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// One of the tokens of `valid-api-tokens.properties`.
pub(crate) const TOKEN: &str = "token-1";
/// `heartbeat.timeout.ms`.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);
/// `refresh.period.seconds`.
pub(crate) const REFRESH: Duration = Duration::from_secs(1);

/// Below the ports that the system gives by itself; never the same twice in this process, and others than those of the processes around it.
pub(crate) fn free_port() -> u16 {
    /// Ports of a process.
    const BLOCK: u16 = 150;
    const BLOCKS: u32 = 60;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 10_000 + u16::try_from(std::process::id() % BLOCKS).unwrap() * BLOCK;
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(next < BLOCK, "no port is free");
        let port = begin + next;
        let is_free = UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free {
            return port;
        }
    }
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < end, "{what} took longer than {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the nodes share.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) scratch: Scratch,
}

/// A process of the cluster.
pub(crate) struct Node {
    name: String,
    command: &'static str,
    file: PathBuf,
    /// Port of the native protocol.
    pub(crate) port: u16,
    /// Port of HTTP; 0: none.
    pub(crate) http: u16,
    process: Option<Process>,
}

impl Cluster {
    /// On a database of the shared server, with all tables.
    pub(crate) async fn new() -> Self {
        let scratch = Server::shared().database().await;
        scratch.migrate().await;
        Self::on(scratch)
    }

    pub(crate) fn on(scratch: Scratch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("tls");
        let made = run_bounded(
            &mut qmq(["tls", "init", "--dir", tls.to_str().unwrap()]),
            b"",
        );
        assert_eq!(code(&made), Some(0), "{}", stderr(&made));
        Self { folder, scratch }
    }

    /// A folder with a file of settings.
    fn configured(&self, name: &str, kind: &str, lines: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(kind);
        let tls = "tls.cert=../tls/node.pem\ntls.key=../tls/node.key\ntls.ca=../tls/ca.pem\n";
        let text = format!("{lines}{tls}anonymous.rights=produce:*;consume:*\n");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A meta server that has not been started yet.
    pub(crate) fn meta_to_be(&self, name: &str) -> Node {
        let (port, http) = (free_port(), free_port());
        let lines = format!(
            "meta.name={name}\nmeta.listen=127.0.0.1\nmeta.server.port={port}\nhttp.listen=127.0.0.1\nmeta.server.discover.port={http}\nrefresh.period.seconds={}\nheartbeat.timeout.ms={}\nmin.group.num=2\n",
            REFRESH.as_secs(),
            SILENCE.as_millis(),
        );
        let file = self.configured(name, "metaserver.properties", &lines);
        let options = self.scratch.options();
        let source = format!(
            "jdbc.driverClassName=com.mysql.jdbc.Driver\njdbc.url={}?useSSL=false\njdbc.username={}\njdbc.password={}\npool.size.max=10\n",
            self.scratch.url(),
            options.user,
            options.password,
        );
        std::fs::write(file.with_file_name("datasource.properties"), source).unwrap();
        let tokens = file.with_file_name("valid-api-tokens.properties");
        std::fs::write(tokens, format!("{TOKEN}=tests\n")).unwrap();
        Node {
            name: name.to_owned(),
            command: "meta",
            file,
            port,
            http,
            process: None,
        }
    }

    pub(crate) async fn meta(&self, name: &str) -> Node {
        let mut node = self.meta_to_be(name);
        node.start().await;
        node
    }

    fn member(
        &self,
        (name, command): (&str, &'static str),
        metas: &[&Node],
        further: &str,
    ) -> Node {
        let endpoints: Vec<String> = metas.iter().map(|meta| meta.endpoint()).collect();
        let (port, sync) = (free_port(), free_port());
        let lines = format!(
            "broker.name={name}\nmeta.server.endpoint={}\nbroker.listen=127.0.0.1\nbroker.port={port}\nsync.port={sync}\nhttp.port=0\nstore.root=store\nstore.segment.bytes=4M\nqmq.ip=127.0.0.1\n{further}",
            endpoints.join(","),
        );
        let file = self.configured(name, &format!("{command}.properties"), &lines);
        Node {
            name: name.to_owned(),
            command,
            file,
            port,
            http: 0,
            process: None,
        }
    }

    /// A broker with further settings, that has not been started yet.
    pub(crate) fn broker_to_be(&self, name: &str, metas: &[&Node], further: &str) -> Node {
        self.member((name, "broker"), metas, further)
    }

    /// A broker that is entered as the master of a group, and runs.
    pub(crate) async fn broker(&self, name: &str, metas: &[&Node], group: &str) -> Node {
        let host = format!("qmq.host={name}\n");
        let mut node = self.broker_to_be(name, metas, &host);
        node.enter(metas[0], group, 0);
        node.start().await;
        node
    }

    /// A delay server that is entered, and runs.
    pub(crate) async fn delay(&self, name: &str, metas: &[&Node], group: &str) -> Node {
        let host = format!("qmq.host={name}\n");
        let mut node = self.member((name, "delay"), metas, &host);
        node.enter(metas[0], group, 5);
        node.start().await;
        node
    }

    /// A client that knows meta servers alone.
    pub(crate) fn client(&self, metas: &[&Node]) -> Client {
        let ca = self.folder.path().join("tls/ca.pem");
        let builder = metas
            .iter()
            .fold(Client::builder(), |all, meta| all.meta(meta.endpoint()));
        let builder = builder
            .authorities(Pem::File(ca))
            .application("tests")
            .idle_timeout(Duration::from_secs(5))
            .reconnect_pause(Duration::from_millis(50), Duration::from_millis(500));
        builder.build().unwrap()
    }
}

impl Node {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/meta/address", self.http)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap()
    }

    /// Starts it, and waits until it says that it is ready.
    pub(crate) async fn start(&mut self) {
        let out = self.launch();
        until(&format!("{} to be ready", self.name), async || {
            if self.has_ended() {
                panic!("{} has ended: {}", self.name, self.log());
            }
            std::fs::read_to_string(&out).unwrap().contains("ready: ")
        })
        .await;
    }

    /// Starts it and does not wait. The file with what it prints.
    pub(crate) fn launch(&mut self) -> PathBuf {
        assert!(self.process.is_none(), "{} runs", self.name);
        let out = self.folder().join("out");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join("log"));
        let mut command = qmq([self.command, "--config", self.file.to_str().unwrap()]);
        command
            .env("QMQ_LOG", "info")
            .env_remove("QMQ_TEST_MARIADB")
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(log.unwrap());
        self.process = Some(Process::start(&mut command));
        out
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut().unwrap();
        process.0.try_wait().unwrap().is_some()
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        until(&format!("the end of {}", self.name), async || {
            self.has_ended()
        })
        .await;
        self.process.take().unwrap().0.wait().unwrap().code()
    }

    /// All that it has logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    pub(crate) async fn until_logged(&self, part: &str) {
        let what = format!("{part:?} in the log of {}", self.name);
        let end = Instant::now() + LIMIT;
        while !self.log().contains(part) {
            assert!(Instant::now() < end, "{what} took too long: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// `AddBroker` of this node, at a meta server.
    pub(crate) fn enter(&self, meta: &Self, group: &str, role: u8) {
        let sync = std::fs::read_to_string(&self.file).unwrap();
        let sync = sync
            .lines()
            .find_map(|line| line.strip_prefix("sync.port="));
        let line = format!(
            "qmq tools AddBroker --metaserver=127.0.0.1:{} --token={TOKEN} --brokerGroup={group} --role={role} --hostname={} --ip=127.0.0.1 --servePort={} --syncPort={}",
            meta.http,
            self.name,
            self.port,
            sync.unwrap()
        );
        let answer = typed(&line);
        assert!(stdout(&answer).contains("\"status\":0"), "{answer:?}");
    }

    /// The answer to a GET of this node's HTTP; `None`: it does not answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let asked = tokio::time::timeout(LIMIT, get(self.http, path)).await;
        asked.unwrap_or_else(|_| panic!("{} hangs over {path}", self.name))
    }
}

/// Runs a line as a shell would: blanks part the words.
pub(crate) fn typed(line: &str) -> Output {
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("qmq"), "{line}");
    run_bounded(&mut qmq(words), b"")
}

/// GET of a port of this machine. `None`: nobody answers.
pub(crate) async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: meta\r\nConnection: close\r\n\r\n");
    ask(port, &request).await
}

/// An action of a meta server, as QMQ's tools ask for it. `None`: it does not answer.
pub(crate) async fn act(port: u16, form: &str) -> Option<String> {
    let length = form.len();
    let request = format!(
        "POST /management HTTP/1.1\r\nHost: meta\r\nX-Api-Token: {TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{form}"
    );
    let (status, body) = ask(port, &request).await?;
    assert_eq!(status, 200, "{form}: {body}");
    Some(body)
}

async fn ask(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).await.ok()?;
    let (head, body) = all.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // Whoever dies while it answers has not answered.
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse::<usize>()
            .ok()
    });
    (length == Some(body.len())).then(|| (status, body.to_owned()))
}
