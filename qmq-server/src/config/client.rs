//! `client.properties`: how the command line, and programs that like, find a broker and say who they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfigError, Problem, Warning};
use super::files::{Readers, write_atomic};
use super::keys;
use super::properties::escape_value;
use super::settings::{Settings, Sources};
use super::stamp::read_limited;

/// How to find a broker, and who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// `meta.server.endpoint`, taken apart.
    pub meta_endpoints: Vec<String>,
    /// `meta.server.name`.
    pub meta_name: Option<String>,
    /// `broker.address`, taken apart.
    pub addresses: Vec<String>,
    /// `tls.ca`.
    pub tls_ca: Option<PathBuf>,
    /// `tls.cert`.
    pub tls_cert: Option<PathBuf>,
    /// `tls.key`.
    pub tls_key: Option<PathBuf>,
    /// `tls.server.name`.
    pub server_name: Option<String>,
    /// `token`, or the content of `token.file`.
    pub token: Option<String>,
    /// `consumer.id`.
    pub consumer_id: Option<String>,
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("meta_endpoints", &self.meta_endpoints)
            .field("meta_name", &self.meta_name)
            .field("addresses", &self.addresses)
            .field("tls_ca", &self.tls_ca)
            .field("tls_cert", &self.tls_cert)
            .field("tls_key", &self.tls_key)
            .field("server_name", &self.server_name)
            .field("token", &self.token.as_ref().map(|_| "(secret)"))
            .field("consumer_id", &self.consumer_id)
            .finish()
    }
}

/// Why a client's file cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// What is wrong with it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// The pointer file names nothing.
    #[error("{} does not name a client.properties; start `qmq dev` again, or say which with --client FILE", path.display())]
    Pointer {
        /// The pointer file.
        path: PathBuf,
    },
}

impl ClientConfigError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io {
            path,
            reason: Arc::new(error),
        }
    }
}

impl ClientConfig {
    /// Reads all sources, and says what was odd.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Warning>), ConfigError> {
        let settings = Settings::read(keys::CLIENT, sources)?;
        let problems = Self::rules(&settings)?;
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let named = |key| {
            let text = settings.text(key)?;
            Ok::<_, ConfigError>(Some(text).filter(|text| !text.is_empty()))
        };
        let several = |key| {
            let text = settings.text(key)?;
            let parts = text.split(',').map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            Ok::<_, ConfigError>(parts.map(str::to_owned).collect::<Vec<_>>())
        };
        let config = Self {
            meta_endpoints: several("meta.server.endpoint")?,
            meta_name: named("meta.server.name")?,
            addresses: several("broker.address")?,
            tls_ca: settings.path("tls.ca")?,
            tls_cert: settings.path("tls.cert")?,
            tls_key: settings.path("tls.key")?,
            server_name: named("tls.server.name")?,
            token: named("token")?,
            consumer_id: named("consumer.id")?,
        };
        Ok((config, settings.warnings))
    }

    /// Finds values that do not go together.
    pub(super) fn rules(settings: &Settings) -> Result<Vec<Problem>, Problem> {
        let certificate = settings.path("tls.cert")?.is_some();
        let alone = match (certificate, settings.path("tls.key")?.is_some()) {
            (true, false) => ("tls.cert", "a certificate with its tls.key; set both"),
            (false, true) => ("tls.key", "a key with its tls.cert; set both"),
            _ => return Ok(Vec::new()),
        };
        let (key, allowed) = alone;
        Ok(vec![settings.conflict(key, allowed.to_owned())])
    }

    /// Writes it as a file that [`Self::load`] reads, for its owner alone if it has a token.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> Result<(), ClientConfigError> {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let joined = |parts: &[String]| Some(parts.join(",")).filter(|text| !text.is_empty());
        let rows = [
            ("meta.server.endpoint", joined(&self.meta_endpoints)),
            ("meta.server.name", self.meta_name.clone()),
            ("broker.address", joined(&self.addresses)),
            ("tls.ca", shown(&self.tls_ca)),
            ("tls.cert", shown(&self.tls_cert)),
            ("tls.key", shown(&self.tls_key)),
            ("tls.server.name", self.server_name.clone()),
            ("token", self.token.clone()),
            ("consumer.id", self.consumer_id.clone()),
        ];
        let mut text = String::new();
        for (key, value) in rows {
            if let Some(value) = value {
                text.push_str(&format!("{key}={}\n", escape_value(&value)));
            }
        }
        let readers = match self.token {
            Some(_) => Readers::Owner,
            None => Readers::Everyone,
        };
        write_atomic(path, text.as_bytes(), readers).map_err(ClientConfigError::io(path))
    }
}

/// Where the pointer to the last `client.properties` of this user is: `qmq/client` in `$XDG_STATE_HOME`, or in
/// `.local/state` of the home folder. `None` if neither is known. A relative `$XDG_STATE_HOME` does not count, as its specification says.
#[must_use]
pub fn pointer_path(state_home: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    let state = state_home.filter(|path| path.is_absolute());
    let state = match state {
        Some(state) => state.to_owned(),
        None => home?.join(".local/state"),
    };
    Some(state.join("qmq/client"))
}

/// Makes `client` the file that commands take when they are told none. The folder of the pointer is made if need be.
///
/// # Errors
/// What the system says.
pub fn point_at_client(pointer: &Path, client: &Path) -> Result<(), ClientConfigError> {
    let absolute = std::path::absolute(client).map_err(ClientConfigError::io(client))?;
    if let Some(folder) = pointer.parent() {
        fs::create_dir_all(folder).map_err(ClientConfigError::io(folder))?;
    }
    use std::os::unix::ffi::OsStrExt as _;
    let mut line = absolute.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    write_atomic(pointer, &line, Readers::Owner).map_err(ClientConfigError::io(pointer))
}

/// The file that the pointer names; `None` if there is no pointer.
///
/// # Errors
/// A pointer that cannot be read, or that names no file by an absolute path.
pub fn pointed_client(pointer: &Path) -> Result<Option<PathBuf>, ClientConfigError> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = match read_limited(pointer, 64 << 10) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ClientConfigError::io(pointer)(error)),
    };
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    if !path.is_absolute() {
        let path = pointer.to_owned();
        return Err(ClientConfigError::Pointer { path });
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.properties");
        let config = ClientConfig {
            meta_endpoints: vec!["http://127.0.0.1:8080/meta/address".into()],
            meta_name: Some("localhost".into()),
            addresses: vec!["127.0.0.1:20881".into(), "[::1]:20881".into()],
            tls_ca: Some(folder.path().join("tls/ca.pem")),
            tls_cert: Some(folder.path().join("a b\\c.pem")),
            tls_key: Some(folder.path().join("k.pem")),
            server_name: Some("localhost".into()),
            token: Some("s3cret=:#!\\".into()),
            consumer_id: Some("host-1".into()),
        };
        config.write(&path).unwrap();
        let (read, warnings) = ClientConfig::load(&Sources::of_file(&path)).unwrap();
        assert_eq!(read, config);
        assert_eq!(warnings, []);
        ClientConfig::default().write(&path).unwrap();
        let (read, _) = ClientConfig::load(&Sources::of_file(&path)).unwrap();
        assert_eq!(read, ClientConfig::default());
    }

    #[test]
    fn a_file_with_a_token_is_for_its_owner_and_the_token_is_never_shown() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.properties");
        let config = ClientConfig {
            token: Some("hunter2".into()),
            ..ClientConfig::default()
        };
        config.write(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_may_stand_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.properties");
        fs::write(folder.path().join("secret"), "\n hunter2 \n").unwrap();
        fs::write(&path, "token.file=secret\n").unwrap();
        let (config, _) = ClientConfig::load(&Sources::of_file(&path)).unwrap();
        assert_eq!(config.token.as_deref(), Some("hunter2"));
        fs::write(&path, "token.file=secret\ntoken=other\n").unwrap();
        let error = ClientConfig::load(&Sources::of_file(&path)).unwrap_err();
        assert!(error.to_string().contains("keep one of them"), "{error}");
        fs::write(&path, "token.file=nowhere\n").unwrap();
        let error = ClientConfig::load(&Sources::of_file(&path)).unwrap_err();
        assert!(error.to_string().contains("token.file"), "{error}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        for (key, value) in [("tls.cert", "c.pem"), ("tls.key", "k.pem")] {
            let sources = Sources {
                sets: vec![(key.into(), value.into())],
                ..Sources::default()
            };
            let error = ClientConfig::load(&sources).unwrap_err();
            assert!(error.to_string().contains("set both"), "{error}");
        }
    }

    #[test]
    fn the_pointer_leads_to_the_file_last_named() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = pointer_path(Some(folder.path()), None).unwrap();
        assert_eq!(pointed_client(&pointer).unwrap(), None);
        for name in ["one", "two\nlines"] {
            let client = folder.path().join(name);
            point_at_client(&pointer, &client).unwrap();
            assert_eq!(pointed_client(&pointer).unwrap(), Some(client));
        }
        fs::write(&pointer, "relative\n").unwrap();
        assert!(pointed_client(&pointer).is_err());
    }

    #[test]
    fn the_pointer_is_in_the_state_folder() {
        let (xdg, home) = (Path::new("/state"), Path::new("/home/x"));
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            pointer_path(Some(xdg), Some(home)),
            expected("/state/qmq/client")
        );
        let in_home = expected("/home/x/.local/state/qmq/client");
        assert_eq!(pointer_path(None, Some(home)), in_home);
        assert_eq!(pointer_path(Some(Path::new("state")), Some(home)), in_home);
        assert_eq!(pointer_path(None, None), None);
    }
}
