//! Pyramids: smaller and smaller copies of an array, for viewers to open what the screen can show. They are
//! OME-NGFF multiscales, which napari, Neuroglancer and ome-zarr-py read.
//!
//! By default the array stays where it is, and its levels stand beside it in the same group: `raw`, `raw.s1`,
//! `raw.s2`; the group's entry for `raw` names them all. Nothing is copied, and whoever knows the array by its
//! name finds it as before. Viewers that look at the first image of a group only will show that one. For them a
//! pyramid can have a group of its own, which holds a copy of the array: `pyramid/s0`, `pyramid/s1`, ….
//!
//! Where a level lies is said twice, in the two conventions that there are. `offset` is the corner of the first
//! voxel and the same in all levels. The translations of multiscales are of the first voxel's middle, as far as
//! levels are compared: each is half the difference of the voxel sizes behind that of the array itself.

mod choose;
mod multiscales;
mod reduce;

use std::collections::HashSet;

use crate::formats::{OnPart, PART, copy_array, go_through, parts};
use crate::storage::Access;
use crate::zarr::default_chunk;
use crate::{
    ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, Decimal, DraftArray,
    Error, Result, Roi, ZarrArray, leave_group,
};

pub use choose::open_level;
pub use reduce::Reduce;

/// Levels end where no side is longer, unless their number is given.
const SHORT: usize = 64;
/// Chunks of levels are those of the array up to so many bytes.
const MOST_CHUNK: usize = 16 << 20;
/// More levels are never made: 2⁶³ voxels are one by then.
const MOST_LEVELS: usize = 63;

/// How a pyramid is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PyramidOptions {
    /// What voxels become one by; by default [`Reduce::of`] the array's type.
    pub reduce: Option<Reduce>,
    /// Number of levels below the array itself; by default until no side is longer than 64 voxels.
    pub levels: Option<usize>,
    /// A dataset path for a group of the pyramid's own, with a copy of the array in it; by default levels are
    /// made beside the array.
    pub group: Option<String>,
    /// Replace levels that are there.
    pub overwrite: bool,
    /// Attributes of the levels, beside those that place them.
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

/// A level of a pyramid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The array.
    pub address: ArrayAddress,
    /// What it is.
    pub spec: ArraySpec,
}

/// Makes the levels of an array, each from the one before, block by block. Sides are halved and rounded up: a
/// voxel at the far border may stand for fewer. Where voxels are not cubes, the axes of the shortest sides are
/// halved first. Returned are all levels, the array itself (or its copy) first.
///
/// # Errors
/// [`Error::Exists`] if a level is there that is not to be replaced; [`Error::Unsupported`] for the mode of
/// floats; as [`ZarrArray::open`], [`DraftArray::new`] and [`DraftArray::publish`]; [`Error::Interrupted`]. Levels that
/// were finished by then are removed, unless levels were to be replaced.
pub fn make_pyramid(
    address: &ArrayAddress,
    access: &Access,
    options: &PyramidOptions,
    on_part: OnPart<'_>,
) -> Result<Vec<Level>> {
    let mut finished = Vec::new();
    let made = make_levels(address, access, options, on_part, &mut finished);
    if made.is_err() && !options.overwrite {
        for address in &finished {
            // Best effort: what is told is the failure.
            let removed = access.storage(&address.container).and_then(|storage| {
                storage.remove_tree(&address.dataset)?;
                leave_group(&storage, "", address)
            });
            if let Err(error) = removed {
                tracing::warn!(%error, %address, "cannot remove a level of what is no pyramid");
            }
        }
    }
    made
}

/// As [`make_pyramid`]; what it has finished, even if it fails.
fn make_levels(
    address: &ArrayAddress,
    access: &Access,
    options: &PyramidOptions,
    on_part: OnPart<'_>,
    finished: &mut Vec<ArrayAddress>,
) -> Result<Vec<Level>> {
    let array = ZarrArray::open(address, access)?;
    let spec = array.spec().clone();
    let reduce = options.reduce.unwrap_or(Reduce::of(spec.dtype));
    if reduce == Reduce::Mode && spec.dtype.is_float() {
        return Err(Error::Unsupported {
            what: format!("the most frequent of {} values", spec.dtype),
            hint: "take their mean".into(),
        });
    }
    let at = |level: usize| ArrayAddress {
        dataset: match &options.group {
            Some(group) => format!("{group}/s{level}"),
            None => format!("{}.s{level}", address.dataset),
        },
        ..address.clone()
    };
    let mut levels = vec![Level {
        address: if options.group.is_some() {
            at(0)
        } else {
            address.clone()
        },
        spec: spec.clone(),
    }];
    for (level, spec) in plan(&spec, options.levels).into_iter().enumerate() {
        levels.push(Level {
            address: at(level + 1),
            spec,
        });
    }
    let made = usize::from(options.group.is_none());
    for level in &levels[made..] {
        if !options.overwrite && ZarrArray::open(&level.address, access).is_ok() {
            return Err(Error::Exists {
                address: level.address.clone(),
            });
        }
    }

    let chunk = array.chunk_shape().to_vec();
    let chunk = if chunk.iter().product::<usize>() * spec.dtype.size() <= MOST_CHUNK {
        chunk
    } else {
        default_chunk(&spec)
    };
    let create = CreateOptions {
        chunk_shape: Some(chunk.clone()),
        format: array.format(),
        overwrite: options.overwrite,
        attributes: options.attributes.clone(),
        ..CreateOptions::default()
    };
    let spatial_chunk = &chunk[spec.channels.len()..];
    let parts_of = |spec: &ArraySpec| parts(spec, spatial_chunk, PART >> spec.spatial_dims());
    let copied = if made == 0 {
        parts(&spec, spatial_chunk, PART).len()
    } else {
        0
    };
    let total = copied
        + levels[1..]
            .iter()
            .map(|level| parts_of(&level.spec).len())
            .sum::<usize>();
    let mut done = 0;
    let mut source = array;
    if made == 0 {
        source = copy_array(&source, &levels[0].address, access, &create, &mut |n, _| {
            on_part(n, total)
        })?;
        finished.push(levels[0].address.clone());
        done = copied;
    }
    for pair in levels.windows(2) {
        let level = &pair[1];
        let draft = DraftArray::new(&level.address, access, &level.spec, &create)?;
        let parts = parts_of(&level.spec);
        go_through(&parts, &mut |n, _| on_part(done + n, total), |roi| {
            // Not beyond the array: what is outside counts for nothing.
            let below = roi.intersect(&pair[0].spec.roi);
            let factors = factors_between(&pair[0].spec, &level.spec);
            draft.write(roi, &reduce.apply(&source.read(&below)?, &factors)?)
        })?;
        done += parts.len();
        source = draft.publish()?;
        finished.push(level.address.clone());
    }
    if levels.len() > 1 || made == 0 {
        let named = options.group.as_deref().unwrap_or(&address.dataset);
        multiscales::enter(&levels, create.format, reduce, last(named), access)?;
    }
    Ok(levels)
}

/// The last part of a dataset's path.
fn last(dataset: &str) -> &str {
    dataset.rsplit('/').next().unwrap_or(dataset)
}

/// The levels below an array.
fn plan(spec: &ArraySpec, levels: Option<usize>) -> Vec<ArraySpec> {
    let mut plan = Vec::new();
    let mut above = spec.clone();
    while plan.len() < levels.unwrap_or(MOST_LEVELS).min(MOST_LEVELS) {
        let shape = above.shape()[above.channels.len()..].to_vec();
        let factors = factors(&above);
        if factors.iter().all(|&factor| factor == 1)
            || (levels.is_none() && shape.iter().all(|&n| n <= SHORT))
        {
            break;
        }
        let by = Coordinate::new(factors.iter().map(|&factor| factor as i64));
        let voxel_size = above.voxel_size.clone() * &by;
        let shape: Vec<usize> = shape
            .iter()
            .zip(&factors)
            .map(|(n, factor)| n.div_ceil(*factor))
            .collect();
        let roi = Roi::from_voxels(&vec![0; shape.len()], &shape, &voxel_size).shift(above.roi.begin());
        above = ArraySpec {
            roi,
            voxel_size,
            ..above
        };
        plan.push(above.clone());
    }
    plan
}

/// What the next level divides each spatial axis by, 1 or 2: 2 for those of which voxels are not twice as long
/// as the shortest or longer. Axes of one voxel stay.
fn factors(spec: &ArraySpec) -> Vec<usize> {
    let shape = &spec.shape()[spec.channels.len()..];
    let comparable = spec.units.iter().collect::<HashSet<_>>().len() == 1;
    let long = || spec.voxel_size.iter().zip(shape).filter(|(_, n)| **n > 1);
    let shortest = long().map(|(size, _)| *size).min().unwrap_or(Decimal::ONE);
    spec.voxel_size
        .iter()
        .zip(shape)
        .map(|(&size, &n)| {
            let near = !comparable || size < shortest + shortest;
            if n > 1 && near { 2 } else { 1 }
        })
        .collect()
}

/// The factors along all axes from one level to the next.
fn factors_between(above: &ArraySpec, below: &ArraySpec) -> Vec<usize> {
    let twice = |(a, b): (&Decimal, &Decimal)| if a == b { 1 } else { 2 };
    let spatial = above.voxel_size.iter().zip(below.voxel_size.iter()).map(twice);
    above.channels.iter().map(|_| 1).chain(spatial).collect()
}

impl Reduce {
    /// What suits values of a type: the mode for integers of 32 and 64 bits and booleans, which are labels as a
    /// rule, the mean for others.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::Bool | DType::U32 | DType::U64 | DType::I32 | DType::I64 => Self::Mode,
            DType::U8 | DType::U16 | DType::I8 | DType::I16 | DType::F32 | DType::F64 => Self::Mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[usize], voxel_size: &[i64]) -> ArraySpec {
        let voxel_size = Coordinate::new(voxel_size.iter().copied());
        let begin = vec![3; shape.len()];
        ArraySpec::new(
            Roi::from_voxels(&begin, shape, &voxel_size),
            voxel_size,
            DType::U8,
        )
    }

    fn sizes(spec: &ArraySpec, levels: Option<usize>) -> Vec<String> {
        plan(spec, levels)
            .iter()
            .map(|spec| spec.voxel_size.to_string())
            .collect()
    }

    #[test]
    fn short_sides_are_halved_first() {
        let planned = sizes(&spec(&[100, 2000, 2000], &[40, 4, 4]), None);
        assert_eq!(
            planned,
            [
                "(40, 8, 8)",
                "(40, 16, 16)",
                "(40, 32, 32)",
                "(80, 64, 64)",
                "(160, 128, 128)"
            ]
        );
        assert_eq!(sizes(&spec(&[64, 64, 64], &[8, 8, 8]), None), [""; 0]);
        assert_eq!(sizes(&spec(&[65, 64, 64], &[8, 8, 8]), None), ["(16, 16, 16)"]);
        // A plane has no depth to halve, however short it is.
        assert_eq!(
            sizes(&spec(&[1, 200, 100], &[1, 10, 10]), None),
            ["(1, 20, 20)", "(1, 40, 40)"]
        );
        assert_eq!(sizes(&spec(&[3], &[5]), Some(9)), ["(10)", "(20)"]);
    }

    #[test]
    fn levels_begin_where_the_array_does_and_cover_it() {
        let array = spec(&[101, 67, 130], &[4, 4, 4]);
        for level in plan(&array, Some(8)) {
            assert_eq!(level.roi.begin(), array.roi.begin());
            assert!(level.roi.contains(&array.roi));
            level.check().unwrap();
        }
    }
}
