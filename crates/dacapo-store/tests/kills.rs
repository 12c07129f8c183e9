//! A process that makes, replaces, removes, keeps, restores, purges and copies arrays is killed, hundreds of times:
//! after each the store is as it was before what was in flight, or as it is after it. This file starts itself
//! again as the other process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which report to each other"
)]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi,
    ZarrArray,
};
use dacapo_store::{
    ArrayFilter, ArrayStore, CopyOptions, LocalArrayIdentifier, LocalStore, Provenance, Removed, TrashEntry,
    copy_array, verify,
};
use ndarray::ArrayD;

const BASE: &str = "DACAPO_KILLS_BASE";
const SEED: &str = "DACAPO_KILLS_SEED";
const ROUNDS: u64 = 300;
const SLOTS: u64 = 3;

/// What the process does, told before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Makes the array of a slot, or replaces it, with one value everywhere.
    Write(u64, u8),
    Remove(u64),
    /// Into the trash, if that is empty: which of two was there first does not matter here.
    Keep(u64),
    Restore,
    Purge,
    /// The array of a slot is copied, over the copy that there is.
    Copy(u64),
}

impl Step {
    fn of(number: u64) -> Self {
        // SplitMix64.
        let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let slot = (z >> 8) % SLOTS;
        match z % 10 {
            0..=3 => Self::Write(slot, (z >> 16) as u8),
            4 => Self::Remove(slot),
            5 => Self::Keep(slot),
            6 => Self::Restore,
            7 => Self::Purge,
            _ => Self::Copy(slot),
        }
    }
}

/// What is there: values of the slots and of their copies, and what is kept, with its slot.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    arrays: BTreeMap<u64, u8>,
    copies: BTreeMap<u64, u8>,
    kept: Option<(u64, u8)>,
}

impl State {
    fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Write(slot, value) => {
                next.arrays.insert(slot, value);
            }
            Step::Remove(slot) => {
                next.arrays.remove(&slot);
            }
            Step::Keep(slot) => {
                if next.kept.is_none() {
                    next.kept = next.arrays.remove(&slot).map(|value| (slot, value));
                }
            }
            Step::Restore => {
                if let Some((slot, value)) = next.kept
                    && !next.arrays.contains_key(&slot)
                {
                    next.kept = None;
                    next.arrays.insert(slot, value);
                }
            }
            Step::Purge => next.kept = None,
            Step::Copy(slot) => {
                if let Some(&value) = next.arrays.get(&slot) {
                    next.copies.insert(slot, value);
                }
            }
        }
        next
    }
}

fn spec() -> ArraySpec {
    let voxel_size = Coordinate::new([4, 4, 4]);
    let roi = Roi::from_voxels(&[1, 2, 3], &[16, 16, 16], &voxel_size);
    ArraySpec::new(roi, voxel_size, DType::U8)
}

fn array(store: &LocalStore, slot: u64) -> LocalArrayIdentifier {
    (store.arrays)
        .validation_prediction_array("run", slot, "crop")
        .unwrap()
}

fn copy_of(store: &LocalStore, slot: u64) -> ArrayAddress {
    let container = store.base().join("copies.zarr");
    format!("{container}/{slot}").parse().unwrap()
}

fn write(store: &LocalStore, slot: u64, value: u8) {
    let mut made = Provenance::new("run");
    made.iteration = Some(slot);
    made.dataset = Some("crop".to_owned());
    let options = CreateOptions {
        chunk_shape: Some(vec![8, 8, 8]),
        overwrite: true,
        attributes: made.attributes(),
        ..CreateOptions::default()
    };
    let spec = spec();
    let draft = store.arrays.draft(&array(store, slot), &spec, &options).unwrap();
    draft
        .write(&spec.roi, &NdData::U8(ArrayD::from_elem(spec.shape(), value)))
        .unwrap();
    draft.publish().unwrap();
}

fn kept(store: &LocalStore) -> Option<TrashEntry> {
    let mut kept = store.arrays.trash(&[]).unwrap();
    assert!(kept.len() <= 1, "{kept:?}");
    kept.pop()
}

fn perform(store: &LocalStore, step: Step) {
    match step {
        Step::Write(slot, value) => write(store, slot, value),
        Step::Remove(slot) => drop(store.arrays.remove(&array(store, slot)).unwrap()),
        Step::Keep(slot) => {
            if kept(store).is_none() {
                store.arrays.remove_kept(&array(store, slot)).unwrap();
            }
        }
        Step::Restore => {
            if let Some(kept) = kept(store)
                && !store.arrays.exists(&kept.identifier).unwrap()
            {
                store.arrays.restore(&kept).unwrap();
            }
        }
        Step::Purge => {
            if let Some(kept) = kept(store) {
                assert_eq!(store.arrays.purge(&kept).unwrap(), Removed::Removed);
            }
        }
        Step::Copy(slot) => {
            if store.arrays.exists(&array(store, slot)).unwrap() {
                let (from, to) = (array(store, slot).address(), copy_of(store, slot));
                let replacing = CopyOptions {
                    replace: true,
                    ..CopyOptions::default()
                };
                copy_array(&from, &to, &Access::default(), replacing, &|_| true).unwrap();
            }
        }
    }
}

#[test]
#[ignore = "the other process of the test below"]
fn worker() {
    let Some(base) = env::var_os(BASE) else { return };
    let seed: u64 = env::var(SEED).unwrap().parse().unwrap();
    let store = LocalStore::new(base);
    let _lease = store.lease("run").unwrap();
    for number in seed.. {
        println!("\nbegin {number}");
        std::io::stdout().flush().unwrap();
        perform(&store, Step::of(number));
        println!("\ndone {number}");
        std::io::stdout().flush().unwrap();
    }
}

fn start(base: &Path, seed: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "worker", "--nocapture", "--include-ignored"])
        .env(BASE, base)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The one value of an array; nothing if it is not there.
fn value(opened: Result<impl ArrayReadExt, impl std::fmt::Debug>) -> Option<u8> {
    let values = opened.ok()?.read_as::<u8>(&spec().roi).unwrap();
    let first = values.iter().copied().next().unwrap();
    assert!(values.iter().all(|&value| value == first), "a mixture");
    Some(first)
}

/// What is there, all of it sound.
fn look(store: &LocalStore) -> State {
    let mut state = State::default();
    for slot in 0..SLOTS {
        if let Some(value) = value(store.arrays.open(&array(store, slot))) {
            state.arrays.insert(slot, value);
        }
        let copy = ZarrArray::open(&copy_of(store, slot), &Access::default());
        if let Some(value) = value(copy) {
            state.copies.insert(slot, value);
        }
    }
    if let Some(entry) = kept(store) {
        let slot = entry.identifier.dataset().split('/').next().unwrap();
        let address = ArrayAddress {
            container: store.run_dir("run").unwrap().join(".trash/kept"),
            dataset: entry.id,
        };
        let value = value(ZarrArray::open(&address, &Access::default()));
        state.kept = Some((slot.parse().unwrap(), value.unwrap()));
    }
    for entry in store.arrays.list(&ArrayFilter::default()).unwrap() {
        let address = entry.identifier.address();
        let found = verify(&address, &Access::default(), Some(&entry), &|_| true).unwrap();
        assert!(found.is_sound(), "{found:?}");
    }
    state
}

#[test]
fn after_any_kill_the_store_is_as_before_or_after_what_was_in_flight() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    let mut state = State::default();
    let mut next = 0;
    let (reads, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // A reader that knows nothing of all this: what it sees is an array or none.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for slot in 0..SLOTS {
                    // One that goes while it is read is an error.
                    if let Ok(array) = store.arrays.open(&array(&store, slot))
                        && let Ok(values) = array.read_as::<u8>(&spec().roi)
                    {
                        assert!(
                            values.iter().all(|value| value == &values[[0, 0, 0]]),
                            "a mixture"
                        );
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 0..ROUNDS {
            let mut child = start(base.path(), next);
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut lines = lines.map_while(Result::ok).filter_map(|line| {
                let (word, number) = line.split_once(' ')?;
                Some((word.to_owned(), number.parse::<u64>().ok()?))
            });
            // Killed after another number of steps each time, and at another point of the next.
            let mut told: Vec<(String, u64)> = Vec::new();
            for _ in 0..=round % 4 {
                told.extend(lines.by_ref().take(2));
            }
            std::thread::sleep(Duration::from_micros(137 * (round % 60)));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), None, "round {round}: it ended by itself, {told:?}");
            told.extend(lines);
            assert_eq!(told.first(), Some(&("begin".to_owned(), next)));
            let mut in_flight = None;
            for (word, number) in told {
                let step = Step::of(number);
                if word == "done" {
                    state = state.after(step);
                }
                in_flight = (word == "begin").then_some(step);
                next = number + 1;
            }
            let found = look(&store);
            let possible = [Some(state.clone()), in_flight.map(|step| state.after(step))];
            assert!(
                possible.contains(&Some(found.clone())),
                "round {round}, {in_flight:?}: {found:?} is none of {possible:?}"
            );
            state = found;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 0, "the reader found nothing");
    assert!(next > ROUNDS, "{next} steps in {ROUNDS} rounds");

    // The next writer clears away what the kills left.
    drop(store.lease("run").unwrap());
    let trash = base.path().join("run/.trash");
    let left = std::fs::read_dir(trash).into_iter().flatten().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name != "kept")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
