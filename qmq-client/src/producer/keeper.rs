//! Keeps a request stream to a broker open, and tells the dispatcher what comes of it.

use std::sync::Arc;
use std::time::Duration;

use qmq_wire::{Frame, Limits, features};
use tokio::sync::{Notify, mpsc};

use crate::client::Shared;
use crate::connection::pipe::{self, PipeWriter};
use crate::connection::{Broker, backoff};
use crate::random;

/// What happened to a lane's stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is open.
    Up { writer: PipeWriter, limits: Limits },
    /// A frame came.
    Frame(Frame),
    /// It is lost, for that reason.
    Down(String),
    /// The client is closed: no stream will be opened any more.
    Gone,
}

/// Runs until nobody listens. `restart` makes it open another stream.
pub(crate) async fn keep(
    lane: usize,
    shared: Arc<Shared>,
    broker: Arc<Broker>,
    restart: Arc<Notify>,
    events: mpsc::UnboundedSender<(usize, Event)>,
) {
    let mut failures = 0;
    loop {
        let link = tokio::select! {
            link = broker.link(false) => link,
            () = events.closed() => return,
        };
        let Ok(link) = link else {
            let _ = events.send((lane, Event::Gone));
            return;
        };
        let config = &shared.config;
        let opened = pipe::open(
            &link,
            features::PRODUCE,
            config.request_timeout,
            config.frame_bytes_max,
        )
        .await;
        let reason = match opened {
            Err(lost) => lost.to_string(),
            Ok((writer, mut reader)) => {
                let limits = link.hello().limits;
                if events.send((lane, Event::Up { writer, limits })).is_err() {
                    return;
                }
                loop {
                    tokio::select! {
                        frame = reader.next() => match frame {
                            Ok(frame) => {
                                failures = 0;
                                if events.send((lane, Event::Frame(frame))).is_err() {
                                    return;
                                }
                            }
                            Err(lost) => {
                                if let pipe::Lost::Wire(_) = lost {
                                    crate::connection::malformed(&link);
                                }
                                break lost.to_string();
                            }
                        },
                        () = restart.notified() => {
                            break "the requests are asked again in another stream".to_owned();
                        }
                        () = events.closed() => return,
                    }
                }
            }
        };
        if events.send((lane, Event::Down(reason))).is_err() {
            return;
        }
        drop(link);
        // A connection that has just been lost may still look like one; a broker that ends every stream is not asked without a pause.
        let pause = backoff::pause(
            Duration::from_millis(10),
            Duration::from_secs(1),
            failures,
            random::u64(),
        );
        failures += 1;
        tokio::time::sleep(pause).await;
    }
}
