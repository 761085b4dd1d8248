//! Terms of masters: which epoch a place of the log belongs to.

use parking_lot::Mutex;

/// A master's term: its records begin at `start`, with the one that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Greater than that of every epoch before.
    pub number: u64,
    /// Offset in the log.
    pub start: u64,
}

/// All epochs of a log, oldest first; what comes before the first is of epoch 0. It outlives the records, which retention takes.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<Vec<Epoch>>);

impl Epochs {
    pub(crate) fn all(&self) -> Vec<Epoch> {
        self.0.lock().clone()
    }

    /// Number of the last one; 0 without any.
    pub(crate) fn last(&self) -> u64 {
        self.0.lock().last().map_or(0, |last| last.number)
    }

    /// Takes over what a checkpoint says.
    pub(crate) fn adopt(&self, epochs: Vec<Epoch>) {
        *self.0.lock() = epochs;
    }

    /// Enters the epoch whose record stands at `start`. A checkpoint may have had it already.
    pub(crate) fn note(&self, number: u64, start: u64) -> Result<(), &'static str> {
        let mut epochs = self.0.lock();
        match epochs.last() {
            Some(last) if start <= last.start => Ok(()),
            Some(last) if number <= last.number => Err("an epoch that is not above the one before"),
            _ => {
                epochs.push(Epoch { number, start });
                Ok(())
            }
        }
    }

    /// The log ends at `end`.
    pub(crate) fn clamp(&self, end: u64) {
        self.0.lock().retain(|epoch| epoch.start < end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_and_go_with_what_is_cut() {
        let epochs = Epochs::default();
        assert_eq!((epochs.last(), epochs.all().len()), (0, 0));
        epochs.note(3, 64).unwrap();
        epochs.note(7, 640).unwrap();
        // A replay meets what the checkpoint has.
        epochs.note(3, 64).unwrap();
        epochs.note(7, 640).unwrap();
        assert!(epochs.note(7, 704).is_err() && epochs.note(6, 704).is_err());
        assert_eq!(epochs.last(), 7);
        epochs.clamp(640);
        assert_eq!(
            epochs.all(),
            [Epoch {
                number: 3,
                start: 64
            }]
        );
    }
}
