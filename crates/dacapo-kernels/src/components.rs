//! Connected components: the regions of equal label whose voxels touch.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, ArrayViewMut3};
use rayon::prelude::*;

use crate::error::{countable, same_shape};
use crate::offsets::volume;
use crate::runs::{for_each_place, push_ends, words};
use crate::{Error, Label, Result, UnionFind};

/// A slab, the piece that one thread labels, has at least so many voxels.
const SLAB: usize = 1 << 18;
/// And as many more as make so many slabs, because one thread alone joins them. Its runs always fit into 32 bits.
const SLABS: usize = 32;
const SLAB_MOST: usize = 1 << 30;

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Connectivity {
    /// Those that share a face: 6 neighbours, 4 in an image.
    #[default]
    Faces,
    /// Those that share a face or an edge: 18 neighbours, 8 in an image.
    Edges,
    /// Those that share a face, an edge or a corner: 26 neighbours, 8 in an image.
    Corners,
}

impl Connectivity {
    /// By the number of neighbours: 6, 18 or 26 in a volume, 4 or 8 in an image, which is a volume of depth 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other number.
    pub fn from_neighbors(count: u32) -> Result<Self> {
        match count {
            4 | 6 => Ok(Self::Faces),
            8 | 18 => Ok(Self::Edges),
            26 => Ok(Self::Corners),
            _ => Err(Error::Parameter {
                name: "the connectivity",
                value: f64::from(count),
                expected: "4 or 8 in an image, 6, 18 or 26 in a volume",
            }),
        }
    }

    /// The steps (z, y, x) to the neighbours of a voxel: those over faces before those over edges and corners, each in
    /// the order of the volume.
    pub(crate) fn neighbors(self) -> Vec<[isize; 3]> {
        let most = match self {
            Self::Faces => 1,
            Self::Edges => 2,
            Self::Corners => 3,
        };
        let all = (0..27).map(|n| [n / 9 - 1, n / 3 % 3 - 1, n % 3 - 1]);
        let length = |step: &[isize; 3]| step.iter().map(|n| n.abs()).sum::<isize>();
        let mut steps: Vec<_> = all.filter(|step| (1..=most).contains(&length(step))).collect();
        steps.sort_by_key(length);
        steps
    }

    /// The rows before a row that hold neighbours of its voxels, as steps (z, y), and how much further along x
    /// than the voxel itself these reach.
    fn rows_before(self) -> &'static [(isize, isize, u32)] {
        match self {
            Self::Faces => &[(0, -1, 0), (-1, 0, 0)],
            Self::Edges => &[(0, -1, 1), (-1, -1, 0), (-1, 0, 1), (-1, 1, 0)],
            Self::Corners => &[(0, -1, 1), (-1, -1, 1), (-1, 0, 1), (-1, 1, 1)],
        }
    }

    /// Visits the rows before row `line`, both counted through a volume whose planes have so many rows, that hold
    /// neighbours of it, and says how much further along x these reach.
    #[inline(always)]
    pub(crate) fn for_each_line_before(self, line: usize, rows: usize, mut visit: impl FnMut(usize, u32)) {
        let (z, y) = (line / rows, line % rows);
        for &(step_z, step_y, reach) in self.rows_before() {
            let (z, y) = (z.wrapping_add_signed(step_z), y.wrapping_add_signed(step_y));
            if z < usize::MAX && y < rows {
                visit(z * rows + y, reach);
            }
        }
    }
}

/// Numbers the connected regions of equal label from 1, in the order of their first voxels (z, y, x). Background
/// stays 0. `N` is the type of the numbers: `u32`, `u64` or another that holds every `u32`.
///
/// Works on runs of equal voxels along x instead of voxels (He, Chao and Suzuki 2008): slabs find theirs side by
/// side and are then joined at their faces. A voxel of scratch takes a bit, and a run 2 bytes or 4.
///
/// ```
/// use dacapo_kernels::{Connectivity, connected_components};
/// use ndarray::{Array3, array};
///
/// let labels = array![[[7u8, 0, 7], [0, 7, 7]]];
/// let components: Array3<u32> = connected_components(labels.view(), Connectivity::Faces)?;
/// assert_eq!(components, array![[[1, 0, 2], [0, 2, 2]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::TooLarge`] if a row has 2³² voxels, or pieces of the volume have so many regions.
pub fn connected_components<T: Label, N>(
    labels: ArrayView3<T>,
    connectivity: Connectivity,
) -> Result<Array3<N>>
where
    N: From<u32> + Copy + Send + Sync,
{
    let mut numbers = Array3::from_elem(labels.raw_dim(), N::from(0));
    #[allow(clippy::expect_used, reason = "it has just been made so")]
    let output = numbers.as_slice_mut().expect("standard layout");
    number(labels, connectivity, output)?;
    Ok(numbers)
}

/// The same as [`connected_components`], written over what is in `numbers`, in whatever layout. Returns how many there
/// are. Where one volume after another is segmented, no fresh memory of that size is asked for.
///
/// ```
/// use dacapo_kernels::{Connectivity, connected_components_into};
/// use ndarray::{Array3, array};
///
/// let mut numbers = Array3::<u32>::zeros((1, 1, 3));
/// let one_after_another = [
///     (array![[[7u8, 0, 7]]], array![[[1, 0, 2]]]),
///     (array![[[0, 5, 5]]], array![[[0, 1, 1]]]),
/// ];
/// for (labels, expected) in one_after_another {
///     let count = connected_components_into(labels.view(), Connectivity::Faces, numbers.view_mut())?;
///     assert_eq!((&numbers, count), (&expected, expected[[0, 0, 2]]));
/// }
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// Those of [`connected_components`], and [`Error::Shape`] if the volumes differ in shape.
pub fn connected_components_into<T: Label, N>(
    labels: ArrayView3<T>,
    connectivity: Connectivity,
    mut numbers: ArrayViewMut3<N>,
) -> Result<u32>
where
    N: From<u32> + Copy + Send + Sync,
{
    same_shape("volume of numbers", numbers.shape(), labels.shape())?;
    if let Some(output) = numbers.as_slice_mut() {
        return number(labels, connectivity, output);
    }
    let mut standard = Array3::from_elem(labels.raw_dim(), N::from(0));
    #[allow(clippy::expect_used, reason = "it has just been made so")]
    let output = standard.as_slice_mut().expect("standard layout");
    let count = number(labels, connectivity, output)?;
    numbers.assign(&standard);
    Ok(count)
}

/// Numbers the regions in `output`, and returns how many there are.
fn number<T: Label, N>(labels: ArrayView3<T>, connectivity: Connectivity, output: &mut [N]) -> Result<u32>
where
    N: From<u32> + Copy + Send + Sync,
{
    if labels.is_empty() {
        return Ok(0);
    }
    let [_, rows, columns] = volume(labels.shape());
    countable("voxels of a row", columns)?;
    let labels = labels.as_standard_layout();
    #[allow(clippy::expect_used, reason = "it has just been made so")]
    let values = labels.as_slice().expect("standard layout");
    let slab = (values.len() / SLABS).clamp(SLAB, SLAB_MOST).div_ceil(columns);

    let slabs: Vec<Slab> = values
        .par_chunks(slab * columns)
        .enumerate()
        .map(|(index, values)| Slab::new(values, [rows, columns], index * slab, connectivity))
        .collect();
    let sets = slabs.iter().map(|slab| slab.count as usize);
    countable("regions of pieces of the volume", sets.sum())?;

    // The sets of the slabs are numbered through, each slab's behind those before it.
    let mut forest = UnionFind::new(0);
    let begins: Vec<u32> = slabs.iter().map(|slab| forest.grow(slab.count)).collect();
    for index in 1..slabs.len() {
        forest.union(begins[index], 0);
        join_before(
            &slabs,
            &begins,
            index,
            [rows, columns],
            values,
            connectivity,
            &mut forest,
        );
    }

    // A region's first set is the name of all of it; background is number 1.
    let numbering = forest.into_numbers();
    output
        .par_chunks_mut(slab * columns)
        .zip(slabs.par_iter().zip(&begins))
        .for_each(|(output, (slab, &begin))| {
            let numbering = &numbering[begin as usize..][..slab.count as usize];
            let mut run = 0;
            for (line, begin) in (0..output.len()).step_by(columns).enumerate() {
                let mut start = begin;
                for_each_place(slab.ends(line).iter().copied(), |last| {
                    let number = numbering[slab.sets.of(run) as usize] - 1;
                    write_run(output, start..begin + last + 1, N::from(number));
                    (start, run) = (begin + last + 1, run + 1);
                });
            }
        });
    Ok(numbering.iter().max().map_or(0, |count| count - 1))
}

/// Writes a run, and perhaps over what follows, which is written later. Most are short, and how long one is cannot be
/// foreseen.
#[inline(always)]
fn write_run<N: Copy>(output: &mut [N], run: Range<usize>, number: N) {
    const BLOCK: usize = 32;
    let mut at = run.start;
    while at < run.end {
        match output[at..].first_chunk_mut::<BLOCK>() {
            Some(block) => *block = [number; BLOCK],
            None => output[at..run.end].fill(number),
        }
        at += BLOCK;
    }
}

/// Rows of a volume that one thread works on.
struct Slab {
    /// Its first row, counted through the volume.
    begin: usize,
    /// Where the runs of its rows end, as bits; so many words a row.
    ends: Vec<u64>,
    words: usize,
    /// The number of the first run of each row, background's counted too, and of the last one's end.
    lines: Vec<u32>,
    sets: Sets,
    /// How many sets there are, with background, which is set 0.
    count: u32,
}

impl Slab {
    /// Finds the runs of rows from `begin` on, and joins those that touch within them.
    fn new<T: Label>(
        values: &[T],
        [rows, columns]: [usize; 2],
        begin: usize,
        connectivity: Connectivity,
    ) -> Self {
        let mut slab = Self {
            begin,
            ends: Vec::with_capacity(values.len() / columns * words(columns)),
            words: words(columns),
            lines: Vec::with_capacity(values.len() / columns + 1),
            sets: Sets::Narrow(Vec::new()),
            count: 0,
        };
        // Member 0 is background, so that a run is one further.
        let mut forest = UnionFind::new(1);
        // The label of each run, but for those that are forgotten.
        let (mut labels, mut forgotten) = (Vec::new(), 0);
        let mut touching = Touching::default();
        slab.lines.push(0);
        for (line, row) in values.chunks_exact(columns).enumerate() {
            push_ends(row, &mut slab.ends);
            for_each_place(slab.ends(line).iter().copied(), |last| {
                let label = row[last];
                labels.push(label);
                forest.push(if label == T::BACKGROUND { 0 } else { forest.len() });
            });
            slab.lines.push(forest.len() - 1);
            connectivity.for_each_line_before(begin + line, rows, |before, reach| {
                if let Some(before) = before.checked_sub(begin) {
                    let (first, first_before) = (slab.lines[line], slab.lines[before]);
                    let labels = |line: usize| {
                        let [begin, end] = [slab.lines[line], slab.lines[line + 1]];
                        &labels[(begin - forgotten) as usize..(end - forgotten) as usize]
                    };
                    let row = Row {
                        ends: slab.ends(line),
                        labels: labels(line),
                    };
                    let row_before = Row {
                        ends: slab.ends(before),
                        labels: labels(before),
                    };
                    for (a, b) in touching.of(&row, &row_before, reach) {
                        forest.union(first + 1 + a, first_before + 1 + b);
                    }
                }
            });
            // No neighbour of the next row is further back than a plane and a row.
            let asked_for = slab.lines[line.saturating_sub(rows)];
            if (asked_for - forgotten) as usize > labels.len() / 2 {
                labels.drain(..(asked_for - forgotten) as usize);
                forgotten = asked_for;
            }
        }
        let numbers = forest.into_numbers();
        slab.count = numbers.iter().copied().max().unwrap_or(0);
        slab.sets = Sets::new(&numbers[1..], slab.count);
        slab
    }

    /// Where the runs of its row `line` end.
    fn ends(&self, line: usize) -> &[u64] {
        &self.ends[line * self.words..][..self.words]
    }

    fn range(&self) -> Range<usize> {
        self.begin..self.begin + self.lines.len() - 1
    }
}

/// The set of each run.
enum Sets {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Sets {
    /// From numbers that count from 1 up to `count`.
    fn new(numbers: &[u32], count: u32) -> Self {
        if count <= 1 << u16::BITS {
            Self::Narrow(numbers.iter().map(|number| (number - 1) as u16).collect())
        } else {
            Self::Wide(numbers.iter().map(|number| number - 1).collect())
        }
    }

    #[inline]
    fn of(&self, run: u32) -> u32 {
        match self {
            Self::Narrow(sets) => u32::from(sets[run as usize]),
            Self::Wide(sets) => sets[run as usize],
        }
    }
}

/// A row of voxels: where its runs end, and the label of each.
struct Row<'a, T> {
    ends: &'a [u64],
    labels: &'a [T],
}

/// Finds the runs of two rows that touch and have the same label. Kept for its memory.
#[derive(Default)]
struct Touching {
    pairs: Vec<Pair>,
    corners: Vec<Pair>,
}

/// Which run of one row, in the lower half, and which of the other.
type Pair = u64;

const ONE_BEFORE: Pair = 1 << 32;

impl Touching {
    /// Which of a row and which of the other overlap, or come within `reach` of it, which is 0 or 1.
    fn of<T: Label>(
        &mut self,
        row: &Row<T>,
        before: &Row<T>,
        reach: u32,
    ) -> impl Iterator<Item = (u32, u32)> {
        let pairs = match reach {
            0 => self.find::<T, false>(row, before),
            _ => self.find::<T, true>(row, before),
        };
        pairs.iter().map(|&pair| (pair as u32, (pair >> 32) as u32))
    }

    /// Between two ends of runs of either row nothing changes, so it is enough to look there. Whether a pair is one cannot
    /// be foreseen, so each is written down, and the next one over it if it is none: a wrong guess would take longer.
    fn find<T: Label, const CORNERS: bool>(&mut self, row: &Row<T>, before: &Row<T>) -> &[Pair] {
        let (here, there) = (row.labels, before.labels);
        // Where both end are two more. One is written over.
        let most = here.len() + there.len() + 2 * here.len().min(there.len()) + 1;
        if self.pairs.len() < most {
            self.pairs.resize(most, 0);
            self.corners.resize(most, 0);
        }
        let (pairs, corners) = (&mut self.pairs[..most], &mut self.corners[..most]);
        let mut count = 0;
        let mut note = |pair: Pair| {
            pairs[count] = pair;
            let label = here[pair as u32 as usize];
            let is_one = (label == there[(pair >> 32) as usize]) & (label != T::BACKGROUND);
            count += usize::from(is_one);
        };
        let (mut pair, mut ended) = (0, 0);
        for (&ends, &ends_before) in row.ends.iter().zip(before.ends) {
            let mut open = ends | ends_before;
            while open != 0 {
                let bit = open.trailing_zeros();
                open &= open - 1;
                note(pair);
                let (is_end, is_end_before) = (ends >> bit & 1, ends_before >> bit & 1);
                if CORNERS {
                    corners[ended] = pair;
                    ended += (is_end & is_end_before) as usize;
                }
                pair += is_end | is_end_before << 32;
            }
        }
        if CORNERS {
            // The last voxels of the rows have nothing behind them.
            for &pair in &corners[..ended.saturating_sub(1)] {
                note(pair + ONE_BEFORE);
                note(pair + 1);
            }
        }
        &self.pairs[..count]
    }
}

/// Joins slab `index` to those before it.
fn join_before<T: Label>(
    slabs: &[Slab],
    begins: &[u32],
    index: usize,
    [rows, columns]: [usize; 2],
    values: &[T],
    connectivity: Connectivity,
    forest: &mut UnionFind,
) {
    let labels = |slab: &Slab, line: usize, labels: &mut Vec<T>| {
        labels.clear();
        let row = &values[line * columns..][..columns];
        for_each_place(slab.ends(line - slab.begin).iter().copied(), |last| {
            labels.push(row[last])
        });
    };
    let (mut here, mut there, mut touching) = (Vec::new(), Vec::new(), Touching::default());
    let slab = &slabs[index];
    // No neighbour is further back than a plane and a row.
    let range = slab.range();
    for line in range.start..range.end.min(range.start + rows + 1) {
        labels(slab, line, &mut here);
        connectivity.for_each_line_before(line, rows, |before, reach| {
            if before >= slab.begin {
                return;
            }
            let owner = slabs[..index].partition_point(|slab| slab.begin <= before) - 1;
            let other = &slabs[owner];
            labels(other, before, &mut there);
            let row = Row {
                ends: slab.ends(line - slab.begin),
                labels: &here,
            };
            let row_before = Row {
                ends: other.ends(before - other.begin),
                labels: &there,
            };
            let first = slab.lines[line - slab.begin];
            let first_before = other.lines[before - other.begin];
            for (a, b) in touching.of(&row, &row_before, reach) {
                forest.union(
                    begins[index] + slab.sets.of(first + a),
                    begins[owner] + other.sets.of(first_before + b),
                );
            }
        });
    }
}
