//! `dacapo arrays adopt`, as the real binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dacapo/tests/data/original")
}

fn dacapo(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dacapo"));
    command
        .current_dir(dir)
        .env_remove("DACAPO_OPTIONS_FILE")
        .env("HOME", dir);
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_shows_what_can_be_read_and_makes_runs_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let original = fixture();
    let original = original.to_str().unwrap();
    let shown = dacapo(dir.path(), &["arrays", "adopt", original]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let table = text(&shown.stdout);
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

    let json = dacapo(dir.path(), &["arrays", "adopt", original, "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["runs"][0]["validated"], serde_json::json!([10, 20]));

    let listed = dacapo(
        dir.path(),
        &["--base", &format!("{original}/runs_base_dir"), "runs"],
    );
    assert!(
        text(&listed.stdout).contains("finished (Python)"),
        "{}",
        text(&listed.stdout)
    );

    let adopted = dacapo(dir.path(), &["arrays", "adopt", original, "--to", "--json"]);
    assert!(adopted.status.success(), "{}", text(&adopted.stderr));
    let value: Value = serde_json::from_slice(&adopted.stdout).unwrap();
    assert_eq!(value["adopted"][0]["checkpoints"], serde_json::json!([10]));
    assert!(dir.path().join("runs/run_affs_none/run.yaml").is_file());
    let shown = dacapo(dir.path(), &["show", "run_affs_none", "--json"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));

    let again = dacapo(dir.path(), &["arrays", "adopt", original, "--to"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("it is there already"),
        "{}",
        text(&again.stderr)
    );
    let other = dacapo(
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
    assert!(other.status.success(), "{}", text(&other.stderr));
    assert!(!dir.path().join("runs/b-run_affs_none/validation.zarr").exists());
}

#[test]
fn what_is_no_base_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = dacapo(dir.path(), &["arrays", "adopt", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("the Python DaCapo keeps no runs there"),
        "{}",
        text(&output.stderr)
    );
    let output = dacapo(
        dir.path(),
        &["arrays", "adopt", fixture().to_str().unwrap(), "--run", "x"],
    );
    assert!(
        text(&output.stderr).contains("it has no run \"x\""),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn configs_are_imported_alone() {
    let dir = tempfile::tempdir().unwrap();
    let original = fixture();
    let base = original.join("runs_base_dir");
    let base = base.to_str().unwrap();
    let printed = dacapo(dir.path(), &["config", "import", base]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    assert!(text(&printed.stdout).starts_with("name: run_affs_none\n"));
    assert!(text(&printed.stderr).contains("becomes our mutex watershed"));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is written"
    );

    let written = dacapo(dir.path(), &["config", "import", base, "-o", "mine.yaml"]);
    assert!(written.status.success());
    assert_eq!(
        std::fs::read(dir.path().join("mine.yaml")).unwrap(),
        printed.stdout
    );
    // It is a config of ours; the fixture's labels are empty.
    let checked = dacapo(dir.path(), &["config", "check", "mine.yaml"]);
    assert!(
        text(&checked.stderr).contains("dataset crop1: no labelled voxel"),
        "{}",
        text(&checked.stderr)
    );
    // What is there is not written over.
    assert!(
        !dacapo(dir.path(), &["config", "import", base, "-o", "mine.yaml"])
            .status
            .success()
    );
}
