//! The `catch_up` row: a slave that has nothing gets everything.

use qmq_store::{Durability, Store};

use super::super::limits;
use super::super::meter::{Meter, Resources};
use super::super::report::Row;
use super::super::store::{failed, io_failed};
use super::append::row;
use super::pair::Pair;
use super::{Plan, repl_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// How often the memory is looked at, in looks at the slave's end.
const LOOKS: u64 = 20;

/// Fills a master, and lets slaves catch up, one after the other.
pub(super) fn run(plan: &Plan) -> Result<Row, Failure> {
    let folders = plan.folders();
    let [master, slave] = folders.paths();
    let end = fill(plan, master)?;
    let scratch = plan.dir.join("limit");
    let mut rate = limits::Sequential::default();
    let (mut rows, mut memory) = (Vec::new(), 0);
    for _ in 0..2 {
        let now = limits::sequential(&scratch, end).map_err(|e| io_failed(&e))?;
        rate.read = rate.read.max(now.read);
        rate.write = rate.write.max(now.write);
        let row = once(plan, end)?;
        std::fs::remove_dir_all(slave).map_err(|e| io_failed(&e))?;
        memory = memory.max(row.rss_anon_bytes);
        rows.push(row);
    }
    folders.remove()?;
    let best = rows
        .into_iter()
        .max_by(|a, b| a.msgs_per_s.total_cmp(&b.msgs_per_s));
    let mut row = best.ok_or_else(|| repl_failed(&"nothing was measured".into()))?;
    row.rss_anon_bytes = memory;
    row.limit_msgs_per_s = rate.read.min(rate.write) * plan.messages as f64 / end as f64;
    row.ratio_to_limit = row.msgs_per_s / row.limit_msgs_per_s;
    Ok(row)
}

/// A slave that has nothing yet gets everything. The master's log is read from the disk.
fn once(plan: &Plan, end: u64) -> Result<Row, Failure> {
    let folders = plan.folders();
    let [master, _] = folders.paths();
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
    let mut row = row(plan, "catch_up", &meter, &Latency::new(), 0.0)?;
    row.rss_anon_bytes = row.rss_anon_bytes.max(most);
    row.core_wait = None;
    pair.finish().map_err(|e| repl_failed(&e))?;
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
