//! A commit unit as bytes, verified in one pass: a record, or a batch with all its records, with padding.

use crate::log::record::{Header, Kind, Record};

/// Why bytes are no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Offset in the log of the record that is at fault.
    pub(crate) offset: u64,
    pub(crate) reason: &'static str,
}

/// Verifies the unit at the start of `bytes`, which stands at `offset` of the log, and shows each of its records to `each`, the header of a batch
/// first. What `each` says is wrong is so too. Returns the unit's length; `None` if it is longer than `room`.
pub(crate) fn check<'a>(
    bytes: &'a [u8],
    offset: u64,
    room: usize,
    each: &mut impl FnMut(&Record<'a>) -> Result<(), &'static str>,
) -> Result<Option<usize>, Bad> {
    let bad = |reason| Bad { offset, reason };
    let header = Header::decode(bytes, offset).ok_or(bad("no record, or its header is damaged"))?;
    if header.in_batch {
        return Err(bad("the middle of a batch"));
    }
    let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
    if len > room {
        return Ok(None);
    }
    if len > bytes.len() {
        return Err(bad("not all of it is there"));
    }
    let unit = &bytes[..len];
    if header.kind == Kind::Batch {
        batch(unit, &header, each)?;
    } else {
        record(unit, header, each)?;
    }
    Ok(Some(len))
}

/// Verifies one record that is not a batch's header, with its padding; returns its length.
fn record<'a>(
    bytes: &'a [u8],
    header: Header,
    each: &mut impl FnMut(&Record<'a>) -> Result<(), &'static str>,
) -> Result<usize, Bad> {
    let bad = |reason| Bad {
        offset: header.offset,
        reason,
    };
    let len = usize::try_from(header.record_len()).unwrap_or(usize::MAX);
    let whole = bytes.get(..len).ok_or(bad("not all of it is there"))?;
    let record = Record::assemble(whole, header).ok_or(bad("its parts do not fit"))?;
    if crc32fast::hash(record.body) != header.body_crc {
        return Err(bad("its body does not fit its checksum"));
    }
    let end = usize::from(header.header_len) + record.body.len();
    if whole[end..].iter().any(|&byte| byte != 0) {
        return Err(bad("its padding is not zero"));
    }
    each(&record).map_err(bad)?;
    Ok(len)
}

fn batch<'a>(
    unit: &'a [u8],
    header: &Header,
    each: &mut impl FnMut(&Record<'a>) -> Result<(), &'static str>,
) -> Result<(), Bad> {
    let bad = |reason| Bad {
        offset: header.offset,
        reason,
    };
    let shown = Record::assemble(unit, *header).ok_or(bad("its parts do not fit"))?;
    if !shown.subject.is_empty() || !shown.attributes.is_empty() {
        return Err(bad("a batch with a subject or attributes"));
    }
    let header_len = header.record_len() as usize;
    let padding = unit.get(usize::from(header.header_len)..header_len);
    if padding.is_none_or(|padding| padding.iter().any(|&byte| byte != 0)) {
        return Err(bad("its padding is not zero"));
    }
    each(&shown).map_err(bad)?;
    let mut crc = crc32fast::Hasher::new();
    let mut at = header_len;
    for _ in 0..header.sequence {
        let offset = header.offset + at as u64;
        let inner = unit
            .get(at..)
            .and_then(|rest| Header::decode(rest, offset))
            .filter(|inner| inner.in_batch && matches!(inner.kind, Kind::Message | Kind::Action))
            .ok_or(Bad {
                offset,
                reason: "no record of a batch, or its header is damaged",
            })?;
        crc.update(&inner.header_crc.to_le_bytes());
        crc.update(&inner.body_crc.to_le_bytes());
        at += record(&unit[at..], inner, each)?;
    }
    if at != unit.len() || crc.finalize() != header.body_crc {
        return Err(bad("a batch that does not fit its checksum"));
    }
    Ok(())
}
