//! What must be true of a history.
//!
//! A message comes again to a group for one of these reasons only, and each is counted:
//!
//! * its consumer said so, by a nack or by dropping it;
//! * its consumer's process was killed before its ack was answered;
//! * the broker ended between its delivery and the answer to its ack;
//! * the ack was refused: the consumer had lost the message before, for one of the other reasons.
//!
//! An ack that was answered is final: what a consumer shows after it, it had got before, under no later attempt.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

use qmq_store::{Options, Store};

use super::history::{Ended, Event, Line, Tally, id_of, read};
use super::{BROADCAST, Failed, ORDERED, PLAIN};

/// Messages read at a time.
const PAGE: usize = 1_000;

/// What became of a message at its producer.
#[derive(Debug)]
struct Sent {
    subject: String,
    from: u64,
    to: u64,
    sequence: Option<u64>,
    given_up: bool,
}

/// What a group's consumers did with a message, in the order of time.
type Steps = Vec<(u64, String, Event)>;

struct History<'a> {
    ended: &'a [Ended],
    sent: HashMap<String, Sent>,
    /// Ids by subject and sequence.
    logs: BTreeMap<&'static str, Vec<String>>,
    groups: BTreeMap<String, HashMap<(String, u64), Steps>>,
}

/// Checks it all; an error shows the message and its whole history.
pub(crate) fn check(dir: &Path, ended: &[Ended], tally: &mut Tally) -> Result<(), Failed> {
    let mut history = History {
        ended,
        sent: HashMap::new(),
        logs: BTreeMap::new(),
        groups: BTreeMap::new(),
    };
    let store = Store::open(dir.join("store"), Options::with_segment_bytes(2 << 20))?;
    if !store.open_report().clean {
        return Err("the broker did not close its store".into());
    }
    for subject in [PLAIN, ORDERED] {
        history.logs.insert(subject, log(&store, subject)?);
    }
    store.close()?;
    let mut files = std::fs::read_dir(dir.join("history"))?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let (who, group) = name.split_once('@').ok_or("an odd file")?;
        history.take(who, group, read(&file.path())?)?;
    }
    for group in history.groups.values_mut() {
        for steps in group.values_mut() {
            steps.sort_by_key(|(time, ..)| *time);
        }
    }
    history.producers(tally)?;
    history.ordered()?;
    history.consumers(tally)
}

/// The ids of all messages of a subject, by sequence.
pub(super) fn log(store: &Store, subject: &str) -> Result<Vec<String>, Failed> {
    let mut ids = Vec::new();
    loop {
        let messages = store.read(subject, ids.len() as u64, PAGE)?;
        if messages.is_empty() {
            return Ok(ids);
        }
        for message in messages.iter() {
            let sequence = message.sequence();
            if sequence != ids.len() as u64 {
                return Err(format!("{subject}: {sequence} where {} was due", ids.len()).into());
            }
            let id = id_of(message.message()?.body());
            let id = id.ok_or_else(|| format!("{subject} {sequence}: the body is not intact"))?;
            ids.push(id.to_owned());
        }
    }
}

impl History<'_> {
    fn take(&mut self, who: &str, group: &str, lines: Vec<Line>) -> Result<(), Failed> {
        if group.is_empty() {
            let life_ended = self.ended.iter().find(|ended| ended.who == who);
            let end = life_ended.map_or(u64::MAX, |ended| ended.to);
            for line in lines {
                self.take_producers(line, end)?;
            }
            return Ok(());
        }
        let steps = self.groups.entry(group.to_owned()).or_default();
        for line in lines {
            let sequence = match line.event {
                Event::Received { sequence, .. }
                | Event::Acking { sequence, .. }
                | Event::Nacking { sequence, .. }
                | Event::Acked { sequence, .. }
                | Event::Refused { sequence, .. } => sequence,
                other => return Err(format!("{who}: {other:?}").into()),
            };
            let steps = steps.entry((line.subject, sequence)).or_default();
            steps.push((line.time, who.to_owned(), line.event));
        }
        Ok(())
    }

    fn take_producers(&mut self, line: Line, end: u64) -> Result<(), Failed> {
        match line.event {
            Event::Sent { id } => {
                let sent = Sent {
                    subject: line.subject,
                    from: line.time,
                    to: end,
                    sequence: None,
                    given_up: false,
                };
                self.sent.insert(id, sent);
            }
            Event::Answered { id, sequence } => {
                let sent = self.sent.get_mut(&id).ok_or("an answer to nothing")?;
                (sent.to, sent.sequence) = (line.time, Some(sequence));
            }
            Event::GivenUp { id, why } => {
                let sent = self.sent.get_mut(&id).ok_or("an answer to nothing")?;
                (sent.to, sent.given_up) = (line.time, true);
                eprintln!("given up: {id}: {why}");
            }
            other => return Err(format!("a producer wrote {other:?}").into()),
        }
        Ok(())
    }

    /// How often somebody ended between two times.
    fn ends(&self, who: &str, from: u64, to: u64) -> usize {
        let ends = self.ended.iter().filter(|ended| ended.who == who);
        ends.filter(|ended| ended.from <= to && ended.to >= from)
            .count()
    }

    /// What was answered is where the answer says; what is there was sent, and is there once, however often the broker ended before it had answered.
    fn producers(&self, tally: &mut Tally) -> Result<(), Failed> {
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for (subject, ids) in &self.logs {
            for (sequence, id) in ids.iter().enumerate() {
                let sent = self.sent.get(id);
                if sent.is_none_or(|sent| sent.subject != *subject) {
                    return Err(self.broken("nobody sent this", subject, sequence as u64));
                }
                *copies.entry(id).or_default() += 1;
                tally.stored += 1;
            }
        }
        for (id, sent) in &self.sent {
            tally.sent += 1;
            tally.given_up += u64::from(sent.given_up);
            if let Some(sequence) = sent.sequence {
                tally.answered += 1;
                let stored = self.logs[&*sent.subject].get(sequence as usize);
                if stored != Some(id) {
                    let what = format!("{id} was answered with this sequence: {sent:?}");
                    return Err(self.broken(&what, &sent.subject, sequence));
                }
            }
            let copies = copies.get(&**id).copied().unwrap_or(0);
            if copies > 1 {
                let ends = self.ends("broker", sent.from, sent.to);
                let what = format!(
                    "{id} is there {copies} times; the broker ended {ends} times while it had no answer: {sent:?}"
                );
                let ids = &self.logs[&*sent.subject];
                let last = ids.iter().rposition(|stored| stored == id).unwrap_or(0);
                return Err(self.broken(&what, &sent.subject, last as u64));
            }
        }
        Ok(())
    }

    /// An ordered producer's messages stand in the order in which it sent them, without a gap.
    fn ordered(&self) -> Result<(), Failed> {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (sequence, id) in self.logs[ORDERED].iter().enumerate() {
            let (lane, n) = id.rsplit_once('/').ok_or("an odd id")?;
            let n: u64 = n.parse()?;
            let Some(before) = last.get_mut(lane) else {
                if n != 0 {
                    let what = format!("{lane} begins with {n}");
                    return Err(self.broken(&what, ORDERED, sequence as u64));
                }
                last.insert(lane, 0);
                continue;
            };
            let given_up = |n: u64| {
                self.sent
                    .get(&format!("{lane}/{n}"))
                    .is_some_and(|sent| sent.given_up)
            };
            if n <= *before || !(*before + 1..n).all(given_up) {
                let what = format!("{n} behind {before} of {lane}");
                return Err(self.broken(&what, ORDERED, sequence as u64));
            }
            *before = n;
        }
        Ok(())
    }

    fn consumers(&self, tally: &mut Tally) -> Result<(), Failed> {
        if self.groups.len() != 3 || !self.groups.contains_key(BROADCAST) {
            return Err(format!("groups: {:?}", self.groups.keys()).into());
        }
        for (group, messages) in &self.groups {
            for (subject, ids) in &self.logs {
                for (sequence, id) in ids.iter().enumerate() {
                    let sequence = sequence as u64;
                    let key = ((*subject).to_owned(), sequence);
                    let steps = messages.get(&key).map_or(&[][..], Vec::as_slice);
                    self.message(id, steps, tally).map_err(|what| {
                        self.broken(&format!("group {group}: {what}"), subject, sequence)
                    })?;
                }
            }
            let stranger = messages
                .keys()
                .find(|(subject, sequence)| *sequence >= self.logs[&**subject].len() as u64);
            if let Some((subject, sequence)) = stranger {
                let what = format!("group {group} got what is not there");
                return Err(self.broken(&what, subject, *sequence));
            }
        }
        Ok(())
    }

    /// What a group may see of a message.
    fn message(
        &self,
        id: &str,
        steps: &[(u64, String, Event)],
        tally: &mut Tally,
    ) -> Result<(), String> {
        /// When, who, attempt.
        type Receipt<'a> = (u64, &'a str, u64);
        let mut receipts: Vec<Receipt<'_>> = Vec::new();
        for (time, who, event) in steps {
            if let Event::Received {
                attempt, id: got, ..
            } = event
            {
                if got != id {
                    return Err(format!("{who} got another body, or a broken one: {got:?}"));
                }
                receipts.push((*time, who, *attempt));
            }
        }
        if receipts.is_empty() {
            return Err("it never came".to_owned());
        }
        tally.received += receipts.len() as u64;
        let mut by_consumer: HashMap<&str, u64> = HashMap::new();
        let mut by_attempt: HashMap<u64, &str> = HashMap::new();
        for &(_, who, attempt) in &receipts {
            tally.attempt_max = tally.attempt_max.max(attempt);
            let before = by_consumer.insert(who, attempt).unwrap_or(0);
            if attempt < before {
                return Err(format!("{who} got attempt {attempt} after {before}"));
            }
            let holder = by_attempt.entry(attempt).or_insert(who);
            if *holder != who {
                return Err(format!("{holder} and {who} both got attempt {attempt}"));
            }
        }
        for (acked_at, acker, event) in steps {
            let Event::Acked { attempt: acked, .. } = event else {
                continue;
            };
            tally.acked += 1;
            for &(time, who, attempt) in &receipts {
                if attempt > *acked || (time > *acked_at && who == acker) {
                    return Err(format!(
                        "{who} got it again, as attempt {attempt}, though {acker}'s ack of attempt {acked} was answered"
                    ));
                }
                tally.shown_late += u64::from(time > *acked_at);
            }
        }
        receipts.sort_by_key(|(time, _, attempt)| (*attempt, *time));
        for pair in receipts.windows(2) {
            let ((from, who, attempt), (to, again, attempt_again)) = (pair[0], pair[1]);
            let said = |wanted: fn(&Event) -> Option<u64>| {
                let of_who = steps.iter().filter(|(_, whose, _)| whose == who);
                let mut said = of_who.filter_map(|(.., event)| wanted(event));
                said.any(|said| said == attempt)
            };
            let nacked = said(|event| match event {
                Event::Nacking { attempt, .. } => Some(*attempt),
                _ => None,
            });
            let refused = said(|event| match event {
                Event::Refused { attempt, .. } => Some(*attempt),
                _ => None,
            });
            let count = if nacked && attempt < attempt_again {
                &mut tally.again_nacked
            } else if self.ends(who, from, u64::MAX) > 0 && attempt < attempt_again {
                &mut tally.again_consumer_killed
            } else if self.ends("broker", from, to) > 0 {
                &mut tally.again_broker_ended
            } else if refused && attempt < attempt_again {
                &mut tally.again_ack_refused
            } else {
                return Err(format!(
                    "it came to {again} as attempt {attempt_again}, and {who} had it as attempt {attempt}, which nobody took from it"
                ));
            };
            *count += 1;
        }
        Ok(())
    }

    /// An error with all that is known of a message.
    fn broken(&self, what: &str, subject: &str, sequence: u64) -> Failed {
        let mut text = format!("{subject} {sequence}: {what}");
        let id = self
            .logs
            .get(subject)
            .and_then(|ids| ids.get(sequence as usize));
        let mut steps: Vec<(u64, String)> = Vec::new();
        if let Some(id) = id {
            let _ = write!(text, "\nid {id}");
            if let Some(sent) = self.sent.get(id) {
                steps.push((sent.from, "sent".to_owned()));
                steps.push((sent.to, format!("sender's end of it: {sent:?}")));
            }
        }
        for (group, messages) in &self.groups {
            let of_message = messages.get(&(subject.to_owned(), sequence));
            for (time, who, event) in of_message.into_iter().flatten() {
                steps.push((*time, format!("{group} {who} {event:?}")));
            }
        }
        let (first, last) = steps
            .iter()
            .filter(|(time, _)| *time < u64::MAX)
            .fold((u64::MAX, 0), |(first, last), (time, _)| {
                (first.min(*time), last.max(*time))
            });
        for ended in self.ended {
            if ended.to >= first && ended.from <= last {
                steps.push((ended.from, format!("{} ends", ended.who)));
                steps.push((
                    ended.to,
                    format!("{} has ended; a broker is there again", ended.who),
                ));
            }
        }
        steps.sort();
        for (time, step) in steps {
            let _ = write!(text, "\n{time} {step}");
        }
        text.into()
    }
}
