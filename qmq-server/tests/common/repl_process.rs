//! A process that is a member, as its parent sees it.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

type Failed = Box<dyn Error>;

/// What a member has said.
pub(crate) enum Said {
    Master(u64),
    Acked(u64, u64, u64),
    Even(u64),
    Retry,
    Failed(String),
    Ended,
}

pub(crate) struct Process {
    pub(crate) life: u64,
    pub(crate) is_master: bool,
    pub(crate) child: Child,
    stdin: ChildStdin,
    pub(crate) reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a member, and tells what it says.
    pub(crate) fn start(
        mut command: Command,
        life: u64,
        tell: Sender<(u64, Said)>,
    ) -> Result<Self, Failed> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or("no pipes")?;
        let reader = thread::spawn(move || {
            let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
            // A line without its end was not printed.
            while matches!(stdout.read_line(&mut line), Ok(1..)) && line.ends_with('\n') {
                if let Some(said) = parse(line.trim_end()) {
                    let _ = tell.send((life, said));
                }
                line.clear();
            }
            let _ = tell.send((life, Said::Ended));
        });
        Ok(Self {
            life,
            is_master: false,
            child,
            stdin,
            reader: Some(reader),
        })
    }

    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failed> {
        Ok(writeln!(self.stdin, "{line}")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Option<Said> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut numbers = rest.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    match word {
        "master" => Some(Said::Master(next()?)),
        "acked" => Some(Said::Acked(next()?, next()?, next()?)),
        "even" => Some(Said::Even(next()?)),
        "retry" => Some(Said::Retry),
        "left" | "failed" => Some(Said::Failed(line.to_owned())),
        // The test harness says something too.
        _ => None,
    }
}
