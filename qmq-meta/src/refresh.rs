//! Reading everything again and again, and telling the database what it missed while it was away.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::database::Everything;
use crate::error::DatabaseError;
use crate::model::SubjectRoute;
use crate::picture::Picture;
use crate::shared::Shared;
use crate::snapshot;
use crate::status::DatabaseStatus;

/// One read at a time, and none that a waiting caller has no need of.
#[derive(Default)]
pub(crate) struct Reading {
    turn: tokio::sync::Mutex<()>,
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// Keeps what is known fresh for as long as anybody has the handle.
pub(crate) async fn keep_fresh(shared: Weak<Shared>, mut pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.tick().await;
        pause = shared.pause();
    }
}

impl Shared {
    /// Until the next read: whoever sweeps more seldom than at half the time of silence would for ever be taken for one that was away.
    pub(crate) fn pause(&self) -> Duration {
        let silent_ms = self.heartbeat_timeout_ms.load(Ordering::Relaxed);
        let sweep = Duration::from_millis((silent_ms / 4).max(10));
        self.refresh.min(sweep)
    }

    /// Reads, sweeps, and writes the snapshot.
    pub(crate) async fn tick(&self) {
        if self.read_anew().await.is_ok() {
            self.sweep().await;
        }
        self.save().await;
    }

    async fn sweep(&self) {
        let wanted_ms = self.heartbeat_timeout_ms.load(Ordering::Relaxed).max(1);
        let silent_ms = self.patience.lock().counts(wanted_ms, Instant::now());
        match self.noted(self.database.sweep(silent_ms).await) {
            Ok(groups) if groups.is_empty() => {}
            Ok(groups) => {
                tracing::warn!(
                    meta = self.name,
                    ?groups,
                    silent_ms,
                    "no heartbeat: these broker groups are away (NRW)"
                );
                let _ = self.read_anew().await;
            }
            Err(DatabaseError::Away { .. }) => {}
            Err(error) => tracing::warn!(meta = self.name, %error, "could not look for silence"),
        }
    }

    /// Reads everything; does nothing if a read that began after this call has ended meanwhile.
    pub(crate) async fn read_anew(&self) -> Result<(), DatabaseError> {
        let reading = &self.reading;
        let wanted = reading.begun.load(Ordering::SeqCst) + 1;
        let _turn = reading.turn.lock().await;
        if reading.done.load(Ordering::SeqCst) >= wanted {
            return Ok(());
        }
        if reading.failed.load(Ordering::SeqCst) >= wanted
            && let DatabaseStatus::Away { reason, .. } = self.link()
        {
            return Err(DatabaseError::Away { reason });
        }
        let number = reading.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.read_once(number).await;
        let ended = if outcome.is_ok() {
            &reading.done
        } else {
            &reading.failed
        };
        ended.store(number, Ordering::SeqCst);
        outcome
    }

    /// As [`Self::read_anew`], for somebody who is not found; but not more often than every `pause`, so that strangers do not wear the database out:
    /// whoever comes too early waits.
    pub(crate) async fn look_again(&self, pause: Duration) -> Result<(), DatabaseError> {
        let arrived = Instant::now();
        loop {
            let wait = {
                let mut looked = self.looked.lock();
                match *looked {
                    // Somebody else's turn has come meanwhile: all who wait share one read.
                    Some(at) if at >= arrived => None,
                    Some(at) if at.elapsed() < pause => Some(pause.saturating_sub(at.elapsed())),
                    _ => {
                        *looked = Some(Instant::now());
                        None
                    }
                }
            };
            match wait {
                None => return self.read_anew().await,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    async fn read_once(&self, number: u64) -> Result<(), DatabaseError> {
        self.tell_presences().await?;
        self.tell_routes().await?;
        let everything = match self.database.read().await {
            Ok(everything) => everything,
            Err(error) => {
                self.gone(&error.to_string());
                return Err(error);
            }
        };
        self.take(everything, number);
        self.settle_routes().await?;
        self.back();
        Ok(())
    }

    /// Makes what was read what is known.
    pub(crate) fn take(&self, everything: Everything, number: u64) {
        let mut picture = Picture::of(everything);
        let mut known = self.known.write();
        known.made.retain(|(mark, _)| *mark >= number);
        for (_, route) in &known.made {
            let newer =
                (picture.route(&route.subject)).is_none_or(|read| read.version < route.version);
            if newer {
                picture.put_route(route.clone());
            }
        }
        let routes_differ = picture.routes_differ(&known.picture);
        if routes_differ || picture.differs(&known.picture) {
            self.unsaved.store(true, Ordering::Release);
        }
        let before = self.stamp.fetch_max(picture.at, Ordering::AcqRel);
        if picture.at < before {
            tracing::warn!(
                meta = self.name,
                before,
                now = picture.at,
                "the database's time fell; answers keep the greater one"
            );
        }
        let old = std::mem::replace(&mut known.picture, picture);
        drop(known);
        drop(old);
        if routes_differ {
            self.changed();
        }
    }

    /// A route that this meta server wrote; a read that has begun may lack it.
    pub(crate) fn put_route(&self, route: SubjectRoute) {
        let mut known = self.known.write();
        let mark = self.reading.begun.load(Ordering::SeqCst);
        known.made.push((mark, route.clone()));
        known.picture.put_route(route);
        drop(known);
        self.unsaved.store(true, Ordering::Release);
    }

    async fn tell_presences(&self) -> Result<(), DatabaseError> {
        let untold: Vec<_> = self.untold.lock().values().cloned().collect();
        let timeout = Duration::from_millis(self.heartbeat_timeout_ms.load(Ordering::Relaxed));
        for (liveness, at) in untold {
            if at.elapsed() < timeout {
                match self.noted(self.database.seen(&liveness).await) {
                    Err(error @ DatabaseError::Away { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(group = liveness.group, %error, "what its master said while the database was away is not kept");
                    }
                    Ok(_) => {}
                }
            }
            let mut untold = self.untold.lock();
            if (untold.get(&liveness.group)).is_some_and(|(_, later)| *later == at) {
                untold.remove(&liveness.group);
            }
        }
        Ok(())
    }

    async fn tell_routes(&self) -> Result<(), DatabaseError> {
        let temporary = self.temporary.read().clone();
        for (subject, groups) in temporary {
            match self.noted(self.database.add_route(&subject, &groups).await) {
                Err(error @ DatabaseError::Away { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(subject, %error, "its route, given while the database was away, is not kept yet");
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Routes given while the database was away: another meta server may have given others. Then the subject keeps both, since both have messages.
    async fn settle_routes(&self) -> Result<(), DatabaseError> {
        let temporary = self.temporary.read().clone();
        for (subject, groups) in temporary {
            let stored = self.known.read().picture.route(&subject).cloned();
            let Some(mut route) = stored else {
                continue;
            };
            let lacking: Vec<String> = (groups.iter())
                .filter(|group| !route.groups.contains(group))
                .cloned()
                .collect();
            if !lacking.is_empty() {
                route.groups.extend(lacking);
                let change = (self.database).change_route(&subject, &route.groups, route.version);
                match self.noted(change.await) {
                    Err(error @ DatabaseError::Away { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(subject, %error, "its route, given while the database was away, is not kept yet");
                        continue;
                    }
                    Ok(false) => continue,
                    Ok(true) => {}
                }
                route.version = route.version.wrapping_add(1);
                self.put_route(route);
                self.changed();
            }
            self.temporary.write().remove(&subject);
            self.unsaved.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Writes the snapshot if anything changed, and the time always.
    pub(crate) async fn save(&self) {
        let Some(path) = self.snapshot.clone() else {
            return;
        };
        let stamp = self.stamp.load(Ordering::Acquire);
        let whole = self.unsaved.swap(false, Ordering::AcqRel).then(|| {
            let everything = self.known.read().picture.everything();
            snapshot::Content {
                everything,
                temporary: self.temporary.read().clone(),
            }
        });
        let has_whole = whole.is_some();
        let shown = path.display().to_string();
        let write = move || -> std::io::Result<()> {
            if let Some(content) = whole {
                snapshot::write(&path, &content)?;
            }
            snapshot::write_stamp(&path, stamp)
        };
        let outcome = tokio::task::spawn_blocking(write).await;
        let problem = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if has_whole {
            self.unsaved.store(true, Ordering::Release);
        }
        tracing::error!(
            meta = self.name,
            path = shown,
            problem,
            "the snapshot cannot be written: should the database be away at a restart, nothing would be known; mend the folder"
        );
    }
}
