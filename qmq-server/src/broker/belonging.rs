//! A broker in its cluster: it takes messages while the meta servers' table says that it is a master, and says whether it does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use qmq_wire::{Code, End};
use tokio::task::AbortHandle;

use crate::doors::quic::{Plate, QuicDoor};
use crate::membership::{Membership, MembershipOptions, Standing};
use crate::rooms::administer::Administering;
use crate::rooms::consumers::Consumers;
use crate::rooms::produce::Producing;

/// What is said until a meta server has said what the broker is.
pub(super) const NOT_YET: &str = "this broker has not heard from a meta server yet what it is: it takes no messages; its log and /health say what it waits for";
/// How often it is looked whether the broker takes messages.
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

/// Takes no messages and hands out none.
pub(super) fn hold(producing: &Producing, consumers: &Consumers, why: &str) {
    producing.gate().hold(why);
    consumers.gate().hold(why);
}

pub(super) fn start(
    mut options: MembershipOptions,
    quic: &QuicDoor,
    administering: &Arc<Administering>,
) -> Belonging {
    if options.port == 0 {
        options.port = quic.address().port();
    }
    let membership = Membership::start(options);
    let following = tokio::spawn(follow(
        membership.clone(),
        quic.plate().clone(),
        Arc::clone(administering),
    ));
    let looking = tokio::spawn(look(membership.clone(), Arc::clone(administering)));
    Belonging {
        membership,
        following: following.abort_handle(),
        looking: looking.abort_handle(),
    }
}

/// Opens and shuts the rooms as the meta servers say.
async fn follow(membership: Membership, plate: Plate, room: Arc<Administering>) {
    let mut standing = membership.standing();
    loop {
        let seen = standing.borrow_and_update().clone();
        match seen {
            Standing::Serving { acquired, .. } => {
                plate.set(&acquired.group, acquired.epoch);
                *room.group.write() = acquired.group;
                room.producing.gate().release();
                room.consumers.gate().release();
                membership.online();
            }
            Standing::Waiting { why } => hold(&room.producing, &room.consumers, &why),
            Standing::Stopped { why, .. } => {
                hold(&room.producing, &room.consumers, &why);
                room.consumers.end_all(End {
                    code: Some(Code::NotMaster),
                    text: why,
                    unseen: false,
                });
            }
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the meta servers when the broker takes no messages, and when it does again.
async fn look(membership: Membership, room: Arc<Administering>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let room = Arc::clone(&room);
        // It may ask the disk how much room there is.
        let looked = tokio::task::spawn_blocking(move || takes_messages(&room));
        match looked.await {
            Ok(takes) => membership.set_writable(takes),
            Err(_) => return,
        }
    }
}

fn takes_messages(room: &Administering) -> bool {
    let was_full = room.producing.counters().disk_full.load(Ordering::Relaxed);
    // With room on the disk it is sent to again: else nobody would ever try.
    let is_full = was_full && room.store.stats().free_bytes < room.bytes_needed();
    room.store.health().is_ok() && !is_full
}
