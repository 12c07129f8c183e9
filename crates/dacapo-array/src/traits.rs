//! What can be read and written by world region.

use ndarray::ArrayD;

use crate::{ArraySpec, Element, NdData, Result, Roi};

/// An array that can be read.
pub trait ArrayRead: Send + Sync {
    /// What the array is.
    fn spec(&self) -> &ArraySpec;

    /// The values of a region in world units: channels first, then its voxels. What lies outside of the array
    /// has the fill value.
    ///
    /// # Errors
    /// [`crate::Error::Region`] if the region is not on the array's grid; whatever reading meets.
    fn read(&self, roi: &Roi) -> Result<NdData>;

    /// As [`ArrayRead::read`], in place of what is in `buffer`, whose memory is used if it is of the same type and
    /// large enough: reading into fresh memory can take as long as the reading.
    ///
    /// # Errors
    /// As [`ArrayRead::read`]; `buffer` then holds anything.
    fn read_into(&self, roi: &Roi, buffer: &mut NdData) -> Result<()> {
        *buffer = self.read(roi)?;
        Ok(())
    }
}

/// An array that can be written.
pub trait ArrayWrite: ArrayRead {
    /// Writes a region in world units.
    ///
    /// # Errors
    /// [`crate::Error::Region`] if the region is off the grid or not in the array, [`crate::Error::Shape`] or
    /// [`crate::Error::Type`] if the values do not fit it: then nothing was written. Otherwise whatever writing
    /// meets; each chunk is then there as it was or as it should be.
    fn write(&self, roi: &Roi, data: &NdData) -> Result<()>;
}

/// Conveniences for everything that can be read.
pub trait ArrayReadExt: ArrayRead {
    /// As [`ArrayRead::read`], as another type ([`NdData::cast`]).
    ///
    /// # Errors
    /// As [`ArrayRead::read`] and [`NdData::cast`].
    fn read_as<T: Element>(&self, roi: &Roi) -> Result<ArrayD<T>> {
        self.read(roi)?.cast()
    }

    /// The whole array.
    ///
    /// # Errors
    /// As [`ArrayRead::read`].
    fn read_all(&self) -> Result<NdData> {
        self.read(&self.spec().roi)
    }
}

impl<A: ArrayRead + ?Sized> ArrayReadExt for A {}
