//! Arrays that are put together: what they must have in common.

use std::sync::Arc;

use super::window::refuse;
use crate::{ArrayRead, ArraySpec, DType, Result, Roi};

/// What several arrays are put together from.
pub(super) type Parts = Vec<Arc<dyn ArrayRead>>;

/// The first of the parts, if all have its voxels on its grid.
///
/// # Errors
/// [`crate::Error::Spec`] naming the first part that differs, counted from 1, and how.
pub(super) fn on_one_grid<'a>(what: &str, parts: &'a Parts) -> Result<&'a ArraySpec> {
    let Some(first) = parts.first() else {
        return refuse(format!("{what} of nothing: at least one array"));
    };
    let first = first.spec();
    for (index, part) in parts.iter().enumerate().skip(1) {
        let (number, spec) = (index + 1, part.spec());
        if spec.spatial_dims() != first.spatial_dims() {
            return refuse(format!(
                "{what} of arrays with {} and, as array {number}, {} spatial axes",
                first.spatial_dims(),
                spec.spatial_dims()
            ));
        }
        if spec.voxel_size != first.voxel_size {
            return refuse(format!(
                "{what} of arrays with voxels of {} and, as array {number}, of {}; resample one of them",
                first.voxel_size, spec.voxel_size
            ));
        }
        if !(spec.roi.begin() - first.roi.begin()).is_multiple_of(&first.voxel_size) {
            return refuse(format!(
                "{what} of arrays that lie between each other's voxels of {}: the first begins at {}, array {number} at {}",
                first.voxel_size,
                first.roi.begin(),
                spec.roi.begin()
            ));
        }
        if spec.units != first.units && !unknown(&spec.units) && !unknown(&first.units) {
            return refuse(format!(
                "{what} of arrays in {} and, as array {number}, in {}",
                first.units.join(","),
                spec.units.join(",")
            ));
        }
    }
    Ok(first)
}

fn unknown(units: &[String]) -> bool {
    units.iter().all(String::is_empty)
}

/// Their type, if all have the same.
///
/// # Errors
/// [`crate::Error::Spec`] naming the first that differs.
pub(super) fn of_one_type(what: &str, parts: &Parts) -> Result<DType> {
    let first = parts.first().map_or(DType::U8, |part| part.spec().dtype);
    match parts.iter().position(|part| part.spec().dtype != first) {
        Some(index) => refuse(format!(
            "{what} of {first} and, as array {}, {}; cast one of them",
            index + 1,
            parts[index].spec().dtype
        )),
        None => Ok(first),
    }
}

/// The box around all parts.
pub(super) fn union(parts: &Parts) -> Option<Roi> {
    let mut rois = parts.iter().map(|part| part.spec().roi.clone());
    let first = rois.next()?;
    Some(rois.fold(first, |all, roi| all.union(&roi)))
}

/// What all parts cover.
pub(super) fn intersection(parts: &Parts) -> Option<Roi> {
    let mut rois = parts.iter().map(|part| part.spec().roi.clone());
    let first = rois.next()?;
    Some(rois.fold(first, |all, roi| all.intersect(&roi)))
}
