//! Whether a run has stopped getting better: a function of its config and its stored scores, so that a run that is
//! resumed stops where one that never stopped does.

use dacapo_store::ValidationScore;
use dacapo_tasks::Task;

use crate::best::{deciding, is_better, means};
use crate::config::RunConfig;

/// A run that gets no better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stale {
    /// The iteration that was best.
    pub best: u64,
    /// By which criterion.
    pub criterion: String,
    /// Validations since.
    pub validations: u64,
}

/// Says so if the last validations that the config's patience allows were all no better than one before. Only
/// iterations count that have a score on each dataset.
pub(crate) fn stale(config: &RunConfig, task: &dyn Task, scores: &[ValidationScore]) -> Option<Stale> {
    let stopping = config.trainer.early_stopping.as_ref()?;
    let named = |name: &str| task.criteria().iter().find(|criterion| criterion.name == name);
    let criterion = stopping
        .criterion
        .as_deref()
        .and_then(named)
        .unwrap_or_else(|| deciding(config, task));
    let means = means(config, criterion, scores);
    let best = means.iter().enumerate().reduce(|best, next| {
        if is_better(criterion, next.1.1, best.1.1) {
            next
        } else {
            best
        }
    });
    let (place, (iteration, _)) = best?;
    let validations = (means.len() - 1 - place) as u64;
    (validations >= stopping.patience).then(|| Stale {
        best: *iteration,
        criterion: criterion.name.to_string(),
        validations,
    })
}
