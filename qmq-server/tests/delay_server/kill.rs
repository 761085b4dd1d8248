//! The process of the delay server is killed when a broker has acknowledged messages and nothing of it is recorded.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use qmq_meta::{BrokerRole, GroupState};
use qmq_server::MetaServer;
use qmq_server::access::{Access, Rights, Tokens};
use qmq_server::doors::quic::{QuicDoor, QuicOptions, Rooms};
use qmq_server::membership::Membership;
use qmq_server::rooms::{AnswersControl, Caller, Taken, TakesMessages};
use qmq_server::tls::ReloadingServer;
use qmq_wire::{
    ALPN, Accepted, Code, ControlRequest, ControlResponse, Hello, Produce, Produced, Refusal, Role,
    features,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cluster::{Cluster, LOCAL, enter, until_state};
use super::test_delay::{ids, later, now_ms};
use super::wire_client::{Dial, LIMIT, Peer, sleep_ms, until, within};

/// Takes every message, and notes which came how often. Of the message that it is told, it kills whoever sent it as soon as it has acknowledged.
#[derive(Default)]
pub(super) struct Recorder {
    came: Mutex<BTreeMap<String, usize>>,
    next: AtomicU64,
    victim: Mutex<Option<(usize, rustix::process::Pid)>>,
}

impl Recorder {
    pub(super) fn count(&self) -> usize {
        self.came.lock().unwrap().len()
    }

    fn doubles(&self) -> Vec<String> {
        let came = self.came.lock().unwrap();
        let often = came.iter().filter(|(_, count)| **count > 1);
        often.map(|(body, _)| body.clone()).collect()
    }

    /// Kills this process once so many different messages have come.
    fn kill_at(&self, count: usize, process: &Child) {
        let pid = rustix::process::Pid::from_child(process);
        *self.victim.lock().unwrap() = Some((count, pid));
    }
}

impl TakesMessages for Recorder {
    fn submit(
        &self,
        produce: Produce,
        _: &Caller,
        held: Box<dyn Any + Send>,
        reply: Box<dyn FnOnce(Taken) + Send>,
    ) {
        for message in &produce.messages {
            let body: Vec<u8> = produce.body(message).concat();
            let body = String::from_utf8(body).unwrap();
            *self.came.lock().unwrap().entry(body).or_default() += 1;
        }
        let len = produce.messages.len() as u32;
        let sequence = self.next.fetch_add(u64::from(len), Ordering::Relaxed);
        drop(held);
        reply(Taken::Produced(Produced {
            number: produce.header.number,
            accepted: vec![Accepted {
                index: 0,
                len,
                sequence,
            }],
            refused: Vec::new(),
        }));
        let mut victim = self.victim.lock().unwrap();
        if victim.is_some_and(|(count, _)| self.count() >= count)
            && let Some((_, pid)) = victim.take()
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

struct Silent;

impl AnswersControl for Silent {
    fn answer(
        &self,
        number: u32,
        _: &ControlRequest,
        _: &Caller,
    ) -> Result<ControlResponse, Refusal> {
        Err(Refusal::new(number, Code::UnknownRequest, "no"))
    }
}

/// A broker that belongs to the cluster, as far as the meta server and those who send to it can see.
pub(super) struct Broker {
    pub(super) recorder: Arc<Recorder>,
    _door: QuicDoor,
    _membership: Membership,
}

impl Broker {
    pub(super) async fn start(cluster: &Cluster, meta: &MetaServer) -> Self {
        let recorder = Arc::new(Recorder::default());
        let tls = ReloadingServer::open(cluster.tls(), SystemTime::now()).unwrap();
        let hello = Hello {
            node: "host-1".to_owned(),
            group: "group-1".to_owned(),
            features: features::PRODUCE,
            ..Hello::new(Role::Master, "recorder/1")
        };
        let rooms = Rooms {
            access: Arc::new(Access::new(Tokens::none(), Rights::everything())),
            messages: Some(Arc::clone(&recorder) as _),
            consumers: None,
            control: Arc::new(Silent),
            routes: None,
            incarnation: Arc::new(|| 1),
            attempts_max: None,
            hello,
            connections: Arc::default(),
            secret: b"secret".to_vec(),
        };
        let options = QuicOptions {
            listen: LOCAL,
            ..QuicOptions::default()
        };
        let door = QuicDoor::open(options, tls.config(&[ALPN]).unwrap(), rooms).unwrap();
        let port = door.address().port();
        enter(meta, "group-1", BrokerRole::Master, "host-1", port).await;
        let mut member = cluster.member(&[meta.endpoint()], "host-1");
        member.port = port;
        std::fs::create_dir_all(&member.folder).unwrap();
        let membership = Membership::start(member);
        within("the broker's place", membership.acquired()).await;
        membership.online();
        until_state(meta, "group-1", GroupState::ReadWrite).await;
        Self {
            recorder,
            _door: door,
            _membership: membership,
        }
    }
}

/// `qmq delay`, and what it is told.
pub(super) struct Delay {
    config: PathBuf,
    authority: PathBuf,
    address: SocketAddr,
    http: SocketAddr,
    process: Child,
}

impl Drop for Delay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind(LOCAL).unwrap();
    socket.local_addr().unwrap().port()
}

impl Delay {
    pub(super) async fn start(cluster: &Cluster, meta: &MetaServer) -> Self {
        let path = |name: &str| cluster.home.path(name).display().to_string();
        let (port, http) = (free_port(), free_port());
        let lines = [
            format!("meta.server.endpoint={}", meta.endpoint()),
            "broker.group=delay-1".to_owned(),
            "broker.role=delay-master".to_owned(),
            "broker.listen=127.0.0.1".to_owned(),
            format!("broker.port={port}"),
            "http.listen=127.0.0.1".to_owned(),
            format!("http.port={http}"),
            "qmq.host=delay-host".to_owned(),
            "qmq.ip=127.0.0.1".to_owned(),
            format!("store.root={}", path("delay")),
            "store.segment.bytes=8M".to_owned(),
            "message.max.bytes=1M".to_owned(),
            format!("tls.cert={}", path("tls/node.pem")),
            format!("tls.key={}", path("tls/node.key")),
            format!("tls.ca={}", path("tls/ca.pem")),
            format!("tokens.file={}", path("tokens")),
            "anonymous.rights=produce:*;administer:*".to_owned(),
            "netty.send.message.retry.min.sleep.millis=50".to_owned(),
            "netty.send.message.retry.max.sleep.millis=200".to_owned(),
        ];
        let config = cluster.home.path("delay.properties");
        std::fs::write(&config, lines.join("\n")).unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let process = run(&config);
        Self {
            config,
            authority: cluster.home.path("tls/ca.pem"),
            address: address(port),
            http: address(http),
            process,
        }
    }

    async fn peer(&self) -> Peer {
        let dial = Dial::to(self.address, self.authority.clone());
        dial.peer().await.unwrap()
    }

    /// Waits until it takes messages.
    pub(super) async fn ready(&self) {
        let end = std::time::Instant::now() + LIMIT;
        while !self.health().await.starts_with("HTTP/1.1 200") {
            assert!(std::time::Instant::now() < end, "{}", self.health().await);
            sleep_ms(20).await;
        }
    }

    async fn health(&self) -> String {
        let answer = async {
            let mut stream = TcpStream::connect(self.http).await.ok()?;
            let request = "GET /health?verbose HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            Some(text)
        };
        within("its health", answer).await.unwrap_or_default()
    }

    async fn until_pending(&self, count: usize) {
        let line = format!("pending: {count}\n");
        let end = std::time::Instant::now() + LIMIT;
        loop {
            let health = self.health().await;
            if health.contains(&line) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{line} is not in {health}");
            sleep_ms(20).await;
        }
    }

    async fn until_dead(&mut self) {
        until("the kill", || self.process.try_wait().unwrap().is_some()).await;
    }

    fn again(&mut self) {
        self.process = run(&self.config);
    }
}

fn run(config: &std::path::Path) -> Child {
    let mut process = Command::new(env!("CARGO_BIN_EXE_qmq"))
        .arg("delay")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = process.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready: "), "{line:?}");
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_acknowledgement_and_record_it_sends_again_and_loses_nothing() {
    const EACH: usize = 40;
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let broker = Broker::start(&cluster, &meta).await;
    let mut delay = Delay::start(&cluster, &meta).await;
    let mut sent = Vec::new();
    let mut seen_doubles = 0;
    for round in 0..4 {
        delay.ready().await;
        let peer = delay.peer().await;
        let wave = |part: &str, due: u64| {
            let each = (0..EACH).map(move |n| format!("{round} {part} {n}"));
            let bodies: Vec<String> = each.collect();
            let messages: Vec<_> = bodies
                .iter()
                .map(|body| later("order", body, due))
                .collect();
            (bodies, messages)
        };
        // What is recorded is not sent again.
        let (bodies, messages) = wave("recorded", now_ms());
        ids(&peer, messages).await;
        sent.extend(bodies);
        delay.until_pending(0).await;
        let known: Vec<String> = broker.recorder.doubles();
        // In the midst of these, with one acknowledged, it is killed.
        let (bodies, messages) = wave("gap", now_ms() + 300);
        broker.recorder.kill_at(sent.len() + 1, &delay.process);
        ids(&peer, messages).await;
        sent.extend(bodies);
        delay.until_dead().await;
        delay.again();
        delay.ready().await;
        delay.until_pending(0).await;
        assert_eq!(broker.recorder.count(), sent.len(), "all have come");
        let doubles = broker.recorder.doubles();
        let new: Vec<_> = doubles.iter().filter(|one| !known.contains(one)).collect();
        let gap = format!("{round} gap ");
        assert!(new.iter().all(|one| one.starts_with(&gap)), "{new:?}");
        seen_doubles += new.len();
    }
    let came = broker.recorder.came.lock().unwrap();
    assert!(sent.iter().all(|body| came.contains_key(body)));
    assert!(seen_doubles > 0, "the gap was never met");
}
