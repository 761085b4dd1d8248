//! Which groups are given to a subject.

use crate::options::Random;
use crate::picture::Picture;

/// Picks `count` of `groups`, all different: for each, two by chance, of which the one with fewer routes. So a group that has fewer gets more, and yet
/// not all at once.
pub(crate) fn by_load(
    picture: &Picture,
    mut groups: Vec<String>,
    count: usize,
    random: &mut Random,
) -> Vec<String> {
    let mut chosen = Vec::with_capacity(count.min(groups.len()));
    while chosen.len() < count && !groups.is_empty() {
        let first = index(random, groups.len());
        let index = if groups.len() == 1 {
            first
        } else {
            let other = index(random, groups.len() - 1);
            let second = if other >= first { other + 1 } else { other };
            if picture.load(&groups[second]) < picture.load(&groups[first]) {
                second
            } else {
                first
            }
        };
        chosen.push(groups.swap_remove(index));
    }
    chosen
}

fn index(random: &mut Random, below: usize) -> usize {
    let picked = random(below as u64);
    usize::try_from(picked).unwrap_or(0).min(below - 1)
}

/// Picks `count` of `names` that are the same for a subject wherever and whenever they are picked of the same names, and mostly of others (rendezvous
/// hashing: Thaler and Ravishankar, 1996).
pub(crate) fn by_name<'a>(
    subject: &str,
    names: impl Iterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut weighed: Vec<(u64, &str)> = names.map(|name| (weight(subject, name), name)).collect();
    weighed.sort_unstable_by(|a, b| b.cmp(a));
    weighed.truncate(count);
    weighed.into_iter().map(|(_, name)| name).collect()
}

/// FNV-1a of both, mixed at the end; it must be the same in every version of this program.
fn weight(subject: &str, name: &str) -> u64 {
    let bytes = subject.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}
