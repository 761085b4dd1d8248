//! The folder of delayed messages: a store in `log`, the scheduler's index in `index`.

use std::error::Error as StdError;
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

    /// Whether the index has runs, which are derived: a copy has none before it is first opened.
    pub(super) fn has_runs(&self) -> bool {
        let files = self.dir.join("index").read_dir().into_iter().flatten();
        let mut names = files.flatten().map(|file| file.file_name());
        names.any(|name| name.to_string_lossy().starts_with("run-"))
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
        let mut options = Options::default();
        options.segment_scale_minute = self
            .segment_scale_minute
            .unwrap_or(options.segment_scale_minute);
        let any_scale = self.segment_scale_minute.is_none();
        open(
            &self.dir,
            qmq_store::Options::default(),
            &options,
            any_scale,
        )
        .map_err(|e| {
            Failure::of(
                format_args!("cannot open the delayed messages in {}", self.dir.display()),
                &*e,
                "one process at a time can have it; `qmq delay verify --dir` says what is damaged",
            )
        })
    }
}

/// Opens the store and the scheduler below `dir`; if `any_scale`, with the scale that the data has.
pub(crate) fn open(
    dir: &Path,
    store: qmq_store::Options,
    options: &Options,
    any_scale: bool,
) -> Result<Scheduler, Box<dyn StdError>> {
    let store = qmq_store::Options {
        retention_hold: Some(RetentionHold::default()),
        ..store
    };
    let store = Store::open(dir.join("log"), store)?;
    let index = dir.join("index");
    let open = |options| {
        let disk =
            MappedDisk::open(&index, true).map_err(|e| format!("{}: {e}", index.display()))?;
        Ok::<_, Box<dyn StdError>>(Scheduler::open(store.clone(), disk, options))
    };
    match open(options.clone())? {
        Err(Error::OtherScale { found, .. }) if any_scale => Ok(open(Options {
            segment_scale_minute: found,
            ..options.clone()
        })??),
        opened => Ok(opened?),
    }
}

/// What still holds when a folder cannot be closed.
const STORED: &str = "what was printed is stored all the same";

/// Writes what the next open would have to replay, and closes the store.
pub(crate) fn close(scheduler: Scheduler) -> Result<(), Failure> {
    scheduler
        .checkpoint()
        .map_err(|e| Failure::of("cannot write the index", &e, STORED))?;
    leave(scheduler)
}

/// Closes the store after a look, which leaves nothing to write but that it is closed.
pub(super) fn leave(scheduler: Scheduler) -> Result<(), Failure> {
    let store = scheduler.store().clone();
    drop(scheduler);
    store
        .close()
        .map_err(|e| Failure::of("cannot close the store", &e, STORED))
}
