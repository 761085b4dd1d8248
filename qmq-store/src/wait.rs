//! How far the log has got and who waits for it: durability, callbacks, visibility to consumers, and the bound on what is not synced.

use std::time::Duration;

use crate::consume::wakeup;
use crate::error::Error;
use crate::keep::housekeeper;
use crate::log::commit::Watermarks;
use crate::log::role::Role;
use crate::options::{Background, Durability, VisibleAt};
use crate::store::{Inner, Store};

impl Store {
    /// Returns once everything before `end_offset` has reached `durability`.
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failed sync; [`Error::NotReplicated`] if nothing replicates the store; [`Error::TooFewInSync`] while the
    /// replicator says so; [`Error::BeyondEnd`] if nothing
    /// has been appended up to there; [`Error::TimedOut`] after an hour without the replicas; [`Error::Closed`] if the store is closed meanwhile.
    pub fn wait(&self, end_offset: u64, durability: Durability) -> Result<(), Error> {
        self.inner.wait(end_offset, durability)
    }

    /// Calls back once everything before `end_offset` has reached `durability`: at once if it has, else on the thread that brings it there
    /// (with `Background::Threads` usually `qmq-flush`), so the callback must not block. Each callback is called once: with [`Error::Closed`]
    /// if the store is closed, or its last handle dropped, before it comes to that; with [`Error::NotReplicated`] at once if slaves are to be waited
    /// for and nothing replicates the store.
    pub fn when(
        &self,
        end_offset: u64,
        durability: Durability,
        callback: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        if let Err(error) = self.inner.check_written(end_offset) {
            return callback(Err(error));
        }
        let commit = &self.inner.log.commit;
        commit.when(end_offset, durability, Box::new(callback));
    }

    /// Whether [`Durability::Replicated`] can be reached at present: to be asked before an append that is worth nothing without it.
    ///
    /// # Errors
    /// What a wait for it would end with at once: [`Error::NotReplicated`], [`Error::TooFewInSync`], [`Error::Demoted`].
    pub fn check_replicated(&self) -> Result<(), Error> {
        self.inner.log.commit.check_replicated()
    }

    /// How far the log is written, synced and replicated.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.inner.log.commit.marks()
    }

    /// Bytes written that are not synced yet. With [`Store::submit`] the caller keeps them in bounds.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        let commit = &self.inner.log.commit;
        // Looked at first, so that the other is not less.
        let synced = commit.synced();
        commit.written().saturating_sub(synced)
    }

    /// Syncs everything written so far.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn sync(&self) -> Result<(), Error> {
        self.inner.sync_to(self.inner.log.commit.written())
    }

    /// For a replicator: slaves hold everything before `end_offset`. [`Watermarks::replicated`] follows once this store has synced it too. An offset
    /// beyond the end of the log counts for nothing: it is about another history. The mark never goes back; a store that was cut starts it anew.
    /// From the first call on, with 0 if no slave has anything yet, [`Durability::Replicated`] waits for slaves.
    pub fn advance_replicated(&self, end_offset: u64) {
        self.inner.log.commit.advance_replicated(end_offset);
        self.inner.wake_visible();
    }

    /// For a replicator: says that too few slaves keep up, or that enough do again. While they do not, who waits for slaves is told
    /// [`Error::TooFewInSync`] at once, whoever waits already and whoever comes; what is replicated all the same counts. No replicator, no difference.
    pub fn too_few_in_sync(&self, too_few: bool) {
        self.inner.log.commit.too_few_in_sync(too_few);
    }

    /// For a replicator that goes: nothing replicates the store from now on, until [`Store::advance_replicated`] is called again. Who waits for slaves is
    /// told [`Error::NotReplicated`]. What slaves hold they hold: [`Watermarks::replicated`] stays.
    pub fn end_replication(&self) {
        self.inner.log.commit.end_replication(false);
    }
}

impl Inner {
    /// Offset below which consumers see messages.
    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        match self.options.visible_at {
            VisibleAt::Written => self.log.commit.written(),
            VisibleAt::Synced => self.log.commit.synced(),
            VisibleAt::Replicated => self.log.commit.replicated(),
        }
    }

    /// Waits for the durability asked, and keeps what is not synced within its bound.
    #[inline]
    pub(crate) fn after_append(
        &self,
        end_offset: u64,
        durability: Durability,
    ) -> Result<(), Error> {
        match durability {
            Durability::Buffered => self.bound_unsynced(end_offset),
            Durability::Synced | Durability::Replicated => self.wait(end_offset, durability),
        }
    }

    /// Has it synced by somebody else before too much is not. Waits for nothing.
    pub(crate) fn flush_soon(&self, end_offset: u64) {
        let unsynced = end_offset.saturating_sub(self.log.commit.synced());
        if unsynced > self.options.flush_bytes / 2 {
            self.log.commit.ask_flush();
        }
    }

    #[inline]
    fn bound_unsynced(&self, end_offset: u64) -> Result<(), Error> {
        let unsynced = end_offset.saturating_sub(self.log.commit.synced());
        if unsynced > self.options.flush_bytes / 2 {
            if unsynced > self.options.flush_bytes || self.options.background == Background::Manual
            {
                self.sync_to(end_offset - self.options.flush_bytes / 2)?;
            } else {
                self.log.commit.ask_flush();
            }
        }
        self.bound_unsealed();
        Ok(())
    }

    /// With nobody else to do it, or with somebody who does not keep up, appenders seal.
    #[inline]
    fn bound_unsealed(&self) {
        const UNSEALED_MAX: usize = 4;
        let waiting = self.log.unsealed();
        if waiting > 0 && (self.options.background == Background::Manual || waiting > UNSEALED_MAX)
        {
            // A failure shows again at the next housekeeping; the index stays in memory until then.
            let _ = housekeeper::seal(self);
        }
    }

    fn check_written(&self, end_offset: u64) -> Result<(), Error> {
        let written = self.log.commit.written();
        if end_offset > written {
            Err(Error::BeyondEnd {
                end_offset,
                written,
            })
        } else {
            Ok(())
        }
    }

    pub(crate) fn wait(&self, end_offset: u64, durability: Durability) -> Result<(), Error> {
        self.check_written(end_offset)?;
        match durability {
            Durability::Buffered => self.log.commit.check(),
            Durability::Synced => self.sync_to(end_offset),
            Durability::Replicated => {
                self.sync_to(end_offset)?;
                self.log
                    .commit
                    .wait_replicated(end_offset, Duration::from_secs(3600))
            }
        }
    }

    /// Syncs up to `end_offset`, and does what waits for it. Called where no lock is held.
    pub(crate) fn sync_to(&self, end_offset: u64) -> Result<(), Error> {
        let outcome = self.log.sync_to(end_offset);
        if outcome.is_ok() && self.log.role() != Role::Master {
            self.log.publish_synced();
        }
        self.tell_synced();
        outcome
    }

    /// Does what waits for a sync. Called where no lock is held: a callback may want it.
    pub(crate) fn tell_synced(&self) {
        self.log.commit.run_ready();
        self.wake_visible();
    }

    /// Wakes those who wait for messages that have become visible.
    pub(crate) fn wake_visible(&self) {
        if self.options.visible_at == VisibleAt::Written {
            return;
        }
        let visible = self.visible();
        let ready = self.wake_later.lock().take_visible(visible);
        for subject in ready {
            wakeup::notify(&subject);
        }
    }
}
