//! The configs of runs, as the YAML text that was stored. What a config means is read elsewhere.

use std::path::PathBuf;

use dacapo_array::storage::{Durability, Kind, Location, StorageExt, join};

use crate::{Error, Result, RunName, local::Base};

/// Keeps one config a run: the record of what the run is.
pub trait ConfigStore: Send + Sync {
    /// Stores the config of a new run, durably and whole or not at all. Storing the same text again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Differs`] if the run has another config, [`Error::Name`], [`Error::Twin`], [`Error::Io`].
    fn store_run(&self, run: &str, yaml: &str) -> Result<()>;

    /// Stores the config of a run in place of what it had, atomically.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Twin`], [`Error::Io`].
    fn replace_run(&self, run: &str, yaml: &str) -> Result<()>;

    /// The config of a run; nothing if it has none.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Io`].
    fn load_run(&self, run: &str) -> Result<Option<String>>;

    /// The runs that have a config, sorted by name; none if the store is not there yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn runs(&self) -> Result<Vec<String>>;
}

/// Configs as `<base>/<run>/run.yaml`.
#[derive(Clone, Debug)]
pub struct LocalConfigStore {
    pub(crate) base: Base,
}

impl LocalConfigStore {
    /// The configs in the directory `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = Base::directory(base);
        Self { base }
    }

    /// Where the config of a run stands.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn path(&self, run: &str) -> Result<Location> {
        Ok(self.base.location.join(&self.key(run)?))
    }

    fn key(&self, run: &str) -> Result<String> {
        Ok(join(&self.base.run(run)?, FILE))
    }
}

const FILE: &str = "run.yaml";

impl ConfigStore for LocalConfigStore {
    fn store_run(&self, run: &str, yaml: &str) -> Result<()> {
        let key = join(&self.base.create_run(run)?, FILE);
        if self.base.storage.create(&key, yaml.as_bytes())? || self.load_run(run)?.as_deref() == Some(yaml) {
            return Ok(());
        }
        Err(Error::Differs {
            run: run.to_owned(),
            path: self.base.path(&key),
        })
    }

    fn replace_run(&self, run: &str, yaml: &str) -> Result<()> {
        let key = join(&self.base.create_run(run)?, FILE);
        Ok(self
            .base
            .storage
            .write(&key, yaml.as_bytes(), Durability::Synced)?)
    }

    fn load_run(&self, run: &str) -> Result<Option<String>> {
        let key = self.key(run)?;
        let Some(bytes) = self.base.storage.read(&key)? else {
            return Ok(None);
        };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            Error::io("read", self.base.path(&key))(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                error,
            ))
        })
    }

    fn runs(&self) -> Result<Vec<String>> {
        let storage = &self.base.storage;
        let mut runs = Vec::new();
        for entry in storage.list("")? {
            let is_run = entry.kind != Kind::Object
                && RunName::from_component(&entry.name).is_ok()
                && storage.exists(&join(&entry.name, FILE))?;
            if is_run {
                runs.push(entry.name);
            }
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::conformance;

    #[test]
    fn conforms() {
        let base = tempfile::tempdir().unwrap();
        conformance::config_store(&LocalConfigStore::new(base.path().join("base")));
        conformance::config_store(&conformance::in_memory("memory://m/base").configs);
    }

    #[test]
    fn what_is_no_run_is_not_listed() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalConfigStore::new(base.path());
        store.store_run("run", "a: 1\n").unwrap();
        fs::create_dir_all(base.path().join("configs/runs")).unwrap();
        fs::create_dir_all(base.path().join("begun")).unwrap();
        fs::write(base.path().join("dacapo.yaml"), "").unwrap();
        assert_eq!(store.runs().unwrap(), ["run"]);
        assert_eq!(
            fs::read_to_string(base.path().join("run/run.yaml")).unwrap(),
            "a: 1\n"
        );
    }
}
