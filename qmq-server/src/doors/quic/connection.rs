//! A connection: who it is, and its streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{ALPN, CloseCode, Hello, Kind, LEAST_FRAME_BYTES_MAX};
use quinn::{Connection, Incoming, SendStream};
use rustls_pki_types::CertificateDer;

use super::budget::Share;
use super::frames::{Frames, NoFrame};
use super::handshakes::Handshake;
use super::outbox::Outbox;
use super::requests;
use super::{Shared, transport};
use crate::access::Principal;
use crate::rooms::Caller;
use crate::tls::Identity;

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Frame(#[from] NoFrame),
    #[error("TLS and HELLO took longer than handshake.timeout.ms")]
    TooSlow,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What the streams of a connection share.
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) caller: Caller,
    pub(super) shared: Arc<Shared>,
    /// Its part of the memory for requests.
    pub(super) share: Share,
    /// Longest payload of a frame that it takes.
    pub(super) frame_bytes_max: u32,
}

pub(super) async fn serve(
    incoming: Incoming,
    handshake: Handshake,
    shared: &Arc<Shared>,
) -> Result<(), Ended> {
    let until = tokio::time::Instant::now() + shared.options.handshake;
    let (receive, send) = (shared.receive_windows.take(), shared.send_windows.take());
    let mut config = shared.server.clone();
    let transport = transport(&shared.options, (receive.bytes(), send.bytes()))?;
    config.transport_config(Arc::new(transport));
    let connecting = incoming.accept_with(Arc::new(config))?;
    let connection = tokio::time::timeout_at(until, connecting);
    let connection = connection.await.map_err(|_| Ended::TooSlow)??;
    let Ok(begun) = tokio::time::timeout_at(until, begin(&connection, shared)).await else {
        let why = b"HELLO did not come within handshake.timeout.ms";
        connection.close((CloseCode::NoHello as u32).into(), why);
        return Err(Ended::TooSlow);
    };
    let Some((peer, control)) = begun? else {
        return Ok(());
    };
    drop(handshake);
    let peer = Arc::new(peer);
    tracing::debug!(from = %peer.connection.remote_address(), principal = %peer.caller.principal(), "connected");
    let (frames, send) = control;
    tokio::spawn(requests::serve(Arc::clone(&peer), frames, send));
    loop {
        let (send, receive) = peer.connection.accept_bi().await?;
        let frames = Frames::new(receive, shared.options.frame_bytes_max);
        tokio::spawn(requests::serve(Arc::clone(&peer), frames, send));
    }
}

type Control = (Frames, SendStream);

/// One that is not served.
pub(super) async fn turn_away(incoming: Incoming, code: CloseCode, limit: Duration) {
    if let Ok(Ok(connection)) = tokio::time::timeout(limit, incoming).await {
        let why: &[u8] = match code {
            CloseCode::ShuttingDown => b"the broker is shutting down",
            _ => b"connection.max connections are open; try again later",
        };
        connection.close((code as u32).into(), why);
        // Its close is sent while it is there.
        let _ = tokio::time::timeout(limit, connection.closed()).await;
    }
}

/// HELLO in both directions. `None`: the other end was told why not.
async fn begin(
    connection: &Connection,
    shared: &Arc<Shared>,
) -> Result<Option<(Peer, Control)>, Ended> {
    let certificate = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.first().and_then(Identity::of))
        .map(Principal::from);
    let close = |code: CloseCode, why: &str| {
        connection.close((code as u32).into(), why.as_bytes());
        Err(Ended::Refused(why.to_owned()))
    };
    let (mut send, receive) = connection.accept_bi().await?;
    let mut frames = Frames::new(receive, LEAST_FRAME_BYTES_MAX);
    let theirs = match frames.next().await {
        Ok(Some(frame)) if frame.kind == Kind::Hello as u8 => {
            match Hello::decode(&mut frame.reader()) {
                Ok(hello) => hello,
                Err(error) => return close(CloseCode::Malformed, &error.to_string()),
            }
        }
        Ok(Some(_)) => return close(CloseCode::Malformed, "the first frame must be HELLO"),
        Ok(None) | Err(NoFrame::Lost(_)) => {
            return close(CloseCode::NoHello, "the control stream ended before HELLO");
        }
        Err(error) => return close(CloseCode::Malformed, &error.to_string()),
    };
    let ours = shared.hello_now();
    let Some(version) = ours.common_version(&theirs) else {
        let why = format!(
            "this node speaks versions {} to {} of {}, and you {} to {}",
            ours.version_min,
            ours.version_max,
            String::from_utf8_lossy(ALPN),
            theirs.version_min,
            theirs.version_max
        );
        return close(CloseCode::NoCommonVersion, &why);
    };
    for (expected, is, what) in [
        (&theirs.expected_node, &ours.node, "node"),
        (&theirs.expected_group, &ours.group, "broker group"),
    ] {
        if !expected.is_empty() && expected != is {
            let why = format!("this is {what} {is:?}, and you expected {expected:?}");
            return close(CloseCode::WrongNode, &why);
        }
    }
    let token = Some(theirs.token.0.as_str()).filter(|token| !token.is_empty());
    let principal = match shared.access.identify(token, certificate) {
        Ok(principal) => principal,
        Err(refused) => return close(CloseCode::Unauthorized, &refused.to_string()),
    };
    let answer = Hello {
        version_min: version,
        version_max: version,
        ..ours
    };
    let mut out = bytes::BytesMut::new();
    answer.encode(&mut out);
    if send.write_all(&out).await.is_err() {
        return Ok(None);
    }
    let peer = Peer {
        caller: Caller::new(Arc::clone(&shared.access), principal),
        shared: Arc::clone(shared),
        share: shared.produce_budget.share(),
        frame_bytes_max: match theirs.limits.frame_bytes_max {
            0 => u32::MAX,
            said => said.max(LEAST_FRAME_BYTES_MAX),
        },
        connection: connection.clone(),
    };
    Ok(Some((peer, (frames, send))))
}

impl Peer {
    /// Whoever sends what is no frame is not understood any more.
    pub(super) fn malformed(&self, error: &NoFrame) {
        if let NoFrame::Malformed(error) = error {
            let from = self.connection.remote_address();
            if let Some(closed) = self.shared.malformed.lock().say(Instant::now()) {
                tracing::warn!(%from, principal = %self.caller.principal(), %error, closed, "connections are closed: they do not follow the protocol");
            }
            self.connection.close(
                (CloseCode::Malformed as u32).into(),
                error.to_string().as_bytes(),
            );
        }
    }

    pub(super) fn stall(&self) -> Duration {
        self.shared.options.stall
    }
}

/// An outbox with a task that empties it. `room` is called when somebody waits for room and there is some.
pub(super) fn outbox(
    peer: &Arc<Peer>,
    send: SendStream,
    room: impl FnMut() + Send + 'static,
) -> Arc<Outbox> {
    let outbox = Arc::new(Outbox::new(
        Arc::clone(&peer.shared.outgoing),
        peer.frame_bytes_max,
    ));
    let (emptied, peer) = (Arc::clone(&outbox), Arc::clone(peer));
    let open = peer.shared.closing.stream();
    tokio::spawn(async move {
        let consumers = peer.shared.consumers.as_ref();
        let low = || consumers.map_or(0, |consumers| consumers.delivering().outlet_low());
        emptied
            .carry(send, &peer.connection, peer.stall(), low, room)
            .await;
        drop(open);
    });
    outbox
}
