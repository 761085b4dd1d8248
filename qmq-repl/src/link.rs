//! One slave, as its master sees it: what it was sent, what it has, and what may be sent next.

use std::time::Duration;

use bytes::Bytes;

use crate::master::WantedPart;
use crate::options::{AckPolicy, Options};

/// What a slave gets.
#[derive(Debug, Default)]
pub(crate) enum Feed {
    /// Nothing: it has not agreed on a common end.
    #[default]
    Nothing,
    /// The log.
    Log,
    /// A snapshot: `sent` and `have` bytes of it.
    Snapshot { sent: u64, have: u64 },
}

/// A long unit on its way in pieces.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) bytes: Bytes,
    pub(crate) sent: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The session that the last welcome offered; 0 if it has been taken up.
    pub(crate) offered: u64,
    /// Most that the slave of the offered session may follow from.
    pub(crate) common: u64,
    /// The session in which `feed` goes; 0 for none.
    pub(crate) session: u64,
    pub(crate) feed: Feed,
    /// Next offset to send.
    pub(crate) next: u64,
    pub(crate) run: Option<Run>,
    /// What it has asked for of the files beside the log.
    pub(crate) part: Option<WantedPart>,
    /// It has acknowledged something in this session.
    pub(crate) confirmed: bool,
    /// It lacks files beside the log, so what it has does not count.
    pub(crate) partial: bool,
    /// What it has written, as said in this session.
    pub(crate) buffered: u64,
    /// What has come to it, pieces included, as said in this session.
    pub(crate) received: u64,
    /// What it has synced, as said in this epoch.
    pub(crate) synced: u64,
    pub(crate) heard: Duration,
    /// When it last came further, or something was written after it had everything.
    pub(crate) progress: Duration,
    pub(crate) rewound: Duration,
    /// When it was last sent something.
    pub(crate) sent: Duration,
    /// Its log could not be read here; nothing is sent before.
    pub(crate) blocked_until: Duration,
    pub(crate) lease_until: Duration,
    pub(crate) round_trip: Duration,
    /// Where the log must be kept for it. `None` if it has not been heard of in this epoch.
    pub(crate) needs: Option<u64>,
}

impl Link {
    /// The end that counts as held by this slave.
    pub(crate) fn claim(&self, policy: AckPolicy) -> u64 {
        if self.partial {
            0
        } else {
            self.log_claim(policy)
        }
    }

    /// The end of the log that it has, whether or not it has what stood before.
    pub(crate) fn log_claim(&self, policy: AckPolicy) -> u64 {
        match policy {
            AckPolicy::Synced => self.synced,
            AckPolicy::Buffered if self.follows() => self.buffered.max(self.synced),
            AckPolicy::Buffered => self.synced,
        }
    }

    /// It gets the log, and has said so.
    pub(crate) fn follows(&self) -> bool {
        self.session != 0 && matches!(self.feed, Feed::Log) && self.confirmed
    }

    /// The offered session begins.
    pub(crate) fn begin(&mut self, feed: Feed, now: Duration) {
        self.session = self.offered;
        self.offered = 0;
        self.feed = feed;
        self.run = None;
        self.part = None;
        self.confirmed = false;
        self.heard = now;
        self.progress = now;
        self.rewound = now;
        self.blocked_until = Duration::ZERO;
    }

    /// It gets the log from here on. What it claimed before and no longer has is forgotten: its disk may be another one.
    pub(crate) fn begin_log(&mut self, at: u64, now: Duration) {
        self.begin(Feed::Log, now);
        self.next = at;
        self.buffered = at;
        self.received = at;
        self.synced = self.synced.min(at);
        self.needs = Some(at);
    }

    /// It is not there.
    pub(crate) fn end(&mut self) {
        self.session = 0;
        self.offered = 0;
        self.feed = Feed::Nothing;
        self.run = None;
        self.part = None;
        self.confirmed = false;
    }

    /// Sends again from what it has.
    pub(crate) fn rewind(&mut self, now: Duration) {
        self.next = self.buffered;
        self.received = self.buffered;
        self.run = None;
        self.rewound = now;
    }

    pub(crate) fn on_its_way(&self) -> u64 {
        self.sent_to().saturating_sub(self.buffered)
    }

    fn sent_to(&self) -> u64 {
        let run = self.run.as_ref().map_or(0, |run| run.sent as u64);
        self.next + run
    }

    /// When what is on its way is sent again.
    pub(crate) fn resend_at(&self, options: &Options) -> Option<Duration> {
        let since = self.progress.max(self.rewound).max(self.sent);
        let waiting = match self.feed {
            Feed::Nothing => false,
            // What has come and is no whole unit yet waits for the rest of it, not for the same again.
            Feed::Log => self.sent_to() > self.received,
            Feed::Snapshot { sent, have } => sent > have,
        };
        (self.session != 0 && waiting).then(|| since + options.retry)
    }
}
