//! Little-endian numbers, names and lists in a frame's body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::log::Epoch;
use crate::options::NAME_BYTES_MAX;

/// Most epochs in a frame: the latest.
pub(crate) const EPOCHS_MAX: usize = 1024;

pub(crate) fn put_u32(out: &mut BytesMut, value: u32) {
    out.put_u32_le(value);
}

pub(crate) fn put_u64(out: &mut BytesMut, value: u64) {
    out.put_u64_le(value);
}

pub(crate) fn put_u128(out: &mut BytesMut, value: u128) {
    out.put_u128_le(value);
}

pub(crate) fn put_name(out: &mut BytesMut, name: &str) {
    out.put_u8(name.len() as u8);
    out.put_slice(name.as_bytes());
}

pub(crate) fn put_epochs(out: &mut BytesMut, epochs: &[Epoch]) {
    let latest = &epochs[epochs.len().saturating_sub(EPOCHS_MAX)..];
    put_u32(out, latest.len() as u32);
    for epoch in latest {
        put_u64(out, epoch.number);
        put_u64(out, epoch.start);
    }
}

/// Takes a body apart. Answers `None` where it is too short or breaks a rule.
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    fn has(&self, count: usize) -> Option<()> {
        (self.rest.len() >= count).then_some(())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.has(1)?;
        Some(self.rest.get_u8())
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.has(4)?;
        Some(self.rest.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.has(8)?;
        Some(self.rest.get_u64_le())
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.has(16)?;
        Some(self.rest.get_u128_le())
    }

    pub(crate) fn name(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        debug_assert!(length <= NAME_BYTES_MAX);
        self.has(length)?;
        let bytes = self.rest.split_to(length);
        String::from_utf8(bytes.to_vec()).ok()
    }

    /// Numbers and starts must grow.
    pub(crate) fn epochs(&mut self) -> Option<Vec<Epoch>> {
        let count = self.u32()? as usize;
        if count > EPOCHS_MAX {
            return None;
        }
        self.has(count * 16)?;
        let mut epochs: Vec<Epoch> = Vec::with_capacity(count);
        for _ in 0..count {
            let (number, start) = (self.u64()?, self.u64()?);
            if epochs
                .last()
                .is_some_and(|last| last.number >= number || last.start >= start)
            {
                return None;
            }
            epochs.push(Epoch { number, start });
        }
        Some(epochs)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn done(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}
