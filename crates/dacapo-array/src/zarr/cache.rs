//! Decoded chunks that were read lately: windows that do not fit the chunks ask for the same ones again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A chunk's values; `None` where it was never written.
pub(super) type Decoded = Option<Arc<Vec<u8>>>;

/// Chunks up to a number of bytes; the one not used for the longest time goes first.
pub(super) struct Cache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// With the time of the last use.
    chunks: HashMap<Vec<u64>, (Decoded, u64)>,
    /// The same by that time.
    order: BTreeMap<u64, Vec<u64>>,
    bytes: usize,
    clock: u64,
    /// Chunks forgotten so far.
    forgotten: u64,
}

/// What is in the cache, or when it was not: see [`Cache::put`].
pub(super) enum Lookup {
    Found(Decoded),
    Missing(Ticket),
}

/// A moment in the life of a cache.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u64);

impl Inner {
    fn remove(&mut self, chunk: &[u64]) {
        if let Some((gone, used)) = self.chunks.remove(chunk) {
            self.order.remove(&used);
            self.bytes -= size(&gone);
        }
    }
}

fn size(chunk: &Decoded) -> usize {
    // What the entry itself takes counts too, so that empty chunks cannot grow without bound.
    128 + chunk.as_ref().map_or(0, |chunk| chunk.len())
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, chunk: &[u64]) -> Lookup {
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.clock += 1;
        let Some((decoded, used)) = inner.chunks.get_mut(chunk) else {
            return Lookup::Missing(Ticket(inner.forgotten));
        };
        if let Some(key) = inner.order.remove(used) {
            inner.order.insert(inner.clock, key);
        }
        *used = inner.clock;
        Lookup::Found(decoded.clone())
    }

    /// Keeps a chunk that was read after it had been missing, unless one was written since: what was read may
    /// be the values before.
    pub(super) fn put(&self, chunk: &[u64], decoded: Decoded, missed: Ticket) {
        let bytes = size(&decoded);
        let mut guard = self.inner();
        let inner = &mut *guard;
        if bytes > self.capacity || inner.forgotten != missed.0 {
            return;
        }
        inner.clock += 1;
        inner.remove(chunk);
        inner.chunks.insert(chunk.to_vec(), (decoded, inner.clock));
        inner.order.insert(inner.clock, chunk.to_vec());
        inner.bytes += bytes;
        while inner.bytes > self.capacity
            && let Some((_, oldest)) = inner.order.pop_first()
        {
            inner.remove(&oldest);
        }
    }

    /// Drops a chunk that is being written: what others are reading now will not be kept.
    pub(super) fn forget(&self, chunk: &[u64]) {
        let mut inner = self.inner();
        inner.forgotten += 1;
        inner.remove(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(cache: &Cache, chunk: u64) -> bool {
        matches!(cache.get(&[chunk]), Lookup::Found(_))
    }

    fn put(cache: &Cache, chunk: u64, bytes: usize) {
        if let Lookup::Missing(ticket) = cache.get(&[chunk]) {
            cache.put(&[chunk], Some(Arc::new(vec![0; bytes])), ticket);
        }
    }

    #[test]
    fn keeps_what_was_used_last_within_its_capacity() {
        let cache = Cache::new(3 * 1128);
        (0..3).for_each(|chunk| put(&cache, chunk, 1000));
        assert!(has(&cache, 0));
        put(&cache, 3, 1000);
        assert!(!has(&cache, 1));
        assert!(has(&cache, 0) && has(&cache, 2) && has(&cache, 3));
        cache.forget(&[0]);
        assert!(!has(&cache, 0));
        put(&cache, 9, 10_000);
        assert!(!has(&cache, 9) && has(&cache, 3));
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let cache = Cache::new(10_000);
        let Lookup::Missing(ticket) = cache.get(&[0]) else {
            panic!("an empty cache has something")
        };
        cache.forget(&[0]);
        cache.put(&[0], Some(Arc::new(vec![1])), ticket);
        assert!(!has(&cache, 0));
    }
}
