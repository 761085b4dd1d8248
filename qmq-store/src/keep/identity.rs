//! The file that makes a folder a store.
//!
//! ```text
//!  0 [u8;8] "QMQ-STO\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..64
//! 16 u128 store id       32 u64 created (ms)   40 u64 clean end, all ones while open   48 u32 incarnation
//! 52 u8 flags: 1 a replica, 2 the log is being cut   53..56 zero   56 u64 where it is being cut
//! ```
//!
//! It is written whole at each open and each close: an open that does not find a clean end raises the incarnation, since a loss of power
//! may have taken back messages that consumers have seen.

use std::io;

use super::files::write_whole;
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::le::{header_crc, u32_at, u64_at, u128_at};

/// Name of the file.
pub(crate) const IDENTITY_FILE: &str = "store";
/// Version of the identity file, raised when any format of the folder changes.
pub(crate) const STORE_VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"QMQ-STO\n";
const LEN: usize = 64;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store_id: u128,
    pub(crate) created_ms: u64,
    pub(crate) incarnation: u32,
    /// End of the log at a clean close.
    pub(crate) clean_end: Option<u64>,
    /// It follows a master, and takes no appends of its own.
    pub(crate) replica: bool,
    /// It has been opened with a hold on its retention: somebody keeps account of what is needed of it.
    pub(crate) held: bool,
    /// The log ends here, and the next open is to remove what lies behind.
    pub(crate) cut: Option<u64>,
}

const REPLICA: u8 = 1;
const CUT: u8 = 2;
const HELD: u8 = 4;

/// Whether the file can be an identity that was being written: as long as one at most, with its first bytes or nothing at all in it.
pub(crate) fn is_begun(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    let file = disk.open(name, Access::Read)?;
    let len = file.len()?;
    if len > LEN as u64 {
        return Ok(false);
    }
    let mut bytes = [0; LEN];
    file.read_at(&mut bytes[..len as usize], 0)?;
    Ok(bytes[..8] == MAGIC || bytes == [0; LEN])
}

impl Identity {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&STORE_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.store_id.to_le_bytes());
        out[32..40].copy_from_slice(&self.created_ms.to_le_bytes());
        out[40..48].copy_from_slice(&self.clean_end.unwrap_or(u64::MAX).to_le_bytes());
        out[48..52].copy_from_slice(&self.incarnation.to_le_bytes());
        let flags = [
            (self.replica, REPLICA),
            (self.cut.is_some(), CUT),
            (self.held, HELD),
        ];
        out[52] = flags
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| flag)
            .sum();
        out[56..64].copy_from_slice(&self.cut.unwrap_or(0).to_le_bytes());
        let crc = header_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the folder's identity; `None` if there is none.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        Self::read_from(disk, IDENTITY_FILE)
    }

    /// As [`Self::read`], from a file of this name.
    pub(crate) fn read_from(disk: &dyn Disk, name: &str) -> Result<Option<Self>, OpenError> {
        let file = match disk.open(name, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io(format!("opening {name}"))(error)),
        };
        let damaged = |reason| OpenError::DamagedIdentity {
            file: format!("{}/{name}", disk.describe()),
            reason,
        };
        let len = file
            .len()
            .map_err(OpenError::io(format!("reading {name}")))?;
        if len < LEN as u64 {
            return Err(damaged("too short"));
        }
        let mut bytes = [0; LEN];
        file.read_at(&mut bytes, 0)
            .map_err(OpenError::io(format!("reading {name}")))?;
        if bytes[..8] != MAGIC {
            return Err(damaged("its first bytes are not a store's"));
        }
        if header_crc(&bytes) != u32_at(&bytes, 12) {
            return Err(damaged("wrong checksum"));
        }
        let version = u32_at(&bytes, 8);
        if version > STORE_VERSION {
            return Err(OpenError::NewerVersion {
                file: format!("{}/{name}", disk.describe()),
                found: version,
                known: STORE_VERSION,
            });
        }
        Ok(Some(Self {
            store_id: u128_at(&bytes, 16),
            created_ms: u64_at(&bytes, 32),
            clean_end: Some(u64_at(&bytes, 40)).filter(|&end| end != u64::MAX),
            incarnation: u32_at(&bytes, 48),
            replica: bytes[52] & REPLICA != 0,
            held: bytes[52] & HELD != 0,
            cut: (bytes[52] & CUT != 0).then(|| u64_at(&bytes, 56)),
        }))
    }

    /// Writes the identity durably.
    pub(crate) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        write_whole(disk, IDENTITY_FILE, &self.encode())?;
        disk.sync_names()
    }
}
