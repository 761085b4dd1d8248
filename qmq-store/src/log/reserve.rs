//! Room that is kept for actions, checkpoints and retention on a full disk.

use std::io;
use std::sync::Arc;

use super::Log;
use super::segment::SEGMENT_HEADER_LEN;
use crate::disk::{Access, DiskFile};
use crate::error::{Error, is_full};

/// Names of its files.
pub(crate) const RESERVE_FILES: [&str; 2] = ["reserve-0", "reserve-1"];
impl Log {
    /// Takes over the reserve that a clean close left.
    pub(crate) fn adopt_reserve(&self, clean: bool) -> io::Result<()> {
        if clean {
            let mut reserve = self.reserve.lock();
            let files = self.disk.list()?;
            reserve.extend(
                RESERVE_FILES
                    .into_iter()
                    .filter(|name| files.iter().any(|file| file.name == **name)),
            );
        }
        Ok(())
    }

    /// Creates what is missing of the reserve. `false`: there is no room for it now.
    pub(crate) fn fill_reserve(&self) -> io::Result<bool> {
        let mut reserve = self.reserve.lock();
        for name in RESERVE_FILES {
            if reserve.contains(&name) {
                continue;
            }
            match self
                .disk
                .create(name, SEGMENT_HEADER_LEN + self.segment_bytes)
            {
                Ok(_) => reserve.push(name),
                Err(error) if is_full(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        drop(reserve);
        self.writer.lock().on_reserve = false;
        Ok(true)
    }

    /// Turns a file of the reserve into the segment `name`.
    pub(super) fn take_reserve(&self, name: &str) -> Result<Option<Arc<dyn DiskFile>>, Error> {
        let Some(reserved) = self.reserve.lock().pop() else {
            return Ok(None);
        };
        let taken = self
            .disk
            .open(reserved, Access::Write)
            .and_then(|file| self.disk.rename(reserved, name).map(|()| file));
        taken.map(Some).map_err(|error| self.commit.poison(error))
    }

    /// Gives one file of the reserve back to the disk, for a checkpoint or an index. `false`: nothing left.
    pub(crate) fn release_reserve(&self) -> io::Result<bool> {
        let Some(reserved) = self.reserve.lock().pop() else {
            return Ok(false);
        };
        self.disk.remove(reserved)?;
        Ok(true)
    }

    /// Runs `write`; when the disk is full, gives it the reserve's room, one file after the other.
    pub(crate) fn with_reserve<T>(
        &self,
        mut write: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    if !self.release_reserve()? {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }
}
