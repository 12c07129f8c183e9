//! Offsets in voxels (z, y, x), and the pairs of voxels that they link.

use std::ops::Range;

use crate::{Error, Result};

/// From a voxel to the one that its affinity links it to: (z, y, x) in voxels.
pub type Offset = [i64; 3];

/// Refuses neighbourhoods that mean nothing: empty, with a zero or with the same offset twice.
///
/// # Errors
/// [`Error::NoOffsets`], [`Error::ZeroOffset`], [`Error::RepeatedOffset`].
pub fn check_offsets(offsets: &[Offset]) -> Result<()> {
    if offsets.is_empty() {
        return Err(Error::NoOffsets);
    }
    for (index, &offset) in offsets.iter().enumerate() {
        if offset == [0; 3] {
            return Err(Error::ZeroOffset { index });
        }
        if offsets[..index].contains(&offset) {
            return Err(Error::RepeatedOffset { index, offset });
        }
    }
    Ok(())
}

/// The voxels `p` of a volume for which `p + offset` is in it too, along each axis.
pub(crate) fn overlap(shape: [usize; 3], offset: &Offset) -> [Range<usize>; 3] {
    std::array::from_fn(|axis| {
        let length = shape[axis];
        let reach = usize::try_from(offset[axis].unsigned_abs()).map_or(length, |n| n.min(length));
        if offset[axis] < 0 {
            reach..length
        } else {
            0..length - reach
        }
    })
}

/// From `p` to `p + offset` in a volume whose last axis is contiguous. Means nothing for offsets that link no two
/// of its voxels: such may be of any length, so the sum wraps.
pub(crate) fn stride(shape: [usize; 3], offset: &Offset) -> isize {
    let [z, y, x] = offset.map(|n| n as isize);
    let [_, rows, columns] = shape.map(|n| n as isize);
    z.wrapping_mul(rows)
        .wrapping_add(y)
        .wrapping_mul(columns)
        .wrapping_add(x)
}

/// The pairs that an offset links, in planes `planes` of a contiguous volume: for each row the flat indices of
/// its `p`, and that of the first `p + offset`.
pub(crate) fn rows(
    shape: [usize; 3],
    offset: &Offset,
    planes: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, usize)> {
    let [z, y, x] = overlap(shape, offset);
    let z = z.start.max(planes.start)..z.end.min(planes.end);
    let offset = *offset;
    let z = if y.is_empty() || x.is_empty() { 0..0 } else { z };
    z.flat_map(move |z| y.clone().map(move |y| (z, y)))
        .map(move |(z, y)| {
            let start = (z * shape[1] + y) * shape[2] + x.start;
            let other = start.wrapping_add_signed(stride(shape, &offset));
            (start..start + x.len(), other)
        })
}

/// The shape of a volume as an array.
pub(crate) fn volume(shape: &[usize]) -> [usize; 3] {
    [shape[0], shape[1], shape[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meaningless_neighbourhoods_are_refused() {
        assert_eq!(check_offsets(&[]), Err(Error::NoOffsets));
        let zero = check_offsets(&[[1, 0, 0], [0, 0, 0]]);
        assert_eq!(zero, Err(Error::ZeroOffset { index: 1 }));
        assert!(check_offsets(&[[1, 0, 0], [1, 0, 0]]).is_err());
        assert_eq!(check_offsets(&[[1, 0, 0], [-1, 0, 0]]), Ok(()));
    }

    #[test]
    fn rows_hold_the_pairs_that_lie_inside() {
        let shape = [3, 4, 5];
        let index = |p: [i64; 3]| ((p[0] * 4 + p[1]) * 5 + p[2]) as usize;
        for offset in [
            [1, 0, 0],
            [-2, 3, 1],
            [0, -1, 4],
            [0, 0, 5],
            [7, 0, 0],
            [i64::MIN, 0, 1],
        ] {
            let mut expected = Vec::new();
            for p in ndarray::indices([3, 4, 5]) {
                let p = [p.0 as i64, p.1 as i64, p.2 as i64];
                let q: Vec<i64> = (0..3).map(|a| p[a].saturating_add(offset[a])).collect();
                if (0..3).all(|a| (0..shape[a] as i64).contains(&q[a])) {
                    expected.push((index(p), index([q[0], q[1], q[2]])));
                }
            }
            let found: Vec<_> = rows(shape, &offset, 0..3)
                .flat_map(|(p, q)| p.enumerate().map(move |(i, p)| (p, q + i)))
                .collect();
            assert_eq!(found, expected, "{offset:?}");
        }
    }
}
