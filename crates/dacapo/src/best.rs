//! Which iteration and parameters are best: a function of the stored scores, so that it is never out of step
//! with them.

use serde::{Deserialize, Serialize};

use dacapo_store::{LocalStore, StatsStore, ValidationScore};
use dacapo_tasks::{Criterion, Task};

use crate::config::RunConfig;
use crate::{Result, load_run};

/// The best score on a dataset, by one criterion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The validation dataset.
    pub dataset: String,
    /// What was scored.
    pub criterion: String,
    /// Which way is better.
    pub higher_is_better: bool,
    /// Steps after which it was reached.
    pub iteration: u64,
    /// With which post-processing parameters.
    pub parameters: String,
    /// The score.
    pub score: f64,
    /// The other program that counted it, and those it is the best of; none for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
}

/// The best iteration and parameters of a run, for each validation dataset and criterion. Datasets in the
/// config's order; nothing for what has no score yet.
///
/// # Errors
/// If there is no such run, or its records cannot be read.
pub fn best(store: &LocalStore, run: &str) -> Result<Vec<Best>> {
    let config = load_run(store, run)?;
    let task = config.task.build(config.architecture.unet().dims())?;
    Ok(best_of(&config, &*task, &latest_scores(store.stats.scores(run)?)))
}

pub(crate) fn best_of(config: &RunConfig, task: &dyn Task, scores: &[ValidationScore]) -> Vec<Best> {
    let datasets = config.data.validate.iter();
    let each =
        datasets.flat_map(|dataset| task.criteria().iter().map(|criterion| (&dataset.name, criterion)));
    each.filter_map(|(dataset, criterion)| {
        let of_dataset = scores.iter().filter(|score| score.dataset == *dataset);
        let (found, score) = best_by(criterion, of_dataset)?;
        Some(Best {
            dataset: dataset.clone(),
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

/// The best of some scores by a criterion: the first of equal ones. Undefined scores are passed over.
pub(crate) fn best_by<'a>(
    criterion: &Criterion,
    scores: impl IntoIterator<Item = &'a ValidationScore>,
) -> Option<(&'a ValidationScore, f64)> {
    let defined = scores.into_iter().filter_map(|score| {
        let value = (*score.scores.get(&*criterion.name)?)?;
        value.is_finite().then_some((score, value))
    });
    defined.reduce(|best, next| {
        if is_better(criterion, next.1, best.1) {
            next
        } else {
            best
        }
    })
}

pub(crate) fn is_better(criterion: &Criterion, score: f64, than: f64) -> bool {
    if criterion.higher_is_better {
        score > than
    } else {
        score < than
    }
}

/// The criterion that decides which iteration is best: the config's, else the task's own.
pub(crate) fn deciding<'a>(config: &RunConfig, task: &'a dyn Task) -> &'a Criterion {
    let asked = config.validation.criterion.as_deref();
    let named = |name: &str| task.criteria().iter().find(|criterion| criterion.name == name);
    asked.and_then(named).unwrap_or_else(|| task.default_criterion())
}

/// The best score of each iteration, in the mean over the validation datasets, in order. Only iterations count that
/// have a score on each dataset.
pub(crate) fn means(
    config: &RunConfig,
    criterion: &Criterion,
    scores: &[ValidationScore],
) -> Vec<(u64, f64)> {
    let mut iterations: Vec<u64> = scores.iter().map(|score| score.iteration).collect();
    iterations.sort_unstable();
    iterations.dedup();
    let mean = |iteration: u64| {
        let of_dataset = |name: &str| {
            let here = scores
                .iter()
                .filter(|score| score.iteration == iteration && score.dataset == name);
            best_by(criterion, here).map(|(_, score)| score)
        };
        let each: Option<Vec<f64>> = config
            .data
            .validate
            .iter()
            .map(|dataset| of_dataset(&dataset.name))
            .collect();
        each.filter(|each| !each.is_empty())
            .map(|each| each.iter().sum::<f64>() / each.len() as f64)
    };
    iterations
        .into_iter()
        .filter_map(|iteration| Some((iteration, mean(iteration)?)))
        .collect()
}

/// The iteration whose best score, in the mean over the validation datasets, is best. Only iterations count
/// that have a score on each dataset.
pub(crate) fn best_iteration(config: &RunConfig, task: &dyn Task, scores: &[ValidationScore]) -> Option<u64> {
    let criterion = deciding(config, task);
    let best = means(config, criterion, scores).into_iter().reduce(|best, next| {
        if is_better(criterion, next.1, best.1) {
            next
        } else {
            best
        }
    });
    best.map(|(iteration, _)| iteration)
}

/// Scores without those that a later validation of the same iteration replaced. Programs count by different rules:
/// where there are scores of this one, those of another do not stand beside them.
pub fn latest_scores(scores: Vec<ValidationScore>) -> Vec<ValidationScore> {
    let mut latest: Vec<ValidationScore> = Vec::with_capacity(scores.len());
    let mut places = std::collections::HashMap::new();
    for score in scores {
        let key = (score.iteration, score.dataset.clone(), score.parameters.clone());
        match places.get(&key) {
            Some(&place) => latest[place] = score,
            None => {
                places.insert(key, latest.len());
                latest.push(score);
            }
        }
    }
    if latest.iter().any(|score| score.counted_by.is_none()) {
        latest.retain(|score| score.counted_by.is_none());
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_another_program_do_not_stand_beside_ours() {
        let score = |iteration, counted_by: Option<&str>| ValidationScore {
            iteration,
            dataset: "crop".to_owned(),
            parameters: "threshold=0.5".to_owned(),
            scores: [("voi".to_owned(), Some(1.0))].into(),
            time: 0.0,
            counted_by: counted_by.map(str::to_owned),
        };
        let (theirs, ours) = (score(10, Some("another")), score(20, None));
        assert_eq!(latest_scores(vec![theirs.clone()]), vec![theirs.clone()]);
        assert_eq!(latest_scores(vec![theirs, ours.clone()]), [ours]);
    }
}
