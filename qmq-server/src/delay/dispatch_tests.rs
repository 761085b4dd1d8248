#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qmq_client::Durability;
use qmq_store::disk::SimulatedDisk;
use qmq_store::{RetentionHold, Store};

use super::*;
use crate::delay::post::Delivering;

const LIMIT: Duration = Duration::from_secs(20);
const MESSAGES: usize = 100;

/// Answers when it is told to: messages of the subject `bad` are refused, all others arrive.
struct Gate {
    open: tokio::sync::watch::Sender<bool>,
    sent: Mutex<Vec<Vec<u8>>>,
}

impl Post for Gate {
    fn send(&self, message: Message, _: Durability) -> Delivering {
        self.sent.lock().push(message.body().to_vec());
        let mut open = self.open.subscribe();
        Box::pin(async move {
            open.wait_for(|open| *open).await.unwrap();
            match message.subject() {
                "bad" => Delivery::Refused("it is too bad".to_owned()),
                _ => Delivery::Arrived,
            }
        })
    }
}

struct Setting {
    disk: SimulatedDisk,
    scheduler: Scheduler,
    letters: Arc<Letters>,
    gate: Arc<Gate>,
    dispatching: Dispatching,
}

impl Setting {
    /// Half of the messages good, half of them bad, all on their way.
    async fn start(end_max: Duration) -> Self {
        let disk = SimulatedDisk::new();
        let options = qmq_store::Options {
            retention_hold: Some(RetentionHold::default()),
            ..qmq_store::Options::with_segment_bytes(1 << 20)
        };
        let store = Store::open_on(Arc::new(disk.clone()), options).unwrap();
        let options = qmq_sched::Options {
            max_delay: Duration::from_secs(73_000 * 86_400),
            ..qmq_sched::Options::default()
        };
        let scheduler = Scheduler::open(store, SimulatedDisk::new(), options).unwrap();
        let letters = Arc::new(Letters::open(scheduler.clone(), 1_000));
        let gate = Arc::new(Gate {
            open: tokio::sync::watch::Sender::new(false),
            sent: Mutex::default(),
        });
        for number in 0..MESSAGES {
            let subject = format!("good-{number}");
            let subject = if number % 2 == 0 { &subject } else { "bad" };
            let message = Message::new(subject, format!("{number}"));
            scheduler.schedule(1, &message).unwrap();
        }
        let options = DispatchOptions {
            back_off: Arc::new(BackOff::new(
                Duration::from_millis(10),
                Duration::from_millis(40),
            )),
            ..DispatchOptions::default()
        };
        let post = Arc::clone(&gate) as Arc<dyn Post>;
        let dispatching = Dispatching::start(
            scheduler.clone(),
            Arc::clone(&letters),
            post,
            &options,
            end_max,
        );
        let setting = Self {
            disk,
            scheduler,
            letters,
            gate,
            dispatching: dispatching.unwrap(),
        };
        // One of the bad ones goes first: until it is answered, the others wait.
        setting
            .until("all on their way", |it| it.sent() > MESSAGES / 2)
            .await;
        setting
    }

    fn sent(&self) -> usize {
        self.gate.sent.lock().len()
    }

    /// Until it takes not even a short record.
    fn fill(&self) {
        self.disk.set_capacity(0);
        for len in [10_000, 1_000, 100, 1] {
            let message = Message::new("filler", vec![0; len]);
            let later = self.now_ms() + 3_600_000;
            while self.scheduler.schedule(later, &message).is_ok() {}
        }
    }

    fn now_ms(&self) -> u64 {
        self.scheduler.store().options().clock.now_ms()
    }

    fn unrecorded(&self) -> u64 {
        self.counters().unrecorded.load(Ordering::Relaxed)
    }

    fn counters(&self) -> &Counters {
        self.dispatching.counters()
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(self) {
            assert!(
                Instant::now() < end,
                "{what}: {:?}, {} sent",
                self.counters(),
                self.sent()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Each good message went once, and all are recorded.
    fn assert_settled(&self) {
        let mut good: Vec<Vec<u8>> = self.gate.sent.lock().clone();
        let number = |body: &[u8]| std::str::from_utf8(body).unwrap().parse::<usize>();
        good.retain(|body| number(body).unwrap() % 2 == 0);
        assert_eq!(good.len(), MESSAGES / 2, "a good one went twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_takes_no_record_of_is_recorded_later_and_goes_no_second_time() {
    let mut it = Setting::start(LIMIT).await;
    it.fill();
    it.gate.open.send_replace(true);
    let half = MESSAGES as u64 / 2;
    // The filler may have left room for one short record.
    it.until("unrecorded", |it| it.unrecorded() >= half - 5)
        .await;
    it.until("a letter refused", |it| {
        it.counters().burying.get().is_some()
    })
    .await;
    let why = it.counters().recording.get().unwrap();
    assert!(why.contains("the disk is full"), "{why}");
    assert_eq!(it.letters.total(), 0);
    assert!(it.scheduler.outstanding() as u64 > half / 2);

    it.disk.set_capacity(u64::MAX);
    it.until("the dead letters", |it| it.letters.total() == half)
        .await;
    it.until("the records", |it| it.scheduler.outstanding() == 0)
        .await;
    it.until("told", |it| it.unrecorded() == 0).await;
    let counters = it.counters();
    assert_eq!(counters.recording.get(), None);
    assert_eq!(counters.burying.get(), None);
    assert_eq!(counters.dispatched.load(Ordering::Relaxed), half);
    assert_eq!(counters.dead.load(Ordering::Relaxed), half);
    it.assert_settled();
    it.dispatching.stop();
    it.dispatching.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ending_server_records_what_it_could_not_before() {
    let mut it = Setting::start(LIMIT).await;
    it.fill();
    it.gate.open.send_replace(true);
    let half = MESSAGES as u64 / 2;
    it.until("unrecorded", |it| it.unrecorded() >= half - 5)
        .await;
    it.dispatching.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    it.disk.set_capacity(u64::MAX);
    it.dispatching.ended().await;
    assert_eq!(it.unrecorded(), 0);
    assert_eq!(it.counters().dispatched.load(Ordering::Relaxed), half);
    it.assert_settled();
}
