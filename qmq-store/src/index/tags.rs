//! Tag fingerprints: 32 bits in an index entry that can say "surely not".

use qmq_message::TagFilter;

/// The bits of one tag: up to three of 32, taken from its CRC-32, so that the format needs no other hash.
fn tag_bits(tag: &str) -> u32 {
    let hash = crc32fast::hash(tag.as_bytes());
    (1 << (hash & 31)) | (1 << ((hash >> 8) & 31)) | (1 << ((hash >> 16) & 31))
}

/// Fingerprint of a message's tags: the bits of all of them; 0 without tags.
pub(crate) fn fingerprint<'a>(tags: impl IntoIterator<Item = &'a str>) -> u32 {
    tags.into_iter().fold(0, |bits, tag| bits | tag_bits(tag))
}

/// A filter, prepared for comparing with fingerprints.
#[derive(Clone, Debug)]
pub(crate) enum FingerprintFilter {
    All,
    Any(Vec<u32>),
    Every(u32),
}

impl FingerprintFilter {
    pub(crate) fn new(filter: &TagFilter) -> Self {
        match filter {
            TagFilter::All => Self::All,
            TagFilter::Any(tags) => Self::Any(tags.iter().map(|tag| tag_bits(tag)).collect()),
            TagFilter::Every(tags) => Self::Every(fingerprint(tags.iter().map(String::as_str))),
        }
    }

    /// `false` only if no message with this fingerprint can pass.
    #[inline]
    pub(crate) fn may_match(&self, fingerprint: u32) -> bool {
        match self {
            Self::All => true,
            Self::Any(tags) => tags.iter().any(|bits| fingerprint & bits == *bits),
            Self::Every(bits) => fingerprint & bits == *bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_rejects_a_message_that_matches() {
        let names: Vec<String> = (0..200).map(|n| format!("tag-{n}")).collect();
        for window in names.windows(4) {
            let tags: Vec<&str> = window.iter().map(String::as_str).collect();
            let bits = fingerprint(tags.iter().copied());
            assert!(FingerprintFilter::new(&TagFilter::Every(window.to_vec())).may_match(bits));
            assert!(
                FingerprintFilter::new(&TagFilter::Any(vec![window[2].clone()])).may_match(bits)
            );
        }
    }

    #[test]
    fn a_selective_tag_rejects_most_others_and_all_untagged() {
        let filter = FingerprintFilter::new(&TagFilter::Any(vec!["pay".into()]));
        assert!(!filter.may_match(fingerprint([])));
        let passed = (0..1000)
            .filter(|n| filter.may_match(fingerprint([format!("t{n}").as_str()])))
            .count();
        assert!(passed < 20, "{passed} of 1,000 other tags pass");
    }
}
