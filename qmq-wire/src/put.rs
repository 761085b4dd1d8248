//! Writing numbers and short texts.

use bytes::{BufMut, BytesMut};

/// `u8 length, bytes`; what is longer than 255 bytes is a mistake of the caller's, who has checked the names.
pub(crate) fn short(out: &mut BytesMut, text: &str) {
    let len = text.len().min(usize::from(u8::MAX));
    out.put_u8(len as u8);
    out.put_slice(&text.as_bytes()[..len]);
}

/// `u16 length, bytes`, cut at a character's border if it is longer.
pub(crate) fn text(out: &mut BytesMut, text: &str) {
    let text = cut(text, usize::from(u16::MAX));
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}

/// The longest start of `text` that has at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
