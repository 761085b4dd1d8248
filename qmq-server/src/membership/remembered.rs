//! What a meta server said last, in a file of the store's folder: a node that starts while no meta server can be reached is what it was.
//!
//! ```text
//! qmq-membership 1 CRC32-in-8-hexadecimal-digits
//! {"hostname":...}
//! ```
//!
//! The checksum is of everything behind the first line.

use std::io;
use std::path::Path;

use qmq_wire::{Acquired, NodeRole};
use serde::{Deserialize, Serialize};

use super::options::NodeKind;
use crate::config::files::{Readers, write_atomic};
use crate::config::read_limited;

/// Name of the file: a broker and a delay server never take each other's.
pub(super) fn name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Broker => "membership-broker",
        NodeKind::Delay => "membership-delay",
    }
}

const FIRST_WORD: &str = "qmq-membership";
const VERSION: &str = "1";
const BYTES_MAX: u64 = 64 << 10;

/// What a node was, and as whom it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    hostname: String,
    port: u16,
    group: String,
    role: NodeRole,
    ip: String,
    copies: String,
    epoch: u64,
}

/// Why the file says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Forgotten {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file is damaged, or of another version")]
    Damaged,
    #[error("it is of {hostname}/{port}, and this is another node")]
    OfAnother { hostname: String, port: u16 },
}

/// Writes it, whole or not at all.
pub(super) fn write(path: &Path, hostname: &str, port: u16, acquired: &Acquired) -> io::Result<()> {
    let remembered = Remembered {
        hostname: hostname.to_owned(),
        port,
        group: acquired.group.clone(),
        role: acquired.role,
        ip: acquired.ip.clone(),
        copies: acquired.copies.clone(),
        epoch: acquired.epoch,
    };
    let json = serde_json::to_string(&remembered)? + "\n";
    let crc = crc32fast::hash(json.as_bytes());
    let text = format!("{FIRST_WORD} {VERSION} {crc:08x}\n{json}");
    write_atomic(path, text.as_bytes(), Readers::Owner)
}

/// What is remembered of this node.
pub(super) fn read(path: &Path, hostname: &str, port: u16) -> Result<Acquired, Forgotten> {
    let bytes = read_limited(path, BYTES_MAX)?;
    let remembered = parse(&bytes).ok_or(Forgotten::Damaged)?;
    if (remembered.hostname.as_str(), remembered.port) != (hostname, port) {
        return Err(Forgotten::OfAnother {
            hostname: remembered.hostname,
            port: remembered.port,
        });
    }
    Ok(Acquired {
        group: remembered.group,
        role: remembered.role,
        ip: remembered.ip,
        copies: remembered.copies,
        epoch: remembered.epoch,
        differs: String::new(),
    })
}

/// The broker group whose messages lie in the store, whatever the node was called; `None`: it is not known.
pub(super) fn group(path: &Path) -> Option<String> {
    let bytes = read_limited(path, BYTES_MAX).ok()?;
    Some(parse(&bytes)?.group)
}

fn parse(bytes: &[u8]) -> Option<Remembered> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (first, json) = text.split_once('\n')?;
    let mut words = first.split(' ');
    if words.next() != Some(FIRST_WORD) || words.next() != Some(VERSION) {
        return None;
    }
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    if words.next().is_some() || crc != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_by_the_same_node_alone_and_no_flipped_bit_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name(NodeKind::Broker));
        assert!(matches!(
            read(&path, "host-1", 20881),
            Err(Forgotten::Io(_))
        ));
        let acquired = Acquired {
            group: "group-1".to_owned(),
            role: NodeRole::Master,
            ip: "10.0.0.1".to_owned(),
            copies: String::new(),
            epoch: 7,
            differs: String::new(),
        };
        write(&path, "host-1", 20881, &acquired).unwrap();
        assert_eq!(read(&path, "host-1", 20881).unwrap(), acquired);
        for (hostname, port) in [("host-2", 20881), ("host-1", 20882)] {
            let other = read(&path, hostname, port).unwrap_err();
            assert!(other.to_string().contains("host-1/20881"), "{other}");
        }
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            // The checksum's hexadecimal digits have two cases.
            match read(&path, "host-1", 20881) {
                Err(Forgotten::Damaged) => {}
                other => panic!("byte {at}: {other:?}"),
            }
            assert!(parse(&good[..at]).is_none());
        }
    }
}
