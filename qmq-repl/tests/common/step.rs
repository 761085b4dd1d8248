//! Members on stores, driven in one thread without a network between them.

use std::time::Duration;

use qmq_repl::{Event, Node, Peer, StoreLog};

/// All members say once what they have to say; the authority grants each epoch once. Whether a frame went over.
pub(crate) fn step(
    nodes: &mut [Option<Node<StoreLog>>],
    now: Duration,
    epoch: &mut u64,
    events: &mut Vec<(usize, Event)>,
) -> bool {
    let mut sent = false;
    for n in 0..nodes.len() {
        let Some(node) = &mut nodes[n] else {
            continue;
        };
        if node.poll_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        node.log_moved(now);
        let out: Vec<_> = std::iter::from_fn(|| node.poll_transmit(now)).collect();
        while let Some(event) = node.poll_event() {
            match event {
                Event::LatestEpochWanted => node.latest_epoch(now, *epoch),
                Event::EpochWanted { above } => {
                    *epoch = (*epoch).max(above) + 1;
                    node.epoch_granted(now, *epoch);
                }
                _ => {}
            }
            events.push((n, event));
        }
        for (peer, bytes) in out {
            sent = true;
            if let Some(other) = &mut nodes[usize::from(peer.0)] {
                other.handle(now, Peer(n as u16), &bytes);
            }
        }
    }
    sent
}
