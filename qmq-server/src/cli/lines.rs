//! Lines of any bytes, of which a too long one costs no memory.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Whole(Bytes),
    /// A line that is longer than allowed, with its length; its bytes are gone.
    TooLong(u64),
    /// Nothing more.
    End,
}

/// Reads lines of at most `bytes_max` bytes.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, bytes_max }
    }

    /// The next line. The last one needs no end of line.
    pub(crate) fn next(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let mut length = 0_u64;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if buffer.is_empty() {
                return Ok(if length == 0 {
                    Line::End
                } else {
                    self.finish(line, length)
                });
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            length += part.len() as u64;
            if length <= self.bytes_max as u64 {
                line.extend_from_slice(part);
            } else {
                line = Vec::new();
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(self.finish(line, length));
            }
        }
    }

    fn finish(&self, line: Vec<u8>, length: u64) -> Line {
        if length > self.bytes_max as u64 {
            Line::TooLong(length)
        } else {
            Line::Whole(line.into())
        }
    }
}

impl<R: Read> Lines<BufReader<R>> {
    /// Whether the next line can be had without waiting for whoever writes the input.
    pub(crate) fn has_next(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_ends_and_long_ones_are_measured() {
        let input = BufReader::with_capacity(3, &b"ab\n\nabcdefgh\nabcd\nlast"[..]);
        let mut lines = Lines::new(input, 4);
        let mut next = || lines.next().unwrap();
        assert_eq!(next(), Line::Whole("ab".into()));
        assert_eq!(next(), Line::Whole("".into()));
        assert_eq!(next(), Line::TooLong(8));
        assert_eq!(next(), Line::Whole("abcd".into()));
        assert_eq!(next(), Line::Whole("last".into()));
        assert_eq!(next(), Line::End);
        assert_eq!(next(), Line::End);
    }

    #[test]
    fn a_line_that_is_there_needs_no_waiting() {
        let mut lines = Lines::new(BufReader::with_capacity(4, &b"a\nb\nlast"[..]), 9);
        assert!(!lines.has_next());
        assert_eq!(lines.next().unwrap(), Line::Whole("a".into()));
        assert!(lines.has_next());
        assert_eq!(lines.next().unwrap(), Line::Whole("b".into()));
        assert!(!lines.has_next());
    }
}
