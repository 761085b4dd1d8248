//! The rows of QMQ's tables and of our own, as both databases have them (QMQ: `qmq-dist/sql/init.sql`). Times are ms since 1970 UTC, by the database's clock.

use serde::{Deserialize, Serialize};

/// What a broker is in its group; numbers and names are QMQ's (`BrokerRole`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i32)]
pub enum BrokerRole {
    /// Takes messages.
    Master = 0,
    /// A copy of the master.
    Slave = 1,
    /// Reserved by QMQ.
    Standby = 2,
    /// Keeps history.
    Backup = 4,
    /// Takes delayed messages.
    DelayMaster = 5,
    /// A copy of a delay master.
    DelaySlave = 6,
    /// Keeps history of a delay server.
    DelayBackup = 7,
}

impl BrokerRole {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Master,
        Self::Slave,
        Self::Standby,
        Self::Backup,
        Self::DelayMaster,
        Self::DelaySlave,
        Self::DelayBackup,
    ];

    /// The role of QMQ's number.
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as i32 == number)
    }

    /// QMQ's name, as its tools print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Slave => "SLAVE",
            Self::Standby => "STANDBY",
            Self::Backup => "BACKUP",
            Self::DelayMaster => "DELAY_MASTER",
            Self::DelaySlave => "DELAY_SLAVE",
            Self::DelayBackup => "DELAY_BACKUP",
        }
    }

    /// Whether it takes messages for its group: the address of such a broker is the group's.
    #[must_use]
    pub fn is_master(self) -> bool {
        matches!(self, Self::Master | Self::DelayMaster)
    }

    /// The kind of its group.
    #[must_use]
    pub fn kind(self) -> GroupKind {
        match self {
            Self::DelayMaster | Self::DelaySlave | Self::DelayBackup => GroupKind::Delay,
            _ => GroupKind::Normal,
        }
    }
}

/// What a broker group is for (QMQ: `BrokerGroupKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum GroupKind {
    /// Messages.
    Normal = 0,
    /// Delayed messages.
    Delay = 1,
}

/// Whether a group is written to and read from (QMQ: `BrokerState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum GroupState {
    /// Both.
    ReadWrite = 1,
    /// Read from.
    Read = 2,
    /// Written to.
    Write = 3,
    /// Neither: it is away.
    None = 4,
}

impl GroupState {
    /// The state of QMQ's number; numbers that it does not know count as away.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        match number {
            1 => Self::ReadWrite,
            2 => Self::Read,
            3 => Self::Write,
            _ => Self::None,
        }
    }

    /// QMQ's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "RW",
            Self::Read => "R",
            Self::Write => "W",
            Self::None => "NRW",
        }
    }

    /// Whether consumers use it.
    #[must_use]
    pub fn can_read(self) -> bool {
        matches!(self, Self::ReadWrite | Self::Read)
    }

    /// Whether producers use it.
    #[must_use]
    pub fn can_write(self) -> bool {
        matches!(self, Self::ReadWrite | Self::Write)
    }
}

/// A subject (`subject_info`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Groups of this tag serve it; `_default_` if nobody said.
    pub tag: String,
    /// Last change.
    pub updated_ms: u64,
}

/// A broker group (`broker_group`, and what `qmqx_group` adds).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerGroup {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: GroupKind,
    /// `host:port` of its master; the long one if there is one.
    pub master: String,
    /// Whether it is written to and read from.
    pub state: GroupState,
    /// Subjects of this tag use it.
    pub tag: String,
    /// QMQ's `ext`, a JSON object; databases before script 001 have none.
    pub ext: Option<String>,
    /// Last change.
    pub updated_ms: u64,
    /// Grows with each change of master. 0: never granted.
    pub epoch: u64,
    /// When its master was last heard of by one of our meta servers; `None`: never.
    pub last_seen_ms: Option<u64>,
    /// Whether it is being decommissioned: no new subjects, no new messages; consumers empty it.
    pub retiring: bool,
}

/// A subject's route (`subject_route`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRoute {
    /// The subject.
    pub subject: String,
    /// The groups that serve it (`broker_group_json`, 300 characters at most).
    pub groups: Vec<String>,
    /// Grows with each change.
    pub version: i32,
    /// Last change.
    pub updated_ms: u64,
}

/// A broker (`broker`; those that its columns and keys cannot hold in `qmqx_broker`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: BrokerRole,
    /// Host name by which it asks; unique with `serve_port`.
    pub hostname: String,
    /// Address that others use: IPv4 in QMQ's table; IPv6 or a name in ours.
    pub ip: String,
    /// Port for clients, 1 to 65,535.
    pub serve_port: u16,
    /// Port for slaves; `None` (QMQ: -1) for a backup.
    pub sync_port: Option<u16>,
}

/// A read-only setting (`readonly_broker_group_setting`): producers do not use the group for the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadonlyRow {
    /// A subject, or `*`.
    pub subject: String,
    /// The group.
    pub group: String,
}

/// A consumer that is switched off (`client_offline_state`); rows of those that are on are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OfflineRow {
    /// A consumer, or `*`.
    pub client: String,
    /// A subject, or `*`.
    pub subject: String,
    /// A consumer group, or `*`.
    pub group: String,
}

/// Whether a consumer is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It consumes.
    Online,
    /// It does not.
    Offline,
}

/// What a client does (QMQ: `ClientType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum ClientKind {
    /// Produces.
    Producer = 1,
    /// Consumes.
    Consumer = 2,
    /// Both, as QMQ says of those that do not say.
    Other = 3,
    /// Produces delayed messages.
    DelayProducer = 4,
}

/// A client that has been there (`client_meta_info`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientRow {
    /// The subject.
    pub subject: String,
    /// What it does.
    pub kind: ClientKind,
    /// Its consumer group, or empty.
    pub group: String,
    /// Its name.
    pub client: String,
    /// Its application.
    pub application: String,
    /// Its room (data centre), or empty.
    pub room: String,
}

/// A database with messages to be sent (`datasource_config`); what the watchdog looks through.
#[derive(Clone, PartialEq, Eq)]
pub struct DataSource {
    /// JDBC URL.
    pub url: String,
    /// User.
    pub user: String,
    /// Password, in the clear as QMQ has it; never shown.
    pub password: String,
    /// Room.
    pub room: String,
}

impl std::fmt::Debug for DataSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataSource")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
