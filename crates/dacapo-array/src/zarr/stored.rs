//! What is stored of an array, chunk by chunk: for those who describe, check and copy arrays. Values by world
//! region are read elsewhere.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::format::Format;
use super::place::read_json;
use super::shard::{InMemory, Shard};
use super::windows::Window;
use super::{Bytes, ZarrArray, ZarrFormat};
use crate::dtype::with_dtype;
use crate::storage::{Durability, Kind, StorageExt, join};
use crate::{Element, Error, NdData, Result, Roi};

/// The attribute that says which chunks were there when the array was published. Chunks never vanish by writing,
/// so that they have to be there ever after.
pub(super) const CHUNKS: &str = "dacapo_chunks";
/// Metadata documents of an array.
const DOCUMENTS: [&str; 3] = [".zarray", ".zattrs", "zarr.json"];
/// An array with more gaps than this between its chunks records how many it has, and not which.
const MOST_RANGES: usize = 1000;
/// Missing chunks are named one by one up to this many.
const MOST_NAMED: u64 = 10_000;

/// The objects of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its chunks (shards, if it has such): place in the grid of chunks and bytes, in C order of the places.
    pub chunks: Vec<(Vec<u64>, u64)>,
    /// Bytes of its metadata.
    pub metadata_bytes: u64,
    /// Objects that are neither: their keys below the array.
    pub strange: Vec<String>,
    /// What writers are making now, or left when they were killed: keys below the array.
    pub unfinished: Vec<String>,
}

impl Stored {
    /// Bytes of all chunks.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Chunks that were written and are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Their places in the grid of chunks, as far as they are known.
    pub chunks: Vec<Vec<u64>>,
    /// How many more are missing.
    pub others: u64,
}

/// A chunk that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its place in the grid of chunks; of one in a shard, in that of the chunks inside.
    pub chunk: Vec<u64>,
    /// What it covers, in world units.
    pub roi: Roi,
    /// What is wrong with it.
    pub reason: String,
}

/// The content of the attribute [`CHUNKS`].
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    written: u64,
    /// First and last place of each run of chunks, in C order; left out where all are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ranges: Option<Vec<[u64; 2]>>,
}

impl ZarrArray {
    /// Number of chunks along all axes.
    pub fn chunk_grid(&self) -> Vec<u64> {
        let Format {
            shape, chunk_shape, ..
        } = &self.format;
        shape
            .iter()
            .zip(chunk_shape)
            .map(|(&length, &chunk)| length.div_ceil(chunk) as u64)
            .collect()
    }

    /// Lists what is stored of it; decodes nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn stored(&self) -> Result<Stored> {
        let mut stored = Stored::default();
        self.list_stored("", &mut stored)?;
        stored.chunks.sort();
        Ok(stored)
    }

    fn list_stored(&self, prefix: &str, stored: &mut Stored) -> Result<()> {
        let storage = &*self.place.storage;
        let place = join(&self.key, prefix);
        let place = place.trim_end_matches('/');
        let unfinished = storage.unfinished(place)?;
        stored
            .unfinished
            .extend(unfinished.iter().map(|name| join(prefix, name)));
        for entry in storage.list(place)? {
            let key = join(prefix, &entry.name);
            match entry.kind {
                Kind::Prefix => self.list_stored(&key, stored)?,
                Kind::Object if DOCUMENTS.contains(&key.as_str()) => stored.metadata_bytes += entry.bytes,
                Kind::Object | Kind::Link => match self.chunk_at(&key) {
                    Some(place) => stored.chunks.push((place, entry.bytes)),
                    None => stored.strange.push(key),
                },
            }
        }
        Ok(())
    }

    /// The place of the chunk that has this key below the array; none for what is no chunk of it.
    pub fn chunk_at(&self, key: &str) -> Option<Vec<u64>> {
        let parts = key.split(['/', '.']).filter(|part| *part != "c");
        let place: Vec<u64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let grid = self.chunk_grid();
        let is_inside = place.len() == grid.len() && place.iter().zip(&grid).all(|(at, count)| at < count);
        // Whatever the encoding of keys: it is the place whose key this is.
        (is_inside && self.format.chunk_key(&place) == key).then_some(place)
    }

    /// What a chunk (a shard) covers, in world units, as far as it lies in the array.
    pub fn chunk_roi(&self, chunk: &[u64]) -> Roi {
        self.roi_of(self.chunk_window(chunk))
    }

    fn roi_of(&self, window: Window) -> Roi {
        let channels = self.spec.channels.len();
        let voxel_size = &self.spec.voxel_size;
        Roi::from_voxels(&window.begin[channels..], &window.shape[channels..], voxel_size)
            .shift(self.spec.roi.begin())
    }

    /// The part of a chunk that lies in the array, in values along all axes; empty for a chunk outside.
    fn chunk_window(&self, chunk: &[u64]) -> Window {
        self.window_of(chunk, &self.format.chunk_shape)
    }

    fn window_of(&self, chunk: &[u64], chunk_shape: &[usize]) -> Window {
        let shape = &self.format.shape;
        let axes = 0..shape.len();
        let begin = axes.map(|axis| {
            (chunk[axis] as usize)
                .saturating_mul(chunk_shape[axis])
                .min(shape[axis])
        });
        let begin: Vec<usize> = begin.collect();
        Window {
            shape: (0..shape.len())
                .map(|axis| chunk_shape[axis].min(shape[axis] - begin[axis]))
                .collect(),
            begin: begin.into_iter().map(|n| n as i64).collect(),
        }
    }

    /// The values of a chunk that lie in the array, along all axes.
    ///
    /// # Errors
    /// [`Error::Chunk`] if it does not decode, [`Error::Io`].
    pub fn read_chunk(&self, chunk: &[u64]) -> Result<NdData> {
        let window = self.chunk_window(chunk);
        with_dtype!(self.spec.dtype, T => self.chunk_values::<T>(&window).map(T::wrap))
    }

    fn chunk_values<T: Element + Bytes>(&self, window: &Window) -> Result<ndarray::ArrayD<T>> {
        self.read_window::<T>(window, Vec::new())
    }

    /// The value of what was never written: an array of one.
    pub fn fill_value(&self) -> NdData {
        with_dtype!(self.spec.dtype, T => T::wrap(ndarray::ArrayD::from_elem(vec![1], T::from_bytes(&self.format.fill))))
    }

    /// Reads and decodes a chunk from where it is stored, or each that a shard has; their checksums, if they have
    /// any, have to hold. What is wrong, if something is; a chunk that is not there is not wrong.
    ///
    /// # Errors
    /// [`Error::Io`], if it cannot be read.
    pub fn check_chunk(&self, chunk: &[u64]) -> Result<Vec<DamagedChunk>> {
        let stored = self.place.storage.read(&self.chunk_key(chunk))?;
        Ok(stored.map_or_else(Vec::new, |bytes| self.check_bytes(chunk, &bytes)))
    }

    /// As [`check_chunk`](Self::check_chunk), for the bytes of a chunk.
    pub fn check_bytes(&self, chunk: &[u64], bytes: &[u8]) -> Vec<DamagedChunk> {
        let Some(layout) = &self.format.shards else {
            let damage = |reason| DamagedChunk {
                roi: self.chunk_roi(chunk),
                chunk: chunk.to_vec(),
                reason,
            };
            return self.format.decode(bytes).err().map(damage).into_iter().collect();
        };
        let shard = match Shard::open(Box::new(InMemory(bytes)), layout) {
            Ok(shard) => shard,
            Err(reason) => {
                return vec![DamagedChunk {
                    roi: self.chunk_roi(chunk),
                    chunk: chunk.to_vec(),
                    reason,
                }];
            }
        };
        let mut encoded = Vec::new();
        let mut damaged = Vec::new();
        for (number, inner) in layout.chunks(chunk).enumerate() {
            let checked = match shard.read(number, &mut encoded) {
                Ok(false) => Ok(()),
                Ok(true) => self.format.decode(&encoded).map(drop),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = checked {
                damaged.push(DamagedChunk {
                    roi: self.roi_of(self.window_of(&inner, self.format.inner_shape())),
                    chunk: inner,
                    reason,
                });
            }
        }
        damaged
    }

    /// Which chunks are not there, of those that were when the array was published. None for arrays that do not
    /// say: those of other programs, and those that were published empty.
    ///
    /// # Errors
    /// [`Error::Metadata`] if what the array says about it makes no sense.
    pub fn missing_chunks(&self, stored: &Stored) -> Result<Missing> {
        let broken = |reason: String| Error::Metadata {
            address: Box::new(self.place.address.clone()),
            reason: format!("its attribute `{CHUNKS}` {reason}"),
        };
        let Some(written) = self.format.attributes.get(CHUNKS) else {
            return Ok(Missing::default());
        };
        let written =
            Written::deserialize(written).map_err(|error| broken(format!("does not read: {error}")))?;
        let grid = self.chunk_grid();
        let total = grid
            .iter()
            .try_fold(1_u64, |total, &count| total.checked_mul(count));
        let total = total.ok_or_else(|| broken("is of an array with too many chunks".to_owned()))?;
        let there = stored.chunks.len() as u64;
        if written.written > total {
            return Err(broken(format!(
                "has {} chunks, and the array {total}",
                written.written
            )));
        }
        let ranges = match written.ranges {
            Some(ranges) => ranges,
            None if written.written == total && total > 0 => vec![[0, total - 1]],
            None => {
                return Ok(Missing {
                    chunks: Vec::new(),
                    others: written.written.saturating_sub(there),
                });
            }
        };
        let places: Vec<u64> = stored
            .chunks
            .iter()
            .map(|(place, _)| linear(place, &grid))
            .collect();
        let mut missing = Missing::default();
        for [first, last] in ranges {
            if first > last || last >= total {
                return Err(broken(format!("has a range {first} to {last}")));
            }
            for gap in gaps(first..=last, &places) {
                let room = MOST_NAMED.saturating_sub(missing.chunks.len() as u64);
                let length = gap.end() - gap.start() + 1;
                let named = gap.take(room as usize);
                missing.chunks.extend(named.map(|place| place_at(place, &grid)));
                missing.others += length.saturating_sub(room);
            }
        }
        Ok(missing)
    }

    /// Makes the array say which chunks it has. For its one writer, before anyone else finds it.
    pub(super) fn record_written(&self) -> Result<()> {
        let grid = self.chunk_grid();
        let total = grid
            .iter()
            .try_fold(1_u64, |total, &count| total.checked_mul(count));
        let stored = self.stored()?;
        let Some(total) = total.filter(|_| !stored.chunks.is_empty()) else {
            return Ok(());
        };
        let mut ranges: Vec<[u64; 2]> = Vec::new();
        for (place, _) in &stored.chunks {
            let place = linear(place, &grid);
            match ranges.last_mut() {
                Some(last) if last[1] + 1 == place => last[1] = place,
                _ => ranges.push([place, place]),
            }
        }
        let written = stored.chunks.len() as u64;
        let is_whole = written == total;
        let written = Written {
            written,
            ranges: (!is_whole && ranges.len() <= MOST_RANGES).then_some(ranges),
        };
        let (name, path) = match self.format.version {
            ZarrFormat::V2 => (".zattrs", None),
            ZarrFormat::V3 => ("zarr.json", Some("attributes")),
        };
        let key = join(&self.key, name);
        let mut document = self.document(name)?.unwrap_or_else(|| json!({}));
        let attributes = match path {
            Some(path) => &mut document[path],
            None => &mut document,
        };
        attributes[CHUNKS] = json!(written);
        let text = format!("{document:#}\n");
        self.place.storage.write(&key, text.as_bytes(), Durability::Later)
    }

    /// Gives this array, which has none, the chunks of one that is stored alike: without copying them where the
    /// storage can. Since chunks are replaced and never changed, what is
    /// written to or removed from either leaves the other as it is. False, with nothing done, if they are not
    /// stored alike.
    pub(super) fn share_chunks(&self, other: &Self) -> Result<bool> {
        let storage = |array: &Self| -> Result<Map<String, Value>> {
            let mut documents = array.documents()?;
            documents.shift_remove(".zattrs");
            if let Some(Value::Object(document)) = documents.get_mut("zarr.json") {
                document.shift_remove("attributes");
            }
            Ok(documents)
        };
        if storage(self)? != storage(other)? {
            return Ok(false);
        }
        let (storage, others) = (&self.place.storage, &other.place.storage);
        let is_same = std::sync::Arc::ptr_eq(storage, others);
        for (chunk, _) in other.stored()?.chunks {
            let (from, to) = (other.chunk_key(&chunk), self.chunk_key(&chunk));
            if is_same {
                storage.duplicate(&from, &to)?;
            } else {
                let bytes = others.read(&from)?;
                let bytes = bytes.ok_or_else(|| self.broken(&chunk)("it has gone".to_owned()))?;
                storage.write(&to, &bytes, Durability::Later)?;
            }
        }
        Ok(true)
    }

    fn document(&self, name: &str) -> Result<Option<Value>> {
        let found = read_json(&*self.place.storage, &join(&self.key, name))?;
        let found = found.map_err(|reason| self.place.broken(reason))?;
        Ok(found.map(|(document, _)| document))
    }

    /// Its metadata as it is stored: each document by its name.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a document that does not read.
    pub fn documents(&self) -> Result<Map<String, Value>> {
        let mut documents = Map::new();
        for name in DOCUMENTS {
            if let Some(document) = self.document(name)? {
                documents.insert(name.to_owned(), document);
            }
        }
        Ok(documents)
    }

    /// What its chunks go through when they are stored, in this order: filters and compressor (version 2) or
    /// codecs (version 3), as its metadata has them.
    ///
    /// # Errors
    /// As [`ZarrArray::documents`].
    pub fn codecs(&self) -> Result<Vec<Value>> {
        let documents = self.documents()?;
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(match self.format.version {
            ZarrFormat::V2 => {
                let array = documents.get(".zarray");
                let mut codecs = list(array.and_then(|array| array.get("filters")));
                codecs.extend(
                    array
                        .and_then(|array| array.get("compressor"))
                        .filter(|compressor| !compressor.is_null())
                        .cloned(),
                );
                codecs
            }
            ZarrFormat::V3 => list(documents.get("zarr.json").and_then(|array| array.get("codecs"))),
        })
    }
}

/// The number of a place in C order.
fn linear(place: &[u64], grid: &[u64]) -> u64 {
    place.iter().zip(grid).fold(0_u64, |linear, (&at, &count)| {
        linear.wrapping_mul(count).wrapping_add(at)
    })
}

/// The place with a number in C order.
fn place_at(mut linear: u64, grid: &[u64]) -> Vec<u64> {
    let mut place: Vec<u64> = grid
        .iter()
        .rev()
        .map(|&count| {
            let at = linear % count.max(1);
            linear /= count.max(1);
            at
        })
        .collect();
    place.reverse();
    place
}

/// What of a range is not among sorted numbers.
fn gaps(range: RangeInclusive<u64>, present: &[u64]) -> Vec<RangeInclusive<u64>> {
    let mut gaps = Vec::new();
    let mut next = *range.start();
    let from = present.partition_point(|&place| place < next);
    for &place in present[from..].iter().take_while(|&&place| place <= *range.end()) {
        if place > next {
            gaps.push(next..=place - 1);
        }
        next = place + 1;
    }
    if next <= *range.end() {
        gaps.push(next..=*range.end());
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_there() {
        assert_eq!(gaps(0..=9, &[0, 1, 2, 5, 9, 12]), [3..=4, 6..=8]);
        assert_eq!(gaps(3..=4, &[0, 1, 2, 5]), [3..=4]);
        assert_eq!(gaps(0..=2, &[0, 1, 2]), []);
        assert_eq!(gaps(0..=2, &[]), [0..=2]);
    }

    #[test]
    fn places_are_numbered_in_c_order() {
        let grid = [2, 3, 5];
        for number in 0..30 {
            assert_eq!(linear(&place_at(number, &grid), &grid), number);
        }
        assert_eq!(place_at(7, &grid), [0, 1, 2]);
    }
}
