//! Boxes of which every voxel is repeated, centrally cropped: nearest-neighbour upsampling without a buffer of its own.

/// A box of repeated voxels, and the centred window of it that is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeated {
    from: [usize; 3],
    factor: [usize; 3],
    window: [usize; 3],
    /// First voxel of the window, of the repeated ones.
    start: [usize; 3],
}

impl Repeated {
    /// The window must lie inside of the repeated box. An odd difference leaves the smaller part in front.
    pub(super) fn new(from: [usize; 3], factor: [usize; 3], window: [usize; 3]) -> Self {
        Self {
            from,
            factor,
            window,
            start: std::array::from_fn(|a| (from[a] * factor[a] - window[a]) / 2),
        }
    }

    /// The voxel that a plane (axis 0) or row (axis 1) of the window repeats.
    fn source(&self, axis: usize, at: usize) -> usize {
        (at + self.start[axis]) / self.factor[axis]
    }

    /// Writes the window of one channel.
    pub(super) fn copy(&self, from: &[f32], to: &mut [f32]) {
        let [_, height, width] = self.window;
        let plane = height * width;
        let mut row = vec![0.0; self.from[2] * self.factor[2]];
        for z in 0..self.window[0] {
            let zs = self.source(0, z);
            if z > 0 && zs == self.source(0, z - 1) {
                to.copy_within((z - 1) * plane..z * plane, z * plane);
                continue;
            }
            for y in 0..height {
                let (ys, at) = (self.source(1, y), z * plane + y * width);
                if y > 0 && ys == self.source(1, y - 1) {
                    to.copy_within(at - width..at, at);
                    continue;
                }
                let from = &from[(zs * self.from[1] + ys) * self.from[2]..][..self.from[2]];
                match self.factor[2] {
                    // By far the most usual.
                    2 => row
                        .as_chunks_mut::<2>()
                        .0
                        .iter_mut()
                        .zip(from)
                        .for_each(|(to, &v)| *to = [v; 2]),
                    factor => row
                        .chunks_exact_mut(factor)
                        .zip(from)
                        .for_each(|(to, &v)| to.fill(v)),
                }
                to[at..at + width].copy_from_slice(&row[self.start[2]..][..width]);
            }
        }
    }

    /// The adjoint: each voxel gets the sum of its repetitions in the window.
    pub(super) fn sum(&self, window: &[f32], to: &mut [f32]) {
        let [_, height, width] = self.window;
        let mut row = vec![0.0; self.from[2] * self.factor[2]];
        for (i, to) in to.chunks_exact_mut(self.from[2]).enumerate() {
            row.fill(0.0);
            for z in self.repetitions(0, i / self.from[1]) {
                for y in self.repetitions(1, i % self.from[1]) {
                    let from = &window[(z * height + y) * width..][..width];
                    let sums = row[self.start[2]..].iter_mut().zip(from);
                    sums.for_each(|(sum, v)| *sum += v);
                }
            }
            match self.factor[2] {
                2 => to
                    .iter_mut()
                    .zip(row.as_chunks::<2>().0)
                    .for_each(|(to, &[a, b])| *to = a + b),
                factor => to
                    .iter_mut()
                    .zip(row.chunks_exact(factor))
                    .for_each(|(to, block)| *to = block.iter().sum()),
            }
        }
    }

    /// The planes or rows of the window that repeat a voxel.
    fn repetitions(&self, axis: usize, voxel: usize) -> std::ops::Range<usize> {
        let inside = |repeated: usize| repeated.saturating_sub(self.start[axis]).min(self.window[axis]);
        inside(voxel * self.factor[axis])..inside((voxel + 1) * self.factor[axis])
    }
}
