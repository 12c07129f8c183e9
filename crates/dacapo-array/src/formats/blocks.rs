//! Arrays that are stored in blocks of one shape (pages, strips, tiles, slices, chunks): windows are put
//! together of the blocks that they meet. What a block is and how it decodes is the format's affair.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, Slice};
use rayon::prelude::*;

use crate::dtype::with_dtype;
use crate::memory::{Typed, filled};
use crate::{ArrayRead, ArraySpec, Element, Error, NdData, Result, Roi};

/// Bytes of decoded blocks that an open array keeps.
const KEPT: usize = 64 << 20;

/// Where blocks come from.
pub(super) trait Blocks: Send + Sync {
    /// The values of a block by its place in the grid, of the block's shape or, at the far borders, of what
    /// of it lies in the array; with any strides. Nothing where none was ever written.
    fn load(&self, index: &[usize]) -> Result<Option<NdData>>;
}

/// An array over blocks; what is not there is 0.
pub(super) struct BlockArray<B> {
    spec: ArraySpec,
    block: Vec<usize>,
    blocks: B,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    blocks: VecDeque<(Vec<usize>, Arc<NdData>)>,
    bytes: usize,
}

impl<B: Blocks> BlockArray<B> {
    /// An array in blocks of a shape (values along all axes).
    pub(super) fn new(spec: ArraySpec, block: Vec<usize>, blocks: B) -> Self {
        Self {
            spec,
            block: block.into_iter().map(|n| n.max(1)).collect(),
            blocks,
            recent: Mutex::default(),
        }
    }

    fn load(&self, index: &[usize], keep: bool) -> Result<Option<Arc<NdData>>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.blocks.iter().position(|(key, _)| key == index)
            && let Some(entry) = recent.blocks.remove(at)
        {
            let found = Arc::clone(&entry.1);
            recent.blocks.push_back(entry);
            return Ok(Some(found));
        }
        drop(recent);
        let Some(block) = self.blocks.load(index)?.map(Arc::new) else {
            return Ok(None);
        };
        let bytes = |block: &NdData| block.shape().iter().product::<usize>() * block.dtype().size();
        if keep && bytes(&block) <= KEPT {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.bytes += bytes(&block);
            recent.blocks.push_back((index.to_vec(), Arc::clone(&block)));
            while recent.bytes > KEPT
                && let Some((_, oldest)) = recent.blocks.pop_front()
            {
                recent.bytes -= bytes(&oldest);
            }
        }
        Ok(Some(block))
    }

    fn read_window<T: Element + Typed>(&self, begin: &[i64], shape: &[usize]) -> Result<ArrayD<T>> {
        let array = self.spec.shape();
        let (inside, at) = shared(begin, shape, &array);
        let window = Mutex::new(filled(shape, T::default())?);
        grid(&inside, &self.block).into_par_iter().try_for_each(|index| {
            let origin: Vec<usize> = index.iter().zip(&self.block).map(|(i, n)| i * n).collect();
            let held: Vec<usize> = (0..array.len())
                .map(|axis| self.block[axis].min(array[axis] - origin[axis]))
                .collect();
            let common: Vec<Range<usize>> = (0..array.len())
                .map(|axis| {
                    inside[axis].start.max(origin[axis])..inside[axis].end.min(origin[axis] + held[axis])
                })
                .collect();
            let whole = common.iter().zip(&held).all(|(range, &n)| range.len() == n);
            let Some(block) = self.load(&index, !whole)? else {
                return Ok(());
            };
            let values = T::of(&block).ok_or(Error::Type {
                found: block.dtype(),
                expected: self.spec.dtype,
            })?;
            if values.shape().iter().zip(&held).any(|(&n, &held)| n < held) {
                let reason = format!(
                    "the block {index:?} has {:?} values, not {held:?}",
                    values.shape()
                );
                return Err(Error::Shape { reason });
            }
            let from: Vec<Range<usize>> = common
                .iter()
                .zip(&origin)
                .map(|(r, &o)| r.start - o..r.end - o)
                .collect();
            let to: Vec<Range<usize>> = (0..array.len())
                .map(|axis| {
                    let first = at[axis].start + common[axis].start - inside[axis].start;
                    first..first + common[axis].len()
                })
                .collect();
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            part_mut(window.view_mut(), &to).assign(&part(values.view(), &from));
            Ok(())
        })?;
        Ok(window.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<B: Blocks> ArrayRead for BlockArray<B> {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        let (begin, shape) = window(&self.spec, roi)?;
        with_dtype!(self.spec.dtype, T => self.read_window::<T>(&begin, &shape).map(T::wrap))
    }
}

/// A region as first value and shape along all axes.
pub(super) fn window(spec: &ArraySpec, roi: &Roi) -> Result<(Vec<i64>, Vec<usize>)> {
    let (begin, shape) = spec.window(roi)?;
    let begin = std::iter::repeat_n(0, spec.channels.len()).chain(begin);
    Ok((begin.collect(), [spec.channels.as_slice(), &shape].concat()))
}

/// What a window and an array share, as ranges in the array and in the window.
pub(super) fn shared(
    begin: &[i64],
    shape: &[usize],
    array: &[usize],
) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    (0..shape.len())
        .map(|axis| {
            let length = array[axis] as i64;
            let first = begin[axis].clamp(0, length);
            let end = (begin[axis] + shape[axis] as i64).clamp(first, length);
            let at = if first == end { 0 } else { first - begin[axis] };
            (
                first as usize..end as usize,
                at as usize..(at + end - first) as usize,
            )
        })
        .unzip()
}

/// Places of the blocks that have something of a part of the array, in row-major order.
fn grid(part: &[Range<usize>], block: &[usize]) -> Vec<Vec<usize>> {
    if part.iter().any(Range::is_empty) {
        return Vec::new();
    }
    part.iter()
        .zip(block)
        .fold(vec![Vec::new()], |grid, (range, block)| {
            let along = range.start / block..range.end.div_ceil(*block);
            grid.iter()
                .flat_map(|index: &Vec<usize>| along.clone().map(move |i| [index.as_slice(), &[i]].concat()))
                .collect()
        })
}

/// A part of an array.
pub(super) fn part<'a, T>(mut array: ArrayViewD<'a, T>, ranges: &[Range<usize>]) -> ArrayViewD<'a, T> {
    for (axis, range) in ranges.iter().enumerate() {
        array.slice_axis_inplace(Axis(axis), Slice::from(range.clone()));
    }
    array
}

/// A part of an array to write to.
pub(super) fn part_mut<'a, T>(
    mut array: ArrayViewMutD<'a, T>,
    ranges: &[Range<usize>],
) -> ArrayViewMutD<'a, T> {
    for (axis, range) in ranges.iter().enumerate() {
        array.slice_axis_inplace(Axis(axis), Slice::from(range.clone()));
    }
    array
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{ArrayReadExt, ArrayWrite, Coordinate, DType, MemoryArray};

    /// Blocks of an array in memory, those at odd places of the first axis missing.
    struct Cut(MemoryArray, Vec<usize>, AtomicUsize);

    impl Blocks for Cut {
        fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
            self.2.fetch_add(1, Ordering::Relaxed);
            let begin: Vec<i64> = index.iter().zip(&self.1).map(|(i, n)| (i * n) as i64).collect();
            let whole = Roi::from_voxels(&begin, &self.1, &self.0.spec().voxel_size);
            // More than lies in the array: what is outside must not matter.
            (index[0] % 2 == 0).then(|| self.0.read(&whole)).transpose()
        }
    }

    #[test]
    fn windows_are_those_of_an_array_in_memory() {
        let voxel_size = Coordinate::new([1, 1, 1]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[0; 3], &[5, 7, 9], &voxel_size),
            voxel_size.clone(),
            DType::U16,
        );
        let values = ArrayD::from_shape_fn(vec![5, 7, 9], |i| (i[0] * 63 + i[1] * 9 + i[2]) as u16 + 1);
        let memory = MemoryArray::new(spec.clone(), NdData::U16(values)).unwrap();
        let expected = MemoryArray::new(spec.clone(), memory.read_all().unwrap()).unwrap();
        let gone = Roi::from_voxels(&[2, 0, 0], &[2, 7, 9], &voxel_size);
        expected
            .write(&gone, &NdData::U16(ArrayD::zeros(vec![2, 7, 9])))
            .unwrap();
        let block = vec![2, 7, 4];
        let cut = BlockArray::new(spec, block.clone(), Cut(memory, block, AtomicUsize::new(0)));
        for begin in [[0, 0, 0], [-1, 2, 3], [4, 6, 8], [2, 0, 0], [5, 0, 0], [-9, 0, 0]] {
            for shape in [[1, 1, 1], [5, 7, 9], [2, 3, 4], [9, 9, 9], [0, 2, 2]] {
                let roi = Roi::from_voxels(&begin, &shape, &voxel_size);
                assert_eq!(cut.read(&roi).unwrap(), expected.read(&roi).unwrap(), "{roi}");
            }
        }
        // Only what a window meets is loaded, and once.
        let cut = BlockArray {
            recent: Mutex::default(),
            ..cut
        };
        cut.blocks.2.store(0, Ordering::Relaxed);
        let roi = Roi::from_voxels(&[0, 0, 3], &[1, 1, 2], &voxel_size);
        cut.read(&roi).unwrap();
        cut.read(&roi).unwrap();
        assert_eq!(cut.blocks.2.load(Ordering::Relaxed), 2);
    }
}
