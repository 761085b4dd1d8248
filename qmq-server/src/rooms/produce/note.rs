//! What is written into the log along with the messages of a round, so that a broker that starts knows what had been accepted.
//!
//! ```text
//! u8      version, 1
//!         and for each request with a producer, in the order of its messages:
//! varint  messages before its own that are of no producer
//! u128    producer
//! varint  number of its first message
//! varint  how many there are with the numbers that follow each other from there, 1 at least
//!         and as long as there are more of the request: varint numbers left out, 1 at least, varint how many messages follow
//! varint  0
//! ```
//!
//! A varint has seven bits in each byte, the lowest first, and bit 7 set in all but the last. Sequences are not in it: the messages have them.

use qmq_store::Store;

use super::dedup::{Dedup, Run};

const VERSION: u8 = 1;

/// A note about a round of requests, while it is written.
#[derive(Debug, Default)]
pub(super) struct Note {
    bytes: Vec<u8>,
    /// Messages of no producer since the last request of one.
    nobodys: u64,
}

impl Note {
    /// A request's messages, by their indexes in it, in order. `producer` is 0 if nobody is to remember them.
    pub(super) fn add(&mut self, producer: u128, first: u64, indexes: &[u32]) {
        let Some(&from) = indexes.first() else {
            return;
        };
        if producer == 0 {
            self.nobodys += indexes.len() as u64;
            return;
        }
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
        put(&mut self.bytes, std::mem::take(&mut self.nobodys));
        self.bytes.extend_from_slice(&producer.to_le_bytes());
        put(&mut self.bytes, first + u64::from(from));
        let mut due = from;
        for run in indexes.chunk_by(|one, next| one + 1 == *next) {
            if run[0] > due {
                put(&mut self.bytes, u64::from(run[0] - due));
            }
            put(&mut self.bytes, run.len() as u64);
            due = run[0] + run.len() as u32;
        }
        put(&mut self.bytes, 0);
    }

    /// Nothing at all if no message is of a producer.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Lets `dedup` remember what the last `bytes` of the log tell. Returns how many notes that were.
///
/// # Errors
/// When the log cannot be read; what was read until then is remembered.
pub(super) fn recall(
    store: &Store,
    bytes: u64,
    dedup: &mut Dedup,
) -> Result<u64, qmq_store::Error> {
    let from = store.watermarks().written.saturating_sub(bytes);
    let mut notes = 0;
    let mut runs: Vec<(u128, Run)> = Vec::new();
    store.notes(from, &mut |noted| {
        notes += 1;
        // One of a later version, or cut short, tells as much as it tells.
        let _ = read(
            noted.note,
            noted.sequences,
            &mut |producer, number, sequence| {
                let last = runs.last_mut().filter(|(of, _)| *of == producer);
                if !last.is_some_and(|(_, run)| run.takes(number, sequence)) {
                    let run = Run {
                        first: number,
                        len: 1,
                        sequence,
                        end_offset: noted.end_offset,
                    };
                    runs.push((producer, run));
                }
            },
        );
        for (producer, run) in runs.drain(..) {
            dedup.accepted(producer, run);
        }
    })?;
    Ok(notes)
}

/// Shows producer, number and sequence of each message that a note is about. `None` if the note, or the sequences, end before it is done.
fn read(mut note: &[u8], sequences: &[u64], each: &mut impl FnMut(u128, u64, u64)) -> Option<()> {
    let note = &mut note;
    let mut sequences = sequences.iter();
    let (&VERSION, rest) = note.split_first()? else {
        return None;
    };
    *note = rest;
    while !note.is_empty() {
        for _ in 0..take(note)? {
            sequences.next()?;
        }
        let (producer, rest) = note.split_first_chunk::<16>()?;
        *note = rest;
        let producer = u128::from_le_bytes(*producer);
        let mut number = take(note)?;
        loop {
            for _ in 0..take(note)? {
                each(producer, number, *sequences.next()?);
                number = number.checked_add(1)?;
            }
            match take(note)? {
                0 => break,
                left_out => number = number.checked_add(left_out)?,
            }
        }
    }
    Some(())
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Vec<(u128, u64, u64)>;

    fn told(note: &[u8], sequences: &[u64]) -> (Told, bool) {
        let mut told = Vec::new();
        let whole = read(note, sequences, &mut |producer, number, sequence| {
            told.push((producer, number, sequence));
        });
        (told, whole.is_some())
    }

    fn some_requests() -> (Note, Told, Vec<u64>) {
        let mut note = Note::default();
        let mut expected = Vec::new();
        let mut sequences = Vec::new();
        let requests: [(u128, u64, &[u32]); 6] = [
            (0, 9, &[0, 1]),
            (7, 100, &[0, 1, 2]),
            (8, u64::MAX - 10, &[1, 2, 5, 9]),
            (7, 103, &[]),
            (0, 0, &[3]),
            (u128::MAX, 300, &[4]),
        ];
        for (producer, first, indexes) in requests {
            note.add(producer, first, indexes);
            for index in indexes {
                let sequence = 1_000 - sequences.len() as u64 * 3;
                sequences.push(sequence);
                if producer != 0 {
                    expected.push((producer, first + u64::from(*index), sequence));
                }
            }
        }
        (note, expected, sequences)
    }

    #[test]
    fn a_note_tells_producer_and_number_of_each_message() {
        let (note, expected, sequences) = some_requests();
        assert_eq!(told(note.bytes(), &sequences), (expected, true));
    }

    #[test]
    fn a_note_of_one_message_is_short_and_one_of_a_thousand_no_longer() {
        for count in [1, 1_000] {
            let mut note = Note::default();
            let indexes: Vec<u32> = (0..count).collect();
            note.add(u128::MAX, 1 << 20, &indexes);
            assert!(note.bytes().len() <= 24, "{count}: {}", note.bytes().len());
        }
        let mut none = Note::default();
        none.add(0, 5, &[0, 1]);
        assert_eq!(none.bytes(), b"");
    }

    #[test]
    fn what_is_cut_short_tells_the_beginning_and_nothing_wrong() {
        let (note, expected, sequences) = some_requests();
        for cut in 0..note.bytes().len() {
            let (told, whole) = told(&note.bytes()[..cut], &sequences);
            assert!(expected.starts_with(&told), "{cut}: {told:?}");
            assert!(!whole || told.len() < expected.len(), "{cut}");
        }
        for cut in 0..sequences.len() {
            let (told, whole) = told(note.bytes(), &sequences[..cut]);
            assert!(expected.starts_with(&told) && !whole, "{cut}: {told:?}");
        }
    }

    #[test]
    fn whatever_the_bytes_are_no_more_is_told_than_there_are_messages() {
        let (note, _, sequences) = some_requests();
        for at in 0..note.bytes().len() {
            for bit in 0..8 {
                let mut bytes = note.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(told(&bytes, &sequences).0.len() <= sequences.len());
            }
        }
        let endless = [&[VERSION][..], &[0xFF; 60]].concat();
        assert_eq!(told(&endless, &sequences), (Vec::new(), false));
        let mut later = note.bytes().to_vec();
        later[0] = VERSION + 1;
        assert_eq!(told(&later, &sequences), (Vec::new(), false));
    }
}
