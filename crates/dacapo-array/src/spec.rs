//! What an array is, apart from its values.

use crate::{Coordinate, DType, Error, Result, Roi};

/// Where an array lies, and what its axes and values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArraySpec {
    /// What it covers, in world units.
    pub roi: Roi,
    /// Size of a voxel along the spatial axes, in world units.
    pub voxel_size: Coordinate,
    /// Names of all axes. Those of the leading, non-spatial ones end in `^`.
    pub axis_names: Vec<String>,
    /// Units of the spatial axes: "nm"; empty where they are unknown.
    pub units: Vec<String>,
    /// Type of the values.
    pub dtype: DType,
    /// Lengths of the leading, non-spatial axes: channels, samples, times.
    pub channels: Vec<usize>,
}

impl ArraySpec {
    /// An array without channels, its axes the last of t, z, y, x, in nm.
    pub fn new(roi: Roi, voxel_size: Coordinate, dtype: DType) -> Self {
        let dims = roi.dims();
        let names = ["t", "z", "y", "x"];
        let name = |axis: usize| match (axis + names.len()).checked_sub(dims) {
            Some(i) => names[i].to_owned(),
            None => format!("d{axis}"),
        };
        let axis_names = (0..dims).map(name).collect();
        Self {
            roi,
            voxel_size,
            axis_names,
            units: vec!["nm".into(); dims],
            dtype,
            channels: Vec::new(),
        }
    }

    /// The same with leading axes of these lengths. The last of them is called `c^`, the others `b^`, `b2^` ….
    #[must_use]
    pub fn with_channels(mut self, channels: Vec<usize>) -> Self {
        let spatial = self
            .axis_names
            .split_off(self.axis_names.len() - self.spatial_dims());
        let others = channels.len().saturating_sub(1);
        let other = |i: usize| {
            if i == 0 {
                "b^".to_owned()
            } else {
                format!("b{}^", i + 1)
            }
        };
        self.axis_names = (0..others).map(other).collect();
        self.axis_names
            .extend((!channels.is_empty()).then(|| "c^".to_owned()));
        self.axis_names.extend(spatial);
        self.channels = channels;
        self
    }

    /// The same in other units.
    #[must_use]
    pub fn with_units(mut self, units: Vec<String>) -> Self {
        self.units = units;
        self
    }

    /// Number of spatial axes.
    pub fn spatial_dims(&self) -> usize {
        self.roi.dims()
    }

    /// Lengths of all axes: channels, then voxels (0 where the Roi is not whole voxels, which
    /// [`ArraySpec::check`] refuses).
    pub fn shape(&self) -> Vec<usize> {
        let voxels = self
            .roi
            .voxels(&self.voxel_size)
            .unwrap_or_else(|| vec![0; self.roi.dims()]);
        [self.channels.as_slice(), &voxels].concat()
    }

    /// Finds what makes no sense.
    ///
    /// # Errors
    /// [`Error::Spec`] naming the first thing.
    pub fn check(&self) -> Result<()> {
        let dims = self.roi.dims();
        let fail = |reason: String| Err(Error::Spec { reason });
        if dims == 0 {
            return fail("it has no spatial axis".into());
        }
        if self.voxel_size.dims() != dims || self.units.len() != dims {
            return fail(format!(
                "voxel size {} and {} units for {dims} axes",
                self.voxel_size,
                self.units.len()
            ));
        }
        if self.voxel_size.iter().any(|size| !size.is_positive()) {
            return fail(format!("the voxel size {} is not positive", self.voxel_size));
        }
        if self.roi.voxels(&self.voxel_size).is_none() {
            return fail(format!(
                "its region {} is not whole voxels of {}",
                self.roi, self.voxel_size
            ));
        }
        let axes = dims + self.channels.len();
        if self.axis_names.len() != axes {
            return fail(format!("{} axis names for {axes} axes", self.axis_names.len()));
        }
        let bytes = self
            .shape()
            .iter()
            .try_fold(self.dtype.size(), |bytes, &n| bytes.checked_mul(n));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return fail(format!(
                "a shape of {:?} is more than can be addressed",
                self.shape()
            ));
        }
        Ok(())
    }

    /// Where a region lies in the array, in voxels from its first, and its shape: the first may be negative
    /// and the window may reach outside.
    ///
    /// # Errors
    /// [`Error::Region`] if its corners are not on the array's grid.
    pub fn window(&self, roi: &Roi) -> Result<(Vec<i64>, Vec<usize>)> {
        let off_grid = || Error::Region {
            roi: roi.clone(),
            reason: format!(
                "is not on the grid of voxels of {} from {}",
                self.voxel_size,
                self.roi.begin()
            ),
        };
        if roi.dims() != self.roi.dims() {
            let reason = format!("has {} axes, the array {}", roi.dims(), self.roi.dims());
            return Err(Error::Region {
                roi: roi.clone(),
                reason,
            });
        }
        let begin = (roi.begin() - self.roi.begin())
            .exact_div(&self.voxel_size)
            .ok_or_else(off_grid)?;
        let shape = roi.voxels(&self.voxel_size).ok_or_else(off_grid)?;
        // Sums of the two, and of either with lengths of arrays, stay within 64 bits.
        let far = |n: i64| n.unsigned_abs() >= 1 << 62;
        if begin.iter().any(|&n| far(n)) || shape.iter().any(|&n| n >= 1 << 62) {
            let reason = format!("is too far from the array's, {}", self.roi);
            return Err(Error::Region {
                roi: roi.clone(),
                reason,
            });
        }
        Ok((begin, shape))
    }
}
