//! A base directory, and the four stores over it. Its layout is DaCapo's; what stands in a container is in
//! [`crate::arrays`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    LocalArrayStore, LocalConfigStore, LocalStatsStore, LocalWeightsStore, Result, RunLease, RunName,
    durable, remove,
};

/// All that is kept of all runs, under one directory.
///
/// ```text
/// <base>/<run>/run.yaml                                                 configs
/// <base>/<run>/stats/{training,validation}.jsonl                        stats
/// <base>/<run>/checkpoints/<iteration>.safetensors                      weights
/// <base>/<run>/snapshot.zarr, validation.zarr                           arrays
/// <base>/<run>/.lock, .trash                                            one writer; what is being removed
/// ```
///
/// Making one touches no disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStore {
    base: PathBuf,
    /// The arrays of all runs.
    pub arrays: LocalArrayStore,
    /// The configs of all runs.
    pub configs: LocalConfigStore,
    /// Losses and scores.
    pub stats: LocalStatsStore,
    /// Checkpoints.
    pub weights: LocalWeightsStore,
}

impl LocalStore {
    /// The stores in `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        Self {
            arrays: LocalArrayStore::new(&base),
            configs: LocalConfigStore::new(&base),
            stats: LocalStatsStore::new(&base),
            weights: LocalWeightsStore::new(&base),
            base,
        }
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The directory of a run.
    ///
    /// # Errors
    /// [`crate::Error::Name`].
    pub fn run_dir(&self, run: &str) -> Result<PathBuf> {
        run_dir(&self.base, run)
    }

    /// Becomes the one writer of a run: [`RunLease::acquire`].
    ///
    /// # Errors
    /// [`crate::Error::Held`] if there is one already, and as [`RunLease::acquire`].
    pub fn lease(&self, run: &str) -> Result<RunLease> {
        RunLease::acquire(&self.base, run)
    }

    /// Makes the directory of a run, durably.
    pub(crate) fn create_run_dir(&self, run: &str) -> Result<PathBuf> {
        create_run_dir(&self.base, run)
    }

    /// Clears what a killed writer of the run left. Only who holds the run may ask for this.
    pub(crate) fn sweep(&self, dir: &Path) {
        for place in ["", "stats", "checkpoints"] {
            durable::sweep(&dir.join(place));
        }
        for container in ["snapshot.zarr", "validation.zarr"] {
            sweep_groups(&dir.join(container));
        }
        let trash = dir.join(crate::arrays::TRASH);
        for removed in fs::read_dir(&trash).into_iter().flatten().flatten() {
            // What is kept stays until it is purged.
            if removed.file_name() != crate::trash::KEPT {
                remove::delete(&removed.path());
            }
        }
    }
}

/// Sweeps a group and those in it. Arrays are left out: what is unfinished in one is no chunk of it, and listing
/// them all would take long.
fn sweep_groups(group: &Path) {
    durable::sweep(group);
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && remove::is_group(&entry.path()) {
            sweep_groups(&entry.path());
        }
    }
}

pub(crate) fn run_dir(base: &Path, run: &str) -> Result<PathBuf> {
    Ok(base.join(RunName::new(run)?.component()))
}

pub(crate) fn create_run_dir(base: &Path, run: &str) -> Result<PathBuf> {
    let dir = run_dir(base, run)?;
    if !dir.is_dir() {
        durable::refuse_twin(base, RunName::new(run)?.component())?;
        durable::create_dir_all(&dir)?;
    }
    Ok(dir)
}
