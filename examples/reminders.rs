//! A reminder service: lines of `SECONDS TEXT` are said again when their time has come, also after a restart.
//!
//! `(echo 2 tea; echo 1 coffee; sleep 3) | cargo run -p qmq-examples --example reminders -- /tmp/reminders`

use std::convert::Infallible;
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use qmq_sched::{Message, Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{RetentionHold, Store};

fn open(folder: &Path) -> Result<Scheduler, Box<dyn Error>> {
    let options = qmq_store::Options {
        retention_hold: Some(RetentionHold::default()),
        ..qmq_store::Options::default()
    };
    let store = Store::open(folder.join("log"), options)?;
    let index = MappedDisk::open(folder.join("index"), true)?;
    Ok(Scheduler::open(store, index, Options::default())?)
}

fn now_ms(scheduler: &Scheduler) -> u64 {
    scheduler.store().options().clock.now_ms()
}

/// Says what is due; returns how much that was.
fn remind(scheduler: &Scheduler) -> Result<usize, Box<dyn Error>> {
    let now_ms = now_ms(scheduler);
    let fired = scheduler.due(now_ms, 100)?;
    for one in &fired {
        match &one.message {
            Ok(message) => {
                println!("{}", String::from_utf8_lossy(message.body()));
                scheduler.dispatched(&[one.id])?;
            }
            // It stays, and comes again later; the others go on.
            Err(damaged) => {
                eprintln!("{}: {damaged}", one.id);
                scheduler.refused(now_ms, &[one.id]);
            }
        }
    }
    Ok(fired.len())
}

/// Reminds until the scheduler fails.
fn remind_always(scheduler: &Scheduler) -> Result<Infallible, Box<dyn Error>> {
    loop {
        if remind(scheduler)? == 0 {
            let now = Duration::from_millis(now_ms(scheduler));
            scheduler.wait_due(now, Duration::from_secs(60))?;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or("reminders".into());
    let scheduler = open(Path::new(&folder))?;
    let reminder = scheduler.clone();
    std::thread::spawn(move || {
        let Err(error) = remind_always(&reminder);
        eprintln!("no more reminders: {error}");
        std::process::exit(1);
    });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (seconds, text) = line.split_once(' ').ok_or("SECONDS TEXT")?;
        let due_ms = now_ms(&scheduler) + seconds.parse::<u64>()? * 1_000;
        scheduler.schedule(due_ms, &Message::new("reminder", text.to_owned()))?;
    }
    Ok(())
}

#[test]
fn a_reminder_comes_after_a_restart() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let scheduler = open(folder.path())?;
    scheduler.schedule(0, &Message::new("reminder", "tea"))?;
    drop(scheduler);
    assert_eq!(remind(&open(folder.path())?)?, 1);
    Ok(())
}
