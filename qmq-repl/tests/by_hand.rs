//! One member, and frames made by hand: what no other member would send.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::ModelLog;
use common::sim::small_options;
use qmq_repl::{Epoch, Event, Frame, Hello, Log, LogError, Message, Node, Options, Peer, Refused};

const OTHER: Peer = Peer(0);

struct Member {
    node: Node<ModelLog>,
    log: ModelLog,
    now: Duration,
}

impl Member {
    /// A member of two that has promised and has nothing in its log.
    fn new(options: Options) -> Self {
        let group = common::group(2, 1, 0);
        let (log, now) = (ModelLog::default(), Duration::from_secs(10));
        let node = Node::new(group, options, log.clone(), now, 3).unwrap();
        Self { node, log, now }
    }

    fn take(&mut self, session: u64, message: Message) {
        self.take_of(1, session, message);
    }

    fn take_of(&mut self, epoch: u64, session: u64, message: Message) {
        let frame = Frame {
            epoch,
            session,
            group: common::group(2, 1, 0).tag(),
            message,
        };
        self.node.handle(self.now, OTHER, &frame.encode());
    }

    fn said(&mut self) -> Vec<Message> {
        let (now, node) = (self.now, &mut self.node);
        let frames = std::iter::from_fn(|| node.poll_transmit_to(now, OTHER));
        frames
            .map(|bytes| Frame::decode(&bytes).unwrap().message)
            .collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    /// Welcomed in session 1 of epoch 1 by a master whose log is there from `start` on.
    fn welcomed(&mut self, start: u64) {
        self.node.follow(self.now, OTHER);
        assert!(self.said().is_empty(), "first the authority is asked");
        assert_eq!(self.events(), [Event::LatestEpochWanted]);
        self.node.latest_epoch(self.now, 0);
        let hello = self.said().into_iter().find_map(|message| match message {
            Message::Hello(Hello { nonce, .. }) => Some(nonce),
            _ => None,
        });
        let welcome = Message::Welcome {
            nonce: hello.unwrap(),
            log_id: self.log.id(),
            start,
            written: 1_000,
            epochs: vec![Epoch {
                number: 1,
                start: 0,
            }],
        };
        self.take(1, welcome);
    }

    fn following(options: Options) -> Self {
        let mut member = Self::new(options);
        member.welcomed(0);
        member.take(1, Message::Start { at: 0 });
        let following = |event: &Event| matches!(event, Event::Following { at: 0, .. });
        assert!(member.events().iter().any(following));
        member
    }

    fn refuses_bytes_of(&mut self, offset: u64) -> bool {
        let error = LogError::BadBytes { offset };
        self.events() == [Event::AppendRefused { error }]
    }
}

#[test]
fn a_snapshot_that_is_too_long_or_not_what_was_announced_is_not_installed() {
    let options = small_options();
    let piece = |crc, total| Message::SnapshotPiece {
        base: 500,
        crc,
        total,
        offset: 0,
        bytes: Bytes::from_static(b"some"),
    };
    let mut member = Member::new(options.clone());
    member.welcomed(500);
    let asked = |message: &Message| matches!(message, Message::SnapshotAsk { have: 0, .. });
    assert!(member.said().iter().any(asked));
    member.take(1, piece(crc32fast::hash(b"some") ^ 1, 4));
    assert!(member.refuses_bytes_of(500));
    for total in [0, options.snapshot_bytes_max + 1, u64::MAX] {
        let mut member = Member::new(options.clone());
        member.welcomed(500);
        member.take(1, piece(7, total));
        assert!(member.refuses_bytes_of(500), "{total}");
    }
}

#[test]
fn a_unit_that_is_too_long_is_refused_when_its_first_piece_says_so() {
    let options = small_options();
    for (rest, refused) in [
        (options.unit_bytes_max - 10, false),
        (options.unit_bytes_max - 9, true),
        (u32::MAX, true),
    ] {
        let mut member = Member::following(options.clone());
        let data = Message::Data {
            offset: 0,
            rest,
            bytes: Bytes::from_static(&[1; 10]),
        };
        member.take(1, data);
        assert_eq!(member.refuses_bytes_of(0), refused, "{rest}");
    }
}

#[test]
fn a_slave_takes_nothing_of_another_session_or_epoch_than_it_has_agreed_on() {
    let mut member = Member::following(small_options());
    let no_unit = || Message::Data {
        offset: 0,
        rest: 0,
        bytes: Bytes::from_static(&[1; 10]),
    };
    for (epoch, session) in [(1, 0), (1, 2), (2, 1), (u64::MAX, 1)] {
        member.take_of(epoch, session, no_unit());
        assert_eq!(member.events(), [], "{epoch} {session}");
        assert_eq!(member.log.promised(), 1);
    }
    member.take_of(1, 1, no_unit());
    assert!(member.refuses_bytes_of(0));
}

#[test]
fn a_slave_takes_the_role_over_only_at_the_end_of_the_log() {
    let mut member = Member::following(small_options());
    let stands = |member: &mut Member| {
        let wanted = |event: &Event| matches!(event, Event::EpochWanted { .. });
        member.events().iter().any(wanted)
    };
    let (sent, until) = (Duration::from_secs(100), Duration::from_secs(101));
    let heartbeat = Message::Heartbeat {
        sent,
        written: 0,
        synced: 0,
        replicated: 0,
        lease: Duration::ZERO,
        files: 0,
    };
    member.take(1, Message::HandOver { end: 0, until });
    assert!(!stands(&mut member), "the master's clock is not known");
    member.take(1, heartbeat);
    member.take(1, Message::HandOver { end: 24, until });
    assert!(!stands(&mut member));
    member.take(2, Message::HandOver { end: 0, until });
    assert!(!stands(&mut member), "of another session");
    member.take(
        1,
        Message::HandOver {
            end: 0,
            until: sent,
        },
    );
    assert!(!stands(&mut member), "called off meanwhile");
    member.take(1, Message::HandOver { end: 0, until });
    assert!(stands(&mut member));
}

impl Member {
    /// Master of epoch 1, alone.
    fn master() -> Self {
        let mut member = Self::new(small_options());
        member.node.stand(member.now, true);
        member.node.epoch_granted(member.now, 1);
        member.now += Duration::from_secs(2);
        member.node.handle_timeout(member.now);
        assert_eq!(member.node.epoch(), Some(1));
        member
    }

    /// A slave whose log ends at `written` says hello. Answers the session that it is offered.
    fn greeted(&mut self, written: u64) -> u64 {
        self.said();
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            log_id: self.log.id(),
            group: "group".to_owned(),
            node: "node-0".to_owned(),
            nonce: 5,
            start: 0,
            written,
            synced: written,
            epochs: match written {
                0 => Vec::new(),
                _ => self.log.epochs(),
            },
        };
        self.take(0, Message::Hello(hello));
        let now = self.now;
        let frames = std::iter::from_fn(|| self.node.poll_transmit_to(now, OTHER));
        let welcome = frames
            .map(|bytes| Frame::decode(&bytes).unwrap())
            .find(|frame| matches!(frame.message, Message::Welcome { .. }));
        welcome.unwrap().session
    }

    fn asked_to_start(&mut self, session: u64, at: u64) -> Vec<Message> {
        let digest = self.log.digest(0, at).unwrap();
        let follow = Message::Follow {
            at,
            from: 0,
            digest,
        };
        self.take(session, follow);
        self.said()
    }
}

#[test]
fn a_slave_that_says_more_is_common_than_its_hello_did_does_not_follow() {
    let mut member = Member::master();
    let end = member.log.written();
    let session = member.greeted(0);
    let conflict = Message::Refused(Refused::Conflict);
    assert!(member.asked_to_start(session, end).contains(&conflict));
    let session = member.greeted(end);
    let start = Message::Start { at: end };
    assert!(member.asked_to_start(session, end).contains(&start));
}

#[test]
fn what_a_slave_had_synced_and_has_no_more_is_forgotten() {
    let mut member = Member::master();
    let end = member.log.written();
    let session = member.greeted(end);
    member.asked_to_start(session, end);
    let ack = Message::Ack {
        buffered: end,
        synced: end,
        received: end,
        echo: Duration::ZERO,
        gap: false,
        partial: false,
    };
    member.take(session, ack);
    let now = member.now;
    assert_eq!(member.node.lag(now)[0].synced, end);
    let session = member.greeted(0);
    member.asked_to_start(session, 0);
    assert_eq!(member.node.lag(now)[0].synced, 0);
}
