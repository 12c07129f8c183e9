//! Datasplits from a table: a row a crop, for training or validation, and a voxel size that all come to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dacapo_array::storage::Access;
use dacapo_array::{ArrayRead, Coordinate, Roi};

use crate::config::{
    ArraySource, DataConfig, DatasetConfig, MadeArray, Problem, ResampleConfig, resolve, suggestion,
};
use crate::dataset::Arrays;
use crate::sources::{Role, open};
use crate::{Error, Result};

/// What a table's labels become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Targets {
    /// Single objects: those of several datasets are merged, their ids kept apart.
    #[default]
    Objects,
    /// Classes: each dataset is one, wherever it is not 0, numbered as they are named.
    Classes,
}

/// How a table becomes a datasplit.
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    /// Voxel size of raw, z first, in world units: of pyramids the level that is nearest, resampled where it differs.
    pub voxel_size: Coordinate,
    /// Voxel size of labels; that of raw by default.
    pub labels_voxel_size: Option<Coordinate>,
    /// What labels become.
    pub targets: Targets,
    /// Of larger validation crops, so many voxels of labels in the middle are used.
    pub most_validation_voxels: Option<u64>,
}

/// A table that was read: what each row says.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    path: PathBuf,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    /// In the file, from 1.
    line: u64,
    is_training: bool,
    raw: String,
    /// One dataset, or several that are named in brackets.
    labels: Vec<String>,
    /// What the dataset will be called, if no other is.
    name: String,
}

/// The columns of a table.
const COLUMNS: [&str; 5] = [
    "train|val",
    "raw container",
    "raw dataset",
    "labels container",
    "labels dataset",
];

impl Table {
    /// Reads a table: comma-separated values, each row
    /// `train|val, raw container, raw dataset, labels container, labels dataset`. `labels[a&b]` are the datasets
    /// `labels/a` and `labels/b`. A first row that names the columns is left out, and so are empty lines and those
    /// that begin with `#`. Relative containers are looked for beside the table, then in `working_directory`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Datasplit`] with everything that is wrong in it.
    pub fn read(path: &Path, working_directory: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::io("read the table", path, source))?;
        let folder = working_directory.join(path.parent().unwrap_or(Path::new("")));
        let folders = [folder, working_directory.to_owned()];
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let (mut rows, mut problems) = (Vec::new(), Vec::new());
        for (index, record) in reader.records().enumerate() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    problems.push(Problem::new("", error.to_string()));
                    continue;
                }
            };
            let line = record.position().map_or(index as u64 + 1, csv::Position::line);
            if index == 0 && is_header(&record) {
                continue;
            }
            match Row::parse(&record, line, &folders) {
                Ok(row) => rows.push(row),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() && !rows.iter().any(|row| row.is_training) {
            problems.push(Problem::new("", "no row is for training"));
        }
        if !problems.is_empty() {
            return Err(Error::Datasplit {
                path: path.to_owned(),
                problems,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            rows,
        })
    }

    /// The datasets of a table. Every array is opened, of its values nothing is read.
    ///
    /// # Errors
    /// [`Error::Datasplit`] with everything that is wrong, each with its row and column.
    pub fn datasplit(&self, options: &TableOptions, access: &Access) -> Result<DataConfig> {
        let (mut problems, mut lists) = (Vec::new(), [Vec::new(), Vec::new()]);
        for row in &self.rows {
            let list: &mut Vec<DatasetConfig> = &mut lists[usize::from(!row.is_training)];
            let taken = |name: &str| list.iter().any(|dataset| dataset.name == name);
            let name = if taken(&row.name) {
                format!("{}_{}", row.name, row.line)
            } else {
                row.name.clone()
            };
            match row.dataset(name, options, access) {
                Ok(dataset) => list.push(dataset),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Datasplit {
                path: self.path.clone(),
                problems,
            });
        }
        let [train, validate] = lists;
        Ok(DataConfig {
            synthetic: None,
            simple: None,
            train,
            validate,
            intensity: None,
        })
    }
}

/// Whether a row names columns: it has no other place that begins so.
fn is_header(record: &csv::StringRecord) -> bool {
    let first = record.get(0).unwrap_or_default().to_lowercase();
    ["type", "dataset_type", "datasplit_type", "split", "train|val"].contains(&first.as_str())
}

impl Row {
    fn parse(record: &csv::StringRecord, line: u64, folders: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        let at = |column: usize, message: String| {
            Problem::new(format!("row {line}, {}", COLUMNS[column]), message)
        };
        if record.len() != COLUMNS.len() {
            let message = format!(
                "{} values, expected {}: {}",
                record.len(),
                COLUMNS.len(),
                COLUMNS.join(", ")
            );
            return Err(vec![Problem::new(format!("row {line}"), message)]);
        }
        let value = |column: usize| record.get(column).unwrap_or_default();
        let mut problems = Vec::new();
        let is_training = match value(0).to_lowercase().as_str() {
            "train" => true,
            "val" | "validate" => false,
            other => {
                let hint = suggestion(other, &["train", "val", "validate"]);
                problems.push(at(0, format!("`{}` is neither train nor val{hint}", value(0))));
                true
            }
        };
        for column in [1, 3] {
            if value(column).is_empty() {
                problems.push(at(column, "it is empty".to_owned()));
            }
        }
        let datasets = match targets(value(4)) {
            Ok(datasets) => datasets,
            Err(message) => {
                problems.push(at(4, message));
                Vec::new()
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let path = |container: &str, dataset: &str| {
            let text = [container.trim_end_matches('/'), dataset.trim_matches('/')];
            resolve(text.join("/").trim_end_matches('/'), folders)
        };
        let stem = Path::new(value(1))
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let name = [
            stem.unwrap_or_default(),
            value(4).split('[').next().unwrap_or_default().to_owned(),
        ]
        .join("/");
        Ok(Self {
            line,
            is_training,
            raw: path(value(1), value(2)),
            labels: datasets.iter().map(|dataset| path(value(3), dataset)).collect(),
            name: name.trim_matches('/').replace('/', "_"),
        })
    }

    /// The dataset that the row means.
    fn dataset(
        &self,
        name: String,
        options: &TableOptions,
        access: &Access,
    ) -> Result<DatasetConfig, Vec<Problem>> {
        let at =
            |column: &str, message: String| Problem::new(format!("row {}, {column}", self.line), message);
        let labels_size = options.labels_voxel_size.as_ref().unwrap_or(&options.voxel_size);
        let mut problems = Vec::new();
        let mut source = |what: &str, path: &str, role: Role, size: &Coordinate| {
            let made = resampled(path, role, size, access);
            made.map_err(|error| {
                use dacapo_array::Error as Array;
                let column = match &error {
                    Array::NoContainer { .. }
                    | Array::Io { .. }
                    | Array::Address { .. }
                    | Array::Location { .. } => "container",
                    _ => "dataset",
                };
                problems.push(at(&format!("{what} {column}"), error.to_string()));
            })
            .ok()
        };
        let raw = source("raw", &self.raw, Role::Raw, &options.voxel_size);
        let labels: Vec<Option<ArraySource>> = self
            .labels
            .iter()
            .map(|path| source("labels", path, Role::Labels, labels_size))
            .collect();
        let labels: Option<Vec<ArraySource>> = labels.into_iter().collect();
        let (Some(raw), Some(labels)) = (raw, labels) else {
            return Err(problems);
        };
        let mut dataset = DatasetConfig::new(name, raw, joined(labels, options.targets), None);
        let arrays = Arrays::open(&dataset, access).map_err(|error| match error {
            Error::Several { errors } => errors
                .iter()
                .map(|error| Problem::new(format!("row {}", self.line), error.to_string()))
                .collect(),
            error => vec![Problem::new(format!("row {}", self.line), error.to_string())],
        })?;
        let spec = arrays.labels.spec();
        if let Some(most) = options.most_validation_voxels.filter(|_| !self.is_training) {
            dataset.roi = middle(&arrays.roi, &*arrays.labels, most);
            if dataset.roi.as_ref().is_some_and(Roi::is_empty) {
                let message = format!(
                    "no {most} voxels of {} are in the middle of {}",
                    spec.voxel_size, arrays.roi
                );
                return Err(vec![Problem::new(format!("row {}", self.line), message)]);
            }
        }
        Ok(dataset)
    }
}

/// The datasets that `labels[a&b]` names: `labels/a` and `labels/b`; `labels` by itself names one.
fn targets(text: &str) -> Result<Vec<String>, String> {
    let Some((group, rest)) = text.split_once('[') else {
        return if text.contains(']') {
            Err(format!("`{text}` has a `]` without a `[`"))
        } else {
            Ok(vec![text.to_owned()])
        };
    };
    let names = rest
        .strip_suffix(']')
        .ok_or_else(|| format!("`{text}` does not end in `]`"))?;
    let names: Vec<&str> = names.split('&').map(str::trim).collect();
    if names
        .iter()
        .any(|name| name.is_empty() || name.contains(['[', ']']))
    {
        return Err(format!("`{text}` does not name datasets as group[a&b]"));
    }
    let group = group.trim_end_matches('/');
    let path = |name: &&str| {
        if group.is_empty() {
            (*name).to_owned()
        } else {
            format!("{group}/{name}")
        }
    };
    Ok(names.iter().map(path).collect())
}

/// An array in voxels of a size: by its path where it has them.
fn resampled(
    path: &str,
    role: Role,
    voxel_size: &Coordinate,
    access: &Access,
) -> Result<ArraySource, dacapo_array::Error> {
    let plain = ArraySource::from(path);
    let opened = |source: &ArraySource| -> Result<Arc<dyn ArrayRead>, dacapo_array::Error> {
        open(source, role, access).map_err(|failure| failure.error)
    };
    if opened(&plain)?.spec().voxel_size == *voxel_size {
        return Ok(plain);
    }
    let made = ArraySource::from(MadeArray {
        source: Some(plain),
        resample: Some(ResampleConfig {
            voxel_size: voxel_size.clone(),
            order: None,
        }),
        ..MadeArray::default()
    });
    opened(&made)?;
    Ok(made)
}

/// Several labels as one array.
fn joined(mut labels: Vec<ArraySource>, targets: Targets) -> ArraySource {
    match (targets, labels.len()) {
        (Targets::Objects, 1) => labels.swap_remove(0),
        (Targets::Objects, _) => MadeArray {
            merge: Some(labels),
            ..MadeArray::default()
        }
        .into(),
        (Targets::Classes, _) => MadeArray {
            layers: Some(labels),
            ..MadeArray::default()
        }
        .into(),
    }
}

/// The middle of a region, where it has more than `most` voxels: the longest sides are shortened to one length.
/// Nothing where it is small enough. On the array's grid.
fn middle(roi: &Roi, array: &dyn ArrayRead, most: u64) -> Option<Roi> {
    let size = &array.spec().voxel_size;
    let lengths = roi.shape.floor_div(size);
    let voxels = |longest: i64| -> u128 { lengths.iter().map(|&n| n.min(longest).max(0) as u128).product() };
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if voxels(longest) <= u128::from(most) {
        return None;
    }
    let (mut fits, mut too_long) = (0, longest);
    while too_long - fits > 1 {
        let half = fits + (too_long - fits) / 2;
        if voxels(half) <= u128::from(most) {
            fits = half;
        } else {
            too_long = half;
        }
    }
    let origin = array.spec().roi.begin();
    let first = (roi.begin() - origin).ceil_div(size);
    let begin: Vec<i64> = first
        .iter()
        .zip(&lengths)
        .map(|(first, &n)| first + (n - n.min(fits)) / 2)
        .collect();
    let shape: Vec<usize> = lengths.iter().map(|&n| n.min(fits).max(0) as usize).collect();
    Some(Roi::from_voxels(&begin, &shape, size).shift(origin))
}
