//! Base directories that the Python DaCapo wrote: what runs are in one, and what of them can be read. Nothing is
//! ever written there, and nothing in a pickle is run. Making a run of ours out of one is what [`adopt()`] does.
//!
//! ```text
//! <base>/configs/runs/<run>.yaml                        the config (YAML with Python's tuples)
//! <base>/stats/training_stats/<run>                     a pickled list of losses
//! <base>/stats/validation_scores/<run>                  a pickled list of scores
//! <base>/<run>/checkpoints/iterations/<iteration>       a PyTorch file (older: checkpoints/<iteration>)
//! <base>/<run>/snapshot.zarr, validation.zarr           arrays, where ours stand as well
//! ```

mod adopt;
mod arrays;
mod config;
mod data;
mod fields;
mod import;
mod stats;
mod tasks;
mod weights;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use dacapo_array::storage::{Access, Location};
use dacapo_array::{ArrayAddress, ArrayRead, ArraySpec, Roi, ZarrArray, list_arrays};
use dacapo_nn::Engine;
use dacapo_store::{RunName, TrainingStat, ValidationScore};

use crate::best::{Best, best_by, latest_scores};
use crate::config::RunConfig;
use crate::plan::network_spec;
use crate::runs::{RunState, RunSummary};
use crate::{Error, Result};

pub use adopt::{AdoptOptions, Adopted, adopt};
pub use import::{Imported, import};
pub(crate) use weights::model_tensors;

/// The containers of a run.
const CONTAINERS: [&str; 2] = ["snapshot.zarr", "validation.zarr"];

/// A base directory of the Python DaCapo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalBase {
    root: PathBuf,
    /// Where relative paths in its configs may begin.
    data: Vec<PathBuf>,
}

/// A run of the Python DaCapo, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OriginalRun {
    /// Its name.
    pub name: String,
    /// Whether its config says the same in our words, so that it can become a run of ours.
    pub config: bool,
    /// Steps that are recorded.
    pub iterations: u64,
    /// Steps when done, where its config can be read.
    pub total: Option<u64>,
    /// Validated iterations.
    pub validated: Vec<u64>,
    /// Scored segmentations.
    pub scores: usize,
    /// Its arrays.
    pub arrays: Vec<OriginalArray>,
    /// Its checkpoints.
    pub checkpoints: Vec<OriginalCheckpoint>,
    /// Bytes of its containers and checkpoints.
    pub bytes: u64,
    /// What of it means nothing here, or something else.
    pub notes: Vec<String>,
    /// Why it cannot become a run of ours.
    pub problems: Vec<String>,
}

/// An array of such a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OriginalArray {
    /// The path in the run: `validation.zarr/10/crop/prediction`.
    pub path: String,
    /// Where it lies, in world units, if it can be read.
    pub roi: Option<Roi>,
    /// Lengths of all axes; empty if it cannot be read.
    pub shape: Vec<usize>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// A checkpoint of such a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OriginalCheckpoint {
    /// Steps done.
    pub iteration: u64,
    /// Tensors in it.
    pub tensors: usize,
    /// Whether they are exactly the weights of the network that the config describes.
    pub fits: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// A run, read.
struct Reading {
    config: Option<RunConfig>,
    yaml: Option<String>,
    training: Vec<TrainingStat>,
    scores: Vec<ValidationScore>,
    /// Paths in the run.
    arrays: Vec<ArrayAddress>,
    checkpoints: Vec<(u64, PathBuf)>,
    total: Option<u64>,
    notes: Vec<String>,
    problems: Vec<String>,
}

fn refuse<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(Error::Original {
        path: path.to_owned(),
        reason: reason.into(),
    })
}

fn is_base(dir: &Path) -> bool {
    ["configs/runs", "stats/training_stats", "stats/validation_scores"]
        .iter()
        .any(|below| dir.join(below).is_dir())
}

impl OriginalBase {
    /// The base directory at `dir`, or the only one directly in it. Relative paths in its configs are looked for
    /// from `data`, if it is given; else from the base and the two directories above it.
    ///
    /// # Errors
    /// [`Error::Original`] if there is none, or more than one.
    pub fn find(dir: &Path, data: Option<&Path>) -> Result<Self> {
        let root = if is_base(dir) {
            dir.to_owned()
        } else {
            let mut found: Vec<PathBuf> = names(dir)?
                .iter()
                .map(|name| dir.join(name))
                .filter(|path| is_base(path))
                .collect();
            match found.len() {
                1 => found.remove(0),
                0 => {
                    return refuse(
                        dir,
                        "the Python DaCapo keeps no runs there: neither configs/runs nor stats/training_stats is in it",
                    );
                }
                n => {
                    let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
                    return refuse(
                        dir,
                        format!("{n} base directories are in it; name one: {}", found.join(", ")),
                    );
                }
            }
        };
        let absolute = std::path::absolute(&root).map_err(|source| Error::io("find", &root, source))?;
        let data = match data {
            Some(data) => vec![std::path::absolute(data).map_err(|source| Error::io("find", data, source))?],
            None => absolute.ancestors().take(3).map(Path::to_owned).collect(),
        };
        Ok(Self { root, data })
    }

    /// Whether the Python DaCapo keeps runs in a directory.
    pub fn is(dir: &Path) -> bool {
        is_base(dir)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its runs, sorted by name. Directories that are runs of ours are none.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be listed.
    pub fn runs(&self) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for name in names(&self.root.join("configs/runs"))? {
            found.extend(name.strip_suffix(".yaml").map(str::to_owned));
        }
        for stats in ["training_stats", "validation_scores"] {
            found.extend(names(&self.root.join("stats").join(stats))?);
        }
        for name in names(&self.root)? {
            let dir = self.root.join(&name);
            if dir.join("checkpoints").is_dir()
                || CONTAINERS.iter().any(|container| dir.join(container).is_dir())
            {
                found.insert(name);
            }
        }
        let ours = |name: &String| self.root.join(name).join("run.yaml").is_file();
        Ok(found
            .into_iter()
            .filter(|name| RunName::new(name).is_ok() && !ours(name))
            .collect())
    }

    /// What of a run can be read. The engine builds the network that its checkpoints should fit.
    ///
    /// # Errors
    /// [`Error::Original`] if there is no such run, [`Error::Io`]. What is wrong with a part of it is told in the
    /// result.
    pub fn inspect(&self, run: &str, engine: &dyn Engine) -> Result<OriginalRun> {
        self.check(run)?;
        let reading = self.read(run)?;
        let mut network = match &reading.config {
            Some(config) => {
                let task = config.task.build(config.architecture.unet().dims())?;
                Some(engine.build(&network_spec(config, &*task))?)
            }
            None => None,
        };
        let mut checkpoints = Vec::new();
        for (iteration, path) in &reading.checkpoints {
            let read = weights::count(path);
            let fitted = match (&read, &mut network) {
                (Err(error), _) => Err(error.to_string()),
                (Ok(_), None) => Err("its config does not say which network it is of".to_owned()),
                (Ok(_), Some(network)) => weights::convert(path, &mut **network)
                    .map(drop)
                    .map_err(|error| error.to_string()),
            };
            checkpoints.push(OriginalCheckpoint {
                iteration: *iteration,
                tensors: read.unwrap_or(0),
                fits: fitted.is_ok(),
                problem: fitted.err(),
            });
        }
        let validated: BTreeSet<u64> = reading.scores.iter().map(|score| score.iteration).collect();
        Ok(OriginalRun {
            name: run.to_owned(),
            config: reading.config.is_some() && reading.problems.is_empty(),
            iterations: reading.iterations(),
            total: reading.total,
            validated: validated.into_iter().collect(),
            scores: reading.scores.len(),
            bytes: size(&self.root.join(run)),
            arrays: reading
                .arrays
                .iter()
                .map(|array| self.array(run, array))
                .collect(),
            checkpoints,
            notes: reading.notes,
            problems: reading.problems,
        })
    }

    /// The run as [`crate::runs()`] lists it.
    pub(crate) fn summary(&self, run: &str) -> Result<RunSummary> {
        let reading = self.read(run)?;
        let total = reading.total.unwrap_or(0);
        let iterations = reading.iterations();
        Ok(RunSummary {
            name: run.to_owned(),
            original: true,
            state: match iterations {
                0 => RunState::New,
                n if n >= total => RunState::Finished,
                _ => RunState::Interrupted,
            },
            iterations,
            total,
            checkpoints: reading
                .checkpoints
                .iter()
                .map(|(iteration, _)| *iteration)
                .collect(),
            criterion: None,
            best: reading.best(),
            bytes: size(&self.root.join(run)),
            // What has to be known of its data is of no matter here.
            problem: reading.config.is_none().then(|| reading.problems.join("; ")),
        })
    }

    /// The scores of a run, and the config that says what they mean.
    pub(crate) fn scores(&self, run: &str) -> Result<(RunConfig, Vec<ValidationScore>)> {
        let reading = self.read(run)?;
        match reading.config {
            Some(config) => Ok((config, reading.scores)),
            None => refuse(&self.root, reading.problems.join("; ")),
        }
    }

    fn check(&self, run: &str) -> Result<()> {
        if self.has(run)? {
            Ok(())
        } else {
            refuse(&self.root, format!("it has no run {run:?}"))
        }
    }

    /// Whether it has a run of this name.
    pub(crate) fn has(&self, run: &str) -> Result<bool> {
        Ok(self.runs()?.iter().any(|name| name == run))
    }

    fn read(&self, run: &str) -> Result<Reading> {
        let mut reading = Reading {
            config: None,
            yaml: None,
            training: Vec::new(),
            scores: Vec::new(),
            arrays: self.arrays(run),
            checkpoints: self.checkpoints(run)?,
            total: None,
            notes: Vec::new(),
            problems: Vec::new(),
        };
        let mut datasets = Vec::new();
        let path = self.root.join("configs/runs").join(format!("{run}.yaml"));
        match fs::read_to_string(&path) {
            Err(error) => reading.problems.push(format!("{}: {error}", path.display())),
            Ok(yaml) => {
                let first = reading.checkpoints.first();
                let warmup = first.and_then(|(iteration, path)| weights::warmup(path, *iteration));
                let translation = config::translate(&yaml, run, &self.data, warmup);
                reading.total = translation.total;
                reading.config = translation.config;
                reading.notes = translation.notes;
                reading.problems.extend(translation.problems);
                datasets = translation.validate;
                reading.yaml = Some(yaml);
            }
        }
        let stats = self.root.join("stats");
        match stats::training(&stats.join("training_stats").join(run)) {
            Ok(training) => reading.training = training,
            Err(error) => reading.problems.push(error.to_string()),
        }
        match stats::scores(&stats.join("validation_scores").join(run)) {
            Ok(scores) => {
                let names = stats::Names::of(&reading.arrays, datasets);
                let (scores, notes) = names.apply(&scores);
                reading.scores = scores;
                reading.notes.extend(notes);
            }
            Err(error) => reading.problems.push(error.to_string()),
        }
        Ok(reading)
    }

    fn arrays(&self, run: &str) -> Vec<ArrayAddress> {
        let mut found = Vec::new();
        for name in CONTAINERS {
            let container = Location::from(self.root.join(run).join(name));
            for dataset in list_arrays(&container, &Access::default()).unwrap_or_default() {
                let container = container.clone();
                found.push(ArrayAddress { container, dataset });
            }
        }
        found
    }

    fn array(&self, run: &str, address: &ArrayAddress) -> OriginalArray {
        let (problem, spec) = match ZarrArray::open(address, &Access::default()) {
            Ok(array) => (None, Some(array.spec().clone())),
            Err(error) => (Some(error.to_string()), None),
        };
        let (path, location) = (Location::from(self.root.join(run)), address.location());
        OriginalArray {
            path: path.key_of(&location).unwrap_or_else(|| location.to_string()),
            shape: spec.as_ref().map_or_else(Vec::new, ArraySpec::shape),
            roi: spec.map(|spec| spec.roi),
            problem,
        }
    }

    fn checkpoints(&self, run: &str) -> Result<Vec<(u64, PathBuf)>> {
        let old = self.root.join(run).join("checkpoints");
        let new = old.join("iterations");
        let mut found = Vec::new();
        for dir in [old, new] {
            for name in names(&dir)? {
                let path = dir.join(&name);
                if let Ok(iteration) = name.parse()
                    && path.is_file()
                {
                    found.push((iteration, path));
                }
            }
        }
        found.sort();
        found.dedup_by_key(|(iteration, _)| *iteration);
        Ok(found)
    }
}

impl Reading {
    fn iterations(&self) -> u64 {
        let recorded = self.training.last().map(|stat| stat.iteration);
        let kept = self.checkpoints.last().map(|(iteration, _)| *iteration);
        recorded.max(kept).unwrap_or(0)
    }

    /// The best scores, by the criteria of the task that the config names.
    fn best(&self) -> Vec<Best> {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        let Ok(task) = config.task.build(config.architecture.unet().dims()) else {
            return Vec::new();
        };
        let scores = latest_scores(self.scores.clone());
        let datasets: BTreeSet<&str> = scores.iter().map(|score| score.dataset.as_str()).collect();
        let each = datasets
            .into_iter()
            .flat_map(|dataset| task.criteria().iter().map(move |criterion| (dataset, criterion)));
        each.filter_map(|(dataset, criterion)| {
            let of_dataset = scores.iter().filter(|score| score.dataset == dataset);
            let (found, score) = best_by(criterion, of_dataset)?;
            Some(Best {
                dataset: dataset.to_owned(),
                criterion: criterion.name.to_string(),
                higher_is_better: criterion.higher_is_better,
                iteration: found.iteration,
                parameters: found.parameters.clone(),
                score,
                counted_by: found.counted_by.clone(),
            })
        })
        .collect()
    }
}

/// The names in a directory that are text, sorted; none if there is no directory.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        entries => entries.map_err(|source| Error::io("list", dir, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("list", dir, source))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes of all files under a folder. What vanishes meanwhile does not count.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
