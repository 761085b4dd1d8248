//! Files beside the log: the master's heartbeat says which version there is; what is not here is fetched, part by part, and what is here is
//! compared once in a session. The set is taken when all of it has come.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use qmq_store::{PrimaryFile, PrimarySet};

use super::{Slave, State};
use crate::core::Core;
use crate::event::Event;
use crate::log::{MasterLog, SlaveLog};
use crate::message::{FilePart, Message};

/// What is known of the files in a session.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Version of the set that is here.
    taken: u64,
    /// Files that are here and equal to the master's.
    equal: HashSet<PrimaryFile>,
    coming: Coming,
    /// When the present question was asked. No new set is asked for before `wait_until`.
    asked: Duration,
    wait_until: Duration,
}

#[derive(Debug, Default)]
enum Coming {
    #[default]
    Nothing,
    /// Which files there are is asked.
    List,
    /// The next part is at `offset` of the file `at`.
    Parts {
        set: PrimarySet,
        at: usize,
        offset: u64,
        /// Of the question: another one for each part, so that no late answer fits.
        ticket: u64,
    },
}

impl Slave {
    /// The master has this version of its files. Without any, there is nothing to wait for.
    pub(super) fn files_at<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, version: u64) {
        let files = &mut self.files;
        if version == 0 {
            return core.files_came();
        }
        let idle = matches!(files.coming, Coming::Nothing) && core.now >= files.wait_until;
        if version == files.taken || !idle {
            return;
        }
        if core.log.files().is_none() {
            let error = io::Error::other("this member has no place for them; open it with one");
            self.files_failed(core, &error);
        } else {
            files.coming = Coming::List;
            self.ask_files(core);
        }
    }

    pub(super) fn ask_files<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let (State::Following { session }, Some(master)) = (self.state, self.master) else {
            return;
        };
        self.files.asked = core.now;
        let message = match &self.files.coming {
            Coming::Nothing => return,
            Coming::List => Message::FilesAsk,
            Coming::Parts {
                set,
                at,
                offset,
                ticket,
            } => {
                let file = &set.files[*at];
                let len = (file.len - offset).min(core.options.frame_bytes as u64);
                let here = core
                    .log
                    .files()
                    .map(|files| files.read_coming(file, *offset, len as usize));
                // What cannot be read is fetched.
                let here = here.and_then(Result::ok).flatten();
                Message::PartAsk {
                    ticket: *ticket,
                    file: file.clone(),
                    offset: *offset,
                    len: len as u32,
                    crc: here.map(|bytes| crc32fast::hash(&bytes)),
                }
            }
        };
        core.send(master, session, message);
    }

    /// When the present question is asked again.
    pub(super) fn files_timeout(&self, retry: Duration) -> Duration {
        match self.files.coming {
            Coming::Nothing => Duration::MAX,
            _ => self.files.asked + retry,
        }
    }

    pub(super) fn files_listed<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        set: PrimarySet,
    ) {
        if !matches!(self.files.coming, Coming::List) {
            return;
        }
        if core.log.synced() < set.end {
            // They are ahead of this log, which is on its way.
            self.files.coming = Coming::Nothing;
            self.files.wait_until = core.now + core.options.retry;
            return;
        }
        let held = core.log.files().map_or(0, qmq_store::PrimaryFiles::hold);
        if set.hold < core.log.start().max(held) {
            // This log has let go of more than the master's files have.
            self.files.coming = Coming::Nothing;
            if core.lacks_files() {
                self.anew = true;
                return self.ask_later(core, core.options.retry);
            }
            // Its own files have it, and stay until the master's have it too.
            self.files.wait_until = core.now + core.options.silence;
            return;
        }
        self.files.coming = Coming::Parts {
            set,
            at: 0,
            offset: 0,
            ticket: 0,
        };
        self.next_part(core);
    }

    /// Goes on to the next file that is not here, or takes the set.
    fn next_part<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>) {
        let files = &mut self.files;
        let Coming::Parts {
            set,
            at,
            offset,
            ticket,
        } = &mut files.coming
        else {
            return;
        };
        *ticket = core.ticket();
        while let Some(file) = set.files.get(*at) {
            if *offset >= file.len {
                files.equal.insert(file.clone());
            }
            if !files.equal.contains(file) {
                return self.ask_files(core);
            }
            (*at, *offset) = (*at + 1, 0);
        }
        let Coming::Parts { set, .. } = std::mem::take(&mut files.coming) else {
            return;
        };
        let Some(beside) = core.log.files() else {
            return;
        };
        match beside.take(&set) {
            Ok(()) => {
                files.taken = set.version;
                files.equal.retain(|file| set.files.contains(file));
                core.files_came();
                self.ack = true;
            }
            Err(error) => self.files_failed(core, &error),
        }
    }

    /// Said, and tried again a while later.
    fn files_failed<L: MasterLog + SlaveLog>(&mut self, core: &mut Core<L>, error: &io::Error) {
        self.files.coming = Coming::Nothing;
        self.files.equal.clear();
        self.files.wait_until = core.now + core.options.silence;
        core.event(Event::FilesNotTaken {
            error: error.to_string(),
        });
    }

    pub(super) fn part<L: MasterLog + SlaveLog>(
        &mut self,
        core: &mut Core<L>,
        answered: u64,
        found: &FilePart,
    ) {
        let Coming::Parts {
            set,
            at,
            offset,
            ticket,
        } = &mut self.files.coming
        else {
            return;
        };
        let file = &set.files[*at];
        if answered != *ticket {
            return;
        }
        let asked = (file.len - *offset).min(core.options.frame_bytes as u64);
        let put = |bytes: &Bytes| match core.log.files() {
            Some(files) => files.put(file, *offset, bytes),
            None => Ok(*offset),
        };
        match found {
            FilePart::Gone => {
                self.files.coming = Coming::List;
                return self.ask_files(core);
            }
            FilePart::Same => *offset += asked,
            FilePart::Bytes(bytes) if bytes.len() as u64 == asked => match put(bytes) {
                Ok(next) => *offset = next,
                Err(error) => return self.files_failed(core, &error),
            },
            // Not what was asked for.
            FilePart::Bytes(_) => return,
        }
        self.next_part(core);
    }
}
