//! The real binary: segmenting, sweeping and comparing arrays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, Roi, ZarrArray};
use ndarray::{ArrayD, IxDyn};
use serde_json::{Value, json};

mod common;

use common::{run, stderr, succeed};

/// An array of voxels of 8, with channels of these names in front if there are any.
fn array(dir: &Path, name: &str, names: &[&str], data: &NdData) {
    let voxel_size = Coordinate::new([8, 8, 8]);
    let channels = data.shape().len() - 3;
    let roi = Roi::from_voxels(&[0; 3], &data.shape()[channels..], &voxel_size);
    let spec = ArraySpec::new(roi.clone(), voxel_size, data.dtype());
    let spec = spec.with_channels(data.shape()[..channels].to_vec());
    let mut options = CreateOptions::default();
    if !names.is_empty() {
        options
            .attributes
            .insert("channel_names".to_owned(), json!(names));
    }
    let address: ArrayAddress = dir.join(name).to_str().unwrap().parse().unwrap();
    let array = ZarrArray::create(&address, &Access::default(), &spec, &options).unwrap();
    array.write(&roi, data).unwrap();
}

/// Two slabs of 13 planes with a plane between: `d.zarr/labels`, and their affinities in `d.zarr/affinities`, which
/// say what they are.
fn slabs(dir: &Path) {
    let label = |z: usize| [1, 0, 2][usize::from(z >= 13) + usize::from(z >= 14)];
    let labels = ArrayD::from_shape_fn(vec![27, 30, 30], |at| label(at[0]));
    array(dir, "d.zarr/labels", &[], &NdData::U64(labels));
    let affinities = ArrayD::from_shape_fn(vec![3, 27, 30, 30], |at: IxDyn| {
        let (z, back) = (at[1], at[1].saturating_sub(usize::from(at[0] == 0)));
        if label(z) != 0 && label(z) == label(back) {
            240
        } else {
            10
        }
    });
    let names = [
        "affinity [-1, 0, 0]",
        "affinity [0, -1, 0]",
        "affinity [0, 0, -1]",
    ];
    array(dir, "d.zarr/affinities", &names, &NdData::U8(affinities));
}

fn refused(dir: &Path, line: &str, reason: &str) {
    failed(dir, line, reason, 2);
}

fn failed(dir: &Path, line: &str, reason: &str, code: i32) {
    let output = run(dir, &line.split(' ').collect::<Vec<_>>());
    let said = stderr(&output);
    assert!(
        output.status.code() == Some(code) && said.contains(reason),
        "{line}: {:?}, {said}",
        output.status
    );
    assert!(!dir.join("o.zarr").exists(), "{line}");
}

#[test]
fn a_sweep_prints_and_draws_its_curve() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    slabs(dir);
    for (method, criterion, varied, points) in [
        ("threshold", "dice", "threshold", 255),
        ("components", "voi", "threshold", 255),
        ("agglomerate", "voi", "threshold", 19),
        ("mutex-watershed", "voi", "bias", 19),
    ] {
        let line = format!("sweep d.zarr/affinities d.zarr/labels --method {method} --plot curve.svg");
        let line: Vec<&str> = line.split(' ').collect();
        let swept: Value = serde_json::from_str(&succeed(dir, &[&line[..], &["--json"]].concat())).unwrap();
        assert_eq!(swept["criterion"], criterion);
        assert_eq!(swept["points"].as_array().unwrap().len(), points, "{method}");
        let best = &swept["points"][swept["best"].as_u64().unwrap() as usize];
        assert!(best["scores"][criterion].is_number(), "{method}: {best}");
        let drawn = fs::read_to_string(dir.join("curve.svg")).unwrap();
        assert!(
            drawn.contains("<svg") && drawn.contains(&format!("{criterion} by {varied}")),
            "{method}"
        );
        assert!(succeed(dir, &line).contains(criterion));
    }
    for (line, reason) in [
        ("--method agglomerate --plot curve.png", "call it curve.svg"),
        ("--method agglomerate --values 2", "between 0 and 1"),
        ("--method components --values nan", "`nan` is no number"),
        (
            "--method threshold --connectivity 6",
            "--connectivity is about --method components",
        ),
        ("--method components --connectivity 8", "6, 18 or 26 neighbours"),
        (
            "--method components --offsets=0,0,1",
            "--offsets is about --method",
        ),
        ("--method agglomerate --offsets=0,0,1", "--offsets names 1"),
    ] {
        refused(
            dir,
            &format!("sweep d.zarr/affinities d.zarr/labels {line}"),
            reason,
        );
    }
    assert!(!dir.join("curve.png").exists());
    refused(
        dir,
        "sweep d.zarr/affinities d.zarr/affinities --method components",
        "affinities has 3 channels, and labels have one",
    );
}

#[test]
fn segments_are_made_and_what_is_said_in_vain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    slabs(dir);
    for (line, reason) in [
        (
            "argmax --threshold 0.5",
            "--threshold is about --method threshold",
        ),
        ("mutex-watershed --threshold 0.9", "--threshold is about"),
        (
            "threshold --threshold 0.5 --bias 0.5",
            "--bias is about --method mutex-watershed",
        ),
        ("watershed --connectivity 26", "--connectivity is about"),
        (
            "agglomerate --threshold 0.5 --seeds d.zarr/labels",
            "--seeds is about --method watershed",
        ),
        ("watershed --seeds d.zarr/labels --block 64", "--block is about"),
        ("agglomerate --threshold 0.5 --block 8", "blocks of 8 voxels"),
        ("agglomerate --threshold 0.5 --offsets=0,0,1", "--offsets names 1"),
        ("agglomerate --threshold -1", "between 0 and 1"),
        ("threshold --threshold 7", "between 0 and 1"),
        ("components", "affinities has 3 channels, and labels have one"),
        (
            "components --threshold 0.5 --connectivity 4",
            "6, 18 or 26 neighbours",
        ),
        (
            "threshold --threshold 0.5 --voxel-size -1,1,1",
            "sizes are above 0",
        ),
    ] {
        refused(
            dir,
            &format!("segment d.zarr/affinities o.zarr/x --method {line}"),
            reason,
        );
    }
    // Nothing becomes what is made of it, whatever it is called.
    for name in ["d.zarr/affinities", "./d.zarr/affinities"] {
        let line = format!("segment {name} d.zarr/affinities --method argmax --overwrite");
        refused(dir, &line, "would be replaced by its own segmentation");
    }
    let line = "segment d.zarr/affinities d.zarr/labels --method watershed --seeds d.zarr/labels --overwrite";
    refused(dir, line, "would be replaced");

    let line =
        "segment d.zarr/affinities o.zarr/x --method components --threshold 0.5 --connectivity 18 --json";
    let done: Value = serde_json::from_str(&succeed(dir, &line.split(' ').collect::<Vec<_>>())).unwrap();
    assert_eq!(done["method"], "components(threshold=0.5, connectivity=18)");
    assert_eq!(done["shape"], json!([27, 30, 30]));
}

/// What values of floats mean is not known, and a threshold that is on one side of all of them is a slip.
#[test]
fn a_threshold_beside_all_values_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let values = ArrayD::from_shape_fn(vec![4, 4, 4], |at| at[0] as f32 / 4.0);
    array(dir, "d.zarr/p", &[], &NdData::F32(values));
    for (method, threshold, told) in [
        (
            "threshold",
            "7",
            "no value is above --threshold 7: those of d.zarr/p are from 0 to 0.75",
        ),
        ("components", "0.75", "no value is above --threshold 0.75"),
        ("threshold", "-1", "every value is above --threshold -1"),
        ("threshold", "0.5", ""),
        ("components", "0", ""),
    ] {
        let line =
            format!("segment d.zarr/p o.zarr/x --overwrite --method {method} --threshold {threshold} --json");
        let output = run(dir, &line.split(' ').collect::<Vec<_>>());
        let said = stderr(&output);
        assert!(output.status.success() && said.contains(told), "{line}: {said}");
        assert_eq!(said.is_empty(), told.is_empty(), "{line}: {said}");
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(done["values"], json!([0.0, 0.75]));
    }
}

#[test]
fn what_is_compared_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cube = |name: &str, depth: usize, value: i32| {
        array(
            dir,
            name,
            &[],
            &NdData::I32(ArrayD::from_elem(vec![depth, 9, 10], value)),
        );
    };
    cube("d.zarr/a", 8, 1);
    cube("d.zarr/b", 7, 1);
    cube("d.zarr/below", 8, -1);
    for kind in ["instance", "binary"] {
        let line = ["evaluate", "d.zarr/a", "d.zarr/b", "--kind", kind, "--json"];
        let output = run(dir, &line);
        let scores: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_ne!(scores["truth_roi"], scores["test_roi"]);
        assert_eq!(scores["roi"], scores["test_roi"]);
        assert!(
            stderr(&output).contains("only [0:56, 0:72, 0:80] is compared"),
            "{}",
            stderr(&output)
        );
        let same = run(dir, &["evaluate", "d.zarr/a", "d.zarr/a", "--kind", kind]);
        assert!(same.status.success() && !stderr(&same).contains("only"));
        let inside = [
            "evaluate",
            "d.zarr/a",
            "d.zarr/b",
            "--kind",
            kind,
            "--roi",
            "0:56,0:72,0:80",
        ];
        assert!(!stderr(&run(dir, &inside)).contains("only"));
    }
    for (line, reason) in [
        (
            "d.zarr/a d.zarr/b --boundary-band -1",
            "`-1` is no whole number from 0",
        ),
        ("d.zarr/a d.zarr/b --largest -1", "`-1` is no whole number from 0"),
        ("d.zarr/a d.zarr/b --block 0", "`0` is no whole number from 1"),
        ("d.zarr/a d.zarr/b --voxel-size -1,1,1", "sizes are above 0"),
    ] {
        refused(dir, &format!("evaluate {line}"), reason);
    }
    let reason = "d.zarr/below cannot be read as labels: -1 (int32)";
    failed(dir, "evaluate d.zarr/a d.zarr/below", reason, 1);
}
