//! Bands beside the boundaries of objects, in which a score may look away.

use ndarray::{Array3, ArrayView3, ArrayViewMut1, Axis, Zip};

use crate::Id;

/// The voxels that have another label within a box of `reach` (z, y, x) voxels to each side; what lies outside the
/// volume is no label. Background is a label as any other. To get the band of a part of a volume, give `reach`
/// voxels around it and cut them off.
///
/// ```
/// use dacapo_kernels::boundary_band;
///
/// let labels = ndarray::array![[[3u64, 3, 3, 5, 5, 5]]];
/// let band = boundary_band(labels.view(), [0, 0, 1]);
/// assert_eq!(band, ndarray::array![[[false, false, true, true, false, false]]]);
/// ```
pub fn boundary_band<T: Id>(labels: ArrayView3<T>, reach: [usize; 3]) -> Array3<bool> {
    let mut band = Array3::from_elem(labels.raw_dim(), false);
    if labels.is_empty() {
        return band;
    }
    // A box is of one label if its rows along x are, and its column along y and then along z through the middle.
    for axis in (0..3).rev().filter(|&axis| reach[axis] > 0) {
        Zip::from(band.lanes_mut(Axis(axis)))
            .and(labels.lanes(Axis(axis)))
            .par_for_each(|mut band, labels| {
                widen(&mut band, reach[axis]);
                let mut changes = labels.windows(2).into_iter().map(|pair| pair[0] != pair[1]);
                mark_changes(&mut band, reach[axis], &mut changes);
            });
    }
    band
}

/// Sets what is within `reach` of something that is set.
fn widen(lane: &mut ArrayViewMut1<bool>, reach: usize) {
    let n = lane.len();
    // Voxels still to set, from both ends.
    let (mut left, mut behind) = (0, vec![false; n]);
    for i in 0..n {
        left = if lane[i] { reach.saturating_add(1) } else { left };
        behind[i] = left > 0;
        left = left.saturating_sub(1);
    }
    left = 0;
    for i in (0..n).rev() {
        left = if lane[i] { reach.saturating_add(1) } else { left };
        lane[i] = behind[i] || left > 0;
        left = left.saturating_sub(1);
    }
}

/// Sets what is within `reach` of a change: of the voxels on both sides of it.
fn mark_changes(lane: &mut ArrayViewMut1<bool>, reach: usize, changes: &mut dyn Iterator<Item = bool>) {
    let n = lane.len();
    let mut set = 0;
    for (i, _) in changes.enumerate().filter(|&(_, changed)| changed) {
        // Between i and i + 1.
        for j in set.max((i + 1).saturating_sub(reach))..(i + 1).saturating_add(reach).min(n) {
            lane[j] = true;
        }
        set = (i + 1).saturating_add(reach).min(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition() {
        for (shape, kinds) in [
            ((5, 9, 8), 2u64),
            ((1, 12, 11), 3),
            ((4, 1, 15), 2),
            ((1, 1, 1), 2),
            ((0, 2, 2), 2),
        ] {
            let mut state = 1u64;
            let labels = Array3::from_shape_fn(shape, |(z, y, x)| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // Blocks, with a grain here and there.
                let grain = u64::from(state >> 40 < 1 << 19);
                ((z / 3 + y / 4 + x / 5) as u64 + grain) % kinds
            });
            for reach in [[0; 3], [1, 1, 1], [0, 2, 1], [2, 0, 3], [9, 9, usize::MAX]] {
                let expected = Array3::from_shape_fn(shape, |(z, y, x)| {
                    labels.indexed_iter().any(|((a, b, c), &label)| {
                        a.abs_diff(z) <= reach[0]
                            && b.abs_diff(y) <= reach[1]
                            && c.abs_diff(x) <= reach[2]
                            && label != labels[[z, y, x]]
                    })
                });
                assert_eq!(
                    boundary_band(labels.view(), reach),
                    expected,
                    "{shape:?}, {reach:?}"
                );
            }
        }
    }
}
