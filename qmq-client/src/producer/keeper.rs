//! Keeps a request stream to a broker open, and tells the dispatcher what comes of it.

use std::sync::Arc;
use std::time::Duration;

use qmq_wire::{Frame, Hello, Limits, Purpose, Role, features};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::client::Shared;
use crate::connection::pipe::{self, PipeWriter};
use crate::connection::{Broker, backoff};
use crate::random;

/// What happened to a seat's stream, or to a route.
#[derive(Debug)]
pub(crate) enum Event {
    /// The stream of that seat is open.
    Up {
        seat: u64,
        writer: PipeWriter,
        limits: Limits,
        takes: Takes,
    },
    /// A frame came.
    Frame(u64, Frame),
    /// It is lost, for that reason.
    Down(u64, String),
    /// A subject's route may be another one.
    Route(Purpose, Arc<str>),
    /// Nothing more is told of a route: nobody wants to know, or the client is closed.
    RouteEnded,
    /// The client is closed: no stream will be opened any more.
    Gone,
}

/// Which messages a node takes, by its HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takes {
    pub(crate) at_once: bool,
    pub(crate) delayed: bool,
}

impl Takes {
    fn of(hello: &Hello) -> Self {
        Self {
            at_once: hello.features & features::PRODUCE != 0 && hello.role != Role::Delay,
            delayed: hello.features & features::SCHEDULE != 0,
        }
    }

    pub(crate) fn such(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Delay => self.delayed,
            _ => self.at_once,
        }
    }
}

/// Begins to keep a stream open.
pub(crate) fn start(
    seat: u64,
    shared: &Arc<Shared>,
    broker: &Arc<Broker>,
    restart: &Arc<Notify>,
    events: &mpsc::UnboundedSender<Event>,
) -> AbortHandle {
    let keeper = keep(
        seat,
        Arc::clone(shared),
        Arc::clone(broker),
        Arc::clone(restart),
        events.clone(),
    );
    tokio::spawn(keeper).abort_handle()
}

/// Runs until nobody listens. `restart` makes it open another stream.
async fn keep(
    seat: u64,
    shared: Arc<Shared>,
    broker: Arc<Broker>,
    restart: Arc<Notify>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut failures = 0;
    loop {
        let link = tokio::select! {
            link = broker.link(false) => link,
            () = events.closed() => return,
        };
        let Ok(link) = link else {
            let _ = events.send(Event::Gone);
            return;
        };
        let config = &shared.config;
        let opened = pipe::open(
            &link,
            features::PRODUCE | features::SCHEDULE,
            config.request_timeout,
            config.frame_bytes_max,
        )
        .await;
        let reason = match opened {
            Err(lost) => lost.to_string(),
            Ok((writer, mut reader)) => {
                let up = Event::Up {
                    seat,
                    writer,
                    limits: link.hello().limits,
                    takes: Takes::of(link.hello()),
                };
                if events.send(up).is_err() {
                    return;
                }
                loop {
                    tokio::select! {
                        frame = reader.next() => match frame {
                            Ok(frame) => {
                                failures = 0;
                                if events.send(Event::Frame(seat, frame)).is_err() {
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
        if events.send(Event::Down(seat, reason)).is_err() {
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
