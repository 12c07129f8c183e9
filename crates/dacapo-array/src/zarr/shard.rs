//! Shards: objects of Zarr 3 that hold many chunks, with an index of where each stands. How they are put together,
//! and how one chunk is taken out; what chunks hold is not known here.

use std::sync::Arc;

use serde_json::Value;
use zarrs::array::CodecChain;

use crate::storage::OpenObject;

/// The name of the codec that makes shards.
const NAME: &str = "sharding_indexed";
/// Bytes of an entry of the index: where a chunk begins, and how long it is.
const ENTRY: usize = 16;
/// Bytes of the checksum behind the index.
const CHECKSUM: usize = 4;
/// Shards of more chunks are read whole.
const MOST_CHUNKS: usize = 1 << 20;

/// How the shards of an array are laid out.
#[derive(Debug)]
pub(super) struct Layout {
    /// Shape of the chunks inside, in values along all axes.
    pub(super) chunk_shape: Vec<usize>,
    /// How those are encoded.
    pub(super) codecs: Arc<CodecChain>,
    /// Chunks in a shard, along all axes.
    counts: Vec<usize>,
    index_at_end: bool,
    index_has_checksum: bool,
}

/// What the metadata says of shards: the metadata that the chunks inside would have as chunks of their own, and
/// the rest of the configuration.
pub(super) struct Described {
    pub(super) inner: Value,
    index_at_end: bool,
    index_has_checksum: bool,
}

/// Looks for shards in the metadata of an array. Nothing if it has none, or if they are of a kind that is read
/// whole: with another codec around them, or an index that is encoded otherwise.
pub(super) fn describe(metadata: &Value) -> Option<Described> {
    let [codec] = metadata.get("codecs")?.as_array()?.as_slice() else {
        return None;
    };
    if codec.get("name")?.as_str()? != NAME {
        return None;
    }
    let configuration = codec.get("configuration")?;
    let mut index_codecs = configuration.get("index_codecs")?.as_array()?.iter();
    let bytes = index_codecs.next()?;
    let endian = bytes
        .get("configuration")
        .and_then(|configuration| configuration.get("endian"));
    if bytes.get("name")?.as_str()? != "bytes"
        || endian.is_some_and(|endian| endian.as_str() != Some("little"))
    {
        return None;
    }
    let index_has_checksum = match index_codecs.next() {
        None => false,
        Some(codec) if codec.get("name")?.as_str()? == "crc32c" => true,
        Some(_) => return None,
    };
    if index_codecs.next().is_some() {
        return None;
    }
    let mut inner = metadata.clone();
    // Metadata may be anything: only what is there is replaced.
    *inner.pointer_mut("/chunk_grid/configuration/chunk_shape")? = configuration.get("chunk_shape")?.clone();
    inner["codecs"] = configuration.get("codecs")?.clone();
    Some(Described {
        inner,
        index_at_end: configuration.get("index_location").and_then(Value::as_str) != Some("start"),
        index_has_checksum,
    })
}

impl Described {
    /// The layout of shards of a shape. Nothing if they do not hold whole chunks, or too many.
    pub(super) fn layout(
        &self,
        shard_shape: &[usize],
        chunk_shape: Vec<usize>,
        codecs: Arc<CodecChain>,
    ) -> Option<Layout> {
        let pairs = || shard_shape.iter().zip(&chunk_shape);
        let counts: Vec<usize> = pairs().map(|(shard, chunk)| shard / chunk).collect();
        let count = counts.iter().try_fold(1usize, |n, &count| n.checked_mul(count))?;
        let fits = count <= MOST_CHUNKS && pairs().all(|(shard, chunk)| shard % chunk == 0);
        fits.then_some(Layout {
            chunk_shape,
            codecs,
            counts,
            index_at_end: self.index_at_end,
            index_has_checksum: self.index_has_checksum,
        })
    }
}

impl Layout {
    /// The shard that has a chunk, and the chunk's number in it.
    pub(super) fn place(&self, chunk: &[u64]) -> (Vec<u64>, usize) {
        let counts = || self.counts.iter().map(|&count| count as u64);
        let shard = chunk.iter().zip(counts()).map(|(at, count)| at / count).collect();
        let number = chunk
            .iter()
            .zip(counts())
            .fold(0, |number, (at, count)| number * count + at % count);
        (shard, number as usize)
    }

    /// Chunks in a shard.
    pub(super) fn count(&self) -> usize {
        self.counts.iter().product()
    }

    /// Bytes of the index, with its checksum.
    fn index_size(&self) -> usize {
        self.count() * ENTRY + if self.index_has_checksum { CHECKSUM } else { 0 }
    }

    /// The chunks of a shard.
    pub(super) fn chunks(&self, shard: &[u64]) -> impl Iterator<Item = Vec<u64>> {
        let mut chunks = vec![Vec::with_capacity(shard.len())];
        for (&at, &count) in shard.iter().zip(&self.counts) {
            let range = at * count as u64..(at + 1) * count as u64;
            chunks = chunks
                .iter()
                .flat_map(|chunk: &Vec<u64>| range.clone().map(move |i| [chunk.as_slice(), &[i]].concat()))
                .collect();
        }
        chunks.into_iter()
    }
}

/// A shard that is put together of encoded chunks, in the order of their numbers.
pub(super) struct Assembly<'a> {
    layout: &'a Layout,
    bytes: Vec<u8>,
    index: Vec<u8>,
}

impl<'a> Assembly<'a> {
    /// Begins one in the memory of `bytes`, of which the content goes.
    pub(super) fn new(layout: &'a Layout, mut bytes: Vec<u8>) -> Self {
        let size = layout.index_size();
        bytes.clear();
        bytes.resize(if layout.index_at_end { 0 } else { size }, 0);
        let index = Vec::with_capacity(size);
        Self { layout, bytes, index }
    }

    /// The next chunk; nothing for one that was never written.
    pub(super) fn push(&mut self, chunk: Option<&[u8]>) {
        let place = match chunk {
            Some(chunk) => [self.bytes.len() as u64, chunk.len() as u64],
            None => [u64::MAX; 2],
        };
        let place = place.iter().flat_map(|number| number.to_le_bytes());
        self.index.extend(place);
        self.bytes.extend_from_slice(chunk.unwrap_or_default());
    }

    /// The shard, after its last chunk.
    pub(super) fn finish(self) -> Vec<u8> {
        let Self {
            layout,
            mut bytes,
            mut index,
        } = self;
        if layout.index_has_checksum {
            let checksum = crc32c::crc32c(&index);
            index.extend_from_slice(&checksum.to_le_bytes());
        }
        if layout.index_at_end {
            bytes.extend_from_slice(&index);
        } else {
            bytes[..index.len()].copy_from_slice(&index);
        }
        bytes
    }
}

/// The bytes of a shard, as an object.
pub(super) struct InMemory<'a>(pub(super) &'a [u8]);

impl OpenObject for InMemory<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> crate::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.0.get(start..start.saturating_add(buffer.len())) {
            Some(found) => buffer.copy_from_slice(found),
            None => {
                return Err(crate::Error::Io {
                    action: "read",
                    path: "a shard".into(),
                    source: std::io::ErrorKind::UnexpectedEof.into(),
                });
            }
        }
        Ok(())
    }
}

/// A shard that is being read.
pub(super) struct Shard<'a> {
    object: Box<dyn OpenObject + 'a>,
    index: Vec<[u64; 2]>,
}

impl<'a> Shard<'a> {
    /// Reads the index of a shard.
    ///
    /// # Errors
    /// As a text what is wrong with it.
    pub(super) fn open(object: Box<dyn OpenObject + 'a>, layout: &Layout) -> Result<Self, String> {
        let (entries, size) = (layout.count() * ENTRY, layout.index_size());
        let length = object.len();
        let Some(behind) = length.checked_sub(size as u64) else {
            return Err(format!("it has {length} bytes, and its index alone takes {size}"));
        };
        let mut bytes = vec![0; size];
        let offset = if layout.index_at_end { behind } else { 0 };
        object.read_at(offset, &mut bytes).map_err(text)?;
        let (bytes, checksum) = bytes.split_at(entries);
        if layout.index_has_checksum && crc32c::crc32c(bytes).to_le_bytes() != *checksum {
            return Err("the checksum of its index is not that of the index".to_owned());
        }
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        let index = entries
            .iter()
            .map(|entry| {
                let (halves, _) = entry.as_chunks::<8>();
                [number(&halves[0]), number(&halves[1])]
            })
            .collect();
        Ok(Self { object, index })
    }

    /// Reads the encoded bytes of a chunk. Whether it was ever written.
    ///
    /// # Errors
    /// As a text what is wrong with its place in the index.
    pub(super) fn read(&self, number: usize, buffer: &mut Vec<u8>) -> Result<bool, String> {
        let Some(&[offset, length]) = self.index.get(number) else {
            return Err(format!("it is chunk {number} of a shard of {}", self.index.len()));
        };
        if (offset, length) == (u64::MAX, u64::MAX) {
            return Ok(false);
        }
        let end = offset.checked_add(length);
        let size = self.object.len();
        if end.is_none_or(|end| end > size) {
            return Err(format!(
                "the index has it at {offset} with {length} bytes, in a shard of {size}"
            ));
        }
        buffer.resize(length as usize, 0);
        self.object.read_at(offset, buffer).map_err(text)?;
        Ok(true)
    }

    /// The encoded bytes of a chunk; nothing for one that was never written.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub(super) fn chunk(&self, number: usize) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        Ok(self.read(number, &mut bytes)?.then_some(bytes))
    }
}

fn text(error: crate::Error) -> String {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
