//! The task that keeps a connection to one of the meta servers, tells it what the client wants to know, and hears the routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use qmq_wire::{Code, Frame, Kind, Refusal, Retry, Role, Route, Unwatch, features};

use super::Place;
use super::routes::{Interests, MetaStanding, RouteRefusal};
use crate::config::ClientConfig;
use crate::connection::backoff::Backoff;
use crate::connection::link::{Peer, why};
use crate::connection::pipe::{self, Lost, PipeWriter};
use crate::connection::{ConnectionState, Dialer, Link, Pool, malformed};
use crate::error::ConnectError;
use crate::random;

/// How often brokers that nobody uses, and answers that do not come, are looked at.
const TICK: Duration = Duration::from_secs(1);
/// A refused interest is asked again after so long: one that may be answered soon, and one that somebody must do something about.
const AGAIN_SOON: Duration = Duration::from_secs(1);
const AGAIN_LATE: Duration = Duration::from_secs(30);
/// Bytes of frames that are written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Session {
    pub(super) interests: Arc<Interests>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) dialer: Arc<Dialer>,
}

/// What is under way with one meta server.
#[derive(Default)]
struct Asked {
    /// Interests without a first answer.
    open: BTreeSet<u32>,
    /// Since when nothing has come.
    quiet_since: Option<Instant>,
    /// Refused interests, and when they are asked again.
    again: BTreeMap<u32, Instant>,
}

impl Session {
    pub(super) async fn run(self, places: Vec<Place>, pool: Weak<Pool>) {
        let sweeping = tokio::spawn(sweep(pool));
        let (least, most) = self.config.reconnect_pause;
        let mut backoff = Backoff::new(least, most.max(least));
        // What HTTP said last, for when it says nothing any more.
        let mut known: Vec<Option<String>> = vec![None; places.len()];
        let mut turn = (random::u64() % places.len().max(1) as u64) as usize;
        while !sweeping.is_finished() {
            let Some(place) = places.get(turn) else {
                return;
            };
            self.stands(place.text(), ConnectionState::Connecting, None);
            let (address, cause) = match self.connect(place, &mut known[turn]).await {
                Ok((address, link)) => {
                    let cause = self.talk(&address, &Arc::new(link), &mut backoff).await;
                    (address, cause)
                }
                Err(cause) => (place.text().to_owned(), cause),
            };
            let pause = backoff.next(random::u64());
            tracing::warn!(meta = %address, %cause, ?pause, "no meta server is connected");
            self.stands(&address, ConnectionState::Waiting { cause, pause }, None);
            tokio::time::sleep(pause).await;
            turn = (turn + 1) % places.len();
        }
    }

    fn stands(&self, address: &str, state: ConnectionState, link: Option<Arc<Link>>) {
        self.interests.standing.send_modify(|standing| {
            let trouble = match &state {
                ConnectionState::Waiting { cause, .. } => Some(cause.clone()),
                ConnectionState::Connecting => standing.trouble.take(),
                _ => None,
            };
            *standing = MetaStanding {
                address: address.into(),
                state,
                trouble,
                link,
            };
        });
    }

    async fn connect(
        &self,
        place: &Place,
        known: &mut Option<String>,
    ) -> Result<(String, Link), ConnectError> {
        let address = match (place.address().await, &*known) {
            (Ok(address), _) => address,
            (Err(error), Some(known)) => {
                tracing::debug!(%error, address = %known, "the meta server's last address is tried");
                known.clone()
            }
            (Err(error), None) => return Err(error),
        };
        let name = place.host()?;
        let peer = Peer::Meta { name: &name };
        let link = self.dialer.dial(&address, peer).await?;
        if link.hello().role != Role::Meta {
            return Err(ConnectError::Transport {
                reason: format!("node {:?} is no meta server", link.hello().node),
                address,
            });
        }
        *known = Some(address.clone());
        Ok((address, link))
    }

    /// Tells and hears, until the connection is lost or the meta server does not answer.
    async fn talk(&self, address: &str, link: &Arc<Link>, backoff: &mut Backoff) -> ConnectError {
        let hello = link.hello();
        tracing::info!(meta = %address, node = %hello.node, "connected");
        let state = ConnectionState::Connected {
            node: hello.node.clone(),
            group: String::new(),
        };
        self.stands(address, state, Some(Arc::clone(link)));
        let lost = self.exchange(link, backoff).await;
        self.interests.table.lock().connected(false);
        let reason = match (link.connection().close_reason(), lost) {
            (None, Lost::Wire(error)) => {
                malformed(link);
                let address = address.to_owned();
                return ConnectError::Protocol { address, error };
            }
            (Some(reason), _) => return why(address, &reason),
            (None, lost) => lost.to_string(),
        };
        link.connection().close(0_u32.into(), b"");
        ConnectError::Transport {
            address: address.to_owned(),
            reason,
        }
    }

    async fn exchange(&self, link: &Link, backoff: &mut Backoff) -> Lost {
        let config = &self.config;
        let patience = config.request_timeout;
        let opened = pipe::open(link, features::ROUTES, patience, config.frame_bytes_max);
        let (writer, mut reader) = match opened.await {
            Ok(both) => both,
            Err(lost) => return lost,
        };
        self.interests.table.lock().connected(true);
        let mut asked = Asked::default();
        loop {
            if let Err(lost) = self.tell(&writer, &mut asked) {
                return lost;
            }
            tokio::select! {
                frame = reader.next() => {
                    let heard = frame.and_then(|frame| self.hear(&frame, &mut asked));
                    match heard {
                        Ok(()) => backoff.reset(),
                        Err(lost) => return lost,
                    }
                }
                () = self.interests.changed.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let quiet = asked.quiet_since.filter(|_| !asked.open.is_empty());
            if quiet.is_some_and(|since| since.elapsed() >= patience) {
                return Lost::Stream(format!("it did not answer within {patience:?}"));
            }
        }
    }

    /// Sends what has begun and ended, and what is asked again.
    fn tell(&self, writer: &PipeWriter, asked: &mut Asked) -> Result<(), Lost> {
        let now = Instant::now();
        let mut table = self.interests.table.lock();
        let mut begun = std::mem::take(&mut table.begun);
        let ended = std::mem::take(&mut table.ended);
        let due: Vec<u32> = asked
            .again
            .extract_if(.., |_, at| *at <= now)
            .map(|(number, _)| number)
            .collect();
        begun.extend(due);
        if begun.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let mut chunks: Vec<Bytes> = Vec::new();
        let mut bytes = BytesMut::new();
        for number in ended {
            asked.open.remove(&number);
            asked.again.remove(&number);
            Unwatch { number }.encode(&mut bytes);
        }
        for number in begun {
            if let Some(entry) = table.entries.get(&number) {
                entry.interest.encode(number, &mut bytes)?;
                if asked.open.is_empty() {
                    asked.quiet_since = Some(now);
                }
                asked.open.insert(number);
            }
            if bytes.len() >= CHUNK_BYTES {
                chunks.push(bytes.split().freeze());
            }
        }
        chunks.push(bytes.freeze());
        writer.send(chunks);
        Ok(())
    }

    fn hear(&self, frame: &Frame, asked: &mut Asked) -> Result<(), Lost> {
        asked.quiet_since = Some(Instant::now());
        match Kind::from_byte(frame.kind) {
            Some(Kind::Route) => {
                let (number, route) = Route::decode(&mut frame.reader())?;
                asked.open.remove(&number);
                asked.again.remove(&number);
                self.interests.table.lock().heard(number, route);
            }
            Some(Kind::Refused) => {
                let refusal = Refusal::decode(&mut frame.reader())?;
                self.refused(&refusal, asked)?;
            }
            // What this version does not know is not for it.
            _ => {}
        }
        Ok(())
    }

    fn refused(&self, refusal: &Refusal, asked: &mut Asked) -> Result<(), Lost> {
        let number = refusal.number;
        asked.open.remove(&number);
        let told = RouteRefusal {
            meta: Arc::clone(&self.interests.standing.borrow().address),
            code: refusal.code,
            text: refusal.text.as_str().into(),
        };
        let text = told.to_string();
        self.interests.table.lock().refused(number, told);
        if refusal.code == Code::Draining {
            // Another one knows as much.
            return Err(Lost::Stream(text));
        }
        let pause = match refusal.code.retry() {
            Retry::Never => AGAIN_LATE,
            _ => AGAIN_SOON,
        };
        let least = Duration::from_millis(u64::from(refusal.retry_after_ms));
        asked
            .again
            .insert(number, Instant::now() + pause.max(least));
        Ok(())
    }
}

/// Lets go of brokers that no route names any more, until the client is gone.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(TICK).await;
        match pool.upgrade() {
            Some(pool) => pool.sweep(Instant::now()),
            None => return,
        }
    }
}
