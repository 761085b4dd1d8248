//! A member of a group, and frames that the others never sent.

use std::time::Duration;

use bytes::Bytes;
use qmq_repl::{Event, HEADER_BYTES, Log, Node, Peer, StoreLog};
use qmq_store::Durability;

use crate::Input;
use crate::repl_frame::sealed;
use crate::repl_group::{member, warm};

const STEPS_MAX: usize = 120;
/// Kinds of frames, and some that are none.
const KINDS: u64 = 24;

/// Frames of the other members, whole, changed under good checksums, doubled and made up, between time, appends, promotions and lost
/// connections. No panic; a log changes only at its end, or as an event says; it is whole; promises never go back.
pub fn repl_node(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(input.byte().is_multiple_of(3));
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.pump(200);
}

/// One genuine frame of each kind that a group sends which lives a while: seeds.
#[must_use]
pub fn some_frames() -> Vec<Bytes> {
    let mut world = World::new(false);
    for _ in 0..9 {
        world.append();
        world.pump(5);
    }
    let mut frames = std::collections::BTreeMap::new();
    for turn in 0..40_u8 {
        match turn {
            5 => {
                let end = world.nodes[1].log().written();
                world.nodes[1].scrub(world.now, Peer(0), 0, end);
            }
            10 => {
                let _ = world.nodes[0].switch_to(world.now, Peer(1));
            }
            20 => world.nodes[2].stand(world.now, false),
            25 => world.give(0, 1, &sealed(1, (0, 0), &[])),
            _ => {}
        }
        world.pump(10);
        for (_, _, frame) in &world.sent {
            frames.entry(frame[3]).or_insert_with(|| frame.clone());
        }
    }
    frames.into_values().collect()
}

/// What was true of a log before a call.
#[derive(Clone, Copy, Debug)]
struct Before {
    start: u64,
    written: u64,
    synced: u64,
    promised: u64,
    digest: u64,
}

struct World {
    now: Duration,
    nodes: Vec<Node<StoreLog>>,
    before: Vec<Before>,
    epoch: u64,
    /// Frames that the members have sent, with sender and receiver.
    sent: Vec<(usize, usize, Bytes)>,
    sequence: u64,
    /// How the next frames are changed before they come, a few bytes each.
    tamper: Vec<u8>,
}

/// Bytes that say how a frame is changed on its way.
const TAMPER_BYTES: usize = 8;

impl World {
    /// A master with a slave that follows, and a third member that has not come yet.
    fn new(retired: bool) -> Self {
        let disks = warm(retired);
        let mut world = Self {
            now: Duration::from_secs(100),
            nodes: Vec::new(),
            before: Vec::new(),
            epoch: 1,
            sent: Vec::new(),
            sequence: 0,
            tamper: Vec::new(),
        };
        for (me, disk) in disks.iter().enumerate() {
            let node = member(me, disk.process_killed(), world.now);
            world.before.push(look(&node));
            world.nodes.push(node);
        }
        world.nodes[0].stand(world.now, false);
        world.settle(0);
        world.pump(100);
        let end = world.nodes[0].log().written();
        assert!(world.nodes[0].epoch().is_some());
        assert!(world.nodes.iter().all(|node| node.log().written() == end));
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let n = input.below(3) as usize;
        let other = (n + 1 + input.below(2) as usize) % 3;
        match input.byte() % 16 {
            0..=4 => {
                if let Some(frame) = self.some_frame(input) {
                    let bytes = changed(&frame, input);
                    self.give(other, n, &bytes);
                }
            }
            5..=6 => {
                let (kind, length) = (input.below(KINDS) as u8, input.below(90));
                let body: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                let (epoch, session) = (self.some_epoch(input), input.below(6));
                self.give(other, n, &sealed(kind, (epoch, session), &body));
            }
            7 => {
                // One as it was, again or late.
                if let Some(frame) = self.some_frame(input) {
                    self.give(other, n, &frame);
                }
            }
            8 => {
                let garbage: Vec<u8> = (0..input.below(60)).map(|_| input.byte()).collect();
                self.give(other, n, &garbage.into());
            }
            9 => self.append(),
            10 => {
                self.nodes[n].stand(self.now, input.below(4) == 0);
                self.settle(n);
            }
            11 => {
                self.nodes[n].disconnected(self.now, Peer(other as u16));
                self.settle(n);
            }
            12 => {
                let (from, to) = (input.below(1 << 14), input.below(1 << 14));
                let (now, peer) = (self.now, Peer(other as u16));
                self.nodes[n].scrub(now, peer, from.min(to), from.max(to));
                self.settle(n);
            }
            13 => {
                let _ = self.nodes[n].switch_to(self.now, Peer(other as u16));
                self.settle(n);
            }
            14 => {
                self.tamper = (0..TAMPER_BYTES * 4).map(|_| input.byte()).collect();
                if input.byte().is_multiple_of(2) {
                    self.nodes[n].disconnected(self.now, Peer(other as u16));
                    self.settle(n);
                }
                self.append();
                self.pump(input.below(60));
            }
            _ => self.pump(input.below(3)),
        }
    }

    fn some_frame(&self, input: &mut Input<'_>) -> Option<Bytes> {
        let latest = self.sent.len().saturating_sub(64);
        let at = latest + input.below(64) as usize;
        self.sent.get(at).map(|(_, _, frame)| frame.clone())
    }

    fn some_epoch(&self, input: &mut Input<'_>) -> u64 {
        (self.epoch + 2).saturating_sub(input.below(4))
    }

    fn append(&mut self) {
        for n in 0..3 {
            if self.nodes[n].may_accept(self.now).is_err() {
                continue;
            }
            self.sequence += 1;
            let text = format!("message {}", self.sequence);
            let message = qmq_store::Message::new("s", text);
            let store = self.nodes[n].log().store().clone();
            let done = store.append_with(&message, Durability::Synced);
            done.expect("a master takes appends");
            self.before[n] = look(&self.nodes[n]);
            self.nodes[n].log_moved(self.now);
            self.settle(n);
        }
    }

    /// Time goes on, and frames come to whom they are for.
    fn pump(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            for n in 0..3 {
                if self.nodes[n]
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.nodes[n].handle_timeout(self.now);
                    self.settle(n);
                }
                // A few a turn: whoever answers an answer forever does not hang this.
                for _ in 0..20 {
                    let Some((peer, frame)) = self.nodes[n].poll_transmit(self.now) else {
                        break;
                    };
                    let to = usize::from(peer.0);
                    if self.sent.len() > 1_000 {
                        self.sent.drain(..500);
                    }
                    self.sent.push((n, to, frame.clone()));
                    let come = self.on_its_way(&frame);
                    self.give(n, to, &come);
                }
            }
        }
    }

    /// The frame, or what became of it.
    fn on_its_way(&mut self, frame: &Bytes) -> Bytes {
        if self.tamper.len() < TAMPER_BYTES {
            return frame.clone();
        }
        let rest = self.tamper.split_off(TAMPER_BYTES);
        let how = std::mem::replace(&mut self.tamper, rest);
        if how[0].is_multiple_of(2) {
            return frame.clone();
        }
        changed(frame, &mut Input(&how[1..]))
    }

    fn give(&mut self, from: usize, to: usize, frame: &Bytes) {
        self.nodes[to].handle(self.now, Peer(from as u16), frame);
        self.settle(to);
    }

    /// Hears what a member says, and looks whether its log is what it may be.
    fn settle(&mut self, n: usize) {
        // Up to where the log must be as it was.
        let mut kept = Some(self.before[n].written);
        let mut own = false;
        while let Some(event) = self.nodes[n].poll_event() {
            match event {
                Event::LatestEpochWanted => self.nodes[n].latest_epoch(self.now, self.epoch),
                Event::EpochWanted { above } => {
                    self.epoch = self.epoch.max(above) + 1;
                    if self.epoch < 1 << 40 {
                        self.nodes[n].epoch_granted(self.now, self.epoch);
                    } else {
                        // A forged promise took it there; the authority grants no such number.
                        self.nodes[n].epoch_denied(self.now);
                    }
                }
                Event::LostTail { from, .. } => kept = kept.map(|end| end.min(from)),
                Event::Installed { .. } => kept = None,
                Event::Promoted { .. } => own = true,
                Event::LogFailed { error } => panic!("{n}: the log failed: {error}"),
                _ => {}
            }
        }
        let (before, node) = (self.before[n], &self.nodes[n]);
        let (now, log) = (look_at_ends(node), node.log());
        assert!(now.synced <= now.written, "{now:?}");
        assert!(now.promised >= before.promised, "{before:?} {now:?}");
        let Some(kept) = kept else {
            assert_eq!(log.verify(now.start, now.written), Ok(()));
            self.before[n] = look(node);
            return;
        };
        assert!(now.written >= kept, "{n}: {before:?} {now:?}");
        assert_eq!(now.start, before.start, "{n}");
        if kept < before.written || now.written != before.written || own {
            assert_eq!(log.verify(now.start, now.written), Ok(()), "{n}");
        }
        let same = kept == before.written;
        if same && now.written >= before.written {
            let digest = log.digest(before.start, before.written);
            assert_eq!(digest, Ok(before.digest), "{n}: {before:?} {now:?}");
        }
        if now.written == before.written && same {
            self.before[n] = Before {
                digest: before.digest,
                ..now
            };
        } else {
            self.before[n] = look(node);
        }
    }
}

fn look_at_ends(node: &Node<StoreLog>) -> Before {
    let log = node.log();
    Before {
        start: log.start(),
        written: log.written(),
        synced: log.synced(),
        promised: log.promised(),
        digest: 0,
    }
}

fn look(node: &Node<StoreLog>) -> Before {
    let ends = look_at_ends(node);
    let digest = node.log().digest(ends.start, ends.written);
    Before {
        digest: digest.expect("a whole log has a digest"),
        ..ends
    }
}

/// A genuine frame with some bytes of its body, its epoch, its session or its kind changed.
fn changed(frame: &Bytes, input: &mut Input<'_>) -> Bytes {
    let number = |at: usize| {
        let bytes = frame.get(at..at + 8).and_then(|it| it.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let (mut kind, mut epoch, mut session) = (frame[3], number(8), number(16));
    let mut body = frame[HEADER_BYTES..].to_vec();
    for _ in 0..=input.below(3) {
        let what = input.byte() % 12;
        let at = input.below(body.len() as u64) as usize;
        match what {
            0..=2 if !body.is_empty() => body[at] ^= 1 << (input.byte() % 8),
            3..=5 if !body.is_empty() => {
                body[at] = [0, 1, 8, 0x7F, 0x80, 0xFF][input.below(6) as usize];
            }
            6 => body.truncate(at),
            7 => body.insert(at, input.byte()),
            8 => epoch = (epoch + 1).saturating_sub(input.below(3)),
            9 => session = (session + 1).saturating_sub(input.below(3)),
            10 => kind = input.below(KINDS) as u8,
            _ => {
                // A number within, a little more or less than it was.
                if let Some(field) = body.get_mut(at / 8 * 8..at / 8 * 8 + 8) {
                    let old = u64::from_le_bytes((&*field).try_into().unwrap_or_default());
                    let new = old.wrapping_add(input.below(17)).wrapping_sub(8);
                    field.copy_from_slice(&new.to_le_bytes());
                }
            }
        }
    }
    sealed(kind, (epoch, session), &body)
}
