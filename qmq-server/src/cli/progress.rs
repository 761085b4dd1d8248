//! Progress on long work, shown only to a person at a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const COUNTED: &str = "{msg:<28} {bar:30} {human_pos}/{human_len} {per_sec} {eta}";
const BYTES: &str =
    "{msg:<28} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

const RUNNING: &str = "{human_pos} {msg}, {per_sec}";

/// A bar that counts things.
pub(crate) fn counted(what: &'static str, total: u64) -> ProgressBar {
    bar(what, total, COUNTED)
}

/// A bar that counts bytes.
pub(crate) fn of_bytes(what: &'static str) -> ProgressBar {
    bar(what, 0, BYTES)
}

/// A count of things that may never end.
pub(crate) fn running(what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(RUNNING) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// What the store calls with bytes done and bytes in all.
pub(crate) fn told(bar: &ProgressBar) -> impl FnMut(u64, u64) {
    |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn bar(what: &'static str, total: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}
