//! Filters of messages by their tags.

use crate::message::{MessageError, check_tags};

/// Which messages of a subject a consumer wants, by their tags.
///
/// Tags are compared as they are, letter by letter. A message without tags passes only [`TagFilter::All`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TagFilter {
    /// Every message, with tags or without.
    #[default]
    All,
    /// Messages that have one of these tags at least (QMQ's OR).
    Any(Vec<String>),
    /// Messages that have each one of these tags (QMQ's AND).
    Every(Vec<String>),
}

impl TagFilter {
    /// Whether a message that has these tags passes.
    #[must_use]
    pub fn matches<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> bool {
        match self {
            Self::All => true,
            Self::Any(wanted) => tags
                .into_iter()
                .any(|tag| wanted.iter().any(|want| want == tag)),
            Self::Every(wanted) => every(wanted, tags),
        }
    }

    /// The tags that the filter names: none for [`TagFilter::All`].
    #[must_use]
    pub fn tags(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Any(tags) | Self::Every(tags) => tags,
        }
    }

    /// Checks that a filter by tags names 1 to 64 tags of 1 to 255 bytes each.
    pub fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::All => Ok(()),
            Self::Any(tags) | Self::Every(tags) if tags.is_empty() => Err(MessageError::NoTags),
            Self::Any(tags) | Self::Every(tags) => check_tags(tags.iter().map(String::as_str)),
        }
    }
}

/// Whether `tags` has each of `wanted`, and at least one tag.
///
/// The tags can be passed over only once, and a filter is asked for every message of a pull: found tags are marked in
/// the bits of a word, 64 of them being the most that [`TagFilter::check`] allows, so that nothing is allocated.
fn every<'a>(wanted: &[String], tags: impl IntoIterator<Item = &'a str>) -> bool {
    let mut tags = tags.into_iter();
    if wanted.len() > 64 {
        // An unchecked filter: rare, and still answered rightly.
        let tags: Vec<&str> = tags.collect();
        return !tags.is_empty() && wanted.iter().all(|want| tags.contains(&want.as_str()));
    }
    if wanted.is_empty() {
        return tags.next().is_some();
    }
    let all = u64::MAX >> (64 - wanted.len());
    let mut found = 0_u64;
    for tag in tags {
        for (bit, want) in wanted.iter().enumerate() {
            if want == tag {
                found |= 1 << bit;
            }
        }
        if found == all {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn names(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|&tag| tag.to_owned()).collect()
    }

    #[test]
    fn any_needs_one_of_its_tags() {
        let filter = TagFilter::Any(names(&["a", "b"]));
        assert!(filter.matches(["b", "c"]));
        assert!(!filter.matches(["c", "A"]));
    }

    #[test]
    fn every_needs_each_of_its_tags() {
        let filter = TagFilter::Every(names(&["a", "b"]));
        assert!(filter.matches(["b", "c", "a"]));
        assert!(!filter.matches(["a", "c"]));
        // The same tag twice does not stand for two tags.
        assert!(!filter.matches(["a", "a"]));
        assert!(TagFilter::Every(names(&["a", "a"])).matches(["a"]));
    }

    #[test]
    fn an_untagged_message_passes_only_all() {
        assert!(TagFilter::All.matches([]));
        for tags in [names(&["a"]), names(&[])] {
            assert!(!TagFilter::Any(tags.clone()).matches([]));
            assert!(!TagFilter::Every(tags).matches([]));
        }
    }

    #[test]
    fn a_filter_takes_1_to_64_tags_and_all_takes_none() {
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(TagFilter::All.check(), Ok(()));
        assert!(TagFilter::All.tags().is_empty());
        for make in [TagFilter::Any, TagFilter::Every] {
            assert_eq!(make(many(0)).check(), Err(MessageError::NoTags));
            assert_eq!(make(many(1)).check(), Ok(()));
            assert_eq!(make(many(64)).check(), Ok(()));
            let refused = MessageError::TooManyTags { count: 65, max: 64 };
            assert_eq!(make(many(65)).check(), Err(refused));
            assert_eq!(
                make(names(&[""])).check(),
                Err(MessageError::Empty { what: "tag" })
            );
            assert_eq!(make(names(&["a", "b"])).tags(), ["a", "b"]);
        }
    }

    proptest! {
        #[test]
        fn filters_agree_with_set_logic(wanted in vec("[a-e]", 1..70), tags in vec("[a-f]", 0..8)) {
            let given = || tags.iter().map(String::as_str);
            let any = wanted.iter().any(|want| tags.contains(want));
            let every = wanted.iter().all(|want| tags.contains(want));
            prop_assert_eq!(TagFilter::Any(wanted.clone()).matches(given()), any);
            prop_assert_eq!(TagFilter::Every(wanted).matches(given()), every);
        }
    }
}
