//! The room of the consumers when it is behind: nobody who must not wait waits for it, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::administer::Activity;
use qmq_server::rooms::consumers::{Attached, ConsumerOptions, Consumers};
use qmq_server::rooms::deliver::{DeliverOptions, Delivering};
use qmq_server::rooms::{Caller, Outlet};
use qmq_store::{Message, Options, Store};
use qmq_wire::{Code, Credit, End, Flow, FlowFlags, Refusal, Renew, Start};

/// Longest wait for what should come.
const LIMIT: Duration = Duration::from_secs(20);

/// Lets go of what it gets.
#[derive(Default)]
struct Sink {
    /// Once, not before that.
    gate: Mutex<Option<Receiver<()>>>,
}

impl Outlet for Sink {
    fn put(&self, chunks: &mut Vec<Bytes>) {
        if let Some(gate) = self.gate.lock().unwrap().take() {
            wait(&gate);
        }
        chunks.clear();
    }

    fn waiting(&self) -> usize {
        0
    }

    fn want_room(&self) {}
}

struct Room {
    consumers: Consumers,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.consumers.delivering().stop();
        self.consumers.stop();
    }
}

type Reply = Box<dyn FnOnce(Result<Attached, Refusal>) + Send>;

impl Room {
    fn open(options: ConsumerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::with_segment_bytes(8 << 20)).unwrap();
        let activity = Arc::new(Activity::default());
        let deliver = DeliverOptions::default();
        let delivering = Delivering::start(store.clone(), deliver, Arc::clone(&activity)).unwrap();
        let consumers = Consumers::start(store.clone(), options, delivering, activity).unwrap();
        Self {
            consumers,
            store,
            _folder: folder,
        }
    }

    fn subscribe(&self, consumer: &str, reply: Reply) {
        self.subscribe_with(consumer, Sink::default(), reply);
    }

    fn subscribe_with(&self, consumer: &str, outlet: Sink, reply: Reply) {
        let flow = Flow {
            subject: "order".to_owned(),
            group: "g".to_owned(),
            consumer: consumer.to_owned(),
            session: 1,
            flags: FlowFlags::default(),
            start: Start::Earliest,
            filter: qmq_message::TagFilter::All,
        };
        let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
        let caller = Caller::new(access, Principal::Anonymous);
        let credit = Credit {
            messages: 100,
            bytes: 1 << 20,
        };
        let outlet = Arc::new(outlet);
        self.consumers
            .subscribe(&flow, credit, &caller, outlet, Box::new(|_| {}), reply);
    }

    fn attach(&self, consumer: &str) -> Attached {
        self.attach_with(consumer, Sink::default())
    }

    fn attach_with(&self, consumer: &str, outlet: Sink) -> Attached {
        let (reply, attached) = channel();
        let reply = Box::new(move |outcome| reply.send(outcome).unwrap());
        self.subscribe_with(consumer, outlet, reply);
        attached.recv_timeout(LIMIT).unwrap().unwrap()
    }

    /// Keeps the room's thread until it is told to go on; it has begun to wait.
    fn keep(&self) -> Sender<()> {
        let (go_on, gate) = channel();
        let (begun, begins) = channel();
        self.consumers.is_anything_held(Box::new(move |_| {
            begun.send(()).unwrap();
            wait(&gate);
        }));
        begins.recv_timeout(LIMIT).unwrap();
        go_on
    }

    fn is_anything_held(&self) -> bool {
        let (reply, held) = channel();
        self.consumers
            .is_anything_held(Box::new(move |held| reply.send(held).unwrap()));
        held.recv_timeout(LIMIT).unwrap()
    }

    fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !so(self) {
            assert!(Instant::now() < end, "{what} took longer than {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn wait(gate: &Receiver<()>) {
    let _ = gate.recv_timeout(2 * LIMIT);
}

fn renew(consumer: &Attached) {
    consumer.renew(Renew {
        flow: None,
        incarnation: consumer.incarnation,
        ranges: vec![(1, 1)],
    });
}

/// Requests wait until there is no room for more.
fn fill(room: &Room, consumer: &Attached) {
    let (_, most) = room.consumers.queue();
    for _ in 0..=most {
        renew(consumer);
    }
    assert_eq!(room.consumers.queue(), (most, most));
}

/// `what` ends while the room's thread stands still.
fn does_not_wait(name: &str, what: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    let outcome = is_done.recv_timeout(LIMIT);
    assert!(outcome.is_ok(), "{name} waits for the room");
}

fn few_requests() -> ConsumerOptions {
    ConsumerOptions {
        queue_max: 8,
        ..ConsumerOptions::default()
    }
}

#[test]
fn whoever_goes_while_the_room_is_full_waits_for_nobody_and_is_not_forgotten() {
    let room = Room::open(few_requests());
    let (stays, goes) = (room.attach("stays"), room.attach("goes"));
    assert_eq!(room.consumers.attached(), 2);
    let go_on = room.keep();
    fill(&room, &stays);
    does_not_wait("who goes", move || drop(goes));
    let consumers = room.consumers.clone();
    does_not_wait("new rights", move || consumers.recheck());
    let consumers = room.consumers.clone();
    does_not_wait("a question", move || {
        consumers.is_anything_held(Box::new(|_| {}));
    });
    go_on.send(()).unwrap();
    room.until("going", |room| room.consumers.attached() == 1);
    assert!(room.consumers.is_attached("order", "g", "stays"));
    let go_on = room.keep();
    fill(&room, &stays);
    let consumers = room.consumers.clone();
    does_not_wait("the end of all", move || {
        consumers.end_all(End {
            code: Some(Code::Draining),
            text: "the end".to_owned(),
            unseen: false,
        });
    });
    go_on.send(()).unwrap();
    room.until("the end", |room| room.consumers.attached() == 0);
}

#[test]
fn the_rooms_own_thread_lets_go_of_a_consumer_though_the_room_is_full() {
    let room = Room::open(few_requests());
    let stays = room.attach("stays");
    let (go_on, gate) = channel();
    let (begun, begins) = channel();
    // As a stream does that is lost before it gets its answer.
    room.subscribe(
        "goes",
        Box::new(move |attached| {
            begun.send(()).unwrap();
            wait(&gate);
            drop(attached);
        }),
    );
    begins.recv_timeout(LIMIT).unwrap();
    fill(&room, &stays);
    go_on.send(()).unwrap();
    room.until("letting go", |room| room.consumers.attached() == 1);
    assert!(!room.is_anything_held());
}

/// A room of which a consumer holds a message for `ack_timeout`, stopped for longer than that. What the consumer sends meanwhile is for `meanwhile`.
fn stopped(
    ack_timeout: Duration,
    meanwhile: impl FnOnce(&Attached),
) -> (Room, Attached, Sender<()>) {
    let room = Room::open(ConsumerOptions {
        ack_timeout,
        session_timeout: Duration::from_secs(60),
        ..ConsumerOptions::default()
    });
    let consumer = room.attach("c");
    let message = Message::new("order", b"1".to_vec());
    room.store.append(&message).unwrap();
    room.until("a delivery", Room::is_anything_held);
    let go_on = room.keep();
    meanwhile(&consumer);
    std::thread::sleep(ack_timeout + ack_timeout / 4);
    (room, consumer, go_on)
}

fn leases_lost(room: &Room) -> u64 {
    let lost = &room.consumers.counters().leases_lost;
    lost.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn who_renewed_while_the_room_stood_still_is_heard_before_leases_fall() {
    let (room, _consumer, go_on) = stopped(Duration::from_secs(2), renew);
    let (look, looked) = channel();
    let lost = room.consumers.clone();
    // Behind the renewal, so that it shows what has happened up to there.
    room.consumers.is_anything_held(Box::new(move |held| {
        let lost = &lost.counters().leases_lost;
        let lost = lost.load(std::sync::atomic::Ordering::SeqCst);
        look.send((held, lost)).unwrap();
    }));
    go_on.send(()).unwrap();
    assert_eq!(looked.recv_timeout(LIMIT).unwrap(), (true, 0));
}

#[test]
fn time_in_which_the_room_stood_still_is_not_a_consumers() {
    let (room, _consumer, go_on) = stopped(Duration::from_secs(3), |_| {});
    // The first question is heard before the look, and keeps the room until the second stands behind the look.
    let (second, is_second) = channel();
    room.consumers
        .is_anything_held(Box::new(move |_| wait(&is_second)));
    go_on.send(()).unwrap();
    let (reply, held) = channel();
    room.until("the first", |room| room.consumers.queue().0 == 0);
    room.consumers
        .is_anything_held(Box::new(move |held| reply.send(held).unwrap()));
    second.send(()).unwrap();
    assert!(held.recv_timeout(LIMIT).unwrap());
    assert_eq!(leases_lost(&room), 0);
    // And from then on it runs.
    room.until("a lease", |room| leases_lost(room) == 1);
}

#[test]
fn a_group_that_everybody_left_in_a_turn_has_no_second_one_beside_it() {
    let room = Room::open(ConsumerOptions::default());
    let (go_on, gate) = channel();
    let gate = Mutex::new(Some(gate));
    let consumer = room.attach_with("c", Sink { gate });
    let message = Message::new("order", b"1".to_vec());
    room.store.append(&message).unwrap();
    room.until("a delivery", Room::is_anything_held);
    // Its turn is under way until the gate opens.
    let delivering = room.consumers.delivering();
    drop(consumer);
    assert_eq!(delivering.flows(), 1, "whoever comes now joins that one");
    go_on.send(()).unwrap();
    room.until("the turn", |_| delivering.flows() == 0);
}
