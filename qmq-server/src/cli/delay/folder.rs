//! The folder of delayed messages: a store in `log`, the scheduler's index in `index`.

use std::io;
use std::path::{Path, PathBuf};

use qmq_sched::{Error, Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{RetentionHold, Store};

use crate::cli::failure::Failure;
use crate::cli::files;

/// Where it is, and how it is opened.
#[derive(Debug, clap::Args)]
pub(super) struct Folder {
    /// Folder of the messages
    #[arg(long)]
    dir: PathBuf,
    /// Minutes of one bucket, 1 to 1,440; fixed once data exists [default: what the folder has, 60 for a new one]
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1_440))]
    segment_scale_minute: Option<u32>,
}

impl Folder {
    /// Where the store is.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Opens what is there.
    pub(super) fn existing(&self) -> Result<Scheduler, Failure> {
        self.check_exists()?;
        self.open()
    }

    /// Refuses a folder without messages.
    pub(super) fn check_exists(&self) -> Result<(), Failure> {
        files::existing(&self.dir)?;
        if self.log().is_dir() {
            return Ok(());
        }
        Err(Failure::new(
            format!("{} holds no delayed messages", self.dir.display()),
            "give the folder that `qmq delay schedule` has filled with --dir",
        ))
    }

    /// Opens what is there, or makes it.
    pub(super) fn open(&self) -> Result<Scheduler, Failure> {
        let next =
            "one process at a time can have it; `qmq delay verify --dir` says what is damaged";
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let doing = format_args!("cannot open the delayed messages in {}", self.dir.display());
            Failure::of(doing, error, next)
        };
        let options = qmq_store::Options {
            retention_hold: Some(RetentionHold::default()),
            ..qmq_store::Options::default()
        };
        let store = Store::open(self.log(), options).map_err(|e| failed(&e))?;
        open(store, &self.dir, self.segment_scale_minute).map_err(|e| match e {
            OpenError::Disk(e) => failed(&e),
            OpenError::Scheduler(e) => failed(&e),
        })
    }
}

enum OpenError {
    Disk(io::Error),
    Scheduler(Error),
}

/// Opens the scheduler with the scale asked for; if none is, with that of the data.
fn open(store: Store, dir: &Path, scale: Option<u32>) -> Result<Scheduler, OpenError> {
    let segment_scale_minute = scale.unwrap_or(Options::default().segment_scale_minute);
    let options = Options {
        segment_scale_minute,
        ..Options::default()
    };
    let disk = MappedDisk::open(dir.join("index"), true).map_err(OpenError::Disk)?;
    match Scheduler::open(store.clone(), disk, options) {
        Err(Error::OtherScale { found, .. }) if scale.is_none() => open(store, dir, Some(found)),
        opened => opened.map_err(OpenError::Scheduler),
    }
}

/// Writes what the next open would have to replay, and closes the store.
pub(super) fn close(scheduler: Scheduler) -> Result<(), Failure> {
    let next = "what was printed is stored all the same";
    scheduler
        .maintain()
        .map_err(|e| Failure::of("cannot write the index", &e, next))?;
    let store = scheduler.store().clone();
    drop(scheduler);
    store
        .close()
        .map_err(|e| Failure::of("cannot close the store", &e, next))
}
