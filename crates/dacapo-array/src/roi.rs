//! Regions of interest: boxes in world space.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Coordinate, Decimal};

/// A box in world units, half open: `offset` belongs to it, `offset + shape` does not.
///
/// ```
/// use dacapo_array::{Coordinate, Roi, SnapMode};
/// let roi = Roi::new(Coordinate::new([10, 10]), Coordinate::new([25, 30]));
/// let grid = Coordinate::new([10, 10]);
/// assert_eq!(roi.to_string(), "[10:35, 10:40]");
/// assert_eq!(roi.snap_to_grid(&grid, SnapMode::Grow).to_string(), "[10:40, 10:40]");
/// assert_eq!(roi.voxels(&grid), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roi {
    /// First corner, in world units.
    pub offset: Coordinate,
    /// Size, in world units.
    pub shape: Coordinate,
}

/// What becomes of borders between grid lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapMode {
    /// They go outwards: the result contains the region.
    Grow,
    /// They go inwards: the region contains the result.
    Shrink,
    /// They go to the nearest line.
    Closest,
}

impl Roi {
    /// A box from `offset`, of `shape`.
    pub fn new(offset: Coordinate, shape: Coordinate) -> Self {
        debug_assert_eq!(offset.dims(), shape.dims());
        Self { offset, shape }
    }

    /// A box from `begin` to `end`, empty where the end is not behind the beginning.
    pub fn between(begin: &Coordinate, end: &Coordinate) -> Self {
        let shape = end.zip_with(begin, |end, begin| (end - begin).max(Decimal::ZERO));
        Self::new(begin.clone(), shape)
    }

    /// A box of whole voxels.
    pub fn from_voxels(offset: &[i64], shape: &[usize], voxel_size: &Coordinate) -> Self {
        let shape: Vec<i64> = shape
            .iter()
            .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
            .collect();
        Self::new(
            Coordinate::from_voxels(offset, voxel_size),
            Coordinate::from_voxels(&shape, voxel_size),
        )
    }

    /// Number of axes.
    pub fn dims(&self) -> usize {
        self.offset.dims()
    }

    /// First corner.
    pub fn begin(&self) -> &Coordinate {
        &self.offset
    }

    /// The corner behind the last.
    pub fn end(&self) -> Coordinate {
        &self.offset + &self.shape
    }

    /// The middle.
    pub fn center(&self) -> Coordinate {
        &self.offset + &(&self.shape / &Coordinate::splat(self.dims(), 2))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.shape.iter().any(|length| !length.is_positive())
    }

    /// Whether all of `other` is in it; an empty region is in every one.
    pub fn contains(&self, other: &Roi) -> bool {
        let (end, other_end) = (self.end(), other.end());
        let inside = |axis: usize| self.offset[axis] <= other.offset[axis] && other_end[axis] <= end[axis];
        other.is_empty() || (0..self.dims()).all(inside)
    }

    /// Whether a point is in it.
    pub fn contains_point(&self, point: &Coordinate) -> bool {
        let end = self.end();
        (0..self.dims()).all(|axis| self.offset[axis] <= point[axis] && point[axis] < end[axis])
    }

    /// What is in both, empty if they are apart.
    pub fn intersect(&self, other: &Roi) -> Roi {
        let begin = self.offset.zip_with(&other.offset, Ord::max);
        Self::between(&begin, &self.end().zip_with(&other.end(), Ord::min))
    }

    /// The smallest box that contains both; an empty one adds nothing.
    pub fn union(&self, other: &Roi) -> Roi {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => {
                let begin = self.offset.zip_with(&other.offset, Ord::min);
                Self::between(&begin, &self.end().zip_with(&other.end(), Ord::max))
            }
        }
    }

    /// Larger by `before` at the first corner and by `behind` at the other; negative sizes make it smaller.
    pub fn grow(&self, before: &Coordinate, behind: &Coordinate) -> Roi {
        Self::between(&(&self.offset - before), &(self.end() + behind))
    }

    /// Moved by `by`.
    pub fn shift(&self, by: &Coordinate) -> Roi {
        Self::new(&self.offset + by, self.shape.clone())
    }

    /// The region with its borders on lines of a grid through 0.
    pub fn snap_to_grid(&self, grid: &Coordinate, mode: SnapMode) -> Roi {
        let snap = |point: &Coordinate, lines: fn(&Coordinate, &Coordinate) -> Vec<i64>| {
            Coordinate::from_voxels(&lines(point, grid), grid)
        };
        let (begin, end) = match mode {
            SnapMode::Grow => (
                snap(&self.offset, Coordinate::floor_div),
                snap(&self.end(), Coordinate::ceil_div),
            ),
            SnapMode::Shrink => (
                snap(&self.offset, Coordinate::ceil_div),
                snap(&self.end(), Coordinate::floor_div),
            ),
            SnapMode::Closest => (
                snap(&self.offset, Coordinate::round_div),
                snap(&self.end(), Coordinate::round_div),
            ),
        };
        Self::between(&begin, &end)
    }

    /// Its shape in voxels, if that is whole.
    pub fn voxels(&self, voxel_size: &Coordinate) -> Option<Vec<usize>> {
        self.shape
            .exact_div(voxel_size)?
            .into_iter()
            .map(|n| usize::try_from(n).ok())
            .collect()
    }
}

impl fmt::Display for Roi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, (begin, end)) in self.offset.iter().zip(&self.end()).enumerate() {
            write!(f, "{}{begin}:{end}", if axis == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Boxes of two axes around the origin, their corners on multiples of 0.1.
    fn rois() -> impl Strategy<Value = Roi> {
        let tenths = |n: i64| Decimal::from(n) / Decimal::from(10);
        prop::array::uniform4(-200i64..200).prop_map(move |[a, b, c, d]| {
            let shape = [c, d].map(|n| tenths(n.abs()));
            Roi::new(Coordinate::new([a, b].map(tenths)), Coordinate::new(shape))
        })
    }

    fn grids() -> impl Strategy<Value = Coordinate> {
        prop::array::uniform2(1i64..90)
            .prop_map(|size| Coordinate::new(size.map(|n| Decimal::from(n) / Decimal::from(10))))
    }

    #[test]
    fn decimal_voxels_lie_on_their_grid() {
        let voxel: Coordinate = serde_json::from_str("[4.6, 4.6, 40]").unwrap();
        let roi = Roi::from_voxels(&[1_000_000, -3, 7], &[13, 5, 2], &voxel);
        assert_eq!(roi.snap_to_grid(&voxel, SnapMode::Closest), roi);
        assert_eq!(roi.snap_to_grid(&voxel, SnapMode::Grow), roi);
        assert_eq!(roi.snap_to_grid(&voxel, SnapMode::Shrink), roi);
        assert_eq!(roi.voxels(&voxel), Some(vec![13, 5, 2]));
        assert_eq!(roi.to_string(), "[4600000:4600059.8, -13.8:9.2, 280:360]");
    }

    proptest! {
        #[test]
        fn intersections_and_unions_contain_each_other(a in rois(), b in rois()) {
            let (both, either) = (a.intersect(&b), a.union(&b));
            prop_assert!(a.contains(&both) && b.contains(&both));
            prop_assert!(either.contains(&a) && either.contains(&b));
            prop_assert_eq!(both, b.intersect(&a));
        }

        #[test]
        fn snapping_keeps_order(roi in rois(), grid in grids()) {
            let (grown, shrunk) = (roi.snap_to_grid(&grid, SnapMode::Grow), roi.snap_to_grid(&grid, SnapMode::Shrink));
            prop_assert!(grown.contains(&roi));
            prop_assert!(roi.contains(&shrunk));
            prop_assert!(grown.voxels(&grid).is_some());
            prop_assert_eq!(grown.snap_to_grid(&grid, SnapMode::Closest), grown);
        }

        #[test]
        fn growing_and_shrinking_undo_each_other(roi in rois(), size in grids()) {
            let back = Coordinate::splat(2, 0) - &size;
            let grown = roi.grow(&size, &size);
            prop_assert!(grown.contains(&roi));
            prop_assert_eq!(grown.grow(&back, &back), roi);
        }
    }
}
