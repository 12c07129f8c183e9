//! Groups of ids, and the classes that they are.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::ArrayD;

use super::values::Number;
use super::window::{check_ids, check_single, padded, refuse, shaped, with_values};
use crate::dtype::with_data;
use crate::{ArrayRead, ArraySpec, DType, NdData, Result, Roi};

/// Groups of ids. An empty group has all ids but the background's, 0.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The groups (by index) that name an id.
    of: HashMap<u64, Vec<usize>>,
    /// The groups that are empty.
    all: Vec<usize>,
    count: usize,
}

impl Groups {
    pub fn new(groups: &[Vec<u64>]) -> Self {
        let mut of: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, group) in groups.iter().enumerate() {
            for &id in group {
                let of_id = of.entry(id).or_default();
                if of_id.last() != Some(&index) {
                    of_id.push(index);
                }
            }
        }
        let empty = |&index: &usize| groups[index].is_empty();
        Self {
            of,
            all: (0..groups.len()).filter(empty).collect(),
            count: groups.len(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether each group has `value` in it: all that name its id, and the empty ones if it is not 0.
    pub fn mark<T: Number>(&self, value: T, mut mark: impl FnMut(usize)) {
        if let Some(groups) = value.id().and_then(|id| self.of.get(&id)) {
            groups.iter().for_each(|&group| mark(group));
        }
        if value != T::default() {
            self.all.iter().for_each(|&group| mark(group));
        }
    }

    /// The first group that names the id of `value`, else the first empty one if it is not 0.
    pub fn first<T: Number>(&self, value: T) -> Option<usize> {
        let named = value.id().and_then(|id| self.of.get(&id)?.first().copied());
        named.or_else(|| self.all.first().copied().filter(|_| value != T::default()))
    }
}

/// Lazy classes: ids become the number of their group, from 1; what is in none becomes 0.
pub struct Classes {
    array: Arc<dyn ArrayRead>,
    groups: Groups,
    spec: ArraySpec,
}

impl Classes {
    /// Class `i + 1` for the ids of group `i`; of several, the first. An empty group has all ids, but 0, that no
    /// other group names.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] if the values are no integers or have several channels; for no group, and for more
    /// than 255, which a byte holds.
    pub fn new(array: Arc<dyn ArrayRead>, groups: &[Vec<u64>]) -> Result<Self> {
        check_ids("classes", array.spec())?;
        check_single("classes", array.spec())?;
        if groups.is_empty() || groups.len() > usize::from(u8::MAX) {
            return refuse(format!("{} groups for classes: from 1 to 255", groups.len()));
        }
        let spec = with_values(array.spec(), DType::U8, Vec::new());
        let groups = Groups::new(groups);
        Ok(Self { array, groups, spec })
    }
}

impl ArrayRead for Classes {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let shape = shared.voxels(&self.spec.voxel_size).unwrap_or_default();
            let classes: ArrayD<u8> = with_data!(self.array.read(shared)?, values => {
                let class = |value| self.groups.first(value).map_or(0, |group| group as u8 + 1);
                values.mapv(remembered(class))
            });
            Ok(NdData::U8(shaped(&shape, classes)?))
        })
    }
}

/// The same function, asked once for each run of equal values: neighbours in labels are equal as a rule.
pub(super) fn remembered<T: Number, R: Copy>(f: impl Fn(T) -> R) -> impl FnMut(T) -> R {
    let mut last: Option<(T, R)> = None;
    move |value| match last {
        Some((of, result)) if of == value => result,
        _ => {
            let result = f(value);
            last = Some((value, result));
            result
        }
    }
}
