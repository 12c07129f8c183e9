//! Choosing the level of a pyramid for a voxel size.

use std::path::Path;
use std::sync::Arc;

use crate::formats::open_source;
use crate::storage::Access;
use crate::zarr::levels;
use crate::{ArrayAddress, ArrayRead, Coordinate, Decimal, Placement, Result, open_array};

/// Opens the level of a pyramid that is nearest to a voxel size and not coarser along any axis, so that resampling
/// it makes nothing up; the finest where all are coarser. Of an array without levels, the array.
///
/// The levels lie where the finest does. Multiscales whose translations are those of the first voxel's middle, as
/// OME-NGFF has it, are understood so: relative to the finest level, whose translation is its corner as everywhere
/// here.
///
/// # Errors
/// As [`open_array`], for every level.
pub fn open_level(
    address: &ArrayAddress,
    voxel_size: &Coordinate,
    access: &Access,
) -> Result<Arc<dyn ArrayRead>> {
    let levels = levels(address, access)?;
    let finest = open_array(levels.first().unwrap_or(address), access)?;
    let mut chosen = finest.clone();
    for level in levels.iter().skip(1) {
        let array = open_array(level, access)?;
        let size = &array.spec().voxel_size;
        let is_comparable =
            size.dims() == voxel_size.dims() && size.dims() == finest.spec().voxel_size.dims();
        let fits = is_comparable && size.iter().zip(voxel_size).all(|(size, wanted)| size <= wanted);
        let is_coarser = fits
            && size
                .iter()
                .zip(&chosen.spec().voxel_size)
                .all(|(size, before)| size >= before);
        if is_coarser {
            chosen = placed(&*finest, level, array, access)?;
        }
    }
    Ok(chosen)
}

/// A level where it lies: at the corner of the finest, if what it says is its first voxel's middle.
fn placed(
    finest: &dyn ArrayRead,
    address: &ArrayAddress,
    level: Arc<dyn ArrayRead>,
    access: &Access,
) -> Result<Arc<dyn ArrayRead>> {
    let (first, spec) = (finest.spec(), level.spec());
    let two = Coordinate::new(first.voxel_size.iter().map(|_| Decimal::from(2)));
    let half = (&spec.voxel_size - &first.voxel_size) / &two;
    if spec.roi.begin() - first.roi.begin() != half || spec.roi.begin() == first.roi.begin() {
        return Ok(level);
    }
    let placement = Placement {
        offset: Some(first.roi.offset.clone()),
        ..Placement::default()
    };
    open_source(Path::new(&address.to_string()), &placement, access)
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;
    use serde_json::json;

    use super::*;
    use crate::{
        ArraySpec, ArrayWrite, CreateOptions, DType, NdData, PyramidOptions, Roi, ZarrArray, make_pyramid,
    };

    fn made(address: &ArrayAddress, size: &[i64], shape: &[usize]) {
        let size = Coordinate::new(size.iter().copied());
        let roi = Roi::from_voxels(&vec![3; shape.len()], shape, &size);
        let spec = ArraySpec::new(roi.clone(), size, DType::U8);
        let array = ZarrArray::create(address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
        array
            .write(&roi, &NdData::U8(ArrayD::ones(shape.to_vec())))
            .unwrap();
    }

    #[test]
    fn the_nearest_level_that_is_not_coarser_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let address: ArrayAddress = format!("{}/a.zarr/g/raw", dir.path().display()).parse().unwrap();
        made(&address, &[40, 4, 4], &[20, 80, 80]);
        let access = Access::default();
        let plain = |size: [i64; 3]| {
            open_level(&address, &Coordinate::new(size), &access)
                .unwrap()
                .spec()
                .clone()
        };
        assert_eq!(plain([80, 80, 80]).voxel_size, Coordinate::new([40, 4, 4]));
        let options = PyramidOptions {
            levels: Some(4),
            ..PyramidOptions::default()
        };
        make_pyramid(&address, &access, &options, &mut |_, _| {
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        for (wanted, found) in [
            ([40, 4, 4], [40, 4, 4]),
            ([8, 2, 2], [40, 4, 4]),
            ([40, 8, 8], [40, 8, 8]),
            ([40, 15, 20], [40, 8, 8]),
            ([40, 16, 17], [40, 16, 16]),
            ([160, 40, 40], [40, 32, 32]),
        ] {
            let spec = plain(wanted);
            assert_eq!(spec.voxel_size, Coordinate::new(found), "{wanted:?}");
            assert_eq!(spec.roi.begin(), &Coordinate::new([120, 12, 12]));
        }
    }

    #[test]
    fn translations_of_middles_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a.zarr/image");
        let access = Access::default();
        for (name, size) in [("s0", 4.0), ("s1", 8.0)] {
            let address: ArrayAddress = format!("{}/{name}", group.display()).parse().unwrap();
            made(&address, &[size as i64; 2], &[8, 8]);
            // As another program wrote them: no attributes of their own.
            std::fs::write(group.join(name).join(".zattrs"), "{}").unwrap();
        }
        let level = |path: &str, scale: f64, translation: f64| {
            json!({
                "path": path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [scale, scale]},
                    {"type": "translation", "translation": [translation, translation]},
                ],
            })
        };
        let axes = json!([{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]);
        let multiscales = json!({"multiscales": [{
            "version": "0.4", "axes": axes, "datasets": [level("s0", 4.0, 100.0), level("s1", 8.0, 102.0)],
        }]});
        std::fs::write(group.join(".zattrs"), multiscales.to_string()).unwrap();
        let address: ArrayAddress = group.display().to_string().parse().unwrap();
        let array = open_level(&address, &Coordinate::splat(2, 8), &access).unwrap();
        assert_eq!(array.spec().roi.to_string(), "[100:164, 100:164]");
        assert_eq!(array.read(&array.spec().roi.clone()).unwrap().shape(), [8, 8]);
        let array = open_level(&address, &Coordinate::splat(2, 7), &access).unwrap();
        assert_eq!(array.spec().voxel_size, Coordinate::splat(2, 4));
    }
}
