//! What is measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One thread, one record of 1 KiB a call, nothing synced
    #[value(name = "buffered-1k")]
    #[serde(rename = "buffered-1k")]
    Buffered1k,
    /// The same with records of 100 B
    #[value(name = "buffered-100")]
    #[serde(rename = "buffered-100")]
    Buffered100,
    /// One thread, 1,000 records of 1 KiB a call, nothing synced
    #[value(name = "batch-1k")]
    #[serde(rename = "batch-1k")]
    Batch1k,
    /// The same with records of 100 B
    #[value(name = "batch-100")]
    #[serde(rename = "batch-100")]
    Batch100,
    /// One thread, one record of 1 KiB a call, each synced before the next
    #[value(name = "synced-1")]
    #[serde(rename = "synced-1")]
    Synced1,
    /// The same from 64 threads, each waiting for its own record
    #[value(name = "synced-64")]
    #[serde(rename = "synced-64")]
    Synced64,
    /// 64 records in flight from four threads, told by callback that they are synced
    #[value(name = "inflight-64")]
    #[serde(rename = "inflight-64")]
    Inflight64,
}

impl Mode {
    pub fn record_bytes(self) -> usize {
        match self {
            Self::Buffered100 | Self::Batch100 => 100,
            _ => 1024,
        }
    }

    pub fn is_batch(self) -> bool {
        matches!(self, Self::Batch1k | Self::Batch100)
    }

    pub fn is_synced(self) -> bool {
        matches!(self, Self::Synced1 | Self::Synced64 | Self::Inflight64)
    }

    /// Records of a round when the command line does not say.
    pub fn messages_default(self) -> u64 {
        if self.record_bytes() == 100 {
            2_000_000
        } else {
            500_000
        }
    }

    pub fn threads(self) -> usize {
        match self {
            Self::Synced64 => 64,
            Self::Inflight64 => 4,
            _ => 1,
        }
    }

    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
