//! The broker of the demo: `qmq dev` in a process of its own, killed and started again on the same folder and port.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use qmq_client::Client;
use qmq_server::config::{ClientConfig, Sources};
use rustix::process::{Pid, Signal, kill_process};

use super::input::Input;
use crate::cli::client::Settings;
use crate::cli::failure::Failure;

/// Longest time until it is ready, and longest orderly end.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long it waits for a consumer that is gone to come back.
pub(super) const SESSION_MS: u64 = 2_000;

const NEXT: &str = "run the demo again, or `qmq dev` by itself to see why";

/// A process that never outlives the demo.
#[derive(Debug)]
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts this very program. Its input ends with the demo, whatever ends that.
    pub(super) fn start(args: impl FnOnce(&mut Command)) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            Failure::of(
                "cannot start a second process of qmq",
                &e,
                "check that its file is still there",
            )
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        args(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Self)
            .map_err(failed)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.0), signal)
            .map_err(|e| Failure::of("cannot signal a process of the demo", &e, NEXT))
    }

    /// Kills it without notice.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.0
            .kill()
            .and_then(|()| self.0.wait())
            .map(drop)
            .map_err(|e| Failure::of("cannot kill a process of the demo", &e, NEXT))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Broker {
    dir: PathBuf,
    segment_bytes: u64,
    port: u16,
    process: Process,
}

impl Broker {
    /// Starts it in a folder, on any free port.
    pub(super) fn start(dir: &Path, input: &Input) -> Result<Self, Failure> {
        let segment_bytes = super::options(input).segment_bytes;
        let (process, port) = run(dir, segment_bytes, 0)?;
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            port,
            process,
        })
    }

    /// The folder of its store.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// What its clients connect with.
    pub(super) fn client_file(&self) -> PathBuf {
        self.dir.join("client.properties")
    }

    /// Kills it without notice.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()
    }

    /// Starts it again; answers how long it took until it was ready.
    pub(super) fn restart(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        (self.process, self.port) = run(&self.dir, self.segment_bytes, self.port)?;
        Ok(start.elapsed())
    }

    /// Lets it end in order.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.process.signal(Signal::TERM)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.process.0.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Failure::new(
                        format!("the broker did not end in order: {status}"),
                        NEXT,
                    ));
                }
                Err(e) => return Err(Failure::of("cannot wait for the broker", &e, NEXT)),
            }
        }
        Err(Failure::new("the broker does not end", NEXT))
    }
}

fn run(dir: &Path, segment_bytes: u64, port: u16) -> Result<(Process, u16), Failure> {
    let mut process = Process::start(|command| {
        command
            .args(["dev", "--until-eof", "--http-port", "0", "--dir"])
            .arg(dir)
            .args(["--port", &port.to_string()])
            .args(["--set", &format!("store.segment.bytes={segment_bytes}")])
            .args([
                "--set",
                &format!("consumer.session.timeout.ms={SESSION_MS}"),
            ])
            .args(["--set", "connection.idle.ms=2000"])
            // It is not the broker that the user's other commands are for.
            .env(
                "XDG_STATE_HOME",
                std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
            )
            .env("QMQ_LOG", "off")
            .stderr(Stdio::null());
    })?;
    let stdout = process.0.stdout.take();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
        {
            let Ok(line) = line else { return };
            let _ = tell.send(line);
        }
    });
    let line = told
        .recv_timeout(PATIENCE)
        .map_err(|_| Failure::new("the broker does not start", NEXT))?;
    let address = line.strip_prefix("ready: ").unwrap_or(&line);
    let address = address.split(',').next().unwrap_or_default();
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    match port {
        Some(port) => Ok((process, port)),
        None => Err(Failure::new(format!("the broker said {line:?}"), NEXT)),
    }
}

/// A client that is quick to find that the broker is gone, and that it is back.
pub(super) fn client(file: &Path) -> Result<Client, Failure> {
    let (config, _) = ClientConfig::load(&Sources::of_file(file))
        .map_err(|e| Failure::of("cannot read the broker's client.properties", &e, NEXT))?;
    let settings = Settings {
        file: file.to_owned(),
        config,
    };
    settings
        .builder()?
        .idle_timeout(Duration::from_secs(1))
        .reconnect_pause(Duration::from_millis(10), Duration::from_millis(100))
        .breaker(1_000, Duration::from_millis(10))
        .build()
        .map_err(|e| Failure::of("cannot make a client", &e, NEXT))
}
