//! `docs/configuration.md`, made from the tables.

use std::fmt::Write as _;

use super::file_kind::FileKind;
use super::key::{Fallback, Key, Status};

/// Every configuration file with all its keys, as Markdown: what `qmq config docs` prints.
#[must_use]
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    for kind in FileKind::ALL {
        let file = format!("{}.properties", kind.name());
        let _ = write!(text, "\n## {file}\n\n{}\n", kind.about());
        if !kind.keys().is_empty() {
            text.push_str(
                "\n| key | default | allowed | status | meaning |\n|---|---|---|---|---|\n",
            );
        }
        for key in kind.keys() {
            text.push_str(&row(key));
        }
    }
    text.push_str(DIFFERENCES);
    for kind in FileKind::ALL {
        // Its keys are those of the file before it.
        let keys = kind.keys().iter().filter(|_| kind != FileKind::DeadBackup);
        for key in keys {
            if let Some(how) = key.differs {
                let _ = writeln!(
                    text,
                    "| `{}.properties` | `{}` | {} |",
                    kind.name(),
                    key.name,
                    cell(how)
                );
            }
        }
    }
    text
}

fn row(key: &Key) -> String {
    let default = match key.default {
        Fallback::Text("") => "none".to_owned(),
        Fallback::Text(text) => format!("`{}`", cell(text)),
        Fallback::Computed(how) => cell(how),
        Fallback::Required => "must be set".to_owned(),
    };
    let status = match key.status {
        Status::Works => "works".to_owned(),
        Status::Dynamic => "works, dynamic".to_owned(),
        Status::NoEffect(why) => format!("accepted without effect: {}", cell(why)),
    };
    format!(
        "| `{}` | {default} | {} | {status} | {} |\n",
        key.name,
        cell(&key.kind.allowed()),
        cell(key.meaning)
    )
}

/// Text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

const INTRODUCTION: &str = "\
# Configuration

This page is made by `qmq config docs` from the tables that the servers read; a test compares the two.

Files are Java's `.properties`, in UTF-8, of at most 1 MiB. QMQ's keys have QMQ's names and meanings. Each key is one of:

- **works**: read at start;
- **works, dynamic**: the file is looked at every second, by its modification time; a change counts at once, and the log says the old value and the new one;
- **accepted without effect**: one of QMQ's that has no meaning here; a warning says why;
- unknown: warned about, with the nearest known name, and passed over.

A bad value is refused at start, with file, line, key, value and what is allowed. A change of a key that is not dynamic is told in the log and counts from the next
start. A changed file that is no good is told once; what counted before goes on.

`qmq config check FILE...` says what a server would say to a file, without one; `qmq config show FILE` prints every key with its value and where it came from. Both
know a file by the beginning of its name, or by `--kind`.

## Where values come from

In this order, first one first:

1. `--set KEY=VALUE` on the command line; the last one of a key counts.
2. The environment: the variable of a key is `QMQ_` and its name in capitals, with `_` for `.` and `-`. `broker.port` is `QMQ_BROKER_PORT`,
   `jdbc.password.file` is `QMQ_JDBC_PASSWORD_FILE`, `qmq.host` is `QMQ_QMQ_HOST`. No two keys of any files have the same variable. `QMQ_LOG` and `QMQ_CLIENT` are no keys.
3. The file; of lines with the same key the last one counts, with a warning.
4. The default.

A relative path in a file, and a default path, is relative to the folder of the file; one from `--set` or the environment to the current folder.

## Empty values

A key without a value (`streams.max=`, or `streams.max` alone on its line) has its default, with a warning, also where a place of less precedence sets another value.
A key that must be set and is empty or missing is an error.

## Placeholders

The install guides' files have placeholders such as `http://<metaserver address>/meta/address`. A server does not start while a key that needs another value has one.
`qmq config check` passes such a file as a template: it lists what is to be filled in, and exits with 0. Where a placeholder could be meant (a password,
a path) it is taken, with a warning. A token or subject that begins with `<` is never one.

## Secrets

`jdbc.password`, `cluster.token` and `token` are never shown: not in the log, nor by `check`, `show` or `--json`. Nor are passwords in `jdbc.url`. Instead of the value, `KEY.file` may name a
file that has it (white space around it does not count, at most 1 MiB); relative as any other path. Both at the same place is an error.

A line of `valid-api-tokens.properties` or `client_log_switch.properties` ends its key at the first space, `=` or `:`, as any line does, in QMQ too: write such a character as
`\\ `, `\\=` or `\\:`.
";

const DIFFERENCES: &str = "
## Where QMQ's documents, its code and this program differ

QMQ's code counts, unless this table says otherwise.

| file | key | difference |
|---|---|---|
";
