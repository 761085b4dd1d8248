//! Steps of a work that a meta server does, one a request.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Pace;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, count, note, table};
use crate::cli::tools::{Metaserver, post};

/// A step may look at brokers for 10 s.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Rows of a plan that a person gets.
const ROWS_MAX: usize = 40;

#[derive(Deserialize)]
struct Answer<T> {
    status: i32,
    #[serde(default)]
    message: String,
    data: Option<T>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Move {
    subject: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Plan {
    moves: Vec<Move>,
    draining: Vec<Move>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
struct Problem {
    subject: String,
    reason: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    begun: usize,
    ended: usize,
    to_begin: usize,
    waiting: usize,
    done: bool,
    problems: Vec<Problem>,
}

/// What is to be done, and where.
pub(super) struct Work<'a> {
    pace: &'a Pace,
    metaserver: Metaserver,
    token: String,
    action: &'static str,
    group: Option<&'a str>,
    out: Output,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        pace: &'a Pace,
        action: &'static str,
        group: Option<&'a str>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            pace,
            metaserver: pace.target.metaserver()?,
            token: pace.target.required_token()?,
            action,
            group,
            out: Output::new(),
        })
    }

    /// Shows what would be done.
    pub(super) fn plan(&mut self) -> Result<(), Failure> {
        let plan: Plan = self.ask(self.action, &[("dryRun", "true")])?;
        if self.pace.json {
            self.out.json(&plan)?;
            return self.out.flush();
        }
        let mut rows = table(&["subject", "leaves", "gains", ""], &[]);
        let begun = plan.draining.iter().map(|one| (one, "begun"));
        let all: Vec<_> = plan
            .moves
            .iter()
            .map(|one| (one, ""))
            .chain(begun)
            .collect();
        let shown = |group: &Option<String>| group.clone().unwrap_or_else(|| "-".to_owned());
        for (one, state) in all.iter().take(ROWS_MAX) {
            rows.add_row([&one.subject, &shown(&one.from), &shown(&one.to), *state]);
        }
        if all.is_empty() {
            self.out.line("nothing is to be moved")?;
        } else {
            self.out.line(rows.to_string())?;
        }
        if all.len() > ROWS_MAX {
            let total = count(all.len() as u64);
            self.out
                .line(format!("\n{ROWS_MAX} of {total} moves; --json shows all"))?;
        }
        self.out.flush()
    }

    /// Goes on until all is done, or the time is over.
    pub(super) fn steps(&mut self) -> Result<(), Failure> {
        let end = self.pace.timeout.map(|limit| Instant::now() + limit);
        let max = self.pace.max.to_string();
        let mut told = String::new();
        let mut complained = Vec::new();
        loop {
            let progress: Progress = self.ask(self.action, &[("max", &max)])?;
            if self.pace.json {
                self.out.json(&progress)?;
                self.out.flush()?;
            } else {
                let line = shown(&progress);
                if line != told {
                    note(&line);
                    told = line;
                }
                if progress.problems != complained {
                    for problem in progress.problems.iter().take(ROWS_MAX) {
                        note(&format!("{}: {}", problem.subject, problem.reason));
                    }
                    complained = progress.problems;
                }
            }
            if progress.done {
                return Ok(());
            }
            let next = Instant::now() + self.pace.every;
            if end.is_some_and(|end| next > end) {
                return Err(Failure::new(
                    format!(
                        "not done in time: {} moves are to begin and {} wait until consumers have taken everything",
                        progress.to_begin, progress.waiting
                    ),
                    "type it again and it goes on; `qmq status` of the brokers shows whose lag it is",
                ));
            }
            std::thread::sleep(self.pace.every);
        }
    }

    /// Does an action that has no steps.
    pub(super) fn once(&self, action: &'static str) -> Result<(), Failure> {
        let _: String = self.ask(action, &[])?;
        Ok(())
    }

    /// Tells a person how it ended.
    pub(super) fn said(&mut self, text: &str) -> Result<(), Failure> {
        if !self.pace.json {
            self.out.line(text)?;
        }
        self.out.flush()
    }

    fn ask<T: DeserializeOwned>(
        &self,
        action: &'static str,
        more: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let mut form = vec![("action", action)];
        form.extend(self.group.map(|group| ("brokerGroup", group)));
        form.extend(more);
        let text = post(&self.metaserver, &self.token, &form, STEP_TIMEOUT)?;
        let answer: Result<Answer<T>, _> = serde_json::from_str(&text);
        match answer {
            Ok(Answer {
                status: 0,
                data: Some(data),
                ..
            }) => Ok(data),
            Ok(answer) => match answer.message.split_once("; ") {
                Some((what, next)) => Err(Failure::new(what, next)),
                None => Err(Failure::new(
                    answer.message,
                    "a token is given with --token-file=FILE; it is one of the meta server's valid-api-tokens.properties",
                )),
            },
            Err(_) => {
                let start: String = text.chars().take(200).collect();
                Err(Failure::new(
                    format!("{} answers {start:?}", self.metaserver),
                    "only qmq's meta servers know this; see its version",
                ))
            }
        }
    }
}

/// One step for a person.
fn shown(progress: &Progress) -> String {
    let number = |value: usize| count(value as u64);
    format!(
        "begun {}, ended {}; to begin {}, waiting until consumers are done {}",
        number(progress.begun),
        number(progress.ended),
        number(progress.to_begin),
        number(progress.waiting)
    )
}
