//! Optional fields, which stand at the end of some payloads: `u8 id, u16 length, bytes`, in any order, each once.
//!
//! A receiver skips those with numbers below 128 that it does not know. It refuses the payload if it does not know one from 128 on.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::WireError;
use crate::pieces::Reader;
use crate::put;

const MUST_BE_KNOWN: u8 = 128;

pub(crate) fn put_text(out: &mut BytesMut, id: u8, text: &str) {
    put_bytes(out, id, put::cut(text, usize::from(u16::MAX)).as_bytes());
}

pub(crate) fn put_u32(out: &mut BytesMut, id: u8, value: u32) {
    put_bytes(out, id, &value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut BytesMut, id: u8, value: u64) {
    put_bytes(out, id, &value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut BytesMut, id: u8, bytes: &[u8]) {
    out.put_u8(id);
    out.put_u16_le(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(&bytes[..bytes.len().min(usize::from(u16::MAX))]);
}

/// One field as read.
pub(crate) struct Field {
    id: u8,
    bytes: Bytes,
}

impl Field {
    pub(crate) fn id(&self) -> u8 {
        self.id
    }

    pub(crate) fn text(&self, what: &'static str) -> Result<String, WireError> {
        std::str::from_utf8(&self.bytes)
            .map(str::to_owned)
            .map_err(|_| WireError::NotUtf8 { what })
    }

    pub(crate) fn u8(&self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u32(&self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&self, what: &'static str) -> Result<[u8; N], WireError> {
        <[u8; N]>::try_from(&self.bytes[..]).map_err(|_| WireError::Short { what })
    }

    /// A field that nobody here knows.
    pub(crate) fn unknown(&self) -> Result<(), WireError> {
        if self.id < MUST_BE_KNOWN {
            Ok(())
        } else {
            Err(WireError::UnknownField { id: self.id })
        }
    }
}

/// Reads all fields to the end of the payload.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    mut each: impl FnMut(Field) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut seen = [false; 256];
    while reader.remaining() > 0 {
        let id = reader.u8("a field's number")?;
        if std::mem::replace(&mut seen[usize::from(id)], true) {
            return Err(WireError::RepeatedField { id });
        }
        let len = usize::from(reader.u16("a field's length")?);
        let bytes = reader.bytes(len, "a field")?;
        each(Field { id, bytes })?;
    }
    Ok(())
}
