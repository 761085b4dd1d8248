//! The keys of a server, as a file that changes nothing: each stands there with its default, commented out.

use qmq_server::config::{Fallback, Key, Status};

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Prints them.
pub(super) fn print(keys: &[Key]) -> Result<(), Failure> {
    let mut out = Output::new();
    for key in keys {
        for line in lines(key) {
            out.line(line)?;
        }
    }
    out.flush()
}

fn lines(key: &Key) -> Vec<String> {
    let Key { name, meaning, .. } = key;
    let mut lines = vec![
        format!("# {meaning}"),
        format!("# allowed: {}", key.kind.allowed()),
    ];
    match key.status {
        Status::Works => {}
        Status::Dynamic => lines.push("# a change takes effect without a restart".to_owned()),
        Status::NoEffect(why) => lines.push(format!("# accepted without effect: {why}")),
    }
    if let Some(how) = key.differs {
        lines.push(format!("# differs: {how}"));
    }
    match key.default {
        Fallback::Text(default) => lines.push(format!("#{name}={default}")),
        Fallback::Computed(how) => {
            lines.push(format!("# default: {how}"));
            lines.push(format!("#{name}="));
        }
        Fallback::Required => {
            lines.push("# must be set".to_owned());
            lines.push(format!("#{name}="));
        }
    }
    lines.push(String::new());
    lines
}
