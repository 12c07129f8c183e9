//! What several processes, and killed ones, may do to a run. This file starts itself again as the other process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which report to each other"
)]

use std::{
    env,
    error::Error as _,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dacapo_array::{ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi};
use dacapo_store::{ArrayStore, Error, LocalStore, Provenance, StatsStore, TrainingStat, WeightsStore};
use ndarray::ArrayD;

const BASE: &str = "DACAPO_STORE_TEST_BASE";

/// Starts `test` of this file in a process of its own, which finds its base directory in the environment.
fn start(test: &str, base: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(BASE, base)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The numbers that the other process reports, one a line, among what the test harness prints.
fn reports(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("done ")?.parse().ok())
}

fn report(number: u64) {
    // Past the harness, which may have written `test … ` without a line end.
    println!("\ndone {number}");
}

fn weights_of(iteration: u64) -> Vec<u8> {
    let mut bytes = iteration.to_le_bytes().repeat(20_000);
    bytes.truncate(100_000 + iteration as usize % 1000);
    bytes
}

fn stat(iteration: u64) -> TrainingStat {
    TrainingStat {
        iteration,
        loss: 1.0 / (iteration + 1) as f64,
        time: 0.5,
    }
}

/// One chunk, so that what is read is all of it or nothing.
fn spec() -> ArraySpec {
    let voxel_size = Coordinate::new([4, 4, 4]);
    ArraySpec::new(
        Roi::from_voxels(&[1, 2, 3], &[16, 16, 16], &voxel_size),
        voxel_size,
        DType::U8,
    )
}

#[test]
#[ignore = "the other process of the tests below"]
fn holder() {
    let Some(base) = env::var_os(BASE) else { return };
    let _lease = LocalStore::new(base).lease("run").unwrap();
    report(0);
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
#[ignore = "the other process of the tests below"]
fn writer() {
    let Some(base) = env::var_os(BASE) else { return };
    let store = LocalStore::new(base);
    let _lease = store.lease("run").unwrap();
    let first = store.stats.training("run").unwrap().len() as u64;
    for iteration in first.. {
        store
            .weights
            .store("run", iteration % 3, &weights_of(iteration))
            .unwrap();
        let array = store
            .arrays
            .validation_prediction_array("run", iteration % 3, "crop")
            .unwrap();
        let _ = store.arrays.remove(&array).unwrap();
        let options = CreateOptions {
            attributes: Provenance::new("run").attributes(),
            ..CreateOptions::default()
        };
        let spec = spec();
        let made = store.arrays.create(&array, &spec, &options).unwrap();
        made.write(&spec.roi, &NdData::U8(ArrayD::from_elem(spec.shape(), 1)))
            .unwrap();
        store.stats.append_training("run", &[stat(iteration)]).unwrap();
        report(iteration);
    }
}

#[test]
fn a_killed_holder_holds_nothing() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    let mut child = start("holder", base.path());
    assert_eq!(reports(&mut child).next(), Some(0));
    let Err(Error::Held { holder, .. }) = store.lease("run") else {
        panic!("two writers")
    };
    assert_eq!(holder.pid, child.id());
    assert!(
        holder
            .to_string()
            .starts_with(&format!("process {} on ", child.id()))
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.holder("run").unwrap(), None);
    store.lease("run").unwrap();
}

#[test]
fn nothing_that_was_finished_is_lost_when_the_writer_is_killed() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    for round in 0..60 {
        let mut child = start("writer", base.path());
        let mut done = reports(&mut child);
        let first = done.next().unwrap();
        // Killed at another point of its work each time.
        std::thread::sleep(Duration::from_micros(250 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = done.last().unwrap_or(first);

        let stats = store.stats.training("run").unwrap();
        assert!(
            stats.len() as u64 > last,
            "{} records, {last} reported",
            stats.len()
        );
        assert!(
            stats
                .iter()
                .zip(0..)
                .all(|(&read, iteration)| read == stat(iteration))
        );
        for slot in 0..3 {
            let array = store
                .arrays
                .validation_prediction_array("run", slot, "crop")
                .unwrap();
            if !store.arrays.exists(&array).unwrap() {
                // Only the one that was just being replaced.
                assert!(
                    last < 3 || slot == (last + 1) % 3 || slot == (last + 2) % 3,
                    "{slot} after {last}"
                );
                continue;
            }
            let opened = store.arrays.open(&array).unwrap();
            assert!(
                Provenance::from_attributes(opened.attributes())
                    .unwrap()
                    .is_some()
            );
            let voxels = opened.read_as::<u8>(&spec().roi).unwrap();
            assert!(
                voxels.iter().all(|&voxel| voxel == voxels[[0, 0, 0]]),
                "whole or not yet"
            );
        }
        for slot in store.weights.iterations("run").unwrap() {
            let bytes = store.weights.load("run", slot).unwrap();
            let iteration = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert_eq!(iteration % 3, slot);
            assert!(bytes == weights_of(iteration), "whole");
            assert!(
                iteration + 3 > last,
                "those of {iteration}, where {last} was reported"
            );
        }
    }
    let _lease = store.lease("run").unwrap();
    let left = std::fs::read_dir(base.path().join("run/checkpoints")).unwrap();
    assert!(
        left.flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('.')),
        "swept"
    );
}

/// `/dev/full` is a disk without room.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said_so() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.stats.append_scores("run", &[]).unwrap();
    let records = base.path().join("run/stats/training.jsonl");
    std::os::unix::fs::symlink("/dev/full", &records).unwrap();
    let error = store.stats.append_training("run", &[stat(0)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot append to {}", records.display())
    );
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .starts_with("No space left on device")
    );
    assert!(error.hint().unwrap().starts_with("free some space"));
}
