//! Opening the arrays that a config names, and those that it makes of them.

use std::path::Path;
use std::sync::Arc;

use dacapo_array::lazy::{
    Annotated, AnyOf, Binarize, Cast, Channels, Classes, Concat, Constant, Crop, Intensities, Interpolation,
    Layers, Merge, Percentiles, Resample, Sum,
};
use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, Coordinate, DType, Placement, Roi, SnapMode, open_level, open_source,
};

use crate::config::{ArraySource, MadeArray};

type Array = Arc<dyn ArrayRead>;
type Result<T> = std::result::Result<T, Failure>;

/// What went wrong with an array that a config names.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The keys that lead to it: `merge[1].source`, empty for the array itself.
    pub part: String,
    /// What went wrong.
    pub error: dacapo_array::Error,
}

impl Failure {
    fn inside(self, key: &str) -> Self {
        let part = match self.part.as_str() {
            "" => key.to_owned(),
            part => format!("{key}.{part}"),
        };
        Self { part, ..self }
    }
}

impl From<dacapo_array::Error> for Failure {
    fn from(error: dacapo_array::Error) -> Self {
        Self {
            part: String::new(),
            error,
        }
    }
}

/// What an array is for: it decides what is done where the config leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Raw,
    Labels,
    Mask,
}

impl Role {
    /// As it is called in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Labels => "labels",
            Self::Mask => "mask",
        }
    }
}

/// Where arrays with a path come from.
pub(crate) trait Files {
    /// Opens the array at `path`. Where a voxel size is wanted, a pyramid's level that fits it best.
    fn open(
        &self,
        path: &str,
        placement: &Placement,
        wanted: Option<&Coordinate>,
    ) -> dacapo_array::Result<Array>;
}

impl Files for Access {
    fn open(
        &self,
        path: &str,
        placement: &Placement,
        wanted: Option<&Coordinate>,
    ) -> dacapo_array::Result<Array> {
        // What a file says of itself is what its levels are compared by.
        match (wanted, path.parse::<ArrayAddress>()) {
            (Some(wanted), Ok(address)) if *placement == Placement::default() => {
                open_level(&address, wanted, self)
            }
            _ => open_source(Path::new(path), placement, self),
        }
    }
}

/// Opens an array that a config names.
///
/// # Errors
/// [`Failure`] with the keys of what cannot be opened or made.
pub(crate) fn open(source: &ArraySource, role: Role, files: &dyn Files) -> Result<Array> {
    match source {
        ArraySource::Path(path) => Ok(files.open(path, &Placement::default(), None)?),
        ArraySource::Made(made) => {
            let array = origin(made, role, files)?;
            steps(array, made, role)
        }
    }
}

/// What an array is made of.
fn origin(made: &MadeArray, role: Role, files: &dyn Files) -> Result<Array> {
    let inner =
        |key: &str, source: &ArraySource| open(source, role, files).map_err(|failure| failure.inside(key));
    if let Some(source) = &made.source {
        let wanted = made.resample.as_ref().map(|resample| &resample.voxel_size);
        return match source {
            ArraySource::Path(path) => files.open(path, &made.placement(), wanted).map_err(Failure::from),
            ArraySource::Made(_) => inner("source", source),
        }
        .map_err(|failure| {
            if failure.part.is_empty() {
                failure.inside("source")
            } else {
                failure
            }
        });
    }
    if let Some(like) = &made.ones {
        let like = inner("ones", like)?;
        return Ok(Arc::new(Constant::ones(like.spec())?));
    }
    if let Some(value) = made.constant {
        let Some(like) = &made.like else {
            return Err(missing(
                "a constant by itself has no place: name an array that it is `like`",
            ));
        };
        return constant(&inner("like", like)?, value).map_err(|failure| failure.inside("constant"));
    }
    type Make = fn(Vec<Array>) -> dacapo_array::Result<Array>;
    let compositions: [(&str, &Option<Vec<ArraySource>>, Make); 5] = [
        ("concat", &made.concat, |parts| Ok(Arc::new(Concat::new(parts)?))),
        ("merge", &made.merge, |parts| Ok(Arc::new(Merge::new(parts)?))),
        ("any", &made.any, |parts| Ok(Arc::new(AnyOf::new(parts)?))),
        ("sum", &made.sum, |parts| Ok(Arc::new(Sum::new(parts)?))),
        ("layers", &made.layers, |parts| Ok(Arc::new(Layers::new(parts)?))),
    ];
    let composition = compositions
        .into_iter()
        .find_map(|(key, list, make)| Some((key, list.as_ref()?, make)));
    let Some((key, list, make)) = composition else {
        return Err(missing("what it is made of is missing"));
    };
    let like: Like = if key == "concat" { one_channel } else { whole };
    let parts = parts(list, like, role, files).map_err(|failure| failure.inside_list(key))?;
    make(parts).map_err(|error| Failure::from(error).inside(key))
}

impl Failure {
    /// As a failure of an entry of a list: its part begins with the entry's number.
    fn inside_list(self, key: &str) -> Self {
        let part = format!("{key}{}", self.part);
        Self { part, ..self }
    }
}

fn missing(reason: &str) -> Failure {
    dacapo_array::Error::Spec {
        reason: reason.to_owned(),
    }
    .into()
}

fn constant(like: &Array, value: f64) -> Result<Array> {
    Ok(Arc::new(Constant::new(like.spec().clone(), value)?))
}

/// What a constant without a place of its own is like, made of another part.
type Like = fn(&Array) -> Result<Array>;

/// The parts of a composition. Constants without a place of their own lie where the first other part does.
fn parts(list: &[ArraySource], made_like: Like, role: Role, files: &dyn Files) -> Result<Vec<Array>> {
    let bare = |source: &ArraySource| match source {
        ArraySource::Made(made) if made.is_bare() => Some((**made).clone()),
        _ => None,
    };
    let at = |index: usize, failure: Failure| failure.inside(&format!("[{index}]"));
    let mut arrays: Vec<Option<Array>> = Vec::new();
    for (index, source) in list.iter().enumerate() {
        arrays.push(match bare(source) {
            Some(_) => None,
            None => Some(open(source, role, files).map_err(|failure| at(index, failure))?),
        });
    }
    let Some(like) = arrays.iter().flatten().next().cloned() else {
        return Err(missing(
            "at least one array that is no constant says where they lie",
        ));
    };
    let each = arrays.into_iter().zip(list).enumerate();
    each.map(|(index, (array, source))| match (array, bare(source)) {
        (None, Some(made)) => constant(&made_like(&like)?, made.constant.unwrap_or_default())
            .and_then(|array| steps(array, &made, role))
            .map_err(|failure| at(index, failure)),
        (array, _) => Ok(array.unwrap_or_else(|| like.clone())),
    })
    .collect()
}

/// The array itself.
fn whole(array: &Array) -> Result<Array> {
    Ok(array.clone())
}

/// The array itself, or its first channel: a channel that is missing is one.
fn one_channel(array: &Array) -> Result<Array> {
    match array.spec().channels.is_empty() {
        true => Ok(array.clone()),
        false => Ok(Arc::new(Channels::new(array.clone(), vec![0])?)),
    }
}

/// What is done with an array, in the order in which the config's keys are documented.
fn steps(mut array: Array, made: &MadeArray, role: Role) -> Result<Array> {
    let step =
        |key: &str, made: dacapo_array::Result<Array>| made.map_err(|error| Failure::from(error).inside(key));
    if let Some(channels) = &made.channels {
        array = step("channels", Channels::new(array, channels.clone()).map(shared))?;
    }
    if let Some(roi) = &made.crop {
        array = step("crop", crop(array, roi))?;
    }
    if let Some(range) = made.intensities {
        array = step(
            "intensities",
            Intensities::new(array, range.min, range.max, range.clip).map(shared),
        )?;
    }
    if let Some(range) = made.percentiles {
        array = step(
            "percentiles",
            Percentiles::new(array, range.low, range.high, range.clip).map(shared),
        )?;
    }
    if let Some(groups) = &made.binarize {
        array = step("binarize", Binarize::new(array, groups).map(shared))?;
    }
    if let Some(groups) = &made.classes {
        array = step("classes", Classes::new(array, groups).map(shared))?;
    }
    if let Some(annotated) = &made.annotated {
        array = step(
            "annotated",
            Annotated::new(array, &annotated.groups, &annotated.missing).map(shared),
        )?;
    }
    if let Some(resample) = &made.resample {
        let usual = || match (role, array.spec().dtype) {
            (Role::Labels | Role::Mask, _) | (_, DType::Bool | DType::U64 | DType::I64) => {
                Interpolation::Nearest
            }
            (Role::Raw, _) => Interpolation::Linear,
        };
        let interpolation = match resample.order {
            Some(0) => Interpolation::Nearest,
            Some(_) => Interpolation::Linear,
            None => usual(),
        };
        if array.spec().voxel_size != resample.voxel_size {
            array = step(
                "resample",
                Resample::new(array, &resample.voxel_size, interpolation).map(shared),
            )?;
        }
    }
    if let Some(dtype) = made.cast {
        array = Arc::new(Cast::new(array, dtype.into()));
    }
    Ok(array)
}

fn shared(array: impl ArrayRead + 'static) -> Array {
    Arc::new(array)
}

/// The whole voxels of an array in a region.
fn crop(array: Array, roi: &Roi) -> dacapo_array::Result<Array> {
    let spec = array.spec();
    if roi.dims() != spec.spatial_dims() {
        return Err(dacapo_array::Error::Region {
            roi: roi.clone(),
            reason: format!("has {} axes, the array {}", roi.dims(), spec.spatial_dims()),
        });
    }
    let origin = spec.roi.begin();
    let back = Coordinate::splat(origin.dims(), 0) - origin;
    let whole = roi
        .intersect(&spec.roi)
        .shift(&back)
        .snap_to_grid(&spec.voxel_size, SnapMode::Shrink)
        .shift(origin);
    if whole.is_empty() {
        return Err(dacapo_array::Error::Region {
            roi: roi.clone(),
            reason: format!("has no whole voxel of the array, {}", spec.roi),
        });
    }
    Crop::new(array, &whole).map(shared)
}
