//! What a run writes and what is exported, read by other programs. Needs the Python environments that `.ci/run` makes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::Command;

use dacapo::array::storage::Access;
use dacapo::array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, Decimal,
    NdData, Roi, ZarrArray, list_arrays,
};
use ndarray::ArrayD;
use ndarray_npy::WriteNpyExt;
use serde_json::json;

fn write_values(path: &Path, data: NdData) {
    let file = std::fs::File::create(path).unwrap();
    match data {
        NdData::U8(array) => array.write_npy(file).unwrap(),
        NdData::U16(array) => array.write_npy(file).unwrap(),
        NdData::U32(array) => array.write_npy(file).unwrap(),
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

/// An array in `dir/source.zarr`, its values beside it; what the check has to find.
fn make_source(dir: &Path, dtype: DType, shape: [usize; 3], voxel_size: [&str; 3]) -> serde_json::Value {
    let voxel_size = Coordinate::new(voxel_size.map(|n| n.parse::<Decimal>().unwrap()));
    let roi = Roi::from_voxels(&[3, -2, 0], &shape, &voxel_size);
    let spec = ArraySpec::new(roi, voxel_size, dtype);
    let value = |i: &ndarray::IxDyn| i[0] * 7919 + i[1] * 104_729 + i[2] * 31;
    let data = match dtype {
        DType::U8 => NdData::U8(ArrayD::from_shape_fn(shape.to_vec(), |i| value(&i) as u8)),
        DType::U16 => NdData::U16(ArrayD::from_shape_fn(shape.to_vec(), |i| value(&i) as u16)),
        DType::U32 => NdData::U32(ArrayD::from_shape_fn(shape.to_vec(), |i| value(&i) as u32)),
        _ => NdData::F32(ArrayD::from_shape_fn(shape.to_vec(), |i| value(&i) as f32 / 7.0)),
    };
    let address: ArrayAddress = dir
        .join(format!("source.zarr/{dtype}"))
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let array = ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
    array.write(&spec.roi, &data).unwrap();
    write_values(&dir.join(format!("expected_{dtype}.npy")), data);
    json!({
        "expected": format!("expected_{dtype}.npy"), "tif": format!("{dtype}.tif"), "npy": format!("{dtype}.npy"),
        "n5": format!("data.n5/{dtype}/s0"), "zarr": format!("data.zarr/{dtype}"),
        "pyramid": format!("source.zarr/views/{dtype}"),
        "voxel_size": spec.voxel_size, "offset": spec.roi.offset,
    })
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn tifffile_numpy_zarr_and_ome_zarr_read_what_is_exported() {
    let peers = PathBuf::from(std::env::var("DACAPO_PEERS").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let arrays = |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_dacapo"))
            .current_dir(dir.path())
            .env_remove("DACAPO_OPTIONS_FILE")
            .args(["arrays", "--quiet"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            command.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&command.stderr)
        );
    };
    let sources = [
        (DType::U8, [20, 70, 66], ["40", "4.6", "4.6"]),
        (DType::U16, [3, 130, 50], ["10", "10", "10"]),
        (DType::U32, [70, 65, 67], ["8", "4", "4"]),
        (DType::F32, [72, 80, 96], ["8", "8", "8"]),
    ];
    let entries: Vec<serde_json::Value> = sources
        .into_iter()
        .map(|(dtype, shape, voxel_size)| {
            let entry = make_source(dir.path(), dtype, shape, voxel_size);
            let source = format!("source.zarr/{dtype}");
            for target in ["tif", "npy", "n5", "zarr"] {
                arrays(&["export", &source, entry[target].as_str().unwrap()]);
            }
            arrays(&["pyramid", &source, "--into", &format!("views/{dtype}")]);
            entry
        })
        .collect();
    let manifest = dir.path().join("manifest.json");
    std::fs::write(&manifest, serde_json::to_string(&entries).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check_formats.py");
    let status = Command::new(peers.join("formats/bin/python"))
        .arg(script)
        .arg(&manifest)
        .status()
        .unwrap();
    assert!(status.success());
}
