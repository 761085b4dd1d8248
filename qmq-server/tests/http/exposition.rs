//! A strict reader of the text format: whatever it does not know is an error.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A scrape.
pub(crate) struct Exposition {
    /// By family: its type.
    types: HashMap<String, String>,
    /// By name and labels, in the order of the labels' names.
    series: HashMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Reads a scrape.
    pub(crate) fn parse(text: &str) -> Self {
        let (body, end) = text.rsplit_once("# EOF\n").expect("the text has an end");
        assert_eq!(end, "", "nothing comes behind the end");
        let mut read = Self {
            types: HashMap::new(),
            series: HashMap::new(),
        };
        let mut helped = HashSet::new();
        let mut family = String::new();
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a help has a text");
                assert!(is_name(name), "{line}");
                assert!(!text.trim().is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "twice: {line}");
                family = name.to_owned();
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').expect("a type has a name");
                assert_eq!(name, family, "the type comes behind the help: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                read.types.insert(name.to_owned(), kind.to_owned());
            } else {
                read.sample(&family, line);
            }
        }
        read.check_histograms();
        read
    }

    fn sample(&mut self, family: &str, line: &str) {
        let kind = self.types.get(family).expect("a sample has a type").clone();
        let at = line.find(['{', ' ']).expect("a sample has a value");
        let (name, rest) = line.split_at(at);
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line:?} is not of {family}"));
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest, line),
            None => (Labels::new(), rest),
        };
        let value: f64 = value
            .strip_prefix(' ')
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no number: {line}"));
        if kind != "gauge" {
            assert!(value >= 0.0 && value.is_finite(), "{line}");
        }
        let before = self.series.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "twice: {line}");
    }

    fn check_histograms(&self) {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let count = self.value(&format!("{family}_count"), &[]);
            let bucket = format!("{family}_bucket");
            let mut buckets: Vec<(f64, f64)> = self
                .of(&bucket)
                .map(|(labels, value)| (labels["le"].parse().unwrap(), value))
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{family}");
        }
    }

    /// The series of a name.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.series
            .iter()
            .filter(move |((of, _), _)| of == name)
            .map(|((_, labels), value)| (labels, *value))
    }

    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let key = (name.to_owned(), labels.collect());
        self.series.get(&key).copied()
    }

    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }

    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }
}

/// Labels up to and with the closing brace, and what comes behind it.
fn labels<'a>(mut rest: &'a str, line: &str) -> (Labels, &'a str) {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label has a value");
        assert!(is_name(name) && !name.contains(':'), "{line}");
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("a label's value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().expect("an escape ends").1 {
                    'n' => '\n',
                    other @ ('"' | '\\') => other,
                    other => panic!("\\{other} in {line}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        let before = labels.insert(name.to_owned(), value);
        assert_eq!(before, None, "a label comes twice: {line}");
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        rest = rest.strip_prefix(',').expect("a comma between labels");
    }
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|first| first.is_ascii_alphabetic() || "_:".contains(first))
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter))
}
