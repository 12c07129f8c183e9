//! The one error type of this crate. What went wrong stands in its text; what to do about it in its hint.

use std::io;
use std::path::{Path, PathBuf};

use dacapo_array::storage::Location;
use dacapo_array::{Coordinate, DType, Roi};

use crate::config::{Difference, Problem};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A config that cannot be used.
    #[error("{}: {}", path.display(), list(problems))]
    Config {
        /// Where it was read from.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
    /// A config that cannot be written down.
    #[error("the config cannot be written as YAML: {message}")]
    Yaml {
        /// What the writer says.
        message: String,
    },
    /// An options file that cannot be used.
    #[error("{}: {message}", path.display())]
    Options {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Several things are wrong.
    #[error("{}", list(errors))]
    Several {
        /// Each of them.
        errors: Vec<Error>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory or file of the Python DaCapo that cannot be read, or a run of it that cannot become one of ours.
    #[error("{}: {reason}", path.display())]
    Original {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The container of a synthetic volume holds something else.
    #[error("{container} was not made from the `data.synthetic` of this config")]
    SyntheticDiffers {
        /// The container.
        container: Location,
    },
    /// A datasplit that cannot be made, or found in folders.
    #[error("{}: {}", path.display(), list(problems))]
    Datasplit {
        /// The table, or the folder.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
    /// An array of a dataset cannot be opened.
    #[error("dataset {dataset}: cannot open its {role}{}: {source}", inside(part))]
    Dataset {
        /// The dataset's name.
        dataset: String,
        /// raw, labels or mask.
        role: &'static str,
        /// The keys that lead to what cannot be opened or made, where it is a part of the array.
        part: String,
        /// Why; names what is there instead.
        source: Box<dacapo_array::Error>,
    },
    /// Arrays of a dataset, or the data and the network, do not have the same number of axes.
    #[error("dataset {dataset}: {what} has {found} spatial axes, expected {expected}")]
    Dimensions {
        /// The dataset's name.
        dataset: String,
        /// Which array.
        what: &'static str,
        /// Its spatial axes.
        found: usize,
        /// As many as the network has.
        expected: usize,
    },
    /// The raw arrays have other channels than the network expects.
    #[error("dataset {dataset}: raw has {found} channels, the network takes {expected}")]
    Channels {
        /// The dataset's name.
        dataset: String,
        /// Channels of its raw array.
        found: usize,
        /// `fmaps_in` of the network.
        expected: usize,
    },
    /// Labels, or a mask, with several channels.
    #[error("dataset {dataset}: {what} has {found} channels, expected one")]
    LabelChannels {
        /// The dataset's name.
        dataset: String,
        /// Which array.
        what: &'static str,
        /// Its channels.
        found: usize,
    },
    /// A mask that says that nothing is annotated.
    #[error("dataset {dataset}: no voxel of its mask is set in {roi}")]
    EmptyMask {
        /// The dataset's name.
        dataset: String,
        /// Where set voxels were looked for, in world units.
        roi: Roi,
    },
    /// A point to take crops around that is not in the dataset.
    #[error("dataset {dataset}: the sample point {point} is not in its {roi}")]
    PointOutside {
        /// The dataset's name.
        dataset: String,
        /// The point, in world units.
        point: Coordinate,
        /// Where it may lie.
        roi: Roi,
    },
    /// A dataset whose parts lie apart.
    #[error(
        "dataset {dataset}: raw {raw} and labels {labels} do not overlap{}",
        within(roi)
    )]
    NoOverlap {
        /// The dataset's name.
        dataset: String,
        /// Where raw lies, in world units.
        raw: Box<Roi>,
        /// Where the labels lie.
        labels: Box<Roi>,
        /// The Roi that the config asks for.
        roi: Option<Box<Roi>>,
    },
    /// What would not fit in memory.
    #[error(
        "{what} takes about {:.1} GB of memory, and {:.1} GB are free",
        *needed as f64 / 1e9, *free as f64 / 1e9
    )]
    TooLarge {
        /// What was to be done.
        what: String,
        /// What it takes, in bytes.
        needed: u64,
        /// What there is, in bytes.
        free: u64,
        /// How it takes less.
        way_out: &'static str,
    },
    /// Blocks that see more than their neighbours.
    #[error(
        "objects of affinities are not made in blocks of {block} voxels, but of {least} or more along each axis"
    )]
    SmallBlock {
        /// Voxels along each axis.
        block: usize,
        /// The fewest that there can be.
        least: usize,
    },
    /// An array that has not the one channel of labels.
    #[error("{name} has {channels} channels, and labels have one")]
    Labels {
        /// The array.
        name: String,
        /// Its channels.
        channels: usize,
    },
    /// Labels with a value that no label has.
    #[error("{name} cannot be read as labels: {source}")]
    LabelValue {
        /// The array.
        name: String,
        /// Which value.
        source: dacapo_array::Error,
    },
    /// Arrays of which one cannot be scored by the other.
    #[error("{truth} and {other} cannot be compared: {reason}")]
    Incomparable {
        /// The true labels.
        truth: String,
        /// What was to be scored.
        other: String,
        /// What does not fit.
        reason: String,
    },
    /// A Roi that lies outside of the array to predict.
    #[error("{roi} does not overlap {input} at {array}")]
    RoiApart {
        /// The array.
        input: String,
        /// What was asked for, in world units.
        roi: Roi,
        /// Where the array lies.
        array: Box<Roi>,
    },
    /// Voxel sizes of which neither divides the other.
    #[error(
        "dataset {dataset}: labels with voxels of {labels} do not fit predictions with voxels of {prediction}: \
         along each axis, one has to be a multiple of the other"
    )]
    VoxelSizes {
        /// The dataset's name.
        dataset: String,
        /// The labels' voxel size.
        labels: Coordinate,
        /// The voxel size of what the network predicts from this dataset's raw.
        prediction: Coordinate,
    },
    /// Labels that are no integers.
    #[error("dataset {dataset}: labels are {dtype}, but objects are numbered by integers")]
    LabelType {
        /// The dataset's name.
        dataset: String,
        /// Their type.
        dtype: DType,
    },
    /// An intensity range has to be given.
    #[error("dataset {dataset}: raw is {dtype}, whose range of intensities is not known")]
    IntensityRange {
        /// The dataset's name.
        dataset: String,
        /// Its type.
        dtype: DType,
    },
    /// Training datasets of different voxel sizes.
    #[error("dataset {dataset}: raw has voxels of {found}, dataset {first} of {expected}")]
    MixedVoxelSizes {
        /// The dataset's name.
        dataset: String,
        /// Its voxel size.
        found: Coordinate,
        /// The first training dataset.
        first: String,
        /// Its voxel size.
        expected: Coordinate,
    },
    /// Nothing to learn from.
    #[error("dataset {dataset}: no labelled voxel in {roi}")]
    NothingLabelled {
        /// The dataset's name.
        dataset: String,
        /// Where labels were looked for, in world units.
        roi: Roi,
    },
    /// Ids that are nowhere in the labels.
    #[error(
        "{key}: {} in the labels that are trained on; there are {}",
        if let [id] = ids[..] { format!("{id} is not") } else { format!("none of {ids:?} is") },
        ids_there(there)
    )]
    AbsentIds {
        /// Where the config names them.
        key: String,
        /// The ids.
        ids: Vec<u64>,
        /// Some that are there instead.
        there: Vec<u64>,
    },
    /// No crop was good enough.
    #[error(
        "dataset {dataset}: in {tries} random crops, none was labelled by at least {fraction} of its voxels"
    )]
    TooFewLabelled {
        /// The dataset's name.
        dataset: String,
        /// `min_labelled` of the trainer.
        fraction: f64,
        /// Crops that were looked at.
        tries: u32,
    },
    /// An augmentation needs raw that is not there.
    #[error(
        "dataset {dataset}: raw has {found:?} voxels, but the crops of {augmentation} are taken from up to {needed:?}"
    )]
    AugmentContext {
        /// The dataset's name.
        dataset: String,
        /// The augmentation's key.
        augmentation: &'static str,
        /// Voxels of its raw array along the spatial axes.
        found: Vec<usize>,
        /// Voxels that a crop can be taken from.
        needed: Vec<usize>,
    },
    /// Shapes that do not fit each other.
    #[error("{what}: {reason}")]
    Shape {
        /// What has the shape.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A score that the task does not have.
    #[error("{key}: unknown criterion `{name}`{suggestion}")]
    Criterion {
        /// Where it was asked for.
        key: &'static str,
        /// The name asked for.
        name: String,
        /// What it could be.
        suggestion: String,
    },
    /// A run was begun with another config.
    #[error("run {run} was begun with another config: {}", list(differences))]
    ConfigChanged {
        /// The run.
        run: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// No such run.
    #[error("no run {run} under {base}{suggestion}")]
    NoRun {
        /// The name asked for.
        run: String,
        /// The base directory.
        base: Location,
        /// Runs that are there.
        suggestion: String,
    },
    /// A checkpoint that is torn, or of another network.
    #[error("the checkpoint of iteration {iteration} of run {run} cannot be used: {source}")]
    Checkpoint {
        /// The run.
        run: String,
        /// The iteration.
        iteration: u64,
        /// What is wrong.
        source: dacapo_nn::Error,
    },
    /// No checkpoint to go on from, or to predict with.
    #[error("run {run} has no {what}")]
    NoCheckpoint {
        /// The run.
        run: String,
        /// What was asked for.
        what: String,
    },
    /// A network that this machine has not the memory to train.
    #[error(
        "training on {batch} × {input:?} voxels takes about {:.1} GB, and {:.1} GB of memory are free",
        *needed as f64 / 1e9, *free as f64 / 1e9
    )]
    Memory {
        /// Voxels of a crop.
        input: Vec<usize>,
        /// Crops of a batch.
        batch: usize,
        /// What it takes, in bytes.
        needed: u64,
        /// What there is, in bytes.
        free: u64,
        /// A smaller shape that would do.
        smaller: Option<Vec<usize>>,
    },
    /// The loss was not finite.
    #[error("run {run}: {source} at iteration {iteration}, on a batch from {place}")]
    NotFinite {
        /// The run.
        run: String,
        /// The step, from 0.
        iteration: u64,
        /// Datasets and Rois of the batch's crops.
        place: String,
        /// The array group that has the batch, if it could be written.
        snapshot: Option<Box<Location>>,
        /// What the engine says.
        source: Box<dacapo_nn::Error>,
    },
    /// Blocks of a prediction failed.
    #[error("{failed} of {total} blocks failed, the first because {first}")]
    Blocks {
        /// Blocks that failed.
        failed: usize,
        /// Blocks in all.
        total: usize,
        /// Why the first of them failed.
        first: Box<Error>,
    },
    /// Stopped where asked.
    #[error("stopped before it was done")]
    Interrupted,
    /// A thread that prepares batches ended early.
    #[error("a thread that prepares batches ended early")]
    WorkerLost,
    /// From arrays.
    #[error(transparent)]
    Array(#[from] dacapo_array::Error),
    /// From the stores.
    #[error(transparent)]
    Store(#[from] dacapo_store::Error),
    /// From the network.
    #[error(transparent)]
    Network(#[from] dacapo_nn::Error),
    /// From a kernel.
    #[error(transparent)]
    Kernel(#[from] dacapo_kernels::Error),
    /// From the task.
    #[error(transparent)]
    Task(#[from] dacapo_tasks::Error),
    /// From the block grid.
    #[error(transparent)]
    Blockwise(#[from] dacapo_blockwise::Error),
}

/// The first few ids.
fn ids_there(there: &[u64]) -> String {
    const MOST: usize = 8;
    let named: Vec<String> = there.iter().take(MOST).map(u64::to_string).collect();
    let more = if there.len() > MOST { ", …" } else { "" };
    match named.is_empty() {
        true => "none".to_owned(),
        false => format!("{}{more}", named.join(", ")),
    }
}

impl Error {
    /// One error of all of these; there is at least one.
    pub(crate) fn all(errors: Vec<Self>) -> Self {
        let mut flat = Vec::new();
        for error in errors {
            match error {
                Self::Several { errors } => flat.extend(errors),
                one => flat.push(one),
            }
        }
        match flat.len() {
            1 => flat.swap_remove(0),
            _ => Self::Several { errors: flat },
        }
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// What a person can do about it, where something can be said.
    pub fn hint(&self) -> Option<String> {
        if is_full_disk(self) {
            return Some(FULL_DISK.to_owned());
        }
        let text = match self {
            Self::Config { .. } => "`dacapo config schema` lists every key with its meaning",
            Self::SyntheticDiffers { .. } => "remove it, or name another container in data.synthetic",
            Self::Datasplit { .. } => "`dacapo datasplit make --help` says what stands in a table",
            Self::Dataset { .. } => {
                "paths are looked for beside the config file, then in the working directory; \
                 an array is named as container.zarr/dataset"
            }
            Self::Channels { .. } => {
                "set the network's fmaps_in, or choose channels of raw: {source: …, channels: […]}"
            }
            Self::LabelChannels { .. } => {
                "choose one with channels: […], or make classes of them with layers: […]"
            }
            Self::EmptyMask { .. } => "leave the mask out where everything is annotated",
            Self::NoOverlap { .. } | Self::RoiApart { .. } => "offsets and Rois are in world units, z first",
            Self::VoxelSizes { .. } => {
                "resample the labels: {source: …, resample: {voxel_size: …}}, or set the network's upsample_factors"
            }
            Self::TooLarge { way_out, .. } => way_out,
            Self::SmallBlock { .. } => {
                "smaller blocks take more memory, not less: --block 128 or 256 is a good size"
            }
            Self::Labels { .. } => {
                "name an array of labels; components of a prediction are those above a --threshold of its first channel"
            }
            Self::LabelValue { .. } => "labels are whole numbers from 0, which stands for nothing",
            Self::Task(dacapo_tasks::Error::Range { .. }) => {
                "thresholds and biases are measured in what values stand for: bytes for 0 to 1, unless the array has a \
                 value_range"
            }
            Self::Incomparable { .. } => {
                "both have to have the same voxel size and overlap; `dacapo arrays info ARRAY` says where one lies, and \
                 --voxel-size and --offset place one whose file does not say it"
            }
            Self::LabelType { .. } => {
                "convert them to an unsigned integer type, where each object has its number"
            }
            Self::IntensityRange { .. } => "say it in the config: data.intensity: {min: …, max: …}",
            Self::AbsentIds { .. } => {
                "`dacapo datasplit show CONFIG` says which labels there are; leave out what is in none of the datasets"
            }
            Self::NothingLabelled { .. } => "look at the labels there, or choose another roi for the dataset",
            Self::TooFewLabelled { .. } => "lower trainer.min_labelled, or narrow the dataset's roi",
            Self::AugmentContext { .. } => {
                "narrow its rotation, scale or jitter_sigma, or let raw go on mirrored with `outside: mirror`"
            }
            Self::ConfigChanged { .. } => {
                "go on with the config of the run, or train the new one under a name of its own with --as-new NAME"
            }
            Self::Memory { smaller, .. } => {
                let shape = smaller
                    .as_ref()
                    .map(|shape| format!("an input_shape of {shape:?}, "));
                return Some(format!(
                    "{}a smaller trainer.batch_size and trainer.recompute: true take less; `dacapo config shapes` \
                     lists what each takes",
                    shape.unwrap_or_default()
                ));
            }
            Self::NotFinite {
                snapshot: Some(place),
                ..
            } => {
                return Some(format!(
                    "the batch is kept in {place}; look at its raw and labels, or lower the learning rate"
                ));
            }
            Self::NotFinite { .. } => "look at the raw and labels there, or lower the learning rate",
            Self::Store(dacapo_store::Error::Held { .. }) => "wait until it is done, or end that process",
            Self::Store(error) => return error.hint().map(str::to_owned),
            Self::NoCheckpoint { .. } => "`dacapo runs` shows what each run has",
            Self::Blocks { first, .. } => return first.hint(),
            Self::Several { errors } => return errors.iter().find_map(Self::hint),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

const FULL_DISK: &str =
    "free some space; what was stored before is whole, and the same command goes on from it";

/// What a person can do about an error of this crate or of those below it, where something can be said.
pub fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.hint();
    }
    if is_full_disk(error) {
        return Some(FULL_DISK.to_owned());
    }
    let store = error.downcast_ref::<dacapo_store::Error>()?;
    store.hint().map(str::to_owned)
}

/// Whether an error says that the user stopped what was being done.
pub fn is_interruption(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Interrupted))
        || matches!(error.downcast_ref(), Some(dacapo_array::Error::Interrupted))
        || matches!(error.downcast_ref(), Some(dacapo_store::Error::Stopped))
}

/// Whether a full disk or quota is at the bottom of it.
fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)) {
            return true;
        }
        cause = match error.downcast_ref() {
            Some(Error::Blocks { first, .. }) => Some(&**first),
            _ => error.source(),
        };
    }
    false
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    match items {
        [one] => one.to_string(),
        many => {
            let lines: Vec<String> = many.iter().map(|item| format!("\n  - {item}")).collect();
            format!("{} things{}", many.len(), lines.concat())
        }
    }
}

fn inside(part: &str) -> String {
    if part.is_empty() {
        String::new()
    } else {
        format!(" ({part})")
    }
}

fn within(roi: &Option<Box<Roi>>) -> String {
    roi.as_ref()
        .map_or(String::new(), |roi| format!(" within the roi {roi}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_wherever_it_stands() {
        let full = || Error::io("write", "a", io::ErrorKind::StorageFull.into());
        let nested = Error::Blocks {
            failed: 1,
            total: 2,
            first: Box::new(full()),
        };
        assert!(
            [full(), nested]
                .iter()
                .all(|error| error.hint().is_some_and(|hint| hint.contains("free some space")))
        );
        assert_eq!(
            Error::io("write", "a", io::ErrorKind::PermissionDenied.into()).hint(),
            None
        );
    }
}
