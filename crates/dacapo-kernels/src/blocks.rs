//! Segmenting by blocks: what a block has to tell the others, and how they become one. Reading, writing and scheduling
//! are the caller's; results depend neither on the order nor on the number of workers.
//!
//! **Components.** Each block is labelled with one more voxel behind it along each axis, wherever the volume goes on
//! ([`block_components`]). What two blocks say of the same voxels is the same component ([`ComponentJoin`]); the
//! tables that come of it are applied with [`crate::remap_by_table`]. Equal to [`crate::connected_components`] of the
//! whole volume, number by number.
//!
//! **Fragments.** Each block is segmented with as much context as the method wants; its ids become those of the volume
//! ([`number_block`]), and it is cut to its size. Two blocks see the voxels around their common face both: what they
//! agree on there is one fragment that the face cut ([`same_fragments`], [`Remap::joining`]).
//! [`ContactGraph::of_block`](crate::ContactGraph::of_block) counts the links that begin in a block; the sum over blocks is
//! the graph of the volume, in which the parts of a fragment are made one
//! ([`ContactGraph::joined`](crate::ContactGraph::joined)). It is solved at once
//! ([`MergeHistory`](crate::MergeHistory), [`ContactGraph::mutex_watershed`](crate::ContactGraph::mutex_watershed)) and
//! applied block by block ([`Remap::then`], [`Remap::apply`]).

use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis, Slice, s};

use crate::error::countable;
use crate::{
    Connectivity, ContingencyTable, Error, Label, Remap, Result, UnionFind, Unlisted, connected_components,
    unique,
};

/// The components of a block, by numbers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockComponents {
    /// Numbers from 1, of the voxels behind the block too.
    pub numbers: Array3<u32>,
    /// What other blocks have to know.
    pub faces: ComponentFaces,
}

/// What other blocks have to know of the components of a block: its outermost planes, and where each component
/// begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentFaces {
    /// Places (z, y, x) in the volume, and the numbers from there on.
    planes: Vec<([u64; 3], Array3<u32>)>,
    /// The first voxel of each component, by number.
    firsts: Vec<[u64; 3]>,
}

/// The components of a block that begins at `origin` (z, y, x). Its labels have one more voxel along each axis, behind
/// it, wherever the volume goes on: so every pair of neighbours is in a block, over edges and corners too.
///
/// # Errors
/// Those of [`connected_components`].
pub fn block_components<T: Label>(
    labels: ArrayView3<T>,
    origin: [u64; 3],
    connectivity: Connectivity,
) -> Result<BlockComponents> {
    let numbers: Array3<u32> = connected_components(labels, connectivity)?;
    let mut firsts: Vec<[u64; 3]> = Vec::new();
    for ((z, y, x), &number) in numbers.indexed_iter() {
        // They are numbered in the order of their first voxels.
        if number as usize > firsts.len() {
            firsts.push([origin[0] + z as u64, origin[1] + y as u64, origin[2] + x as u64]);
        }
    }
    let mut planes = Vec::new();
    for axis in 0..3 {
        let length = numbers.len_of(Axis(axis));
        let ends = if length < 2 { 0..length } else { 0..2 };
        for at in ends.map(|end| end * (length - 1)) {
            let mut place = origin;
            place[axis] += at as u64;
            let plane = numbers.slice_axis(Axis(axis), Slice::from(at..at + 1)).to_owned();
            planes.push((place, plane));
        }
    }
    let faces = ComponentFaces { planes, firsts };
    Ok(BlockComponents { numbers, faces })
}

/// Makes one numbering of the components of blocks.
///
/// ```
/// use dacapo_kernels::{ComponentJoin, Connectivity, block_components, remap_by_table};
/// use ndarray::array;
///
/// // A row of five voxels in blocks of two, the first two of which see one voxel more.
/// let row = array![[[7u8, 7, 7, 0, 7]]];
/// let view = |range: std::ops::Range<usize>| row.slice(ndarray::s![.., .., range]);
/// let blocks = [(0..3, 0), (2..5, 2), (4..5, 4)]
///     .map(|(range, at)| block_components(view(range), [0, 0, at], Connectivity::Faces).unwrap());
/// let mut join = ComponentJoin::default();
/// let ids = blocks.each_ref().map(|block| join.add(&block.faces).unwrap());
/// join.join((ids[0], &blocks[0].faces), (ids[1], &blocks[1].faces));
/// join.join((ids[1], &blocks[1].faces), (ids[2], &blocks[2].faces));
/// let tables = join.finish();
/// assert_eq!(tables[ids[0]], [0, 1]);
/// assert_eq!(tables[ids[1]], [0, 1, 2]);
/// assert_eq!(tables[ids[2]], [0, 2]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ComponentJoin {
    /// Where the components of each block begin among all.
    begins: Vec<usize>,
    firsts: Vec<[u64; 3]>,
    sets: UnionFind,
}

impl ComponentJoin {
    /// Adds a block, and returns its place among the tables that [`finish`](Self::finish) returns.
    ///
    /// # Errors
    /// [`Error::TooLarge`] from 2³² components of blocks on.
    pub fn add(&mut self, faces: &ComponentFaces) -> Result<usize> {
        countable("components of blocks", self.firsts.len() + faces.firsts.len())?;
        self.begins.push(self.firsts.len());
        self.firsts.extend(&faces.firsts);
        self.sets.grow(faces.firsts.len() as u32);
        Ok(self.begins.len() - 1)
    }

    /// Joins what two blocks, given by their places and faces, say of the same voxels. To be called for every two blocks
    /// that touch, at faces, edges and corners, in any order; blocks that do not touch have nothing in common.
    pub fn join(&mut self, a: (usize, &ComponentFaces), b: (usize, &ComponentFaces)) {
        for (place_a, plane_a) in &a.1.planes {
            for (place_b, plane_b) in &b.1.planes {
                let Some([in_a, in_b]) = common(place_a, plane_a.view(), place_b, plane_b.view()) else {
                    continue;
                };
                let mut last = (0, 0);
                for (&number_a, &number_b) in in_a.iter().zip(&in_b) {
                    // Both are background, or none.
                    if (number_a, number_b) != last && number_a != 0 && number_b != 0 {
                        last = (number_a, number_b);
                        let member = |begin: usize, number: u32| (begin + number as usize - 1) as u32;
                        let a = member(self.begins[a.0], number_a);
                        self.sets.union(a, member(self.begins[b.0], number_b));
                    }
                }
            }
        }
    }

    /// For each block the number of each of its components in the volume, by its number in the block; that of 0 is 0.
    /// They are numbered from 1 in the order of their first voxels.
    pub fn finish(mut self) -> Vec<Vec<u64>> {
        let count = self.firsts.len() as u32;
        let mut firsts: Vec<([u64; 3], u32)> = (0..count)
            .map(|member| (self.firsts[member as usize], member))
            .collect();
        firsts.sort_unstable();
        let mut numbers = vec![0u64; count as usize];
        let mut last = 0;
        for (_, member) in firsts {
            let set = self.sets.find(member) as usize;
            if numbers[set] == 0 {
                last += 1;
                numbers[set] = last;
            }
        }
        let ends = self.begins.iter().skip(1).copied().chain([count as usize]);
        let ranges: Vec<_> = self.begins.iter().copied().zip(ends).collect();
        let mut table = |(begin, end): (usize, usize)| {
            let members = (begin..end).map(|member| numbers[self.sets.find(member as u32) as usize]);
            std::iter::once(0).chain(members).collect()
        };
        ranges.into_iter().map(&mut table).collect()
    }
}

/// The voxels that two planes have in common, in each of them.
fn common<'a>(
    place_a: &[u64; 3],
    a: ArrayView3<'a, u32>,
    place_b: &[u64; 3],
    b: ArrayView3<'a, u32>,
) -> Option<[ArrayView3<'a, u32>; 2]> {
    let mut window = [[0; 2]; 3];
    for axis in 0..3 {
        let end = |place: &[u64; 3], plane: &ArrayView3<u32>| place[axis] + plane.len_of(Axis(axis)) as u64;
        window[axis] = [
            place_a[axis].max(place_b[axis]),
            end(place_a, &a).min(end(place_b, &b)),
        ];
        if window[axis][0] >= window[axis][1] {
            return None;
        }
    }
    let cut = |place: &[u64; 3], plane: ArrayView3<'a, u32>| {
        let range = |axis: usize| {
            let [begin, end] = window[axis].map(|at| (at - place[axis]) as usize);
            begin..end
        };
        plane.slice_move(s![range(0), range(1), range(2)])
    };
    Some([cut(place_a, a), cut(place_b, b)])
}

/// Makes ids of the volume of the ids of a block: its `n`-th label, by size, becomes `block` × `capacity` + n. No two
/// blocks have an id in common. `capacity` is the same for all blocks: the voxels of the largest, say. Returns how
/// many labels there are.
///
/// # Errors
/// [`Error::BlockIds`] if there are more labels than `capacity`, or ids of the block would be 2⁶⁴ or more.
pub fn number_block(labels: ArrayViewMut3<u64>, block: u64, capacity: u64) -> Result<u64> {
    let ids: Vec<u64> = unique(labels.view())
        .into_iter()
        .map(|(id, _)| id)
        .filter(|&id| id != 0)
        .collect();
    let count = ids.len() as u64;
    let end = block.checked_add(1).and_then(|next| next.checked_mul(capacity));
    if count > capacity || end.is_none() {
        return Err(Error::BlockIds {
            block,
            capacity,
            count,
        });
    }
    let pairs = ids.into_iter().zip(block * capacity + 1..);
    Remap::new(pairs, Unlisted::Keep).apply(labels)?;
    Ok(count)
}

/// The pairs of fragments that are one: of what two blocks, `a` and `b`, say of the same voxels, those that share more
/// than half of the voxels that either has there. A fragment has at most one such partner. Which block is which does
/// not matter.
///
/// Without this, a part that a face cuts off is a fragment of its own, and where it has leaked into a neighbour, it merges
/// with that before it merges with the rest of its own.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn same_fragments(a: ArrayView3<u64>, b: ArrayView3<u64>) -> Result<Vec<(u64, u64)>> {
    let table = ContingencyTable::new(a, b)?;
    let sizes = |sizes: Vec<(u64, u64)>| sizes.into_iter().collect::<crate::hash::IdMap<u64, u64>>();
    let (in_a, in_b) = (sizes(table.objects()), sizes(table.segments()));
    let overlaps = table
        .overlaps()
        .iter()
        .filter(|overlap| overlap.truth != 0 && overlap.segment != 0);
    let same = overlaps.filter(|overlap| {
        let either = in_a[&overlap.truth] + in_b[&overlap.segment] - overlap.voxels;
        2 * overlap.voxels > either
    });
    Ok(same.map(|overlap| (overlap.truth, overlap.segment)).collect())
}
