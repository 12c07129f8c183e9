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

/// The networks whose export is tried: their config, the voxels that they get, and output channels.
fn networks() -> Vec<(&'static str, serde_json::Value, Vec<usize>)> {
    let base = json!({"num_fmaps": 4, "fmap_inc_factor": 2, "downsample_factors": [[2, 2, 2], [2, 2, 2]]});
    let with = |more: serde_json::Value| {
        let mut config = base.clone();
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    };
    vec![
        (
            "valid",
            with(json!({"input_shape": [44, 44, 48]})),
            vec![44, 44, 48],
        ),
        (
            "larger",
            with(json!({"input_shape": [44, 44, 44]})),
            vec![52, 44, 44],
        ),
        (
            "same",
            with(json!({"input_shape": [16, 16, 16], "padding": "same"})),
            vec![16, 20, 24],
        ),
        (
            "batch",
            with(json!({"input_shape": [16, 16, 16], "padding": "same", "batch_norm": true})),
            vec![16, 16, 16],
        ),
        (
            "group",
            with(json!({"input_shape": [44, 44, 44], "norm": "group", "residual": true})),
            vec![44, 44, 44],
        ),
        (
            "stem",
            with(
                json!({"input_shape": [32, 32, 32], "padding": "same", "norm": "group", "residual": true,
                        "stem_factors": [2, 2, 2], "narrow_upsampling": true}),
            ),
            vec![32, 32, 32],
        ),
        (
            "transposed",
            with(json!({"input_shape": [44, 44, 44], "constant_upsample": false, "fmaps_out": 3})),
            vec![44, 44, 44],
        ),
        (
            "finer",
            with(json!({"input_shape": [16, 16, 16], "padding": "same", "upsample_factors": [[2, 2, 2]]})),
            vec![16, 16, 16],
        ),
        (
            "attention",
            with(json!({"input_shape": [16, 16, 16], "padding": "same", "use_attention": true})),
            vec![16, 16, 16],
        ),
        (
            "flat",
            json!({"input_shape": [44, 44], "num_fmaps": 4, "fmap_inc_factor": 2, "fmaps_in": 2, "norm": "group",
                   "downsample_factors": [[2, 2], [2, 2]]}),
            vec![44, 52],
        ),
    ]
}

/// Values without a pattern, the same everywhere.
fn scattered(length: usize) -> Vec<f32> {
    let value = |i: usize| ((i as u64).wrapping_mul(2_654_435_761) % 1009) as f32 / 1009.0 - 0.5;
    (0..length).map(value).collect()
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn onnxruntime_predicts_what_we_predict() {
    use dacapo::nn::{Batch, CpuEngine, Engine, NetworkSpec, Tensor, export_onnx};
    let peers = PathBuf::from(std::env::var("DACAPO_PEERS").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let engine = CpuEngine::new(Some(1)).unwrap();
    for (name, config, input) in networks() {
        let architecture: dacapo::nn::UNetConfig = serde_json::from_value(config).unwrap();
        let (channels, training) = (architecture.fmaps_in, architecture.input_shape.clone());
        let mut network = engine.build(&NetworkSpec::new(architecture, 3)).unwrap();
        let tensor = |channels: usize, voxels: &[usize], batch: usize| {
            let shape: Vec<usize> = [batch, channels].iter().chain(voxels).copied().collect();
            let values = scattered(shape.iter().product());
            Tensor::from_vec(&shape, values).unwrap()
        };
        // A few steps, so that statistics and biases are no longer those of the start.
        let output = network.output_shape(&training).unwrap();
        let batch = Batch {
            input: tensor(channels, &training, 2),
            target: tensor(3, &output, 2),
            weight: tensor(3, &output, 2),
        };
        (0..3).for_each(|_| drop(network.train_step(&batch, 1e-3)));
        let raw = tensor(channels, &input, 2);
        let mut expected = Tensor::default();
        network.forward(&raw, &mut expected).unwrap();
        let model = export_onnx(
            network.spec(),
            &network.export().unwrap(),
            &input,
            &[("run".to_owned(), name.to_owned())].into(),
        )
        .unwrap();
        std::fs::write(dir.path().join(format!("{name}.onnx")), model).unwrap();
        for (what, tensor) in [("raw", raw), ("expected", expected)] {
            let array = ArrayD::from_shape_vec(tensor.shape, tensor.data).unwrap();
            let file = std::fs::File::create(dir.path().join(format!("{name}.{what}.npy"))).unwrap();
            array.write_npy(file).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check_onnx.py");
    let status = Command::new(peers.join("networks/bin/python"))
        .arg(script)
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn tensorboard_reads_losses_and_scores() {
    let peers = PathBuf::from(std::env::var("DACAPO_PEERS").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shown.yaml");
    let text = "\
name: shown
num_iterations: 6
data:
  synthetic: {container: cells.zarr, shape: [24, 48, 48], voxel_size: [8, 8, 8], cell_diameter: 120, seed: 1}
  train: [{name: a, raw: cells.zarr/raw, labels: cells.zarr/labels}]
  validate: [{name: b, raw: cells.zarr/raw, labels: cells.zarr/labels}]
task: {kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
architecture: {kind: unet, input_shape: [16, 16, 16], num_fmaps: 4, downsample_factors: [[2, 2, 2]], padding: same}
trainer: {tensorboard: true}
validation: {interval: 3}
";
    std::fs::write(&config, text).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_dacapo"))
        .current_dir(dir.path())
        .args(["train", "shown.yaml", "--quiet"])
        .status()
        .unwrap();
    assert!(status.success());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check_tensorboard.py");
    let status = Command::new(peers.join("networks/bin/python"))
        .arg(script)
        .arg(dir.path().join("runs/shown"))
        .status()
        .unwrap();
    assert!(status.success());
}
