//! Losses and scores as they come, one JSON record a line. Which score is best is decided elsewhere.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dacapo_array::storage::{Durability, StorageExt, whole_lines};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{Error, Result, local::Base};

/// What one training step gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingStat {
    /// Counted as the trainer counts.
    pub iteration: u64,
    /// The loss; one that is not finite is stored as `null` and read back as NaN.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Seconds that the step took.
    pub time: f64,
}

/// What one segmentation of one dataset scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationScore {
    /// The iteration that was validated.
    pub iteration: u64,
    /// The dataset.
    pub dataset: String,
    /// The post-processing parameters, as they print.
    pub parameters: String,
    /// Each criterion's score; none where it is not defined.
    pub scores: BTreeMap<String, Option<f64>>,
    /// Seconds that it took.
    pub time: f64,
    /// The other program that counted it, by rules of its own; none for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Keeps the records of each run in the order in which they were appended. A run has one writer at a time
/// ([`crate::RunLease`]) and any number of readers.
pub trait StatsStore: Send + Sync {
    /// Appends training records. When this returns they survive a crash; if the process is killed meanwhile,
    /// the first few of them are there, each whole, and none of what was there before is lost.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Twin`], [`Error::Io`].
    fn append_training(&self, run: &str, stats: &[TrainingStat]) -> Result<()>;

    /// All training records of a run; none for a run that is not there.
    ///
    /// # Errors
    /// [`Error::Record`] for a damaged record, [`Error::Name`], [`Error::Io`].
    fn training(&self, run: &str) -> Result<Vec<TrainingStat>>;

    /// Appends scores, as [`append_training`](Self::append_training) does.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Twin`], [`Error::Io`].
    fn append_scores(&self, run: &str, scores: &[ValidationScore]) -> Result<()>;

    /// All scores of a run; none for a run that is not there.
    ///
    /// # Errors
    /// [`Error::Record`] for a damaged record, [`Error::Name`], [`Error::Io`].
    fn scores(&self, run: &str) -> Result<Vec<ValidationScore>>;

    /// Drops the records of iterations past `iteration`, which a run that resumes there makes again. Training
    /// records go at once, and scores go at once.
    ///
    /// # Errors
    /// [`Error::Record`] for a damaged record, [`Error::Name`], [`Error::Io`].
    fn truncate_after(&self, run: &str, iteration: u64) -> Result<()>;
}

/// Records as `<base>/<run>/stats/training.jsonl` and `validation.jsonl`.
///
/// Each line is written with its line end in one go. What stands after the last line end was torn by a kill or
/// a full disk: readers leave it out, and the next append removes it.
#[derive(Clone, Debug)]
pub struct LocalStatsStore {
    pub(crate) base: Base,
}

const TRAINING: &str = "training.jsonl";
const VALIDATION: &str = "validation.jsonl";

impl LocalStatsStore {
    /// The records in the directory `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = Base::directory(base);
        Self { base }
    }

    fn key(&self, run: &str, file: &str) -> Result<String> {
        Ok(format!("{}/stats/{file}", self.base.run(run)?))
    }

    fn append<T: Serialize>(&self, run: &str, file: &str, records: &[T]) -> Result<()> {
        self.base.create_run(run)?;
        let key = self.key(run, file)?;
        let lines = lines(&self.base.path(&key), records)?;
        Ok(self.base.storage.append_lines(&key, &lines)?)
    }

    fn read<T: DeserializeOwned>(&self, run: &str, file: &str) -> Result<Vec<T>> {
        let key = self.key(run, file)?;
        let bytes = self.base.storage.read(&key)?;
        parse(&self.base.path(&key), &bytes.unwrap_or_default())
    }

    fn keep<T: Serialize + DeserializeOwned>(
        &self,
        run: &str,
        file: &str,
        kept: impl Fn(&T) -> bool,
    ) -> Result<()> {
        let mut records = self.read(run, file)?;
        let before = records.len();
        records.retain(kept);
        if records.len() == before {
            return Ok(());
        }
        let key = self.key(run, file)?;
        let lines = lines(&self.base.path(&key), &records)?;
        Ok(self.base.storage.write(&key, &lines, Durability::Synced)?)
    }
}

impl StatsStore for LocalStatsStore {
    fn append_training(&self, run: &str, stats: &[TrainingStat]) -> Result<()> {
        self.append(run, TRAINING, stats)
    }

    fn training(&self, run: &str) -> Result<Vec<TrainingStat>> {
        self.read(run, TRAINING)
    }

    fn append_scores(&self, run: &str, scores: &[ValidationScore]) -> Result<()> {
        self.append(run, VALIDATION, scores)
    }

    fn scores(&self, run: &str) -> Result<Vec<ValidationScore>> {
        self.read(run, VALIDATION)
    }

    fn truncate_after(&self, run: &str, iteration: u64) -> Result<()> {
        self.keep(run, TRAINING, |stat: &TrainingStat| stat.iteration <= iteration)?;
        self.keep(run, VALIDATION, |score: &ValidationScore| {
            score.iteration <= iteration
        })
    }
}

fn lines<T: Serialize>(path: &Path, records: &[T]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(records.len() * 64);
    for record in records {
        serde_json::to_writer(&mut bytes, record).map_err(|error| Error::io("write", path)(error.into()))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Vec<T>> {
    let whole = &bytes[..whole_lines(bytes)];
    whole
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .map(|(line, record)| {
            let path = path.to_owned();
            serde_json::from_slice(record).map_err(|source| Error::Record {
                path,
                line: line + 1,
                source,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;
    use crate::conformance;

    fn stat(iteration: u64) -> TrainingStat {
        TrainingStat {
            iteration,
            loss: 1.0 / (iteration as f64 + 3.0),
            time: 0.25,
        }
    }

    #[test]
    fn conforms() {
        let base = tempfile::tempdir().unwrap();
        conformance::stats_store(&LocalStatsStore::new(base.path().join("base")));
        conformance::stats_store(&conformance::in_memory("memory://m/base").stats);
    }

    #[test]
    fn a_torn_line_is_left_out_and_then_repaired_wherever_it_was_cut() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStatsStore::new(base.path());
        store
            .append_training("run", &[stat(0), stat(1), stat(2)])
            .unwrap();
        let path = base.path().join("run/stats/training.jsonl");
        let whole = fs::read(&path).unwrap();
        let mut ends: Vec<usize> = whole
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'\n')
            .map(|(at, _)| at + 1)
            .collect();
        ends.insert(0, 0);
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut expected: Vec<_> = (0..ends.iter().filter(|&&end| 0 < end && end <= cut).count() as u64)
                .map(stat)
                .collect();
            assert_eq!(store.training("run").unwrap(), expected, "cut at {cut}");
            store.append_training("run", &[stat(7)]).unwrap();
            expected.push(stat(7));
            assert_eq!(store.training("run").unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_line_longer_than_one_step_back_is_repaired() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStatsStore::new(base.path());
        store.append_training("run", &[stat(0)]).unwrap();
        let path = base.path().join("run/stats/training.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([0; 10_000]);
        fs::write(&path, bytes).unwrap();
        store.append_training("run", &[stat(1)]).unwrap();
        assert_eq!(store.training("run").unwrap(), [stat(0), stat(1)]);
    }

    #[test]
    fn damage_in_the_middle_is_named() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStatsStore::new(base.path());
        store
            .append_training("run", &[stat(0), stat(1), stat(2)])
            .unwrap();
        let path = base.path().join("run/stats/training.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"iteration\":1,", "\"iteration\":x,")).unwrap();
        let error = store.training("run").unwrap_err().to_string();
        assert_eq!(error, format!("line 2 of {} is not a record", path.display()));
    }

    #[test]
    fn records_of_a_later_version_are_read() {
        let bytes = br#"{"iteration":1,"loss":0.5,"time":0.1,"gradient_norm":2.0}
"#;
        let read: Vec<TrainingStat> = parse(Path::new("x"), bytes).unwrap();
        assert_eq!(
            read,
            [TrainingStat {
                iteration: 1,
                loss: 0.5,
                time: 0.1
            }]
        );
    }

    #[test]
    fn a_hundred_thousand_records_read_quickly() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStatsStore::new(base.path());
        let stats: Vec<_> = (0..100_000).map(stat).collect();
        store.append_training("run", &stats).unwrap();
        let start = Instant::now();
        assert!(store.training("run").unwrap() == stats, "the same bits");
        assert!(start.elapsed().as_secs_f64() < 2.0, "{:?}", start.elapsed());
    }
}
