//! A delay server in its cluster: it takes messages while the meta servers' table says that it does, and says whether it does.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::control::Controlling;
use crate::doors::quic::{Plate, QuicDoor};
use crate::membership::{Membership, MembershipOptions, Standing};

/// What is said until a meta server has said what the delay server is.
pub(super) const NOT_YET: &str = "this delay server has not heard from a meta server yet what it is: it takes no messages; its log and /health say what it waits for";
/// How often it is looked whether the delay server takes messages.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Belongs until it is dropped.
#[derive(Debug)]
pub(super) struct Belonging {
    pub(super) membership: Membership,
    following: AbortHandle,
    looking: AbortHandle,
}

impl Drop for Belonging {
    fn drop(&mut self) {
        self.following.abort();
        self.looking.abort();
    }
}

pub(super) fn start(
    mut options: MembershipOptions,
    quic: &QuicDoor,
    room: &Arc<Controlling>,
) -> Belonging {
    if options.port == 0 {
        options.port = quic.address().port();
    }
    let membership = Membership::start(options);
    let plate = quic.plate().clone();
    let following = tokio::spawn(follow(membership.clone(), plate, Arc::clone(room)));
    let looking = tokio::spawn(look(membership.clone(), Arc::clone(room)));
    Belonging {
        membership,
        following: following.abort_handle(),
        looking: looking.abort_handle(),
    }
}

/// Opens and shuts the room as the meta servers say. What waits is delivered whatever they say.
async fn follow(membership: Membership, plate: Plate, room: Arc<Controlling>) {
    let mut standing = membership.standing();
    loop {
        let seen = standing.borrow_and_update().clone();
        match seen {
            Standing::Serving { acquired, .. } => {
                plate.set(&acquired.group, acquired.epoch);
                *room.group.write() = acquired.group;
                room.scheduling.gate().release();
                membership.online();
            }
            Standing::Waiting { why } | Standing::Stopped { why, .. } => {
                room.scheduling.gate().hold(&why);
            }
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the meta servers when the delay server takes no messages, and when it does again.
async fn look(membership: Membership, room: Arc<Controlling>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let room = Arc::clone(&room);
        // It may ask the disk how much room there is.
        let looked = tokio::task::spawn_blocking(move || room.takes_messages());
        match looked.await {
            Ok(takes) => membership.set_writable(takes),
            Err(_) => return,
        }
    }
}
