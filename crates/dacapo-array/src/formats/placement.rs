//! Where an array of a file lies in the world, as far as the file or the caller says.

use crate::{ArraySpec, Coordinate, DType, Error, Result, Roi};

/// What is known of an array's place: by the caller, who is believed first, or by the file. What neither
/// knows is a voxel size of 1 at 0, without units, the axes the last of z, y, x.
///
/// A voxel size, an offset or units of one entry hold along every spatial axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Size of a voxel along the spatial axes, in world units.
    pub voxel_size: Option<Coordinate>,
    /// First corner of the first voxel, in world units.
    pub offset: Option<Coordinate>,
    /// Units of the spatial axes: `nm`.
    pub units: Option<Vec<String>>,
    /// Names of the spatial axes, or of all axes; those of leading, non-spatial ones end in `^`.
    pub axis_names: Option<Vec<String>>,
}

impl Placement {
    /// This, and where it says nothing, `other`.
    #[must_use]
    pub(super) fn or(&self, other: Self) -> Self {
        Self {
            voxel_size: self.voxel_size.clone().or(other.voxel_size),
            offset: self.offset.clone().or(other.offset),
            units: self.units.clone().or(other.units),
            axis_names: self.axis_names.clone().or(other.axis_names),
        }
    }

    /// How many axes it says are spatial.
    fn spatial_dims(&self) -> Option<usize> {
        let coordinates = [&self.voxel_size, &self.offset];
        let lengths = coordinates.into_iter().flatten().map(Coordinate::dims);
        let names = self.axis_names.as_ref();
        names
            .map(|names| names.iter().filter(|name| !name.ends_with('^')).count())
            .or_else(|| {
                lengths
                    .chain(self.units.as_ref().map(Vec::len))
                    .find(|&length| length > 1)
            })
    }

    /// The spec of an array of this shape (all axes) of which the file says `found`. Axes before the spatial
    /// ones are channels.
    ///
    /// # Errors
    /// [`Error::Spec`] if what is said does not fit the shape.
    pub(super) fn spec(&self, found: Self, shape: &[usize], dtype: DType) -> Result<ArraySpec> {
        let axes = shape.len();
        let fail = |reason: String| Err(Error::Spec { reason });
        let dims = self
            .spatial_dims()
            .or(found.spatial_dims())
            .unwrap_or(axes.min(3));
        if dims == 0 || dims > axes {
            return fail(format!("{dims} spatial axes for a shape of {shape:?}"));
        }
        let known = self.or(found);
        let coordinate = |what: &str, known: Option<Coordinate>, default: i64| match known {
            None => Ok(Coordinate::splat(dims, default)),
            Some(one) if one.dims() == 1 => Ok(Coordinate::new(one.iter().cycle().take(dims))),
            Some(all) if all.dims() == dims => Ok(all),
            Some(other) => Err(Error::Spec {
                reason: format!("the {what} {other} is not one number for each of {dims} spatial axes"),
            }),
        };
        let voxel_size = coordinate("voxel size", known.voxel_size, 1)?;
        if voxel_size.iter().any(|size| !size.is_positive()) {
            return fail(format!("the voxel size {voxel_size} is not positive"));
        }
        let offset = coordinate("offset", known.offset, 0)?;
        let units = match known.units {
            None => vec![String::new(); dims],
            Some(one) if one.len() == 1 => vec![one[0].clone(); dims],
            Some(all) if all.len() == dims => all,
            Some(other) => return fail(format!("{} units for {dims} spatial axes", other.len())),
        };
        let (channels, voxels) = shape.split_at(axes - dims);
        let Ok(voxels) = voxels
            .iter()
            .map(|&n| i64::try_from(n))
            .collect::<std::result::Result<Vec<_>, _>>()
        else {
            return fail(format!("a shape of {shape:?} is more than can be addressed"));
        };
        let roi = Roi::new(offset, Coordinate::from_voxels(&voxels, &voxel_size));
        let mut spec = ArraySpec::new(roi, voxel_size, dtype)
            .with_channels(channels.to_vec())
            .with_units(units);
        if let Some(names) = known.axis_names {
            if names.len() != dims && names.len() != axes {
                return fail(format!("{} axis names for a shape of {shape:?}", names.len()));
            }
            let kept = axes - names.len();
            if names[..names.len() - dims]
                .iter()
                .any(|name| !name.ends_with('^'))
                || names[names.len() - dims..].iter().any(|name| name.ends_with('^'))
            {
                return fail(format!(
                    "the axes {} do not have those that end in ^ in front",
                    names.join(",")
                ));
            }
            if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
                return fail(format!("two axes are called {}", names[twice]));
            }
            spec.axis_names.truncate(kept);
            spec.axis_names.extend(names);
        }
        spec.check()?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(voxel_size: &[i64], names: &[&str]) -> Placement {
        Placement {
            voxel_size: (!voxel_size.is_empty()).then(|| Coordinate::new(voxel_size.iter().copied())),
            axis_names: (!names.is_empty()).then(|| names.iter().map(|&name| name.to_owned()).collect()),
            ..Placement::default()
        }
    }

    #[test]
    fn the_caller_is_believed_before_the_file() {
        let found = Placement {
            units: Some(vec!["um".into()]),
            ..given(&[1, 2, 3], &[])
        };
        let spec = given(&[40, 4, 4], &[])
            .spec(found.clone(), &[5, 6, 7], DType::U8)
            .unwrap();
        assert_eq!(spec.voxel_size, Coordinate::new([40, 4, 4]));
        assert_eq!(spec.units, ["um", "um", "um"]);
        let spec = given(&[8], &[]).spec(found, &[2, 5, 6, 7], DType::U8).unwrap();
        assert_eq!(spec.voxel_size, Coordinate::new([8, 8, 8]));
        assert_eq!(spec.channels, [2]);
        assert_eq!(spec.axis_names, ["c^", "z", "y", "x"]);
    }

    #[test]
    fn axes_in_front_are_channels() {
        let none = Placement::default;
        let spec = none().spec(none(), &[2, 3, 4, 5, 6], DType::U8).unwrap();
        assert_eq!((spec.spatial_dims(), spec.channels), (3, vec![2, 3]));
        let spec = given(&[], &["c^", "y", "x"])
            .spec(none(), &[3, 4, 5], DType::U8)
            .unwrap();
        assert_eq!((spec.voxel_size.dims(), spec.channels), (2, vec![3]));
        let spec = given(&[], &["row", "col"])
            .spec(none(), &[3, 4, 5], DType::U8)
            .unwrap();
        assert_eq!(spec.axis_names, ["c^", "row", "col"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let none = Placement::default;
        for (placement, shape) in [
            (given(&[1, 2, 3], &[]), vec![4, 5]),
            (given(&[0], &[]), vec![4]),
            (given(&[1, -2], &[]), vec![4, 4]),
            (given(&[], &["y", "c^", "x"]), vec![4, 5, 6]),
            (given(&[], &["a", "b", "c"]), vec![4, 5]),
            (given(&[], &["c^"]), vec![4]),
            (none(), vec![]),
            (none(), vec![usize::MAX, 2]),
        ] {
            assert!(
                matches!(placement.spec(none(), &shape, DType::U8), Err(Error::Spec { .. })),
                "{placement:?} {shape:?}"
            );
        }
    }
}
