//! What a master knows of its slaves.

use std::time::Duration;

use super::Master;
use super::snapshot::Outgoing;
use crate::core::Core;
use crate::lag::SlaveLag;
use crate::link::Feed;
use crate::log::{MasterLog, SlaveLog};
use crate::options::Peer;

impl Master {
    /// The log is kept from here on: what slaves need, and no more than is allowed.
    pub(crate) fn hold<L: MasterLog + SlaveLog>(&self, core: &Core<L>) -> u64 {
        let least = core
            .log
            .written()
            .saturating_sub(core.options.hold_bytes_max);
        (core.group.others())
            .map(|slave| self.links[slave.index()].needs.unwrap_or(0))
            .min()
            .unwrap_or(u64::MAX)
            .max(least)
    }

    pub(crate) fn lag<L: MasterLog + SlaveLog>(&self, core: &Core<L>) -> Vec<SlaveLag> {
        let written = core.log.written();
        let timeout = core.options.slave_sync_timeout;
        let total = self.outgoing.as_ref().map_or(0, Outgoing::total);
        (core.group.others())
            .map(|slave| {
                let link = &self.links[slave.index()];
                let behind_bytes = written - link.buffered.min(written);
                let stalled = match behind_bytes {
                    0 => Duration::ZERO,
                    _ => core.now.saturating_sub(link.progress),
                };
                SlaveLag {
                    slave,
                    follows: link.follows(),
                    in_sync: link.follows() && !link.partial && stalled < timeout,
                    buffered: link.buffered,
                    synced: link.synced,
                    behind_bytes,
                    stalled,
                    heard: link.heard,
                    round_trip: link.round_trip,
                    snapshot: match link.feed {
                        Feed::Snapshot { have, .. } => Some((have, total)),
                        _ => None,
                    },
                }
            })
            .collect()
    }

    /// Who may have what is damaged here, best last.
    pub(crate) fn holders<L: MasterLog + SlaveLog>(&self, core: &Core<L>) -> Vec<Peer> {
        let mut holders: Vec<Peer> = (core.group.others())
            .filter(|slave| self.links[slave.index()].follows())
            .collect();
        holders.sort_unstable_by_key(|slave| self.links[slave.index()].buffered);
        holders
    }
}
