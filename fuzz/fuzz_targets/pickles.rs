//! Any bytes as a pickle, and as a file of PyTorch: data or an error, in bounded time and memory.

#![no_main]

use std::io::Cursor;

use dacapo_nn::{TorchFile, pickle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pickle) = pickle::read(bytes) {
        let _ = pickle.root().items().map(Iterator::count);
    }
    if let Ok(mut file) = TorchFile::open(Cursor::new(bytes)) {
        for tensor in file.tensors().to_vec() {
            let _ = file.read(&tensor);
        }
    }
});
