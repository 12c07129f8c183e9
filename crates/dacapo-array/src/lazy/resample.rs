//! An array with voxels of another size.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, Axis};

use super::values::Number;
use super::window::{padded, refuse};
use crate::dtype::with_data;
use crate::memory::filled;
use crate::{ArrayRead, ArraySpec, Coordinate, DType, Decimal, Element, NdData, Result, Roi};

/// How values between voxels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Order 0: the value of the voxel in which the middle of the new one lies; on a border, that of the later.
    /// For labels.
    Nearest,
    /// Order 1: between the middles of voxels linearly where the new ones are smaller, the mean over what the new
    /// one covers where they are larger: along each axis by itself. Integers are rounded. For images.
    Linear,
}

/// A lazy resampling, in world units. It begins where the array does:
///
/// ```text
/// array      |-----|-----|-----|-----|-----|
/// resampled  |---------|---------|            ½ voxel of it is left: not whole, not there
/// ```
pub struct Resample {
    array: Arc<dyn ArrayRead>,
    interpolation: Interpolation,
    spec: ArraySpec,
}

impl Resample {
    /// The array in voxels of `voxel_size`, as many as are whole in it, its type as it is.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] for a voxel size that is not positive, of another number of axes or larger than the array;
    /// for linear interpolation of booleans and 64-bit integers, which are no intensities.
    pub fn new(
        array: Arc<dyn ArrayRead>,
        voxel_size: &Coordinate,
        interpolation: Interpolation,
    ) -> Result<Self> {
        let old = array.spec();
        if voxel_size.dims() != old.spatial_dims() {
            return refuse(format!(
                "voxels of {voxel_size} for an array with {} spatial axes",
                old.spatial_dims()
            ));
        }
        if voxel_size.iter().any(|size| !size.is_positive()) {
            return refuse(format!("the voxel size {voxel_size} is not positive"));
        }
        if interpolation == Interpolation::Linear
            && matches!(old.dtype, DType::Bool | DType::U64 | DType::I64)
        {
            return refuse(format!(
                "values between those of {}, which are ids as a rule; resample with order 0, or cast it",
                old.dtype
            ));
        }
        let shape = old.roi.shape.floor_div(voxel_size);
        if shape.contains(&0) {
            return refuse(format!(
                "its region {} has no whole voxel of {voxel_size}",
                old.roi
            ));
        }
        let shape = Coordinate::from_voxels(&shape, voxel_size);
        let spec = ArraySpec {
            roi: Roi::new(old.roi.offset.clone(), shape),
            voxel_size: voxel_size.clone(),
            ..old.clone()
        };
        spec.check()?;
        Ok(Self {
            array,
            interpolation,
            spec,
        })
    }

    /// What each new voxel from `begin` is made of, along an axis.
    fn taps(&self, axis: usize, begin: i64, count: usize) -> Vec<Tap> {
        let old = self.array.spec();
        let length = old.shape()[old.channels.len() + axis];
        let (from, to) = (old.voxel_size[axis], self.spec.voxel_size[axis]);
        let each = begin..begin + count as i64;
        each.map(|index| match self.interpolation {
            Interpolation::Nearest => nearest(index, from, to, length),
            Interpolation::Linear if from < to => mean(index, from, to, length),
            Interpolation::Linear => between(index, from, to, length),
        })
        .collect()
    }
}

/// The voxels along an axis that a new voxel is made of, from `first`, and how much each counts.
struct Tap {
    first: usize,
    weights: Vec<f64>,
}

impl Tap {
    fn one(index: i64, length: usize) -> Self {
        Self {
            first: index.clamp(0, length as i64 - 1) as usize,
            weights: vec![1.0],
        }
    }
}

/// The voxel in which the middle of voxel `index` lies.
fn nearest(index: i64, from: Decimal, to: Decimal, length: usize) -> Tap {
    let middle = to * Decimal::from(2 * index + 1);
    Tap::one(middle.floor_div(from + from), length)
}

/// The two voxels between whose middles the middle of voxel `index` lies; one past the first or last.
fn between(index: i64, from: Decimal, to: Decimal, length: usize) -> Tap {
    // Twice the way from the first voxel's middle.
    let way = to * Decimal::from(2 * index + 1) - from;
    let twice = from + from;
    let first = way.floor_div(twice);
    let rest = way - twice * Decimal::from(first);
    if first < 0 || first + 1 >= length as i64 || rest == Decimal::ZERO {
        return Tap::one(first, length);
    }
    let part = rest.to_f64() / twice.to_f64();
    Tap {
        first: first as usize,
        weights: vec![1.0 - part, part],
    }
}

/// The voxels that voxel `index` covers, by how much of it each is.
fn mean(index: i64, from: Decimal, to: Decimal, length: usize) -> Tap {
    let (begin, end) = (to * Decimal::from(index), to * Decimal::from(index + 1));
    let first = begin.floor_div(from).clamp(0, length as i64 - 1);
    let last = end.ceil_div(from).clamp(first + 1, length as i64);
    let part = |voxel: i64| {
        let (from_here, to_here) = (from * Decimal::from(voxel), from * Decimal::from(voxel + 1));
        (to_here.min(end) - from_here.max(begin)).to_f64() / to.to_f64()
    };
    Tap {
        first: first as usize,
        weights: (first..last).map(part).collect(),
    }
}

impl ArrayRead for Resample {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let (begin, shape) = self.spec.window(shared)?;
            let taps: Vec<Vec<Tap>> = (0..shape.len())
                .map(|axis| self.taps(axis, begin[axis], shape[axis]))
                .collect();
            let bounds: Vec<Range<usize>> = taps.iter().map(|taps| bounds(taps)).collect();
            let old = self.array.spec();
            let first: Vec<i64> = bounds.iter().map(|bound| bound.start as i64).collect();
            let lengths: Vec<usize> = bounds.iter().map(Range::len).collect();
            let source = Roi::from_voxels(&first, &lengths, &old.voxel_size).shift(old.roi.begin());
            let leading = old.channels.len();
            with_data!(self.array.read(&source)?, values => {
                Ok(Element::wrap(match self.interpolation {
                    Interpolation::Nearest => pick(values, leading, &taps, &bounds),
                    Interpolation::Linear => weigh(values, leading, &taps, &bounds)?,
                }))
            })
        })
    }
}

/// The voxels that all taps of an axis need.
fn bounds(taps: &[Tap]) -> Range<usize> {
    let first = taps.iter().map(|tap| tap.first).min().unwrap_or(0);
    let end = taps.iter().map(|tap| tap.first + tap.weights.len()).max();
    first..end.unwrap_or(first)
}

/// For each new voxel the one voxel that it is.
fn pick<T: Number>(
    values: ArrayD<T>,
    leading: usize,
    taps: &[Vec<Tap>],
    bounds: &[Range<usize>],
) -> ArrayD<T> {
    let mut values = values;
    for (axis, (taps, bound)) in taps.iter().zip(bounds).enumerate() {
        let chosen: Vec<usize> = taps.iter().map(|tap| tap.first - bound.start).collect();
        let is_same = chosen.len() == bound.len() && chosen.iter().enumerate().all(|(i, &j)| i == j);
        if !is_same {
            values = values.select(Axis(leading + axis), &chosen);
        }
    }
    values
}

/// The weighted means, axis by axis.
fn weigh<T: Number>(
    values: ArrayD<T>,
    leading: usize,
    taps: &[Vec<Tap>],
    bounds: &[Range<usize>],
) -> Result<ArrayD<T>> {
    let mut sums = values.mapv(Number::to_f64);
    for (axis, (taps, bound)) in taps.iter().zip(bounds).enumerate() {
        let axis = Axis(leading + axis);
        let is_same = taps.len() == bound.len() && taps.iter().all(|tap| tap.weights == [1.0]);
        if is_same {
            continue;
        }
        let mut shape = sums.shape().to_vec();
        shape[axis.0] = taps.len();
        let mut next = filled(&shape, 0.0)?;
        for (tap, mut to) in taps.iter().zip(next.axis_iter_mut(axis)) {
            for (offset, &weight) in tap.weights.iter().enumerate() {
                to.scaled_add(weight, &sums.index_axis(axis, tap.first - bound.start + offset));
            }
        }
        sums = next;
    }
    Ok(sums.mapv(Number::nearest))
}
