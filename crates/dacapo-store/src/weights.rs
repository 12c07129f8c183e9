//! Checkpoints, as the bytes that were stored. What is in them, and whether it reads, is the caller's affair.

use std::path::PathBuf;

use dacapo_array::storage::{Durability, Location, StorageExt, join};

use crate::{Error, Removed, Result, local::Base};

const SUFFIX: &str = ".safetensors";

/// Keeps the weights of each run by iteration.
pub trait WeightsStore: Send + Sync {
    /// Stores the weights of an iteration, durably and whole or not at all, in place of any that it had.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Twin`], [`Error::Io`].
    fn store(&self, run: &str, iteration: u64, bytes: &[u8]) -> Result<()>;

    /// The weights of an iteration, byte for byte.
    ///
    /// # Errors
    /// [`Error::NoWeights`], which says what is there; [`Error::Name`], [`Error::Io`].
    fn load(&self, run: &str, iteration: u64) -> Result<Vec<u8>>;

    /// The iterations that have weights, ascending; none for a run that is not there.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Io`].
    fn iterations(&self, run: &str) -> Result<Vec<u64>>;

    /// Removes the weights of an iteration; that there are none is an answer.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Io`].
    fn remove(&self, run: &str, iteration: u64) -> Result<Removed>;
}

/// Weights as `<base>/<run>/checkpoints/<iteration>.safetensors`.
#[derive(Clone, Debug)]
pub struct LocalWeightsStore {
    pub(crate) base: Base,
}

const DIRECTORY: &str = "checkpoints";

impl LocalWeightsStore {
    /// The weights in the directory `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = Base::directory(base);
        Self { base }
    }

    /// Where the weights of an iteration stand.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn path(&self, run: &str, iteration: u64) -> Result<Location> {
        Ok(self.base.location.join(&self.key(run, iteration)?))
    }

    fn key(&self, run: &str, iteration: u64) -> Result<String> {
        Ok(join(&self.dir(run)?, &format!("{iteration}{SUFFIX}")))
    }

    fn dir(&self, run: &str) -> Result<String> {
        Ok(join(&self.base.run(run)?, DIRECTORY))
    }
}

impl WeightsStore for LocalWeightsStore {
    fn store(&self, run: &str, iteration: u64, bytes: &[u8]) -> Result<()> {
        self.base.create_run(run)?;
        let key = self.key(run, iteration)?;
        Ok(self.base.storage.write(&key, bytes, Durability::Synced)?)
    }

    fn load(&self, run: &str, iteration: u64) -> Result<Vec<u8>> {
        match self.base.storage.read(&self.key(run, iteration)?)? {
            Some(bytes) => Ok(bytes),
            None => {
                let there = self.iterations(run)?;
                Err(Error::NoWeights {
                    run: run.to_owned(),
                    iteration,
                    there,
                })
            }
        }
    }

    fn iterations(&self, run: &str) -> Result<Vec<u64>> {
        let written_here = |name: &str| {
            let iteration = name.strip_suffix(SUFFIX)?.parse().ok()?;
            (name == format!("{iteration}{SUFFIX}")).then_some(iteration)
        };
        let entries = self.base.storage.list(&self.dir(run)?)?;
        let mut iterations: Vec<u64> = entries
            .iter()
            .filter_map(|entry| written_here(&entry.name))
            .collect();
        iterations.sort_unstable();
        Ok(iterations)
    }

    fn remove(&self, run: &str, iteration: u64) -> Result<Removed> {
        let was_there = self.base.storage.delete(&self.key(run, iteration)?)?;
        Ok(if was_there {
            Removed::Removed
        } else {
            Removed::Missing
        })
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
        conformance::weights_store(&LocalWeightsStore::new(base.path().join("base")));
        conformance::weights_store(&conformance::in_memory("memory://m/base").weights);
    }

    #[test]
    fn other_files_are_not_iterations() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalWeightsStore::new(base.path());
        store.store("run", 9, b"nine").unwrap();
        store.store("run", 10, b"ten").unwrap();
        let dir = base.path().join("run/checkpoints");
        for name in [
            "trace.pt",
            "007.safetensors",
            "+8.safetensors",
            ".unfinished-1",
            "x.safetensors",
        ] {
            fs::write(dir.join(name), b"").unwrap();
        }
        fs::create_dir(dir.join("iterations")).unwrap();
        assert_eq!(store.iterations("run").unwrap(), [9, 10]);
    }
}
