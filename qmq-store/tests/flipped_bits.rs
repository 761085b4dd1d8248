//! Each byte of a small store flipped in turn: reported or harmless, never served as good data, never costing other messages.
//!
//! `QMQ_FLIP_STEP=1 cargo test --release --test flipped_bits -- --nocapture` takes every byte; the default takes every 401st of the long files
//! and every 5th byte of the short ones. `QMQ_FLIP_FIRST` names the first byte, `QMQ_FLIP_FILE` a single file.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use common::damaged::{drain, read_all};
use common::model::Model;
use common::rng::Rng;
use common::workload::Session;
use qmq_store::disk::{Disk, SimulatedDisk};
use qmq_store::{Durability, ManualClock, Options};

/// A store to harm, and what is known of it.
struct Subject {
    disk: SimulatedDisk,
    model: Model,
    options: Options,
    clock: Arc<ManualClock>,
    closed: bool,
    /// What no frame says to be synced begins here.
    tail: u64,
}

fn build(closed: bool) -> Subject {
    let mut rng = Rng::new(if closed { 11 } else { 12 });
    let (options, clock) = common::small_options();
    let disk = SimulatedDisk::new();
    let model = Model::default();
    let mut session = Session::new(disk.clone(), &options, Arc::clone(&clock), model);
    session.run(&mut rng, 330);
    session.store.sync().expect("a sync");
    let tail = session.store.watermarks().synced;
    for _ in 0..6 {
        session
            .append(&mut rng, Durability::Buffered)
            .expect("an append");
    }
    session.store.sync().expect("a sync");
    session.note();
    if closed {
        session.store.clone().close().expect("a close");
    }
    let Session { store, model, .. } = session;
    drop(store);
    Subject {
        disk: disk.crash(0),
        model,
        options,
        clock,
        closed,
        tail,
    }
}

/// Returns whether the flip showed.
fn check_flip(subject: &Subject, name: &str, offset: u64, bit: u8) -> bool {
    let disk = subject.disk.process_killed();
    disk.flip_bit(name, offset, bit).expect("the byte is there");
    let store = match common::open(&disk, &subject.options) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(name, "store", "the open fails: {error}");
            return true;
        }
    };
    let report = store.open_report().clone();
    let reported = !report.damages.is_empty();
    let losses = read_all(&store, &subject.model);
    assert!(
        losses.damaged <= 1,
        "{losses:?}: other messages are damaged, {report:?}"
    );
    let base: Option<u64> = name.strip_prefix("log-").and_then(|base| base.parse().ok());
    // A bad record that nothing says to be synced is what a loss of power leaves: the log ends there, and the report says so.
    let in_tail = base.is_some_and(|base| base + offset >= subject.tail + 64);
    if in_tail && !subject.closed {
        assert!(
            losses == Default::default() || report.cut_bytes > 0 || reported,
            "{losses:?}"
        );
    } else {
        assert_eq!(report.cut_bytes, 0, "{losses:?} {report:?}");
        assert!(losses.missing == 0 || (reported && !subject.closed && losses.missing == 1));
        assert!(
            losses.damaged + losses.missing <= 1,
            "{losses:?} {report:?}"
        );
    }
    assert!(
        losses.damaged == 0 || name.starts_with("log-"),
        "{name} has no messages"
    );
    let again = drain(&store, &subject.clock, &subject.model);
    assert!(
        again == 0 || reported || losses.damaged > 0 || report.cut_bytes > 0,
        "{again} again"
    );
    reported || losses.damaged > 0 || report.cut_bytes > 0
}

fn flip_all(subject: &Subject) {
    let step = common::number_from_env("QMQ_FLIP_STEP", 401);
    let first = common::number_from_env("QMQ_FLIP_FIRST", 0);
    let only = std::env::var("QMQ_FLIP_FILE").ok();
    let mut rng = Rng::new(first);
    let mut files = subject.disk.list().expect("the folder is listed");
    files.retain(|file| only.as_ref().is_none_or(|only| *only == file.name));
    for file in files {
        let step = if file.len < 2_000 { step.min(5) } else { step };
        let (mut flipped, mut shown) = (0, 0);
        let mut offset = first;
        while offset < file.len {
            let bit = rng.below(8) as u8;
            let (name, closed) = (&file.name, subject.closed);
            let flip = AssertUnwindSafe(|| check_flip(subject, name, offset, bit));
            match catch_unwind(flip) {
                Ok(showed) => shown += u64::from(showed),
                Err(panic) => {
                    println!("{name}, byte {offset}, bit {bit}, closed {closed}: fails");
                    resume_unwind(panic);
                }
            }
            flipped += 1;
            offset += step;
        }
        println!(
            "{}: {flipped} of {} bytes flipped, {shown} showed",
            file.name, file.len
        );
    }
}

#[test]
fn a_flipped_bit_of_a_closed_store_costs_no_other_message() {
    flip_all(&build(true));
}

#[test]
fn a_flipped_bit_of_a_store_that_lost_its_power_costs_no_other_message() {
    flip_all(&build(false));
}

#[test]
fn what_a_damaged_pull_record_handed_out_comes_again_and_passes_the_filter() {
    use qmq_store::{DamageKind, Message, PullRequest, Store, TagFilter};

    let (options, clock) = common::small_options();
    let disk = SimulatedDisk::new();
    let store = common::open(&disk, &options).expect("the store opens");
    let odd = |n: u64| if n % 2 == 1 { "odd" } else { "even" };
    for n in 0..40 {
        let message = Message::new("s", format!("{n}")).tag(odd(n));
        store
            .append_with(&message, Durability::Buffered)
            .expect("an append");
    }
    let all = PullRequest::new("s", "all", "one").max(10);
    let odds = PullRequest::new("s", "odds", "one").filter(TagFilter::Any(vec!["odd".into()]));
    let odds = odds.max(10);
    let mut records = Vec::new();
    for request in [&all, &odds] {
        assert!(
            store
                .pull(&request.clone().max_bytes(1))
                .expect("a pull")
                .len()
                == 1
        );
        let begin = store.watermarks().written;
        assert_eq!(store.pull(request).expect("a pull").len(), 10);
        records.push((begin, store.watermarks().written));
        let rest = store.pull(request).expect("a pull");
        assert_eq!(store.ack(&rest).expect("an ack").acked, rest.len() as u64);
    }
    store.sync().expect("a sync");
    store
        .append(&Message::new("s", "last").tag("even"))
        .expect("an append");
    drop(store);
    let left = disk.crash(0);
    for (_, end) in records {
        left.flip_bit("log-00000000000000000000", 64 + end - 9, 0)
            .expect("a flip");
    }
    let store = common::open(&left, &options).expect("the store opens");
    let kinds: Vec<_> = store
        .open_report()
        .damages
        .iter()
        .map(|damage| damage.kind)
        .collect();
    assert_eq!(kinds, [DamageKind::ActionBody; 2]);
    clock.advance(1);
    let drain = |store: &Store, request: &PullRequest| {
        let mut got = Vec::new();
        loop {
            let batch = store.pull(request).expect("a pull");
            if batch.is_empty() {
                return got;
            }
            got.extend(batch.iter().map(|one| one.sequence()));
        }
    };
    // The first message is held, those of the damaged pull come again, the acked ones do not, the others follow.
    let expected: Vec<u64> = (0..11).chain(21..41).collect();
    assert_eq!(drain(&store, &all), expected);
    let expected: Vec<u64> = (0..20).filter(|n| n % 2 == 1 && *n < 23).collect();
    let got = drain(&store, &odds);
    assert!(got.iter().all(|n| n % 2 == 1), "{got:?} pass the filter");
    assert!(expected.iter().all(|n| got.contains(n)), "{got:?}");
}
