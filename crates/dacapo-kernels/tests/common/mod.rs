//! Fixtures, generators and comparisons that several tests use.
#![allow(dead_code, reason = "each test file uses some")]

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use ndarray::{Array, Array3, ArrayView3, Dimension, Ix3, s};
use ndarray_npy::{NpzReader, NpzWriter, ReadableElement, WritableElement};

pub struct Fixture(NpzReader<File>);

impl Fixture {
    pub fn open(name: &str) -> Self {
        Self::at(&format!("{}/tests/data/{name}.npz", env!("CARGO_MANIFEST_DIR")))
    }

    pub fn at(path: &str) -> Self {
        Self(NpzReader::new(File::open(path).unwrap()).unwrap())
    }

    pub fn read<T: ReadableElement, D: Dimension>(&mut self, name: &str) -> Array<T, D> {
        self.0
            .by_name(name)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn volume<T: ReadableElement>(&mut self, name: &str) -> Array3<T> {
        self.read::<T, Ix3>(name)
    }
}

/// What other programs are asked: arrays, of which `data/peers.py` computes others.
pub struct Peers {
    dir: PathBuf,
    given: NpzWriter<File>,
}

impl Peers {
    /// `question` has a folder of its own.
    pub fn new(question: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dacapo-{question}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let given = NpzWriter::new(File::create(dir.join("given.npz")).unwrap());
        Self { dir, given }
    }

    pub fn give<T: WritableElement, D: Dimension>(&mut self, name: impl ToString, values: &Array<T, D>) {
        self.given.add_array(name.to_string(), values).unwrap();
    }

    /// What they find, of a case of the script.
    pub fn find(self, case: &str) -> Fixture {
        self.given.finish().unwrap();
        let python = PathBuf::from(std::env::var("DACAPO_PEERS").unwrap()).join("kernels/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peers.py");
        let done = Command::new(python)
            .args(["-B", script, case])
            .arg(&self.dir)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let found = Fixture::at(self.dir.join("found.npz").to_str().unwrap());
        // What is open can still be read.
        std::fs::remove_dir_all(&self.dir).unwrap();
        found
    }
}

#[track_caller]
pub fn assert_close(found: &Array3<f32>, expected: &Array3<f32>, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    for ((place, &a), &b) in found.indexed_iter().zip(expected) {
        let is_close = a == b || (a - b).abs() <= 2e-6 * b.abs();
        assert!(is_close, "{what}: {a} instead of {b} at {place:?}");
    }
}

/// Whether two labellings are the same up to the names of the labels; 0 only matches 0.
pub fn same_partition(a: ArrayView3<u64>, b: ArrayView3<u64>) -> bool {
    let (mut there, mut back) = (HashMap::from([(0, 0)]), HashMap::from([(0, 0)]));
    a.shape() == b.shape()
        && a.iter()
            .zip(b)
            .all(|(&a, &b)| *there.entry(a).or_insert(b) == b && *back.entry(b).or_insert(a) == a)
}

/// Numbers without a pattern (splitmix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }
}

/// Blocks of labels on background.
pub fn blocks(shape: [usize; 3], count: usize, size: u64, noise: &mut Noise) -> Array3<u64> {
    let mut labels = Array3::zeros(shape);
    for _ in 0..count {
        let range = |a: usize, noise: &mut Noise| {
            let begin = noise.below(shape[a] as u64) as usize;
            begin..(begin + 1 + noise.below(size) as usize).min(shape[a])
        };
        let (z, y, x) = (range(0, noise), range(1, noise), range(2, noise));
        labels.slice_mut(s![z, y, x]).fill(noise.below(4));
    }
    labels
}

/// Labels below `kinds` in which each voxel is that of the one before with probability `smooth`.
pub fn noisy(shape: (usize, usize, usize), kinds: u64, smooth: f32, noise: &mut Noise) -> Array3<u64> {
    let mut last = 0;
    Array3::from_shape_simple_fn(shape, || {
        if noise.unit() >= smooth {
            last = noise.below(kinds);
        }
        last
    })
}

/// Runs on a pool of so many threads.
pub fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}
