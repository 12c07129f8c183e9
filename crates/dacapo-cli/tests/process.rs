//! The real binary: what it prints and returns, and that stopping it, kindly or not, changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dacapo::array::storage::Access;
use dacapo::array::{
    ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi, ZarrArray,
};
use ndarray::ArrayD;
use serde_json::Value;

mod common;

use common::{dacapo, run, stderr, succeed};

/// A run that takes seconds.
fn config(dir: &Path, name: &str, iterations: u64, more: &str) -> PathBuf {
    common::config(
        dir,
        name,
        iterations,
        &format!("validation: {{interval: 20}}\n{more}"),
    )
}

fn losses(dir: &Path, run: &str) -> Vec<(u64, u64)> {
    losses_under(&dir.join("runs"), run)
}

/// (iteration, loss) of every recorded step, the loss as its bits.
fn losses_under(base: &Path, run: &str) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(base.join(run).join("stats/training.jsonl")).unwrap_or_default();
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        Some((value["iteration"].as_u64()?, value["loss"].as_f64()?.to_bits()))
    };
    text.lines().filter_map(parse).collect()
}

fn start(dir: &Path, arguments: &[&str]) -> Child {
    dacapo(dir)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a condition holds, for a minute at most; false if the process ended before.
fn wait_until(child: &mut Child, mut holds: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !holds() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn signal(child: &Child, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_run_from_end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    config(dir, "tiny", 40, "");
    assert!(succeed(dir, &["config", "check", "tiny.yaml"]).contains("tiny: fine"));
    assert!(
        !dir.join("runs").exists() && !dir.join("cells.zarr").exists(),
        "a check writes nothing"
    );
    let table = succeed(dir, &["train", "tiny.yaml"]);
    assert!(table.contains("voi") && table.contains("| b "), "{table}");
    for path in [
        "run.yaml",
        "stats/validation.jsonl",
        "checkpoints/40.safetensors",
        "validation.zarr/inputs/b/gt",
        "validation.zarr/40/b/prediction",
        "snapshot.zarr/1/volumes/raw",
    ] {
        assert!(dir.join("runs/tiny").join(path).exists(), "{path}");
    }
    assert_eq!(losses(dir, "tiny").len(), 40);

    let runs: Value = serde_json::from_str(&succeed(dir, &["runs", "--json"])).unwrap();
    assert_eq!(runs[0]["name"], "tiny");
    assert_eq!(runs[0]["state"], "finished");
    assert!(
        runs[0]["best"]
            .as_array()
            .unwrap()
            .iter()
            .any(|best| best["criterion"] == "voi")
    );
    let shown: Value = serde_json::from_str(&succeed(dir, &["show", "tiny", "--json"])).unwrap();
    for file in shown["files"].as_array().unwrap() {
        assert!(dir.join(file.as_str().unwrap()).is_file(), "{file}");
    }
    assert_eq!(shown["files"].as_array().unwrap().len(), 2);
    let validated: Value = serde_json::from_str(&succeed(
        dir,
        &["validate", "tiny", "--iteration", "20", "--json"],
    ))
    .unwrap();
    assert_eq!(validated[0]["iteration"], 20);

    let predict = [
        "predict",
        "tiny",
        "--input",
        "cells.zarr/raw",
        "--output",
        "out.zarr/affs",
    ];
    let roi = ["--roi", "40:120,80:240,0:400"];
    succeed(dir, &[&predict[..], &roi].concat());
    let made = ZarrArray::open(
        &dir.join("out.zarr/affs").to_str().unwrap().parse().unwrap(),
        &Access::default(),
    )
    .unwrap();
    assert_eq!(made.spec().roi.to_string(), "[40:120, 80:240, 0:384]");
    assert_eq!(made.spec().channels, [3]);
    let again = run(dir, &predict);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("out.zarr/affs is there already"),
        "{}",
        stderr(&again)
    );
    succeed(dir, &[&predict[..], &["--overwrite"]].concat());
}

#[test]
fn after_any_interruption_the_losses_are_those_of_a_run_that_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let more = "trainer: {checkpoint_interval: 7}\n";
    config(dir, "whole", 60, more);
    succeed(dir, &["train", "whole.yaml"]);
    let whole = losses(dir, "whole");
    assert_eq!(whole.len(), 60);

    config(dir, "broken", 60, more);
    // Killed at moments that have nothing to do with its checkpoints, some of them in validations.
    for steps in [3, 12, 20, 21, 33, 41, 55] {
        let mut child = start(dir, &["train", "broken.yaml"]);
        let reached = || losses(dir, "broken").last().is_some_and(|last| last.0 >= steps);
        if wait_until(&mut child, reached) {
            signal(&child, "-KILL");
        }
        child.wait().unwrap();
    }
    succeed(dir, &["train", "broken"]);
    assert_eq!(losses(dir, "broken"), whole);

    config(dir, "stopped", 60, more);
    let mut child = start(dir, &["train", "stopped.yaml"]);
    assert!(wait_until(&mut child, || losses(dir, "stopped").len() > 5));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("to go on:"), "{}", stderr(&output));
    let summary: Value = serde_json::from_str(&succeed(dir, &["runs", "--json"])).unwrap();
    let stopped = summary
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["name"] == "stopped")
        .unwrap();
    assert_eq!(stopped["state"], "interrupted");
    succeed(dir, &["train", "stopped"]);
    assert_eq!(losses(dir, "stopped"), whole);

    // A longer run of the same config goes on.
    let path = config(dir, "stopped", 65, more);
    succeed(dir, &["train", path.to_str().unwrap()]);
    assert_eq!(losses(dir, "stopped").len(), 65);
    assert_eq!(losses(dir, "stopped")[..60], whole);
}

#[test]
fn a_second_trainer_is_told_who_holds_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    config(dir, "held", 100_000, "");
    let mut child = start(dir, &["train", "held.yaml"]);
    assert!(wait_until(&mut child, || !losses(dir, "held").is_empty()));
    let second = run(dir, &["train", "held.yaml"]);
    signal(&child, "-KILL");
    let id = child.id().to_string();
    child.wait().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains(&id), "{}", stderr(&second));
    assert!(!stderr(&second).contains("panicked"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_goes_on_when_a_full_disk_has_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let more = "trainer: {checkpoint_interval: 5}\n";
    config(dir, "whole", 40, more);
    succeed(dir, &["train", "whole.yaml"]);
    let Some(disk) = common::Disk::new(dir.join("small")) else {
        return;
    };
    config(dir, "full", 40, more);
    // It is filled in many places of a run: its config, snapshots, inputs, checkpoints, predictions.
    let (mut refused, mut size) = (0, 64);
    loop {
        let output = run(dir, &["--base", "small", "train", "full.yaml"]);
        if output.status.success() {
            break;
        }
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("No space left on device"), "{message}");
        assert!(message.contains("free some space"), "{message}");
        assert!(
            message.contains("small/"),
            "it names what could not be written: {message}"
        );
        refused += 1;
        size += 96;
        assert!(size < 1 << 16, "no disk is large enough");
        disk.remount(&format!("size={size}k"));
    }
    assert!(refused > 3, "filled {refused} times");
    assert_eq!(losses_under(&disk.0, "full"), losses(dir, "whole"));
}

/// An array of one value.
fn array(dir: &Path, name: &str, offset: i64, dtype: DType, value: f32) {
    let voxel_size = Coordinate::new([8, 8, 8]);
    let spec = ArraySpec::new(
        Roi::from_voxels(&[offset; 3], &[20; 3], &voxel_size),
        voxel_size,
        dtype,
    );
    let address: ArrayAddress = dir.join(name).to_str().unwrap().parse().unwrap();
    let array = ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
    let shape = vec![20; 3];
    let data = match dtype {
        DType::U64 => NdData::U64(ArrayD::from_elem(shape, value as u64)),
        _ => NdData::F32(ArrayD::from_elem(shape, value)),
    };
    array.write(&spec.roi, &data).unwrap();
}

#[test]
fn bad_input_is_one_sentence_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    array(dir, "d.zarr/raw", 0, DType::F32, 0.5);
    array(dir, "d.zarr/labels", 0, DType::U64, 1.0);
    array(dir, "d.zarr/nothing", 0, DType::U64, 0.0);
    array(dir, "d.zarr/apart", 100, DType::U64, 1.0);
    array(dir, "d.zarr/floats", 0, DType::F32, 1.0);
    let cases = [
        ("name: x", "name: 'a/b'", "`/`"),
        ("d.zarr/raw", "none.zarr/raw", "d.zarr"),
        ("d.zarr/labels", "d.zarr/label", "labels"),
        ("d.zarr/labels", "d.zarr/apart", "do not overlap"),
        ("d.zarr/labels", "d.zarr/floats", "float32"),
        ("d.zarr/labels", "d.zarr/nothing", "label"),
        ("[16, 16, 16]", "[16, 17, 16]", "[16, 16, 16]"),
        ("num_fmaps", "num_fmap", "did you mean `num_fmaps`"),
        ("seed: 3", "seed: three", "seed"),
    ];
    let good = "\
name: x
seed: 3
num_iterations: 2
data:
  intensity: {min: 0, max: 1}
  train: [{name: a, raw: d.zarr/raw, labels: d.zarr/labels}]
task: {kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
architecture:
  {kind: unet, input_shape: [16, 16, 16], num_fmaps: 2, fmap_inc_factor: 2, downsample_factors: [[2, 2, 2]],
    padding: same}
";
    for (part, wrong, told) in cases {
        fs::write(dir.join("bad.yaml"), good.replace(part, wrong)).unwrap();
        for command in [["config", "check", "bad.yaml"].as_slice(), &["train", "bad.yaml"]] {
            let output = run(dir, command);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{wrong}: {text}");
            assert!(
                text.starts_with("error: ") && text.contains(told),
                "{wrong}: {text}"
            );
            assert!(!text.contains("panicked"), "{wrong}: {text}");
        }
        assert!(!dir.join("runs").exists(), "{wrong} left something");
    }
    fs::write(dir.join("good.yaml"), good).unwrap();
    succeed(dir, &["train", "good.yaml"]);

    // A config that changed since the run began.
    fs::write(dir.join("changed.yaml"), good.replace("seed: 3", "seed: 4")).unwrap();
    let changed = run(dir, &["train", "changed.yaml"]);
    assert_eq!(changed.status.code(), Some(2));
    assert!(
        stderr(&changed).contains("seed") && stderr(&changed).contains("--as-new"),
        "{}",
        stderr(&changed)
    );
    succeed(dir, &["train", "changed.yaml", "--as-new", "y"]);

    // A newest checkpoint that is cut off: the one before serves.
    fs::write(
        dir.join("good.yaml"),
        good.replace("num_iterations: 2", "num_iterations: 4"),
    )
    .unwrap();
    succeed(dir, &["train", "good.yaml"]);
    let newest = dir.join("runs/x/checkpoints/4.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(
        dir.join("good.yaml"),
        good.replace("num_iterations: 2", "num_iterations: 5"),
    )
    .unwrap();
    let output = run(dir, &["train", "good.yaml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("warning:") && stderr(&output).contains('4'),
        "{}",
        stderr(&output)
    );

    // Raw that makes the loss NaN: training stops and keeps the batch.
    array(dir, "nan.zarr/raw", 0, DType::F32, f32::NAN);
    fs::write(
        dir.join("nan.yaml"),
        good.replace("d.zarr/raw", "nan.zarr/raw")
            .replace("name: x", "name: z"),
    )
    .unwrap();
    let output = run(dir, &["train", "nan.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("iteration 1"), "{}", stderr(&output));
    assert!(dir.join("runs/z/snapshot.zarr").exists());
}

#[test]
fn usage_is_taught() {
    let dir = tempfile::tempdir().unwrap();
    let help = succeed(dir.path(), &["--help"]);
    for word in [
        "container.zarr/dataset",
        "dacapo demo",
        "Exit codes",
        "DACAPO_OPTIONS_FILE",
    ] {
        assert!(help.contains(word), "{word}");
    }
    for command in ["demo", "train", "validate", "predict", "runs", "show", "config"] {
        assert!(
            succeed(dir.path(), &[command, "--help"]).contains("Usage"),
            "{command}"
        );
    }
    assert_eq!(run(dir.path(), &["tarin"]).status.code(), Some(2));
    let schema: Value = serde_json::from_str(&succeed(dir.path(), &["config", "schema"])).unwrap();
    assert!(schema["properties"]["num_iterations"]["description"].is_string());
    let missing = run(dir.path(), &["show", "nobody"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("nobody"));
    // Something else has to be said: 2. It was said well, and cannot be done: 1.
    for (line, code) in [
        ("arrays info nothing", 2),
        ("arrays info no.zarr/x", 1),
        ("arrays ls --kind nothing", 2),
        ("arrays prune --keep best:1 --kind input", 2),
        ("arrays cp a b --overwrite", 2),
        ("arrays cp nothing b", 1),
        ("export nobody x.txt", 2),
        ("show a/b", 2),
        ("arrays verify", 1),
    ] {
        let output = run(dir.path(), &line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_preview_draws_batches_and_makes_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let more = "\
trainer:
  batch_size: 2
  augment: {elastic: {control_point_spacing: [4, 6, 6], jitter_sigma: [0, 1, 1], rotation: [0, 40], outside: mirror}}";
    config(dir.path(), "seen", 40, more);
    let printed = succeed(
        dir.path(),
        &["train", "seen.yaml", "--preview", "2", "--out", "pictures"],
    );
    assert_eq!(printed, "pictures/0001.png\npictures/0002.png\n");
    let read = |name: &str| fs::read(dir.path().join("pictures").join(name)).unwrap();
    assert!(read("0001.png").starts_with(b"\x89PNG") && read("0001.png") != read("0002.png"));
    assert!(!dir.path().join("runs").exists() && !dir.path().join("cells.zarr").exists());
    // The same pictures again: a batch is a function of its number.
    let before = read("0002.png");
    succeed(
        dir.path(),
        &[
            "train",
            "seen.yaml",
            "--preview",
            "2",
            "--out",
            "pictures",
            "--json",
        ],
    );
    assert_eq!(read("0002.png"), before);
}

#[test]
fn shapes_of_a_network_are_listed_with_what_they_cost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = config(dir, "listed", 4, "");
    let path = path.to_str().unwrap();
    // The data is not there, and not asked for.
    let report: Value = serde_json::from_str(&succeed(
        dir,
        &["--json", "config", "shapes", path, "--most", "32"],
    ))
    .unwrap();
    let shapes = report["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 16, "{report}");
    let training = |shape: &Value| shape["memory_training"].as_u64().unwrap();
    // Each shape has tiles of its own: a larger one may take a little less than the one before it.
    assert!(shapes.windows(4).all(|w| training(&w[0]) <= training(&w[3])));
    assert_eq!(report["configured"]["output"], serde_json::json!([16, 16, 16]));
    assert_eq!(
        report["configured"]["context"],
        serde_json::json!([0.0, 0.0, 0.0])
    );
    let doubled: Value = serde_json::from_str(&succeed(
        dir,
        &["--json", "config", "shapes", path, "--batch", "8"],
    ))
    .unwrap();
    assert!(training(&doubled["configured"]) > training(&report["configured"]));
    let text = succeed(dir, &["config", "shapes", path]);
    assert!(
        text.contains("[32, 32, 32]") && text.contains("parameters"),
        "{text}"
    );
}

#[test]
fn a_machine_is_measured_with_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = config(dir, "measured", 4, "");
    let path = path.to_str().unwrap();
    let arguments = [
        "bench",
        path,
        "--seconds",
        "1",
        "--volume",
        "40,100,100",
        "--layers",
        "5",
    ];
    let report: Value = serde_json::from_str(&succeed(dir, &[&["--json"], &arguments[..]].concat())).unwrap();
    for part in ["training", "prediction"] {
        let number = |key: &str| report[part][key].as_f64().unwrap();
        assert!(
            number("multiplications") > 1e5 && number("seconds") > 0.0,
            "{report}"
        );
        // What else runs disturbs both; a thousandth and a hundredfold would be a wrong count.
        assert!((1e-3..2.0).contains(&number("share_of_peak")), "{report}");
    }
    assert_eq!(report["layers"].as_array().unwrap().len(), 5);
    let pieces = report["volume"]["pieces"].as_u64().unwrap();
    assert!(
        report["volume"]["hours"].as_f64().unwrap() > 0.0 && pieces > 20,
        "{report}"
    );
    let text = succeed(dir, &arguments);
    assert!(
        text.contains("of the peak") && text.contains("hours of prediction"),
        "{text}"
    );
    for (arguments, reason) in [
        (["--volume", "40,100"], "3 axes"),
        (["--volume", "0,1,1"], "`0` is no whole number from 1"),
        (["--seconds", "0"], "0 is not in 1.."),
    ] {
        let wrong = run(dir, &[&["bench", path], &arguments[..]].concat());
        assert!(
            !wrong.status.success() && stderr(&wrong).contains(reason),
            "{}",
            stderr(&wrong)
        );
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = config(dir, "asked", 4, "");
    for command in [["train"], ["bench"]] {
        let refusal = |options: &[&str]| {
            let refused = run(dir, &[options, &command[..], &[path.to_str().unwrap()]].concat());
            assert!(!refused.status.success());
            stderr(&refused)
        };
        // By a program without libtorch, and by libtorch without such a GPU.
        let no_gpu = refusal(&["--device", "cuda:99"]);
        assert!(
            no_gpu.contains("libtorch") && no_gpu.contains("cuda:99") || no_gpu.contains("no CUDA device"),
            "{no_gpu}"
        );
        let no_device = refusal(&["--device", "gpu"]);
        assert!(no_device.contains("`gpu` is no device"), "{no_device}");
        let wide = refusal(&["--precision", "bf16"]);
        assert!(wide.contains("the device `cpu` computes in f32"), "{wide}");
    }
}

#[test]
fn a_trained_network_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "made", 20, "");
    succeed(dir.path(), &["train", "made.yaml", "--quiet"]);
    let printed = succeed(
        dir.path(),
        &["export", "made", "-o", "net.onnx", "--iteration", "latest"],
    );
    assert_eq!(
        printed,
        "net.onnx: iteration 20, [16, 16, 16] voxels in, [16, 16, 16] out\n"
    );
    let larger = [
        "export",
        "made",
        "-o",
        "large.onnx",
        "--iteration",
        "20",
        "--input-shape",
        "24,32,32",
    ];
    assert!(succeed(dir.path(), &larger).contains("[24, 32, 32] voxels in"));
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("net.onnx") > 1000);
    succeed(
        dir.path(),
        &["export", "made", "-o", "net.safetensors", "--iteration", "latest"],
    );
    assert!(size("net.safetensors") < size("net.onnx") * 2);
    for (arguments, reason) in [
        (["export", "made", "-o", "net.onnx"], "is there already"),
        (
            ["export", "made", "-o", "net.pt"],
            "neither in .onnx nor in .safetensors",
        ),
        (["export", "nade", "-o", "other.onnx"], "no run nade"),
    ] {
        let output = run(dir.path(), &arguments);
        assert!(
            !output.status.success() && stderr(&output).contains(reason),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn classes_are_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    array(dir, "d.zarr/all", 0, DType::U64, 1.0);
    array(dir, "d.zarr/none", 0, DType::U64, 0.0);
    let command = [
        "evaluate",
        "d.zarr/all",
        "d.zarr/none",
        "--kind",
        "binary",
        "--clip",
        "7",
    ];
    let scores: Value = serde_json::from_str(&succeed(dir, &[&command[..], &["--json"]].concat())).unwrap();
    assert_eq!(
        (&scores["recall"], &scores["precision"]),
        (&Value::from(0.0), &Value::Null)
    );
    assert_eq!(scores["mean_false_negative_distance_clipped"], 7.0);
    assert_eq!(scores["evaluation"]["tolerance"], 40.0);
    let printed = succeed(dir, &command);
    assert!(
        printed.contains("dice") && printed.contains("2 TP / (2 TP + FP + FN)"),
        "{printed}"
    );
    let wrong = run(dir, &[&command[..], &["--largest", "3"]].concat());
    assert!(
        stderr(&wrong).contains("--largest is about --kind instance"),
        "{}",
        stderr(&wrong)
    );
}
