//! How two labellings of the same voxels overlap. What follows from it for a segmentation is not decided here.

use std::ops::AddAssign;

use ndarray::{ArrayView3, CowArray, Ix3};
use rayon::prelude::*;

use crate::entropy::{bits, information};
use crate::error::same_shape;
use crate::hash::IdMap;
use crate::offsets::volume;
use crate::{Id, Result, Voi};

/// Rows are counted in pieces of at least so many voxels.
const PIECE: usize = 1 << 18;

/// What a true object and a segment share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The id of the true object.
    pub truth: u64,
    /// The id of the segment.
    pub segment: u64,
    /// The voxels that are in both.
    pub voxels: u64,
    /// The first of these voxels (z, y, x): a place to look at.
    pub first: [u64; 3],
}

/// For each pair of a true object and a segment, the voxels that they share, whatever their ids: 0 is an id like any
/// other. Only pairs that share some are there, so its size is that of the overlaps, not of the ids. Tables of
/// parts of a volume add up to that of the whole.
///
/// ```
/// use dacapo_kernels::ContingencyTable;
/// use ndarray::array;
///
/// let (truth, segments) = (array![[[1u8, 1, 2, 2]]], array![[[7u64, 7, 7, 9]]]);
/// let table = ContingencyTable::new(truth.view(), segments.view())?;
/// assert_eq!(table.overlaps().len(), 3);
/// assert_eq!(table.voi().unwrap().split, 0.5);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContingencyTable {
    /// Ordered by the ids.
    overlaps: Vec<Overlap>,
}

/// Voxels of a pair, and the first of them by its flat index.
type Counts = IdMap<(u64, u64), (u64, u64)>;

impl ContingencyTable {
    /// Of two labellings of a whole volume.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn new<A: Id, B: Id>(truth: ArrayView3<A>, segmentation: ArrayView3<B>) -> Result<Self> {
        Self::of_block(truth, segmentation, None, [0; 3])
    }

    /// Of a part of a volume that begins at `origin` (z, y, x), of those voxels only that `counted` names.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn of_block<A: Id, B: Id>(
        truth: ArrayView3<A>,
        segmentation: ArrayView3<B>,
        counted: Option<ArrayView3<bool>>,
        origin: [u64; 3],
    ) -> Result<Self> {
        same_shape("segmentation", segmentation.shape(), truth.shape())?;
        if let Some(counted) = counted {
            same_shape("volume of voxels that count", counted.shape(), truth.shape())?;
        }
        if truth.is_empty() {
            return Ok(Self::default());
        }
        let [_, rows, columns] = volume(truth.shape());
        let (truth, segmentation) = (truth.as_standard_layout(), segmentation.as_standard_layout());
        let counted = counted.as_ref().map(|counted| counted.as_standard_layout());
        let (truth, segmentation) = (slice(&truth), slice(&segmentation));
        let counted = counted.as_ref().map(slice);

        let pieces = truth
            .par_chunks(PIECE)
            .zip(segmentation.par_chunks(PIECE))
            .enumerate();
        let counts = pieces
            .fold(Counts::default, |mut counts, (piece, (truth, segmentation))| {
                let begin = piece * PIECE;
                match counted {
                    None => count(truth, segmentation, begin, &mut counts),
                    Some(counted) => {
                        let mut at = 0;
                        let piece = &counted[begin..begin + truth.len()];
                        for run in piece.chunk_by(|a, b| a == b) {
                            let end = at + run.len();
                            if run[0] {
                                count(&truth[at..end], &segmentation[at..end], begin + at, &mut counts);
                            }
                            at = end;
                        }
                    }
                }
                counts
            })
            .reduce(Counts::default, |a, b| {
                let (mut more, less) = if a.len() < b.len() { (b, a) } else { (a, b) };
                for (pair, (voxels, first)) in less {
                    add(&mut more, pair, voxels, first);
                }
                more
            });
        let mut overlaps: Vec<Overlap> = counts
            .into_iter()
            .map(|((truth, segment), (voxels, first))| {
                let (row, x) = (first / columns as u64, first % columns as u64);
                let place = [row / rows as u64, row % rows as u64, x];
                Overlap {
                    truth,
                    segment,
                    voxels,
                    first: std::array::from_fn(|axis| origin[axis] + place[axis]),
                }
            })
            .collect();
        overlaps.sort_unstable_by_key(ids);
        Ok(Self { overlaps })
    }

    /// The overlaps, ordered by the ids of object and segment.
    pub fn overlaps(&self) -> &[Overlap] {
        &self.overlaps
    }

    /// Drops the overlaps that `keep` refuses: those of background, say.
    pub fn retain(&mut self, keep: impl FnMut(&Overlap) -> bool) {
        self.overlaps.retain(keep);
    }

    /// The voxels that count.
    pub fn total(&self) -> u64 {
        self.overlaps.iter().map(|overlap| overlap.voxels).sum()
    }

    /// The true objects and their voxels, ordered by id.
    pub fn objects(&self) -> Vec<(u64, u64)> {
        sizes(
            self.overlaps
                .iter()
                .map(|overlap| (overlap.truth, overlap.voxels)),
        )
    }

    /// The segments and their voxels, ordered by id.
    pub fn segments(&self) -> Vec<(u64, u64)> {
        sizes(
            self.overlaps
                .iter()
                .map(|overlap| (overlap.segment, overlap.voxels)),
        )
    }

    /// The variation of information, or nothing where no voxel counts. Its sums are exact: tables that are equal
    /// have equal scores, to the last bit, whatever they were added up from.
    pub fn voi(&self) -> Option<Voi> {
        let sum = |sizes: &[(u64, u64)]| sizes.iter().map(|&(_, voxels)| information(voxels)).sum();
        let shared = self
            .overlaps
            .iter()
            .map(|overlap| information(overlap.voxels))
            .sum();
        Voi::new(sum(&self.objects()), sum(&self.segments()), shared, self.total())
    }

    /// What each true object adds to [`Voi::split`], in bits, ordered by id.
    pub fn splits(&self) -> Vec<(u64, f64)> {
        self.shares(self.objects(), |overlap| overlap.truth)
    }

    /// What each segment adds to [`Voi::merge`], in bits, ordered by id.
    pub fn merges(&self) -> Vec<(u64, f64)> {
        self.shares(self.segments(), |overlap| overlap.segment)
    }

    fn shares(&self, sizes: Vec<(u64, u64)>, id: impl Fn(&Overlap) -> u64) -> Vec<(u64, f64)> {
        let total = self.total();
        let mut shared: IdMap<u64, i128> = IdMap::default();
        for overlap in &self.overlaps {
            *shared.entry(id(overlap)).or_default() += information(overlap.voxels);
        }
        let share = |id, voxels| bits(information(voxels) - shared[&id], total);
        sizes
            .into_iter()
            .map(|(id, voxels)| (id, share(id, voxels)))
            .collect()
    }
}

impl AddAssign<&Self> for ContingencyTable {
    fn add_assign(&mut self, other: &Self) {
        let mine = std::mem::take(&mut self.overlaps);
        self.overlaps.reserve(mine.len() + other.overlaps.len());
        let (mut mine, mut theirs) = (mine.into_iter().peekable(), other.overlaps.iter().peekable());
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            let mut next = **b;
            match ids(a).cmp(&ids(b)) {
                std::cmp::Ordering::Less => {
                    next = *a;
                    mine.next();
                }
                std::cmp::Ordering::Greater => {
                    theirs.next();
                }
                std::cmp::Ordering::Equal => {
                    next.voxels += a.voxels;
                    next.first = next.first.min(a.first);
                    mine.next();
                    theirs.next();
                }
            }
            self.overlaps.push(next);
        }
        self.overlaps.extend(mine);
        self.overlaps.extend(theirs);
    }
}

fn ids(overlap: &Overlap) -> (u64, u64) {
    (overlap.truth, overlap.segment)
}

fn sizes(parts: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut sizes: IdMap<u64, u64> = IdMap::default();
    for (id, voxels) in parts {
        *sizes.entry(id).or_default() += voxels;
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_unstable();
    sizes
}

fn add(counts: &mut Counts, pair: (u64, u64), voxels: u64, first: u64) {
    let entry = counts.entry(pair).or_insert((0, first));
    entry.0 += voxels;
    entry.1 = entry.1.min(first);
}

/// Counts the pairs of two lines of voxels, of which the first has the flat index `begin`. Labels come in runs: the
/// table is only asked once a run.
fn count<A: Id, B: Id>(truth: &[A], segmentation: &[B], begin: usize, counts: &mut Counts) {
    const STRIDE: usize = 4;
    let mut at = 0;
    while at < truth.len() {
        let (a, b) = (truth[at], segmentation[at]);
        let mut end = at + 1;
        // No branch a voxel: the compiler compares several at once.
        while end + STRIDE <= truth.len() {
            let pairs = truth[end..end + STRIDE]
                .iter()
                .zip(&segmentation[end..end + STRIDE]);
            if !pairs.fold(true, |same, (&x, &y)| same & (x == a) & (y == b)) {
                break;
            }
            end += STRIDE;
        }
        while end < truth.len() && truth[end] == a && segmentation[end] == b {
            end += 1;
        }
        add(
            counts,
            (a.into(), b.into()),
            (end - at) as u64,
            (begin + at) as u64,
        );
        at = end;
    }
}

fn slice<'a, T>(volume: &'a CowArray<T, Ix3>) -> &'a [T] {
    #[allow(clippy::expect_used, reason = "the caller has just made it so")]
    volume.as_slice().expect("standard layout")
}
