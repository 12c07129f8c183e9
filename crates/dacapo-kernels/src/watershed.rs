//! The seeded watershed: what a priority flood would do. `levels` does it where heights are few; where they are many,
//! `basins` and `order` find who floods a voxel without going the way of the water through memory.

mod basins;
mod levels;
mod order;

use ndarray::{Array3, ArrayView3};

use crate::error::{countable, same_shape};
use crate::hash::IdMap;
use crate::offsets::volume;
use crate::{Connectivity, Result};
use basins::Basins;
use levels::Levels;

/// Floods a landscape from seeds: the lowest voxel beside the flood is next, and belongs to the flood that reached
/// it first. Voxels outside `mask`, and those that no seed reaches, stay 0. NaN is higher than everything.
///
/// Among equal heights the voxel that was reached earlier is next. Seeds are reached in the order of the volume;
/// then the neighbours of a voxel, those over faces before those over edges and corners, each in the order of the
/// volume: -z, -y, -x, +x, +y, +z.
///
/// The priority flood of scikit-image's `watershed` (Beucher and Meyer 1993): equal to it where no two heights
/// are equal. Up to 65,536 different heights have a queue each. Where there are more, nothing waits in any order: basins,
/// their passes and the neighbour that is reached first follow from rounds over the volume, ties from the few places
/// where they matter. It takes longer where many voxels of equal height are flooded from several sides.
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
    if let Some(levels) = Levels::new(&heights) {
        drop(heights);
        levels.flood(&mut floods, &steps);
    } else {
        let basins = Basins::new(&heights, &floods, &steps);
        order::flood(heights, basins, &mut floods, &steps);
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

    #[inline]
    fn contains(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    #[inline]
    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }

    /// The least number of the set, if all that are less than `from` rounded down to 64 are known not to be in it.
    #[inline]
    fn first_from(&self, from: usize) -> Option<usize> {
        let begin = from / 64;
        let found = self.0[begin..].iter().position(|&word| word != 0)?;
        let word = begin + found;
        Some(64 * word + self.0[word].trailing_zeros() as usize)
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

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// The lowest that waits is next, and of equal ones the one that has waited longest.
    fn naive(heights: &[u32], labels: &mut [u32], steps: &[isize]) {
        let seeds = (0..labels.len()).filter(|&p| labels[p] != 0 && labels[p] != CLOSED);
        let mut waiting: BinaryHeap<_> = seeds.map(|p| Reverse((heights[p], 0, p))).collect();
        let mut age = 0;
        while let Some(Reverse((_, _, p))) = waiting.pop() {
            for &step in steps {
                let q = p.wrapping_add_signed(step);
                if labels[q] == 0 {
                    labels[q] = labels[p];
                    age += 1;
                    waiting.push(Reverse((heights[q], age, q)));
                }
            }
        }
    }

    #[test]
    fn both_floods_are_their_definition() {
        let mut state = 3u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for case in 0..CASES {
            let shape: [usize; 3] = std::array::from_fn(|_| 1 + random(if case % 50 == 0 { 12 } else { 6 }));
            let frame = Frame::new(shape);
            let steps =
                frame.steps([Connectivity::Faces, Connectivity::Edges, Connectivity::Corners][random(3)]);
            let (count, rare) = ([1, 2, 3, 5, 9, 200][random(6)], [2, 6, 20, 100][random(4)]);
            let (closed, smooth) = ([0, 1, 4][random(3)], random(2));
            let mut heights = vec![CLOSED; frame.len()];
            let mut seeds = vec![CLOSED; frame.len()];
            for p in frame.rows().flatten() {
                if random(10) < closed {
                    continue;
                }
                // Each like the one before it, or not.
                let before = heights[p.saturating_sub(1)];
                heights[p] = match before != CLOSED && smooth == 1 && random(3) > 0 {
                    true => before,
                    false if case % 3 == 0 => CLOSED - 1 - random(count) as u32,
                    false => random(count) as u32,
                };
                seeds[p] = if random(rare) == 0 {
                    1 + random(4) as u32
                } else {
                    0
                };
            }
            let mut expected = seeds.clone();
            naive(&heights, &mut expected, &steps);
            let what = format!("case {case}: {shape:?}, {count} heights");
            let mut found = seeds.clone();
            Levels::new(&heights).unwrap().flood(&mut found, &steps);
            assert!(found == expected, "levels, {what}");
            let mut found = seeds.clone();
            let basins = Basins::new(&heights, &seeds, &steps);
            order::flood(heights, basins, &mut found, &steps);
            assert!(found == expected, "basins, {what}");
        }
    }

    const CASES: usize = 10_000;

    #[test]
    fn many_heights_are_no_levels() {
        let mut heights: Vec<u32> = (0..1 << 16).map(|i| 1_000_000 - 3 * i).collect();
        let of: Vec<u16> = (0..=u16::MAX).rev().collect();
        assert_eq!(Levels::new(&heights), Some(Levels { of, count: 1 << 16 }));
        heights.push(7);
        assert_eq!(Levels::new(&heights), None);
        let levels = Levels::new(&[255, CLOSED, 0]).unwrap();
        assert_eq!([levels.of[0], levels.of[2]], [255, 0]);
        assert_eq!(Levels::new(&[CLOSED; 3]).unwrap().of.len(), 3);
    }

    #[test]
    fn more_levels_than_bytes_have_are_flooded_alike() {
        let shape = [6, 7, 8];
        let frame = Frame::new(shape);
        let steps = frame.steps(Connectivity::Faces);
        let (mut heights, mut seeds) = (vec![CLOSED; frame.len()], vec![CLOSED; frame.len()]);
        for (i, p) in frame.rows().flatten().enumerate() {
            heights[p] = (i * 7919 % 336) as u32 * 1000;
            seeds[p] = if i % 97 == 0 { 1 + i as u32 } else { 0 };
        }
        let mut expected = seeds.clone();
        naive(&heights, &mut expected, &steps);
        let mut found = seeds.clone();
        Levels::new(&heights).unwrap().flood(&mut found, &steps);
        assert_eq!(found, expected);
    }
}
