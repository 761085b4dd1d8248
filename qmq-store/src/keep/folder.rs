//! Which files of a folder are the store's: nothing else is ever removed, and a folder that holds anything else is not made a store.

use std::io;

use super::checkpoint::is_checkpoint;
use super::files::temporary_of;
use super::identity::{IDENTITY_FILE, is_begun};
use crate::disk::{Disk, LOCK_FILE};
use crate::error::OpenError;
use crate::log::published::PUBLISHED_FILE;
use crate::log::segment::{SEGMENT_HEADER_LEN, index_base, log_base};
use crate::log::{RESERVE_FILES, SPARE_FILE};
use crate::options::Options;
use crate::replicate::lost::is_lost;
use crate::replicate::promise::PROMISE_FILE;

/// The identity of a backup until everything else of it is there.
pub(crate) const UNFINISHED_FILE: &str = "store.unfinished";

/// Whether a file of this name may stand beside a log.
pub(crate) fn is_ours(name: &str) -> bool {
    name == IDENTITY_FILE
        || name == UNFINISHED_FILE
        || name == PUBLISHED_FILE
        || name == SPARE_FILE
        || name == LOCK_FILE
        || name == PROMISE_FILE
        || is_lost(name)
        || RESERVE_FILES.contains(&name)
        || is_log(name)
        || index_base(name).is_some()
        || is_temporary(name)
}

fn is_log(name: &str) -> bool {
    log_base(name).is_some() || is_checkpoint(name)
}

/// A file that was being written when its writer stopped.
fn is_temporary(name: &str) -> bool {
    temporary_of(name).is_some_and(|whole| {
        whole == IDENTITY_FILE
            || whole == UNFINISHED_FILE
            || whole == PROMISE_FILE
            || index_base(whole).is_some()
            || log_base(whole).is_some()
            || is_lost(whole)
            || is_checkpoint(whole)
    })
}

/// Refuses a folder whose files are not files: opening a pipe would wait for ever, and behind a link others may be at work.
pub(crate) fn check_regular(disk: &dyn Disk) -> Result<(), OpenError> {
    let others = disk
        .others()
        .map_err(|error| not_readable(&disk.describe(), error))?;
    match others.into_iter().find(|name| is_ours(name)) {
        Some(file) => Err(OpenError::NotAFile {
            folder: disk.describe(),
            file,
        }),
        None => Ok(()),
    }
}

/// Refuses what a backup left that was interrupted.
pub(crate) fn check_finished(disk: &dyn Disk) -> Result<(), OpenError> {
    let files = disk
        .list()
        .map_err(|error| not_readable(&disk.describe(), error))?;
    let has = |name| files.iter().any(|file| file.name == name);
    if has(UNFINISHED_FILE) && !has(IDENTITY_FILE) {
        return Err(OpenError::UnfinishedBackup {
            folder: disk.describe(),
        });
    }
    Ok(())
}

/// Refuses a folder of another program before anything in it is touched. Without an identity only what a crash can have left while the identity
/// was first written is taken for ours.
pub(crate) fn check_folder(disk: &dyn Disk) -> Result<(), OpenError> {
    check_regular(disk)?;
    check_finished(disk)?;
    let files = disk
        .list()
        .map_err(|error| not_readable(&disk.describe(), error))?;
    if files.iter().any(|file| file.name == IDENTITY_FILE) {
        return Ok(());
    }
    check_others(disk)?;
    // An identity is durable before the first segment exists.
    let log = files.iter().any(|file| is_log(&file.name));
    for file in &files {
        let ours = match &*file.name {
            LOCK_FILE => file.len == 0,
            name if log => is_ours(name),
            name if temporary_of(name) == Some(IDENTITY_FILE) => {
                is_begun(disk, name).map_err(OpenError::io(format!("reading {name}")))?
            }
            _ => false,
        };
        if !ours {
            return Err(not_a_store(disk, &file.name));
        }
    }
    if log {
        return Err(OpenError::DamagedIdentity {
            file: format!("{}/{IDENTITY_FILE}", disk.describe()),
            reason: "it is missing beside a log",
        });
    }
    Ok(())
}

/// Refuses a folder that holds anything at all.
pub(crate) fn check_empty(disk: &dyn Disk) -> Result<(), OpenError> {
    let files = disk
        .list()
        .map_err(OpenError::io(format!("listing {}", disk.describe())))?;
    match files.first() {
        Some(file) => Err(not_a_store(disk, &file.name)),
        None => check_others(disk),
    }
}

/// Refuses folders, links and the like, but the folder that a file system makes for itself where it is mounted.
fn check_others(disk: &dyn Disk) -> Result<(), OpenError> {
    let others = disk
        .others()
        .map_err(OpenError::io(format!("listing {}", disk.describe())))?;
    match others.iter().find(|name| *name != "lost+found") {
        Some(name) => Err(not_a_store(disk, name)),
        None => Ok(()),
    }
}

fn not_readable(folder: &str, error: io::Error) -> OpenError {
    OpenError::io(format!("listing {folder}"))(error)
}

pub(crate) fn not_a_store(disk: &dyn Disk, found: &str) -> OpenError {
    OpenError::NotAStore {
        folder: disk.describe(),
        found: found.to_owned(),
    }
}

/// Removes what an interrupted step of a store left behind.
pub(crate) fn tidy(disk: &dyn Disk, clean: bool, options: &Options) -> io::Result<()> {
    for file in disk.list()? {
        let reserve = RESERVE_FILES.contains(&file.name.as_str());
        let reserve_kept = clean && file.len == SEGMENT_HEADER_LEN + options.segment_bytes;
        // After a crash these may be segments whose new name was lost, and hold records.
        if file.name == SPARE_FILE
            || file.name == UNFINISHED_FILE
            || is_temporary(&file.name)
            || (reserve && !reserve_kept)
        {
            disk.remove(&file.name)?;
        }
    }
    Ok(())
}
