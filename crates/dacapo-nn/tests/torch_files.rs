//! Files that PyTorch wrote: every value, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use dacapo_nn::{Error, TorchFile, TorchType};
use proptest::prelude::*;
use serde::Deserialize;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch");
    std::fs::read(folder.join(name)).unwrap()
}

#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    data: Vec<f64>,
}

#[test]
fn every_type_and_every_layout_has_the_values_of_pytorch() {
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&file("tensors.json")).unwrap();
    let mut torch = TorchFile::open(Cursor::new(file("tensors.pt"))).unwrap();
    let tensors = torch.tensors().to_vec();
    assert_eq!(tensors.len(), expected.len());
    for tensor in &tensors {
        let expected = &expected[&tensor.name];
        let found = torch.read(tensor).unwrap();
        assert_eq!(found.shape, expected.shape, "{}", tensor.name);
        let data: Vec<f32> = expected.data.iter().map(|&value| value as f32).collect();
        assert_eq!(found.data, data, "{}", tensor.name);
    }
    let tensor = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!(tensor("model/bf16").dtype, TorchType::BF16);
    assert_eq!(tensor("model/u16").dtype, TorchType::U16);
    assert!(tensor("model/f32").is_same_as(tensor("model/f32")));
    assert!(!tensor("model/f32").is_same_as(tensor("model/transposed")));
    let root = torch.pickle().root();
    assert_eq!(root.get("step").unwrap().as_int(), Some(3));
}

fn error(bytes: Vec<u8>) -> String {
    TorchFile::open(Cursor::new(bytes)).err().unwrap().to_string()
}

#[test]
fn what_is_not_read_is_refused_with_the_reason() {
    assert!(error(file("before_1.6.pt")).contains("written before PyTorch 1.6"));
    assert!(error(file("script.pt")).contains("a TorchScript program"));
    assert_eq!(
        error(file("complex.pt")),
        "not a PyTorch file that can be read: tensor `c`: values of type ComplexFloatStorage are not read"
    );
    assert!(error(b"PK\x03\x04 and nothing".to_vec()).contains("not a PyTorch file"));
    assert!(error(file("tensors.json")).contains("no zip archive"));
    assert!(error(Vec::new()).contains("no zip archive"));
}

/// The pickle of `tensors.pt` with some bytes replaced, under the same storages.
fn with_pickle(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut from = zip::ZipArchive::new(Cursor::new(file("tensors.pt"))).unwrap();
    let mut to = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut change = Some(change);
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if entry.name().ends_with("/data.pkl") {
            change.take().unwrap()(&mut bytes);
        }
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        to.start_file(entry.name(), options).unwrap();
        to.write_all(&bytes).unwrap();
    }
    to.finish().unwrap().into_inner()
}

#[test]
fn tensors_outside_of_their_storage_or_larger_than_life_are_refused() {
    // The first tensor: 2 × 3 × 4 with strides 12, 4, 1.
    let shape = b"K\x00K\x02K\x03K\x04\x87";
    let shapes = |new: &'static [u8]| {
        with_pickle(move |pickle| {
            let at = pickle
                .windows(shape.len())
                .position(|window| window == shape)
                .unwrap();
            pickle.splice(at..at + shape.len(), new.iter().copied());
        })
    };
    assert!(TorchFile::open(Cursor::new(shapes(shape))).is_ok());
    let outside = error(shapes(b"K\x01K\x02K\x03K\x04\x87"));
    assert!(
        outside.contains("tensor `model/f32`: shape [2, 3, 4] with strides [12, 4, 1] from 1"),
        "{outside}"
    );
    assert!(error(shapes(b"J\xff\xff\xff\xffK\x02K\x03K\x04\x87")).contains("not described"));
    assert!(error(shapes(b"K\x00K\x02K\x03\x86")).contains("not described"));
    let huge = error(shapes(
        b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x03K\x04\x87",
    ));
    assert!(huge.contains("is not within"), "{huge}");
}

#[test]
fn every_truncation_is_an_error() {
    let whole = file("tensors.pt");
    for length in 0..whole.len() {
        let torn = whole[..length].to_vec();
        assert!(matches!(
            TorchFile::open(Cursor::new(torn)),
            Err(Error::TorchFile(_) | Error::Pickle { .. })
        ));
    }
}

fn read_all(bytes: Vec<u8>) {
    if let Ok(mut torch) = TorchFile::open(Cursor::new(bytes)) {
        for tensor in torch.tensors().to_vec() {
            let _ = torch.read(&tensor);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_files_are_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = file("tensors.pt");
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(bytes);
    }

    #[test]
    fn damaged_descriptions_are_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        read_all(with_pickle(|pickle| {
            for (index, byte) in edits {
                let at = index.index(pickle.len());
                pickle[at] = byte;
            }
        }));
    }
}
