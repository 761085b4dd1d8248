//! The processes, as the one that kills them sees them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use qmq_client::{Client, Pem};
use rustix::process::{Pid, Signal, kill_process};

use super::Failed;
use super::history::{Ended, now};
use super::role::{ROLE, Role};
use crate::sudden::kill;

/// How long a broker may take until it serves.
const READY: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const ENDS: Duration = Duration::from_secs(90);

/// Waits for a process that has been told to end.
fn ends(child: &mut Child, limit: Duration) -> Result<ExitStatus, Failed> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > until {
            return Err(format!("process {} has not ended within {limit:?}", child.id()).into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A broker that runs.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    child: Child,
    dir: PathBuf,
}

impl Broker {
    /// Starts one, at the address of the one before if there was one, and waits until it serves.
    pub(crate) fn start(
        qmq: &Path,
        dir: &Path,
        address: Option<SocketAddr>,
        seed: u64,
        sets: &[&str],
    ) -> Result<Self, Failed> {
        let port = address.map_or(0, |address| address.port());
        let flush = if seed.is_multiple_of(2) {
            "sync"
        } else {
            "async"
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("broker.log"))?;
        let mut command = Command::new(qmq);
        command.args(["dev", "--http-port", "0", "--port", &port.to_string()]);
        command.arg("--dir").arg(dir);
        for set in [
            "store.segment.bytes=2M",
            &format!("flush.mode={flush}"),
            "consumer.session.timeout.ms=1500",
            "consumer.ack.timeout.ms=3000",
            "consumer.max.attempts=1000000",
            "message.retry.delay.seconds=1",
            "drain.ack.ms=300",
        ] {
            command.args(["--set", set]);
        }
        for set in sets {
            command.args(["--set", set]);
        }
        let mut child = command
            .env("XDG_STATE_HOME", dir.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no pipe")?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("ready: ") {
                    let address = rest.split(',').next().unwrap_or_default();
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        let mut broker = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            dir: dir.to_owned(),
        };
        let log = broker.dir.join("broker.log");
        let said = told.recv_timeout(READY).map_err(|_| {
            let ended = broker.child.try_wait();
            format!(
                "the broker does not serve: {ended:?}; see {}",
                log.display()
            )
        })?;
        broker.address = said.parse()?;
        Ok(broker)
    }

    /// Its own memory in KiB, and its threads.
    pub(crate) fn size(&self) -> Result<(u64, u64), Failed> {
        super::crowd::size(self.child.id())
    }

    /// Without notice.
    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        kill(&mut self.child).map_err(|error| format!("the broker: {error}").into())
    }

    /// In order.
    pub(crate) fn terminate(&mut self) -> Result<(), Failed> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = ends(&mut self.child, ENDS)?;
        if status.success() {
            return Ok(());
        }
        Err(format!("the broker ended with {status}").into())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A producer or consumer that runs. It ends when its input does.
pub(crate) struct Player {
    pub(crate) role: Role,
    child: Child,
}

impl Player {
    pub(crate) fn start(command: fn() -> Command, role: Role) -> Result<Self, Failed> {
        let child = command()
            .env(ROLE, serde_json::to_string(&role)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { role, child })
    }

    /// Without notice.
    pub(crate) fn kill(&mut self) -> Result<Ended, Failed> {
        let (who, from) = (self.role.who(), now());
        kill(&mut self.child).map_err(|error| format!("{who}: {error}"))?;
        let to = now();
        Ok(Ended { who, from, to })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// The next process of the same role.
    pub(crate) fn again(&self, command: fn() -> Command) -> Result<Self, Failed> {
        let mut role = self.role.clone();
        role.life += 1;
        Self::start(command, role)
    }

    /// In order.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        drop(self.child.stdin.take());
        let status = ends(&mut self.child, ENDS)?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{} ended with {status}", self.role.who()).into())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until none of so many groups has anything before it, and looks that there is no subject of nobody: a dead letter would be one.
pub(crate) fn wait_until_drained(
    broker: &Broker,
    limit: Duration,
    groups: usize,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let address = broker.address.to_string();
        let client = Client::builder()
            .broker(&address)
            .authorities(Pem::File(broker.dir.join("tls").join("ca.pem")))
            .server_name("localhost")
            .build()?;
        let admin = client.admin(&address).ok_or("no such broker")?;
        let until = Instant::now() + limit;
        loop {
            let subjects = admin.subjects("", "", 100).await?;
            let all = subjects
                .iter()
                .flat_map(|subject| subject.groups.iter().map(move |group| (subject, group)));
            let left: Vec<String> = all
                .filter(|(_, group)| group.lag + group.unacked + group.waiting > 0)
                .map(|(subject, group)| format!("{} {group:?}", subject.subject))
                .collect();
            let stranger = subjects.iter().find(|subject| !is_known(&subject.subject));
            if let Some(stranger) = stranger {
                return Err(format!("subject {} of nobody", stranger.subject).into());
            }
            let count: usize = subjects.iter().map(|subject| subject.groups.len()).sum();
            if left.is_empty() && count == groups {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!(
                    "not everything is consumed within {limit:?} ({count} of {groups} groups): {left:?}"
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}
