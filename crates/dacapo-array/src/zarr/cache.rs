//! Decoded chunks that were read lately: windows that do not fit the chunks ask for the same ones again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A chunk's values; `None` where it was never written.
pub(super) type Decoded = Option<Arc<Vec<u8>>>;

/// Chunks up to a number of bytes; the one not used for the longest time goes first.
pub(super) struct Cache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    chunks: HashMap<Vec<u64>, (Decoded, u64)>,
    bytes: usize,
    clock: u64,
}

fn size(chunk: &Decoded) -> usize {
    // What the entry itself takes counts too, so that empty chunks cannot grow without bound.
    128 + chunk.as_ref().map_or(0, |chunk| chunk.len())
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    pub(super) fn get(&self, chunk: &[u64]) -> Option<Decoded> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let (decoded, used) = inner.chunks.get_mut(chunk)?;
        *used = now;
        Some(decoded.clone())
    }

    pub(super) fn put(&self, chunk: &[u64], decoded: Decoded) {
        let bytes = size(&decoded);
        if bytes > self.capacity {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        if let Some((old, _)) = inner.chunks.insert(chunk.to_vec(), (decoded, now)) {
            inner.bytes -= size(&old);
        }
        inner.bytes += bytes;
        while inner.bytes > self.capacity {
            let oldest = inner.chunks.iter().min_by_key(|(_, (_, used))| *used).map(|(chunk, _)| chunk.clone());
            let Some((gone, _)) = oldest.and_then(|oldest| inner.chunks.remove(&oldest)) else { break };
            inner.bytes -= size(&gone);
        }
    }

    pub(super) fn forget(&self, chunk: &[u64]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((gone, _)) = inner.chunks.remove(chunk) {
            inner.bytes -= size(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_capacity() {
        let cache = Cache::new(3 * 1128);
        let chunk = || Some(Arc::new(vec![0; 1000]));
        (0..3).for_each(|i| cache.put(&[i], chunk()));
        assert!(cache.get(&[0]).is_some());
        cache.put(&[3], chunk());
        assert!(cache.get(&[1]).is_none());
        assert!(cache.get(&[0]).is_some() && cache.get(&[2]).is_some() && cache.get(&[3]).is_some());
        cache.forget(&[0]);
        assert!(cache.get(&[0]).is_none());
        cache.put(&[9], Some(Arc::new(vec![0; 10_000])));
        assert!(cache.get(&[9]).is_none() && cache.get(&[3]).is_some());
    }
}
