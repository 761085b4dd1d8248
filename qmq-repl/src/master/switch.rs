//! A planned switch: no more appends, wait until one slave has synced everything, and ask it to be master.

use std::time::Duration;

use super::Master;
use crate::core::Core;
use crate::event::{Event, SwitchError};
use crate::log::{MasterLog, SlaveLog};
use crate::message::Message;
use crate::options::Peer;

#[derive(Debug)]
pub(super) struct Switch {
    to: Peer,
    deadline: Duration,
    /// When the slave is asked, or asked again.
    ask_at: Duration,
    asked: bool,
}

impl Master {
    pub(crate) fn switch_to<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        to: Peer,
    ) -> Result<(), SwitchError> {
        let link = self
            .links
            .get(to.index())
            .ok_or(SwitchError::NotFollowing)?;
        if !link.follows() || link.partial {
            return Err(SwitchError::NotFollowing);
        }
        let bytes = core.log.written().saturating_sub(link.buffered);
        if bytes > core.options.window_bytes {
            return Err(SwitchError::Behind { bytes });
        }
        self.switch = Some(Switch {
            to,
            deadline: core.now + core.options.switch_timeout,
            ask_at: core.now,
            asked: false,
        });
        self.judge(core);
        self.drive_switch(core);
        Ok(())
    }

    /// Asks the slave once it has everything; calls the switch off when it takes too long.
    pub(super) fn drive_switch<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let Some(switch) = &mut self.switch else {
            return;
        };
        let (to, now, end) = (switch.to, core.now, core.log.written());
        let link = &self.links[to.index()];
        if now >= switch.deadline {
            self.switch = None;
            core.event(Event::SwitchFailed { to });
            return;
        }
        // The rest is for the answer's way: who begins to stand before that is heard of before the switch is called off.
        let until = switch
            .deadline
            .saturating_sub(core.options.switch_timeout / 4);
        if now >= until {
            switch.ask_at = switch.deadline;
        }
        if now < switch.ask_at {
            return;
        }
        if switch.asked {
            switch.ask_at = now + core.options.switch_timeout / 8;
        }
        if !link.follows() || link.partial || link.synced < end {
            return;
        }
        if !switch.asked {
            switch.asked = true;
            core.event(Event::HandedOver { to, end });
        }
        switch.ask_at = now + core.options.switch_timeout / 8;
        let session = link.session;
        core.send(to, session, Message::HandOver { end, until });
    }

    pub(super) fn switch_timeout(&self) -> Duration {
        let Some(switch) = &self.switch else {
            return Duration::MAX;
        };
        match switch.asked {
            true => switch.deadline.min(switch.ask_at),
            false => switch.deadline,
        }
    }
}
