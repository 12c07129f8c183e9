//! Classes and groups of ids that a config names, but that are nowhere in the labels that it trains on.

use std::collections::BTreeSet;

use dacapo_array::{ArrayReadExt, Roi};

use crate::config::{ArraySource, DatasetConfig, MadeArray, RunConfig};
use crate::dataset::{BLOCK, Dataset};
use crate::places::blocks_of;
use crate::sources::{Files, Role, open};
use crate::{Error, Result};

/// So many of the ids that are there are named instead.
const MOST_NAMED: usize = 8;

/// Ids that are looked for: those of one class or group.
struct Wanted {
    /// Where the config names them.
    key: String,
    ids: Vec<u64>,
    is_found: bool,
}

impl Wanted {
    fn new(key: String, ids: &[u64]) -> Self {
        Self {
            key,
            ids: ids.to_vec(),
            is_found: false,
        }
    }
}

/// What labels were seen while ids were looked for.
#[derive(Default)]
struct Seen(BTreeSet<u64>);

impl Seen {
    /// Takes in the labels of a block. Whether all that is wanted was found.
    fn look(&mut self, labels: impl Iterator<Item = u64>, wanted: &mut [Wanted]) -> bool {
        let mut last = None;
        for label in labels {
            // Neighbours are equal as a rule.
            if last == Some(label) || label == 0 {
                continue;
            }
            last = Some(label);
            let mut found = wanted.iter_mut().filter(|wanted| wanted.ids.contains(&label));
            found.by_ref().for_each(|wanted| wanted.is_found = true);
            if self.0.len() <= MOST_NAMED {
                self.0.insert(label);
            }
        }
        wanted.iter().all(|wanted| wanted.is_found)
    }

    fn errors(self, wanted: Vec<Wanted>) -> impl Iterator<Item = Error> {
        let absent = wanted.into_iter().filter(|wanted| !wanted.is_found);
        absent.map(move |wanted| Error::AbsentIds {
            key: wanted.key,
            ids: wanted.ids,
            there: self.0.iter().copied().collect(),
        })
    }
}

/// An error for each class of the task, and each group of ids of labels that are made of others, of which no id is in
/// any of the training datasets. Blocks are read until all were found.
///
/// # Errors
/// From reading the labels.
pub(crate) fn absent(config: &RunConfig, datasets: &[Dataset], files: &dyn Files) -> Result<Vec<Error>> {
    let mut errors = absent_classes(config, datasets)?;
    errors.extend(absent_groups(&config.data.train, datasets, files)?);
    Ok(errors)
}

fn absent_classes(config: &RunConfig, datasets: &[Dataset]) -> Result<Vec<Error>> {
    let classes = config.task.classes().iter().enumerate();
    let mut wanted: Vec<Wanted> = classes
        .filter(|(_, class)| !class.ids.is_empty())
        .map(|(index, class)| Wanted::new(format!("task.classes[{index}].ids ({})", class.name), &class.ids))
        .collect();
    let mut seen = Seen::default();
    let mut is_done = wanted.is_empty();
    for dataset in datasets {
        let voxel_size = &dataset.labels.spec().voxel_size;
        let mut blocks = blocks_of(&*dataset.labels, &dataset.roi, BLOCK).into_iter();
        while let Some(block) = blocks.next().filter(|_| !is_done) {
            let shape = block.voxels(voxel_size).unwrap_or_default();
            let found = dataset.labelled(block.begin(), &shape, voxel_size)?;
            let known = found.labels.iter().zip(&found.known);
            let labels = known.filter(|(_, known)| **known).map(|(&label, _)| label);
            is_done = seen.look(labels, &mut wanted);
        }
    }
    Ok(seen.errors(wanted).collect())
}

/// Groups of ids under one key are looked for in all datasets that have the same there: a crop need not have all of
/// them.
fn absent_groups(configs: &[DatasetConfig], datasets: &[Dataset], files: &dyn Files) -> Result<Vec<Error>> {
    let mut alike: Vec<(Vec<Wanted>, Seen)> = Vec::new();
    for (config, dataset) in configs.iter().zip(datasets) {
        for (key, groups, source) in grouped(&config.labels, "labels") {
            let wanted: Vec<Wanted> = groups
                .iter()
                .enumerate()
                .filter(|(_, ids)| !ids.is_empty())
                .map(|(index, ids)| Wanted::new(format!("{key}[{index}] of data.train"), ids))
                .collect();
            let is_same = |other: &(Vec<Wanted>, Seen)| {
                let mut pairs = other.0.iter().zip(&wanted);
                other.0.len() == wanted.len() && pairs.all(|(a, b)| (&a.key, &a.ids) == (&b.key, &b.ids))
            };
            let place = alike.iter().position(is_same).unwrap_or_else(|| {
                alike.push((wanted, Seen::default()));
                alike.len() - 1
            });
            let (wanted, seen) = &mut alike[place];
            look_through(&source, &dataset.roi, files, wanted, seen)?;
        }
    }
    Ok(alike
        .into_iter()
        .flat_map(|(wanted, seen)| seen.errors(wanted))
        .collect())
}

/// The groups of ids in a source, their keys, and the arrays that have these ids.
fn grouped<'a>(source: &'a ArraySource, key: &str) -> Vec<(String, &'a [Vec<u64>], ArraySource)> {
    let ArraySource::Made(made) = source else {
        return Vec::new();
    };
    let before = || -> ArraySource {
        MadeArray {
            binarize: None,
            classes: None,
            resample: None,
            cast: None,
            ..(**made).clone()
        }
        .into()
    };
    let own = [("binarize", &made.binarize), ("classes", &made.classes)];
    let own = own
        .into_iter()
        .filter_map(|(name, groups)| Some((format!("{key}.{name}"), groups.as_deref()?, before())));
    let inner = made.sources().into_iter();
    let inner = inner.flat_map(|(part, source)| grouped(source, &format!("{key}.{part}")));
    own.chain(inner).collect()
}

fn look_through(
    source: &ArraySource,
    roi: &Roi,
    files: &dyn Files,
    wanted: &mut [Wanted],
    seen: &mut Seen,
) -> Result<()> {
    if wanted.iter().all(|wanted| wanted.is_found) {
        return Ok(());
    }
    let array = open(source, Role::Labels, files).map_err(|failure| failure.error)?;
    // A crop that is smaller than a voxel of labels is of that voxel.
    let voxel = &array.spec().voxel_size;
    let roi = roi.grow(voxel, voxel);
    for block in blocks_of(&*array, &roi, BLOCK) {
        if seen.look(array.read_as::<u64>(&block)?.iter().copied(), wanted) {
            break;
        }
    }
    Ok(())
}
