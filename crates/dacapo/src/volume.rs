//! Arrays as volumes of voxels (z, y, x), block by block: an image has depth 1. Positions are voxels from the first
//! one of a region.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::{Array3, Array4};

use dacapo_array::{ArrayRead, ArrayWrite, Coordinate, DType, NdData, Roi};
use dacapo_blockwise::{Block, BlockGrid, BlockObserver, Failed, Outcome, run_blocks};
use dacapo_kernels::ValueRange;

use crate::observer::{Event, Observer};
use crate::{Error, Result};

/// An array with the name that errors call it by.
#[derive(Clone, Copy)]
pub struct NamedArray<'a> {
    /// The name.
    pub name: &'a str,
    /// The array.
    pub array: &'a dyn ArrayRead,
}

/// The region of two arrays that lie on one grid of voxels, in a Roi if there is one.
///
/// # Errors
/// [`Error::Incomparable`] if their voxels differ or lie apart, or if there is no such region.
pub(crate) fn shared(truth: NamedArray, other: NamedArray, within: Option<&Roi>) -> Result<Roi> {
    let (a, b) = (truth.array.spec(), other.array.spec());
    let incomparable = |reason: String| Error::Incomparable {
        truth: truth.name.to_owned(),
        other: other.name.to_owned(),
        reason,
    };
    if a.voxel_size != b.voxel_size {
        let (a, b) = (&a.voxel_size, &b.voxel_size);
        return Err(incomparable(format!("their voxels are of {a} and {b}")));
    }
    if !(b.roi.begin().clone() - a.roi.begin()).is_multiple_of(&a.voxel_size) {
        let (a, b) = (&a.roi, &b.roi);
        return Err(incomparable(format!(
            "{a} and {b} do not lie on one grid of voxels"
        )));
    }
    let both = a.roi.intersect(&b.roi);
    let roi = within.map_or(both.clone(), |roi| roi.intersect(&both));
    if roi.is_empty() {
        let within = within.map_or(String::new(), |roi| format!(" within {roi}"));
        return Err(incomparable(format!(
            "{} and {} share nothing{within}",
            a.roi, b.roi
        )));
    }
    Ok(roi)
}

/// Voxels along z, y and x.
pub(crate) type Ranges = [Range<usize>; 3];

/// A region of an array.
pub(crate) struct Volume<'a> {
    named: NamedArray<'a>,
    begin: Coordinate,
    voxel_size: Coordinate,
    pub shape: [usize; 3],
}

impl<'a> Volume<'a> {
    /// # Errors
    /// [`Error::Shape`] if the array has not 2 or 3 spatial axes, or the region is no whole number of its voxels.
    pub fn new(named: NamedArray<'a>, roi: &Roi) -> Result<Self> {
        let spec = named.array.spec();
        let wrong = |reason: String| Error::Shape {
            what: named.name.to_owned(),
            reason,
        };
        let dims = spec.spatial_dims();
        if !(2..=3).contains(&dims) {
            return Err(wrong(format!(
                "{dims} spatial axes, of which there have to be 2 or 3"
            )));
        }
        let voxels = roi.voxels(&spec.voxel_size).filter(|_| spec.window(roi).is_ok());
        let voxels = voxels.ok_or_else(|| {
            let (size, at) = (&spec.voxel_size, &spec.roi);
            wrong(format!(
                "{roi} is no whole number of its voxels of {size}, which lie at {at}"
            ))
        })?;
        let mut shape = [1; 3];
        shape[3 - dims..].copy_from_slice(&voxels);
        Ok(Self {
            named,
            begin: roi.begin().clone(),
            voxel_size: spec.voxel_size.clone(),
            shape,
        })
    }

    fn dims(&self) -> usize {
        self.voxel_size.dims()
    }

    /// Channels, if the array has any, else 1.
    pub fn channels(&self) -> usize {
        self.named.array.spec().channels.iter().product()
    }

    /// All of its voxels.
    pub fn all(&self) -> Ranges {
        self.shape.map(|length| 0..length)
    }

    /// Where voxels lie.
    pub fn roi(&self, ranges: &Ranges) -> Roi {
        let ranges = &ranges[3 - self.dims()..];
        let begin: Vec<i64> = ranges.iter().map(|range| range.start as i64).collect();
        let shape: Vec<usize> = ranges.iter().map(Range::len).collect();
        Roi::from_voxels(&begin, &shape, &self.voxel_size).shift(&self.begin)
    }

    /// What errors call it by.
    pub fn name(&self) -> &'a str {
        self.named.name
    }

    /// Of what is stored.
    pub fn dtype(&self) -> DType {
        self.named.array.spec().dtype
    }

    /// Bytes that [`values`](Self::values) take for each voxel while they are read.
    pub fn values_bytes(&self) -> u64 {
        (self.channels() * (self.dtype().size() + size_of::<f32>())) as u64
    }

    /// Refuses what cannot be labels, before anything is read.
    ///
    /// # Errors
    /// [`Error::LabelType`] for floats, [`Error::Labels`] if there are channels.
    pub fn check_labels(&self) -> Result<()> {
        let dtype = self.dtype();
        let name = self.named.name.to_owned();
        match self.channels() {
            1 if dtype.is_float() => Err(Error::LabelType { dataset: name, dtype }),
            1 => Ok(()),
            channels => Err(Error::Labels { name, channels }),
        }
    }

    /// Labels.
    ///
    /// # Errors
    /// As [`check_labels`](Self::check_labels); [`Error::LabelValue`], [`Error::Array`].
    pub fn labels(&self, ranges: &Ranges) -> Result<Array3<u64>> {
        self.check_labels()?;
        let values = self.named.array.read(&self.roi(ranges))?;
        let values = values.cast::<u64>().map_err(|source| Error::LabelValue {
            name: self.named.name.to_owned(),
            source,
        })?;
        let shape: [usize; 3] = std::array::from_fn(|axis| ranges[axis].len());
        values
            .into_shape_with_order(shape)
            .map_err(|error| self.misshapen(&error))
    }

    /// Which values are not 0 (channels, z, y, x).
    ///
    /// # Errors
    /// [`Error::Array`].
    pub fn set(&self, ranges: &Ranges) -> Result<Array4<bool>> {
        macro_rules! set {
            ($($variant:ident: $zero:expr),*) => {
                match self.named.array.read(&self.roi(ranges))? {
                    NdData::Bool(values) => values,
                    $(NdData::$variant(values) => values.mapv(|value| value != $zero),)*
                }
            };
        }
        let values = set!(U8: 0, U16: 0, U32: 0, U64: 0, I8: 0, I16: 0, I32: 0, I64: 0, F32: 0.0, F64: 0.0);
        let [z, y, x] = std::array::from_fn(|axis| ranges[axis].len());
        values
            .into_shape_with_order((self.channels(), z, y, x))
            .map_err(|error| self.misshapen(&error))
    }

    /// Values (channels, z, y, x); bytes stand for a range.
    ///
    /// # Errors
    /// [`Error::Array`].
    pub fn values(&self, ranges: &Ranges, range: ValueRange) -> Result<Array4<f32>> {
        let values = match self.named.array.read(&self.roi(ranges))? {
            NdData::U8(bytes) => bytes.mapv(|byte| range.value(byte)),
            other => other.cast::<f32>()?,
        };
        let [z, y, x] = std::array::from_fn(|axis| ranges[axis].len());
        let shape = (self.channels(), z, y, x);
        values
            .into_shape_with_order(shape)
            .map_err(|error| self.misshapen(&error))
    }

    fn misshapen(&self, error: &ndarray::ShapeError) -> Error {
        Error::Shape {
            what: self.named.name.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Writes labels to an array of the same places.
    ///
    /// # Errors
    /// [`Error::Array`].
    pub fn write(&self, to: &dyn ArrayWrite, ranges: &Ranges, labels: Array3<u64>) -> Result<()> {
        let shape: Vec<usize> = labels.shape()[3 - self.dims()..].to_vec();
        let labels = labels.into_dyn();
        let labels = labels
            .into_shape_with_order(shape)
            .map_err(|error| self.misshapen(&error))?;
        let data = match to.spec().dtype {
            DType::U8 => NdData::U8(labels.mapv(|label| label as u8)),
            _ => NdData::U64(labels),
        };
        Ok(to.write(&self.roi(ranges), &data)?)
    }
}

/// A volume cut into blocks.
pub(crate) struct Blocks {
    pub grid: BlockGrid,
    shape: [usize; 3],
}

impl Blocks {
    /// Of at most so many voxels along each axis.
    ///
    /// # Errors
    /// [`Error::Blockwise`] from 2⁶³ blocks on.
    pub fn new(shape: [usize; 3], block: usize) -> Result<Self> {
        let one = Coordinate::splat(3, 1);
        let zero = Coordinate::splat(3, 0);
        let total = Roi::from_voxels(&[0; 3], &shape, &one);
        let block = Coordinate::splat(3, block.max(1) as i64);
        Ok(Self {
            grid: BlockGrid::new(total, block, zero.clone(), zero, one)?,
            shape,
        })
    }

    /// The voxels of a block.
    pub fn inner(&self, block: &Block) -> Ranges {
        let begin = block.write_roi.begin().to_f64();
        let end = block.write_roi.end().to_f64();
        std::array::from_fn(|axis| begin[axis] as usize..end[axis] as usize)
    }

    /// A block with so many voxels around it, as far as the volume goes.
    pub fn around(&self, inner: &Ranges, before: [usize; 3], behind: [usize; 3]) -> Ranges {
        std::array::from_fn(|axis| {
            let range = &inner[axis];
            range.start.saturating_sub(before[axis])..(range.end + behind[axis]).min(self.shape[axis])
        })
    }
}

/// Where voxels are in others that have them.
pub(crate) fn within(ranges: &Ranges, outer: &Ranges) -> Ranges {
    std::array::from_fn(|axis| ranges[axis].start - outer[axis].start..ranges[axis].end - outer[axis].start)
}

/// The voxels that two have in common; none if that is nothing.
pub(crate) fn common(a: &Ranges, b: &Ranges) -> Option<Ranges> {
    let both = std::array::from_fn(|axis| a[axis].start.max(b[axis].start)..a[axis].end.min(b[axis].end));
    both.iter().all(|range| range.start < range.end).then_some(both)
}

/// Does some work for each block on so many threads, until the first that fails.
///
/// # Errors
/// [`Error::Blocks`], [`Error::Interrupted`] if the observer asked for it.
pub(crate) fn for_each_block(
    grid: &BlockGrid,
    threads: usize,
    observer: &dyn Observer,
    work: impl Fn(&Block) -> Result<()> + Sync,
) -> Result<()> {
    observer.event(&Event::PredictionStarted { blocks: grid.len() });
    let watch = Watch {
        observer,
        failed: AtomicBool::new(false),
    };
    let outcome = run_blocks(grid, threads, &watch, |block| {
        let result = work(block);
        watch.failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    });
    match outcome {
        Ok(Outcome::Finished { .. }) => Ok(()),
        Ok(Outcome::Cancelled { .. }) => Err(Error::Interrupted),
        Err(Failed {
            mut blocks, total, ..
        }) => {
            let failed = blocks.len();
            let first = Box::new(blocks.swap_remove(0).1);
            Err(Error::Blocks { failed, total, first })
        }
    }
}

/// What a mutex holds; what a thread that panicked has left is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells of blocks, and ends the job after the first that failed.
struct Watch<'a> {
    observer: &'a dyn Observer,
    failed: AtomicBool,
}

impl BlockObserver for Watch<'_> {
    fn finished(&self, done: usize, total: usize) {
        self.observer.event(&Event::Block { done, total });
    }

    fn cancelled(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.observer.cancelled()
    }
}
