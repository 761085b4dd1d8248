//! What the typed configurations of all servers have in common: where they come from, and how they follow their file.

use std::borrow::Cow;
use std::fmt::Debug;

use super::error::{ConfigError, Problem};
use super::file_kind::FileKind;
use super::settings::{Settings, Sources};

/// The configuration of a server, as one of the tables in [`super::keys`] has it.
pub trait Configuration: Sized {
    /// What takes effect without a restart.
    type Dynamic: Clone + Debug + Send + Sync;

    /// Its file.
    const KIND: FileKind;

    /// Computes what depends on other keys, and finds values that do not go together.
    ///
    /// # Errors
    /// A key that the table does not have as what it is read as: a mistake of this program.
    fn rules(settings: &mut Settings) -> Result<Vec<Problem>, Problem>;

    /// What [`Self::rules`] left, typed. `sources` are those that it was read from.
    ///
    /// # Errors
    /// What is wrong with other files that it names, and as [`Self::rules`].
    fn typed(settings: Settings, sources: &Sources) -> Result<Self, ConfigError>;

    /// What takes effect without a restart, of settings.
    ///
    /// # Errors
    /// As [`Self::rules`].
    fn dynamic(settings: &Settings) -> Result<Self::Dynamic, Problem>;

    /// Every key with its value and where it came from, and the warnings.
    fn settings(&self) -> &Settings;

    /// What takes effect without a restart, as it was at start.
    fn current(&self) -> Self::Dynamic;

    /// The sources without what is for other files that this one names.
    fn own(sources: &Sources) -> Cow<'_, Sources> {
        Cow::Borrowed(sources)
    }

    /// Reads the settings, and checks that they go together.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    fn read(sources: &Sources) -> Result<Settings, ConfigError> {
        let mut settings = Settings::read(Self::KIND.keys(), &Self::own(sources))?;
        let problems = Self::rules(&mut settings)?;
        match problems.is_empty() {
            true => Ok(settings),
            false => Err(ConfigError { problems }),
        }
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::typed(Self::read(sources)?, sources)
    }
}
