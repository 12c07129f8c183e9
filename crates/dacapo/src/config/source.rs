//! How a config names an array: by its path, or by what is done with others. Opening them happens elsewhere.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_array::{Coordinate, DType, Placement, Roi};

use super::data::RoiSchema;
use super::schema::Problem;

/// An array: its path, or how it is made of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ArraySource {
    /// `container.zarr/dataset`, `container.n5/dataset`, `file.h5/dataset`, `.tif`, `.npy`, or a folder of `.png` or
    /// `.tif` slices; Zarr also as `s3://bucket/container.zarr/dataset`. A relative path is looked for beside the
    /// config file, then in the working directory.
    Path(String),
    /// What is read, and what is done with it, as keys.
    Made(Box<MadeArray>),
}

/// An array that is made of others. One of the keys `source`, `concat`, `merge`, `any`, `sum`, `layers`, `constant` and
/// `ones` says what of. What is done with it is done in the order in which the keys stand here; for another order,
/// `source` can be such an object itself. Nothing is made before it is read, and then only the part that is read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MadeArray {
    /// The array that the other keys are about. Of a path to an OME-Zarr pyramid, `resample` chooses the level: the
    /// nearest one that is not coarser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ArraySource>,
    /// The channels of all of these, where all of them are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concat: Option<Vec<ArraySource>>,
    /// The objects of all of these, their ids kept apart; where they overlap, of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Vec<ArraySource>>,
    /// 1 where any of these is not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<ArraySource>>,
    /// The sum of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<Vec<ArraySource>>,
    /// The number (from 1) of the first of these that is not 0: one class from each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<ArraySource>>,
    /// This value where the array of `like` has voxels. In `concat`, `merge`, `any`, `sum` and `layers` it can stand
    /// without `like`: for a channel that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<f64>,
    /// Where a `constant` is, and of which type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<ArraySource>,
    /// 1 where this array has voxels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ones: Option<ArraySource>,
    /// Size of a voxel of the `source`, z first, in place of what its file says. One number is that of all axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<f64>>")]
    pub voxel_size: Option<Coordinate>,
    /// Where the first voxel of the `source` begins, z first, in place of what its file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<f64>>")]
    pub offset: Option<Coordinate>,
    /// Units of the spatial axes of the `source` (nm), in place of what its file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<String>>,
    /// Names of all axes of the `source`, in place of what its file says; those of channels end in ^.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axes: Option<Vec<String>>,
    /// Only these channels, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<usize>>,
    /// Only the whole voxels in this region, in world units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RoiSchema>")]
    pub crop: Option<Roi>,
    /// Values of a range on a scale from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensities: Option<IntensitiesConfig>,
    /// Values between two percentiles of the whole array on a scale from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<PercentilesConfig>,
    /// For each group of ids a channel that is 1 where it has one of them; an empty group is everything but 0. A
    /// single group has no channel axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binarize: Option<Vec<Vec<u64>>>,
    /// The number of an id's group, from 1; 0 for ids of none. An empty group is all ids that no other names, but 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<Vec<u64>>>,
    /// 1 where annotations, of which 0 is what nobody looked at, say whether a voxel is of a group: for masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<AnnotatedConfig>,
    /// Voxels of another size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resample: Option<ResampleConfig>,
    /// Values of another type; one that does not have them all is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cast: Option<ValueType>,
}

/// Values on a scale from 0 (`min`) to 1 (`max`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntensitiesConfig {
    /// Becomes 0.
    pub min: f64,
    /// Becomes 1.
    pub max: f64,
    /// What is below becomes 0 and what is above becomes 1.
    #[serde(default = "yes")]
    pub clip: bool,
}

/// Values on a scale from 0 (percentile `low`) to 1 (percentile `high`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PercentilesConfig {
    /// Becomes 0.
    #[serde(default = "lowest")]
    pub low: f64,
    /// Becomes 1.
    #[serde(default = "highest")]
    pub high: f64,
    /// What is below becomes 0 and what is above becomes 1.
    #[serde(default = "yes")]
    pub clip: bool,
}

/// Where annotations say something about groups of ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnotatedConfig {
    /// A channel for each of these groups of ids; a single group has no channel axis.
    #[serde(default = "everything")]
    pub groups: Vec<Vec<u64>>,
    /// Ids of what is there but was not annotated: of a group with one of them nothing is known.
    #[serde(default)]
    pub missing: Vec<u64>,
}

/// Voxels of another size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResampleConfig {
    /// Their size, z first, in world units.
    #[schemars(with = "Vec<f64>")]
    pub voxel_size: Coordinate,
    /// 0: the nearest voxel's value. 1: linearly between voxels, or the mean of several. Default: 1 for raw, 0 for
    /// labels and masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u8>,
}

/// The type of an array's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ValueType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
}

impl From<ValueType> for DType {
    fn from(value: ValueType) -> Self {
        match value {
            ValueType::Bool => Self::Bool,
            ValueType::Uint8 => Self::U8,
            ValueType::Uint16 => Self::U16,
            ValueType::Uint32 => Self::U32,
            ValueType::Uint64 => Self::U64,
            ValueType::Int8 => Self::I8,
            ValueType::Int16 => Self::I16,
            ValueType::Int32 => Self::I32,
            ValueType::Int64 => Self::I64,
            ValueType::Float32 => Self::F32,
            ValueType::Float64 => Self::F64,
        }
    }
}

fn yes() -> bool {
    true
}

fn lowest() -> f64 {
    1.0
}

fn highest() -> f64 {
    99.0
}

fn everything() -> Vec<Vec<u64>> {
    vec![Vec::new()]
}

impl From<String> for ArraySource {
    fn from(path: String) -> Self {
        Self::Path(path)
    }
}

impl From<&str> for ArraySource {
    fn from(path: &str) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<MadeArray> for ArraySource {
    fn from(made: MadeArray) -> Self {
        Self::Made(Box::new(made))
    }
}

impl fmt::Display for ArraySource {
    /// The path, or the keys as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Made(made) => f.write_str(&serde_json::to_string(made).map_err(|_| fmt::Error)?),
        }
    }
}

impl ArraySource {
    /// The path, where that is all.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) => Some(path),
            Self::Made(_) => None,
        }
    }

    /// Every path in it.
    pub fn paths_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::Path(path) => vec![path],
            Self::Made(made) => made.sources_mut().into_iter().flat_map(Self::paths_mut).collect(),
        }
    }

    /// What is done with the values of what it reads, done with those of another array: for data that a network
    /// was not trained on. Where it lies, and which part of it is used, stays behind; so do the parts of what is put
    /// together of several.
    pub fn values_of(&self, other: &ArraySource) -> ArraySource {
        let Self::Made(made) = self else {
            return other.clone();
        };
        let inner = made
            .source
            .as_ref()
            .map_or_else(|| other.clone(), |source| source.values_of(other));
        let steps = MadeArray {
            source: Some(inner.clone()),
            // Channels of what was put together are chosen from what is given now.
            channels: made.channels.clone(),
            intensities: made.intensities,
            percentiles: made.percentiles,
            binarize: made.binarize.clone(),
            classes: made.classes.clone(),
            annotated: made.annotated.clone(),
            resample: made.resample.clone(),
            cast: made.cast,
            ..MadeArray::default()
        };
        let nothing = MadeArray {
            source: Some(inner.clone()),
            ..MadeArray::default()
        };
        if steps == nothing { inner } else { steps.into() }
    }

    /// What makes no sense in it, as far as can be said without its data; `key` is its place in the config.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let Self::Made(made) = self else {
            return Vec::new();
        };
        let mut found = made.problems(key);
        for (part, source) in made.sources() {
            found.extend(source.problems(&format!("{key}.{part}")));
        }
        found
    }
}

impl MadeArray {
    /// The keys that say what it is made of, and whether each is there.
    fn origins(&self) -> [(&'static str, bool); 8] {
        [
            ("source", self.source.is_some()),
            ("concat", self.concat.is_some()),
            ("merge", self.merge.is_some()),
            ("any", self.any.is_some()),
            ("sum", self.sum.is_some()),
            ("layers", self.layers.is_some()),
            ("constant", self.constant.is_some()),
            ("ones", self.ones.is_some()),
        ]
    }

    /// Every source in it, with its key.
    pub fn sources(&self) -> Vec<(String, &ArraySource)> {
        let single = [
            ("source", &self.source),
            ("like", &self.like),
            ("ones", &self.ones),
        ];
        let single = single
            .into_iter()
            .filter_map(|(key, source)| Some((key.to_owned(), source.as_ref()?)));
        let lists = [
            ("concat", &self.concat),
            ("merge", &self.merge),
            ("any", &self.any),
            ("sum", &self.sum),
            ("layers", &self.layers),
        ];
        let lists = lists.into_iter().flat_map(|(key, list)| {
            let each = list.iter().flatten().enumerate();
            each.map(move |(index, source)| (format!("{key}[{index}]"), source))
        });
        single.chain(lists).collect()
    }

    fn sources_mut(&mut self) -> Vec<&mut ArraySource> {
        let single = [&mut self.source, &mut self.like, &mut self.ones];
        let lists = [
            &mut self.concat,
            &mut self.merge,
            &mut self.any,
            &mut self.sum,
            &mut self.layers,
        ];
        let lists = lists.into_iter().flatten().flatten();
        single.into_iter().flatten().chain(lists).collect()
    }

    /// Where it lies in place of what its file says.
    pub fn placement(&self) -> Placement {
        Placement {
            voxel_size: self.voxel_size.clone(),
            offset: self.offset.clone(),
            units: self.units.clone(),
            axis_names: self.axes.clone(),
        }
    }

    fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut need = |fine: bool, name: &str, message: &str| {
            if !fine {
                let key = if name.is_empty() {
                    key.to_owned()
                } else {
                    format!("{key}.{name}")
                };
                found.push(Problem::new(key, message));
            }
        };
        let there: Vec<&str> = self
            .origins()
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| *name)
            .collect();
        let names = "source, concat, merge, any, sum, layers, constant, ones";
        need(
            !there.is_empty(),
            "",
            &format!("what it is made of is missing: one of {names}"),
        );
        need(
            there.len() < 2,
            "",
            &format!("{} at once: it is made of one of {names}", there.join(" and ")),
        );
        need(
            self.like.is_none() || self.constant.is_some(),
            "like",
            "only a constant is like another array",
        );
        for (name, list) in [
            ("concat", &self.concat),
            ("merge", &self.merge),
            ("any", &self.any),
            ("sum", &self.sum),
            ("layers", &self.layers),
        ] {
            need(
                list.as_ref().is_none_or(|list| !list.is_empty()),
                name,
                "at least one array",
            );
            let is_bare = |source: &ArraySource| matches!(source, ArraySource::Made(made) if made.is_bare());
            need(
                list.as_ref()
                    .is_none_or(|list| list.is_empty() || !list.iter().all(is_bare)),
                name,
                "at least one array that is no constant: it says where they lie",
            );
        }
        let is_path = matches!(self.source, Some(ArraySource::Path(_)));
        for (name, placed) in [
            ("voxel_size", self.voxel_size.is_some()),
            ("offset", self.offset.is_some()),
            ("units", self.units.is_some()),
            ("axes", self.axes.is_some()),
        ] {
            need(!placed || is_path, name, "it is said of a source that is a path");
        }
        let positive = |size: &Coordinate| size.dims() > 0 && size.iter().all(|size| size.is_positive());
        need(
            self.voxel_size.as_ref().is_none_or(positive),
            "voxel_size",
            "above 0",
        );
        let values = [
            self.intensities.is_some(),
            self.percentiles.is_some(),
            self.binarize.is_some(),
            self.classes.is_some(),
            self.annotated.is_some(),
        ];
        need(
            values.iter().filter(|&&there| there).count() < 2,
            "",
            "one of intensities, percentiles, binarize, classes and annotated; for several, make one the source of another",
        );
        need(
            self.intensities.is_none_or(|range| range.min < range.max),
            "intensities",
            "min below max",
        );
        need(
            self.percentiles
                .is_none_or(|p| 0.0 <= p.low && p.low < p.high && p.high <= 100.0),
            "percentiles",
            "from 0 to 100, low below high",
        );
        let groups = |groups: &Vec<Vec<u64>>| !groups.is_empty() && groups.len() <= 255;
        need(
            self.binarize.as_ref().is_none_or(groups),
            "binarize",
            "from 1 to 255 groups of ids",
        );
        need(
            self.classes.as_ref().is_none_or(groups),
            "classes",
            "from 1 to 255 groups of ids",
        );
        need(
            self.annotated
                .as_ref()
                .is_none_or(|annotated| groups(&annotated.groups)),
            "annotated.groups",
            "from 1 to 255 groups of ids",
        );
        need(
            self.channels.as_ref().is_none_or(|channels| !channels.is_empty()),
            "channels",
            "at least one",
        );
        need(
            self.crop.as_ref().is_none_or(|roi| !roi.is_empty()),
            "crop",
            "nothing is in it: each length above 0",
        );
        let resample = self.resample.as_ref();
        need(
            resample.is_none_or(|resample| positive(&resample.voxel_size)),
            "resample.voxel_size",
            "above 0",
        );
        need(
            resample
                .and_then(|resample| resample.order)
                .is_none_or(|order| order < 2),
            "resample.order",
            "0 or 1",
        );
        found
    }

    /// Whether it is a constant that does not say where it lies.
    pub fn is_bare(&self) -> bool {
        self.constant.is_some() && self.like.is_none()
    }
}
