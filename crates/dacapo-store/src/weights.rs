//! Checkpoints, as the bytes that were stored. What is in them, and whether it reads, is the caller's affair.

use std::{fs, io, path::PathBuf};

use crate::{Error, Removed, Result, durable, local};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalWeightsStore {
    base: PathBuf,
}

impl LocalWeightsStore {
    /// The weights in `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Where the weights of an iteration stand.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn path(&self, run: &str, iteration: u64) -> Result<PathBuf> {
        Ok(self.dir(run)?.join(format!("{iteration}{SUFFIX}")))
    }

    fn dir(&self, run: &str) -> Result<PathBuf> {
        Ok(local::run_dir(&self.base, run)?.join("checkpoints"))
    }
}

impl WeightsStore for LocalWeightsStore {
    fn store(&self, run: &str, iteration: u64, bytes: &[u8]) -> Result<()> {
        local::create_run_dir(&self.base, run)?;
        durable::create_dir_all(&self.dir(run)?)?;
        durable::write_atomic(&self.path(run, iteration)?, bytes)
    }

    fn load(&self, run: &str, iteration: u64) -> Result<Vec<u8>> {
        match durable::read(&self.path(run, iteration)?)? {
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
        let written_here = |name: &String| {
            let iteration = name.strip_suffix(SUFFIX)?.parse().ok()?;
            (*name == format!("{iteration}{SUFFIX}")).then_some(iteration)
        };
        let mut iterations: Vec<u64> = durable::entries(&self.dir(run)?)?
            .iter()
            .filter_map(written_here)
            .collect();
        iterations.sort_unstable();
        Ok(iterations)
    }

    fn remove(&self, run: &str, iteration: u64) -> Result<Removed> {
        let path = self.path(run, iteration)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Missing),
            Err(error) => Err(Error::io("remove", path)(error)),
            Ok(()) => durable::sync_dir(&self.dir(run)?).map(|()| Removed::Removed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn conforms() {
        let base = tempfile::tempdir().unwrap();
        conformance::weights_store(&LocalWeightsStore::new(base.path().join("base")));
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
