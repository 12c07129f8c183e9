//! Fixtures, generators and comparisons that several tests use.
#![allow(dead_code, reason = "each test file uses some")]

use std::collections::HashMap;
use std::fs::File;

use ndarray::{Array, Array3, ArrayView3, Dimension, Ix3};
use ndarray_npy::{NpzReader, ReadableElement};

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

/// Runs on a pool of so many threads.
pub fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}
