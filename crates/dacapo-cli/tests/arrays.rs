//! `dacapo arrays import`, `export` and `pyramid` as the real binary: what they print, write and refuse.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

mod common;

use common::{run, stderr, stdout};

/// `dacapo arrays` with these arguments: what it prints, having succeeded.
fn succeed(dir: &Path, arguments: &[&str]) -> String {
    common::succeed(dir, &[&["arrays"], arguments].concat())
}

/// What it says, having failed.
fn fail(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, &[&["arrays"], arguments].concat());
    assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
    stderr(&output)
}

/// A .npy file of bytes that count up.
fn npy(path: &Path, shape: [usize; 3]) {
    let mut header = format!(
        "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, {}, {}), }}",
        shape[0], shape[1], shape[2]
    );
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    let values: Vec<u8> = (0..shape.iter().product())
        .map(|i: usize| (i * 7 % 251) as u8)
        .collect();
    fs::write(
        path,
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &values].concat(),
    )
    .unwrap();
}

#[test]
fn in_and_out_again_is_the_same_file() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    npy(&dir.join("a.npy"), [20, 30, 70]);
    let place = [
        "--voxel-size",
        "40,4.6,4.6",
        "--offset",
        "-80,0,46",
        "--units",
        "nm",
    ];
    let text = succeed(dir, &[&["import", "a.npy", "a.zarr/em/raw"][..], &place].concat());
    assert_eq!(
        text,
        "a.zarr/em/raw: uint8 [20, 30, 70] at [-80:720, 0:138, 46:368], voxels of (40, 4.6, 4.6) nm\n"
    );
    // Through every format, and back.
    succeed(dir, &["export", "a.zarr/em/raw", "b.tif"]);
    succeed(dir, &["import", "b.tif", "b.zarr/raw", "--format", "3"]);
    succeed(dir, &["export", "b.zarr/raw", "c.n5/x/s0"]);
    succeed(dir, &["import", "c.n5/x/s0", "c.zarr/raw"]);
    succeed(dir, &["export", "c.zarr/raw", "d.zarr/raw", "--format", "3"]);
    let output = run(dir, &["arrays", "export", "d.zarr/raw", "d.npy", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["voxel_size"], json!([40, 4.6, 4.6]));
    assert_eq!(value["offset"], json!([-80, 0, 46]));
    assert_eq!(value["units"], json!(["nm", "nm", "nm"]));
    assert_eq!(value["lost"].as_array().unwrap().len(), 1);
    let tail = |name: &str| fs::read(dir.join(name)).unwrap().split_off(128);
    assert_eq!(tail("d.npy"), tail("a.npy"));

    let text = succeed(
        dir,
        &[
            "export",
            "a.zarr/em/raw",
            "part.npy",
            "--roi",
            "-40:40,0:46,46:92",
        ],
    );
    assert!(text.contains("[2, 10, 10] at [-40:40, 0:46, 46:92]"), "{text}");
}

#[test]
fn a_pyramid_lists_its_levels() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    npy(&dir.join("a.npy"), [10, 90, 140]);
    succeed(dir, &["import", "a.npy", "a.zarr/raw", "--voxel-size", "8"]);
    let text = succeed(dir, &["pyramid", "a.zarr/raw", "--labels"]);
    for line in ["a.zarr/raw.s1", "[5, 45, 70]", "a.zarr/raw.s2", "(32, 32, 32)"] {
        assert!(text.contains(line), "{text}");
    }
    let text = succeed(
        dir,
        &[
            "pyramid",
            "a.zarr/raw",
            "--levels",
            "1",
            "--into",
            "views/raw",
            "--json",
        ],
    );
    let levels: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(levels[0]["array"], json!("a.zarr/views/raw/s0"));
    assert_eq!(levels[1]["shape"], json!([5, 45, 70]));
    let error = fail(dir, &["pyramid", "a.zarr/raw", "--labels"]);
    assert!(error.contains("a.zarr/raw.s1 is there already"), "{error}");
    succeed(dir, &["pyramid", "a.zarr/raw", "--labels", "--overwrite"]);
}

#[test]
fn every_array_says_what_made_it() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    npy(&dir.join("a.npy"), [4, 70, 80]);
    succeed(dir, &["import", "a.npy", "a.zarr/raw"]);
    succeed(dir, &["pyramid", "a.zarr/raw", "--labels"]);
    succeed(dir, &["export", "a.zarr/raw.s1", "b.zarr/raw", "--format", "3"]);
    for (array, source, parameters) in [
        ("a.zarr/raw", "a.npy", json!(null)),
        ("a.zarr/raw.s1", "a.zarr/raw", json!("pyramid(mode)")),
        // What made it made the copy.
        ("b.zarr/raw", "a.zarr/raw", json!("pyramid(mode)")),
    ] {
        let info: Value = serde_json::from_str(&succeed(dir, &["info", array, "--json"])).unwrap();
        let made = &info["provenance"];
        assert_eq!(made["source"], json!(source), "{info}");
        assert_eq!(made["parameters"], parameters, "{info}");
        assert!(made["program"].as_str().unwrap().starts_with("dacapo "), "{info}");
        assert!(made["run"].is_null() && made["time"].is_string(), "{info}");
    }
}

#[test]
fn what_cannot_be_done_is_one_sentence() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    npy(&dir.join("a.npy"), [2, 3, 4]);
    fs::write(dir.join("notes.txt"), "hello").unwrap();
    succeed(dir, &["import", "a.npy", "a.zarr/raw"]);
    for (arguments, says) in [
        (
            &["import", "a.npy", "a.zarr/raw"][..],
            "a.zarr/raw is there already",
        ),
        (&["import", "nothing.npy", "b.zarr/raw"], "nothing.npy"),
        (
            &["import", "notes.txt", "b.zarr/raw"],
            "a folder of .tif or .png slices",
        ),
        (&["import", "a.npy", "b.zarr"], "b.zarr"),
        (
            &["import", "a.npy", "b.zarr/raw", "--voxel-size", "4,4,4,4"],
            "4 spatial axes",
        ),
        (
            &["import", "a.npy", "b.zarr/raw", "--voxel-size", "0,4,4"],
            "above 0",
        ),
        (&["import", "a.npy", "b.zarr/raw", "--axes", "y,x,c^"], "in front"),
        (
            &["import", "a.npy", "b.zarr/raw", "--axes", "z,x,x"],
            "two axes are called x",
        ),
        (&["import", "a.npy", "b.zarr/.unfinished-a"], "begins with a dot"),
        (&["import", "a.npy", "b.zarr/zarr.json"], "its metadata"),
        (&["verify", "--base", "nowhere"], "there is no nowhere"),
        (&["export", "a.zarr/other", "b.npy"], "there are: raw"),
        (&["export", "a.zarr/raw", "b.txt"], ".n5/dataset"),
        (
            &["export", "a.zarr/raw", "b.npy", "--roi", "0:0.5,0:1,0:1"],
            "not on the grid",
        ),
        (&["export", "a.zarr/raw", "a.npy"], "a.npy is there already"),
        (&["pyramid", "a.zarr/raw", "--labels", "--image"], "--image"),
    ] {
        let error = fail(dir, arguments);
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    assert!(!dir.join("b.zarr").exists(), "nothing is begun");
    assert!(!dir.join("b.npy").exists() && !dir.join("b.txt").exists());
}

#[test]
fn files_that_do_not_say_where_they_lie_are_placed() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    npy(&dir.join("a.npy"), [6, 8, 10]);
    let place = ["--voxel-size", "8", "--offset", "80,0,0"];
    let import = [&["import", "a.npy", "a.zarr/labels", "--units", "nm"][..], &place].concat();
    succeed(dir, &import);
    let evaluate = ["evaluate", "a.npy", "a.zarr/labels", "--json"];
    assert!(!run(dir, &evaluate).status.success());
    let text = common::succeed(dir, &[&evaluate[..], &place].concat());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["voi"], json!(0.0));
    let segment = [
        "segment",
        "a.npy",
        "b.zarr/x",
        "--method",
        "threshold",
        "--threshold",
        "0.5",
    ];
    let text = common::succeed(dir, &[&segment[..], &place].concat());
    assert!(text.contains("[80:128, 0:64, 0:80]"), "{text}");
}
