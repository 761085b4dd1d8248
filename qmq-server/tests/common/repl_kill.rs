//! Kills master, slave or both under load, over and over: what was acknowledged is on both, and their logs become the same.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use qmq_repl::{Log, StoreLog};

use super::repl_member::{SUBJECT, body, folder, store_options};
use super::repl_process::{Process, Said};
use super::sudden::{kill, random};

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time from the first acknowledged message to the kill.
const LOAD_MAX_MS: u64 = 120;

type Failed = Box<dyn Error>;

/// What to do.
pub(crate) struct ReplKillLoop {
    /// Starts a member, but for its number.
    pub(crate) member: fn(me: u16, dir: &Path) -> Command,
    /// Folder of the group; empty.
    pub(crate) dir: PathBuf,
    /// How often to kill.
    pub(crate) kills: u64,
    /// Decides who is killed and when.
    pub(crate) seed: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Processes killed.
    pub(crate) kills: u64,
    /// Of them, masters.
    pub(crate) masters: u64,
    /// Times that the other member became master.
    pub(crate) taken_over: u64,
    /// Promotions that did not come about at first.
    pub(crate) failed_promotions: u64,
    /// Messages acknowledged as replicated: all were found on both.
    pub(crate) acked: u64,
    /// Comparisons of both logs.
    pub(crate) checks: u64,
    /// End of both logs.
    pub(crate) bytes: u64,
    /// Files of tails that a master had and nobody else.
    pub(crate) lost_tails: u64,
}

/// The loop while it runs.
struct Run<'a> {
    plan: &'a ReplKillLoop,
    members: [Option<Process>; 2],
    master: usize,
    lives: u64,
    epoch: u64,
    tell: Sender<(u64, Said)>,
    said: Receiver<(u64, Said)>,
    /// By sequence: of which epoch, and which of its messages.
    acked: BTreeMap<u64, (u64, u64)>,
    /// Lowest sequence that was acknowledged since the last check, and the log's end then.
    unchecked: u64,
    checked: u64,
    tally: Tally,
}

impl ReplKillLoop {
    /// Runs it. `progress` is shown the tally after each kill.
    pub(crate) fn run(&self, mut progress: impl FnMut(&Tally)) -> Result<Tally, Failed> {
        std::fs::create_dir_all(&self.dir)?;
        let (tell, said) = channel();
        let mut run = Run {
            plan: self,
            members: [None, None],
            master: 0,
            lives: 0,
            epoch: 0,
            tell,
            said,
            acked: BTreeMap::new(),
            unchecked: u64::MAX,
            checked: 0,
            tally: Tally::default(),
        };
        let mut round = 0;
        while run.tally.kills < self.kills {
            let done = run.round(round);
            done.map_err(|error| format!("round {round}, {:?}: {error}", run.tally))?;
            progress(&run.tally);
            round += 1;
        }
        run.check(round, true)?;
        Ok(run.tally)
    }

    fn random(&self, n: u64, stream: u64) -> u64 {
        random(self.seed, n, stream)
    }
}

impl Run<'_> {
    fn round(&mut self, round: u64) -> Result<(), Failed> {
        self.serve()?;
        let load = self.plan.random(round, 1) % LOAD_MAX_MS;
        thread::sleep(Duration::from_millis(load));
        let (master, other) = (self.master, 1 - self.master);
        match self.plan.random(round, 2) % 8 {
            0..=3 => self.kill(master)?,
            4..=6 => self.kill(other)?,
            _ => {
                self.kill(other)?;
                self.kill(master)?;
            }
        }
        if self.members[master].is_none() && self.plan.random(round, 3).is_multiple_of(2) {
            self.master = other;
            self.tally.taken_over += 1;
        }
        if self.plan.random(round, 4).is_multiple_of(6) {
            self.check(round, false)?;
        }
        Ok(())
    }

    /// Starts who is not there, makes a master if there is none, and waits until something new is acknowledged.
    fn serve(&mut self) -> Result<(), Failed> {
        for me in 0..2 {
            if self.members[me].is_none() {
                self.lives += 1;
                let command = (self.plan.member)(me as u16, &self.plan.dir);
                let started = Process::start(command, self.lives, self.tell.clone())?;
                self.members[me] = Some(started);
            }
        }
        if !self.process(self.master)?.is_master {
            self.stand()?;
        }
        // What was printed so far is noted; then one more is waited for.
        while let Ok((life, said)) = self.said.try_recv() {
            self.note(life, said)?;
        }
        let life = self.process(self.master)?.life;
        self.until("an acknowledgement", |from, said| {
            from == life && matches!(said, Said::Acked(..))
        })
    }

    fn process(&mut self, me: usize) -> Result<&mut Process, Failed> {
        Ok(self.members[me].as_mut().ok_or("not running")?)
    }

    /// Makes a master, under an epoch that nobody was ever granted.
    fn stand(&mut self) -> Result<(), Failed> {
        for _ in 0..20 {
            let first = if self.epoch == 0 { " first" } else { "" };
            self.epoch += 1;
            let (epoch, master) = (self.epoch, self.master);
            let process = self.process(master)?;
            process.tell(&format!("stand {epoch}{first}"))?;
            let (life, mut promoted) = (process.life, false);
            self.until("a master", |from, said| {
                promoted = from == life && matches!(said, Said::Master(n) if *n == epoch);
                promoted || from == life && matches!(said, Said::Retry)
            })?;
            if promoted {
                self.process(master)?.is_master = true;
                return Ok(());
            }
            self.tally.failed_promotions += 1;
            thread::sleep(Duration::from_millis(50));
        }
        Err("no promotion in 20 has come about".into())
    }

    /// Notes what is said until this is.
    fn until(
        &mut self,
        what: &str,
        mut enough: impl FnMut(u64, &Said) -> bool,
    ) -> Result<(), Failed> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (life, said) = match self.said.recv_timeout(left) {
                Ok(said) if !left.is_zero() => said,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no {what} for {} s", PATIENCE.as_secs()).into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err("nobody is there".into()),
            };
            let done = enough(life, &said);
            self.note(life, said)?;
            if done {
                return Ok(());
            }
        }
    }

    fn note(&mut self, life: u64, said: Said) -> Result<(), Failed> {
        match said {
            Said::Acked(sequence, epoch, n) => {
                self.tally.acked += 1;
                self.unchecked = self.unchecked.min(sequence);
                match self.acked.insert(sequence, (epoch, n)) {
                    Some(before) => {
                        let now = (epoch, n);
                        Err(format!("{sequence} was acknowledged as {before:?} and {now:?}").into())
                    }
                    None => Ok(()),
                }
            }
            Said::Failed(why) => Err(format!("life {life}: {why}").into()),
            Said::Ended if self.members.iter().flatten().any(|it| it.life == life) => {
                Err(format!("life {life} ended by itself").into())
            }
            Said::Ended | Said::Master(_) | Said::Even(_) | Said::Retry => Ok(()),
        }
    }

    /// Kills a process that must still be running, and notes what it had said.
    fn kill(&mut self, me: usize) -> Result<(), Failed> {
        let Some(mut process) = self.members[me].take() else {
            return Err("not running".into());
        };
        let killed = kill(&mut process.child);
        self.hear_out(&mut process)?;
        killed.map_err(|e| format!("member {me}: {e}"))?;
        self.tally.kills += 1;
        self.tally.masters += u64::from(process.is_master);
        Ok(())
    }

    fn hear_out(&mut self, process: &mut Process) -> Result<(), Failed> {
        if let Some(reader) = process.reader.take() {
            reader.join().map_err(|_| "the reader panicked")?;
        }
        while let Ok((life, said)) = self.said.try_recv() {
            self.note(life, said)?;
        }
        Ok(())
    }

    /// Lets the slave catch up, ends both, and compares their logs with each other and with what was acknowledged.
    fn check(&mut self, round: u64, last: bool) -> Result<(), Failed> {
        self.serve()?;
        let master = self.master;
        self.process(master)?.tell("pause")?;
        let mut end = 0;
        self.until("equal ends", |_, said| match said {
            Said::Even(even) => {
                end = *even;
                true
            }
            _ => false,
        })?;
        for me in 0..2 {
            let Some(mut process) = self.members[me].take() else {
                return Err("not running".into());
            };
            // Some end properly, some do not.
            if self.plan.random(round, 5 + me as u64).is_multiple_of(2) {
                process.tell("quit")?;
                self.hear_out(&mut process)?;
                let ended = process.child.wait()?;
                if !ended.success() {
                    return Err(format!("member {me}: {ended}").into());
                }
            } else {
                process.child.kill()?;
                process.child.wait()?;
                self.hear_out(&mut process)?;
            }
        }
        self.compare(end, last)
    }

    fn compare(&mut self, end: u64, last: bool) -> Result<(), Failed> {
        let folders = [0, 1].map(|me| folder(&self.plan.dir, me));
        let [a, b] = &folders;
        let logs = [
            StoreLog::open(a, store_options())?,
            StoreLog::open(b, store_options())?,
        ];
        let (from, first) = if last {
            (0, 0)
        } else {
            (self.checked, self.unchecked)
        };
        let from = from.max(logs[0].start()).max(logs[1].start());
        for (me, log) in logs.iter().enumerate() {
            let damages = &log.store().open_report().damages;
            if log.written() != end || !damages.is_empty() {
                let written = log.written();
                return Err(format!("member {me}: {written}, not {end}, {damages:?}").into());
            }
            if last {
                log.verify(log.start(), end)?;
            }
            self.look_for_acked(log, first)?;
        }
        let digests = [logs[0].digest(from, end)?, logs[1].digest(from, end)?];
        if digests[0] != digests[1] {
            return Err(format!("the logs differ between {from} and {end}").into());
        }
        for (log, folder) in logs.iter().zip(&folders) {
            log.store().clone().close()?;
            self.tally.lost_tails = self.tally.lost_tails.max(lost_tails(folder)?);
        }
        (self.checked, self.unchecked) = (end, u64::MAX);
        self.tally.checks += 1;
        self.tally.bytes = end;
        Ok(())
    }

    fn look_for_acked(&self, log: &StoreLog, first: u64) -> Result<(), Failed> {
        let mut wanted = self.acked.range(first..).peekable();
        while let Some(&(&next, _)) = wanted.peek() {
            let messages = log.store().read(SUBJECT, next, 1_000)?;
            for message in messages.iter() {
                let sequence = message.sequence();
                let Some((_, &(epoch, n))) = wanted.next_if(|(at, _)| **at <= sequence) else {
                    continue;
                };
                let known = self.acked.get(&sequence) == Some(&(epoch, n));
                if !known || message.message()?.body() != body(epoch, n).as_bytes() {
                    return Err(
                        format!("{sequence}, or one before, is not what was acknowledged").into(),
                    );
                }
            }
            if wanted.peek().is_some_and(|(at, _)| **at == next) {
                return Err(format!("{next} was acknowledged and is not there").into());
            }
        }
        Ok(())
    }
}

fn lost_tails(folder: &Path) -> Result<u64, Failed> {
    Ok(qmq_store::offline::lost_tails(folder)?.len() as u64)
}
