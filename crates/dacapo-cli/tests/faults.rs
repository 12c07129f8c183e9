//! Disks that are full, that may not be written to, and that go away: every command says so in a sentence, nothing
//! that looks finished is left, and the same command succeeds when the disk does.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use dacapo::array::storage::Access;
use dacapo::array::{ArrayRead, ArrayReadExt, ZarrArray, list_arrays};

mod common;

use common::{Disk, config, dacapo, run, stderr, succeed};

/// A failure in one sentence, with this in it.
fn failed(output: &Output, what: &str) -> String {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(what), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// A run of two iterations.
fn trained(dir: &Path) {
    config(dir, "small", 2, "validation: {interval: 2}\n");
    succeed(dir, &["train", "small.yaml"]);
}

#[test]
fn a_full_disk_leaves_nothing_that_looks_finished() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    trained(dir);
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dacapo/tests/data/original");
    let original = original.to_str().unwrap();
    let commands: [(&str, &[&str]); 9] = [
        (
            "p.zarr/out",
            &[
                "predict",
                "small",
                "--input",
                "cells.zarr/raw",
                "--output",
                "d/p.zarr/out",
            ],
        ),
        ("c.zarr", &["arrays", "cp", "cells.zarr", "d/c.zarr"]),
        (
            "i.zarr/raw",
            &["arrays", "export", "cells.zarr/raw", "d/i.zarr/raw"],
        ),
        ("t.tif", &["arrays", "export", "cells.zarr/labels", "d/t.tif"]),
        ("n.npy", &["arrays", "export", "cells.zarr/labels", "d/n.npy"]),
        ("x.n5/raw", &["arrays", "export", "cells.zarr/raw", "d/x.n5/raw"]),
        (
            "j.zarr/raw",
            &["arrays", "import", "cells.zarr/raw", "d/j.zarr/raw"],
        ),
        (
            "s.zarr/cells",
            &[
                "segment",
                "cells.zarr/labels",
                "d/s.zarr/cells",
                "--method",
                "components",
            ],
        ),
        (
            "b/run_affs_none",
            &["--base", "d/b", "arrays", "adopt", original, "--to"],
        ),
    ];
    for (number, (made, arguments)) in commands.into_iter().enumerate() {
        let Some(disk) = Disk::new(dir.join("d")) else {
            return;
        };
        let (mut refused, mut size) = (0, 16);
        loop {
            disk.remount(&format!("size={size}k"));
            let output = run(dir, arguments);
            if output.status.success() {
                break;
            }
            let message = failed(&output, "No space left on device");
            assert!(message.contains("free some space"), "{message}");
            let place = disk.0.join(made);
            assert!(!place.exists(), "{arguments:?} left {}", place.display());
            let is_named = ["d/", original].iter().any(|path| message.contains(path));
            assert!(is_named, "{arguments:?} names no path: {message}");
            refused += 1;
            size += 32;
            assert!(size < 1 << 14, "no disk is large enough: {message}");
        }
        assert!(refused > 0, "command {number} never filled the disk");
        assert!(disk.0.join(made).exists());
        if let Some((container, _)) = made.split_once(".zarr/") {
            succeed(dir, &["arrays", "verify", &format!("d/{container}.zarr")]);
        }
        drop(disk);
        fs::remove_dir(dir.join("d")).unwrap();
    }
}

/// The levels of a pyramid stand beside an array that is there: it stays as it is, and the levels that are there are whole.
#[test]
fn a_pyramid_on_a_full_disk_leaves_the_array_and_whole_levels() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    trained(dir);
    let Some(disk) = Disk::new(dir.join("d")) else {
        return;
    };
    disk.remount("size=64m");
    succeed(dir, &["arrays", "cp", "cells.zarr", "d/c.zarr"]);
    let used = || {
        let df = std::process::Command::new("df")
            .args(["-k", "--output=used"])
            .arg(&disk.0)
            .output()
            .unwrap();
        let lines = String::from_utf8(df.stdout).unwrap();
        lines.lines().nth(1).unwrap().trim().parse::<u64>().unwrap()
    };
    let before = used();
    let read = |name: &str| {
        let address = disk.0.join("c.zarr").join(name).display().to_string();
        let array = ZarrArray::open(&address.parse().unwrap(), &Access::default()).unwrap();
        array.read_all().unwrap()
    };
    let expected = read("raw");
    for arguments in [
        &["arrays", "pyramid", "d/c.zarr/raw", "--levels", "2"][..],
        &[
            "arrays",
            "pyramid",
            "d/c.zarr/raw",
            "--levels",
            "2",
            "--into",
            "group",
        ],
    ] {
        let (mut refused, mut more) = (0, 0);
        loop {
            disk.remount(&format!("size={}k", before.max(used()) + more));
            let output = run(dir, arguments);
            disk.remount("size=64m");
            assert_eq!(read("raw"), expected);
            succeed(dir, &["arrays", "verify", "d/c.zarr"]);
            if output.status.success() {
                break;
            }
            let message = failed(&output, "No space left on device");
            assert!(
                message.contains("free some space") && message.contains("d/c.zarr"),
                "{message}"
            );
            refused += 1;
            more += 8;
            assert!(more < 1 << 14, "no disk is large enough: {message}");
        }
        assert!(refused > 0, "{arguments:?} never filled the disk");
    }
    read("raw.s2");
    read("group/s2");
}

#[test]
fn what_only_reads_works_where_nothing_may_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(disk) = Disk::new(dir.join("d")) else {
        return;
    };
    disk.remount("size=64m");
    trained(&disk.0);
    disk.remount("ro");
    let base = ["--base", "d/runs"];
    let with = |arguments: &[&str]| run(dir, &[&base, arguments].concat());
    let prediction = "small/validation.zarr/2/b/prediction";
    for reading in [
        &["runs"][..],
        &["arrays", "ls"],
        &["arrays", "info", prediction],
        &["arrays", "verify"],
        &["arrays", "du"],
        &["show", "small", "--out", "shown"],
        &[
            "predict",
            "small",
            "--input",
            "d/cells.zarr/raw",
            "--output",
            "out.zarr/out",
        ],
        &["arrays", "cp", prediction, "copy.zarr/x"],
    ] {
        let output = with(reading);
        assert!(output.status.success(), "{reading:?}: {}", stderr(&output));
    }
    for writing in [
        &["train", "small"][..],
        &["validate", "small"],
        &["arrays", "rm", prediction],
        &["arrays", "pyramid", "d/cells.zarr/raw"],
        &[
            "arrays", "prune", "--keep", "last:0", "--yes", "--kind", "snapshot",
        ],
    ] {
        let output = with(writing);
        let message = stderr(&output);
        assert!(!message.contains("panicked"), "{message}");
        if !output.status.success() {
            assert!(
                message.contains("Read-only file system"),
                "{writing:?}: {message}"
            );
        }
    }
    let sound = with(&["arrays", "verify"]);
    assert!(sound.status.success(), "{}", stderr(&sound));
}

#[test]
fn a_directory_that_goes_away_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    config(
        dir,
        "gone",
        100_000,
        "trainer: {checkpoint_interval: 3}\nvalidation: {interval: 5}\n",
    );
    for base in ["runs", "runs/gone/checkpoints", "runs/gone/validation.zarr"] {
        let mut child = dacapo(dir)
            .args(["train", "gone.yaml", "--quiet"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let inputs = dir.join("runs/gone/validation.zarr/5/b/prediction");
        while !inputs.exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "it never validates");
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::rename(dir.join(base), dir.join("elsewhere")).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        // What went may be made anew, or be missed; either way it ends when asked to, in words.
        let _ = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        let status = child.wait().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(matches!(status.code(), Some(1 | 130)), "{status:?}");
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
        fs::remove_dir_all(dir.join("elsewhere")).unwrap();
        let _ = fs::remove_dir_all(dir.join("runs"));
    }
}

/// A server's process must not be taken down by metadata.
#[test]
fn hostile_metadata_ends_in_words_and_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let array = dir.join("h.zarr/x");
    fs::create_dir_all(&array).unwrap();
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let huge = r#"{"zarr_format": 2, "shape": [9000000000000000000], "chunks": [1], "dtype": "|u1",
        "compressor": null, "fill_value": 0, "order": "C", "filters": null}"#;
    for (metadata, reads) in [
        (deep.as_str(), false),
        (huge, true),
        ("{", false),
        ("\u{0}", false),
    ] {
        fs::write(array.join(".zarray"), metadata).unwrap();
        let begun = Instant::now();
        for arguments in [
            &["arrays", "info", "h.zarr/x"][..],
            &["arrays", "verify", "h.zarr/x"],
            &["arrays", "export", "h.zarr/x", "x.npy"],
            &["arrays", "ls"],
        ] {
            let output = run(dir, arguments);
            assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        let opened = ZarrArray::open(
            &format!("{}/h.zarr/x", dir.display()).parse().unwrap(),
            &Access::default(),
        );
        assert_eq!(opened.is_ok(), reads);
        if let Ok(array) = opened {
            assert!(array.read_all().is_err(), "it has {}", array.spec().roi);
        }
    }
    // A group that holds itself.
    std::os::unix::fs::symlink(dir.join("h.zarr"), dir.join("h.zarr/again")).unwrap();
    fs::write(array.join(".zarray"), huge).unwrap();
    assert_eq!(
        list_arrays(&dir.join("h.zarr").as_path().into(), &Access::default()).unwrap(),
        ["x"]
    );
}

/// The copy of a base directory.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn pruning_that_is_killed_loses_nothing_that_stays_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    config(dir, "pruned", 6, "validation: {interval: 1}\n");
    succeed(dir, &["train", "pruned.yaml"]);
    let listed = |base: &str, kind: &str| -> Vec<u64> {
        let text = succeed(dir, &["--base", base, "arrays", "ls", "--kind", kind, "--json"]);
        let arrays: serde_json::Value = serde_json::from_str(&text).unwrap();
        let arrays = arrays.as_array().unwrap().iter();
        arrays.map(|array| array["iteration"].as_u64().unwrap()).collect()
    };
    let prune = |base: &'static str| ["--base", base, "arrays", "prune", "--keep", "last:0", "--yes"];
    copy(&dir.join("runs"), &dir.join("whole"));
    succeed(dir, &prune("whole"));
    let stay = listed("whole", "prediction");
    assert_eq!(stay.len(), 1);

    let mut between = 0;
    for round in 0..100_u64 {
        copy(&dir.join("runs"), &dir.join("round"));
        let mut child = dacapo(dir)
            .args(prune("round"))
            .arg("--quiet")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(600 * (round % 50)));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = listed("round", "prediction");
        assert!(left.contains(&stay[0]), "round {round}: the best is gone");
        between += usize::from((2..6).contains(&left.len()));
        succeed(dir, &["--base", "round", "arrays", "verify", "--quiet"]);
        if round % 10 == 0 {
            succeed(dir, &prune("round"));
            assert_eq!(listed("round", "prediction"), stay);
            assert_eq!(listed("round", "output"), listed("whole", "output"));
        }
        fs::remove_dir_all(dir.join("round")).unwrap();
    }
    assert!(between > 0, "it was never caught between two removals");
}
