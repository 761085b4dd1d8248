//! Frames of replication, as bytes.

use bytes::Bytes;
use qmq_repl::{BODY_BYTES_MAX, Epoch, Frame, FrameReader, HEADER_BYTES, Message};

/// Any bytes, in pieces, in a stream: no panic, never room for more than a frame. Any body under good checksums: what is accepted holds no more than
/// its bytes, and is the same when it is sent on.
pub fn repl_frame(bytes: &[u8]) {
    let mut reader = FrameReader::default();
    for piece in bytes.chunks(7) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.next_frame() {
            check_decode(&frame);
        }
        match reader.missing() {
            Ok(missing) => assert!(missing <= HEADER_BYTES + BODY_BYTES_MAX),
            Err(_) => break,
        }
    }
    check_decode(&Bytes::copy_from_slice(bytes));
    if let Some((kind, body)) = bytes.split_first() {
        check_decode(&sealed(*kind, (3, 4), body));
    }
}

fn check_decode(bytes: &Bytes) {
    let Ok(frame) = Frame::decode(bytes) else {
        return;
    };
    let epochs = match &frame.message {
        Message::Hello(hello) => hello.epochs.len(),
        Message::Welcome { epochs, .. } => epochs.len(),
        Message::Promised(standing) => standing.epochs.len(),
        _ => 0,
    };
    assert!(epochs * size_of::<Epoch>() <= bytes.len());
    let again = Frame::decode(&frame.encode());
    assert_eq!(again.as_ref(), Ok(&frame));
}

/// A frame of any kind and body with good checksums.
pub(crate) fn sealed(kind: u8, (epoch, session): (u64, u64), body: &[u8]) -> Bytes {
    let mut bytes = b"QR\x01".to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&session.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.into()
}
