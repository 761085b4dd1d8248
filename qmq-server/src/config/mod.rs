//! Settings from properties files: the keys, their ranges, where a value came from, and reloading.
//!
//! Every key stands in a table ([`keys`]) with its kind, range, default and meaning. [`Settings::read`] takes them from the command
//! line (`--set KEY=VALUE`), the environment (`QMQ_...`), a `.properties` file and the defaults, in this order of precedence, and
//! either says all that is wrong or has a value for each key, with its [`Origin`]. [`BrokerConfig`], [`DelayConfig`] and [`MetaConfig`]
//! are what the rest of the servers read, [`Watched`] re-reads a file when it changes, and [`ClientConfig`] is the command line's side.
//! Files without fixed keys are [`Lines`]: [`ApiTokens`], [`ClientLogSwitch`], [`HttpPorts`]. [`FileKind`] lists all files, and
//! [`Checked`] says whether one can be used.
//!
//! ```
//! use qmq_server::config::{BrokerConfig, Sources};
//!
//! let sets = vec![("broker.port".to_owned(), "21000".to_owned())];
//! let sources = Sources { sets, ..Sources::default() };
//! let config = BrokerConfig::load(&sources)?;
//! assert_eq!(config.http_port, Some(31000));
//! # Ok::<(), qmq_server::config::ConfigError>(())
//! ```

mod api_tokens;
mod broker;
mod check;
mod client;
mod client_log_switch;
mod configuration;
mod datasource;
mod delay;
mod document;
mod error;
mod file_kind;
pub(crate) mod files;
mod http_ports;
mod key;
pub mod keys;
mod lines;
mod meta;
mod nearest;
mod origin;
mod parts;
pub mod properties;
mod reader;
mod rules;
mod secret;
mod settings;
mod stamp;
#[cfg(test)]
mod told;
mod url;
mod value;
mod watched;

pub use api_tokens::ApiTokens;
pub use broker::{BrokerConfig, ConsumerLimits, DedupLimits, Dynamic};
pub use check::{Checked, Content};
pub use client::{ClientConfig, ClientConfigError, point_at_client, pointed_client, pointer_path};
pub use client_log_switch::ClientLogSwitch;
pub use configuration::Configuration;
pub use datasource::DatasourceConfig;
pub use delay::{DelayConfig, DelayDynamic};
pub use document::document;
pub use error::{ConfigError, Problem, Warning};
pub use file_kind::FileKind;
pub use http_ports::HttpPorts;
pub use key::{Fallback, Key, Kind, Status, TimeUnit};
pub use lines::{Lines, LinesReload, Odd, WatchedLines};
pub use meta::{MetaConfig, MetaDatabase, MetaDynamic};
pub use origin::Origin;
pub use parts::{
    ClientAuth, ConnectionLimits, FlushMode, Member, MemoryLimits, Role, Security, WindowLimits,
};
pub use secret::Secret;
pub use settings::{FILE_BYTES_MAX, Setting, Settings, Sources};
pub use stamp::{Stamp, read_limited};
pub use value::Value;
pub use watched::{Change, Reload, Watched, WatchedConfig};
