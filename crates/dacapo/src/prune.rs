//! Which arrays of old validations stay, and which go. Removing one array is the store's.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use dacapo_store::{ArrayEntry, ArrayFilter, ArrayKind, ArrayStore, LocalStore, Removed};

use crate::Result;
use crate::best::is_better;
use crate::config::{KeepPolicy, RunConfig};
use crate::scores::RunScores;

/// What is to be pruned.
#[derive(Debug, Clone, Default)]
pub struct PruneRequest {
    /// Which arrays are looked at; of them only predictions, outputs and snapshots can go. Predictions and outputs,
    /// if it names no kinds.
    pub filter: ArrayFilter,
    /// What stays.
    pub keep: KeepPolicy,
    /// The criteria by which iterations are best; that which decides, if there is none.
    pub criteria: Vec<String>,
}

/// An array, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PruneLine {
    /// The array.
    #[serde(flatten)]
    pub array: ArrayEntry,
    /// Whether it stays.
    pub stays: bool,
    /// Why.
    pub why: String,
    /// Bytes that it takes; not counted for what stays.
    pub bytes: u64,
}

/// Says what would go and what would stay, and touches nothing. On each dataset of each run, and for each kind, the
/// iterations that have arrays are ranked by their scores. An array stays if the request keeps its iteration; if
/// its iteration is the best by a criterion; or if it has no score.
///
/// # Errors
/// [`crate::Error::Criterion`] for one that a run's task does not have; if the store cannot be listed. Of a run whose
/// config cannot be read everything stays.
pub fn plan_prune(store: &LocalStore, request: &PruneRequest) -> Result<Vec<PruneLine>> {
    let mut filter = request.filter.clone();
    if filter.kinds.is_empty() {
        filter.kinds = vec![ArrayKind::Prediction, ArrayKind::Output];
    }
    filter.kinds.retain(|kind| {
        matches!(
            kind,
            ArrayKind::Prediction | ArrayKind::Output | ArrayKind::Snapshot
        )
    });
    if filter.kinds.is_empty() {
        return Ok(Vec::new());
    }
    // What is ranked is all there is, whatever part of it may go.
    let ranked = ArrayFilter {
        runs: filter.runs.clone(),
        kinds: filter.kinds.clone(),
        ..ArrayFilter::default()
    };
    let mut groups: BTreeMap<(String, ArrayKind, Option<String>), Vec<ArrayEntry>> = BTreeMap::new();
    for entry in store.arrays.list(&ranked)? {
        let group = (entry.run.clone(), entry.kind, entry.dataset.clone());
        groups.entry(group).or_default().push(entry);
    }
    let mut scores: HashMap<String, Result<RunScores>> = HashMap::new();
    let mut lines = Vec::new();
    for ((run, kind, dataset), entries) in groups {
        let scores = scores
            .entry(run.clone())
            .or_insert_with(|| RunScores::load(store, &run));
        let reasons = match (&*scores, kind, dataset.as_deref()) {
            (Ok(scores), _, dataset) => reasons(request, scores, dataset, &entries)?,
            (Err(_), ArrayKind::Snapshot, _) => positions(request, &iterations(&entries)),
            (Err(error), ..) => {
                let why = format!("its run cannot be judged: {error}");
                iterations(&entries)
                    .into_iter()
                    .map(|at| (at, (true, why.clone())))
                    .collect()
            }
        };
        for array in entries {
            if !filter.matches(&array, &store.arrays.path_of(&array.identifier)?) {
                continue;
            }
            let known = array.iteration.and_then(|at| reasons.get(&at));
            let (stays, why) = known
                .cloned()
                .unwrap_or_else(|| (true, "it is of no iteration".to_owned()));
            let bytes = if stays {
                0
            } else {
                store.arrays.bytes_of(&array.identifier)?
            };
            lines.push(PruneLine {
                array,
                stays,
                why,
                bytes,
            });
        }
    }
    Ok(lines)
}

type Reasons = BTreeMap<u64, (bool, String)>;

fn iterations(entries: &[ArrayEntry]) -> Vec<u64> {
    let mut iterations: Vec<u64> = entries.iter().filter_map(|entry| entry.iteration).collect();
    iterations.sort_unstable();
    iterations.dedup();
    iterations
}

/// What the place of an iteration among the others says: the last few, and every so many.
fn positions(request: &PruneRequest, iterations: &[u64]) -> Reasons {
    let KeepPolicy { last, every, .. } = request.keep;
    let first_of_last = iterations.len().saturating_sub(last.unwrap_or(0));
    let reason = |(place, &at): (usize, &u64)| {
        let stays = if place >= first_of_last {
            Some("it is among the last".to_owned())
        } else {
            every
                .filter(|every| at.is_multiple_of(every.get()))
                .map(|every| format!("it is a multiple of {every}"))
        };
        (
            at,
            stays.map_or((false, "nothing keeps it".to_owned()), |why| (true, why)),
        )
    };
    iterations.iter().enumerate().map(reason).collect()
}

fn reasons(
    request: &PruneRequest,
    scores: &RunScores,
    dataset: Option<&str>,
    entries: &[ArrayEntry],
) -> Result<Reasons> {
    let all = iterations(entries);
    let mut reasons = positions(request, &all);
    // Snapshots are of no dataset, and have no scores.
    let Some(dataset) = dataset else {
        return Ok(reasons);
    };
    let asked: Vec<Option<&str>> = match request.criteria.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    for name in asked {
        let criterion = scores.criterion(name)?;
        let mut ranked: Vec<(u64, f64)> = Vec::new();
        for &at in &all {
            match scores.at(dataset, at, criterion) {
                Some(score) => ranked.push((at, score)),
                None => {
                    reasons.insert(at, (true, format!("it has no {} yet", criterion.name)));
                }
            }
        }
        // Stable: the first of equal ones is best.
        ranked.sort_by(
            |a, b| match (is_better(criterion, a.1, b.1), is_better(criterion, b.1, a.1)) {
                (true, _) => Ordering::Less,
                (_, true) => Ordering::Greater,
                _ => Ordering::Equal,
            },
        );
        for (rank, (at, score)) in ranked.into_iter().enumerate() {
            let counted = scores
                .counted_by()
                .map_or_else(String::new, |program| format!(", {program}'s count"));
            let place = format!("{} by {} ({score:.4}{counted})", ordinal(rank), criterion.name);
            let entry = reasons.entry(at).or_default();
            if rank == 0 || rank < request.keep.best.unwrap_or(0) {
                *entry = (true, place);
            } else if !entry.0 {
                entry.1 = place;
            }
        }
    }
    Ok(reasons)
}

fn ordinal(rank: usize) -> String {
    match rank {
        0 => "best".to_owned(),
        1 => "2nd best".to_owned(),
        2 => "3rd best".to_owned(),
        rank => format!("{}th best", rank + 1),
    }
}

/// Removes what a plan says goes; into the trash if it is to be kept. Returns how many arrays went: one that was
/// gone already is none.
///
/// # Errors
/// [`crate::Error::Store`]; what was removed before is removed.
pub fn prune(store: &LocalStore, plan: &[PruneLine], keep_trash: bool) -> Result<usize> {
    let mut removed = 0;
    for line in plan.iter().filter(|line| !line.stays) {
        let array = &line.array.identifier;
        let is_removed = if keep_trash {
            store.arrays.remove_kept(array)?.is_some()
        } else {
            store.arrays.remove(array)? == Removed::Removed
        };
        removed += usize::from(is_removed);
    }
    Ok(removed)
}

/// Does what the config of a run asks for after a validation.
pub(crate) fn after_validation(store: &LocalStore, config: &RunConfig) -> Result<()> {
    let Some(keep) = config.validation.keep else {
        return Ok(());
    };
    let plan = plan_prune(
        store,
        &PruneRequest {
            filter: ArrayFilter::of_run(&config.name)?,
            keep,
            criteria: Vec::new(),
        },
    )?;
    let plan: Vec<PruneLine> = plan
        .into_iter()
        .filter(|line| line.array.run == config.name)
        .collect();
    let removed = prune(store, &plan, false)?;
    tracing::info!(
        run = config.name,
        removed,
        "removed arrays that the config does not keep"
    );
    Ok(())
}
