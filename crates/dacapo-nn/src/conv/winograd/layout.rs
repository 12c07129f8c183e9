//! How the work of a Winograd convolution lies in memory.
//!
//! ```text
//!            y tile 0        y tile 1                 one channel's row of a transformed block:
//!         ┌───────────┐   ┌───────────┐               for each z tile, for each y tile, `pitch` columns along x
//! z tile 0│ 4 × 4 × x │   │           │
//!         └───────────┘   └───────────┘               a matrix: [position][channel][row]
//! ```
//!
//! With tiles along x the columns of a z tile are the tiles of its rows, and there is no y.

use super::tile::Tile;
use crate::conv::ConvGeometry;
use crate::conv::kernel::{ROWS, SLACK, groups};
use crate::conv::pack::odd_lines;

/// Elements of a cache line. Tiles that begin at one are read and written faster, which is worth at most one column
/// in `MOST_WASTE` computed for nothing.
const LINE: usize = 16;
const MOST_WASTE: usize = 10;

/// A matrix for each position of the transform.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    /// Elements from one row (a channel) to the next.
    pub(super) row: usize,
    /// Elements from one position to the next.
    pub(super) position: usize,
}

impl Matrix {
    fn new(rows: usize, columns: usize) -> Self {
        let row = odd_lines(columns);
        Self {
            row,
            position: odd_lines(rows * row),
        }
    }
}

pub(super) struct Layout {
    pub(super) geometry: ConvGeometry,
    /// Of the tiles; the tensor has `step` times as many voxels along each axis.
    pub(super) output: [usize; 3],
    /// Volumes of this geometry that a channel has one behind the other: planes that the kernel does not join.
    pub(super) stack: usize,
    /// Outputs of a voxel along each axis: 1, or 2 that are channels of their own (see `doubling`), of one volume with rows
    /// along x.
    pub(super) step: usize,
    /// The tiles that are called y's lie along x: input and output have a height of 1.
    pub(super) along_x: bool,
    /// Tiles along z and y of one volume.
    pub(super) tiles: [usize; 2],
    /// Tiles along z (of all volumes) and y of one block.
    pub(super) block: [usize; 2],
    /// Columns of a tile: the padded input's width (along x: its tiles), or a little more.
    pub(super) pitch: usize,
    /// Positions of the transform.
    pub(super) positions: usize,
    /// Zeros in front of each row of the transformed gradient, for taps that reach back.
    pub(super) lead: usize,
    /// The transformed input, the products before the output transform, the transformed gradient, the products
    /// before the adjoint of the input transform.
    pub(super) input: Matrix,
    pub(super) sums: Matrix,
    pub(super) gradient: Matrix,
    pub(super) adjoint: Matrix,
    /// Elements from one row to the next after the transform along z alone, and of all of them.
    pub(super) half_row: usize,
    pub(super) half: usize,
    /// Elements of one position of the transformed weights, forward and backward.
    pub(super) weights: usize,
    pub(super) weights_adjoint: usize,
}

/// Tiles that are transformed together.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) sample: usize,
    /// First tile and number of tiles along z (of all volumes of the stack) and y.
    pub(super) z: usize,
    pub(super) tiles_z: usize,
    pub(super) y: usize,
    pub(super) tiles_y: usize,
}

impl Layout {
    /// Of a geometry without taps in y if the second axis of tiles lies along x.
    pub(super) fn new<Z: Tile, Y: Tile>(
        mut geometry: ConvGeometry,
        output: [usize; 3],
        stack: usize,
        along_x: bool,
        columns: usize,
    ) -> Self {
        let mut width = geometry.input[2] + 2 * geometry.padding[2];
        if along_x {
            width = output[2].div_ceil(Y::OUT);
            geometry.kernel.swap(1, 2);
        }
        let g = &geometry;
        let lines = width.next_multiple_of(LINE);
        let pitch = if (lines - width) * MOST_WASTE <= width {
            lines
        } else {
            width
        };
        let tiles = [output[0].div_ceil(Z::OUT), output[1].div_ceil(Y::OUT)];
        let block = if tiles[1] * pitch <= columns {
            [balanced(stack * tiles[0], columns / (tiles[1] * pitch)), tiles[1]]
        } else {
            [1, balanced(tiles[1], (columns + pitch / 2) / pitch)]
        };
        let wide = block[0] * block[1] * pitch + SLACK;
        let lead = (g.kernel[2] - 1).next_multiple_of(16);
        let positions = Z::IN * Y::IN;
        let rows = Y::OUT * block[1] + Y::OVERLAP;
        let half_row = pitch.next_multiple_of(16) + 16;
        Self {
            output,
            stack,
            step: 1,
            along_x,
            tiles,
            block,
            pitch,
            positions,
            lead,
            input: Matrix::new(g.in_channels, wide),
            sums: Matrix::new(groups(g.out_channels) * ROWS, wide),
            gradient: Matrix::new(g.out_channels, lead + wide),
            adjoint: Matrix::new(groups(g.in_channels) * ROWS, wide),
            half_row,
            half: Z::IN * rows * half_row,
            weights: groups(g.out_channels) * ROWS * g.in_channels * g.kernel[2],
            weights_adjoint: groups(g.in_channels) * ROWS * g.out_channels * g.kernel[2],
            geometry,
        }
    }

    /// Tiles along z of a sample.
    pub(super) fn tile_rows(&self) -> usize {
        self.stack * self.tiles[0]
    }

    /// The volume of a tile along z, and which it is there.
    pub(super) fn volume_and_tile(&self, z: usize) -> (usize, usize) {
        (z / self.tiles[0], z % self.tiles[0])
    }

    /// Offset of row j of a tile from its first, in what is transformed along z: the rows of a tile along x are the
    /// columns j, j + OUT, … of one row.
    #[inline(always)]
    pub(super) fn half_offset<Y: Tile>(&self, j: usize) -> usize {
        if self.along_x {
            j % Y::OUT * self.half_row + j / Y::OUT
        } else {
            j * self.half_row
        }
    }

    /// The blocks of z tiles `from..to` of a sample, in order.
    pub(super) fn blocks(
        &self,
        sample: usize,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = Block> + use<> {
        let ([_, all_y], [block_z, block_y]) = (self.tiles, self.block);
        (from..to).step_by(block_z).flat_map(move |z| {
            (0..all_y).step_by(block_y).map(move |y| Block {
                sample,
                z,
                tiles_z: block_z.min(to - z),
                y,
                tiles_y: block_y.min(all_y - y),
            })
        })
    }

    /// Columns of a block.
    pub(super) fn columns(&self, block: &Block) -> usize {
        block.tiles_z * block.tiles_y * self.pitch
    }
}

/// The size of the fewest groups of at most `most` into which `count` falls, as equal as they can be.
fn balanced(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most.max(1)))
}
