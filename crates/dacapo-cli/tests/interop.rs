//! What a run writes, read by other programs. Needs the Python environments that `.ci/run` makes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::Command;

use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArrayRead, ArrayReadExt, NdData, ZarrArray, list_arrays};
use ndarray_npy::WriteNpyExt;
use serde_json::json;

fn write_values(path: &Path, data: NdData) {
    let file = std::fs::File::create(path).unwrap();
    match data {
        NdData::U8(array) => array.write_npy(file).unwrap(),
        NdData::U64(array) => array.write_npy(file).unwrap(),
        NdData::F32(array) => array.write_npy(file).unwrap(),
        other => panic!("a run writes no {}", other.dtype()),
    }
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn zarr_and_funlib_read_every_array_of_a_run() {
    let peers = PathBuf::from(std::env::var("DACAPO_PEERS").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo");
    let status = Command::new(env!("CARGO_BIN_EXE_dacapo"))
        .args(["demo", "--iterations", "4", "--size", "64", "--dir"])
        .arg(&demo)
        .status()
        .unwrap();
    assert!(status.success());

    let mut manifest = Vec::new();
    let run = demo.join("runs/demo");
    for container in [
        demo.join("cells.zarr"),
        run.join("validation.zarr"),
        run.join("snapshot.zarr"),
    ] {
        for dataset in list_arrays(&container.as_path().into(), &Access::default()).unwrap() {
            let address = ArrayAddress {
                container: container.as_path().into(),
                dataset: dataset.clone(),
            };
            let array = ZarrArray::open(&address, &Access::default()).unwrap();
            let values = format!("{}.npy", manifest.len());
            write_values(&dir.path().join(&values), array.read_all().unwrap());
            let spec = array.spec();
            manifest.push(json!({
                "container": container, "dataset": dataset, "values": values,
                "offset": spec.roi.offset, "shape": spec.roi.shape, "voxel_size": spec.voxel_size,
            }));
        }
    }
    assert!(manifest.len() > 20, "{} arrays", manifest.len());
    let path = dir.path().join("manifest.json");
    std::fs::write(&path, serde_json::to_string(&manifest).unwrap()).unwrap();
    for peer in ["zarr2", "zarr3"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check_arrays.py");
        let status = Command::new(peers.join(peer).join("bin/python"))
            .arg(script)
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success(), "{peer}");
    }
}
