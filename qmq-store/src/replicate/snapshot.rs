//! The state of a store as of an offset, for a replica whose log begins where its master's does now.
//!
//! The replica gets the subjects as they stood where the log begins, so that all records fit, and the groups as they stand now: what came of actions
//! before the log's beginning is told by nothing else. Until its log has come that far, it passes over actions, and cannot be promoted.
//!
//! ```text
//!  0 [u8;8] "QMQ-SNP\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..
//! 16 u64 length           24 u64 when the store was created (ms)   32..48 zero
//! 48 a checkpoint, which replays from where the log starts, with a state end
//! ```

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::ReplicaError;
use crate::consume::Names;
use crate::disk::{Disk, LOCK_FILE, MappedDisk, Maps};
use crate::error::{Error, OpenError};
use crate::index::active::Subject;
use crate::index::catalog::floor;
use crate::keep::checkpoint::{self, Summary};
use crate::keep::files::write_whole;
use crate::keep::folder::{UNFINISHED_FILE, is_ours, not_a_store};
use crate::keep::housekeeper;
use crate::keep::identity::{IDENTITY_FILE, Identity, is_begun};
use crate::keep::opening::{OpenAs, lock_folder, not_writable};
use crate::keep::recovery::{Extent, recover};
use crate::le::{header_crc, u32_at, u64_at};
use crate::options::Options;
use crate::store::{Inner, Store};

const MAGIC: [u8; 8] = *b"QMQ-SNP\n";
const VERSION: u32 = 1;
const LEN: usize = 48;

/// What a store knows besides its log, as of an offset: its identity, epochs, subjects and groups. No message is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    bytes: Bytes,
    store_id: u128,
    offset: u64,
    state_end: u64,
    incarnation: u32,
}

impl Snapshot {
    /// Takes the bytes of a snapshot back.
    ///
    /// # Errors
    /// [`ReplicaError::BadSnapshot`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, ReplicaError> {
        let bytes = bytes.into();
        let refuse = |reason| Err(ReplicaError::BadSnapshot { reason });
        if bytes.len() < LEN || bytes[..8] != MAGIC {
            return refuse("its first bytes are not a snapshot's");
        }
        if header_crc(&bytes) != u32_at(&bytes, 12) || u64_at(&bytes, 16) != bytes.len() as u64 {
            return refuse("it is damaged");
        }
        if u32_at(&bytes, 8) > VERSION {
            return refuse("a newer qmq made it");
        }
        let Some((summary, _)) = checkpoint::decode(&bytes[LEN..], &Names::default()) else {
            return refuse("what is in it is damaged, or of a newer qmq");
        };
        let at = summary.replay_from;
        let (start, synced, state) = (summary.start, summary.synced_end, summary.state_end);
        if start != at || synced != at || state < at || !summary.sealed.is_empty() {
            return refuse("its offsets do not fit");
        }
        Ok(Self {
            store_id: summary.store_id,
            offset: at,
            state_end: state,
            incarnation: summary.incarnation,
            bytes,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Identity of the store that it is of.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// Where the log of a replica that is made from it begins: where its master's log began.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// As of which end of the log it is. A replica can be promoted once its log has reached this.
    #[must_use]
    pub fn state_end(&self) -> u64 {
        self.state_end
    }

    /// Incarnation of the store that it is of.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }
}

impl Store {
    /// The state as of an end of the log that is synced, while the store works: what a new replica needs besides the log, which it then
    /// copies from its beginning, or what retention has left of it, on. Reads what came since the last seal; sealing, retention and checkpoints wait meanwhile, appends and pulls do not.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`]; [`Error::Open`] if an index that it needs is damaged: see [`Store::verify`].
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.inner.check_open()?;
        let snapshot = {
            let _step = self.inner.housekeeping.lock();
            self.inner.snapshot()
        };
        self.inner.tell_synced();
        snapshot
    }

    /// Makes a replica in the folder `path`, which must not exist or be empty, from a snapshot of its master; its log begins at
    /// [`Snapshot::offset`], where [`Store::append_raw`] goes on. It has the master's identity. One that was interrupted is begun again.
    ///
    /// # Errors
    /// [`OpenError::NotAStore`] if the folder holds files; as [`Store::open_replica`].
    pub fn install_replica(
        path: impl AsRef<Path>,
        snapshot: &Snapshot,
        options: Options,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let path = path.as_ref();
        let disk = MappedDisk::open(path, true)
            .map_err(|error| not_writable(&path.display().to_string(), error))?;
        Self::install_replica_on(Arc::new(disk), snapshot, options)
    }

    /// As [`Store::install_replica`], on any [`Disk`].
    ///
    /// # Errors
    /// As [`Store::install_replica`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the store takes the disk over"
    )]
    pub fn install_replica_on(
        disk: Arc<dyn Disk>,
        snapshot: &Snapshot,
        options: Options,
    ) -> Result<Self, OpenError> {
        options.check()?;
        check_free(&*disk)?;
        let lock = lock_folder(&*disk)?;
        let unfinished = check_free(&*disk)?;
        install(&*disk, snapshot, unfinished)
            .map_err(|error| not_writable(&disk.describe(), error))?;
        Self::open_as(&disk, options, OpenAs::Replica, Some(lock))
    }
}

impl Inner {
    /// The caller holds the housekeeping lock.
    fn snapshot(&self) -> Result<Snapshot, Error> {
        // So that little is replayed.
        housekeeper::checkpoint(self)?;
        let log = &self.log;
        let end = log.settled().0;
        log.sync_to(end)?;
        // Subjects and groups change while they are read here; replayed, they are as of one offset.
        let maps = Maps::new(
            Arc::clone(&log.disk),
            log.store_id,
            self.options.mapped_files_max,
        );
        let extent = Extent {
            known_synced: end,
            until: end,
            writable: false,
            own: true,
            cut: false,
        };
        let recovered = recover(&*log.disk, &maps, log.store_id, extent)?;
        let start = log.start_offset();
        let mut firsts = Vec::new();
        for subject in recovered.catalog.all() {
            // The housekeeping lock is held: nothing is retired meanwhile.
            let first = floor(&subject, &recovered.segments).map_err(|damaged| {
                let name = damaged.0.index_file().name();
                Error::io(format!("reading {name}"))(std::io::ErrorKind::InvalidData.into())
            })?;
            firsts.push(first);
        }
        // What the record before the first had is not known.
        let last = if start == end {
            (recovered.last_time_ms, recovered.last_incarnation)
        } else {
            (0, 0)
        };
        let summary = Summary {
            store_id: log.store_id,
            replay_from: start,
            synced_end: start,
            start,
            last_time_ms: last.0,
            incarnation: log.incarnation(),
            last_incarnation: last.1,
            state_end: end,
            sealed: Vec::new(),
            epochs: recovered.catalog.epochs.all(),
        };
        let mut subjects = Vec::new();
        let first_of = |subject: &Subject| firsts[subject.id as usize];
        checkpoint::encode_subjects(&recovered.catalog, &first_of, &mut subjects);
        let state = checkpoint::encode(&summary, &subjects);
        let mut bytes = Vec::with_capacity(LEN + state.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&((LEN + state.len()) as u64).to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        bytes.resize(LEN, 0);
        bytes.extend_from_slice(&state);
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        Ok(Snapshot {
            bytes: bytes.into(),
            store_id: log.store_id,
            offset: start,
            state_end: end,
            incarnation: log.incarnation(),
        })
    }
}

/// Refuses a folder with anything in it but what an interrupted installation left; returns the names of that.
fn check_free(disk: &dyn Disk) -> Result<Vec<String>, OpenError> {
    let listed = disk
        .list()
        .map_err(OpenError::io(format!("listing {}", disk.describe())))?;
    let has = |name: &str| listed.iter().any(|file| file.name == name);
    let begun = format!("{UNFINISHED_FILE}.tmp");
    let installing = !has(IDENTITY_FILE)
        && Identity::read_from(disk, UNFINISHED_FILE)?.is_some_and(|identity| identity.replica);
    let mut left = Vec::new();
    for file in &listed {
        let name = &*file.name;
        let of_ours = name == LOCK_FILE && file.len == 0
            || installing && is_ours(name)
            || *name == *begun
                && is_begun(disk, name).map_err(OpenError::io(format!("reading {name}")))?;
        if !of_ours {
            return Err(not_a_store(disk, name));
        }
        if name != LOCK_FILE {
            left.push(file.name.clone());
        }
    }
    Ok(left)
}

/// Writes all but the log, which begins with the open. Only the last step makes it a store.
fn install(disk: &dyn Disk, snapshot: &Snapshot, unfinished: Vec<String>) -> std::io::Result<()> {
    let (marks, others): (Vec<_>, Vec<_>) = unfinished
        .into_iter()
        .partition(|name| name == UNFINISHED_FILE);
    // What says whose these are goes last.
    for names in [others, marks] {
        for name in &names {
            disk.remove(name)?;
        }
        if !names.is_empty() {
            disk.sync_names()?;
        }
    }
    let identity = Identity {
        store_id: snapshot.store_id,
        created_ms: u64_at(&snapshot.bytes, 24),
        incarnation: snapshot.incarnation,
        clean_end: Some(snapshot.offset),
        replica: true,
        held: false,
        cut: None,
    };
    write_whole(disk, UNFINISHED_FILE, &identity.encode())?;
    disk.sync_names()?;
    let name = checkpoint::checkpoint_name(snapshot.offset);
    write_whole(disk, &name, &snapshot.bytes[LEN..])?;
    disk.sync_names()?;
    disk.rename(UNFINISHED_FILE, IDENTITY_FILE)?;
    disk.sync_names()
}
