//! What it takes to reach a place: options of object stores, storages in memory. An argument, never a global.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Below, LocalStorage, Location, Storage};
use crate::{Error, Result};

/// Gives the storage of a place. The default reaches paths and web servers; everything else has to be given to it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    memories: BTreeMap<String, Arc<dyn Storage>>,
    object_store: ObjectStoreOptions,
    #[cfg(feature = "object-store")]
    services: super::object::Services,
}

/// How object stores are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectStoreOptions {
    /// URL of the service; that of AWS by default.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    pub region: Option<String>,
    /// Whether the endpoint may be a plain `http://` one.
    pub allow_http: bool,
    /// Whether the bucket is a part of the host's name instead of the path's.
    pub virtual_hosted_style: bool,
    /// How often a request that fails for now is repeated, with growing pauses; 10 times by default.
    pub retries: Option<usize>,
    /// Who asks.
    pub credentials: Credentials,
}

/// Who asks an object store.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody that is known: object stores are refused, with what to do.
    #[default]
    Missing,
    /// Anybody: for public data.
    Unsigned,
    /// The role that the service gives to the machine.
    Machine,
    /// Who has this key.
    Key {
        /// The key's name.
        id: String,
        /// The key.
        secret: String,
        /// What goes with a key that is given for a while.
        token: Option<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No secret in any log.
        f.write_str(match self {
            Self::Missing => "Missing",
            Self::Unsigned => "Unsigned",
            Self::Machine => "Machine",
            Self::Key { .. } => "Key(…)",
        })
    }
}

impl Access {
    /// Reaches what is kept in `storage` as `memory://name`.
    #[must_use]
    pub fn with_memory(mut self, name: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        self.memories.insert(name.into(), storage);
        self
    }

    /// Reaches object stores (`s3://bucket`).
    #[must_use]
    pub fn with_object_store(mut self, options: ObjectStoreOptions) -> Self {
        self.object_store = options;
        #[cfg(feature = "object-store")]
        {
            self.services = super::object::Services::default();
        }
        self
    }

    /// How object stores are reached.
    pub fn object_store(&self) -> &ObjectStoreOptions {
        &self.object_store
    }

    /// The storage that has `location` as its root. Touches no disk and asks no service.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what this program or this value cannot reach, with what would help.
    pub fn storage(&self, location: &Location) -> Result<Arc<dyn Storage>> {
        let Some((scheme, authority, key)) = location.url() else {
            return Ok(Arc::new(LocalStorage::new(
                location.path().unwrap_or(".".as_ref()),
            )));
        };
        let root = match scheme {
            "memory" => self
                .memories
                .get(authority)
                .cloned()
                .ok_or_else(|| Error::Unsupported {
                    what: format!("`{location}`: no storage in memory is called `{authority}`; reaching it"),
                    hint: String::new(),
                })?,
            "s3" => self.bucket(authority, location)?,
            scheme => self.server(scheme, authority, location)?,
        };
        if key.is_empty() {
            Ok(root)
        } else {
            Ok(Arc::new(Below::new(root, key)?))
        }
    }

    #[cfg(feature = "object-store")]
    fn bucket(&self, bucket: &str, location: &Location) -> Result<Arc<dyn Storage>> {
        if self.object_store.credentials == Credentials::Missing {
            return Err(Error::Unsupported {
                what: format!("`{location}`: an object store without credentials"),
                hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials; \
                       for public data say `object_store: {credentials: unsigned}` in dacapo.yaml"
                    .into(),
            });
        }
        self.services.bucket(bucket, &self.object_store)
    }

    #[cfg(feature = "object-store")]
    fn server(&self, scheme: &str, host: &str, _: &Location) -> Result<Arc<dyn Storage>> {
        self.services.server(format!("{scheme}://{host}"))
    }

    #[cfg(not(feature = "object-store"))]
    fn server(&self, _: &str, host: &str, location: &Location) -> Result<Arc<dyn Storage>> {
        self.bucket(host, location)
    }

    #[cfg(not(feature = "object-store"))]
    fn bucket(&self, _: &str, location: &Location) -> Result<Arc<dyn Storage>> {
        Err(Error::Unsupported {
            what: format!("`{location}`: reaching object stores and web servers"),
            hint: "build with the feature `object-store`".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Durability, MemoryStorage, StorageExt};

    #[test]
    fn the_default_reaches_paths_and_says_what_else_would_need() {
        let access = Access::default();
        let dir = tempfile::tempdir().unwrap();
        let here = access.storage(&dir.path().into()).unwrap();
        here.write("a", b"1", Durability::Synced).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"1");
        let error = |text: &str| access.storage(&text.parse().unwrap()).unwrap_err().to_string();
        assert!(error("memory://m/x").contains("`m`"));
        assert!(error("s3://bucket/x").contains("s3://bucket/x"));
    }

    #[test]
    fn a_place_in_memory_is_what_is_below_it() {
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
        let access = Access::default().with_memory("m", memory.clone());
        let inner = access.storage(&"memory://m/a/b".parse().unwrap()).unwrap();
        inner.write("c", b"1", Durability::Synced).unwrap();
        assert_eq!(memory.read("a/b/c").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(inner.describe("c"), "memory://m/a/b/c");
        assert_eq!(inner.describe(""), "memory://m/a/b");
        assert!(inner.read("../x").is_err());
    }

    #[test]
    fn no_secret_is_printed() {
        let credentials = Credentials::Key {
            id: "name".into(),
            secret: "secret".into(),
            token: Some("token".into()),
        };
        let access = Access::default().with_object_store(ObjectStoreOptions {
            credentials,
            ..ObjectStoreOptions::default()
        });
        let text = format!("{access:?}");
        assert!(
            !text.contains("secret") && !text.contains("token") && !text.contains("name"),
            "{text}"
        );
    }
}
