//! Makes a run of ours out of a run of the Python DaCapo: config, records, checkpoints and arrays, in another base
//! directory, whole or not at all. The original is only read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use dacapo_array::storage::{Durability, LocalStorage, Location, Storage};
use dacapo_nn::{Engine, save_checkpoint};
use dacapo_store::{ConfigStore, LocalStore, PROGRAM, RunLease, StatsStore, WeightsStore};

use super::{CONTAINERS, OriginalBase, Reading, refuse, weights};
use crate::plan::network_spec;
use crate::{Error, Result};

/// Where runs are made before they are in their place.
const DRAFTS: &str = ".adopting";

/// How to adopt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdoptOptions {
    /// Put in front of the names of the runs.
    pub prefix: String,
    /// Leave the arrays where they are, and only there.
    pub without_arrays: bool,
}

/// What was made of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Adopted {
    /// Its name in the original.
    pub original: String,
    /// Its name now.
    pub run: String,
    /// Iterations whose weights were taken.
    pub checkpoints: Vec<u64>,
    /// Files of arrays that were copied; each was read again and is the same.
    pub files: u64,
    /// What of the original means nothing here, or something else.
    pub notes: Vec<String>,
}

/// Makes a run in `store` out of `run` of `base`. Beside it stands what it was made of: `original/run.yaml`, word for
/// word, and `original/adopted.json`.
///
/// # Errors
/// [`Error::Original`] if there is no such run, its config cannot be said in our words, a run of the new name is
/// there, or the store lies in the original's directory; [`dacapo_store::Error::Held`] if another process adopts it.
/// Nothing of the run is then in the store.
pub fn adopt(
    base: &OriginalBase,
    run: &str,
    store: &LocalStore,
    engine: &dyn Engine,
    options: &AdoptOptions,
) -> Result<Adopted> {
    let name = format!("{}{run}", options.prefix);
    let directory = directory(store.base())?;
    let target = directory_of(store, &name)?;
    refuse_inside(base.root(), directory)?;
    if target.exists() {
        return refuse(
            &target,
            "it is there already; adopt the run under another name (`--prefix`)",
        );
    }
    let is_twin = |there: &&String| **there != name && there.eq_ignore_ascii_case(&name);
    if let Some(twin) = super::names(directory)?.iter().find(is_twin) {
        return refuse(
            &target,
            format!("it cannot stand beside {twin:?}: they differ only in case"),
        );
    }
    base.check(run)?;
    let reading = base.read(run)?;
    if !reading.problems.is_empty() {
        let reasons = reading.problems.join("; ");
        return refuse(
            base.root(),
            format!("run {run:?} cannot become a run of ours: {reasons}"),
        );
    }

    let drafts = LocalStore::new(directory.join(DRAFTS));
    let lease = drafts.lease(&name)?;
    let draft = directory_of(&drafts, &name)?;
    let made = clear(&draft)
        .and_then(|()| {
            Adoption {
                base,
                run,
                name: &name,
                drafts: &drafts,
                engine,
                options,
            }
            .make(reading)
        })
        .and_then(|adopted| publish(&draft, &target, directory).map(|()| adopted));
    finish(&drafts, &draft, lease, made.is_err());
    made
}

struct Adoption<'a> {
    base: &'a OriginalBase,
    run: &'a str,
    name: &'a str,
    drafts: &'a LocalStore,
    engine: &'a dyn Engine,
    options: &'a AdoptOptions,
}

impl Adoption<'_> {
    fn make(&self, reading: Reading) -> Result<Adopted> {
        let (Some(mut config), Some(yaml)) = (reading.config, reading.yaml) else {
            return refuse(self.base.root(), format!("run {:?} has no config", self.run));
        };
        self.name.clone_into(&mut config.name);
        let draft = directory_of(self.drafts, self.name)?;
        let mut notes = reading.notes;
        self.drafts.stats.append_training(self.name, &reading.training)?;
        self.drafts.stats.append_scores(self.name, &reading.scores)?;

        let task = config.task.build(config.architecture.unet().dims())?;
        let mut network = self.engine.build(&network_spec(&config, &*task))?;
        let mut checkpoints = Vec::new();
        for (iteration, path) in &reading.checkpoints {
            match weights::convert(path, &mut *network) {
                Ok((tensors, said)) => {
                    let meta = [
                        ("iteration", iteration.to_string()),
                        ("num_iterations", config.num_iterations.to_string()),
                        ("config", config.hash()?),
                        ("program", PROGRAM.to_owned()),
                        ("original", path.display().to_string()),
                    ];
                    let meta = meta.map(|(key, value)| (key.to_owned(), value)).into();
                    let mut bytes = Vec::new();
                    save_checkpoint(&mut bytes, &tensors, &meta)?;
                    self.drafts.weights.store(self.name, *iteration, &bytes)?;
                    checkpoints.push(*iteration);
                    notes.extend(said);
                }
                Err(error) => notes.push(format!("checkpoint {iteration} is not taken: {error}")),
            }
        }
        let mut files = 0;
        for container in CONTAINERS {
            let from = self.base.root().join(self.run).join(container);
            if from.is_dir() && !self.options.without_arrays {
                files += copy(&from, &draft.join(container), false)?;
            }
        }
        let folder = LocalStorage::new(draft.join("original"));
        folder.write("run.yaml", yaml.as_bytes(), Durability::Synced)?;
        let said = json!({
            "original": self.base.root().join(self.run),
            "program": PROGRAM,
            "checkpoints": checkpoints,
            "arrays": !self.options.without_arrays,
            "files": files,
            "notes": notes,
        });
        folder.write(
            "adopted.json",
            format!("{said:#}\n").as_bytes(),
            Durability::Synced,
        )?;
        self.drafts.configs.replace_run(self.name, &config.to_yaml()?)?;
        Ok(Adopted {
            original: self.run.to_owned(),
            run: self.name.to_owned(),
            checkpoints,
            files,
            notes,
        })
    }
}

/// The directory that a base is: what is adopted is made there, and copied elsewhere if need be.
fn directory(base: &Location) -> Result<&Path> {
    base.path().ok_or_else(|| Error::Original {
        path: base.to_string().into(),
        reason: "runs are adopted into a directory; adopt there (`--to`), then copy".to_owned(),
    })
}

fn directory_of(store: &LocalStore, run: &str) -> Result<PathBuf> {
    Ok(directory(&store.run_dir(run)?)?.to_owned())
}

/// Refuses a store in the directory that is to stay as it is.
fn refuse_inside(original: &Path, store: &Path) -> Result<()> {
    let failed = |source| Error::io("find", store, source);
    let original = fs::canonicalize(original).map_err(failed)?;
    // What is not there yet lies where the first directory above it that is there lies.
    let store = std::path::absolute(store).map_err(failed)?;
    let there = store.ancestors().find_map(|dir| fs::canonicalize(dir).ok());
    if there.is_some_and(|there| there.starts_with(&original)) {
        return refuse(
            &store,
            "it lies in the directory to adopt, which stays as it is; runs of ours need another base (`--to`)",
        );
    }
    Ok(())
}

/// Removes what a killed adoption left of the draft; its lock is ours.
fn clear(draft: &Path) -> Result<()> {
    for name in super::names(draft)?.iter().filter(|name| *name != ".lock") {
        let path = draft.join(name);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| Error::io("remove", &path, source))?;
    }
    Ok(())
}

fn publish(draft: &Path, target: &Path, base: &Path) -> Result<()> {
    if target.exists() {
        return refuse(target, "it has been made meanwhile");
    }
    fs::rename(draft, target).map_err(|source| Error::io("create", target, source))?;
    Ok(LocalStorage::new(base).sync("")?)
}

/// Leaves nothing of a draft behind. Best effort: the next adoption clears what stays.
fn finish(drafts: &LocalStore, draft: &Path, lease: RunLease, failed: bool) {
    if failed {
        let _ = fs::remove_dir_all(draft);
    }
    drop(lease);
    let _ = drafts.base().path().map(fs::remove_dir);
}

/// Copies a directory of arrays, reads each file again, and gives groups the metadata that the original leaves out.
/// Returns how many files were copied.
fn copy(from: &Path, to: &Path, in_array: bool) -> Result<u64> {
    let failed = |source| Error::io("copy", from, source);
    fs::create_dir_all(to).map_err(|source| Error::io("create", to, source))?;
    let has = |name: &str| from.join(name).is_file();
    let is_array = in_array || has(".zarray") || has("zarr.json");
    let mut files = 0;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            files += copy(&path, &copied, is_array)?;
        } else if kind.is_file() {
            copy_file(&path, &copied)?;
            files += 1;
        } else {
            return refuse(&path, "it is neither a file nor a directory, and is not followed");
        }
    }
    if !is_array && !has(".zgroup") {
        LocalStorage::new(to).write(".zgroup", b"{\n    \"zarr_format\": 2\n}\n", Durability::Synced)?;
    }
    LocalStorage::new(to).sync("")?;
    Ok(files)
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let hash = |path: &Path, mut into: Option<&mut File>| -> io::Result<blake3::Hash> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(hasher.finalize());
            }
            hasher.update(&buffer[..read]);
            if let Some(into) = &mut into {
                into.write_all(&buffer[..read])?;
            }
        }
    };
    let copied = || -> io::Result<bool> {
        let mut file = File::create_new(to)?;
        let source = hash(from, Some(&mut file))?;
        file.sync_all()?;
        Ok(source == hash(to, None)?)
    };
    match copied() {
        Ok(true) => Ok(()),
        Ok(false) => refuse(to, format!("the copy of {} is not the same", from.display())),
        Err(source) => Err(Error::io("copy", from, source)),
    }
}
