//! The highest epoch that this store has promised to follow: lower masters are refused from then on, also after a loss of power.
//!
//! ```text
//!  0 [u8;8] "QMQ-EPO\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..40
//! 16 u128 store id       32 u64 the epoch
//! ```

use std::io;

use super::ReplicaError;
use crate::disk::{Access, Disk};
use crate::error::{Error, OpenError};
use crate::keep::files::write_whole;
use crate::le::{header_crc, u32_at, u64_at, u128_at};
use crate::store::Store;

/// Name of the file.
pub(crate) const PROMISE_FILE: &str = "epoch";
const MAGIC: [u8; 8] = *b"QMQ-EPO\n";
const VERSION: u32 = 1;
const LEN: usize = 40;

/// What the folder says was promised; 0 if nothing was.
pub(crate) fn read(disk: &dyn Disk, store_id: u128) -> Result<u64, OpenError> {
    let file = match disk.open(PROMISE_FILE, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file.map_err(OpenError::unreadable(PROMISE_FILE))?,
    };
    let name = || format!("{}/{PROMISE_FILE}", disk.describe());
    let damaged = || OpenError::DamagedPromise { file: name() };
    let len = file.len().map_err(OpenError::unreadable(PROMISE_FILE))?;
    if len < LEN as u64 {
        return Err(damaged());
    }
    let mut bytes = [0; LEN];
    file.read_at(&mut bytes, 0)
        .map_err(OpenError::unreadable(PROMISE_FILE))?;
    if bytes[..8] != MAGIC || header_crc(&bytes) != u32_at(&bytes, 12) {
        return Err(damaged());
    }
    let found = u32_at(&bytes, 8);
    if found > VERSION {
        return Err(OpenError::NewerVersion {
            file: name(),
            found,
            known: VERSION,
        });
    }
    // Another store's promise binds nobody here.
    Ok(if u128_at(&bytes, 16) == store_id {
        u64_at(&bytes, 32)
    } else {
        0
    })
}

fn write(disk: &dyn Disk, store_id: u128, epoch: u64) -> io::Result<()> {
    let mut out = [0; LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[16..32].copy_from_slice(&store_id.to_le_bytes());
    out[32..40].copy_from_slice(&epoch.to_le_bytes());
    let crc = header_crc(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    write_whole(disk, PROMISE_FILE, &out)?;
    disk.sync_names()
}

impl Store {
    /// Promises to follow no master of an epoch below `epoch`; durable when it returns. The same may be promised again.
    ///
    /// # Errors
    /// [`ReplicaError::EpochPromised`] if a greater one was promised; [`Error::Io`], after which the promise may be found at the next open.
    pub fn promise(&self, epoch: u64) -> Result<(), Error> {
        self.inner.check_open()?;
        let mut promised = self.inner.promised.lock();
        if epoch < *promised {
            return Err(ReplicaError::EpochPromised {
                given: epoch,
                promised: *promised,
            }
            .into());
        }
        if epoch > *promised {
            let log = &self.inner.log;
            log.with_reserve(|| write(&*log.disk, log.store_id, epoch))
                .map_err(Error::io(format!("writing {PROMISE_FILE}")))?;
            *promised = epoch;
        }
        Ok(())
    }

    /// The highest epoch promised; 0 if none was.
    #[must_use]
    pub fn promised(&self) -> u64 {
        *self.inner.promised.lock()
    }
}
