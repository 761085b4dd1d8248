//! Tokens and their rights, from `client-tokens.properties`.
//!
//! A line is `<SHA-256 of the token, in hex>=NAME;RIGHT:SUBJECT;...`, for example
//! `9f86d0...=billing;produce:order.*;consume:*`. The file has no secret: a token of enough randomness is not found from its hash.
//! A presented token is hashed and the hash looked up, so that the time taken says nothing about the tokens of others.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use sha2::{Digest as _, Sha256};

use super::{Right, Rights, RightsError};
use crate::config::properties::{Properties, SyntaxError};
use crate::config::{FILE_BYTES_MAX, Stamp, read_limited};

/// Why a line of a token file is refused. Says nothing of what the line has: someone may have put a token there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLine {
    /// The line cannot be read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// What stands in front of `=` is no hash.
    #[error(
        "in front of = must be the SHA-256 of the token, 64 hexadecimal digits (printf %s \"$TOKEN\" | sha256sum)"
    )]
    Hash,
    /// The name is missing or unfit.
    #[error(
        "behind = must be NAME;RIGHTS, with a name of 1 to 100 bytes without slashes and white space, such as billing;produce:order.*;consume:*"
    )]
    Name,
    /// The rights cannot be read.
    #[error("rights: {0}")]
    Rights(#[from] RightsError),
    /// Another line has the same token.
    #[error("the same token as on line {earlier}; keep one of the two")]
    Repeated {
        /// The other line.
        earlier: usize,
    },
}

/// Why a token file is refused; the tokens stay as they were.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The system refused, or there is no such file.
    #[error("{}: cannot be read: {reason}; create it or set tokens.file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// Lines that are wrong, all of them.
    #[error("{}", Lines(path, lines))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Number of each bad line, and what is wrong with it.
        lines: Vec<(usize, BadLine)>,
    },
}

struct Lines<'a>(&'a Path, &'a [(usize, BadLine)]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, reason)) in self.1.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {reason}", self.0.display())?;
        }
        Ok(())
    }
}

/// The hash of a token, as a token file has it in front of `=`.
#[must_use]
pub fn token_hash(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Table {
    /// Hash of a token to the name of its holder.
    holders: HashMap<[u8; 32], String>,
    /// Name of a holder to the rights of all its tokens.
    rights: HashMap<String, Vec<Rights>>,
}

/// The tokens of a file, re-read when it changes. [`Self::poll`] looks.
pub struct Tokens {
    path: Option<PathBuf>,
    table: RwLock<Arc<Table>>,
    stamp: Mutex<Option<Stamp>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("path", &self.path)
            .field("tokens", &self.table.read().holders.len())
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// No tokens, and no file.
    #[must_use]
    pub fn none() -> Self {
        Self {
            path: None,
            table: RwLock::default(),
            stamp: Mutex::default(),
        }
    }

    /// Reads the file. One that is not there has no tokens unless it is `required`; it is read when it appears.
    ///
    /// # Errors
    /// All bad lines, or what the system says.
    pub fn open(path: impl Into<PathBuf>, required: bool) -> Result<Self, TokensError> {
        let tokens = Self {
            path: Some(path.into()),
            ..Self::none()
        };
        if required && let Some(path) = &tokens.path {
            tokens.read(path)?;
        }
        tokens.poll()?;
        Ok(tokens)
    }

    /// Looks at the file, and reads it if it is another one than last time. Whether it was.
    ///
    /// # Errors
    /// All that is wrong with the new file, once; the old tokens stay until it changes again. That it has vanished is an error too if
    /// it is required or was there before: to take every token away, empty the file.
    pub fn poll(&self) -> Result<bool, TokensError> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        let mut seen = self.stamp.lock();
        let stamp = Stamp::of(path).ok().flatten();
        if stamp == *seen {
            return Ok(false);
        }
        *seen = stamp;
        self.read(path)?;
        Ok(true)
    }

    /// The name of who holds the token, if anyone does.
    #[must_use]
    pub fn holder(&self, token: &str) -> Option<String> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.table.read().holders.get(&hash).cloned()
    }

    /// Whether the holder of that name may do so now: a holder whose tokens were taken from the file may do nothing. Several
    /// tokens of one name add up.
    #[must_use]
    pub fn allows(&self, holder: &str, right: Right, subject: &str) -> bool {
        let table = Arc::clone(&self.table.read());
        let rights = table.rights.get(holder);
        rights.is_some_and(|all| all.iter().any(|rights| rights.allows(right, subject)))
    }

    fn read(&self, path: &Path) -> Result<(), TokensError> {
        let bytes =
            read_limited(path, FILE_BYTES_MAX).map_err(|error| TokensError::Unreadable {
                path: path.to_owned(),
                reason: Arc::new(error),
            })?;
        let table = Table::parse(&bytes).map_err(|lines| TokensError::Lines {
            path: path.to_owned(),
            lines,
        })?;
        *self.table.write() = Arc::new(table);
        Ok(())
    }
}

impl Table {
    fn parse(bytes: &[u8]) -> Result<Self, Vec<(usize, BadLine)>> {
        let properties = Properties::parse(bytes);
        let errors = properties.errors.into_iter();
        let mut bad: Vec<_> = errors.map(|(line, error)| (line, error.into())).collect();
        let mut table = Self::default();
        let mut lines: HashMap<[u8; 32], usize> = HashMap::new();
        for entry in properties.entries {
            match table_row(&entry.key, &entry.value) {
                Ok((hash, name, rights)) => {
                    if let Some(&earlier) = lines.get(&hash) {
                        bad.push((entry.line, BadLine::Repeated { earlier }));
                        continue;
                    }
                    lines.insert(hash, entry.line);
                    table.rights.entry(name.clone()).or_default().push(rights);
                    table.holders.insert(hash, name);
                }
                Err(reason) => bad.push((entry.line, reason)),
            }
        }
        bad.sort_by_key(|(line, _)| *line);
        if bad.is_empty() { Ok(table) } else { Err(bad) }
    }
}

fn table_row(key: &str, value: &str) -> Result<([u8; 32], String, Rights), BadLine> {
    let hash = hash_of_hex(key).ok_or(BadLine::Hash)?;
    let (name, rights) = value.split_once(';').unwrap_or((value, ""));
    let name = name.trim();
    // A colon in the name: the line begins with a right, and its name was forgotten.
    if qmq_message::check_group(name).is_err() || name.contains(':') {
        return Err(BadLine::Name);
    }
    Ok((hash, name.to_owned(), rights.parse()?))
}

fn hash_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TOKEN: &str = "hunter2-hunter2-hunter2";

    fn line(token: &str, rest: &str) -> String {
        format!("{}={rest}\n", token_hash(token))
    }

    fn open(text: &str) -> (tempfile::TempDir, PathBuf, Result<Tokens, TokensError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client-tokens.properties");
        fs::write(&path, text).unwrap();
        let tokens = Tokens::open(&path, true);
        (folder, path, tokens)
    }

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        let expected = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(token_hash("test"), expected);
    }

    #[test]
    fn a_token_is_its_holder_with_the_rights_of_its_line() {
        let text =
            line(TOKEN, "billing; produce:order.*;consume:*") + "# comment\n" + &line("b", "idle");
        let (_folder, _, tokens) = open(&text.replace("9f", "9F"));
        let tokens = tokens.unwrap();
        assert_eq!(tokens.holder(TOKEN).as_deref(), Some("billing"));
        assert!(tokens.allows("billing", Right::Produce, "order.paid"));
        assert!(!tokens.allows("billing", Right::Administer, "order.paid"));
        assert_eq!(tokens.holder("b").as_deref(), Some("idle"));
        assert!(!tokens.allows("idle", Right::Produce, "order.paid"));
        for other in ["", "c", &token_hash(TOKEN)] {
            assert_eq!(tokens.holder(other), None, "{other}");
        }
        assert!(!tokens.allows("nobody", Right::Consume, "order.paid"));
    }

    #[test]
    fn all_bad_lines_are_refused_with_their_numbers_and_none_of_their_text() {
        let good = line("good", "good;consume:*");
        let text = format!(
            "{good}{TOKEN}=billing;produce:*\n{}{}{}{}{}bad=\\u12\n",
            line("1", ""),
            line("2", "consume:*"),
            line("3", &format!("x;{TOKEN}:*")),
            line("4", &format!("x;consume:{TOKEN} y")),
            good,
        );
        let (_folder, _, tokens) = open(&text);
        let error = tokens.unwrap_err();
        let TokensError::Lines { lines, .. } = &error else {
            panic!("{error}");
        };
        let expected = [
            (2, BadLine::Hash),
            (3, BadLine::Name),
            (4, BadLine::Name),
            (5, BadLine::Rights(RightsError::Word { part: 1 })),
            (6, BadLine::Rights(RightsError::Pattern { part: 1 })),
            (7, BadLine::Repeated { earlier: 1 }),
            (8, BadLine::Syntax(SyntaxError::Escape)),
        ];
        assert_eq!(lines[..], expected);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(TOKEN), "{shown}");
        assert!(
            shown.contains("client-tokens.properties:5: rights"),
            "{shown}"
        );
    }

    #[test]
    fn tokens_are_never_shown() {
        let (_folder, _, tokens) = open(&line(TOKEN, "billing;consume:*"));
        let shown = format!("{:?}", tokens.unwrap());
        assert!(
            !shown.contains(TOKEN) && !shown.contains(&token_hash(TOKEN)),
            "{shown}"
        );
    }

    #[test]
    fn a_changed_file_takes_effect_for_those_already_here() {
        let (_folder, path, tokens) = open(&line(TOKEN, "billing;consume:*"));
        let tokens = tokens.unwrap();
        assert!(!tokens.poll().unwrap());
        fs::write(&path, line(TOKEN, "billing;produce:order")).unwrap();
        assert!(tokens.poll().unwrap());
        assert!(!tokens.allows("billing", Right::Consume, "order"));
        assert!(tokens.allows("billing", Right::Produce, "order"));
        fs::write(&path, "").unwrap();
        assert!(tokens.poll().unwrap());
        assert_eq!(tokens.holder(TOKEN), None);
        assert!(!tokens.allows("billing", Right::Produce, "order"));
    }

    #[test]
    fn a_bad_file_is_reported_once_and_the_old_tokens_stay() {
        let (_folder, path, tokens) = open(&line(TOKEN, "billing;consume:*"));
        let tokens = tokens.unwrap();
        fs::write(&path, "nonsense\n").unwrap();
        assert!(tokens.poll().is_err());
        assert!(!tokens.poll().unwrap());
        assert!(tokens.allows("billing", Right::Consume, "order"));
        fs::remove_file(&path).unwrap();
        assert!(tokens.poll().is_err());
        assert!(tokens.allows("billing", Right::Consume, "order"));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_only_if_it_is_required() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client-tokens.properties");
        assert!(Tokens::open(&path, true).is_err());
        let tokens = Tokens::open(&path, false).unwrap();
        assert!(!tokens.poll().unwrap());
        fs::write(&path, line(TOKEN, "billing;consume:*")).unwrap();
        assert!(tokens.poll().unwrap());
        assert!(tokens.allows("billing", Right::Consume, "order"));
    }

    #[test]
    fn several_tokens_of_a_name_add_up() {
        let text = line("old", "billing;consume:a") + &line("new", "billing;consume:b");
        let (_folder, _, tokens) = open(&text);
        let tokens = tokens.unwrap();
        assert!(tokens.allows("billing", Right::Consume, "a"));
        assert!(tokens.allows("billing", Right::Consume, "b"));
    }
}
