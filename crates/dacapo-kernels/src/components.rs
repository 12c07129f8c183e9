//! Connected components: the regions of equal label whose voxels touch.

use std::ops::Range;

use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use crate::error::countable;
use crate::offsets::volume;
use crate::{Error, Label, Result, UnionFind};

/// A slab, the piece that one thread labels, has at least so many voxels.
const SLAB: usize = 1 << 18;

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

    /// The rows before row `line`, both counted through a volume whose planes have so many rows, that hold neighbours of
    /// it, and how much further along x these reach.
    pub(crate) fn lines_before(self, line: usize, rows: usize) -> impl Iterator<Item = (usize, u32)> {
        let (z, y) = (line / rows, line % rows);
        self.rows_before()
            .iter()
            .filter_map(move |&(step_z, step_y, reach)| {
                let z = z.checked_add_signed(step_z)?;
                let y = y.checked_add_signed(step_y).filter(|&y| y < rows)?;
                Some((z * rows + y, reach))
            })
    }
}

/// Numbers the connected regions of equal label from 1, in the order of their first voxels (z, y, x). Background
/// stays 0. `N` is the type of the numbers: `u32`, `u64` or another that holds every `u32`.
///
/// Works on runs of equal voxels along x instead of voxels (He, Chao and Suzuki 2008): slabs find theirs side by
/// side and are then joined at their faces. A run takes 12 bytes.
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
/// [`Error::TooLarge`] if there are 2³² runs, or a row is that long.
pub fn connected_components<T: Label, N>(
    labels: ArrayView3<T>,
    connectivity: Connectivity,
) -> Result<Array3<N>>
where
    N: From<u32> + Copy + Send + Sync,
{
    let mut numbers = Array3::from_elem(labels.raw_dim(), N::from(0));
    if labels.is_empty() {
        return Ok(numbers);
    }
    let [_, rows, columns] = volume(labels.shape());
    countable("voxels of a row", columns)?;
    let labels = labels.as_standard_layout();
    #[allow(clippy::expect_used, reason = "it has just been made so")]
    let values = labels.as_slice().expect("standard layout");
    let slab = SLAB.div_ceil(columns);

    let mut slabs: Vec<Slab> = values
        .par_chunks(slab * columns)
        .enumerate()
        .map(|(index, values)| Slab::new(values, [rows, columns], index * slab, connectivity))
        .collect();
    countable(
        "runs of equal voxels",
        slabs.iter().map(|slab| slab.runs.len()).sum(),
    )?;

    // The forests of the slabs become one, each behind those before it.
    let mut forest = UnionFind::new(0);
    let mut firsts = Vec::with_capacity(slabs.len());
    for slab in &mut slabs {
        firsts.push(forest.append(std::mem::take(&mut slab.forest)));
    }
    for index in 1..slabs.len() {
        join_before(
            &slabs,
            &firsts,
            index,
            [rows, columns],
            values,
            connectivity,
            &mut forest,
        );
    }

    // A region's first run is the name of its set.
    let numbering = forest.into_numbers();
    #[allow(clippy::expect_used, reason = "it has just been made")]
    let output = numbers.as_slice_mut().expect("standard layout");
    output
        .par_chunks_mut(slab * columns)
        .zip(slabs.par_iter().zip(&firsts))
        .for_each(|(output, (slab, &first))| {
            let mut numbers = numbering[first as usize..].iter();
            for (line, output) in output.chunks_exact_mut(columns).enumerate() {
                for (run, &number) in slab.line(line).iter().zip(&mut numbers) {
                    output[run.start as usize..run.end as usize].fill(N::from(number));
                }
            }
        });
    Ok(numbers)
}

/// Equal voxels side by side: where they begin in their row, and where they end.
#[derive(Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
}

/// Rows of a volume that one thread works on.
struct Slab {
    /// Its first row, counted through the volume.
    begin: usize,
    runs: Vec<Run>,
    /// Where the runs of each row begin, and where those of the last end.
    lines: Vec<u32>,
    forest: UnionFind,
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
            runs: Vec::new(),
            lines: Vec::with_capacity(values.len() / columns + 1),
            forest: UnionFind::new(0),
        };
        slab.lines.push(0);
        for row in values.chunks_exact(columns) {
            let mut start = 0;
            while start < columns {
                let value = row[start];
                let length = row[start..].iter().position(|&other| other != value);
                let end = length.map_or(columns, |length| start + length);
                if value != T::BACKGROUND {
                    slab.runs.push(Run {
                        start: start as u32,
                        end: end as u32,
                    });
                }
                start = end;
            }
            // A slab that outgrows 32 bits is refused by its caller.
            slab.lines.push(slab.runs.len() as u32);
        }
        if slab.runs.len() >= u32::MAX as usize {
            return slab;
        }
        let mut forest = UnionFind::new(slab.runs.len() as u32);
        for line in 0..slab.lines.len() - 1 {
            for (before, reach) in connectivity.lines_before(begin + line, rows) {
                if let Some(before) = before.checked_sub(begin) {
                    let row = |line: usize| Row {
                        first: slab.lines[line],
                        runs: slab.line(line),
                        values: &values[line * columns..][..columns],
                    };
                    join(&row(line), &row(before), reach, &mut forest);
                }
            }
        }
        slab.forest = forest;
        slab
    }

    /// The runs of its row `line`.
    fn line(&self, line: usize) -> &[Run] {
        &self.runs[self.lines[line] as usize..self.lines[line + 1] as usize]
    }

    fn range(&self) -> Range<usize> {
        self.begin..self.begin + self.lines.len() - 1
    }
}

/// A row of voxels: its runs, and the number of the first of them.
struct Row<'a, T> {
    first: u32,
    runs: &'a [Run],
    values: &'a [T],
}

/// Joins the runs of two rows that have the same label and overlap, or come within `reach` of it.
fn join<T: Label>(row: &Row<T>, before: &Row<T>, reach: u32, forest: &mut UnionFind) {
    let mut other = 0;
    for (index, run) in row.runs.iter().enumerate() {
        let value = row.values[run.start as usize];
        // No later run of this row reaches those that end before this one begins.
        while before
            .runs
            .get(other)
            .is_some_and(|before| before.end + reach <= run.start)
        {
            other += 1;
        }
        for (index_before, run_before) in before.runs.iter().enumerate().skip(other) {
            if run_before.start >= run.end + reach {
                break;
            }
            if before.values[run_before.start as usize] == value {
                forest.union(row.first + index as u32, before.first + index_before as u32);
            }
        }
    }
}

/// Joins slab `index` to those before it.
fn join_before<T: Label>(
    slabs: &[Slab],
    firsts: &[u32],
    index: usize,
    [rows, columns]: [usize; 2],
    values: &[T],
    connectivity: Connectivity,
    forest: &mut UnionFind,
) {
    let row = |index: usize, line: usize| {
        let slab = &slabs[index];
        Row {
            first: firsts[index] + slab.lines[line - slab.begin],
            runs: slab.line(line - slab.begin),
            values: &values[line * columns..][..columns],
        }
    };
    let slab = &slabs[index];
    // No neighbour is further back than a plane and a row.
    let range = slab.range();
    for line in range.start..range.end.min(range.start + rows + 1) {
        for (before, reach) in connectivity.lines_before(line, rows) {
            if before < slab.begin {
                let owner = slabs[..index].partition_point(|slab| slab.begin <= before) - 1;
                join(&row(index, line), &row(owner, before), reach, forest);
            }
        }
    }
}
