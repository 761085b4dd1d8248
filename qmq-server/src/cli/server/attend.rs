//! A server's life in its process: it works, is asked to end, and is gone in time whatever hangs.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::runtime;
use super::signals::Signals;
use crate::cli::duration::duration;
use crate::cli::failure::Failure;
use crate::cli::output::note;

/// How it ends.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct EndArgs {
    /// Longest orderly end: 500ms, 10s, 5m. What is not done by then is recovered at the next start
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    end_max: Duration,
}

/// Signals that come so soon after each other are one.
const TOGETHER: Duration = Duration::from_millis(300);

/// Resolves when the server is to end in order.
pub(super) type Asked = oneshot::Receiver<()>;

/// Who asks the server to end: the first time in order, the second time at once.
pub(super) trait Asks {
    /// Waits until it is asked.
    async fn next(&mut self);
}

/// Runs `server` to its end. A signal asks it to end in order, as does the end of standard input if `until_eof`; a second one, or the end of its time, ends it at once:
/// then it is left as it is, and the process is expected to end.
pub(super) fn attend<F>(
    end: EndArgs,
    until_eof: bool,
    server: impl FnOnce(Asked) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    // Apart from the server's, whose threads may all hang.
    let outside = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("starting", &error, "check `ulimit -n`"))?;
    outside.block_on(async {
        let asks = Signals::listen(until_eof)?;
        until_ended(runtime()?, server, asks, end.end_max).await
    })
}

async fn until_ended<F>(
    runtime: Runtime,
    server: impl FnOnce(Asked) -> F,
    mut asks: impl Asks,
    limit: Duration,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (ask, asked) = oneshot::channel();
    let mut server = runtime.spawn(server(asked));
    let ended = tokio::select! {
        ended = &mut server => outcome(ended),
        () = asks.next() => {
            note("ending: no more messages are taken; a second signal stops at once");
            let _ = ask.send(());
            let again = async {
                let first = Instant::now();
                // Some who end a process signal it and then its group.
                loop {
                    asks.next().await;
                    if first.elapsed() >= TOGETHER {
                        break;
                    }
                }
            };
            tokio::select! {
                ended = tokio::time::timeout(limit, &mut server) => ended.map_or_else(
                    |_| Err(cut_short(format!("the end took longer than {} s and was cut short", limit.as_secs_f64()))),
                    outcome,
                ),
                () = again => Err(cut_short("stopped at once by a second signal".to_owned())),
            }
        }
    };
    // Waits for none of its threads.
    runtime.shutdown_background();
    ended
}

fn cut_short(what: String) -> Failure {
    Failure::new(what, "the next start recovers what is missing")
}

fn outcome(ended: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Failure::of("the server", &error, "start it again")),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// What a test may take on a busy machine, and far less than what hangs in it.
    const SOON: Duration = Duration::from_secs(20);
    const HANGS: Duration = Duration::from_secs(120);
    const PLENTY: Duration = Duration::from_secs(60);

    struct Queue(tokio::sync::mpsc::UnboundedReceiver<()>);

    impl Asks for Queue {
        async fn next(&mut self) {
            if self.0.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How the process of a server ends that is asked so often, or that it does not end soon.
    fn ended<F>(times: usize, limit: Duration, server: fn(Asked) -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (ask, asks) = tokio::sync::mpsc::unbounded_channel();
        let asking = ask.clone();
        thread::spawn(move || {
            for _ in 0..times {
                // Each signal comes twice, as from `timeout`.
                let _ = (asking.send(()), asking.send(()));
                thread::sleep(TOGETHER * 2);
            }
        });
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let outside = Builder::new_current_thread().enable_all().build().unwrap();
            let inside = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let ended = outside.block_on(until_ended(inside, server, Queue(asks), limit));
            drop(ask);
            tell.send(ended.map_err(|failure| format!("{failure:?}")))
        });
        told.recv_timeout(SOON).expect("it does not end")
    }

    async fn whose_store_does_not_close(asked: Asked) -> Result<(), Failure> {
        let _ = asked.await;
        let _ = tokio::task::spawn_blocking(|| thread::sleep(HANGS)).await;
        Ok(())
    }

    /// As when what it drops at its end waits for a room that hangs.
    async fn whose_last_thread_hangs(asked: Asked) -> Result<(), Failure> {
        let _ = asked.await;
        thread::sleep(HANGS);
        Ok(())
    }

    async fn that_ends_in_order(asked: Asked) -> Result<(), Failure> {
        let _ = asked.await;
        Ok(())
    }

    #[test]
    fn a_second_signal_ends_at_once_what_hangs() {
        let stopped = ended(2, PLENTY, whose_store_does_not_close).unwrap_err();
        assert!(stopped.contains("second signal"), "{stopped}");
        let stopped = ended(2, PLENTY, whose_last_thread_hangs).unwrap_err();
        assert!(stopped.contains("second signal"), "{stopped}");
    }

    #[test]
    fn an_end_that_hangs_is_cut_short() {
        let limit = Duration::from_millis(200);
        let cut = ended(1, limit, whose_store_does_not_close).unwrap_err();
        assert!(cut.contains("cut short"), "{cut}");
        let cut = ended(1, limit, whose_last_thread_hangs).unwrap_err();
        assert!(cut.contains("cut short"), "{cut}");
    }

    #[test]
    fn who_ends_in_order_has_done_its_work() {
        ended(1, PLENTY, that_ends_in_order).unwrap();
    }
}
