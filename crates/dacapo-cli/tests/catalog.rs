//! `dacapo arrays`, by the real binary: what it prints and returns, on made-up arrays and on those of a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dacapo::array::storage::Access;
use dacapo::array::{
    ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi, ZarrFormat, list_arrays,
};
use dacapo::store::{ArrayStore, LocalArrayIdentifier, LocalStore, Provenance};
use ndarray::ArrayD;
use serde_json::Value;

mod common;

use common::{dacapo, run, stderr, stdout, succeed};

fn json(dir: &Path, arguments: &[&str]) -> Value {
    let output = run(dir, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)))
}

/// What a failure says, and its exit code.
fn fail(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
    format!("{}[{}]", stderr(&output), output.status.code().unwrap_or(-1))
}

fn write(store: &LocalStore, array: &LocalArrayIdentifier, iteration: u64, format: ZarrFormat) {
    let voxel_size = Coordinate::new([8, 8, 8]);
    let roi = Roi::from_voxels(&[1, 0, 0], &[16, 8, 8], &voxel_size);
    let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U64);
    let mut provenance = Provenance::new("a");
    provenance.iteration = Some(iteration);
    let options = CreateOptions {
        chunk_shape: Some(vec![8, 8, 8]),
        format,
        attributes: provenance.attributes(),
        ..CreateOptions::default()
    };
    let draft = store.arrays.draft(array, &spec, &options).unwrap();
    let values = ArrayD::from_shape_fn(vec![16, 8, 8], |at| (at[0] / 4) as u64);
    draft.write(&roi, &NdData::U64(values)).unwrap();
    draft.publish().unwrap();
}

/// Predictions and outputs of two iterations of a run, in both formats.
fn made_up(dir: &Path) -> LocalStore {
    let store = LocalStore::new(dir.join("runs"));
    for (iteration, format) in [(10, ZarrFormat::V2), (20, ZarrFormat::V3)] {
        let prediction = store
            .arrays
            .validation_prediction_array("a", iteration, "b")
            .unwrap();
        write(&store, &prediction, iteration, format);
        let output = store
            .arrays
            .validation_output_array("a", iteration, "t=0.5", "b")
            .unwrap();
        write(&store, &output, iteration, format);
    }
    store
}

const PREDICTION: &str = "a/validation.zarr/20/b/prediction";

#[test]
fn arrays_are_listed_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made_up(dir);
    insta::assert_snapshot!(succeed(dir, &["arrays", "ls"]), @r"
    | array                               | kind       | score |
    |-------------------------------------|------------|-------|
    | a/validation.zarr/10/b/prediction   | prediction |       |
    | a/validation.zarr/20/b/prediction   | prediction |       |
    | a/validation.zarr/10/b/output/t=0.5 | output     |       |
    | a/validation.zarr/20/b/output/t=0.5 | output     |       |
    ");
    let long = json(
        dir,
        &["arrays", "ls", "--long", "--iteration", "20:", "--kind", "output"],
    );
    assert_eq!(long.as_array().unwrap().len(), 1);
    assert_eq!(long[0]["parameters"], "t=0.5");
    assert_eq!(long[0]["shape"], serde_json::json!([16, 8, 8]));
    assert!(long[0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        json(dir, &["arrays", "ls", "a/validation.zarr/10"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(json(dir, &["arrays", "ls", "--run", "x*"]), serde_json::json!([]));

    let info = json(dir, &["arrays", "info", PREDICTION]);
    assert_eq!(info["statistics"]["labels"], 3);
    assert_eq!(info["statistics"]["mean"], 1.5);
    assert_eq!(
        (&info["chunks_stored"], &info["chunks_total"]),
        (&2.into(), &2.into())
    );
    assert_eq!(info["provenance"]["iteration"], 20);
    assert!(info["metadata"]["zarr.json"].is_object());
    let shown = succeed(dir, &["arrays", "info", PREDICTION]);
    assert!(
        shown.contains("[8:136, 0:64, 0:64] nm") && shown.contains("crc32c"),
        "{shown}"
    );

    insta::assert_snapshot!(fail(dir, &["arrays", "ls", "--kind", "nonsense"]).lines().next().unwrap(), @r#"error: invalid value 'nonsense' for '--kind <KIND>': "nonsense" says not which arrays are meant: a kind is one of input, prediction, output, best, snapshot, other"#);
    assert!(fail(dir, &["arrays", "info", "a/validation.zarr/30/b/prediction"]).contains("there is no"));
}

#[test]
fn only_arrays_are_removed_and_what_is_kept_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made_up(dir);
    fs::write(dir.join("runs/a/run.yaml"), "name: a").unwrap();
    for (what, why) in [
        ("", "names no array"),
        (".", "names no array"),
        ("a", "names no array"),
        ("a/validation.zarr", "it is a container"),
        ("a/validation.zarr/20", "it is a group"),
        ("a/validation.zarr/20/b", "it is a group"),
        ("a/validation.zarr/20/b/prediction/c/0", "a path inside an array"),
        ("a/validation.zarr/../run.yaml", "cannot be a part"),
        ("elsewhere.zarr/x", "it is in no run of"),
    ] {
        let said = fail(dir, &["arrays", "rm", what]);
        assert!(said.contains(why), "{what}: {said}");
    }
    // Nothing goes where one of them cannot.
    assert!(fail(dir, &["arrays", "rm", PREDICTION, "a/validation.zarr/10"]).contains("--recursive"));
    assert!(succeed(dir, &["arrays", "rm", "a/validation.zarr/30/b/prediction"]).contains("was not there"));
    assert_eq!(json(dir, &["arrays", "ls"]).as_array().unwrap().len(), 4);

    let removed = json(dir, &["arrays", "rm", PREDICTION, "--keep-trash"]);
    let id = removed[0]["trash"].as_str().unwrap();
    assert_eq!(json(dir, &["arrays", "ls", "--trash"])[0]["path"], PREDICTION);
    assert!(succeed(dir, &["arrays", "restore"]).contains(id));
    succeed(dir, &["arrays", "restore", PREDICTION]);
    assert!(fail(dir, &["arrays", "restore", id]).contains("in the trash"));
    assert_eq!(json(dir, &["arrays", "ls"]).as_array().unwrap().len(), 4);

    let would = succeed(dir, &["arrays", "rm", "-r", "a/validation.zarr/10"]);
    assert!(would.contains("would remove 1 group and 2 arrays"), "{would}");
    assert_eq!(json(dir, &["arrays", "ls"]).as_array().unwrap().len(), 4);
    let kept = succeed(
        dir,
        &[
            "arrays",
            "rm",
            "-r",
            "a/validation.zarr/10",
            "--yes",
            "--keep-trash",
        ],
    );
    assert!(kept.contains("in the trash as"), "{kept}");
    assert_eq!(json(dir, &["arrays", "ls"]).as_array().unwrap().len(), 2);
    assert!(succeed(dir, &["arrays", "purge", "--older-than", "1d", "--yes"]).is_empty());
    assert!(succeed(dir, &["arrays", "purge"]).contains("would purge 1 removal"));
    assert_eq!(json(dir, &["arrays", "purge", "--yes"])["purged"], true);
    assert_eq!(json(dir, &["arrays", "ls", "--trash"]), serde_json::json!([]));
}

#[test]
fn damage_is_found_placed_and_returned() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made_up(dir);
    assert!(succeed(dir, &["arrays", "verify"]).ends_with(": sound\n"));
    let chunk = dir.join("runs").join(PREDICTION).join("c/1/0/0");
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[5] ^= 1;
    fs::write(&chunk, bytes).unwrap();
    fs::create_dir(dir.join("runs/a/validation.zarr/20/.unfinished-1-2-3")).unwrap();
    let output = run(dir, &["arrays", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    let (before, size) = said.rsplit_once(" (").unwrap();
    assert!(size.ends_with("B): 1 damaged\n"), "{said}");
    insta::assert_snapshot!(before, @r"
    damaged: runs/a/validation.zarr/20/b/prediction
      at [72:136, 0:64, 0:64], chunk [1, 0, 0]: the checksum is invalid
    in flight: a/validation.zarr/20/.unfinished-1-2-3
    4 arrays with 8 chunks
    ");
    assert_eq!(
        json(dir, &["arrays", "verify", "--kind", "output"])["sound"],
        true
    );
    // By path, as any container is.
    assert_eq!(
        json(dir, &["arrays", "verify", "runs/a/validation.zarr"])["damaged"],
        1
    );
    assert!(fail(dir, &["arrays", "verify", "nothing"]).contains("names no array"));
    assert_eq!(run(dir, &["arrays", "info", PREDICTION]).status.code(), Some(1));
    // It is damaged whether or not anybody reads so; what is sound, and is not read, is no failure.
    for (arguments, code) in [
        (&["arrays", "verify"][..], 1),
        (&["arrays", "verify", "--json"], 1),
        (&["arrays", "info", PREDICTION], 1),
        (&["arrays", "verify", "--kind", "output"], 0),
        (&["arrays", "ls"], 0),
    ] {
        let mut child = dacapo(dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
    // What is damaged is not copied in silence: not alone, not with its container, not with its run.
    for (source, target) in [
        (PREDICTION, "out.zarr/x"),
        ("a/validation.zarr", "copy.zarr"),
        ("a", "archive/"),
    ] {
        let said = fail(dir, &["arrays", "cp", source, target]);
        assert!(
            said.contains("20/b/prediction is damaged at [72:136, 0:64, 0:64]: "),
            "{said}"
        );
        assert!(said.contains("hint: `dacapo arrays verify`"), "{said}");
        succeed(dir, &["arrays", "cp", source, target, "--damaged"]);
    }
    assert!(succeed(dir, &["--base", "archive", "arrays", "ls"]).contains("20/b/prediction"));
}

/// A container here of the same name as one of the base directory hides none of its arrays.
#[test]
fn arrays_are_found_here_and_below_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let store = made_up(dir);
    let below = PREDICTION.strip_prefix("runs/").unwrap_or(PREDICTION);
    fs::create_dir_all(dir.join("a/validation.zarr/other")).unwrap();
    fs::write(dir.join("a/validation.zarr/.zgroup"), "{\"zarr_format\": 2}").unwrap();
    let info = |path: &str| json(dir, &["arrays", "info", path, "--quick"])["array"].clone();
    assert_eq!(info(below), format!("runs/{below}"));
    succeed(dir, &["arrays", "export", below, "x.npy"]);
    succeed(dir, &["arrays", "cp", below, "copy.zarr/x"]);
    // What is here comes first.
    succeed(dir, &["arrays", "cp", below, below]);
    assert_eq!(info(below), below);
    let said = fail(dir, &["arrays", "info", "a/validation.zarr/99/b/prediction"]);
    for place in [
        "array `99/b/prediction` in a/validation.zarr",
        "at runs/a/validation.zarr/99/b/prediction",
    ] {
        assert!(said.contains(place), "{said}");
    }
    let said = fail(dir, &["arrays", "cp", "nothing", "x"]);
    assert!(said.contains("neither here nor in runs"), "{said}");
    assert!(
        store
            .arrays
            .exists(&store.arrays.identifier_at(below).unwrap())
            .unwrap()
    );
}

#[test]
fn copies_are_whole_and_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made_up(dir);
    succeed(dir, &["arrays", "cp", PREDICTION, "out.zarr/x/prediction"]);
    assert!(succeed(dir, &["arrays", "verify", "out.zarr"]).ends_with(": sound\n"));
    assert!(dir.join("out.zarr/zarr.json").exists() && dir.join("out.zarr/x/zarr.json").exists());
    assert!(fail(dir, &["arrays", "cp", PREDICTION, "out.zarr/x/prediction"]).contains("is there already"));
    succeed(
        dir,
        &["arrays", "cp", PREDICTION, "out.zarr/x/prediction", "--overwrite"],
    );
    assert!(fail(dir, &["arrays", "cp", PREDICTION, "out.zarr/x/prediction/in"]).contains("is an array"));
    succeed(dir, &["arrays", "cp", "a/validation.zarr", "copy.zarr"]);
    succeed(dir, &["arrays", "cp", "a", "archive/"]);
    assert_eq!(
        json(dir, &["--base", "archive", "arrays", "ls"])
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert!(fail(dir, &["arrays", "cp", "a", "archive"]).contains("write archive/ to copy into it"));
    assert!(fail(dir, &["arrays", "cp", "nothing", "x"]).contains("no array, container or run"));
    let du = json(dir, &["arrays", "du"]);
    let kinds: Vec<&str> = du
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["output", "prediction", "rest"]);
}

#[test]
fn a_killed_copy_leaves_nothing_that_looks_finished_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let store = LocalStore::new(dir.join("runs"));
    let array = store.arrays.validation_prediction_array("a", 1, "b").unwrap();
    let voxel_size = Coordinate::new([8, 8, 8]);
    let roi = Roi::from_voxels(&[0, 0, 0], &[96, 96, 96], &voxel_size);
    let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U8);
    let options = CreateOptions {
        chunk_shape: Some(vec![8, 8, 8]),
        format: ZarrFormat::V3,
        ..CreateOptions::default()
    };
    let draft = store.arrays.draft(&array, &spec, &options).unwrap();
    let values = ArrayD::from_shape_fn(vec![96, 96, 96], |at| (at[0] + at[1] * at[2]) as u8);
    draft.write(&roi, &NdData::U8(values)).unwrap();
    draft.publish().unwrap();

    let source = "a/validation.zarr/1/b/prediction";
    let mut killed = 0;
    for attempt in 0.. {
        assert!(attempt < 200, "it never ends");
        let mut child = dacapo(dir)
            .args(["arrays", "cp", source, "out.zarr/x", "--quiet"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10 + 10 * attempt));
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        if dir.join("out.zarr/x").exists() {
            break;
        }
        // What it left is no array to anyone, and is still there.
        if dir.join("out.zarr").exists() {
            assert_eq!(
                list_arrays(&dir.join("out.zarr").into(), &Access::default()).unwrap(),
                Vec::<String>::new()
            );
        }
    }
    assert!(killed > 0, "it was never caught at work");
    let verified = json(dir, &["arrays", "verify", "out.zarr"]);
    assert_eq!(
        (&verified["sound"], &verified["arrays"][0]["chunks"]),
        (&true.into(), &1728.into())
    );
}

/// A run of six validations, in seconds.
fn train(dir: &Path, name: &str, more: &str) {
    let more = format!("trainer: {{snapshot_interval: 4}}\nvalidation: {{interval: 2{more}}}\n");
    common::config(dir, name, 12, &more);
    succeed(dir, &["train", &format!("{name}.yaml")]);
}

fn iterations(dir: &Path, run: &str, kind: &str) -> Vec<u64> {
    let listed = json(dir, &["arrays", "ls", "--run", run, "--kind", kind]);
    listed
        .as_array()
        .unwrap()
        .iter()
        .map(|array| array["iteration"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_run_is_listed_with_its_scores_verified_and_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    train(dir, "all", "");
    assert!(succeed(dir, &["arrays", "verify"]).ends_with(": sound\n"));
    let listed = json(dir, &["arrays", "ls", "--kind", "prediction"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(iterations(dir, "all", "prediction"), [2, 4, 6, 8, 10, 12]);
    let score = |array: &Value| array["score"]["score"].as_f64();
    assert!(listed.iter().all(|array| score(array).is_some()), "{listed:?}");
    let mut ranked: Vec<(f64, u64)> = listed
        .iter()
        .map(|array| (score(array).unwrap(), array["iteration"].as_u64().unwrap()))
        .collect();
    ranked.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let best: Vec<u64> = ranked[..2].iter().map(|(_, at)| *at).collect();
    let kept = json(dir, &["arrays", "ls", "--kind", "best", "--criterion", "voi"]);
    assert_eq!(score(&kept[0]), Some(ranked[0].0));

    // A dry run is one.
    let plan = json(
        dir,
        &[
            "arrays",
            "prune",
            "--keep",
            "best:2",
            "--keep",
            "last:1",
            "--criterion",
            "voi",
        ],
    );
    let mut stay: Vec<u64> = best.iter().copied().chain([12]).collect();
    stay.sort_unstable();
    stay.dedup();
    let stays: Vec<u64> = plan["arrays"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["kind"] == "prediction" && line["stays"] == true)
        .map(|line| line["iteration"].as_u64().unwrap())
        .collect();
    assert_eq!(stays, stay);
    assert_eq!(iterations(dir, "all", "prediction").len(), 6);
    assert!(plan["bytes"].as_u64().unwrap() > 0 && plan["pruned"] == false);
    let before = json(dir, &["arrays", "du"]);
    succeed(
        dir,
        &[
            "arrays",
            "prune",
            "--keep",
            "best:2,last:1",
            "--criterion",
            "voi",
            "--yes",
        ],
    );
    assert_eq!(iterations(dir, "all", "prediction"), stay);
    assert_eq!(iterations(dir, "all", "output"), stay);
    // Beside the arrays, their groups get smaller.
    let freed = |du: &Value| {
        du.as_array()
            .unwrap()
            .iter()
            .filter(|row| row["kind"] != "rest")
            .map(|row| row["bytes"].as_u64().unwrap())
            .sum::<u64>()
    };
    let after = json(dir, &["arrays", "du"]);
    assert_eq!(freed(&before) - freed(&after), plan["bytes"].as_u64().unwrap());
    // The best stays even where it is not asked for.
    succeed(dir, &["arrays", "prune", "--keep", "last:0", "--yes"]);
    assert_eq!(iterations(dir, "all", "prediction"), [ranked[0].1]);
    assert_eq!(iterations(dir, "all", "snapshot").len(), 4 * 5);
    succeed(
        dir,
        &[
            "arrays", "prune", "--keep", "every:8", "--kind", "snapshot", "--yes",
        ],
    );
    assert_eq!(iterations(dir, "all", "snapshot"), [8; 5]);
    for (arguments, why) in [
        (["--keep", "most:1"], "none of best:N, last:N and every:N"),
        (["--keep", "every:0"], "none of best:N, last:N and every:N"),
    ] {
        let said = fail(dir, &[&["arrays", "prune"], &arguments[..]].concat());
        assert!(said.contains(why), "{said}");
    }
    assert!(
        fail(
            dir,
            &["arrays", "prune", "--keep", "best:1", "--criterion", "vio"]
        )
        .contains("voi")
    );
    assert!(fail(dir, &["arrays", "prune", "--keep", "best:1", "--kind", "input"]).contains("never pruned"));

    // The same by the config, as the run goes.
    train(dir, "few", ", keep: {best: 2, last: 1}");
    assert_eq!(iterations(dir, "few", "prediction"), stay);
    assert_eq!(iterations(dir, "few", "output"), stay);
    // Both runs are validated on the same, which is stored once; a run that goes takes nothing from the other.
    let inode = |run: &str, array: &str| {
        let dir = dir
            .join("runs")
            .join(run)
            .join("validation.zarr/inputs/b")
            .join(array);
        fs::metadata(dir.join("0/0/0")).unwrap().ino()
    };
    for array in ["raw", "gt"] {
        assert_eq!(inode("all", array), inode("few", array), "{array}");
    }
    fs::remove_dir_all(dir.join("runs/all")).unwrap();
    assert!(succeed(dir, &["arrays", "verify"]).ends_with(": sound\n"));
    assert_eq!(
        json(dir, &["runs"])[0]["checkpoints"].as_array().unwrap().len(),
        6,
        "checkpoints stay"
    );
}
