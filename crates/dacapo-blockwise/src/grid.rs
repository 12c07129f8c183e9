//! The grid: which block reads and writes where. Running it is in `run.rs`.

use dacapo_array::{Coordinate, Roi};

use crate::{Error, Result};

/// One piece of the work. All regions are in world units.
///
/// ```text
/// ┌───────────────────────────┐  read_roi: what the block needs
/// │       context_neg         │
/// │    ┌─────────────────┐    │  output_roi: what it can compute from that,
/// │    │                 │    │  one block shape in every block of a shifted grid
/// │    │    ┌────────────┤    │
/// │    │    │ write_roi  │    │  write_roi: what is its own to write, and no other block's
/// │    └────┴────────────┘    │
/// │       context_pos         │
/// └───────────────────────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its place in the order of the grid.
    pub index: usize,
    /// What it reads: `output_roi` grown by the context. It may reach beyond the total.
    pub read_roi: Roi,
    /// What `read_roi` without its context is: `write_roi`, or more in a shifted grid.
    pub output_roi: Roi,
    /// What it writes. These regions of all blocks are disjoint and together the total.
    pub write_roi: Roi,
}

/// What happens at the upper border of a total that is not made of whole blocks.
///
/// ```text
/// total          ├───────────────────┤      10 voxels, blocks of 4
/// Exact          refused
/// Clip   write   ├───────┼───────┼───┤
///        output  ├───────┼───────┼───┤      the last is smaller
/// Shift  write   ├───────┼───────┼───┤
///        output  ├───────┼───────┤          all have one shape,
///                            ├───────┤      and the last begins earlier
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// Refuse such a total.
    Exact,
    /// Cut the last blocks off at the border.
    #[default]
    Clip,
    /// Shift the last blocks inward, so that every block reads and computes one shape. In a total smaller than
    /// a block they begin with the total and reach beyond it.
    Shift,
}

/// Blocks that tile a region, with context around each.
///
/// Their order is that of arrays: the last axis runs fastest; or [group by group](BlockGrid::in_groups). An index
/// always names the same block.
///
/// ```
/// use dacapo_array::{Coordinate, Roi};
/// use dacapo_blockwise::BlockGrid;
/// let voxel = Coordinate::new([10, 10]);
/// let total = Roi::new(Coordinate::new([0, 0]), Coordinate::new([100, 60]));
/// let context = Coordinate::new([20, 20]);
/// let grid = BlockGrid::new(total, Coordinate::new([40, 40]), context.clone(), context, voxel)?;
/// assert_eq!(grid.len(), 6);
/// let last = grid.get(5).unwrap();
/// assert_eq!(last.write_roi.to_string(), "[80:100, 40:60]");
/// assert_eq!(last.read_roi.to_string(), "[60:120, 20:80]");
/// # Ok::<(), dacapo_blockwise::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockGrid {
    offset: Coordinate,
    voxel_size: Coordinate,
    axes: Vec<Axis>,
    /// Blocks of a group along each axis.
    groups: Vec<usize>,
    len: usize,
    fit: Fit,
}

/// One dimension of the grid, in voxels from the offset of the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    length: i64,
    block: i64,
    context_neg: i64,
    context_pos: i64,
}

/// What a block covers along one axis: first voxel and length.
type Span = (i64, i64);

impl Axis {
    fn blocks(self) -> usize {
        let blocks = self.length / self.block + i64::from(self.length % self.block > 0);
        usize::try_from(blocks).unwrap_or(usize::MAX)
    }

    /// The read, output and write span of the block at `position`.
    fn spans(self, position: usize, fit: Fit) -> [Span; 3] {
        let start = position as i64 * self.block;
        let write = (start, self.block.min(self.length - start));
        let output = match fit {
            Fit::Exact | Fit::Clip => write,
            Fit::Shift => (start.min((self.length - self.block).max(0)), self.block),
        };
        let read = (
            output.0 - self.context_neg,
            output.1 + self.context_neg + self.context_pos,
        );
        [read, output, write]
    }
}

impl BlockGrid {
    /// Tiles `total` with blocks of `write_shape`, clipped at its upper border ([`Fit::Clip`]), each reading
    /// `context_neg` before and `context_pos` behind what it writes. All in world units; `total` may be empty, and its offset need be no multiple of
    /// the voxel size.
    ///
    /// # Errors
    /// [`Error::Dims`], [`Error::OffGrid`] where a length is not a whole number of voxels, [`Error::TooSmall`]
    /// for an empty block, a negative context or a voxel size of zero, [`Error::TooMany`].
    pub fn new(
        total: Roi,
        write_shape: Coordinate,
        context_neg: Coordinate,
        context_pos: Coordinate,
        voxel_size: Coordinate,
    ) -> Result<Self> {
        Self::with_fit(
            total,
            write_shape,
            context_neg,
            context_pos,
            voxel_size,
            Fit::Clip,
        )
    }

    /// As [`new`](Self::new), with a choice of what happens at the upper border.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`Error::NotWhole`] with [`Fit::Exact`].
    pub fn with_fit(
        total: Roi,
        write_shape: Coordinate,
        context_neg: Coordinate,
        context_pos: Coordinate,
        voxel_size: Coordinate,
        fit: Fit,
    ) -> Result<Self> {
        if !voxel_size.iter().all(|length| length.is_positive()) {
            return Err(Error::TooSmall {
                what: "voxel size",
                value: voxel_size,
            });
        }
        let voxels = |what, value: &Coordinate, least: i64| {
            if value.dims() != voxel_size.dims() {
                return Err(Error::Dims {
                    what,
                    value: value.clone(),
                    voxel_size: voxel_size.clone(),
                });
            }
            let voxels = value.exact_div(&voxel_size).ok_or_else(|| Error::OffGrid {
                what,
                value: value.clone(),
                voxel_size: voxel_size.clone(),
            })?;
            if voxels.iter().any(|&length| length < least) {
                return Err(Error::TooSmall {
                    what,
                    value: value.clone(),
                });
            }
            Ok(voxels)
        };
        let length = voxels("total shape", &total.shape, 0)?;
        let block = voxels("block shape", &write_shape, 1)?;
        let context_neg = voxels("context before a block", &context_neg, 0)?;
        let context_pos = voxels("context behind a block", &context_pos, 0)?;
        let axes: Vec<Axis> = (0..length.len())
            .map(|axis| Axis {
                length: length[axis],
                block: block[axis],
                context_neg: context_neg[axis],
                context_pos: context_pos[axis],
            })
            .collect();
        if fit == Fit::Exact && axes.iter().any(|axis| axis.length % axis.block != 0) {
            return Err(Error::NotWhole {
                total: total.shape,
                block: write_shape,
            });
        }
        match axes
            .iter()
            .try_fold(1_usize, |blocks, axis| blocks.checked_mul(axis.blocks()))
        {
            Some(len) => Ok(Self {
                offset: total.offset,
                voxel_size,
                groups: vec![1; axes.len()],
                axes,
                len,
                fit,
            }),
            None => Err(Error::TooMany {
                total: total.shape,
                block: write_shape,
            }),
        }
    }

    /// The same blocks in another order: group after group of so many along each axis, the last axis fastest among the
    /// groups, and in a group. Of what is stored in larger pieces than blocks, few are begun at a time.
    ///
    /// # Panics
    /// If there is not a number for each axis, or one is 0.
    #[must_use]
    pub fn in_groups(mut self, groups: &[usize]) -> Self {
        assert_eq!(groups.len(), self.axes.len(), "axes of a group");
        assert!(!groups.contains(&0), "a group has blocks");
        self.groups = groups.to_vec();
        self
    }

    /// Where along each axis the block at `index` of the order is.
    fn position(&self, index: usize) -> Vec<usize> {
        let counts = self.blocks_per_axis();
        // From axis to axis: how many blocks a row of groups has that goes on along all axes to come.
        let (mut rest, mut across, mut behind) = (index, 1, self.len);
        let mut position = Vec::with_capacity(counts.len());
        let mut sizes = Vec::with_capacity(counts.len());
        for (&count, &group) in counts.iter().zip(&self.groups) {
            behind /= count;
            let number = rest / (across * group * behind);
            rest -= number * across * group * behind;
            let size = group.min(count - number * group);
            across *= size;
            position.push(number * group);
            sizes.push(size);
        }
        for (position, size) in position.iter_mut().zip(sizes).rev() {
            *position += rest % size;
            rest /= size;
        }
        position
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many blocks there are along each axis.
    pub fn blocks_per_axis(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.blocks()).collect()
    }

    /// The block at `index` of the order; nothing past the last.
    pub fn get(&self, index: usize) -> Option<Block> {
        if index >= self.len {
            return None;
        }
        let places = self.axes.iter().zip(self.position(index));
        let spans: Vec<[Span; 3]> = places.map(|(axis, place)| axis.spans(place, self.fit)).collect();
        let roi = |which: usize| {
            let world = |part: fn(Span) -> i64| {
                let voxels: Vec<i64> = spans.iter().map(|spans| part(spans[which])).collect();
                Coordinate::from_voxels(&voxels, &self.voxel_size)
            };
            Roi::new(
                world(|(first, _)| first) + &self.offset,
                world(|(_, length)| length),
            )
        };
        Some(Block {
            index,
            read_roi: roi(0),
            output_roi: roi(1),
            write_roi: roi(2),
        })
    }

    /// All blocks in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Block> + '_ {
        // The range ends where `get` does.
        (0..self.len).map(|index| self.block(index))
    }

    #[allow(clippy::expect_used, reason = "only called with an index below the length")]
    fn block(&self, index: usize) -> Block {
        self.get(index).expect("an index below the length")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(total: (i64, i64), block: i64, context: (i64, i64), fit: Fit) -> Result<BlockGrid> {
        let point = |value: i64| Coordinate::new([value]);
        BlockGrid::with_fit(
            Roi::new(point(total.0), point(total.1)),
            point(block),
            point(context.0),
            point(context.1),
            point(2),
            fit,
        )
    }

    fn spans(grid: &BlockGrid, of: fn(Block) -> Roi) -> Vec<String> {
        grid.iter().map(|block| of(block).to_string()).collect()
    }

    #[test]
    fn the_last_block_is_clipped_shifted_or_refused() {
        let clip = line((100, 20), 8, (2, 4), Fit::Clip).unwrap();
        assert_eq!(
            spans(&clip, |block| block.write_roi),
            ["[100:108]", "[108:116]", "[116:120]"]
        );
        assert_eq!(
            spans(&clip, |block| block.read_roi),
            ["[98:112]", "[106:120]", "[114:124]"]
        );
        let shift = line((100, 20), 8, (2, 4), Fit::Shift).unwrap();
        assert_eq!(
            spans(&shift, |block| block.write_roi),
            ["[100:108]", "[108:116]", "[116:120]"]
        );
        assert_eq!(
            spans(&shift, |block| block.output_roi),
            ["[100:108]", "[108:116]", "[112:120]"]
        );
        assert_eq!(
            spans(&shift, |block| block.read_roi),
            ["[98:112]", "[106:120]", "[110:124]"]
        );
        assert_eq!(
            line((100, 20), 8, (2, 4), Fit::Exact).unwrap_err().to_string(),
            "the total shape (20) is not a multiple of the block shape (8)"
        );
        assert_eq!(line((100, 24), 8, (0, 0), Fit::Exact).unwrap().len(), 3);
    }

    #[test]
    fn groups_change_the_order_alone() {
        let point = |values: [i64; 3]| Coordinate::new(values);
        let zero = point([0; 3]);
        let total = Roi::new(zero.clone(), point([5, 3, 7]));
        let grid = BlockGrid::new(total, point([1, 1, 2]), zero.clone(), zero, point([1; 3])).unwrap();
        let begins = |grid: &BlockGrid| -> Vec<String> {
            grid.iter()
                .map(|block| block.write_roi.begin().to_string())
                .collect()
        };
        let plain = begins(&grid);
        assert_eq!(begins(&grid.clone().in_groups(&[1; 3])), plain);
        assert_eq!(begins(&grid.clone().in_groups(&[9; 3])), plain);
        let grouped = begins(&grid.clone().in_groups(&[2, 2, 3]));
        assert_eq!(grouped[..3], ["(0, 0, 0)", "(0, 0, 2)", "(0, 0, 4)"]);
        assert_eq!(
            grouped[3..7],
            ["(0, 1, 0)", "(0, 1, 2)", "(0, 1, 4)", "(1, 0, 0)"]
        );
        // The group behind it has one block along the last axis, and the next of the second axis one row.
        assert_eq!(grouped[12..14], ["(0, 0, 6)", "(0, 1, 6)"]);
        assert_eq!(grouped[16], "(0, 2, 0)");
        let sorted = |mut begins: Vec<String>| {
            begins.sort();
            begins
        };
        assert_eq!(sorted(grouped), sorted(plain));
    }

    #[test]
    fn a_total_smaller_than_a_block() {
        let clip = line((0, 6), 8, (2, 2), Fit::Clip).unwrap();
        assert_eq!(spans(&clip, |block| block.read_roi), ["[-2:8]"]);
        let shift = line((0, 6), 8, (2, 2), Fit::Shift).unwrap();
        assert_eq!(spans(&shift, |block| block.read_roi), ["[-2:10]"]);
        assert_eq!(spans(&shift, |block| block.write_roi), ["[0:6]"]);
        let between = line((1, 6), 4, (2, 2), Fit::Clip).unwrap();
        assert_eq!(spans(&between, |block| block.read_roi), ["[-1:7]", "[3:9]"]);
        let empty = line((0, 0), 8, (2, 2), Fit::Clip).unwrap();
        assert!(empty.is_empty() && empty.iter().next().is_none() && empty.get(0).is_none());
    }

    #[test]
    fn grids_that_cannot_be_are_refused_with_the_value() {
        let reason = |total, block, context| line(total, block, context, Fit::Clip).unwrap_err().to_string();
        assert_eq!(
            reason((0, 20), 7, (0, 0)),
            "the block shape (7) is not a multiple of the voxel size (2)"
        );
        assert_eq!(
            reason((0, 7), 2, (0, 0)),
            "the total shape (7) is not a multiple of the voxel size (2)"
        );
        assert_eq!(
            reason((0, 20), 0, (0, 0)),
            "the block shape (0) is too small in one of its dimensions"
        );
        assert!(reason((0, 20), 8, (0, -2)).starts_with("the context behind a block (-2) is too small"));
        let plane = Coordinate::new([2, 2]);
        let total = Roi::new(Coordinate::new([0]), Coordinate::new([8]));
        let error = BlockGrid::new(total, plane.clone(), plane.clone(), plane.clone(), plane).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Dims {
                    what: "total shape",
                    ..
                }
            ),
            "{error}"
        );
        let huge = Coordinate::new([1_i64 << 40; 2]);
        let (zero, one) = (Coordinate::new([0, 0]), Coordinate::new([1, 1]));
        let error =
            BlockGrid::new(Roi::new(zero.clone(), huge), one.clone(), zero.clone(), zero, one).unwrap_err();
        assert!(matches!(error, Error::TooMany { .. }), "{error}");
    }

    /// Offset, length, block, context before and behind in voxels, and the voxel size.
    type Line = (i64, i64, i64, i64, i64, i64);

    fn axes() -> impl Strategy<Value = Vec<Line>> {
        prop::collection::vec(
            (-9..9_i64, 0..9_i64, 1..6_i64, 0..4_i64, 0..4_i64, 1..5_i64),
            1..4,
        )
    }

    proptest! {
        #[test]
        fn writes_tile_the_total_and_reads_contain_them(axes in axes(), shifted: bool) {
            let world = |of: fn(&Line) -> i64| {
                Coordinate::new(axes.iter().map(|axis| of(axis) * axis.5))
            };
            let (shape, voxel) = (world(|axis| axis.2), Coordinate::new(axes.iter().map(|axis| axis.5)));
            let total = Roi::new(world(|axis| axis.0), world(|axis| axis.1));
            let fit = if shifted { Fit::Shift } else { Fit::Clip };
            let (before, behind) = (world(|axis| axis.3), world(|axis| axis.4));
            let grid = BlockGrid::with_fit(total.clone(), shape.clone(), before.clone(), behind.clone(), voxel.clone(), fit)
                .unwrap();

            // Slow and simple: how often each voxel of the total is written.
            let lengths: Vec<usize> = axes.iter().map(|axis| axis.1 as usize).collect();
            let mut written = vec![0; lengths.iter().product()];
            for (index, block) in grid.iter().enumerate() {
                prop_assert_eq!(block.index, index);
                prop_assert!(block.read_roi.contains(&block.output_roi) && block.output_roi.contains(&block.write_roi));
                prop_assert!(total.contains(&block.write_roi) && !block.write_roi.is_empty());
                prop_assert_eq!(&block.read_roi, &block.output_roi.grow(&before, &behind));
                if shifted {
                    prop_assert_eq!(&block.output_roi.shape, &shape);
                } else {
                    prop_assert_eq!(&block.output_roi, &block.write_roi);
                }
                for (voxel_index, count) in written.iter_mut().enumerate() {
                    let mut rest = voxel_index;
                    let mut point = vec![0; axes.len()];
                    for axis in (0..axes.len()).rev() {
                        point[axis] = axes[axis].0 + (rest % lengths[axis]) as i64;
                        rest /= lengths[axis];
                    }
                    let point = Coordinate::from_voxels(&point, &voxel);
                    *count += usize::from(block.write_roi.contains_point(&point));
                }
            }
            prop_assert!(written.iter().all(|&count| count == 1));
        }
    }
}
