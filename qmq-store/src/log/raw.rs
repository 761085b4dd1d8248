//! Bytes that another store wrote, on their way into the log, and a file of the log that is to be written anew.

use std::sync::Arc;

use super::Log;
use super::segment::Segment;
use super::writer::{Appender, Purpose};
use crate::error::Error;

impl Appender<'_> {
    /// Puts whole units that another store wrote, for which there is room. Their first and last record have these times, and the last
    /// this incarnation.
    pub(crate) fn put_raw(
        &mut self,
        units: &[u8],
        times_ms: (u64, u64),
        incarnation: u32,
    ) -> Result<(), Error> {
        let writer = &mut *self.writer;
        let at = writer.segment.position(writer.end);
        if let Err(error) = writer.active.file.write_at(units, at) {
            return Err(self.log.commit.poison(error));
        }
        writer.segment.note_time(times_ms.0);
        writer.end += units.len() as u64;
        (self.time_ms, self.incarnation) = (times_ms.1, incarnation);
        Ok(())
    }

    /// Bytes that the active segment still takes.
    pub(crate) fn room(&self) -> u64 {
        self.writer.limit - self.writer.end
    }

    /// The active segment itself.
    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(&self.writer.segment)
    }

    /// Subjects that got their first message in the active segment, and how many subjects are known by now.
    pub(crate) fn indexed(&mut self, touched: &mut Vec<u32>, subjects: u32) {
        self.writer.touched.append(touched);
        self.writer.subjects = subjects;
    }
}

impl Log {
    /// Ends the active segment where it is, and begins the next, so that its file may be replaced.
    pub(crate) fn end_active(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        self.commit.check()?;
        if writer.end > writer.segment.base {
            self.rotate(&mut writer, 0, Purpose::Action)?;
        }
        Ok(())
    }
}
