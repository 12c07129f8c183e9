//! Reading a window of an array on a grid of one's own: mirrored past the array's border, or the nearest voxel
//! of an array with another voxel size. 2D arrays come out with a depth of 1.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayD};

use dacapo_array::{ArrayRead, ArrayReadExt, ArraySpec, Coordinate, Element, NdData, Roi};

use crate::Result;

/// For each voxel of a window, along each axis, the voxel of an array that it is taken from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lookup {
    axes: [Vec<Option<usize>>; 3],
}

impl Lookup {
    /// A window on the array's own grid, `begin` voxels from its first voxel. Past the border it shows the
    /// array mirrored at its last voxels: … 2 1 0 1 2 …
    pub fn mirrored(spec: &ArraySpec, begin: &[i64], shape: &[usize]) -> Self {
        let lengths = spatial_shape(spec);
        Self::from_axes(shape.len(), |axis| {
            let (begin, length) = (begin[axis], lengths[axis]);
            (0..shape[axis] as i64)
                .map(|i| Some(mirror(begin + i, length)))
                .collect()
        })
    }

    /// A window from the world position `begin`, of `shape` voxels of `voxel_size`: each is taken from the
    /// array's voxel at its centre, if that centre lies in `within` and in the array.
    pub fn nearest(
        spec: &ArraySpec,
        within: &Roi,
        begin: &Coordinate,
        shape: &[usize],
        voxel_size: &Coordinate,
    ) -> Self {
        let within = within.intersect(&spec.roi);
        let longest = shape.iter().copied().max().unwrap_or(0);
        let two = Coordinate::splat(shape.len(), 2);
        // Doubled, so that centres are whole multiples of the voxel size.
        let (first, last) = (within.begin() * &two, within.end() * &two);
        let indices: Vec<Vec<Option<usize>>> = (0..longest as i64)
            .map(|i| {
                let centre = begin * &two + voxel_size * &Coordinate::splat(shape.len(), 2 * i + 1);
                let from_start = &centre - &(spec.roi.begin() * &two);
                let index = from_start.floor_div(&(&spec.voxel_size * &two));
                let inside = centre
                    .iter()
                    .zip(first.iter().zip(last.iter()))
                    .map(|(c, (a, b))| a <= c && c < b);
                index
                    .into_iter()
                    .zip(inside)
                    .map(|(index, inside)| inside.then_some(index as usize))
                    .collect()
            })
            .collect();
        Self::from_axes(shape.len(), |axis| {
            (0..shape[axis]).map(|i| indices[i][axis]).collect()
        })
    }

    fn from_axes(dims: usize, axis: impl Fn(usize) -> Vec<Option<usize>>) -> Self {
        let flat = 3 - dims;
        Self {
            axes: std::array::from_fn(|a| if a < flat { vec![Some(0)] } else { axis(a - flat) }),
        }
    }

    /// Window voxels (z, y, x) that are taken from somewhere.
    pub fn known(&self) -> Array3<bool> {
        let [z, y, x] = &self.axes;
        Array3::from_shape_fn(self.shape(), |(i, j, k)| {
            z[i].is_some() && y[j].is_some() && x[k].is_some()
        })
    }

    /// The window (channels, z, y, x), with the default value where it is taken from nowhere.
    pub fn read<T: Element>(&self, array: &dyn ArrayRead) -> Result<Array4<T>> {
        let Some(bounds) = self.bounds() else {
            return Ok(self.gather(array.spec(), &[], &[0..0, 0..0, 0..0], |value: T| value));
        };
        let source: ArrayD<T> = array.read_as(&world_box(array.spec(), &bounds))?;
        Ok(
            self.gather(array.spec(), in_order(&source).as_ref(), &bounds, |value: T| {
                value
            }),
        )
    }

    /// As [`Lookup::read`], for values as floats: the usual types of images are converted on the way.
    pub fn read_floats(&self, array: &dyn ArrayRead) -> Result<Array4<f32>> {
        let Some(bounds) = self.bounds() else {
            return self.read(array);
        };
        let spec = array.spec();
        Ok(match array.read(&world_box(spec, &bounds))? {
            NdData::U8(source) => self.gather(spec, in_order(&source).as_ref(), &bounds, f32::from),
            NdData::U16(source) => self.gather(spec, in_order(&source).as_ref(), &bounds, f32::from),
            source => {
                let source: ArrayD<f32> = source.cast()?;
                self.gather(spec, in_order(&source).as_ref(), &bounds, |value: f32| value)
            }
        })
    }

    /// The window of an array, of which `source` is what lies in `bounds`.
    fn gather<S: Copy, T: Copy + Default>(
        &self,
        spec: &ArraySpec,
        source: &[S],
        bounds: &[Range<usize>; 3],
        value: impl Fn(S) -> T,
    ) -> Array4<T> {
        let channels: usize = spec.channels.iter().product();
        let [depth, height, width] = self.shape();
        let mut window = Array4::from_elem((channels, depth, height, width), T::default());
        let Some(values) = window.as_slice_mut().filter(|_| !source.is_empty()) else {
            return window;
        };
        let lengths = bounds.each_ref().map(ExactSizeIterator::len);
        let along: Vec<(usize, usize)> = entries(&self.axes[2], &bounds[2]).collect();
        // Within an array, a row of the window is a piece of a row of the array.
        let piece = along.first().filter(|first| {
            let mut each = along.iter().enumerate();
            each.all(|(n, &(k, x))| (k, x) == (first.0 + n, first.1 + n))
        });
        for channel in 0..channels {
            for (i, z) in entries(&self.axes[0], &bounds[0]) {
                for (j, y) in entries(&self.axes[1], &bounds[1]) {
                    let to = &mut values[((channel * depth + i) * height + j) * width..][..width];
                    let from =
                        &source[((channel * lengths[0] + z) * lengths[1] + y) * lengths[2]..][..lengths[2]];
                    match piece {
                        Some(&(k, x)) => {
                            let from = &from[x..x + along.len()];
                            to[k..k + along.len()]
                                .iter_mut()
                                .zip(from)
                                .for_each(|(to, &from)| *to = value(from));
                        }
                        None => along.iter().for_each(|&(k, x)| to[k] = value(from[x])),
                    }
                }
            }
        }
        window
    }

    fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.axes[a].len())
    }

    /// The smallest box of the array that has all that the window shows.
    fn bounds(&self) -> Option<[Range<usize>; 3]> {
        let mut bounds = [0..0, 0..0, 0..0];
        for (bound, axis) in bounds.iter_mut().zip(&self.axes) {
            let (low, high) = (axis.iter().flatten().min()?, axis.iter().flatten().max()?);
            *bound = *low..high + 1;
        }
        Some(bounds)
    }
}

/// An array's values, last axis fastest.
fn in_order<T: Copy>(array: &ArrayD<T>) -> std::borrow::Cow<'_, [T]> {
    match array.as_slice() {
        Some(values) => values.into(),
        None => array.iter().copied().collect::<Vec<T>>().into(),
    }
}

/// (index in the window, index in what was read) of the entries that are taken from somewhere.
fn entries(axis: &[Option<usize>], bound: &Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    axis.iter()
        .enumerate()
        .filter_map(move |(i, source)| source.map(|source| (i, source - bound.start)))
}

fn world_box(spec: &ArraySpec, bounds: &[Range<usize>; 3]) -> Roi {
    let bounds = &bounds[3 - spec.roi.dims()..];
    let begin: Vec<i64> = bounds.iter().map(|bound| bound.start as i64).collect();
    let length: Vec<i64> = bounds.iter().map(|bound| bound.len() as i64).collect();
    let voxels = |n: &[i64]| Coordinate::from_voxels(n, &spec.voxel_size);
    Roi::new(spec.roi.begin() + &voxels(&begin), voxels(&length))
}

/// Voxels along the spatial axes of an array.
pub(crate) fn spatial_shape(spec: &ArraySpec) -> Vec<usize> {
    spec.shape()[spec.channels.len()..].to_vec()
}

/// Position `i` of a sequence of `length` that goes on mirrored at its first and last entries.
fn mirror(i: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last == 0 {
        return 0;
    }
    let place = i.rem_euclid(2 * last);
    (if place > last { 2 * last - place } else { place }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use dacapo_array::MemoryArray;
    use ndarray::ArrayD;

    /// Values are their own index, 100 z + 10 y + x.
    fn counted(shape: [usize; 3], offset: i64, voxel_size: i64) -> MemoryArray {
        let data = ArrayD::from_shape_fn(&shape[..], |i| (100 * i[0] + 10 * i[1] + i[2]) as u16);
        let voxel_size = Coordinate::splat(3, voxel_size);
        let first = offset;
        let roi = Roi::from_voxels(&[first; 3], &shape, &voxel_size);
        let spec = ArraySpec::new(roi, voxel_size, dacapo_array::DType::U16);
        MemoryArray::new(spec, NdData::U16(data)).unwrap()
    }

    #[test]
    fn mirrors_at_the_border() {
        let places: Vec<usize> = (-3..7).map(|i| mirror(i, 4)).collect();
        assert_eq!(places, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!((-2..2).map(|i| mirror(i, 1)).collect::<Vec<_>>(), [0; 4]);
        let array = counted([4, 5, 6], 3, 10);
        let window = Lookup::mirrored(array.spec(), &[-2, 3, 0], &[3, 3, 2])
            .read::<u16>(&array)
            .unwrap();
        for ((_, z, y, x), &value) in window.indexed_iter() {
            assert_eq!(value as usize, 100 * [2, 1, 0][z] + 10 * [3, 4, 3][y] + x);
        }
        let lookup = Lookup::mirrored(array.spec(), &[-2, 3, 0], &[3, 3, 2]);
        assert_eq!(lookup.read_floats(&array).unwrap(), window.mapv(f32::from));
        // Mirrored along the rows, too.
        let lookup = Lookup::mirrored(array.spec(), &[0, 0, -2], &[1, 1, 10]);
        let row: Vec<f32> = lookup.read_floats(&array).unwrap().into_iter().collect();
        assert_eq!(row, [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0]);
    }

    #[test]
    fn takes_the_nearest_voxel_of_finer_and_coarser_arrays() {
        let everywhere = Roi::new(Coordinate::splat(3, -1000), Coordinate::splat(3, 3000));
        for (source, window) in [(4, 8), (8, 4), (8, 8)] {
            let array = counted([6, 6, 6], 2, source);
            let begin = Coordinate::splat(3, 8);
            let size = Coordinate::splat(3, window);
            let lookup = Lookup::nearest(array.spec(), &everywhere, &begin, &[8, 5, 5], &size);
            let read = lookup.read::<u16>(&array).unwrap();
            let known = lookup.known();
            for ((_, z, y, x), &value) in read.indexed_iter() {
                // The array begins at 2 of its voxels.
                let at = |i: usize| (8.0 + (i as f64 + 0.5) * window as f64) / source as f64 - 2.0;
                let inside = [z, y, x].iter().all(|&i| (0.0..6.0).contains(&at(i)));
                let expected = 100 * at(z) as i64 + 10 * at(y) as i64 + at(x) as i64;
                assert_eq!(known[[z, y, x]], inside);
                assert_eq!(value as i64, if inside { expected } else { 0 });
            }
        }
    }

    #[test]
    fn outside_of_the_part_to_use_nothing_is_known() {
        let array = counted([6, 6, 6], 0, 10);
        let within = Roi::new(Coordinate::splat(3, 20), Coordinate::splat(3, 20));
        let (begin, size) = (Coordinate::splat(3, 0), Coordinate::splat(3, 10));
        let known = Lookup::nearest(array.spec(), &within, &begin, &[6; 3], &size).known();
        assert_eq!(known.iter().filter(|&&k| k).count(), 8);
        assert!(known[[2, 2, 2]] && known[[3, 3, 3]]);
        let apart = Roi::new(Coordinate::splat(3, 200), Coordinate::splat(3, 20));
        let lookup = Lookup::nearest(array.spec(), &apart, &begin, &[6; 3], &size);
        assert!(lookup.read::<u16>(&array).unwrap().iter().all(|&v| v == 0));
    }
}
