//! Memory for requests that are not in the log yet.
//!
//! A frame takes of it what has come of it, so that whoever announces much and sends nothing takes nothing. What connections announce is bounded for each of
//! them: one never has more than a share. Frames that have all come in part could keep the room that each of them needs for its rest; so one at a time may
//! go on to its end without any.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit is so many bytes.
const UNIT_BYTES: u64 = 1024;
/// A connection has at most one part of so many.
const SHARES: u32 = 4;

/// All of it, for all connections. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    free: Arc<Semaphore>,
    units: u32,
    /// For the one that goes on without room.
    last_resort: Arc<Semaphore>,
}

impl Whole {
    /// So many bytes, 1 KiB at least.
    pub(super) fn new(bytes: u64) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize) as u64;
        let units = (bytes / UNIT_BYTES).clamp(1, most) as u32;
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            last_resort: Arc::new(Semaphore::new(1)),
        }
    }

    /// Bytes that are taken, and how many there are.
    pub(super) fn used(&self) -> (u64, u64) {
        let free = self.free.available_permits() as u64;
        let units = u64::from(self.units);
        (units.saturating_sub(free) * UNIT_BYTES, units * UNIT_BYTES)
    }

    /// What a connection may have of it.
    pub(super) fn share(&self) -> Share {
        let units = (self.units / SHARES).max(1);
        Share {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            whole: self.clone(),
        }
    }
}

/// What a connection may have of it.
#[derive(Debug)]
pub(super) struct Share {
    free: Arc<Semaphore>,
    units: u32,
    whole: Whole,
}

impl Share {
    /// For a frame of so many bytes, of which none has come. Waits until the connection's other frames leave room for it; one that is longer than the
    /// share takes all of the share.
    pub(super) async fn announce(&self, bytes: usize) -> Budget {
        let units = units(bytes).min(self.units);
        let announced = Arc::clone(&self.free).acquire_many_owned(units).await;
        Budget {
            _announced: announced.ok(),
            come: None,
            last_resort: None,
            whole: self.whole.clone(),
        }
    }
}

/// What a frame has of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Budget {
    _announced: Option<OwnedSemaphorePermit>,
    come: Option<OwnedSemaphorePermit>,
    last_resort: Option<OwnedSemaphorePermit>,
    whole: Whole,
}

impl Budget {
    /// Waits until there is room for the first so many bytes of the frame. A frame that is longer than all there is takes all.
    pub(super) async fn come(&mut self, bytes: usize) {
        let has = self
            .come
            .as_ref()
            .map_or(0, |come| come.num_permits() as u32);
        let needs = units(bytes).min(self.whole.units).saturating_sub(has);
        if needs == 0 || self.last_resort.is_some() {
            return;
        }
        let free = Arc::clone(&self.whole.free).acquire_many_owned(needs);
        let last_resort = Arc::clone(&self.whole.last_resort).acquire_owned();
        tokio::select! {
            biased;
            more = free => match (&mut self.come, more) {
                (Some(come), Ok(more)) => come.merge(more),
                (come, more) => *come = more.ok(),
            },
            alone = last_resort => self.last_resort = alone.ok(),
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from((bytes as u64).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MIB: usize = 1 << 20;

    /// What comes of it without waiting.
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_announced_takes_of_its_own_connection_only() {
        let whole = Whole::new(16 * MIB as u64);
        let (one, other) = (whole.share(), whole.share());
        let _three = at_once(one.announce(3 * MIB)).unwrap();
        assert!(at_once(one.announce(2 * MIB)).is_none());
        let mut budget = at_once(other.announce(4 * MIB)).unwrap();
        assert_eq!(whole.used(), (0, 16 * MIB as u64));
        at_once(budget.come(4 * MIB)).unwrap();
        assert_eq!(whole.used(), (4 * MIB as u64, 16 * MIB as u64));
        drop(budget);
        assert_eq!(whole.used().0, 0);
    }

    #[test]
    fn of_frames_that_keep_the_room_of_each_other_one_goes_on_after_the_other() {
        let whole = Whole::new(4 * MIB as u64);
        let shares: Vec<Share> = (0..4).map(|_| whole.share()).collect();
        let mut budgets: Vec<Budget> = shares
            .iter()
            .map(|share| at_once(share.announce(2 * MIB)).unwrap())
            .collect();
        for budget in &mut budgets {
            at_once(budget.come(MIB)).unwrap();
        }
        let mut first = budgets.remove(0);
        at_once(first.come(MIB + 1)).expect("one goes on");
        at_once(first.come(2 * MIB)).expect("to its end");
        assert!(at_once(budgets[0].come(MIB + 1)).is_none());
        drop(first);
        at_once(budgets[0].come(2 * MIB)).expect("then there is room");
    }

    #[test]
    fn a_frame_that_is_longer_than_all_there_is_comes_alone() {
        let whole = Whole::new(MIB as u64);
        let share = whole.share();
        let mut long = at_once(share.announce(17 * MIB)).unwrap();
        at_once(long.come(9 * MIB)).unwrap();
        at_once(long.come(17 * MIB)).unwrap();
        assert_eq!(whole.used(), (MIB as u64, MIB as u64));
    }
}
