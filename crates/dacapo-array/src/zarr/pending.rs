//! Shards of an array that is being made and of which only a part was written yet. They are kept, encoded, until they
//! are whole, so that each is written once, whatever the blocks; up to a number of bytes, over which the largest is
//! written as it is. What the parts hold is for `write` to know.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Chunks of a shard by their numbers in it; nothing where a chunk has only the fill value.
pub(super) type Parts = BTreeMap<usize, Option<Vec<u8>>>;

/// Parts of shards, by the shards' places.
#[derive(Debug)]
pub(super) struct Pending {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shards: HashMap<Vec<u64>, Kept>,
    bytes: usize,
}

/// What is kept of a shard.
#[derive(Debug, Default)]
struct Kept {
    parts: Parts,
    bytes: usize,
}

fn size(part: Option<&Option<Vec<u8>>>) -> usize {
    part.and_then(Option::as_ref).map_or(0, Vec::len)
}

impl Pending {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps parts of a shard of `count` chunks in place of those that are kept. The shard that is to be written now,
    /// if one is: this one, if it is whole, or the largest, if there is too much.
    pub(super) fn put(
        &self,
        shard: &[u64],
        parts: impl IntoIterator<Item = (usize, Option<Vec<u8>>)>,
        count: usize,
    ) -> Option<Vec<u64>> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let kept = inner.shards.entry(shard.to_vec()).or_default();
        inner.bytes -= kept.bytes;
        for (number, part) in parts {
            kept.bytes += size(Some(&part));
            kept.bytes -= size(kept.parts.insert(number, part).as_ref());
        }
        inner.bytes += kept.bytes;
        if kept.parts.len() == count {
            return Some(shard.to_vec());
        }
        if inner.bytes <= self.most {
            return None;
        }
        let largest = inner.shards.iter().max_by_key(|(_, kept)| kept.bytes);
        largest.map(|(shard, _)| shard.clone())
    }

    /// A copy of a part, if it is kept.
    pub(super) fn get(&self, shard: &[u64], number: usize) -> Option<Option<Vec<u8>>> {
        self.inner().shards.get(shard)?.parts.get(&number).cloned()
    }

    /// Takes what is kept of a shard.
    pub(super) fn take(&self, shard: &[u64]) -> Option<Parts> {
        let mut inner = self.inner();
        let kept = inner.shards.remove(shard)?;
        inner.bytes -= kept.bytes;
        Some(kept.parts)
    }

    /// Puts back what was taken and could not be written. What came since is newer.
    pub(super) fn put_back(&self, shard: &[u64], parts: Parts) {
        let newer = self.take(shard).unwrap_or_default();
        let mut inner = self.inner();
        let parts: Parts = parts.into_iter().chain(newer).collect();
        let bytes = parts.values().map(|part| size(Some(part))).sum();
        inner.bytes += bytes;
        inner.shards.insert(shard.to_vec(), Kept { parts, bytes });
    }

    /// The shards of which parts are kept.
    pub(super) fn shards(&self) -> Vec<Vec<u64>> {
        self.inner().shards.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: usize, bytes: usize) -> [(usize, Option<Vec<u8>>); 1] {
        [(number, Some(vec![number as u8; bytes]))]
    }

    #[test]
    fn a_shard_is_due_when_it_is_whole_or_the_largest_of_too_much() {
        let pending = Pending::new(100);
        assert_eq!(pending.put(&[0], part(0, 30), 2), None);
        assert_eq!(pending.put(&[1], part(0, 40), 3), None);
        // In place of the same.
        assert_eq!(pending.put(&[0], part(0, 50), 2), None);
        assert_eq!(pending.put(&[0], [(1, None)], 2), Some(vec![0]));
        assert_eq!(pending.get(&[0], 1), Some(None));
        assert_eq!(pending.put(&[1], part(1, 30), 3), Some(vec![1]));
        let parts = pending.take(&[1]).unwrap();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(pending.get(&[1], 0), None);
        assert_eq!(pending.put(&[1], [(0, Some(vec![7; 9]))], 3), None);
        pending.put_back(&[1], parts);
        assert_eq!(pending.get(&[1], 0), Some(Some(vec![7; 9])), "what came since");
        assert_eq!(pending.get(&[1], 1), Some(Some(vec![1; 30])));
        assert_eq!(pending.inner().bytes, 50 + 9 + 30);
        assert_eq!(pending.shards().len(), 2);
    }
}
