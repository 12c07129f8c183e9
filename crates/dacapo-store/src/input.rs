//! What identifies the data that a run is validated on: where it came from, and what it was.

use std::fmt;

use dacapo_array::{ArrayRead, Coordinate, NdData, Roi};
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Slices along the first spatial axis that are read and hashed at a time. Part of what the content hash means:
/// another number gives other hashes for arrays with channels.
const SLAB: usize = 64;

/// What a stored copy of an input was copied from. Two that are equal have the same source and the same voxels,
/// so a copy is stale exactly when its identity is no longer that of its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputIdentity {
    /// The address of the source, as the config names it.
    pub source: String,
    /// What was copied of it, in world units.
    pub roi: Roi,
    /// World units.
    pub voxel_size: Coordinate,
    /// Type of the voxels.
    pub dtype: String,
    /// BLAKE3 of the voxels, hexadecimal.
    pub content: String,
}

impl fmt::Display for InputIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source, roi, content, ..
        } = self;
        write!(f, "{source} {roi} blake3:{content}")
    }
}

/// Identifies the voxels of `array` in `roi` (world units), found at `source`. Reads them all once, in slabs: the
/// hash is over the little-endian voxels of slab after slab, each in C order.
///
/// # Errors
/// [`crate::Error::Array`] if they cannot be read or `roi` is off the grid.
pub fn input_identity(source: impl fmt::Display, array: &dyn ArrayRead, roi: &Roi) -> Result<InputIdentity> {
    let spec = array.spec();
    let mut hasher = blake3::Hasher::new();
    match roi.voxels(&spec.voxel_size) {
        Some(shape) => {
            for slab in slabs(&shape) {
                let slab = Roi::from_voxels(&slab.0, &slab.1, &spec.voxel_size).shift(&roi.offset);
                update(&mut hasher, &array.read(&slab)?);
            }
        }
        // Off the grid, which the array says best itself.
        None => update(&mut hasher, &array.read(roi)?),
    }
    Ok(InputIdentity {
        source: source.to_string(),
        roi: roi.clone(),
        voxel_size: spec.voxel_size.clone(),
        dtype: spec.dtype.to_string(),
        content: hasher.finalize().to_hex().to_string(),
    })
}

/// First voxel and shape of each slab of `shape`, along the first axis.
fn slabs(shape: &[usize]) -> impl Iterator<Item = (Vec<i64>, Vec<usize>)> {
    let thickness = shape.first().copied().unwrap_or(0);
    (0..thickness).step_by(SLAB).map(move |start| {
        let (mut first, mut slab) = (vec![0; shape.len()], shape.to_vec());
        first[0] = start as i64;
        slab[0] = SLAB.min(thickness - start);
        (first, slab)
    })
}

/// Hashes the voxels in C order, little-endian.
fn update(hasher: &mut blake3::Hasher, data: &NdData) {
    match data {
        NdData::Bool(voxels) => update_with(hasher, voxels, |voxel| [u8::from(voxel)]),
        NdData::U8(voxels) => update_with(hasher, voxels, u8::to_le_bytes),
        NdData::U16(voxels) => update_with(hasher, voxels, u16::to_le_bytes),
        NdData::U32(voxels) => update_with(hasher, voxels, u32::to_le_bytes),
        NdData::U64(voxels) => update_with(hasher, voxels, u64::to_le_bytes),
        NdData::I8(voxels) => update_with(hasher, voxels, i8::to_le_bytes),
        NdData::I16(voxels) => update_with(hasher, voxels, i16::to_le_bytes),
        NdData::I32(voxels) => update_with(hasher, voxels, i32::to_le_bytes),
        NdData::I64(voxels) => update_with(hasher, voxels, i64::to_le_bytes),
        NdData::F32(voxels) => update_with(hasher, voxels, f32::to_le_bytes),
        NdData::F64(voxels) => update_with(hasher, voxels, f64::to_le_bytes),
    }
}

fn update_with<T: Copy, const N: usize>(
    hasher: &mut blake3::Hasher,
    voxels: &ArrayD<T>,
    bytes: fn(T) -> [u8; N],
) {
    let mut buffer = Vec::with_capacity(1 << 16);
    for &voxel in voxels {
        buffer.extend_from_slice(&bytes(voxel));
        if buffer.len() == buffer.capacity() {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    hasher.update(&buffer);
}

#[cfg(test)]
mod tests {
    use dacapo_array::{ArraySpec, ArrayWrite, DType, MemoryArray};

    use super::*;

    fn array(shape: [usize; 3]) -> MemoryArray {
        let voxel_size = Coordinate::new([10, 4, 4]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[3, 0, -2], &shape, &voxel_size),
            voxel_size,
            DType::U16,
        );
        let voxels = ArrayD::from_shape_fn(shape.to_vec(), |at| (at[0] * 91 + at[1] * 7 + at[2]) as u16);
        MemoryArray::new(spec, NdData::U16(voxels)).unwrap()
    }

    #[test]
    fn the_content_is_that_of_the_region_in_c_order() {
        let array = array([150, 3, 5]);
        let roi = array.spec().roi.clone();
        let identity = input_identity("a.zarr/raw", &array, &roi).unwrap();
        let NdData::U16(voxels) = array.read(&roi).unwrap() else {
            panic!("another type")
        };
        let bytes: Vec<u8> = voxels.iter().flat_map(|voxel| voxel.to_le_bytes()).collect();
        assert_eq!(identity.content, crate::provenance::hash(&bytes));
        assert_eq!(
            (identity.source.as_str(), identity.dtype.as_str()),
            ("a.zarr/raw", "uint16")
        );
        assert_eq!(identity, input_identity("a.zarr/raw", &array, &roi).unwrap());
        let json = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<InputIdentity>(&json).unwrap(), identity);
    }

    #[test]
    fn another_voxel_region_or_source_is_another_input() {
        let array = array([70, 3, 5]);
        let roi = array.spec().roi.clone();
        let identity = input_identity("a.zarr/raw", &array, &roi).unwrap();
        assert_ne!(input_identity("b.zarr/raw", &array, &roi).unwrap(), identity);
        let part = Roi::new(roi.offset.clone(), Coordinate::new([690, 12, 20]));
        assert_ne!(input_identity("a.zarr/raw", &array, &part).unwrap(), identity);

        let last = Roi::new(Coordinate::new([720, 8, 8]), Coordinate::new([10, 4, 4]));
        array
            .write(&last, &NdData::U16(ArrayD::from_elem(vec![1; 3], 9)))
            .unwrap();
        assert_ne!(input_identity("a.zarr/raw", &array, &roi).unwrap(), identity);
    }

    #[test]
    fn a_region_between_voxels_is_refused() {
        let array = array([4, 4, 4]);
        let roi = Roi::new(Coordinate::new([35, 0, 0]), Coordinate::new([10, 4, 4]));
        assert!(matches!(
            input_identity("a.zarr/raw", &array, &roi),
            Err(crate::Error::Array(_))
        ));
    }
}
