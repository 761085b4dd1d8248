//! Handing out many messages allocates as often as handing out a few: nothing is allocated for each of them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::administer::Activity;
use qmq_server::rooms::consumers::{Attached, ConsumerOptions, Consumers};
use qmq_server::rooms::deliver::{DeliverOptions, Delivering};
use qmq_server::rooms::{Caller, Outlet};
use qmq_store::{Message, Options, Store};
use qmq_wire::{Credit, Flow, FlowFlags, Start};

struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);
static COUNTS: AtomicBool = AtomicBool::new(false);

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Lets go of what it gets, as a connection that takes everything at once.
#[derive(Default)]
struct Sink {
    bytes: AtomicUsize,
}

impl Outlet for Sink {
    fn put(&self, chunks: &mut Vec<Bytes>) {
        let bytes: usize = chunks.drain(..).map(|chunk| chunk.len()).sum();
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn waiting(&self) -> usize {
        0
    }

    fn want_room(&self) {}
}

const BODY: usize = 100;
/// Each message has a header of 36 bytes, and each delivery one of 16.
const FRAMED: usize = BODY + 36;

fn hand_out(consumer: &Attached, sink: &Sink, messages: usize) -> u64 {
    let before = sink.bytes.load(Ordering::SeqCst);
    COUNTED.store(0, Ordering::SeqCst);
    COUNTS.store(true, Ordering::SeqCst);
    consumer.credit(Credit {
        messages: messages as u32,
        bytes: 0,
    });
    let end = Instant::now() + Duration::from_secs(10);
    while sink.bytes.load(Ordering::SeqCst) < before + messages * FRAMED {
        assert!(Instant::now() < end, "messages do not come");
        std::thread::yield_now();
    }
    // What is left of the turn.
    std::thread::sleep(Duration::from_millis(20));
    COUNTS.store(false, Ordering::SeqCst);
    let frames = (sink.bytes.load(Ordering::SeqCst) - before - messages * FRAMED) / 16;
    assert_eq!(frames, 1, "one turn");
    COUNTED.load(Ordering::SeqCst)
}

#[test]
fn e8_handing_out_a_thousand_messages_allocates_no_more_than_handing_out_ten() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(8 << 20)).unwrap();
    let messages: Vec<Message> = (0..5_000)
        .map(|_| Message::new("order", vec![7_u8; BODY]))
        .collect();
    for some in messages.chunks(1_000) {
        store
            .append_batch(some, qmq_store::Durability::Buffered)
            .unwrap();
    }
    let activity = Arc::new(Activity::default());
    let deliver = DeliverOptions {
        turn_messages: 1_000,
        ..DeliverOptions::default()
    };
    let delivering = Delivering::start(store.clone(), deliver, Arc::clone(&activity)).unwrap();
    let consumers =
        Consumers::start(store, ConsumerOptions::default(), delivering, activity).unwrap();
    let flow = Flow {
        subject: "order".to_owned(),
        group: "g".to_owned(),
        consumer: "c".to_owned(),
        session: 1,
        flags: FlowFlags::default(),
        start: Start::Earliest,
        filter: qmq_message::TagFilter::All,
    };
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let caller = Caller::new(access, Principal::Anonymous);
    let sink = Arc::new(Sink::default());
    let (reply, attached) = std::sync::mpsc::channel();
    let credit = Credit {
        messages: 0,
        bytes: 1 << 40,
    };
    let outlet = Arc::clone(&sink) as Arc<dyn Outlet>;
    let answer = Box::new(move |outcome| reply.send(outcome).unwrap());
    consumers.subscribe(&flow, credit, &caller, outlet, Box::new(|_| {}), answer);
    let consumer = attached
        .recv_timeout(Duration::from_secs(10))
        .unwrap()
        .unwrap();
    // What is made once is made by now.
    hand_out(&consumer, &sink, 1_000);
    let least = |messages| {
        (0..3)
            .map(|_| hand_out(&consumer, &sink, messages))
            .min()
            .unwrap()
    };
    let (ten, thousand) = (least(10), least(1_000));
    // Lists that grow by doubling do so seven times more often.
    assert!(
        thousand <= ten + 32,
        "{ten} allocations for 10 messages, {thousand} for 1,000"
    );
    consumers.delivering().stop();
}
