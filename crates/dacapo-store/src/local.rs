//! A base directory, or what stands for one in an object store or in memory, and the four stores over it. Its
//! layout is DaCapo's; what stands in a container is in [`crate::arrays`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use dacapo_array::storage::{Access, Kind, LocalStorage, Location, Storage, StorageExt, join};

use crate::{
    Error, Holder, LocalArrayStore, LocalConfigStore, LocalStatsStore, LocalWeightsStore, Result, RunLease,
    RunName, remove,
};

/// All that is kept of all runs, below one base.
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
#[derive(Clone, Debug)]
pub struct LocalStore {
    base: Base,
    access: Access,
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
    /// The stores in the directory `base`, which need not be there yet. They reach nothing but paths.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self::over(Base::directory(base), Access::default())
    }

    /// The stores at `base`, wherever that is; it need not be there yet.
    ///
    /// # Errors
    /// As [`Access::storage`].
    pub fn open(base: &Location, access: &Access) -> Result<Self> {
        Ok(Self::over(
            Base {
                location: base.clone(),
                storage: access.storage(base)?,
            },
            access.clone(),
        ))
    }

    fn over(base: Base, access: Access) -> Self {
        Self {
            arrays: LocalArrayStore { base: base.clone() },
            configs: LocalConfigStore { base: base.clone() },
            stats: LocalStatsStore { base: base.clone() },
            weights: LocalWeightsStore { base: base.clone() },
            base,
            access,
        }
    }

    /// Where it is.
    pub fn base(&self) -> &Location {
        &self.base.location
    }

    /// What is kept, as objects below the base.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.base.storage
    }

    /// What reaches other places than the base: data to train on, predictions that go elsewhere.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Where a run is.
    ///
    /// # Errors
    /// [`crate::Error::Name`].
    pub fn run_dir(&self, run: &str) -> Result<Location> {
        Ok(self.base.location.join(&self.base.run(run)?))
    }

    /// Bytes of all that is kept of a run.
    ///
    /// # Errors
    /// [`crate::Error::Name`], [`crate::Error::Io`].
    pub fn size(&self, run: &str) -> Result<u64> {
        let mut total = 0;
        self.base.storage.walk(&self.base.run(run)?, &mut |_, bytes| {
            total += bytes;
            Ok(())
        })?;
        Ok(total)
    }

    /// Becomes the one writer of a run: [`RunLease::acquire`].
    ///
    /// # Errors
    /// [`crate::Error::Held`] if there is one already, and as [`RunLease::acquire`].
    pub fn lease(&self, run: &str) -> Result<RunLease> {
        RunLease::acquire(self, run)
    }

    /// Who writes a run now: [`RunLease::holder`].
    ///
    /// # Errors
    /// As [`RunLease::holder`].
    pub fn holder(&self, run: &str) -> Result<Option<Holder>> {
        RunLease::holder(self, run)
    }

    pub(crate) fn create_run(&self, run: &str) -> Result<String> {
        self.base.create_run(run)
    }

    /// Clears what a killed writer of the run left. Only who holds the run may ask for this. What cannot be
    /// cleared now is no reason not to go on.
    pub(crate) fn sweep(&self, run: &str) {
        if let Err(error) = self.try_sweep(run) {
            tracing::warn!(run, %error, "cannot clear what was never finished");
        }
    }

    fn try_sweep(&self, run: &str) -> Result<()> {
        let storage = &*self.base.storage;
        let run = self.base.run(run)?;
        for place in ["", "stats", "checkpoints", crate::arrays::TRASH] {
            storage.sweep(join(&run, place).trim_end_matches('/'), Duration::ZERO)?;
        }
        for container in ["snapshot.zarr", "validation.zarr"] {
            sweep_groups(storage, &join(&run, container))?;
        }
        Ok(())
    }
}

/// Sweeps a group and those in it. Arrays are left out: what is unfinished in one is no chunk of it, and listing
/// them all would take long.
fn sweep_groups(storage: &dyn Storage, group: &str) -> Result<()> {
    storage.sweep(group, Duration::ZERO)?;
    for entry in storage.list(group)? {
        let key = join(group, &entry.name);
        if entry.kind == Kind::Prefix && remove::node(storage, &key)? == remove::Node::Group {
            sweep_groups(storage, &key)?;
        }
    }
    Ok(())
}

/// What the four stores share: where they are, and what they are kept in.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) location: Location,
    pub(crate) storage: Arc<dyn Storage>,
}

impl Base {
    pub(crate) fn directory(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        Self {
            location: base.as_path().into(),
            storage: Arc::new(LocalStorage::new(base)),
        }
    }

    /// The key of a run.
    pub(crate) fn run(&self, run: &str) -> Result<String> {
        Ok(RunName::new(run)?.component().to_owned())
    }

    /// The key of a run that is to be written, which may not be the twin of another.
    pub(crate) fn create_run(&self, run: &str) -> Result<String> {
        let key = self.run(run)?;
        if self.storage.kind(&key)?.is_none() {
            self.refuse_twin("", &key)?;
        }
        Ok(key)
    }

    /// Refuses to make `name` below a prefix where it stands in another case. ASCII names have no other twins.
    pub(crate) fn refuse_twin(&self, prefix: &str, name: &str) -> Result<()> {
        let there = self.storage.list(prefix)?;
        if there.iter().any(|entry| entry.name == name) {
            return Ok(());
        }
        match there
            .into_iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(name))
        {
            Some(twin) => Err(Error::Twin {
                dir: self.path(prefix),
                name: name.to_owned(),
                twin: twin.name,
            }),
            None => Ok(()),
        }
    }

    /// What errors call a key.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.storage.describe(key).into()
    }
}
