//! Kills a broker, its producers and its consumers under load, over and over, and checks the whole history afterwards.
//!
//! The broker is the real binary. Producers and consumers are processes of their own, which write what they see to files; a line that was written is
//! there, whoever is killed.

pub(crate) mod crowd;
mod history;
mod oracle;
mod process;
mod role;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use history::Tally;
pub(crate) use role::play;

use super::sudden::random;
use history::{Ended, now};
use process::{Broker, Player};
use role::{Kind, Role};

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// Subject of plain producers.
const PLAIN: &str = "kill.plain";
/// Subject of ordered producers.
const ORDERED: &str = "kill.ordered";
/// The group of which every consumer gets every message.
const BROADCAST: &str = "everyone";
/// Longest pause between two kills.
const LOAD_MAX_MS: u64 = 500;
/// How long producers and consumers may take until they go on after a kill.
const GOES_ON: Duration = Duration::from_secs(30);
/// How long it may take until everything is consumed.
const DRAINED: Duration = Duration::from_secs(120);

/// What to do.
pub(crate) struct BrokerKillLoop {
    /// The binary.
    pub(crate) qmq: PathBuf,
    /// Starts this program again, to play a role.
    pub(crate) player: fn() -> Command,
    /// Folder of everything; empty.
    pub(crate) dir: PathBuf,
    /// How often to kill.
    pub(crate) kills: u64,
    /// Decides who is killed and when, and what consumers do.
    pub(crate) seed: u64,
    /// How long a producer's lane pauses between two messages.
    pub(crate) pause: Duration,
}

/// Who produces and who consumes.
const PRODUCERS: [&str; 2] = ["p0", "p1"];
const CONSUMERS: [(&str, &str, bool); 5] = [
    // Name, group, whether the name lasts over a restart of the process.
    ("c0", "one", false),
    ("c1", "one", false),
    ("c2", "two", true),
    ("c3", "two", false),
    ("c4", BROADCAST, true),
];

struct Cast {
    broker: Broker,
    producers: Vec<Player>,
    consumers: Vec<Player>,
    ended: Vec<Ended>,
}

impl BrokerKillLoop {
    /// Kills and checks; a broken promise ends it with an error that shows the message and its whole history.
    pub(crate) fn run(&self, mut progress: impl FnMut(&Tally)) -> Result<Tally, Failed> {
        std::fs::create_dir_all(self.dir.join("history"))?;
        let mut tally = Tally::default();
        let broker = Broker::start(&self.qmq, &self.dir, None, self.seed, &[])?;
        let mut cast = Cast {
            producers: Vec::new(),
            consumers: Vec::new(),
            ended: Vec::new(),
            broker,
        };
        for (name, group, lasting) in CONSUMERS {
            let kind = Kind::Consumer {
                group: group.to_owned(),
                lasting,
            };
            let role = self.role(name, kind, &cast.broker);
            cast.consumers.push(Player::start(self.player, role)?);
        }
        for name in PRODUCERS {
            let role = self.role(name, Kind::Producer, &cast.broker);
            cast.producers.push(Player::start(self.player, role)?);
        }
        self.wait_until_all_go_on(&cast)?;
        for n in 0..self.kills {
            thread::sleep(Duration::from_millis(self.random(n, 2) % LOAD_MAX_MS));
            self.kill_one(n, &mut cast, &mut tally)
                .map_err(|error| format!("kill {n}: {error}"))?;
            tally.kills += 1;
            // Sometimes the next kill comes before anybody has come back.
            if !self.random(n, 3).is_multiple_of(4) {
                self.wait_until_all_go_on(&cast)
                    .map_err(|error| format!("after kill {n}: {error}"))?;
            }
            progress(&tally);
        }
        for producer in &mut cast.producers {
            producer.finish()?;
        }
        process::wait_until_drained(&cast.broker, DRAINED, 6, &|subject| {
            [PLAIN, ORDERED].contains(&subject)
        })?;
        for consumer in &mut cast.consumers {
            consumer.finish()?;
        }
        cast.broker.terminate()?;
        oracle::check(&self.dir, &cast.ended, &mut tally)?;
        Ok(tally)
    }

    fn kill_one(&self, n: u64, cast: &mut Cast, tally: &mut Tally) -> Result<(), Failed> {
        let (which, from) = (self.random(n, 4), now());
        match self.random(n, 1) % 100 {
            0..45 => {
                cast.broker.kill()?;
                tally.brokers_killed += 1;
                self.restart_broker(cast, from)?;
            }
            45..55 => {
                cast.broker.terminate()?;
                tally.brokers_terminated += 1;
                self.restart_broker(cast, from)?;
            }
            55..75 => {
                let at = which as usize % cast.producers.len();
                cast.ended.push(cast.producers[at].kill()?);
                cast.producers[at] = cast.producers[at].again(self.player)?;
                tally.producers_killed += 1;
            }
            _ => {
                let at = which as usize % cast.consumers.len();
                cast.ended.push(cast.consumers[at].kill()?);
                cast.consumers[at] = cast.consumers[at].again(self.player)?;
                tally.consumers_killed += 1;
            }
        }
        Ok(())
    }

    fn restart_broker(&self, cast: &mut Cast, from: u64) -> Result<(), Failed> {
        let address = cast.broker.address;
        cast.broker = Broker::start(&self.qmq, &self.dir, Some(address), self.seed, &[])?;
        cast.ended.push(Ended {
            who: "broker".to_owned(),
            from,
            to: now(),
        });
        Ok(())
    }

    fn role(&self, name: &str, kind: Kind, broker: &Broker) -> Role {
        Role {
            name: name.to_owned(),
            life: 0,
            kind,
            address: broker.address.to_string(),
            authorities: self.dir.join("tls").join("ca.pem"),
            folder: self.dir.join("history"),
            seed: self.seed,
            pause_us: u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Waits until each producer has an answer more and each consumer a message more.
    fn wait_until_all_go_on(&self, cast: &Cast) -> Result<(), Failed> {
        let all = cast.producers.iter().chain(&cast.consumers);
        let files: Vec<(PathBuf, u64)> = all
            .map(|player| player.role.file())
            .map(|file| (file.clone(), length(&file)))
            .collect();
        let until = Instant::now() + GOES_ON;
        for (file, before) in files {
            // More than what is written without the broker: a producer says what it sends up to its window.
            while answers(&file, before) == 0 {
                if Instant::now() > until {
                    let name = file.display();
                    return Err(format!("{name}: nothing more came within {GOES_ON:?}").into());
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn random(&self, n: u64, stream: u64) -> u64 {
        random(self.seed, n, stream)
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// How many lines behind `from` tell of something that came from the broker.
fn answers(file: &Path, from: u64) -> usize {
    let Ok(text) = std::fs::read(file) else {
        return 0;
    };
    let rest = text.get(from as usize..).unwrap_or_default();
    rest.split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"a ") || line.starts_with(b"r "))
        .count()
}
