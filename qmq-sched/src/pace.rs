//! How fast a backlog is handed out.

/// How fast a backlog is handed out: a share for each ms, of which no more is saved up than that of a second.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: Option<u64>,
    seen_ms: u64,
    /// Thousandths of messages that may go.
    share: u64,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u32>, opened_ms: u64) -> Self {
        let per_second = per_second.map(u64::from);
        Self {
            per_second,
            seen_ms: opened_ms,
            share: per_second.unwrap_or(0) * 1_000,
        }
    }

    /// How many more of the backlog may go at `now_ms`.
    pub(crate) fn room(&mut self, now_ms: u64) -> u64 {
        let Some(per_second) = self.per_second else {
            return u64::MAX;
        };
        // A clock that goes back gives nothing and takes nothing.
        let passed = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = now_ms;
        let grown = self.share.saturating_add(passed.saturating_mul(per_second));
        self.share = grown.min(per_second * 1_000);
        self.share / 1_000
    }

    pub(crate) fn handed_out(&mut self, count: u64) {
        self.share = self.share.saturating_sub(count.saturating_mul(1_000));
    }

    /// From when on one more may go.
    pub(crate) fn next_ms(&self) -> u64 {
        self.per_second.map_or(0, |per_second| {
            let missing = 1_000_u64.saturating_sub(self.share);
            self.seen_ms.saturating_add(missing.div_ceil(per_second))
        })
    }
}
