//! What the processes of producers and consumers do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qmq_client::{Client, HandlerError, Message, Pem, Received, Start, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::crowd;
use super::history::{Event, Writer, body, id_of};
use super::{BROADCAST, Failed, ORDERED, PLAIN};
use crate::sudden::random;

/// The environment of a process that plays a role.
pub(crate) const ROLE: &str = "QMQ_BROKER_KILL_ROLE";

/// Messages of a lane that are sent and not answered.
const UNANSWERED_MAX: usize = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Kind {
    Producer,
    Consumer { group: String, lasting: bool },
    Crowd { connections: usize },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// Counts the processes that played it before.
    pub(crate) life: u64,
    pub(crate) kind: Kind,
    pub(crate) address: String,
    pub(crate) authorities: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    pub(crate) pause_us: u64,
}

impl Role {
    /// Name and life: who writes a history.
    pub(crate) fn who(&self) -> String {
        format!("{}-{}", self.name, self.life)
    }

    pub(crate) fn file(&self) -> PathBuf {
        let group = match &self.kind {
            Kind::Producer | Kind::Crowd { .. } => "",
            Kind::Consumer { group, .. } => group,
        };
        self.folder.join(format!("{}@{group}", self.who()))
    }

    pub(super) fn client(&self) -> Result<Client, Failed> {
        let client = Client::builder()
            .broker(&self.address)
            .authorities(Pem::File(self.authorities.clone()))
            .server_name("localhost")
            .application(self.who())
            .connect_timeout(Duration::from_secs(2))
            .request_timeout(Duration::from_secs(3))
            .idle_timeout(Duration::from_secs(3))
            .reconnect_pause(Duration::from_millis(20), Duration::from_millis(200))
            .breaker(5, Duration::from_millis(100))
            .build()?;
        Ok(client)
    }
}

/// Plays the role that the environment names, if it does, until the input ends.
pub(crate) fn play() -> Result<bool, Failed> {
    let Some(role) = std::env::var_os(ROLE) else {
        return Ok(false);
    };
    let role: Role = serde_json::from_str(&role.to_string_lossy())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let writer = Arc::new(Writer::create(&role.file())?);
        match &role.kind {
            Kind::Producer => produce(&role, &writer).await,
            Kind::Consumer { group, lasting } => consume(&role, group, *lasting, &writer).await,
            Kind::Crowd { connections } => crowd::play(&role, *connections, &writer).await,
        }
    })?;
    Ok(true)
}

/// Comes when whoever started this process closes its input, or dies.
pub(super) async fn told_to_end() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}

async fn produce(role: &Role, writer: &Arc<Writer>) -> Result<(), Failed> {
    let client = role.client()?;
    let mut lanes = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (lane, subject) in [PLAIN, PLAIN, ORDERED].into_iter().enumerate() {
        let producer = client.producer().delivery_timeout(Duration::from_secs(60));
        let producer = match subject {
            ORDERED => producer.ordered(),
            _ => producer,
        };
        // Several requests under way at a time.
        let producer = producer.batch(10, 1 << 20).build()?;
        let (who, writer) = (role.who(), Arc::clone(writer));
        let pause = Duration::from_micros(role.pause_us);
        let stopped = stopped.clone();
        lanes.spawn(async move {
            let room = Arc::new(Semaphore::new(UNANSWERED_MAX));
            let mut answers = JoinSet::new();
            for n in 0_u64.. {
                if *stopped.borrow() {
                    break;
                }
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                    break;
                };
                let id = format!("{who}/{lane}/{n}");
                writer.write(subject, Event::Sent { id: id.clone() });
                let sent = producer.queue(Message::new(subject, body(&id))).await;
                let writer = Arc::clone(&writer);
                answers.spawn(async move {
                    let outcome = match sent {
                        Ok(sent) => sent.await,
                        Err(error) => Err(error),
                    };
                    let event = match outcome {
                        Ok(report) => Event::Answered {
                            id,
                            sequence: report.sequence,
                        },
                        Err(error) => Event::GivenUp {
                            id,
                            why: error.to_string(),
                        },
                    };
                    writer.write(subject, event);
                    drop(permit);
                });
                while answers.try_join_next().is_some() {}
                tokio::time::sleep(pause).await;
            }
            while answers.join_next().await.is_some() {}
            producer.close().await
        });
    }
    told_to_end().await;
    stop.send_replace(true);
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    client.close(Duration::from_secs(2)).await;
    Ok(())
}

/// What a consumer does with a message.
#[derive(Clone, Copy)]
enum Way {
    Ack(Duration),
    Nack(Duration),
    Drop,
}

fn way(seed: u64, sequence: u64, attempt: u64) -> Way {
    let chance = random(seed, sequence, 100 + attempt);
    let ms = Duration::from_millis;
    match chance % 1_000 {
        // Whoever refuses for ever is never done.
        ..60 if attempt < 6 => Way::Nack(ms(20 + chance / 1_000 % 300)),
        60..80 if attempt < 6 => Way::Drop,
        80..110 => Way::Ack(ms(chance / 1_000 % 1_000)),
        // Longer than the broker waits: it is renewed.
        110..112 => Way::Ack(ms(4_000)),
        _ => Way::Ack(Duration::ZERO),
    }
}

async fn consume(
    role: &Role,
    group: &str,
    lasting: bool,
    writer: &Arc<Writer>,
) -> Result<(), Failed> {
    let client = role.client()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut flows = JoinSet::new();
    for subject in [PLAIN, ORDERED] {
        let name = if lasting {
            role.name.clone()
        } else {
            role.who()
        };
        let subscription = Subscription::new(subject, group)
            .start(Start::Earliest)
            .broadcast(group == BROADCAST)
            .consumer_id(name)
            .window(200, 1 << 20)
            .concurrency(50)
            .settle_timeout(Duration::from_secs(60));
        let mut consumer = client.subscribe(subscription)?;
        let (writer, seed) = (Arc::clone(writer), role.seed);
        let mut stopped = stopped.clone();
        if lasting && group != BROADCAST {
            flows.spawn(async move {
                let mut listening = consumer.listen(move |received| {
                    let writer = Arc::clone(&writer);
                    async move { listen(&received, &writer, seed).await }
                });
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    ended = listening.stopped() => return Err(format!("a listener stopped: {ended:?}")),
                }
                listening.close().await.map_err(|error| error.to_string())
            });
            continue;
        }
        flows.spawn(async move {
            let mut handled = JoinSet::new();
            loop {
                let received = tokio::select! {
                    received = consumer.next() => received,
                    _ = stopped.wait_for(|stop| *stop) => break,
                };
                match received {
                    Ok(received) => {
                        handled.spawn(handle(received, Arc::clone(&writer), seed));
                    }
                    Err(error) => {
                        let why = error.to_string();
                        writer.write(subject, Event::Stopped { why });
                        return Err(error.to_string());
                    }
                }
                while handled.try_join_next().is_some() {}
            }
            while handled.join_next().await.is_some() {}
            consumer.close().await.map_err(|error| error.to_string())
        });
    }
    told_to_end().await;
    stop.send_replace(true);
    while let Some(ended) = flows.join_next().await {
        ended??;
    }
    client.close(Duration::from_secs(2)).await;
    Ok(())
}

fn note(received: &Received, writer: &Writer) -> (u64, u64) {
    let (sequence, attempt) = (received.sequence(), u64::from(received.attempt()));
    let id = id_of(received.body()).unwrap_or_default().to_owned();
    writer.write(
        received.subject(),
        Event::Received {
            sequence,
            attempt,
            id,
        },
    );
    (sequence, attempt)
}

async fn listen(received: &Received, writer: &Writer, seed: u64) -> Result<(), HandlerError> {
    let (sequence, attempt) = note(received, writer);
    let subject = received.subject();
    let way = way(seed, sequence, attempt);
    if let Way::Ack(after) = way {
        tokio::time::sleep(after).await;
        writer.write(subject, Event::Acking { sequence, attempt });
        return Ok(());
    }
    writer.write(subject, Event::Nacking { sequence, attempt });
    match way {
        Way::Nack(delay) => Err(HandlerError::retry_after(delay, "on purpose")),
        _ => Err("on purpose".into()),
    }
}

async fn handle(received: Received, writer: Arc<Writer>, seed: u64) {
    let (sequence, attempt) = note(&received, &writer);
    let subject = received.subject().to_owned();
    let outcome = match way(seed, sequence, attempt) {
        Way::Ack(after) => {
            tokio::time::sleep(after).await;
            writer.write(&subject, Event::Acking { sequence, attempt });
            received.ack().await.map(|()| true)
        }
        Way::Nack(delay) => {
            writer.write(&subject, Event::Nacking { sequence, attempt });
            received.nack(Some(delay)).await.map(|()| false)
        }
        Way::Drop => {
            writer.write(&subject, Event::Nacking { sequence, attempt });
            drop(received);
            Ok(false)
        }
    };
    match outcome {
        Ok(true) => writer.write(&subject, Event::Acked { sequence, attempt }),
        Ok(false) => {}
        Err(error) => {
            let why = error.to_string();
            writer.write(
                &subject,
                Event::Refused {
                    sequence,
                    attempt,
                    why,
                },
            );
        }
    }
}
