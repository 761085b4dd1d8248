//! The task that asks the meta servers what this node is, and tells them that it lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qmq_wire::{
    Acquire, Acquired, Claim, Code, ControlRequest, ControlResponse, Presence, Register, Registered,
};

use super::link::{Link, NoAnswer};
use super::options::MembershipOptions;
use super::{Shared, advice, discover, remembered};

/// Heartbeats are not closer together than this, whatever the meta server says.
const HEARTBEAT_LEAST: Duration = Duration::from_millis(50);
/// An answer may take so long, whatever the meta server says.
const PATIENCE_LEAST: Duration = Duration::from_millis(300);
/// A node that serves stops only if nobody has entered it still after so long: a meta server may not have read yet what another has written.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// Attempts to say that the node ends.
const OFFLINE_TRIES: u32 = 3;

pub(super) struct Keeper {
    options: Arc<MembershipOptions>,
    shared: Arc<Shared>,
    link: Option<Link>,
    /// Which endpoint is asked next.
    next: usize,
    /// How often asking failed since it last worked.
    failures: u32,
    said: Option<(String, Instant)>,
    /// Since when meta servers say that nobody has entered this node, which serves.
    unknown: Option<Instant>,
    /// Whether a meta server has said, in this process, what the node is.
    confirmed: bool,
    /// Whether the meta servers know that it is there.
    is_online: bool,
    /// How long an answer is waited for: as long as between two heartbeats at most, so that whoever talks to a meta server that is gone has found
    /// another one before its silence counts.
    patience: Duration,
}

/// Why something was not done.
enum Failed {
    /// No meta server answers.
    Away(String),
    /// One has answered, and it is no good.
    Refused(Code, String),
}

impl Keeper {
    pub(super) fn new(options: Arc<MembershipOptions>, shared: Arc<Shared>) -> Self {
        Self {
            patience: options.timing.request,
            options,
            shared,
            link: None,
            next: 0,
            failures: 0,
            said: None,
            unknown: None,
            confirmed: false,
            is_online: false,
        }
    }

    /// Goes on until it is dropped.
    pub(super) async fn keep(&mut self) {
        loop {
            let pause = match self.confirmed {
                false => self.acquire().await,
                true => self.live().await,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.changed.notified() => {}
            }
        }
    }

    /// Asks what this node is. How long to wait before the next step.
    async fn acquire(&mut self) -> Duration {
        let asked = self.ask_what_it_is().await;
        if asked.is_ok() {
            self.unknown = None;
        }
        match asked {
            Ok(acquired) => match advice::cannot_be(&self.options, &acquired) {
                None => {
                    self.failures = 0;
                    self.said = None;
                    self.confirmed = true;
                    self.is_online = false;
                    self.take(acquired);
                    return Duration::ZERO;
                }
                Some(why) => {
                    self.refuse(why);
                }
            },
            Err(Failed::Away(why)) => self.fall_back(why),
            Err(Failed::Refused(code, why)) => {
                if code == Code::Unavailable {
                    self.fall_back(why);
                } else if code == Code::UnknownNode && !self.is_sure() {
                    self.say(why);
                } else {
                    self.refuse(why);
                }
            }
        }
        self.pause()
    }

    /// No meta server says what this node is: it is what it was, if that is known.
    fn fall_back(&mut self, why: String) {
        if !self.shared.is_waiting() {
            return self.say(format!(
                "no meta server can be reached, and this node goes on as what it was: {why}"
            ));
        }
        let path = self.file();
        match remembered::read(&path, &self.options.hostname, self.options.port) {
            Ok(acquired) if advice::cannot_be(&self.options, &acquired).is_none() => {
                tracing::warn!(group = acquired.group, role = advice::name(acquired.role), file = %path.display(), %why, "no meta server can be reached: this node is what it was when one said it last");
                self.said = Some((why, Instant::now()));
                self.shared.serve(acquired, true);
            }
            Ok(_) => self.say(why),
            Err(error) => {
                let forgotten = match &error {
                    remembered::Forgotten::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                        "none has ever said what this node is".to_owned()
                    }
                    other => format!("{}: {other}", path.display()),
                };
                let text = format!("no meta server can be reached, and {forgotten}: {why}");
                self.shared.wait(&text);
                self.say(text);
            }
        }
    }

    /// The table says what this node is.
    fn take(&mut self, acquired: Acquired) {
        if !acquired.differs.is_empty() {
            tracing::warn!(
                group = acquired.group,
                role = advice::name(acquired.role),
                "the meta server's table counts, and differs from the settings: {}",
                acquired.differs
            );
        }
        if let Some(was) = self.shared.acquired()
            && (&was.group, was.role) != (&acquired.group, acquired.role)
        {
            let text = format!(
                "this node served as {} of group {:?}, and the meta server's table has it as {} of group {:?}: it takes no more messages; start it again to serve as that",
                advice::name(was.role),
                was.group,
                advice::name(acquired.role),
                acquired.group
            );
            return self.refuse(text);
        }
        let path = self.file();
        let (hostname, port) = (&self.options.hostname, self.options.port);
        if let Some(before) = remembered::group(&path)
            && before != acquired.group
        {
            let text = format!(
                "the store in {} is that of broker group {before:?}, and the meta server's table has this node in {:?}: what lies there would be out of reach of its consumers. \
                 If stores were swapped, swap them back; if the store is to serve the other group, delete {} and start again",
                self.options.folder.display(),
                acquired.group,
                path.display()
            );
            return self.refuse(text);
        }
        if let Err(error) = remembered::write(&path, hostname, port, &acquired) {
            tracing::warn!(file = %path.display(), %error, "what the meta server said is not kept: this node will not start while no meta server can be reached");
        }
        tracing::info!(
            group = acquired.group,
            role = advice::name(acquired.role),
            epoch = acquired.epoch,
            ip = acquired.ip,
            "the meta server has said what this node is"
        );
        self.shared.serve(acquired, false);
    }

    /// Says that the node lives, if it is to. How long to wait before the next step.
    async fn live(&mut self) -> Duration {
        let Some(acquired) = self.shared.acquired().filter(|_| self.shared.may_serve()) else {
            // It has been made another node: only a new start helps.
            self.confirmed = false;
            return self.options.timing.pause_most;
        };
        if !self.shared.online.load(Ordering::Acquire) {
            return self.options.timing.heartbeat;
        }
        let presence = match self.is_online {
            true => Presence::Heartbeat,
            false => Presence::Online,
        };
        match self.register(presence, &acquired).await {
            Ok(registered) => {
                self.failures = 0;
                self.said = None;
                if !self.is_online {
                    tracing::info!(
                        group = acquired.group,
                        "the meta server has this node online"
                    );
                }
                self.is_online = true;
                self.shared.heard();
                let again = Duration::from_millis(u64::from(registered.again_ms))
                    .min(self.options.timing.heartbeat)
                    .max(HEARTBEAT_LEAST);
                self.patience = again.max(PATIENCE_LEAST).min(self.options.timing.request);
                again
            }
            Err(Failed::Away(why)) => {
                self.say(format!("no meta server hears this node: {why}"));
                self.pause()
            }
            Err(Failed::Refused(code, why)) => {
                self.say(format!("the meta server does not take a heartbeat: {why}"));
                if code == Code::Unavailable {
                    self.leave();
                }
                // What it is may have changed.
                if matches!(code, Code::UnknownNode | Code::WrongRole) {
                    self.confirmed = false;
                }
                self.pause()
            }
        }
    }

    /// Says that the node ends, up to three times.
    pub(super) async fn offline(&mut self) -> bool {
        let Some(acquired) = self.shared.acquired() else {
            return true;
        };
        for _ in 0..OFFLINE_TRIES {
            match self.register(Presence::Offline, &acquired).await {
                Ok(_) => return true,
                Err(Failed::Away(why) | Failed::Refused(_, why)) => {
                    tracing::warn!("the meta server does not hear that this node ends: {why}");
                }
            }
            tokio::time::sleep(self.options.timing.pause_least).await;
        }
        false
    }

    async fn register(
        &mut self,
        presence: Presence,
        acquired: &Acquired,
    ) -> Result<Registered, Failed> {
        let writable = self.shared.writable.load(Ordering::Acquire);
        let request = ControlRequest::Register(Register {
            presence,
            hostname: self.options.hostname.clone(),
            port: self.options.port,
            group: acquired.group.clone(),
            role: acquired.role,
            address: discover::join(&acquired.ip, self.options.port),
            writable,
            epoch: acquired.epoch,
        });
        let mut unstored = None;
        // Once around: one whose database is away may have neighbours who reach theirs.
        for _ in 0..self.options.endpoints.len().max(1) {
            match self.ask(&request).await {
                Ok(ControlResponse::Registered(registered)) => {
                    if registered.stored {
                        return Ok(registered);
                    }
                    unstored = Some(registered);
                    self.leave();
                }
                Ok(_) => {
                    self.leave();
                    return Err(Failed::Away(
                        "the answer is one to another question".to_owned(),
                    ));
                }
                Err(failed) => match unstored {
                    Some(registered) => return Ok(registered),
                    None => return Err(failed),
                },
            }
        }
        match unstored {
            Some(registered) => {
                tracing::debug!("no meta server has stored the heartbeat: its database is away");
                Ok(registered)
            }
            None => Err(Failed::Away("there is no meta.server.endpoint".to_owned())),
        }
    }

    async fn ask_what_it_is(&mut self) -> Result<Acquired, Failed> {
        self.connect().await?;
        let local = self.link.as_ref().map(|link| link.found.local);
        let ip = local.map(|local| advice::own_ip(&self.options, local));
        let claim = self.options.claim.clone().map(|(group, role)| Claim {
            group,
            role,
            ip: ip.clone().unwrap_or_default(),
            sync_port: self.options.sync_port,
        });
        let request = ControlRequest::Acquire(Acquire {
            hostname: self.options.hostname.clone(),
            port: self.options.port,
            claim,
        });
        let http = self.link.as_ref().map(|link| link.found.http.clone());
        match self.ask(&request).await {
            Ok(ControlResponse::Acquired(acquired)) => Ok(acquired),
            Ok(_) => {
                self.leave();
                Err(Failed::Away(
                    "the answer is one to another question".to_owned(),
                ))
            }
            Err(Failed::Refused(Code::UnknownNode, why)) => {
                let (http, ip) = (http.unwrap_or_default(), ip.unwrap_or_default());
                let text = advice::filled_in(&self.options, &why, &http, &ip);
                Err(Failed::Refused(Code::UnknownNode, text))
            }
            Err(failed) => Err(failed),
        }
    }

    /// Asks over the connection that there is, or a new one.
    async fn ask(&mut self, request: &ControlRequest) -> Result<ControlResponse, Failed> {
        let had = self.link.is_some();
        match self.ask_once(request).await {
            // It may only have been the old connection.
            Err(Failed::Away(_)) if had => self.ask_once(request).await,
            answered => answered,
        }
    }

    async fn ask_once(&mut self, request: &ControlRequest) -> Result<ControlResponse, Failed> {
        self.connect().await?;
        // Taken out meanwhile: a connection whose answer was not waited for is of no use.
        let Some(mut link) = self.link.take() else {
            return Err(Failed::Away("there is no connection".to_owned()));
        };
        match link.ask(request, self.patience).await {
            Ok(response) => {
                self.link = Some(link);
                Ok(response)
            }
            Err(NoAnswer::Refused { refusal, .. }) => {
                self.link = Some(link);
                Err(Failed::Refused(refusal.code, refusal.text))
            }
            Err(error) => {
                self.next = self.next.wrapping_add(1);
                Err(Failed::Away(error.to_string()))
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Failed> {
        if self.link.is_some() {
            return Ok(());
        }
        let endpoints = self.options.endpoints.clone();
        let mut reasons: Vec<String> = Vec::new();
        for _ in 0..endpoints.len() {
            let Some(url) = endpoints.get(self.next % endpoints.len()) else {
                break;
            };
            match Link::dial(&self.options, url).await {
                Ok(link) => {
                    tracing::info!(
                        meta = link.found.address,
                        from = url,
                        "connected to a meta server"
                    );
                    self.link = Some(link);
                    return Ok(());
                }
                Err(error) => {
                    reasons.push(error.to_string());
                    self.next = self.next.wrapping_add(1);
                }
            }
        }
        Err(Failed::Away(reasons.join("; ")))
    }

    /// The next question goes to another meta server.
    fn leave(&mut self) {
        self.link = None;
        self.next = self.next.wrapping_add(1);
    }

    /// Whether a node that nobody has entered is to stop: one that serves not at the first word.
    fn is_sure(&mut self) -> bool {
        let serves = self.shared.acquired().is_some() && self.shared.may_serve();
        let since = *self.unknown.get_or_insert_with(Instant::now);
        !serves || since.elapsed() >= UNKNOWN_FOR
    }

    /// The node does not serve, and says why.
    fn refuse(&mut self, why: String) {
        self.shared.stop(&why);
        self.say(why);
    }

    /// Says what keeps the node waiting: once, and again after a minute.
    fn say(&mut self, text: String) {
        self.shared.trouble(&text);
        let again = self.options.timing.remind;
        if let Some((said, at)) = &self.said
            && *said == text
            && at.elapsed() < again
        {
            return;
        }
        tracing::error!("{text}");
        self.said = Some((text, Instant::now()));
    }

    /// Longer after each failure, and never the same for two nodes.
    fn pause(&mut self) -> Duration {
        let timing = &self.options.timing;
        let whole = timing
            .pause_least
            .saturating_mul(1 << self.failures.min(16))
            .min(timing.pause_most);
        self.failures = self.failures.saturating_add(1);
        let random = getrandom::u32().unwrap_or_default() % 1_000;
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / 1_000.0)
    }

    fn file(&self) -> PathBuf {
        self.options
            .folder
            .join(remembered::name(self.options.kind))
    }
}
