//! Losses and scores of the Python DaCapo: pickled lists of dicts, read as data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dacapo_array::ArrayAddress;
use dacapo_nn::pickle::{self, NumpyArray, Value};
use dacapo_store::{TrainingStat, ValidationScore};

use super::refuse;
use crate::{Error, Result};

/// A file of records may have so many bytes: those of some millions of steps.
const MOST_BYTES: u64 = 1 << 28;

/// The criteria of its evaluators, in the order in which they are recorded.
const INSTANCE: [&str; 3] = ["voi_split", "voi_merge", "voi"];
const BINARY: [&str; 21] = [
    "dice",
    "jaccard",
    "hausdorff",
    "false_negative_rate",
    "false_negative_rate_with_tolerance",
    "false_positive_rate",
    "false_discovery_rate",
    "false_positive_rate_with_tolerance",
    "voi",
    "mean_false_distance",
    "mean_false_negative_distance",
    "mean_false_positive_distance",
    "mean_false_distance_clipped",
    "mean_false_negative_distance_clipped",
    "mean_false_positive_distance_clipped",
    "precision_with_tolerance",
    "recall_with_tolerance",
    "f1_score_with_tolerance",
    "precision",
    "recall",
    "f1_score",
];

/// One iteration's scores: by dataset, parameters and criterion.
pub(super) struct IterationScores {
    iteration: u64,
    scores: Vec<Vec<Vec<f64>>>,
}

/// The value in a pickle file; nothing if there is no file.
fn load(path: &Path) -> Result<Option<pickle::Pickle>> {
    let failed = |source| Error::io("read", path, source);
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MOST_BYTES => {
            return refuse(
                path,
                format!("records of more than {MOST_BYTES} bytes are not read"),
            );
        }
        metadata => metadata.and_then(|_| std::fs::read(path)).map_err(failed)?,
    };
    match pickle::read(&bytes) {
        Ok(pickle) => Ok(Some(pickle)),
        Err(error) => refuse(path, error.to_string()),
    }
}

/// The dicts in a list, each read by `record`.
fn records<T>(path: &Path, what: &str, record: impl Fn(Value<'_>) -> Option<T>) -> Result<Vec<T>> {
    let Some(pickle) = load(path)? else {
        return Ok(Vec::new());
    };
    let Some(items) = pickle.root().items() else {
        return refuse(path, "it holds no list of records");
    };
    let mut records = Vec::with_capacity(items.len());
    for (index, item) in items.enumerate() {
        match record(item) {
            Some(record) => records.push(record),
            None => return refuse(path, format!("record {index} does not say {what}")),
        }
    }
    Ok(records)
}

fn iteration(record: Value<'_>) -> Option<u64> {
    record.get("iteration")?.as_int()?.try_into().ok()
}

/// The losses, none if nothing is recorded. It counts steps from 0 and we from 1.
pub(super) fn training(path: &Path) -> Result<Vec<TrainingStat>> {
    let mut stats = records(path, "iteration, loss and time", |record| {
        Some(TrainingStat {
            iteration: iteration(record)?.checked_add(1)?,
            loss: record.get("loss")?.as_f64()?,
            time: record.get("time")?.as_f64()?,
        })
    })?;
    stats.sort_by_key(|stat| stat.iteration);
    stats.dedup_by_key(|stat| stat.iteration);
    Ok(stats)
}

/// The scores, none if nothing is recorded.
pub(super) fn scores(path: &Path) -> Result<Vec<IterationScores>> {
    records(
        path,
        "iteration and scores by dataset, parameters and criterion",
        |record| {
            Some(IterationScores {
                iteration: iteration(record)?,
                scores: nested(record.get("scores")?)?,
            })
        },
    )
}

fn nested(value: Value<'_>) -> Option<Vec<Vec<Vec<f64>>>> {
    if let Some(array) = NumpyArray::of(value) {
        let [_, parameters, criteria] = array.shape[..] else {
            return None;
        };
        if parameters == 0 || criteria == 0 {
            return None;
        }
        let rows: Vec<Vec<f64>> = array.values.chunks(criteria).map(<[f64]>::to_vec).collect();
        return Some(rows.chunks(parameters).map(<[Vec<f64>]>::to_vec).collect());
    }
    let numbers = |value: Value<'_>| -> Option<Vec<f64>> {
        match NumpyArray::of(value) {
            Some(array) => Some(array.values),
            None => value.items()?.map(Value::as_f64).collect(),
        }
    };
    let rows = |value: Value<'_>| -> Option<Vec<Vec<f64>>> { value.items()?.map(numbers).collect() };
    value.items()?.map(rows).collect()
}

/// What its scores are called: it records them by number only.
pub(super) struct Names {
    datasets: Vec<String>,
    /// By their `id`.
    parameters: BTreeMap<usize, String>,
}

impl Names {
    /// From the validated datasets of the config, in its order, and from the names of the kept arrays.
    pub fn of(arrays: &[ArrayAddress], mut datasets: Vec<String>) -> Self {
        let mut validated = BTreeSet::new();
        let mut parameters = BTreeMap::new();
        for array in arrays {
            let parts: Vec<&str> = array.dataset.split('/').collect();
            match parts[..] {
                [iteration, dataset, "output", output] if iteration.parse::<u64>().is_ok() => {
                    validated.insert(dataset.to_owned());
                    let id = output.split_once("(id=").map(|(_, rest)| rest);
                    let id = id.and_then(|rest| rest.split([',', ')']).next()?.trim().parse().ok());
                    parameters.extend(id.map(|id| (id, output.to_owned())));
                }
                ["inputs", dataset, _] => {
                    validated.insert(dataset.to_owned());
                }
                _ => {}
            }
        }
        // The order of several datasets is that of the config, or not known.
        if datasets.is_empty() && validated.len() == 1 {
            datasets.extend(validated);
        }
        Self { datasets, parameters }
    }

    /// The scores in our words, and what has to be said about them.
    pub fn apply(&self, scores: &[IterationScores]) -> (Vec<ValidationScore>, Vec<String>) {
        let mut notes = BTreeSet::new();
        let mut found = Vec::new();
        for IterationScores { iteration, scores } in scores {
            if scores.len() != self.datasets.len() {
                notes.insert(
                    "which dataset a score is of is not recorded: they are called by their numbers"
                        .to_owned(),
                );
            }
            for (dataset, rows) in scores.iter().enumerate() {
                let named = self
                    .datasets
                    .get(dataset)
                    .filter(|_| scores.len() == self.datasets.len());
                let dataset = named.cloned().unwrap_or_else(|| dataset.to_string());
                for (id, values) in rows.iter().enumerate() {
                    found.push(ValidationScore {
                        iteration: *iteration,
                        dataset: dataset.clone(),
                        parameters: self
                            .parameters
                            .get(&id)
                            .cloned()
                            .unwrap_or_else(|| format!("id={id}")),
                        scores: criteria(values, &mut notes),
                        time: 0.0,
                        counted_by: Some("Python DaCapo".to_owned()),
                    });
                }
            }
        }
        (found, notes.into_iter().collect())
    }
}

fn criteria(values: &[f64], notes: &mut BTreeSet<String>) -> BTreeMap<String, Option<f64>> {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let named = |names: &[&str]| -> BTreeMap<String, Option<f64>> {
        let pairs = names.iter().zip(values);
        pairs
            .map(|(name, &value)| ((*name).to_owned(), finite(value)))
            .collect()
    };
    match values.len() {
        3 => {
            let mut scores = named(&INSTANCE);
            // Its voi is the mean of the two; everywhere else it is their sum.
            scores.insert("voi".to_owned(), finite(values[0] + values[1]));
            notes.insert(
                "voi is voi_split + voi_merge here, where the original records half of that".to_owned(),
            );
            notes.insert(
                "the original counts voxels of no object in the truth, and ours by default do not: scores of both are not to be \
                 compared, and after a new validation only ours are ranked"
                    .to_owned(),
            );
            scores
        }
        21 => named(&BINARY),
        _ => {
            let pairs = values.iter().enumerate();
            pairs
                .map(|(index, &value)| (format!("score {index}"), finite(value)))
                .collect()
        }
    }
}
