//! How much a broker may send, and what it gets back when messages are settled.

use qmq_wire::Credit;

/// Room for messages and bytes. Owed credit goes back in halves of the window, not message by message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    messages: u32,
    bytes: u64,
    owed: Credit,
}

impl Window {
    pub(crate) fn new(messages: u32, bytes: u64) -> Self {
        Self {
            messages,
            bytes,
            owed: Credit::default(),
        }
    }

    /// A connection begins: the whole window is the broker's.
    pub(crate) fn open(&mut self) -> Credit {
        self.owed = Credit::default();
        Credit {
            messages: self.messages,
            bytes: self.bytes,
        }
    }

    /// A message that came on this connection is settled.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.owed.messages += 1;
        self.owed.bytes += bytes;
    }

    /// What goes back now.
    pub(crate) fn take(&mut self) -> Option<Credit> {
        let half = self.owed.messages >= self.messages.div_ceil(2)
            || self.owed.bytes >= self.bytes.div_ceil(2);
        half.then(|| std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_goes_back_in_halves_of_the_window() {
        let mut window = Window::new(4, 100);
        assert_eq!(window.open().messages, 4);
        window.give_back(10);
        assert_eq!(window.take(), None);
        window.give_back(10);
        let credit = Credit {
            messages: 2,
            bytes: 20,
        };
        assert_eq!(window.take(), Some(credit));
        window.give_back(1_000);
        assert!(window.take().is_some(), "bytes count too");
    }

    #[test]
    fn a_window_of_one_message_does_not_get_stuck() {
        let mut window = Window::new(1, 1);
        window.open();
        window.give_back(0);
        assert!(window.take().is_some());
    }
}
