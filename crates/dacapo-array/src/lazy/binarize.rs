//! For each group of ids, where it is, and where it is known whether it is.

use std::sync::Arc;

use ndarray::ArrayD;

use super::groups::Groups;
use super::values::Number;
use super::window::{check_ids, check_single, padded, refuse, shaped, with_values};
use crate::dtype::with_data;
use crate::{ArrayRead, ArraySpec, DType, NdData, Result, Roi};

/// A lazy binarisation: a channel for each group of ids, true where the array has one of them.
pub struct Binarize {
    array: Arc<dyn ArrayRead>,
    groups: Groups,
    spec: ArraySpec,
}

impl Binarize {
    /// Where the ids of each group are; an empty group is everything but background, 0. Groups may share ids. A
    /// single group has no channel axis.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] for no group, if ids are asked for and the values are no integers, and if they have
    /// several channels.
    pub fn new(array: Arc<dyn ArrayRead>, groups: &[Vec<u64>]) -> Result<Self> {
        let spec = group_spec("binarised values", &*array, groups)?;
        let groups = Groups::new(groups);
        Ok(Self { array, groups, spec })
    }
}

impl ArrayRead for Binarize {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            with_data!(self.array.read(shared)?, values => {
                let mut marked = vec![false; self.groups.len() * values.len()];
                for (index, &value) in values.iter().enumerate() {
                    self.groups.mark(value, |group| marked[group * values.len() + index] = true);
                }
                by_group(&self.spec, shared, marked)
            })
        })
    }
}

/// A lazy mask of what annotations say: a channel for each group of ids, true where it is known whether a voxel is
/// of the group. That is where anything is annotated, unless the group has an id of something that is there but was
/// not annotated.
pub struct Annotated {
    array: Arc<dyn ArrayRead>,
    /// Whether each group was annotated.
    known: Vec<bool>,
    spec: ArraySpec,
}

impl Annotated {
    /// The mask of `groups` in annotations where 0 is what nobody looked at, and the ids of `missing` are of things
    /// that are there but were not annotated. A single group has no channel axis.
    ///
    /// # Errors
    /// As [`Binarize::new`].
    pub fn new(array: Arc<dyn ArrayRead>, groups: &[Vec<u64>], missing: &[u64]) -> Result<Self> {
        let spec = group_spec("annotations", &*array, groups)?;
        let is_known = |group: &Vec<u64>| !group.iter().any(|id| missing.contains(id));
        let known = groups.iter().map(is_known).collect();
        Ok(Self { array, known, spec })
    }
}

impl ArrayRead for Annotated {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let there: Vec<bool> = with_data!(self.array.read(shared)?, values => {
                values.iter().map(|value| value.to_f64() != 0.0).collect()
            });
            let marked = self
                .known
                .iter()
                .flat_map(|&known| there.iter().map(move |&there| known && there));
            by_group(&self.spec, shared, marked.collect())
        })
    }
}

/// The spec of a boolean channel for each group.
fn group_spec(what: &str, array: &dyn ArrayRead, groups: &[Vec<u64>]) -> Result<ArraySpec> {
    if groups.is_empty() {
        return refuse(format!(
            "{what} without a group; an empty one is everything but 0"
        ));
    }
    if groups.iter().any(|group| !group.is_empty()) {
        check_ids(what, array.spec())?;
    }
    check_single(what, array.spec())?;
    let channels = Some(groups.len()).filter(|&n| n > 1).into_iter().collect();
    Ok(with_values(array.spec(), DType::Bool, channels))
}

/// Values by group, then voxel, as the spec has them.
fn by_group(spec: &ArraySpec, roi: &Roi, marked: Vec<bool>) -> Result<NdData> {
    let voxels = roi.voxels(&spec.voxel_size).unwrap_or_default();
    let shape = [spec.channels.as_slice(), &voxels].concat();
    let marked = ArrayD::from_shape_vec(vec![marked.len()], marked);
    let marked = marked.map_err(|error| crate::Error::Shape {
        reason: error.to_string(),
    })?;
    Ok(NdData::Bool(shaped(&shape, marked)?))
}
