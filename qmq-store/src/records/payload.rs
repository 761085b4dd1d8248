//! Messages on their way to a network: attributes and body of each as they lie in the log, shared and not copied.

use bytes::Bytes;
use qmq_message::Attributes;

use super::{Damaged, Delivered, Item, Records, pinned};
use crate::log::record::Record;
use crate::log::segment::SEGMENT_HEADER_LEN;

/// A message's attributes, encoded as [`Attributes`] says, and its body behind them. They outlive the batch, and keep their segment
/// mapped, also when retention has retired it.
#[derive(Clone, Debug)]
pub struct Payload {
    record_time_ms: u64,
    attributes_len: u16,
    bytes: Bytes,
}

impl Payload {
    /// When the message was appended, in ms since the Unix epoch.
    #[must_use]
    pub fn record_time_ms(&self) -> u64 {
        self.record_time_ms
    }

    /// How many of the bytes are its attributes.
    #[must_use]
    pub fn attributes_len(&self) -> u16 {
        self.attributes_len
    }

    /// How many of the bytes are its body.
    #[must_use]
    pub fn body_len(&self) -> u32 {
        (self.bytes.len() - usize::from(self.attributes_len)) as u32
    }

    /// Its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'_> {
        // Written by this crate and covered by the header's checksum.
        Attributes::decode(&self.bytes[..self.attributes_len.into()]).unwrap_or_default()
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.attributes_len.into()..]
    }

    /// Attributes and body. A clone, or a slice of it, shares them.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Attributes and body.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Where a payload lies in its region.
struct Place {
    start: u64,
    attributes: usize,
    body: usize,
    record_time_ms: u64,
}

impl Place {
    fn len(&self) -> usize {
        self.attributes + self.body
    }
}

impl Records {
    /// The messages, in order, each with its bytes to share. Something is allocated for each segment that they lie in, and nothing for each
    /// message.
    ///
    /// The bytes of one segment are held together: as long as one slice lives, the segment stays mapped.
    pub fn payloads(
        &self,
    ) -> impl ExactSizeIterator<Item = (Delivered<'_>, Result<Payload, Damaged>)> {
        let shared = self.shared();
        self.iter().map(move |delivered| {
            let item = delivered.item;
            let payload = self.place(item).map(|place| {
                let (low, bytes) = &shared[item.region as usize];
                let start = (place.start - low) as usize;
                Payload {
                    record_time_ms: place.record_time_ms,
                    attributes_len: place.attributes as u16,
                    bytes: bytes.slice(start..start + place.len()),
                }
            });
            (delivered, payload.ok_or_else(|| delivered.damaged()))
        })
    }

    /// Of each piece what lies between its first and its last payload, and where that begins.
    fn shared(&self) -> Vec<(u64, Bytes)> {
        let mut spans = vec![(u64::MAX, 0); self.pieces.len()];
        for item in &self.items {
            if let Some(place) = self.place(item) {
                let (low, high) = &mut spans[item.region as usize];
                *low = place.start.min(*low);
                *high = (place.start + place.len() as u64).max(*high);
            }
        }
        let spans = spans.into_iter().zip(&self.pieces);
        let shared = spans.map(|((low, high), piece)| match high.checked_sub(low) {
            Some(len) => (low, pinned(&piece.region, low, len as usize)),
            None => (low, Bytes::new()),
        });
        shared.collect()
    }

    /// `None` for a damaged message.
    fn place(&self, item: &Item) -> Option<Place> {
        let header = item.header?;
        let record = Record::assemble(self.bytes_at(item.region, item.offset)?, header)?;
        let piece = &self.pieces[item.region as usize];
        let at = SEGMENT_HEADER_LEN + (item.offset - piece.base);
        Some(Place {
            start: at + header.attributes_at() as u64,
            attributes: record.attributes.len(),
            body: record.body.len(),
            record_time_ms: header.time_ms,
        })
    }
}
