//! When messages are due, and what time it is.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Time since the beginning of the run, which messages carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// The shortest sleep: what falls due meanwhile is due together.
const SLEEP: Duration = Duration::from_micros(50);

/// A thread that says when messages are due: `rate` a second for `load`, to each of `to` in turn. It waits for nobody.
pub(super) fn start(
    clock: Clock,
    rate: u64,
    load: Duration,
    to: Vec<mpsc::UnboundedSender<Duration>>,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("pace".into())
        .spawn(move || {
            let begin = clock.now();
            let all = (load.as_secs_f64() * rate as f64) as u64;
            let mut sent = 0;
            while sent < all {
                let elapsed = clock.now() - begin;
                let due = ((elapsed.as_secs_f64() * rate as f64) as u64 + 1).min(all);
                while sent < due {
                    let at = begin + Duration::from_secs_f64(sent as f64 / rate as f64);
                    if to[sent as usize % to.len()].send(at).is_err() {
                        return;
                    }
                    sent += 1;
                }
                std::thread::sleep(SLEEP);
            }
        })?;
    Ok(())
}
