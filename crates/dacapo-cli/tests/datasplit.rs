//! `dacapo datasplit`, as the real binary: from a table to a config that trains, and pictures of what is in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, Roi, ZarrArray};
use ndarray::ArrayD;
use serde_json::Value;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dacapo"))
        .current_dir(dir)
        .env_remove("DACAPO_OPTIONS_FILE")
        .env("HOME", dir)
        .args(arguments)
        .output()
        .unwrap()
}

fn succeed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn write(dir: &Path, path: &str, size: i64, data: NdData) {
    let size = Coordinate::splat(3, size);
    let roi = Roi::from_voxels(&[0; 3], data.shape(), &size);
    let address: ArrayAddress = format!("{}/{path}", dir.display()).parse().unwrap();
    let spec = ArraySpec::new(roi.clone(), size, data.dtype());
    let array = ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
    array.write(&roi, &data).unwrap();
}

/// Raw at 4 with labels at 8.
fn cells(dir: &Path) {
    let raw = ArrayD::from_shape_fn(vec![48, 48, 48], |i| (i[0] * 5 + i[1] * 3 + i[2]) as u8);
    write(dir, "cells.zarr/raw", 4, NdData::U8(raw));
    let labels = ArrayD::from_shape_fn(vec![24, 24, 24], |i| {
        (i[0] / 6 * 16 + i[1] / 6 * 4 + i[2] / 6) as u64
    });
    write(dir, "cells.zarr/labels/all", 8, NdData::U64(labels));
}

#[test]
fn a_table_becomes_a_config_that_trains() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cells(dir);
    fs::write(
        dir.join("crops.csv"),
        "train,cells.zarr,raw,cells.zarr,labels/all\nval,cells.zarr,raw,cells.zarr,labels[all]\n",
    )
    .unwrap();
    let make = [
        "datasplit",
        "make",
        "crops.csv",
        "--voxel-size",
        "8,8,8",
        "--most-validation-voxels",
        "5000",
    ];
    let text = succeed(dir, &make);
    assert!(
        text.starts_with("data:") && text.contains("resample") && !text.contains("null"),
        "{text}"
    );
    succeed(dir, &[&make[..], &["-o", "split.yaml"]].concat());
    assert_eq!(
        fs::read_to_string(dir.join("split.yaml")).unwrap().trim_end(),
        text.trim_end()
    );
    // What is there is not replaced unasked.
    assert!(
        !run(dir, &[&make[..], &["-o", "split.yaml"]].concat())
            .status
            .success()
    );
    succeed(dir, &[&make[..], &["-o", "split.yaml", "--overwrite"]].concat());

    let config = "\
name: tiny
num_iterations: 2
data: split.yaml
task: {kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
architecture:
  {kind: unet, input_shape: [16, 16, 16], num_fmaps: 4, fmap_inc_factor: 2, downsample_factors: [[2, 2, 2]],
    padding: same, norm: group}
";
    fs::write(dir.join("tiny.yaml"), config).unwrap();
    assert!(succeed(dir, &["config", "check", "tiny.yaml"]).contains("voxels of (8, 8, 8)"));
    succeed(dir, &["train", "tiny.yaml"]);
    let input = dir.join("runs/tiny/validation.zarr/inputs/cells_labels/raw/.zarray");
    let input: Value = serde_json::from_str(&fs::read_to_string(input).unwrap()).unwrap();
    // 17³ voxels are not more than 5000.
    assert_eq!(input["shape"], serde_json::json!([17, 17, 17]));

    // What is in it: of the config, and of the datasplit alone.
    for file in ["tiny.yaml", "split.yaml"] {
        let text = succeed(dir, &["datasplit", "show", file]);
        assert!(
            text.contains("cells_labels_all") && text.contains("13824 of 13824 voxels"),
            "{text}"
        );
        assert!(text.contains("98.4 %") && text.contains("| 63 "), "{text}");
        let stem = file.trim_end_matches(".yaml");
        for picture in ["train-cells_labels_all.png", "validate-cells_labels.png"] {
            let path = dir.join(format!("{stem}-figures/{picture}"));
            assert!(fs::read(path).unwrap().starts_with(b"\x89PNG"), "{picture}");
        }
    }
    let json: Value =
        serde_json::from_str(&succeed(dir, &["datasplit", "show", "tiny.yaml", "--json"])).unwrap();
    assert_eq!(json["datasets"][0]["largest"][0][1], 216);
    assert_eq!(json["datasets"][1]["voxels"], 17 * 17 * 17);
}

#[test]
fn every_problem_of_a_table_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cells(dir);
    fs::write(
        dir.join("crops.csv"),
        "train,cells.zarr,row,cell.zarr,labels/all\nval,cells.zarr,raw,cells.zarr,labels/none\n",
    )
    .unwrap();
    let output = run(dir, &["datasplit", "make", "crops.csv", "--voxel-size", "8,8,8"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in [
        "3 things",
        "row 1, raw dataset",
        "row 1, labels container",
        "row 2, labels dataset",
        "hint: ",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    let output = run(dir, &["datasplit", "show", "crops.csv"]);
    assert_eq!(output.status.code(), Some(2));
}
