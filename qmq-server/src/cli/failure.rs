//! The one way in which a command fails.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command stops with an exit code other than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be: exit code 2.
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        next: String,
    },
    /// The work was tried and failed: exit code 1.
    Failed {
        /// What happened.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// Everything there is to say has been printed: exit code 1.
    Reported,
    /// The reader of our output went away or cannot take it: exit code 1, silently if it only went away.
    Output(io::Error),
}

impl Failure {
    /// A failure with what happened and what to do next.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            next: next.into(),
        }
    }

    /// A command line that parses and still cannot be meant.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            next: next.into(),
        }
    }

    /// A failure of `doing`, with everything that `error` knows about it. Errors of the store often say
    /// themselves, after a semicolon, what to do; then that stands instead of `next`.
    pub(crate) fn of(
        doing: impl Display,
        error: &(dyn Error + 'static),
        next: impl Into<String>,
    ) -> Self {
        let what = format!("{doing}: {}", chain(error));
        match what.split_once("; ") {
            Some((what, next)) => Self::new(what, next),
            None => Self::new(what, next),
        }
    }

    /// Prints the failure for a person and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Usage { what, next } => (2, format!("{what}; {next}")),
            Self::Failed { what, next } => (1, format!("{what}; {next}")),
            Self::Reported => return ExitCode::from(1),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::from(1);
            }
            Self::Output(error) => (
                1,
                format!("cannot write to standard output: {error}; check where it goes"),
            ),
        };
        complain(&text);
        ExitCode::from(code)
    }
}

/// Prints `error: text` to standard error; if that is gone too there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "error: {text}");
}

/// An error with its causes in one line, leaving out a cause whose text the error already holds.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error, &'static str);

    impl Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.1)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_are_told_once() {
        let told = Outer(io::Error::other("disk gone"), "append failed");
        assert_eq!(chain(&told), "append failed: disk gone");
        let already = Outer(io::Error::other("disk gone"), "append failed: disk gone");
        assert_eq!(chain(&already), "append failed: disk gone");
    }
}
