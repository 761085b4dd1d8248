//! What asks a server to end.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::attend::Asks;
use crate::cli::failure::Failure;

/// SIGTERM, SIGINT and, if that was asked for, the end of standard input.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    input_ended: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// Listens from now on, in the runtime that this is called in.
    pub(super) fn listen(until_eof: bool) -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind).map_err(|error| Failure::of("listening for signals", &error, "try again"))
        };
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            input_ended: until_eof.then(input_ended),
        })
    }
}

impl Asks for Signals {
    async fn next(&mut self) {
        let input_ended = async {
            match &mut self.input_ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        let by_input = tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            () = input_ended => true,
        };
        if by_input {
            self.input_ended = None;
        }
    }
}

/// Told when nobody can write to standard input any more.
fn input_ended() -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    // A thread of its own: nobody waits for it at the end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell.send(());
    });
    told
}
