//! What the arrays of a run scored: arrays are the store's, scores the records'; here they meet.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use dacapo_store::{ArrayEntry, ArrayKind, LocalStore, StatsStore, ValidationScore};
use dacapo_tasks::{Criterion, Task};

use crate::best::{best_by, deciding, latest_scores};
use crate::config::{RunConfig, suggestion};
use crate::runs::originals;
use crate::{Error, Result, load_run};

/// What an array scored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArrayScore {
    /// By which criterion.
    pub criterion: String,
    /// The score.
    pub score: f64,
    /// The parameters that reached it.
    pub parameters: String,
    /// The other program that counted it, by rules of its own; none for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
}

/// The scores of a run, to be looked up by array.
pub struct RunScores {
    task: Box<dyn Task>,
    deciding: String,
    scores: HashMap<(String, u64), Vec<ValidationScore>>,
    best: HashMap<(String, String), ArrayScore>,
}

impl std::fmt::Debug for RunScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RunScores of {} validations by {}",
            self.scores.len(),
            self.deciding
        )
    }
}

impl RunScores {
    /// Reads them.
    ///
    /// # Errors
    /// [`Error::NoRun`] where no config of this program is stored, and if the records cannot be read.
    pub fn load(store: &LocalStore, run: &str) -> Result<Self> {
        Self::of_config(&load_run(store, run)?, store.stats.scores(run)?)
    }

    /// Reads them, of a run of the Python DaCapo too, to be shown: what is pruned follows from ours alone.
    ///
    /// # Errors
    /// As [`RunScores::load`]; [`Error::Original`] if the config of such a run cannot be read.
    pub fn load_any(store: &LocalStore, run: &str) -> Result<Self> {
        match (Self::load(store, run), originals(store)?) {
            (Err(Error::NoRun { .. }), Some(base)) if base.has(run)? => {
                let (config, scores) = base.scores(run)?;
                Self::of_config(&config, scores)
            }
            (ours, _) => ours,
        }
    }

    fn of_config(config: &RunConfig, scores: Vec<ValidationScore>) -> Result<Self> {
        let task = config.task.build(config.architecture.unet().dims())?;
        let deciding = deciding(config, &*task).name.to_string();
        let latest = latest_scores(scores);
        let mut scores: HashMap<(String, u64), Vec<ValidationScore>> = HashMap::new();
        for score in latest {
            scores
                .entry((score.dataset.clone(), score.iteration))
                .or_default()
                .push(score);
        }
        let mut found = Self {
            task,
            deciding,
            scores,
            best: HashMap::new(),
        };
        found.best = found.best_of_all();
        Ok(found)
    }

    fn best_of_all(&self) -> HashMap<(String, String), ArrayScore> {
        let mut datasets: BTreeMap<&str, Vec<&ValidationScore>> = BTreeMap::new();
        for ((dataset, _), scores) in &self.scores {
            datasets.entry(dataset).or_default().extend(scores);
        }
        let mut best = HashMap::new();
        for (dataset, mut scores) in datasets {
            // The first of equal ones is best.
            scores.sort_by_key(|score| score.iteration);
            for criterion in self.task.criteria() {
                if let Some(score) = best_by(criterion, scores.iter().copied()) {
                    best.insert(
                        (dataset.to_owned(), criterion.name.to_string()),
                        found(criterion, score),
                    );
                }
            }
        }
        best
    }

    /// The criterion that decides which iteration is best.
    pub fn deciding(&self) -> &str {
        &self.deciding
    }

    /// A criterion of the task by its name; the deciding one if none is named.
    ///
    /// # Errors
    /// [`Error::Criterion`] for one that the task does not have.
    pub fn criterion(&self, name: Option<&str>) -> Result<&Criterion> {
        let key = name.map_or("validation.criterion", |_| "criterion");
        let name = name.unwrap_or(&self.deciding);
        let criteria = self.task.criteria();
        criteria
            .iter()
            .find(|criterion| criterion.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = criteria.iter().map(|criterion| &*criterion.name).collect();
                Error::Criterion {
                    key,
                    name: name.to_owned(),
                    suggestion: suggestion(name, &known),
                }
            })
    }

    /// What an array scored: of a prediction the best that post-processing made of it, of an output its own, of
    /// a best array the best by its criterion. By the deciding criterion, if none is named.
    pub fn of(&self, array: &ArrayEntry, criterion: Option<&str>) -> Option<ArrayScore> {
        let dataset = array.dataset.as_deref()?;
        match array.kind {
            ArrayKind::Best => {
                let key = (dataset.to_owned(), array.criterion.clone()?);
                self.best.get(&key).cloned()
            }
            ArrayKind::Prediction | ArrayKind::Output => {
                let criterion = self.criterion(criterion).ok()?;
                let scores = self.scores.get(&(dataset.to_owned(), array.iteration?))?;
                let of_array = scores.iter().filter(|score| match &array.parameters {
                    Some(parameters) => score.parameters == *parameters,
                    None => true,
                });
                best_by(criterion, of_array).map(|score| found(criterion, score))
            }
            _ => None,
        }
    }

    /// The other program that counted them, by rules of its own; none for this one.
    pub fn counted_by(&self) -> Option<&str> {
        // They are all of one program.
        self.scores.values().flatten().next()?.counted_by.as_deref()
    }

    /// The best score on a dataset after an iteration, over all parameters.
    pub(crate) fn at(&self, dataset: &str, iteration: u64, criterion: &Criterion) -> Option<f64> {
        let scores = self.scores.get(&(dataset.to_owned(), iteration))?;
        best_by(criterion, scores).map(|(_, score)| score)
    }
}

fn found(criterion: &Criterion, (from, score): (&ValidationScore, f64)) -> ArrayScore {
    ArrayScore {
        criterion: criterion.name.to_string(),
        score,
        parameters: from.parameters.clone(),
        counted_by: from.counted_by.clone(),
    }
}
