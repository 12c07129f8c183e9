//! Any bytes as the metadata of an array and of its group, and as a chunk: opening, listing and reading end, with
//! values or with an error.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use dacapo_array::storage::{Access, Durability, MemoryStorage, Storage};
use dacapo_array::{ArrayAddress, ArrayRead, Roi, ZarrArray, list_arrays};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    array: &'a [u8],
    attributes: &'a [u8],
    group: &'a [u8],
    chunk: &'a [u8],
    is_v3: bool,
}

fuzz_target!(|input: Input| {
    let storage = Arc::new(MemoryStorage::new("m"));
    let objects: [(&str, &[u8]); 4] = if input.is_v3 {
        [
            ("a.zarr/zarr.json", input.group),
            ("a.zarr/x/zarr.json", input.array),
            ("a.zarr/x/c/0/0/0", input.chunk),
            ("a.zarr/x/c/0/0", input.chunk),
        ]
    } else {
        [
            ("a.zarr/.zattrs", input.group),
            ("a.zarr/x/.zarray", input.array),
            ("a.zarr/x/.zattrs", input.attributes),
            ("a.zarr/x/0/0/0", input.chunk),
        ]
    };
    for (key, bytes) in objects {
        storage.write(key, bytes, Durability::Later).ok();
    }
    let access = Access::default().with_memory("m", storage);
    let Ok(address) = "memory://m/a.zarr/x".parse::<ArrayAddress>() else {
        return;
    };
    let _ = list_arrays(&address.container, &access);
    let Ok(array) = ZarrArray::open(&address, &access) else {
        return;
    };
    let spec = array.spec();
    let ones = vec![1; spec.spatial_dims()];
    let first = Roi::from_voxels(&vec![0; ones.len()], &ones, &spec.voxel_size).shift(spec.roi.begin());
    // Chunks may be large: that one does not fit is nothing to be found.
    let is_small = |shape: &[usize]| {
        let bytes = shape.iter().try_fold(spec.dtype.size(), |bytes, &n| bytes.checked_mul(n));
        bytes.is_some_and(|bytes| bytes <= 16 << 20)
    };
    if is_small(array.object_shape()) && is_small(&spec.channels) {
        let _ = array.read(&first);
    }
    if let Ok(stored) = array.stored() {
        let _ = array.missing_chunks(&stored);
    }
});
