//! The symmetries of the grid: axes exchanged and mirrored. Where no voxel lies between voxels, nothing is
//! interpolated.

use ndarray::{Array3, ArrayView3, Axis};

use crate::config::AugmentConfig;
use crate::random::Random;

/// A turn of the grid onto itself: axes exchanged, then some of them mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symmetry {
    /// Axis `a` of the result is axis `axes[a]` of the source.
    pub axes: [usize; 3],
    /// Whether axis `a` of the result runs backwards.
    pub mirrored: [bool; 3],
}

impl Symmetry {
    /// Leaves everything where it is.
    pub const IDENTITY: Self = Self {
        axes: [0, 1, 2],
        mirrored: [false; 3],
    };

    /// A uniformly drawn one. Axes of the same `kind` may be exchanged; an axis of length 1 should have a kind
    /// of its own.
    pub fn draw(config: &AugmentConfig, kinds: [usize; 3], random: &mut Random) -> Self {
        let mut symmetry = Self::IDENTITY;
        if config.transposes {
            // All permutations, those excluded that change the kind of an axis.
            let allowed: Vec<[usize; 3]> = PERMUTATIONS
                .into_iter()
                .filter(|axes| {
                    axes.iter()
                        .enumerate()
                        .all(|(a, &source)| kinds[a] == kinds[source])
                })
                .collect();
            symmetry.axes = allowed[random.below(allowed.len() as u64) as usize];
        }
        if config.flips {
            symmetry.mirrored = std::array::from_fn(|_| random.coin());
        }
        symmetry
    }

    /// The turned array, in standard order.
    pub fn apply<T: Copy>(&self, source: ArrayView3<T>) -> Array3<T> {
        let mut view = source.permuted_axes(self.axes);
        for axis in (0..3).filter(|&a| self.mirrored[a]) {
            view.invert_axis(Axis(axis));
        }
        // Not `to_owned`, which keeps the source's memory order; by rows, whose steps are known.
        let mut turned = Vec::with_capacity(view.len());
        for row in view.rows() {
            match row.to_slice() {
                Some(row) => turned.extend_from_slice(row),
                None => turned.extend(row.iter().copied()),
            }
        }
        #[allow(clippy::expect_used, reason = "as many elements as the view has")]
        Array3::from_shape_vec(view.raw_dim(), turned).expect("the view's own shape")
    }

    /// Room on both sides of the source for which the result has `(before, after)` room.
    pub fn source_context(&self, before: [usize; 3], after: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let mut source = ([0; 3], [0; 3]);
        for (a, &from) in self.axes.iter().enumerate() {
            (source.0[from], source.1[from]) = if self.mirrored[a] {
                (after[a], before[a])
            } else {
                (before[a], after[a])
            };
        }
        source
    }
}

const PERMUTATIONS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use std::collections::HashSet;

    fn random(iteration: u64) -> Random {
        Random::new(1, iteration, 0, Purpose::Augment)
    }

    #[test]
    fn a_cube_has_48_symmetries_and_a_slab_16() {
        let count = |kinds| {
            let config = AugmentConfig::default();
            let all = (0..2000).map(|i| Symmetry::draw(&config, kinds, &mut random(i)));
            all.map(|s| (s.axes, s.mirrored)).collect::<HashSet<_>>().len()
        };
        assert_eq!(count([0, 0, 0]), 48);
        assert_eq!(count([0, 1, 1]), 16);
    }

    #[test]
    fn application_follows_its_definition() {
        let source = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| 100 * z + 10 * y + x);
        let symmetry = Symmetry {
            axes: [2, 0, 1],
            mirrored: [true, false, true],
        };
        let turned = symmetry.apply(source.view());
        assert_eq!(turned.dim(), (5, 3, 4));
        assert!(turned.is_standard_layout());
        for ((a, b, c), &value) in turned.indexed_iter() {
            assert_eq!(value, source[[b, 3 - c, 4 - a]]);
        }
        assert_eq!(Symmetry::IDENTITY.apply(source.view()), source);
    }

    #[test]
    fn context_is_turned_with_the_array() {
        let symmetry = Symmetry {
            axes: [2, 0, 1],
            mirrored: [true, false, true],
        };
        let (before, after) = symmetry.source_context([1, 2, 3], [4, 5, 6]);
        // Result axis 0 is source axis 2 backwards, 1 is source 0, 2 is source 1 backwards.
        assert_eq!((before, after), ([2, 6, 4], [5, 3, 1]));
    }
}
