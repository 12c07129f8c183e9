//! The seeded watershed: a priority flood, and the queues that make it quick.

use std::collections::VecDeque;

use ndarray::{Array3, ArrayView3};

use crate::error::{countable, same_shape};
use crate::hash::IdMap;
use crate::offsets::volume;
use crate::ranges::{Pairs, sorted};
use crate::{Connectivity, Result};

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

    // Seeds go by numbers, and what may not be flooded is closed.
    let mut names = vec![0];
    let mut numbers: IdMap<u64, u32> = IdMap::default();
    let mut last = (0, OPEN);
    let closed = Cell {
        flood: CLOSED,
        key: H::Key::default(),
    };
    let mut cells = vec![closed; frame.len()];
    let mut open = mask.iter().flat_map(|mask| mask.iter().copied());
    let mut voxels = height.iter().zip(seeds.iter());
    for row in frame.rows() {
        for (cell, (&height, &seed)) in cells[row].iter_mut().zip(&mut voxels) {
            cell.key = height.key();
            if !open.next().unwrap_or(true) {
                continue;
            }
            if seed != last.0 {
                let next = names.len() as u32;
                last = (seed, *numbers.entry(seed).or_insert(next));
                if seed == 0 {
                    last.1 = OPEN;
                } else if last.1 == next {
                    names.push(seed);
                }
            }
            cell.flood = last.1;
        }
    }

    let mut queue = H::Queue::new(&mut cells);
    for (p, cell) in (0..).zip(&cells) {
        if cell.flood != OPEN && cell.flood != CLOSED {
            queue.push(cell.key, p);
        }
    }
    let steps = frame.steps(connectivity);
    while let Some(p) = queue.pop() {
        let flood = cells[p as usize].flood;
        for &step in &steps {
            let q = (p as usize).wrapping_add_signed(step);
            let cell = &mut cells[q];
            if cell.flood == OPEN {
                cell.flood = flood;
                queue.push(cell.key, q as u32);
            }
        }
    }

    let rows = frame.rows().flat_map(|row| &cells[row]);
    let mut labels = rows.map(|cell| match cell.flood {
        CLOSED => 0,
        flood => names[flood as usize],
    });
    let mut flooded = Array3::zeros(height.raw_dim());
    flooded
        .iter_mut()
        .zip(&mut labels)
        .for_each(|(flooded, label)| *flooded = label);
    Ok(flooded)
}

/// A voxel that no flood has reached.
const OPEN: u32 = 0;
/// A voxel that none can.
const CLOSED: u32 = u32::MAX;

/// A voxel: which flood has reached it, and how high it is. Both are asked at once.
#[derive(Debug, Clone, Copy)]
pub struct Cell<K> {
    flood: u32,
    key: K,
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
    /// What heights are compared by.
    #[doc(hidden)]
    type Key: Copy + Default;
    #[doc(hidden)]
    #[allow(private_bounds, reason = "nobody else makes heights")]
    type Queue: Queue<Self::Key>;

    #[doc(hidden)]
    fn key(self) -> Self::Key;
}

impl Height for u8 {
    type Key = u8;
    type Queue = Levels;

    fn key(self) -> u8 {
        self
    }
}

impl Height for f32 {
    type Key = u32;
    type Queue = Places;

    fn key(self) -> u32 {
        sortable(self)
    }
}

/// Voxels that wait: the lowest first, of equal ones the one that has waited longest.
trait Queue<K> {
    /// For the voxels that are not closed. May put into their keys what finds a height faster.
    fn new(cells: &mut [Cell<K>]) -> Self;
    fn push(&mut self, key: K, voxel: u32);
    fn pop(&mut self) -> Option<u32>;
}

/// A set of numbers, of which the least is quickly found: a bit for each, a bit for each 64 of these that has any set,
/// and so on.
#[derive(Debug)]
struct Lowest {
    levels: Vec<Vec<u64>>,
}

impl Lowest {
    fn new(count: usize) -> Self {
        let mut levels = vec![vec![0; count.div_ceil(64).max(1)]];
        while let Some(last) = levels.last().filter(|last| last.len() > 1) {
            let words = last.len().div_ceil(64);
            levels.push(vec![0; words]);
        }
        Self { levels }
    }

    #[inline]
    fn insert(&mut self, mut number: usize) {
        for level in &mut self.levels {
            let word = &mut level[number / 64];
            let had_any = *word != 0;
            *word |= 1 << (number % 64);
            if had_any {
                break;
            }
            number /= 64;
        }
    }

    #[inline]
    fn remove(&mut self, mut number: usize) {
        for level in &mut self.levels {
            let word = &mut level[number / 64];
            *word &= !(1 << (number % 64));
            if *word != 0 {
                break;
            }
            number /= 64;
        }
    }

    #[inline]
    fn get(&self) -> Option<usize> {
        let mut number = 0;
        for level in self.levels.iter().rev() {
            let word = level[number];
            if word == 0 {
                return None;
            }
            number = number * 64 + word.trailing_zeros() as usize;
        }
        Some(number)
    }

    #[inline]
    fn take(&mut self) -> Option<usize> {
        let lowest = self.get()?;
        self.remove(lowest);
        Some(lowest)
    }
}

/// A queue for each height.
#[derive(Debug)]
pub struct Levels {
    levels: Vec<VecDeque<u32>>,
    waiting: Lowest,
}

impl Queue<u8> for Levels {
    fn new(_: &mut [Cell<u8>]) -> Self {
        Self {
            levels: vec![VecDeque::new(); 256],
            waiting: Lowest::new(256),
        }
    }

    #[inline]
    fn push(&mut self, key: u8, voxel: u32) {
        let level = &mut self.levels[usize::from(key)];
        if level.is_empty() {
            self.waiting.insert(usize::from(key));
        }
        level.push_back(voxel);
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        let lowest = self.waiting.get()?;
        let voxel = self.levels[lowest].pop_front();
        if self.levels[lowest].is_empty() {
            self.waiting.remove(lowest);
        }
        voxel
    }
}

/// A place for each voxel, in the order of the heights. Which voxel waits at the place of a height that no other has is
/// known before; of one height, places are filled in the order in which voxels come. The lowest place that is filled is
/// found by a tree of bits, which is small enough to stay in the cache.
#[derive(Debug)]
pub struct Places {
    waiting: Lowest,
    /// A bit for each place: whether it is the first of a height that several voxels have.
    shared: Vec<u64>,
    /// For each place the voxel that waits there; and, at the first place of a shared height, the next one to fill.
    voxels: Vec<[u32; 2]>,
}

const RANGES: u16 = 4096;

/// The voxels that are not closed, by their heights.
struct Flooded<'a>(&'a [Cell<u32>]);

impl Pairs for Flooded<'_> {
    fn for_each(&self, mut each: impl FnMut(u32, u32)) {
        for (p, cell) in (0..).zip(self.0) {
            if cell.flood != CLOSED {
                each(cell.key, p);
            }
        }
    }
}

impl Queue<u32> for Places {
    /// Makes of each key the first place of its height.
    fn new(cells: &mut [Cell<u32>]) -> Self {
        let sorted = sorted(&Flooded(cells), RANGES);
        let mut places = Self {
            waiting: Lowest::new(sorted.len()),
            shared: vec![0; sorted.len().div_ceil(64)],
            voxels: sorted.iter().map(|&pair| [pair as u32, 0]).collect(),
        };
        let mut first = 0;
        for height in sorted.chunk_by(|a, b| a >> 32 == b >> 32) {
            if height.len() > 1 {
                places.shared[first as usize / 64] |= 1 << (first % 64);
                places.voxels[first as usize][1] = first;
            }
            for voxel in height {
                cells[*voxel as u32 as usize].key = first;
            }
            first += height.len() as u32;
        }
        places
    }

    #[inline]
    fn push(&mut self, first: u32, voxel: u32) {
        let mut place = first as usize;
        if self.shared[place / 64] >> (place % 64) & 1 == 1 {
            let next = &mut self.voxels[place][1];
            place = *next as usize;
            *next += 1;
            self.voxels[place][0] = voxel;
        }
        self.waiting.insert(place);
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        let lowest = self.waiting.take()?;
        Some(self.voxels[lowest][0])
    }
}

/// Bits that sort as the numbers do; NaN last, and -0 with 0.
pub(crate) fn sortable(value: f32) -> u32 {
    if value.is_nan() {
        return u32::MAX;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
