//! The configs of runs, as the YAML text that was stored. What a config means is read elsewhere.

use std::path::{Path, PathBuf};

use crate::{Error, Result, RunName, durable, local};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConfigStore {
    base: PathBuf,
}

impl LocalConfigStore {
    /// The configs in `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Where the config of a run stands.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn path(&self, run: &str) -> Result<PathBuf> {
        Ok(local::run_dir(&self.base, run)?.join("run.yaml"))
    }
}

impl ConfigStore for LocalConfigStore {
    fn store_run(&self, run: &str, yaml: &str) -> Result<()> {
        match self.load_run(run)? {
            None => self.replace_run(run, yaml),
            Some(stored) if stored == yaml => Ok(()),
            Some(_) => Err(Error::Differs {
                run: run.to_owned(),
                path: self.path(run)?,
            }),
        }
    }

    fn replace_run(&self, run: &str, yaml: &str) -> Result<()> {
        local::create_run_dir(&self.base, run)?;
        durable::write_atomic(&self.path(run)?, yaml.as_bytes())
    }

    fn load_run(&self, run: &str) -> Result<Option<String>> {
        let path = self.path(run)?;
        let Some(bytes) = durable::read(&path)? else {
            return Ok(None);
        };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            Error::io("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })
    }

    fn runs(&self) -> Result<Vec<String>> {
        let has_config = |run: &String| {
            RunName::from_component(run).is_ok() && Path::is_file(&self.base.join(run).join("run.yaml"))
        };
        let mut runs = durable::entries(&self.base)?;
        runs.retain(has_config);
        runs.sort_unstable();
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
