//! A part of an array as an array of its own.

use std::sync::Arc;

use super::window::padded;
use crate::{ArrayRead, ArraySpec, Error, NdData, Result, Roi};

/// A lazy crop: nothing is read before it is asked for. Outside of the crop it is 0, even where the array goes on.
pub struct Crop {
    array: Arc<dyn ArrayRead>,
    spec: ArraySpec,
}

impl Crop {
    /// The part of `array` in `roi`, in world units; what of the region lies outside of the array is left out.
    ///
    /// # Errors
    /// [`Error::Region`] if the region is off the array's grid, or apart from it.
    pub fn new(array: Arc<dyn ArrayRead>, roi: &Roi) -> Result<Self> {
        array.spec().window(roi)?;
        let inside = array.spec().roi.intersect(roi);
        if inside.is_empty() {
            let reason = format!("is apart from the array's, {}", array.spec().roi);
            return Err(Error::Region {
                roi: roi.clone(),
                reason,
            });
        }
        let spec = ArraySpec {
            roi: inside,
            ..array.spec().clone()
        };
        Ok(Self { array, spec })
    }
}

impl ArrayRead for Crop {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| self.array.read(shared))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::{ArrayReadExt, Coordinate, DType, MemoryArray};

    #[test]
    fn ends_where_it_is_cut() {
        let voxel_size = Coordinate::new([4]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[0], &[10], &voxel_size),
            voxel_size.clone(),
            DType::U16,
        );
        let data = ArrayD::from_shape_fn(vec![10], |i| i[0] as u16 + 1);
        let array = Arc::new(MemoryArray::new(spec, NdData::U16(data)).unwrap());
        let crop = Crop::new(array.clone(), &Roi::from_voxels(&[3], &[20], &voxel_size)).unwrap();
        assert_eq!(crop.spec().roi.to_string(), "[12:40]");
        let read = |first, count| {
            let roi = Roi::from_voxels(&[first], &[count], &voxel_size);
            crop.read_as::<u16>(&roi).unwrap().into_raw_vec_and_offset().0
        };
        assert_eq!(read(4, 2), [5, 6]);
        assert_eq!(read(1, 4), [0, 0, 4, 5]);
        assert_eq!(read(20, 2), [0, 0]);
        assert!(Crop::new(array, &Roi::from_voxels(&[30], &[2], &voxel_size)).is_err());
    }
}
