//! The processes of brokers: how they begin, what they say, how they end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;
#[path = "common/broker.rs"]
mod user;

use std::fs::OpenOptions;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::{code, qmq, stderr, stdout};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use user::{Dev, LIMIT, Process, run_bounded};

/// A folder with certificates, and a configuration with these lines besides.
fn configured(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls");
    let made = run_bounded(
        &mut qmq(["tls", "init", "--dir", tls.to_str().unwrap()]),
        b"",
    );
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let text = format!("store.root=store\nbroker.listen=127.0.0.1\nhttp.port=0\n{lines}");
    std::fs::write(folder.path().join("broker.properties"), text).unwrap();
    folder
}

fn broker(folder: &Path, args: &[&str]) -> Output {
    let file = folder.join("broker.properties");
    let mut command = qmq(["broker", "--config", file.to_str().unwrap()]);
    run_bounded(command.args(args), b"")
}

/// What a `qmq dev` with these arguments says on standard error until it has ended.
fn said_by_dev(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec!["--port", "0"];
    all.extend(args);
    let mut dev = Dev::start_logging(folder.path(), &all);
    dev.process.signal(Signal::TERM);
    let mut said = String::new();
    let mut stderr = dev.process.0.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(dev.process.ended().code(), Some(0), "{said}");
    said
}

#[test]
fn a_signal_ends_a_broker_that_has_not_begun_yet() {
    let folder = configured("tls.key=key\n");
    // Reading it waits for whoever writes to it: a disk could hardly be slower.
    let key = folder.path().join("key");
    mknodat(CWD, &key, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let file = folder.path().join("broker.properties");
    let mut starting = Process::start(
        qmq(["broker", "--config", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let until = Instant::now() + LIMIT;
    let _writer = loop {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        match options.open(&key) {
            Ok(writer) => break writer,
            Err(error) => assert!(Instant::now() < until, "nobody reads it: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(starting.0.try_wait().unwrap().is_none());
    let began = Instant::now();
    starting.signal(Signal::TERM);
    assert_eq!(starting.ended().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_certificate_that_is_not_there_is_named_with_its_key_and_line() {
    let folder = configured("tls.cert=tls/node.pem\ntls.key=tls/none.key\n");
    let refused = broker(folder.path(), &[]);
    assert_eq!(code(&refused), Some(1));
    let said = stderr(&refused);
    for part in [
        "tls.key (",
        "broker.properties:5)",
        "tls/none.key: no such file",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let refused = broker(
        folder.path(),
        &["--set", "tls.key=tls/node.key", "--set", "tls.ca=other"],
    );
    let said = stderr(&refused);
    assert!(
        said.contains("tls.key (--set): tls/node.key: no such file"),
        "{said}"
    );
}

#[test]
fn a_drain_that_would_outlast_the_process_is_refused() {
    let folder = configured("drain.ack.ms=25000\n");
    let refused = broker(folder.path(), &[]);
    assert_eq!(code(&refused), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("drain.ack.ms") && said.contains("20000"),
        "{said}"
    );
}

#[test]
fn a_running_broker_tells_what_changed_in_its_file() {
    let folder = configured("message.retry.delay.seconds=5\ncluster.token=hunter2\n");
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr();
    let port = format!("broker.port={}", port.unwrap().port());
    let file = folder.path().join("broker.properties");
    let log = folder.path().join("log");
    let mut process = Process::start(
        qmq(["broker", "--config", file.to_str().unwrap(), "--set", &port])
            .env("QMQ_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let mut ready = [0; 6];
    let mut stdout = process.0.stdout.take().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready:");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("seconds=5\n", "seconds=60\n");
    std::fs::write(&file, text.replace("hunter2", "hunter33\nstreams.max=9")).unwrap();
    let until = Instant::now() + LIMIT;
    let said = loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("streams.max") {
            break said;
        }
        assert!(Instant::now() < until, "{said}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let has = |parts: &[&str]| {
        said.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    let retry = ["message.retry.delay.seconds", "old=\"5 s\"", "new=\"60 s\""];
    assert!(has(&retry), "{said}");
    assert!(has(&["cluster.token", "a secret has changed"]), "{said}");
    let streams = ["streams.max", "old=\"1024\"", "new=\"9\"", "next start"];
    assert!(has(&streams), "{said}");
    assert!(!said.contains("hunter"), "{said}");
    process.signal(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn keys_are_shown_as_a_file_to_begin_with() {
    use qmq_server::config::keys::{BROKER, DELAY, META};
    for (command, keys) in [("broker", BROKER), ("delay", DELAY), ("meta", META)] {
        let shown = run_bounded(&mut qmq([command, "--keys"]), b"");
        assert_eq!(code(&shown), Some(0), "{}", stderr(&shown));
        let shown = stdout(&shown);
        for key in keys {
            assert!(shown.contains(&format!("\n#{}=", key.name)), "{}", key.name);
            assert!(shown.contains(key.meaning), "{}", key.name);
        }
        assert!(
            shown
                .lines()
                .all(|line| line.is_empty() || line.starts_with('#'))
        );
    }
    let help = stdout(&run_bounded(&mut qmq(["broker", "--help"]), b""));
    assert!(
        help.contains("qmq broker --keys") && !help.contains(".rs"),
        "{help}"
    );
}

#[test]
fn dev_warns_of_settings_from_which_nothing_comes() {
    let said = said_by_dev(&["--set", "foo=1", "--set", "wait.slave.wrote=true"]);
    assert!(
        said.contains("warning: --set: \"foo\" is no known key"),
        "{said}"
    );
    assert!(
        said.contains("warning: --set: wait.slave.wrote is accepted without effect"),
        "{said}"
    );
}

#[test]
fn a_log_that_goes_to_no_terminal_has_no_colours() {
    let said = said_by_dev(&["--set", "flush.mode=async"]);
    assert!(
        said.contains("WARN") && said.contains("flush.mode=async"),
        "{said}"
    );
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn dev_serves_http_whatever_its_port() {
    let is_free = |port: &u16| {
        UdpSocket::bind(("127.0.0.1", *port)).is_ok()
            && TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    let port = (61_000..65_000).find(is_free).unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(folder.path(), &["--port", &port]);
    assert!(
        dev.said[0].contains(", http://127.0.0.1:"),
        "{:?}",
        dev.said
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dev = run_bounded(&mut qmq(["dev", "--dir", "/proc/nope", "--port", "0"]), b"");
    assert_eq!(code(&dev), Some(1));
    let said = stderr(&dev);
    assert!(
        said.contains("/proc/nope") && said.contains("cannot be made"),
        "{said}"
    );
    assert!(!said.contains("certificates"), "{said}");
}

#[test]
fn certificates_are_said_to_be_for_every_kind_of_server() {
    let folder = tempfile::tempdir().unwrap();
    let shown = run_bounded(
        qmq(["tls", "init", "--host", "localhost", "--dir"]).arg(folder.path()),
        b"",
    );
    assert_eq!(code(&shown), Some(0), "{}", stderr(&shown));
    let shown = stdout(&shown);
    for file in [
        "metaserver.properties",
        "broker.properties",
        "delay.properties",
    ] {
        assert!(shown.contains(file), "{shown}");
    }
}

#[test]
fn operators_commands_find_the_meta_server_in_client_properties() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.properties");
    let endpoint = "meta.server.endpoint=http://127.0.0.1:1/meta/address\n";
    std::fs::write(&file, endpoint).unwrap();
    let run = |args: &[&str], named: Option<&str>| {
        let mut command = qmq(args.iter().copied());
        command.env("QMQ_CLIENT", &file);
        command.env("QMQ_API_TOKEN", "token");
        match named {
            Some(named) => command.env("QMQ_METASERVER", named),
            None => command.env_remove("QMQ_METASERVER"),
        };
        let output = run_bounded(&mut command, b"");
        assert_eq!(code(&output), Some(1), "{}", stderr(&output));
        stderr(&output)
    };
    for args in [
        &["tools", "ListBrokers"][..],
        &["meta", "rebalance", "--dry-run"],
    ] {
        let said = run(args, None);
        assert!(said.contains("127.0.0.1:1"), "{said}");
        let said = run(args, Some("127.0.0.1:2"));
        assert!(said.contains("127.0.0.1:2"), "{said}");
    }
    // Both: the cluster, and the brokers, of which each is away and says so.
    std::fs::write(
        &file,
        format!("{endpoint}broker.address=127.0.0.1:3\ntls.ca=no.pem\n"),
    )
    .unwrap();
    let said = run(&["status"], None);
    assert!(
        said.contains("127.0.0.1:1") && said.contains("no.pem"),
        "{said}"
    );
}
