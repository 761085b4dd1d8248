//! Where the logs of two stores part.

use qmq_store::{Epoch, Error, ReadOnlyStore};

/// Bytes compared by one pair of digests; in the first that differ, halving finds the byte.
const PIECE: u64 = 16 << 20;

/// What a comparison of two logs, `a` and `b`, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They have the same bytes and end at the same offset.
    Equal,
    /// The same bytes, but `a` ends earlier.
    AIsPrefix,
    /// The same bytes, but `b` ends earlier.
    BIsPrefix,
    /// They have another byte, first at this offset.
    Differ(u64),
    /// One begins behind the end of the other.
    NothingInCommon,
}

/// What was compared, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) outcome: Outcome,
    /// The range that both have.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Whose log could not be read, and why.
#[derive(Debug)]
pub(super) enum Unreadable {
    A(Error),
    B(Error),
}

/// Compares the logs in the range that both have.
pub(super) fn compare(
    a: &ReadOnlyStore,
    b: &ReadOnlyStore,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Compared, Unreadable> {
    let (ours, theirs) = (a.log_range(), b.log_range());
    let from = ours.start.max(theirs.start);
    let to = ours.end.min(theirs.end);
    if from > to || (from == to && ours.end != theirs.end && from > 0) {
        return Ok(Compared {
            outcome: Outcome::NothingInCommon,
            from,
            to: from,
        });
    }
    let same = |from, to| {
        let ours = a.digest(from, to).map_err(Unreadable::A)?;
        Ok(ours == b.digest(from, to).map_err(Unreadable::B)?)
    };
    let mut at = from;
    while at < to {
        let until = to.min(at + PIECE);
        if !same(at, until)? {
            let offset = halve(at, until, &same)?;
            let outcome = Outcome::Differ(offset);
            return Ok(Compared { outcome, from, to });
        }
        at = until;
        progress(at - from, to - from);
    }
    let outcome = match ours.end.cmp(&theirs.end) {
        std::cmp::Ordering::Less => Outcome::AIsPrefix,
        std::cmp::Ordering::Equal => Outcome::Equal,
        std::cmp::Ordering::Greater => Outcome::BIsPrefix,
    };
    Ok(Compared { outcome, from, to })
}

/// The first byte that differs in a range whose digests do.
fn halve(
    mut from: u64,
    mut to: u64,
    same: &dyn Fn(u64, u64) -> Result<bool, Unreadable>,
) -> Result<u64, Unreadable> {
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if same(from, middle)? {
            from = middle;
        } else {
            to = middle;
        }
    }
    Ok(from)
}

/// The first epoch that one log has and the other has not, or has elsewhere: of both, as far as there is one.
pub(super) fn epochs_part(a: &[Epoch], b: &[Epoch]) -> Option<(Option<Epoch>, Option<Epoch>)> {
    let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at))?;
    Some((a.get(at).copied(), b.get(at).copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_the_first_byte() {
        for bad in [100, 101, 150, 198, 199] {
            let same = |from: u64, to: u64| Ok(!(from..to).contains(&bad));
            assert_eq!(halve(100, 200, &same).unwrap(), bad);
        }
        let same = |from: u64, to: u64| Ok(!(120..200).any(|bad| (from..to).contains(&bad)));
        assert_eq!(halve(100, 200, &same).unwrap(), 120);
    }

    #[test]
    fn epochs_part_where_they_are_not_the_same() {
        let epoch = |number, start| Epoch { number, start };
        let a = [epoch(1, 0), epoch(2, 100)];
        assert_eq!(epochs_part(&a, &a), None);
        assert_eq!(epochs_part(&a, &a[..1]), Some((Some(a[1]), None)));
        let b = [a[0], epoch(3, 100)];
        assert_eq!(epochs_part(&a, &b), Some((Some(a[1]), Some(b[1]))));
    }
}
