//! How groups share the broker: by what each may have on its way at a time.
//!
//! Turns alone do not make groups equal. A thousand consumers take in as many turns in the time in which one takes a single one, each of their
//! connections wants its part of the processor, and the one connection of another group is a thousandth of them. So a group that stands beside
//! others has no more than one turn on its way, the next begins when the consumers have settled it, and it is never far ahead of the one that
//! has got least. A group alone has several, which fills a fast
//! connection and still leaves little in front of a group that comes in between. Where consumers are far away or take their time, a turn is added
//! every few milliseconds: they must not slow down their group.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::flow::Flow;

/// Turns on its way that a group may have that is alone.
const TURNS_ALONE: u64 = 16;
/// A group that got nothing for so long has another turn, whatever is on its way.
pub(super) const ANOTHER_AFTER: Duration = Duration::from_millis(5);
/// For so long after groups stood beside each other they still count as such: who has just taken its last credit is back in a moment.
const BESIDE_FOR: Duration = Duration::from_millis(50);

/// A group may be so many turns ahead of the one beside it that has got least.
const TURNS_AHEAD: u64 = 2;
/// Groups that are asked at a time whether they may go on; the others find out by themselves.
const ASKED_MAX: usize = 16;

/// Who stands beside whom, and how much each has got.
#[derive(Debug, Default)]
pub(super) struct Share {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Groups with something to do: (bytes that each has got, its number).
    busy: BTreeSet<(u64, u64)>,
    beside_until: Option<Instant>,
    /// Groups that are ahead of others.
    ahead: Vec<Weak<Flow>>,
    numbers: u64,
}

impl State {
    fn is_beside(&mut self, now: Instant) -> bool {
        if self.busy.len() > 1 {
            self.beside_until = Some(now + BESIDE_FOR);
        }
        self.beside_until.is_some_and(|until| now < until)
    }

    fn least(&self) -> Option<u64> {
        self.busy.first().map(|(got, _)| *got)
    }
}

impl Share {
    /// A group that must wait since it is ahead of others.
    pub(super) fn wait_for_others(&self, flow: Weak<Flow>) {
        self.state.lock().ahead.push(flow);
    }
}

/// What of a group is on its way, and what it has got.
#[derive(Debug, Default)]
pub(super) struct OnItsWay {
    bytes: AtomicU64,
    held_back: AtomicBool,
    place: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    number: u64,
    got: u64,
    busy: bool,
    last_turn: Option<Instant>,
}

/// Why a group may have no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotYet {
    /// When it may, if nothing happens before.
    pub(super) until: Instant,
    /// It is ahead of others, rather than having enough on its way.
    pub(super) ahead: bool,
}

impl OnItsWay {
    /// The group has something to do.
    pub(super) fn begin(&self, share: &Share) {
        let mut place = self.place.lock();
        if place.busy {
            return;
        }
        let mut state = share.state.lock();
        if place.number == 0 {
            state.numbers += 1;
            place.number = state.numbers;
        }
        // Nothing is saved up while there was nothing to do.
        place.got = place.got.max(state.least().unwrap_or(0));
        place.busy = true;
        state.busy.insert((place.got, place.number));
    }

    /// The group has nothing to do.
    pub(super) fn rest(&self, share: &Share) {
        let mut place = self.place.lock();
        if std::mem::take(&mut place.busy) {
            share.state.lock().busy.remove(&(place.got, place.number));
        }
    }

    /// Whether the group may have a turn.
    pub(super) fn may_go(
        &self,
        share: &Share,
        turn_bytes: u64,
        now: Instant,
    ) -> Result<(), NotYet> {
        let mut place = self.place.lock();
        // Said first: what is settled from here on asks for a turn.
        self.held_back.store(true, Ordering::SeqCst);
        let another = place.last_turn.map_or(now, |last| last + ANOTHER_AFTER);
        if now < another {
            let on_its_way = self.bytes.load(Ordering::SeqCst);
            let mut state = share.state.lock();
            let beside = state.is_beside(now);
            let allowance = if beside { 1 } else { TURNS_ALONE } * turn_bytes;
            let least = state.least().unwrap_or(place.got);
            let ahead = beside && place.got > least + TURNS_AHEAD * turn_bytes;
            if ahead || (on_its_way > 0 && on_its_way >= allowance) {
                return Err(NotYet {
                    until: another,
                    ahead,
                });
            }
        }
        self.held_back.store(false, Ordering::SeqCst);
        place.last_turn = Some(now);
        Ok(())
    }

    /// So many bytes go on their way. Groups that waited since they were ahead, and may not be any more.
    pub(super) fn add(&self, share: &Share, bytes: u64) -> Vec<Weak<Flow>> {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        let mut place = self.place.lock();
        let mut state = share.state.lock();
        let before = (place.got, place.number);
        place.got += bytes;
        if !place.busy {
            return Vec::new();
        }
        let was_least = state.busy.first() == Some(&before);
        state.busy.remove(&before);
        state.busy.insert((place.got, place.number));
        let asked = state.ahead.len().min(if was_least { ASKED_MAX } else { 0 });
        state.ahead.drain(..asked).collect()
    }

    /// So much has arrived. Whether the group was held back for it.
    pub(super) fn take(&self, bytes: u64) -> bool {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        bytes > 0 && self.held_back.swap(false, Ordering::SeqCst)
    }
}

/// What of one consumer is on its way: turns, by the first pull sequence of each.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: VecDeque<(u64, u64)>,
    granted: u64,
}

impl Turns {
    pub(super) fn add(&mut self, first_pull: u64, bytes: u64) {
        self.turns.push_back((first_pull, bytes));
    }

    /// The consumer has settled a message: its turn, and those before, have arrived. Bytes that have arrived by it.
    pub(super) fn settled(&mut self, pull_sequence: u64) -> u64 {
        let mut arrived = 0;
        while let Some(&(_, bytes)) = self
            .turns
            .front()
            .filter(|(first, _)| *first <= pull_sequence)
        {
            arrived += bytes;
            self.turns.pop_front();
        }
        arrived
    }

    /// The consumer has granted credit, as it does for what has arrived. For those that settle nothing.
    pub(super) fn granted(&mut self, bytes: u64) -> u64 {
        self.granted = self.granted.saturating_add(bytes);
        let mut arrived = 0;
        while let Some((_, bytes)) = self.turns.front().copied() {
            if bytes > self.granted {
                return arrived;
            }
            self.granted -= bytes;
            arrived += bytes;
            self.turns.pop_front();
        }
        self.granted = 0;
        arrived
    }

    /// The consumer is gone.
    pub(super) fn clear(&mut self) -> u64 {
        self.turns.drain(..).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: u64 = 100;

    fn until(at: Instant) -> Result<(), NotYet> {
        Err(NotYet {
            until: at + ANOTHER_AFTER,
            ahead: false,
        })
    }

    #[test]
    fn a_group_beside_others_has_one_turn_on_its_way_and_alone_several() {
        let (share, one, other) = (Share::default(), OnItsWay::default(), OnItsWay::default());
        let now = Instant::now();
        one.begin(&share);
        for _ in 0..TURNS_ALONE {
            assert_eq!(one.may_go(&share, TURN, now), Ok(()));
            one.add(&share, TURN);
        }
        assert_eq!(one.may_go(&share, TURN, now), until(now));
        assert!(one.take(TURN), "it was held back");
        other.begin(&share);
        assert_eq!(one.may_go(&share, TURN, now), until(now));
        assert_eq!(other.may_go(&share, TURN, now), Ok(()));
        other.add(&share, TURN);
        assert!(other.may_go(&share, TURN, now).is_err());
        other.rest(&share);
        let later = now + BESIDE_FOR;
        one.take((TURNS_ALONE - 2) * TURN);
        assert_eq!(one.may_go(&share, TURN, later), Ok(()));
    }

    #[test]
    fn a_group_is_never_far_ahead_of_one_beside_it() {
        let (share, fast, slow) = (Share::default(), OnItsWay::default(), OnItsWay::default());
        let now = Instant::now();
        fast.begin(&share);
        slow.begin(&share);
        let mut turns = 0;
        while fast.may_go(&share, TURN, now).is_ok() {
            fast.add(&share, TURN);
            fast.take(TURN);
            turns += 1;
        }
        assert_eq!(turns, TURNS_AHEAD + 1);
        assert!(fast.may_go(&share, TURN, now).unwrap_err().ahead);
        share.wait_for_others(Weak::new());
        assert_eq!(slow.may_go(&share, TURN, now), Ok(()));
        assert_eq!(slow.add(&share, TURN).len(), 1, "it is asked again");
        assert_eq!(fast.may_go(&share, TURN, now), Ok(()));
    }

    #[test]
    fn who_comes_late_has_nothing_saved_up() {
        let (share, old, new) = (Share::default(), OnItsWay::default(), OnItsWay::default());
        let now = Instant::now();
        old.begin(&share);
        old.add(&share, 1000 * TURN);
        old.take(1000 * TURN);
        new.begin(&share);
        assert_eq!(old.may_go(&share, TURN, now), Ok(()));
    }

    #[test]
    fn who_settles_late_gets_a_turn_now_and_then() {
        let (share, one) = (Share::default(), OnItsWay::default());
        let now = Instant::now();
        one.add(&share, TURN * TURNS_ALONE);
        assert_eq!(one.may_go(&share, TURN, now), Ok(()));
        assert_eq!(one.may_go(&share, TURN, now), until(now));
        assert_eq!(one.may_go(&share, TURN, now + ANOTHER_AFTER), Ok(()));
    }

    #[test]
    fn a_settled_message_says_that_all_before_it_have_arrived() {
        let mut turns = Turns::default();
        turns.add(0, 10);
        turns.add(10, 20);
        turns.add(20, 30);
        assert_eq!(turns.settled(12), 30);
        assert_eq!(turns.settled(12), 0);
        assert_eq!(turns.settled(40), 30);
    }

    #[test]
    fn credit_counts_for_those_that_settle_nothing() {
        let mut turns = Turns::default();
        turns.add(9, 10);
        turns.add(19, 20);
        assert_eq!(turns.granted(15), 10);
        assert_eq!(turns.granted(15), 20);
        assert_eq!(turns.granted(1000), 0, "credit is not saved up");
        turns.add(29, 30);
        assert_eq!(turns.granted(1), 0);
        assert_eq!(turns.clear(), 30);
    }
}
