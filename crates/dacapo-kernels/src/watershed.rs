//! The seeded watershed: a priority flood, and the queues that make it quick.

mod basins;
mod levels;
mod order;

use ndarray::{Array3, ArrayView3};

use crate::error::{countable, same_shape};
use crate::hash::IdMap;
use crate::offsets::volume;
use crate::{Connectivity, Result};
use basins::Basins;

/// Floods a landscape from seeds: the lowest voxel beside the flood is next, and belongs to the flood that reached
/// it first. Voxels outside `mask`, and those that no seed reaches, stay 0. NaN is higher than everything.
///
/// Among equal heights the voxel that was reached earlier is next. Seeds are reached in the order of the volume;
/// then the neighbours of a voxel, those over faces before those over edges and corners, each in the order of the
/// volume: -z, -y, -x, +x, +y, +z.
///
/// The priority flood of scikit-image's `watershed` (Beucher and Meyer 1993): equal to it where no two heights
/// are equal. Bytes wait in a queue for each of the 256 heights; floats are sorted first, so that each voxel has a
/// place to wait in.
///
/// ```
/// use dacapo_kernels::{Connectivity, watershed};
/// use ndarray::array;
///
/// let (height, seeds) = (array![[[0u8, 3, 9, 4, 1]]], array![[[5, 0, 0, 0, 8]]]);
/// let segments = watershed(height.view(), seeds.view(), None, Connectivity::Faces)?;
/// assert_eq!(segments, array![[[5, 5, 5, 8, 8]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Shape`] if shapes differ, [`crate::Error::TooLarge`] from 2³² voxels on.
pub fn watershed<H: Height>(
    height: ArrayView3<H>,
    seeds: ArrayView3<u64>,
    mask: Option<ArrayView3<bool>>,
    connectivity: Connectivity,
) -> Result<Array3<u64>> {
    same_shape("volume of seeds", seeds.shape(), height.shape())?;
    if let Some(mask) = mask {
        same_shape("mask", mask.shape(), height.shape())?;
    }
    let frame = Frame::new(volume(height.shape()));
    countable("voxels", frame.len())?;

    // Seeds go by numbers.
    let mut names = vec![0];
    let mut numbers: IdMap<u64, u32> = IdMap::default();
    let mut last = (0, 0);
    let mut heights = vec![CLOSED; frame.len()];
    let mut floods = vec![CLOSED; frame.len()];
    let mut open = mask.iter().flat_map(|mask| mask.iter().copied());
    let mut voxels = height.iter().zip(seeds.iter());
    for row in frame.rows() {
        let places = heights[row.clone()].iter_mut().zip(&mut floods[row]);
        for ((place, flood), (&height, &seed)) in places.zip(&mut voxels) {
            if !open.next().unwrap_or(true) {
                continue;
            }
            *place = height.key();
            if seed != last.0 {
                let next = names.len() as u32;
                last = (seed, 0);
                if seed != 0 {
                    last.1 = *numbers.entry(seed).or_insert(next);
                    if last.1 == next {
                        names.push(seed);
                    }
                }
            }
            *flood = last.1;
        }
    }
    let steps = frame.steps(connectivity);
    if heights.iter().all(|&h| h < 256 || h == CLOSED) {
        let levels: Vec<u8> = heights.iter().map(|&h| h as u8).collect();
        drop(heights);
        levels::flood(&levels, &mut floods, &steps);
    } else {
        let basins = Basins::new(&heights, &floods, &steps);
        order::flood(&heights, basins, &mut floods, &steps);
    }

    let mut labels = frame.rows().flat_map(|row| &floods[row]);
    let mut flooded = Array3::zeros(height.raw_dim());
    flooded
        .iter_mut()
        .zip(&mut labels)
        .for_each(|(flooded, &flood)| *flooded = if flood == CLOSED { 0 } else { names[flood as usize] });
    Ok(flooded)
}

/// The height of voxels that no flood may reach: above all others.
const CLOSED: u32 = u32::MAX;
/// No voxel, basin or depth.
const NONE: u32 = u32::MAX;

/// A set of numbers: a bit for each.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    #[inline]
    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(64 * i + bit)
            })
        })
    }
}

/// A volume with a closed voxel around it, so that no flood has to ask whether it is at a face. There is none along
/// an axis of length 1, where there are no neighbours either.
struct Frame {
    shape: [usize; 3],
    border: [usize; 3],
    outer: [usize; 3],
}

impl Frame {
    fn new(shape: [usize; 3]) -> Self {
        let border = shape.map(|length| usize::from(length > 1));
        let outer = std::array::from_fn(|axis| shape[axis] + 2 * border[axis]);
        Self { shape, border, outer }
    }

    fn len(&self) -> usize {
        self.outer.iter().product()
    }

    /// Where the rows of the volume are, in its order.
    fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let [depth, height, width] = self.shape;
        (0..depth * height).map(move |row| {
            let (z, y) = (row / height + self.border[0], row % height + self.border[1]);
            let start = (z * self.outer[1] + y) * self.outer[2] + self.border[2];
            start..start + width
        })
    }

    /// From a voxel to its neighbours.
    fn steps(&self, connectivity: Connectivity) -> Vec<isize> {
        let [_, rows, columns] = self.outer.map(|n| n as isize);
        let steps = connectivity.neighbors().into_iter();
        let inside = steps.filter(|step| (0..3).all(|axis| step[axis] == 0 || self.border[axis] > 0));
        inside.map(|[z, y, x]| (z * rows + y) * columns + x).collect()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

/// What a landscape's heights can be: bytes or floats.
pub trait Height: sealed::Sealed + Copy {
    /// A number that sorts as the height does, below that of what is closed.
    #[doc(hidden)]
    fn key(self) -> u32;
}

impl Height for u8 {
    fn key(self) -> u32 {
        u32::from(self)
    }
}

impl Height for f32 {
    fn key(self) -> u32 {
        sortable(self)
    }
}

/// Bits that sort as the numbers do; NaN last, and -0 with 0.
pub(crate) fn sortable(value: f32) -> u32 {
    if value.is_nan() {
        return CLOSED - 1;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
