//! An array in memory: small volumes, made-up ones, tests.

use std::sync::{PoisonError, RwLock};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, Slice};

use crate::dtype::{with_data, with_dtype};
use crate::{ArrayRead, ArraySpec, ArrayWrite, Element, Error, NdData, Result, Roi};

/// An array whose values are in memory.
#[derive(Debug)]
pub struct MemoryArray {
    spec: ArraySpec,
    data: RwLock<NdData>,
}

impl MemoryArray {
    /// An array over `data`.
    ///
    /// # Errors
    /// [`Error::Spec`] if the spec makes no sense, [`Error::Shape`] or [`Error::Type`] if the data does not fit
    /// it.
    pub fn new(spec: ArraySpec, data: NdData) -> Result<Self> {
        spec.check()?;
        check_values(&spec, &spec.shape(), &data)?;
        Ok(Self {
            spec,
            data: RwLock::new(data),
        })
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// [`Error::Spec`] if the spec makes no sense.
    pub fn zeros(spec: ArraySpec) -> Result<Self> {
        spec.check()?;
        let data = with_dtype!(spec.dtype, T => T::wrap(ArrayD::from_elem(spec.shape(), T::default())));
        Self::new(spec, data)
    }
}

/// Refuses values of another type or shape.
pub(crate) fn check_values(spec: &ArraySpec, shape: &[usize], data: &NdData) -> Result<()> {
    if data.dtype() != spec.dtype {
        return Err(Error::Type {
            found: data.dtype(),
            expected: spec.dtype,
        });
    }
    if data.shape() != shape {
        return Err(Error::Shape {
            reason: format!("the values are {:?}, expected {shape:?}", data.shape()),
        });
    }
    Ok(())
}

/// Where a window of an array is to be written, if it lies in it: first voxel and shape.
pub(crate) fn window_inside(spec: &ArraySpec, roi: &Roi) -> Result<(Vec<usize>, Vec<usize>)> {
    let (begin, shape) = spec.window(roi)?;
    if !spec.roi.contains(roi) {
        let reason = format!("is not in the array's, {}", spec.roi);
        return Err(Error::Region {
            roi: roi.clone(),
            reason,
        });
    }
    Ok((begin.into_iter().map(|n| n.max(0) as usize).collect(), shape))
}

/// An array of one value; an error where a window asks for more than there is memory.
pub(crate) fn filled<T: Clone>(shape: &[usize], value: T) -> Result<ArrayD<T>> {
    let too_large = || Error::Shape {
        reason: format!("{shape:?} values do not fit into memory"),
    };
    let count = shape
        .iter()
        .try_fold(1, |count: usize, &n| count.checked_mul(n))
        .ok_or_else(too_large)?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| too_large())?;
    values.resize(count, value);
    ArrayD::from_shape_vec(shape, values).map_err(|error| Error::Shape {
        reason: error.to_string(),
    })
}

/// Memory for the values of a window, `used` if that has room for them, and whether all of it is `fill`; an error
/// where there is not enough.
pub(crate) fn blank<T: Element>(shape: &[usize], fill: T, mut used: Vec<T>) -> Result<(Vec<T>, bool)> {
    let too_large = || Error::Shape {
        reason: format!("{shape:?} values do not fit into memory"),
    };
    let count = shape
        .iter()
        .try_fold(1, |count: usize, &n| count.checked_mul(n))
        .ok_or_else(too_large)?;
    if used.capacity() >= count {
        used.resize(count, fill);
        return Ok((used, false));
    }
    drop(used);
    if fill == T::default() {
        // Untouched memory is zero already.
        let zeros = bytemuck::allocation::try_zeroed_vec(count).map_err(|()| too_large())?;
        return Ok((zeros, true));
    }
    Ok((filled(shape, fill)?.into_raw_vec_and_offset().0, true))
}

/// Copies what a window (from `begin`, which may lie outside) shares with an array into the window.
fn copy_shared<T: Copy>(mut from: ArrayViewD<'_, T>, begin: &[i64], mut to: ArrayViewMutD<'_, T>) {
    let leading = from.ndim() - begin.len();
    for (i, &begin) in begin.iter().enumerate() {
        let axis = Axis(leading + i);
        let (length, window) = (from.len_of(axis) as i64, to.len_of(axis) as i64);
        let (first, last) = (begin.clamp(0, length), (begin + window).clamp(0, length));
        from.slice_axis_inplace(axis, Slice::from(first as isize..last as isize));
        let at = (first - begin).clamp(0, window);
        to.slice_axis_inplace(axis, Slice::from(at as isize..(at + last - first) as isize));
    }
    to.assign(&from);
}

impl ArrayRead for MemoryArray {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        let (begin, shape) = self.spec.window(roi)?;
        let shape = [self.spec.channels.as_slice(), &shape].concat();
        let data = self.data.read().unwrap_or_else(PoisonError::into_inner);
        Ok(with_data!(&*data, array => {
            let mut window = filled(&shape, Default::default())?;
            copy_shared(array.view(), &begin, window.view_mut());
            Element::wrap(window)
        }))
    }
}

impl ArrayWrite for MemoryArray {
    fn write(&self, roi: &Roi, data: &NdData) -> Result<()> {
        let (begin, shape) = window_inside(&self.spec, roi)?;
        check_values(
            &self.spec,
            &[self.spec.channels.as_slice(), &shape].concat(),
            data,
        )?;
        let mut whole = self.data.write().unwrap_or_else(PoisonError::into_inner);
        with_dtype!(self.spec.dtype, T => {
            let whole = <T as Typed>::of_mut(&mut whole);
            let from = <T as Typed>::of(data);
            let (Some(whole), Some(from)) = (whole, from) else {
                return Err(Error::Type { found: data.dtype(), expected: self.spec.dtype });
            };
            let mut to = whole.view_mut();
            for (i, (&begin, &length)) in begin.iter().zip(&shape).enumerate() {
                to.slice_axis_inplace(Axis(self.spec.channels.len() + i), Slice::from(begin..begin + length));
            }
            to.assign(from);
        });
        Ok(())
    }
}

/// Looking at the typed array of an [`NdData`] without taking it.
pub(crate) trait Typed: Element {
    fn of(data: &NdData) -> Option<&ArrayD<Self>>;
    fn of_mut(data: &mut NdData) -> Option<&mut ArrayD<Self>>;
}

macro_rules! typed {
    ($($T:ty, $variant:ident);*) => {$(
        impl Typed for $T {
            fn of(data: &NdData) -> Option<&ArrayD<Self>> {
                match data { NdData::$variant(data) => Some(data), _ => None }
            }
            fn of_mut(data: &mut NdData) -> Option<&mut ArrayD<Self>> {
                match data { NdData::$variant(data) => Some(data), _ => None }
            }
        }
    )*};
}
typed!(
    bool, Bool; u8, U8; u16, U16; u32, U32; u64, U64;
    i8, I8; i16, I16; i32, I32; i64, I64; f32, F32; f64, F64
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArrayReadExt, Coordinate, DType};

    fn counted() -> MemoryArray {
        let voxel_size = Coordinate::new([10, 10]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[1, 2], &[3, 4], &voxel_size),
            voxel_size,
            DType::U8,
        );
        let data = ArrayD::from_shape_fn(vec![3, 4], |i| (10 * i[0] + i[1]) as u8);
        MemoryArray::new(spec, NdData::U8(data)).unwrap()
    }

    #[test]
    fn what_is_outside_is_0() {
        let array = counted();
        let roi = Roi::new(Coordinate::new([0, 50]), Coordinate::new([30, 20]));
        let read = array.read_as::<u8>(&roi).unwrap();
        assert_eq!(read.into_raw_vec_and_offset().0, [0, 0, 3, 0, 13, 0]);
        let apart = Roi::new(Coordinate::new([500, 500]), Coordinate::new([20, 20]));
        assert!(array.read_as::<u8>(&apart).unwrap().iter().all(|&v| v == 0));
    }

    #[test]
    fn writes_that_do_not_fit_change_nothing() {
        let array = counted();
        let before = array.read_all().unwrap();
        let roi =
            |offset: [i64; 2], shape: [i64; 2]| Roi::new(Coordinate::new(offset), Coordinate::new(shape));
        let values = |shape: [usize; 2]| NdData::U8(ArrayD::from_elem(shape.to_vec(), 7));
        let off_grid = array
            .write(&roi([15, 20], [10, 10]), &values([1, 1]))
            .unwrap_err();
        assert!(off_grid.to_string().contains("grid"), "{off_grid}");
        let outside = array.write(&roi([0, 20], [20, 10]), &values([2, 1])).unwrap_err();
        assert!(outside.to_string().contains("not in the array"), "{outside}");
        assert!(matches!(
            array.write(&roi([10, 20], [10, 10]), &values([1, 2])),
            Err(Error::Shape { .. })
        ));
        let floats = NdData::F32(ArrayD::from_elem(vec![1, 1], 1.0));
        assert!(matches!(
            array.write(&roi([10, 20], [10, 10]), &floats),
            Err(Error::Type { .. })
        ));
        assert_eq!(array.read_all().unwrap(), before);
        array.write(&roi([20, 30], [10, 20]), &values([1, 2])).unwrap();
        assert_eq!(
            array
                .read_as::<u8>(&roi([20, 20], [10, 40]))
                .unwrap()
                .into_raw_vec_and_offset()
                .0,
            [10, 7, 7, 13]
        );
    }
}
