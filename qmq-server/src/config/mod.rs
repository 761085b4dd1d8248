//! Settings from properties files: the keys, their ranges, where a value came from, and reloading.
//!
//! Every key stands in a table ([`keys`]) with its kind, range, default and meaning. [`Settings::read`] takes them from the command
//! line (`--set KEY=VALUE`), the environment (`QMQ_...`), a `.properties` file and the defaults, in this order of precedence, and
//! either says all that is wrong or has a value for each key, with its [`Origin`]. [`BrokerConfig`] is what the rest of the server reads,
//! [`WatchedConfig`] re-reads the file when it changes, and [`ClientConfig`] is the command line's side.
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

mod broker;
mod client;
mod error;
pub(crate) mod files;
mod key;
pub mod keys;
mod nearest;
mod origin;
pub mod properties;
mod reader;
mod settings;
mod stamp;
mod value;
mod watched;

pub use broker::{
    BrokerConfig, ClientAuth, ConnectionLimits, ConsumerLimits, DedupLimits, Dynamic, FlushMode,
    MemoryLimits,
};
pub use client::{ClientConfig, ClientConfigError, point_at_client, pointed_client, pointer_path};
pub use error::{ConfigError, Problem, Warning};
pub use key::{Fallback, Key, Kind, Status, TimeUnit};
pub use origin::Origin;
pub use settings::{FILE_BYTES_MAX, Setting, Settings, Sources};
pub use stamp::{Stamp, read_limited};
pub use value::Value;
pub use watched::{Change, Reload, WatchedConfig};
