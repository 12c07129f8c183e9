//! What runs there are, and how far they are.

use std::fmt;

use serde::Serialize;

use dacapo_store::{ConfigStore, LocalStore, StatsStore, ValidationScore, WeightsStore};
use dacapo_tasks::Task;

use crate::best::{Best, best_of, deciding, latest_scores};
use crate::config::{Format, RunConfig, parse_config, suggestion};
use crate::early::stale;
use crate::original::OriginalBase;
use crate::{Error, Result};

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// No step is done.
    New,
    /// A process works on it.
    Running {
        /// Which one.
        holder: String,
    },
    /// Begun, not done, and nobody works on it.
    Interrupted,
    /// Every step is done, or it got no better for as long as its config allows.
    Finished,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Running { .. } => "running",
            Self::Interrupted => "interrupted",
            Self::Finished => "finished",
        })
    }
}

/// A run at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Its name.
    pub name: String,
    /// Whether the Python DaCapo wrote it: it can be read, and [adopted](crate::original::adopt()).
    pub original: bool,
    /// How far it is.
    #[serde(flatten)]
    pub state: RunState,
    /// Steps done: while it is being trained those that are recorded, otherwise those that a checkpoint keeps.
    pub iterations: u64,
    /// Steps when done.
    pub total: u64,
    /// Iterations that have a checkpoint.
    pub checkpoints: Vec<u64>,
    /// The criterion that says which is best.
    pub criterion: Option<String>,
    /// The best scores so far, by every criterion.
    pub best: Vec<Best>,
    /// Its size on disk.
    pub bytes: u64,
    /// Why the above may be incomplete.
    pub problem: Option<String>,
}

/// The config of a run, if it is there. One that was copied or renamed as a whole is called by its directory: by the
/// name that is written in it, another run would be written to.
///
/// # Errors
/// [`Error::Config`] if it cannot be read.
pub(crate) fn stored_config(store: &LocalStore, run: &str) -> Result<Option<RunConfig>> {
    let Some(yaml) = store.configs.load_run(run)? else {
        return Ok(None);
    };
    let path = store.configs.path(run)?.to_string();
    let config = parse_config(&yaml, Format::Yaml, path.as_ref())?;
    Ok(Some(RunConfig {
        name: run.to_owned(),
        ..config
    }))
}

/// The config of a run, as it is stored, under the name of its directory.
///
/// # Errors
/// [`Error::NoRun`], naming those that there are; [`Error::Config`] if it cannot be read.
pub fn load_run(store: &LocalStore, run: &str) -> Result<RunConfig> {
    match stored_config(store, run)? {
        Some(config) => Ok(config),
        None => {
            let known = store.configs.runs()?;
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let suggestion = if originals(store)?.is_some_and(|base| base.has(run).unwrap_or(false)) {
                "; the Python DaCapo wrote it there: `dacapo arrays adopt` makes it one of ours, in another base"
                    .to_owned()
            } else if known.is_empty() {
                String::new()
            } else {
                suggestion(run, &known)
            };
            Err(Error::NoRun {
                run: run.to_owned(),
                base: store.base().clone(),
                suggestion,
            })
        }
    }
}

/// Every run of a base directory, by name, and then those that the Python DaCapo wrote there. A damaged run does not
/// hide the others: its `problem` is told.
///
/// # Errors
/// If the base directory cannot be read.
pub fn runs(store: &LocalStore) -> Result<Vec<RunSummary>> {
    let ours = store.configs.runs()?;
    let mut found: Vec<RunSummary> = ours
        .iter()
        .map(|run| summary(store, run))
        .collect::<Result<_>>()?;
    if let Some(base) = originals(store)? {
        for run in base.runs()? {
            found.push(base.summary(&run)?);
        }
    }
    Ok(found)
}

/// The base directory, if the Python DaCapo keeps runs in it.
pub(crate) fn originals(store: &LocalStore) -> Result<Option<OriginalBase>> {
    // It knows no object stores.
    let base = store.base().path().filter(|base| OriginalBase::is(base));
    base.map(|base| OriginalBase::find(base, None)).transpose()
}

/// One run at a glance.
///
/// # Errors
/// [`Error::NoRun`] if it is not there.
pub fn summary(store: &LocalStore, run: &str) -> Result<RunSummary> {
    let mut summary = RunSummary {
        name: run.to_owned(),
        original: false,
        state: RunState::New,
        iterations: 0,
        total: 0,
        checkpoints: Vec::new(),
        criterion: None,
        best: Vec::new(),
        bytes: store.size(run)?,
        problem: None,
    };
    match fill(store, &mut summary) {
        Err(error @ Error::NoRun { .. }) => return Err(error),
        Err(error) => summary.problem = Some(error.to_string()),
        Ok(()) => {}
    }
    Ok(summary)
}

fn fill(store: &LocalStore, summary: &mut RunSummary) -> Result<()> {
    let run = summary.name.clone();
    let config = load_run(store, &run)?;
    summary.total = config.num_iterations;
    summary.checkpoints = store.weights.iterations(&run)?;
    let kept = summary.checkpoints.last().copied().unwrap_or(0);
    let holder = store.holder(&run)?;
    summary.iterations = match &holder {
        Some(_) => store
            .stats
            .training(&run)?
            .last()
            .map_or(kept, |stat| stat.iteration.max(kept)),
        None => kept,
    };
    let task = config.task.build(config.architecture.unet().dims())?;
    let scores = latest_scores(store.stats.scores(&run)?);
    summary.state = match holder {
        Some(holder) => RunState::Running {
            holder: holder.to_string(),
        },
        None if kept >= config.num_iterations || is_enough(&config, &*task, &scores) => RunState::Finished,
        None if kept == 0 && store.stats.training(&run)?.is_empty() => RunState::New,
        None => RunState::Interrupted,
    };
    summary.criterion = Some(deciding(&config, &*task).name.to_string());
    summary.best = best_of(&config, &*task, &scores);
    Ok(())
}

/// Whether a run was done before its last step, because it got no better.
fn is_enough(config: &RunConfig, task: &dyn Task, scores: &[ValidationScore]) -> bool {
    stale(config, task, scores).is_some()
}
