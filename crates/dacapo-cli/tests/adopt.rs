//! `dacapo arrays adopt`, as the real binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};

use serde_json::Value;

mod common;

use common::{run, stderr, stdout};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dacapo/tests/data/original")
}

#[test]
fn it_shows_what_can_be_read_and_makes_runs_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let original = fixture();
    let original = original.to_str().unwrap();
    let shown = run(dir.path(), &["arrays", "adopt", original]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let table = stdout(&shown);
    for word in [
        "run_affs_none",
        "ours",
        "20/20",
        "10 at 2 iterations",
        "15 readable",
        "1 fit",
    ] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is written"
    );

    let json = run(dir.path(), &["arrays", "adopt", original, "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["runs"][0]["validated"], serde_json::json!([10, 20]));

    let listed = run(
        dir.path(),
        &["--base", &format!("{original}/runs_base_dir"), "runs"],
    );
    let table = stdout(&listed);
    assert!(table.contains("finished (Python)"), "{table}");
    assert!(table.contains("(Python DaCapo's count)"), "{table}");
    let base = format!("{original}/runs_base_dir");
    let listed = run(
        dir.path(),
        &["--base", &base, "arrays", "ls", "--kind", "prediction,output"],
    );
    let table = stdout(&listed);
    let scored = table
        .lines()
        .filter(|line| line.contains("| voi ") && line.contains("(Python DaCapo's count)"));
    assert!(scored.count() > 2, "{table}");

    let adopted = run(dir.path(), &["arrays", "adopt", original, "--to", "--json"]);
    assert!(adopted.status.success(), "{}", stderr(&adopted));
    let value: Value = serde_json::from_slice(&adopted.stdout).unwrap();
    assert_eq!(value["adopted"][0]["checkpoints"], serde_json::json!([10]));
    assert!(dir.path().join("runs/run_affs_none/run.yaml").is_file());
    let shown = run(dir.path(), &["show", "run_affs_none", "--json"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    for command in [&["runs"][..], &["show", "run_affs_none"], &["arrays", "ls"]] {
        let said = stdout(&run(dir.path(), command));
        assert!(said.contains("(Python DaCapo's count)"), "{command:?}: {said}");
    }

    let again = run(dir.path(), &["arrays", "adopt", original, "--to"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("it is there already"),
        "{}",
        stderr(&again)
    );
    let other = run(
        dir.path(),
        &[
            "arrays",
            "adopt",
            original,
            "--to",
            "--prefix",
            "b-",
            "--without-arrays",
        ],
    );
    assert!(other.status.success(), "{}", stderr(&other));
    assert!(!dir.path().join("runs/b-run_affs_none/validation.zarr").exists());
}

#[test]
fn what_is_no_base_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["arrays", "adopt", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the Python DaCapo keeps no runs there"),
        "{}",
        stderr(&output)
    );
    let output = run(
        dir.path(),
        &["arrays", "adopt", fixture().to_str().unwrap(), "--run", "x"],
    );
    assert!(
        stderr(&output).contains("it has no run \"x\""),
        "{}",
        stderr(&output)
    );
}

#[test]
fn configs_are_imported_alone() {
    let dir = tempfile::tempdir().unwrap();
    let original = fixture();
    let base = original.join("runs_base_dir");
    let base = base.to_str().unwrap();
    let printed = run(dir.path(), &["config", "import", base]);
    assert!(printed.status.success(), "{}", stderr(&printed));
    assert!(stdout(&printed).starts_with("name: run_affs_none\n"));
    assert!(stderr(&printed).contains("becomes our mutex watershed"));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is written"
    );

    let written = run(dir.path(), &["config", "import", base, "-o", "mine.yaml"]);
    assert!(written.status.success());
    assert_eq!(
        std::fs::read(dir.path().join("mine.yaml")).unwrap(),
        printed.stdout
    );
    // It is a config of ours; the fixture's labels are empty.
    let checked = run(dir.path(), &["config", "check", "mine.yaml"]);
    assert!(
        stderr(&checked).contains("dataset crop1: no labelled voxel"),
        "{}",
        stderr(&checked)
    );
    // What is there is not written over.
    assert!(
        !run(dir.path(), &["config", "import", base, "-o", "mine.yaml"])
            .status
            .success()
    );
}
