//! The `catch_up` row: a slave that has nothing gets everything.

use qmq_store::{Durability, Store};

use super::super::meter::{Meter, Resources};
use super::super::report::Row;
use super::super::store::{failed, io_failed};
use super::super::{limits, limits::Sequential};
use super::append::row;
use super::pair::Pair;
use super::{Plan, repl_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// How often the memory is looked at, in looks at the slave's end.
const LOOKS: u64 = 20;

/// Fills a master, and lets a slave catch up.
pub(super) fn run(plan: &Plan) -> Result<Row, Failure> {
    let folders = plan.folders();
    let [master, _] = folders.paths();
    let end = fill(plan, master)?;
    let scratch = plan.dir.join("limit");
    let limit = limit(&scratch, end)?;
    for (_, file) in limits::segment_files(master).map_err(|e| io_failed(&e))? {
        limits::forget(&file).map_err(|e| io_failed(&e))?;
    }
    let bar = progress::of_bytes("catch_up");
    bar.set_length(end);
    let mut meter = Meter::new(&plan.dir);
    let mut most = 0;
    let pair = Pair::start(folders.paths(), &plan.options(), Box::new(|_| {}))
        .map_err(|e| repl_failed(&e))?;
    let mut looks = 0_u64;
    let mut look = |written| {
        bar.set_position(written);
        if looks.is_multiple_of(LOOKS) {
            let now = Resources::now().unwrap_or_default();
            most = most.max(now.rss_anon_bytes);
        }
        looks += 1;
    };
    let followed = meter
        .piece(|| pair.catch_up(true, &mut look))
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    followed.map_err(|e| repl_failed(&e))?;
    let records = limit * plan.messages as f64 / end as f64;
    let mut row = row(plan, "catch_up", &meter, &Latency::new(), records)?;
    row.rss_anon_bytes = row.rss_anon_bytes.max(most);
    pair.finish().map_err(|e| repl_failed(&e))?;
    folders.remove()?;
    Ok(row)
}

/// A store with everything, closed. Returns the end of its log.
fn fill(plan: &Plan, dir: &std::path::Path) -> Result<u64, Failure> {
    let store = Store::open(dir, plan.options()).map_err(|e| failed("cannot open a store", &e))?;
    let message = plan.message();
    for _ in 0..plan.messages {
        store
            .append_with(&message, Durability::Buffered)
            .map_err(|e| failed("cannot append", &e))?;
    }
    let end = store.watermarks().written;
    store.close().map_err(|e| failed("cannot close", &e))?;
    Ok(end)
}

/// Bytes a second that the machine reads or writes in sequence, whichever is slower; the better of two tries.
fn limit(scratch: &std::path::Path, bytes: u64) -> Result<f64, Failure> {
    let mut best = Sequential::default();
    for _ in 0..2 {
        let rate = limits::sequential(scratch, bytes).map_err(|e| io_failed(&e))?;
        best.read = best.read.max(rate.read);
        best.write = best.write.max(rate.write);
    }
    Ok(best.read.min(best.write))
}
