//! The bytes of what members say. `docs/protocol.md` has the same as tables.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use qmq_store::{PRIMARY_NAME_BYTES_MAX, PrimaryFile, PrimarySet};

use crate::codec::{Reader, put_epochs, put_name, put_u32, put_u64, put_u128};
use crate::message::{FilePart, Found, Hello, Memory, Message, Range, Refused, Standing};
use crate::options::{FRAME_DATA_MAX, LEASE_MAX};

/// Most files beside the log in one set.
pub(crate) const FILES_MAX: usize = 4_096;

impl Refused {
    fn numbers(self) -> (u8, u64, u64) {
        match self {
            Self::Version { min, max } => (1, u64::from(min), u64::from(max)),
            Self::OtherGroup => (2, 0, 0),
            Self::OtherLog => (3, 0, 0),
            Self::OtherName => (4, 0, 0),
            Self::OldEpoch { promised } => (5, promised, 0),
            Self::NotMaster => (6, 0, 0),
            Self::NoSession => (7, 0, 0),
            Self::Differs => (8, 0, 0),
            Self::Conflict => (9, 0, 0),
        }
    }

    fn from_numbers(reason: u8, first: u64, second: u64) -> Option<Self> {
        Some(match reason {
            1 => Self::Version {
                min: u8::try_from(first).ok()?,
                max: u8::try_from(second).ok()?,
            },
            2 => Self::OtherGroup,
            3 => Self::OtherLog,
            4 => Self::OtherName,
            5 => Self::OldEpoch { promised: first },
            6 => Self::NotMaster,
            7 => Self::NoSession,
            8 => Self::Differs,
            9 => Self::Conflict,
            _ => return None,
        })
    }
}

impl Message {
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Self::Data { bytes, .. }
            | Self::SnapshotPiece { bytes, .. }
            | Self::Units { bytes, .. } => 64 + bytes.len(),
            Self::Hello(Hello { epochs, .. })
            | Self::Promised(Standing { epochs, .. })
            | Self::Welcome { epochs, .. } => 640 + epochs.len() * 16,
            Self::Part {
                found: FilePart::Bytes(bytes),
                ..
            } => 64 + bytes.len(),
            Self::Files(set) => 64 + set.files.len() * 64,
            _ => 64,
        }
    }

    /// Writes the body and answers the kind.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> u8 {
        match self {
            Self::Hello(hello) => {
                out.put_slice(&[hello.version_min, hello.version_max]);
                put_u128(out, hello.log_id);
                put_name(out, &hello.group);
                put_name(out, &hello.node);
                put_all(
                    out,
                    &[hello.nonce, hello.start, hello.written, hello.synced],
                );
                put_epochs(out, &hello.epochs);
                1
            }
            Self::Welcome {
                nonce,
                log_id,
                start,
                written,
                epochs,
            } => {
                put_u64(out, *nonce);
                put_u128(out, *log_id);
                put_all(out, &[*start, *written]);
                put_epochs(out, epochs);
                2
            }
            Self::Refused(refused) => {
                let (reason, first, second) = refused.numbers();
                out.put_u8(reason);
                put_all(out, &[first, second]);
                3
            }
            Self::Follow { at, from, digest } => {
                put_all(out, &[*at, *from, *digest]);
                4
            }
            Self::Start { at } => {
                put_u64(out, *at);
                5
            }
            Self::Data {
                offset,
                rest,
                bytes,
            } => {
                put_u64(out, *offset);
                put_u32(out, *rest);
                out.put_slice(bytes);
                6
            }
            Self::Ack {
                buffered,
                synced,
                received,
                echo,
                gap,
                partial,
            } => {
                put_all(out, &[*buffered, *synced, *received, micros(*echo)]);
                out.put_slice(&[u8::from(*gap), u8::from(*partial)]);
                7
            }
            Self::Heartbeat {
                sent,
                written,
                synced,
                replicated,
                lease,
                files,
            } => {
                let marks = [*written, *synced, *replicated];
                put_u64(out, micros(*sent));
                put_all(out, &marks);
                put_all(out, &[micros(*lease), *files]);
                8
            }
            Self::SnapshotAsk { base, crc, have } => {
                put_u64(out, *base);
                put_u32(out, *crc);
                put_u64(out, *have);
                9
            }
            Self::SnapshotPiece {
                base,
                crc,
                total,
                offset,
                bytes,
            } => {
                put_u64(out, *base);
                put_u32(out, *crc);
                put_all(out, &[*total, *offset]);
                out.put_slice(bytes);
                10
            }
            Self::HandOver { end, until } => {
                put_all(out, &[*end, micros(*until)]);
                11
            }
            Self::PromiseAsk => 12,
            Self::Promised(standing) => {
                put_u128(out, standing.log_id);
                put_all(
                    out,
                    &[standing.start, standing.end, micros(standing.lease_left)],
                );
                out.put_u8(standing.memory as u8);
                put_epochs(out, &standing.epochs);
                13
            }
            Self::DigestAsk(range) => {
                put_all(out, &[range.ticket, range.from, range.to]);
                14
            }
            Self::DigestSay { ticket, digest } => {
                put_u64(out, *ticket);
                out.put_u8(u8::from(digest.is_some()));
                put_u64(out, digest.unwrap_or(0));
                15
            }
            Self::CheckAsk(range) => {
                put_all(out, &[range.ticket, range.from, range.to]);
                16
            }
            Self::CheckSay { ticket, found } => {
                put_u64(out, *ticket);
                out.put_u8(*found as u8);
                17
            }
            Self::UnitsAsk {
                ticket,
                offset,
                skip,
                max,
            } => {
                put_all(out, &[*ticket, *offset]);
                put_u32(out, *skip);
                put_u32(out, *max);
                18
            }
            Self::Units {
                ticket,
                offset,
                skip,
                total,
                bytes,
            } => {
                put_all(out, &[*ticket, *offset]);
                put_u32(out, *skip);
                put_u32(out, *total);
                out.put_slice(bytes);
                19
            }
            Self::FilesAsk => 20,
            Self::Files(set) => {
                put_all(out, &[set.version, set.hold, set.end]);
                put_u32(out, set.files.len() as u32);
                for file in &set.files {
                    put_file(out, file);
                }
                21
            }
            Self::PartAsk {
                ticket,
                file,
                offset,
                len,
                crc,
            } => {
                put_u64(out, *ticket);
                put_file(out, file);
                put_u64(out, *offset);
                put_u32(out, *len);
                out.put_u8(u8::from(crc.is_some()));
                put_u32(out, crc.unwrap_or(0));
                22
            }
            Self::Part { ticket, found } => {
                put_u64(out, *ticket);
                match found {
                    FilePart::Gone => out.put_u8(0),
                    FilePart::Same => out.put_u8(1),
                    FilePart::Bytes(bytes) => {
                        out.put_u8(2);
                        out.put_slice(bytes);
                    }
                }
                23
            }
        }
    }

    pub(crate) fn decode(kind: u8, body: Bytes) -> Option<Self> {
        let r = &mut Reader::new(body);
        let message = match kind {
            1 => Self::Hello(Hello {
                version_min: r.u8()?,
                version_max: r.u8()?,
                log_id: r.u128()?,
                group: r.name()?,
                node: r.name()?,
                nonce: r.u64()?,
                start: r.u64()?,
                written: r.u64()?,
                synced: r.u64()?,
                epochs: r.epochs()?,
            }),
            2 => Self::Welcome {
                nonce: r.u64()?,
                log_id: r.u128()?,
                start: r.u64()?,
                written: r.u64()?,
                epochs: r.epochs()?,
            },
            3 => Self::Refused(Refused::from_numbers(r.u8()?, r.u64()?, r.u64()?)?),
            4 => Self::Follow {
                at: r.u64()?,
                from: r.u64()?,
                digest: r.u64()?,
            },
            5 => Self::Start { at: r.u64()? },
            6 => Self::Data {
                offset: r.u64()?,
                rest: r.u32()?,
                bytes: piece(r)?,
            },
            7 => Self::Ack {
                buffered: r.u64()?,
                synced: r.u64()?,
                received: r.u64()?,
                echo: Duration::from_micros(r.u64()?),
                gap: r.flag()?,
                partial: r.flag()?,
            },
            8 => Self::Heartbeat {
                sent: Duration::from_micros(r.u64()?),
                written: r.u64()?,
                synced: r.u64()?,
                replicated: r.u64()?,
                lease: lease(r)?,
                files: r.u64()?,
            },
            9 => Self::SnapshotAsk {
                base: r.u64()?,
                crc: r.u32()?,
                have: r.u64()?,
            },
            10 => Self::SnapshotPiece {
                base: r.u64()?,
                crc: r.u32()?,
                total: r.u64()?,
                offset: r.u64()?,
                bytes: piece(r)?,
            },
            11 => Self::HandOver {
                end: r.u64()?,
                until: Duration::from_micros(r.u64()?),
            },
            12 => Self::PromiseAsk,
            13 => Self::Promised(Standing {
                log_id: r.u128()?,
                start: r.u64()?,
                end: r.u64()?,
                lease_left: lease(r)?,
                memory: match r.u8()? {
                    0 => Memory::Whole,
                    1 => Memory::Partial,
                    2 => Memory::Blank,
                    _ => return None,
                },
                epochs: r.epochs()?,
            }),
            14 => Self::DigestAsk(range(r)?),
            15 => Self::DigestSay {
                ticket: r.u64()?,
                digest: {
                    let (there, digest) = (r.flag()?, r.u64()?);
                    there.then_some(digest)
                },
            },
            16 => Self::CheckAsk(range(r)?),
            17 => Self::CheckSay {
                ticket: r.u64()?,
                found: match r.u8()? {
                    0 => Found::Good,
                    1 => Found::Damaged,
                    2 => Found::NotHere,
                    _ => return None,
                },
            },
            18 => Self::UnitsAsk {
                ticket: r.u64()?,
                offset: r.u64()?,
                skip: r.u32()?,
                max: r.u32()?,
            },
            19 => Self::Units {
                ticket: r.u64()?,
                offset: r.u64()?,
                skip: r.u32()?,
                total: r.u32()?,
                bytes: piece(r)?,
            },
            20 => Self::FilesAsk,
            21 => Self::Files(PrimarySet {
                version: r.u64()?,
                hold: r.u64()?,
                end: r.u64()?,
                files: files(r)?,
            }),
            22 => Self::PartAsk {
                ticket: r.u64()?,
                file: file(r)?,
                offset: r.u64()?,
                len: r.u32()?,
                crc: {
                    let (there, crc) = (r.flag()?, r.u32()?);
                    there.then_some(crc)
                },
            },
            23 => Self::Part {
                ticket: r.u64()?,
                found: match r.u8()? {
                    0 => FilePart::Gone,
                    1 => FilePart::Same,
                    2 => FilePart::Bytes(piece(r)?),
                    _ => return None,
                },
            },
            _ => return None,
        };
        r.done()?;
        Some(message)
    }
}

fn put_all(out: &mut BytesMut, values: &[u64]) {
    for &value in values {
        put_u64(out, value);
    }
}

fn put_file(out: &mut BytesMut, file: &PrimaryFile) {
    put_name(out, &file.name);
    put_u64(out, file.len);
    put_u32(out, file.tag);
}

fn file(reader: &mut Reader) -> Option<PrimaryFile> {
    let name = reader.name()?;
    let is_name = (1..=PRIMARY_NAME_BYTES_MAX).contains(&name.len())
        && (name.bytes()).all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let file = PrimaryFile {
        name,
        len: reader.u64()?,
        tag: reader.u32()?,
    };
    (is_name && file.len > 0).then_some(file)
}

fn files(reader: &mut Reader) -> Option<Vec<PrimaryFile>> {
    let count = reader.u32()? as usize;
    if count > FILES_MAX {
        return None;
    }
    (0..count).map(|_| file(reader)).collect()
}

fn piece(reader: &mut Reader) -> Option<Bytes> {
    let bytes = reader.rest();
    (bytes.len() <= FRAME_DATA_MAX).then_some(bytes)
}

fn lease(reader: &mut Reader) -> Option<Duration> {
    let lease = Duration::from_micros(reader.u64()?);
    (lease <= LEASE_MAX).then_some(lease)
}

fn range(reader: &mut Reader) -> Option<Range> {
    let range = Range {
        ticket: reader.u64()?,
        from: reader.u64()?,
        to: reader.u64()?,
    };
    (range.from <= range.to).then_some(range)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
