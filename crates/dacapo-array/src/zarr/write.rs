//! Writing windows: whole chunks or shards in place of what was there, parts of them by changing what is there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use ndarray::ArrayD;
use rayon::prelude::*;

use super::windows::Window;
use super::{Bytes, TURNS, ZarrArray};
use crate::storage::Durability;
use crate::{Element, Result};

thread_local! {
    /// Values on their way to the codec, one object after the other.
    static VALUES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl ZarrArray {
    /// Writes the values of a window that lies in the array.
    pub(super) fn write_window<T: Element + Bytes>(&self, window: &Window, data: &ArrayD<T>) -> Result<()> {
        let (shape, object_shape, fill) = (&self.format.shape, &self.format.chunk_shape, &self.format.fill);
        let data = data.as_standard_layout();
        let values = data.as_slice().unwrap_or_default();
        self.check_is_there()?;
        let storage = &*self.place.storage;
        let objects = window.chunks(shape, object_shape);
        // Few objects of many chunks are encoded on several threads each.
        let threads = (rayon::current_num_threads() / objects.len().max(1)).max(1);
        objects.par_iter().try_for_each(|object| {
            let shared = window.shared(object, shape, object_shape);
            let enter = |bytes: &mut [u8]| {
                shared.rows(&window.shape, object_shape, |from, to, length| {
                    T::copy_to_bytes(
                        &values[from..from + length],
                        &mut bytes[to * size_of::<T>()..(to + length) * size_of::<T>()],
                    );
                });
            };
            let key = self.chunk_key(object);
            // Whatever happens to the object: nobody reads the old values from the cache.
            self.forget(object);
            let written = if shared.is_whole(object, shape, object_shape) {
                // Taken out: this thread may turn to another object while this one is encoded.
                let mut bytes = VALUES.take();
                bytes.resize(self.format.chunk_bytes(), 0);
                if !shared.fills(object_shape) {
                    bytes
                        .chunks_exact_mut(fill.len())
                        .for_each(|value| value.copy_from_slice(fill));
                }
                enter(&mut bytes);
                let encoded = self.format.encode(&bytes, threads).map_err(self.broken(object));
                VALUES.set(bytes);
                storage.write(&key, &encoded?, self.durability)
            } else {
                let mut hasher = DefaultHasher::new();
                object.hash(&mut hasher);
                let turn = &self.turns[hasher.finish() as usize % TURNS];
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                storage.update_with(&key, self.durability, &mut |present| {
                    let mut bytes = match present {
                        Some(bytes) => self.format.decode(bytes.to_vec()).map_err(self.broken(object))?,
                        None => fill.repeat(self.format.chunk_bytes() / fill.len()),
                    };
                    enter(&mut bytes);
                    // On this thread alone: another job that it took up meanwhile could wait for the same turn.
                    self.format.encode(&bytes, 1).map_err(self.broken(object))
                })
            };
            self.forget(object);
            written
        })?;
        if self.durability != Durability::Later {
            let prefixes: BTreeSet<String> = objects
                .iter()
                .filter_map(|object| Some(self.chunk_key(object).rsplit_once('/')?.0.to_owned()))
                .collect();
            prefixes.iter().try_for_each(|prefix| storage.sync(prefix))?;
        }
        // What was written into an array that went meanwhile is nowhere.
        self.check_is_there()
    }

    /// Forgets the decoded chunks of an object.
    fn forget(&self, object: &[u64]) {
        match &self.format.shards {
            None => self.cache.forget(object),
            Some(layout) => layout.chunks(object).for_each(|chunk| self.cache.forget(&chunk)),
        }
    }
}
