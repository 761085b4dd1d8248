//! The known name that a mistyped one probably meant.

/// The candidate with the least edit distance to `name`, if it is near enough to be a slip of the hand: at most a
/// third of the name's characters differ. Capitals do not count as a difference.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let letters = letters_of(name);
    // The work is quadratic in the lengths; a key of a kilobyte is no slip.
    if letters.len() > 100 {
        return None;
    }
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(&letters, &letters_of(candidate)), candidate))
        .min()?;
    (near.0 <= letters.len() / 3).then_some(near.1)
}

fn letters_of(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["broker.port", "store.root", "sync.port"];

    #[test]
    fn a_slip_of_the_hand_finds_its_key() {
        for slip in [
            "broker.prot",
            "brokerport",
            "Broker.Port",
            "broker_port",
            "broker.ports",
        ] {
            assert_eq!(nearest(slip, NAMES), Some("broker.port"), "{slip}");
        }
        assert_eq!(nearest("store.rot", NAMES), Some("store.root"));
    }

    #[test]
    fn what_is_near_to_nothing_finds_nothing() {
        for other in ["", "x", "spring.application.name", &"y".repeat(10_000)] {
            assert_eq!(nearest(other, NAMES), None, "{other}");
        }
        assert_eq!(nearest("broker.port", []), None);
    }

    #[test]
    fn the_distance_counts_single_changes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(&letters_of(a), &letters_of(b)), expected);
        }
    }
}
