//! Centred windows of one buffer in another, a row at a time: the geometry behind cropping and padding.

use super::Shape;

/// Where the rows of two centred boxes meet: one is cropped or padded to the other, axis by axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Centred {
    from: [usize; 3],
    to: [usize; 3],
    /// First shared voxel of the source and of the target.
    source: [usize; 3],
    target: [usize; 3],
    shared: [usize; 3],
}

impl Centred {
    /// Fits a box `from` into a box `to`. An odd difference leaves the smaller part in front when
    /// cropping and the larger part in front when padding, as the original does.
    pub(super) fn new(from: Shape, to: Shape) -> Self {
        let (mut source, mut target, mut shared) = ([0; 3], [0; 3], [0; 3]);
        for axis in 0..3 {
            let (a, b) = (from.voxels[axis], to.voxels[axis]);
            source[axis] = a.saturating_sub(b) / 2;
            target[axis] = b.saturating_sub(a).div_ceil(2);
            shared[axis] = a.min(b);
        }
        Self {
            from: from.voxels,
            to: to.voxels,
            source,
            target,
            shared,
        }
    }

    /// The inverse fit.
    pub(super) fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            source: self.target,
            target: self.source,
            shared: self.shared,
        }
    }

    /// Whether some of the target has no source.
    pub(super) fn pads(&self) -> bool {
        self.shared != self.to
    }

    /// Calls `f(source row, target row)` for every pair of shared rows of one channel.
    pub(super) fn rows<'a>(
        &self,
        from: &'a [f32],
        to: &'a mut [f32],
        mut f: impl FnMut(&'a [f32], &mut [f32]),
    ) {
        for z in 0..self.shared[0] {
            for y in 0..self.shared[1] {
                let row =
                    |at: [usize; 3], size: [usize; 3]| ((at[0] + z) * size[1] + at[1] + y) * size[2] + at[2];
                let (a, b) = (row(self.source, self.from), row(self.target, self.to));
                f(&from[a..a + self.shared[2]], &mut to[b..b + self.shared[2]]);
            }
        }
    }

    /// Copies one channel, zeros where the target has no source.
    pub(super) fn copy(&self, from: &[f32], to: &mut [f32]) {
        if self.pads() {
            to.fill(0.0);
        }
        if self.from == self.to {
            to.copy_from_slice(from);
        } else {
            self.rows(from, to, |a, b| b.copy_from_slice(a));
        }
    }
}
