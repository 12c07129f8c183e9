//! Hash maps keyed by ids. Their hash is quick and the same in every process; nothing depends on their order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from ids, pairs of ids, or numbers.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Multiplies to 128 bits and folds the halves: ids that differ in any bit are spread over all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdHasher(u64);

/// Fractional digits of π and of e, odd.
const START: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0xb7e1_5162_8aed_2a6b;

impl Default for IdHasher {
    fn default() -> Self {
        Self(START)
    }
}

impl Hasher for IdHasher {
    #[inline]
    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.0.rotate_left(23) ^ id) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
