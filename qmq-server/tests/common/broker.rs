//! A `qmq dev` process, ended with the test whatever happens.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot run its broker has failed"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::qmq;

/// Longest that anything in a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A process that does not outlive the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command to its end, with something on its standard input.
pub(crate) fn run_bounded(command: &mut Command, stdin: &[u8]) -> Output {
    let mut process = Process::start(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut input = process.0.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    std::thread::spawn(move || input.write_all(&bytes).ok());
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).unwrap();
            all
        })
    };
    let stdout = read(Box::new(process.0.stdout.take().unwrap()));
    let stderr = read(Box::new(process.0.stderr.take().unwrap()));
    Output {
        status: process.ended(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// A broker that runs in a folder, whose state folder is the user's.
pub(crate) struct Dev {
    pub(crate) process: Process,
    pub(crate) folder: PathBuf,
    pub(crate) address: String,
    /// What it printed until it was ready for others, line by line.
    pub(crate) said: Vec<String>,
    _stdout: BufReader<ChildStdout>,
}

impl Dev {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["--port", "0"])
    }

    pub(crate) fn start_with(folder: &Path, args: &[&str]) -> Self {
        Self::started(folder, args, "off", &[])
    }

    /// With its log on standard error, which must stay short.
    pub(crate) fn start_logging(folder: &Path, args: &[&str]) -> Self {
        Self::started(folder, args, "info", &[])
    }

    /// With these variables in its environment.
    pub(crate) fn start_in(folder: &Path, args: &[&str], variables: &[(&str, &PathBuf)]) -> Self {
        Self::started(folder, args, "off", variables)
    }

    fn started(folder: &Path, args: &[&str], log: &str, variables: &[(&str, &PathBuf)]) -> Self {
        let dir = folder.join("dev");
        let mut command = qmq(["dev", "--dir", dir.to_str().unwrap()]);
        command
            .args(args)
            .envs(variables.iter().copied())
            .env("XDG_STATE_HOME", folder)
            .env("QMQ_LOG", log);
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
        let mut said = Vec::new();
        for _ in 0..4 {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            said.push(line.trim_end().to_owned());
        }
        let ready = said[0].strip_prefix("ready: ").unwrap();
        let address = ready.split(',').next().unwrap().to_owned();
        Self {
            process,
            folder: folder.to_owned(),
            address,
            said,
            _stdout: stdout,
        }
    }

    pub(crate) fn client_file(&self) -> PathBuf {
        self.folder.join("dev/client.properties")
    }

    /// A command of the same user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        of_user(&self.folder, args)
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        run_bounded(&mut self.command(args), stdin)
    }
}

/// A command of a user whose state is in a folder, and who has set nothing.
pub(crate) fn of_user(state: &Path, args: &[&str]) -> Command {
    let mut command = qmq(args.iter().copied());
    command
        .env("XDG_STATE_HOME", state)
        .env_remove("QMQ_CLIENT")
        .env_remove("QMQ_LOG");
    command
}
