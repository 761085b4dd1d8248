//! An order that is not paid within 15 minutes is called off; a payment cancels that, and knows whether it came in time.
//!
//! `cargo run -p qmq-examples --example order_timeout`

use std::error::Error;
use std::sync::Arc;

use qmq_sched::{Cancelled, DelayId, Message, Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{ManualClock, RetentionHold, Store};

const TIMEOUT_MS: u64 = 15 * 60_000;

fn place_order(scheduler: &Scheduler, order: &str, now_ms: u64) -> Result<DelayId, Box<dyn Error>> {
    let timeout = Message::new("order.timeout", order.to_owned());
    Ok(scheduler.schedule(now_ms + TIMEOUT_MS, &timeout)?)
}

/// Whether the payment came in time.
fn pay(scheduler: &Scheduler, timeout: DelayId) -> Result<bool, Box<dyn Error>> {
    Ok(scheduler.cancel(timeout)? == Cancelled::Done)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let noon = 1_800_000_000_000;
    let clock = Arc::new(ManualClock::at(noon));
    let options = qmq_store::Options {
        clock: Arc::clone(&clock) as Arc<_>,
        retention_hold: Some(RetentionHold::default()),
        ..qmq_store::Options::with_segment_bytes(1 << 20)
    };
    let store = Store::open(folder.path().join("log"), options)?;
    let index = MappedDisk::open(folder.path().join("index"), true)?;
    let scheduler = Scheduler::open(store, index, Options::default())?;

    let quick = place_order(&scheduler, "4711", noon)?;
    let slow = place_order(&scheduler, "4712", noon)?;
    assert!(pay(&scheduler, quick)?);
    clock.advance(TIMEOUT_MS);
    for fired in scheduler.due(noon + TIMEOUT_MS, 100)? {
        let message = fired.message?;
        println!(
            "order {} was not paid",
            String::from_utf8_lossy(message.body())
        );
        assert_eq!(fired.id, slow);
        scheduler.dispatched(&[fired.id])?;
    }
    // Too late, and it is told so.
    assert!(!pay(&scheduler, slow)?);
    Ok(())
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    main()
}
