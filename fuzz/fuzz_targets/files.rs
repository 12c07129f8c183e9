//! Any bytes as a file of another program: TIFF, PNG, NumPy, HDF5, N5. The first byte says which.

#![no_main]

use std::fs;

use dacapo_array::storage::Access;
use dacapo_array::{ArrayRead, Placement, open_source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let Ok(dir) = tempfile::tempdir() else { return };
    let name = ["a.tif", "a.png", "a.npy", "a.h5", "a.n5/x/attributes.json"][usize::from(kind % 5)];
    let path = dir.path().join(name);
    let made = path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok());
    if !made || fs::write(&path, bytes).is_err() {
        return;
    }
    let source = if name.starts_with("a.n5") { dir.path().join("a.n5/x") } else { path };
    if let Ok(array) = open_source(&source, &Placement::default(), &Access::default()) {
        // Of a large one, reading all would only be out of memory.
        let spec = array.spec();
        let mut lengths = spec.shape().into_iter().chain([spec.dtype.size()]);
        let bytes = lengths.try_fold(1, |bytes: usize, length| bytes.checked_mul(length));
        if bytes.is_some_and(|bytes| bytes <= 16 << 20) {
            let _ = array.read(&spec.roi);
        }
    }
});
