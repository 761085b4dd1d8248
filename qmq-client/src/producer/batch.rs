//! A request's bytes.

use bytes::{Bytes, BytesMut};
use qmq_wire::{ProduceHeader, message_len, put_message, put_produce_header};

use super::queue::Pending;

/// Bodies up to this size are copied between their neighbours; larger ones are sent from where they lie.
const COPIED_BODY_BYTES_MAX: usize = 2 << 10;

/// The frame that asks a broker to take the messages.
pub(crate) fn encode(header: &ProduceHeader, messages: &[Pending]) -> Vec<Bytes> {
    let subjects = || {
        let before = std::iter::once("").chain(messages.iter().map(|m| m.message.subject()));
        messages.iter().zip(before).map(|(pending, before)| {
            let subject = pending.message.subject();
            (pending, if subject == before { "" } else { subject })
        })
    };
    let bytes: usize = subjects()
        .map(|(pending, subject)| message_len(subject, &pending.attributes, pending.body_len()))
        .sum();
    let mut chunks = Vec::new();
    let mut out = BytesMut::with_capacity(bytes.min(64 << 10) + 64);
    put_produce_header(
        &mut out,
        header,
        messages.len() as u32,
        u32::try_from(bytes).unwrap_or(u32::MAX),
    );
    for (pending, subject) in subjects() {
        put_message(&mut out, subject, &pending.attributes, pending.body_len());
        let body = pending.message.body();
        if body.len() <= COPIED_BODY_BYTES_MAX {
            out.extend_from_slice(body);
        } else {
            chunks.push(out.split().freeze());
            chunks.push(body.clone());
        }
    }
    if !out.is_empty() {
        chunks.push(out.freeze());
    }
    chunks
}
