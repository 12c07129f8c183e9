//! What all lazy arrays do alike: reading only inside of an array, with zeros around, and making a spec without
//! channels.

use ndarray::{Array2, ArrayD, Axis, Slice};

use crate::dtype::with_dtype;
use crate::memory::filled;
use crate::{ArrayRead, ArraySpec, DType, Element, Error, NdData, Result, Roi};

/// The values of `roi` in an array of this spec: `read` gives those of the part that lies in the array, around it
/// are zeros.
pub(super) fn padded(
    spec: &ArraySpec,
    roi: &Roi,
    read: impl FnOnce(&Roi) -> Result<NdData>,
) -> Result<NdData> {
    let (begin, shape) = spec.window(roi)?;
    let shared = spec.roi.intersect(roi);
    if !shared.is_empty() && shared == *roi {
        return read(roi);
    }
    let shape = [spec.channels.as_slice(), &shape].concat();
    with_dtype!(spec.dtype, T => {
        let mut window = filled(&shape, T::default())?;
        if !shared.is_empty() {
            let values: ArrayD<T> = read(&shared)?.into_typed()?;
            let mut to = window.view_mut();
            let leading = spec.channels.len();
            for (axis, &begin) in begin.iter().enumerate() {
                // How much of the window lies in front of the array.
                let before = begin.min(0).unsigned_abs() as usize;
                let length = values.len_of(Axis(leading + axis));
                to.slice_axis_inplace(Axis(leading + axis), Slice::from(before..before + length));
            }
            to.assign(&values);
        }
        Ok(T::wrap(window))
    })
}

/// The values of `roi`, zeros outside of the array whatever its fill value is.
pub(super) fn read_inside(array: &dyn ArrayRead, roi: &Roi) -> Result<NdData> {
    padded(array.spec(), roi, |shared| array.read(shared))
}

/// A spec with another type and other channels.
pub(super) fn with_values(spec: &ArraySpec, dtype: DType, channels: Vec<usize>) -> ArraySpec {
    let mut spec = spec.clone();
    spec.dtype = dtype;
    if spec.channels == channels {
        spec
    } else {
        spec.with_channels(channels)
    }
}

/// How many channels a spec has, all its leading axes taken together.
pub(super) fn channels(spec: &ArraySpec) -> usize {
    spec.channels.iter().product()
}

/// Values as (channels, voxels).
pub(super) fn flat<T: Element>(spec: &ArraySpec, values: ArrayD<T>) -> Result<Array2<T>> {
    let channels = channels(spec);
    let voxels = values.len().checked_div(channels).unwrap_or(0);
    shaped(&[channels, voxels], values)?
        .into_dimensionality()
        .map_err(|error| Error::Shape {
            reason: error.to_string(),
        })
}

/// The same values in another shape.
pub(super) fn shaped<T: Element>(shape: &[usize], values: ArrayD<T>) -> Result<ArrayD<T>> {
    let values = if values.is_standard_layout() {
        values
    } else {
        values.as_standard_layout().into_owned()
    };
    values.into_shape_with_order(shape).map_err(|error| Error::Shape {
        reason: error.to_string(),
    })
}

/// Refuses an array that cannot be.
pub(super) fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Spec {
        reason: reason.into(),
    })
}

/// Refuses channels: of one that ids are looked up in.
pub(super) fn check_single(what: &str, spec: &ArraySpec) -> Result<()> {
    match channels(spec) {
        1 => Ok(()),
        found => refuse(format!(
            "{what} take one channel, the array has {found}; choose one"
        )),
    }
}

/// Refuses values that are no ids.
pub(super) fn check_ids(what: &str, spec: &ArraySpec) -> Result<()> {
    if spec.dtype.is_float() {
        return refuse(format!("{what} take integers, the array is {}", spec.dtype));
    }
    Ok(())
}
