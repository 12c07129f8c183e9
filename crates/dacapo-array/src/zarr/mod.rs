//! Arrays in the Zarr format, version 2 or 3, in any storage. Codecs and metadata are those of the `zarrs` crate;
//! windows, and the cache of decoded chunks, are ours (ARCHITECTURE.md says why).

mod cache;
mod draft;
mod find;
mod format;
mod group;
mod pending;
mod place;
mod placement;
mod read;
mod scatter;
mod shapes;
mod shard;
mod stored;
mod windows;
mod write;

use std::sync::{Arc, Mutex};

use ndarray::{ArrayD, IxDyn};
use serde_json::{Map, Value};

use crate::dtype::{with_data, with_dtype};
use crate::memory::{check_values, window_inside};
use crate::storage::{Access, Durability, Stamp, Storage, join};
use crate::{ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Element, Error, NdData, Result, Roi};
use cache::Cache;
use format::Format;
use pending::Pending;
use place::{Place, read_json};
use windows::Window;

pub use draft::DraftArray;
pub(crate) use find::levels;
pub use find::{levels_within, list_arrays, open_array};
pub use format::{Codec, ZarrFormat};
pub use group::leave_group;
pub(crate) use shapes::default_chunk;
pub use stored::{DamagedChunk, Missing, Stored};

/// How an array is created.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOptions {
    /// Shape of the blocks that will be written, in values along all axes, channels among them. The shapes of
    /// chunks and shards are derived from it, unless they are given: a block is whole objects.
    pub block_shape: Option<Vec<usize>>,
    /// Blocks will be written object by object ([`DraftArray::object_shape`]), so that few objects are begun at a time: in
    /// Zarr 3 one is many blocks then, up to 64 MiB. Of a [`DraftArray`], which keeps them until they are whole.
    pub join_blocks: bool,
    /// Chunk shape in values along all axes, channels among them; by default derived from the block's shape, else
    /// from the array's. Reading decodes whole chunks.
    pub chunk_shape: Option<Vec<usize>>,
    /// Shape of the shards, objects of many chunks, in values along all axes: multiples of the chunks'. Zarr 3
    /// only. Writing replaces whole shards.
    pub shard_shape: Option<Vec<usize>>,
    /// The format's version.
    pub format: ZarrFormat,
    /// How chunks are compressed; by default Zstandard, for floats Blosc.
    pub codec: Option<Codec>,
    /// The value of what was never written.
    pub fill: f64,
    /// Replace an array that is there, in one step.
    pub overwrite: bool,
    /// Attributes beside those that place the array.
    pub attributes: Map<String, Value>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            block_shape: None,
            join_blocks: false,
            chunk_shape: None,
            shard_shape: None,
            format: ZarrFormat::V2,
            codec: None,
            fill: 0.0,
            overwrite: false,
            attributes: Map::new(),
        }
    }
}

/// Bytes of decoded chunks that an open array keeps.
const CACHE: usize = 256 << 20;
/// Bytes of encoded shards that are not whole yet, of an array that is being made.
const PENDING: usize = 256 << 20;
/// Chunks share so many turns.
const TURNS: usize = 64;

/// An open Zarr array.
///
/// Reading decodes whole chunks, on all threads of the current rayon pool, and keeps some of them decoded.
/// Writing replaces each chunk in one step; of several that write parts of one chunk at a time, in whatever
/// processes, none is lost. Chunks that other processes write are seen when they are read for the first time.
///
/// An array that is removed or replaced while it is open is [`Error::Gone`] from then on: what is read is of the
/// array that was opened.
pub struct ZarrArray {
    place: Place,
    /// Of the array's objects.
    key: String,
    spec: ArraySpec,
    format: Format,
    cache: Cache,
    turns: Vec<Mutex<()>>,
    durability: Durability,
    /// Of an array that is being made.
    pending: Option<Pending>,
    /// The state of the metadata that was read.
    stamp: Stamp,
}

impl std::fmt::Debug for ZarrArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZarrArray({}, {:?})", self.place.address, self.spec)
    }
}

impl ZarrArray {
    /// Opens an array.
    ///
    /// # Errors
    /// [`Error::NoContainer`] or [`Error::NoArray`], naming what is there instead; [`Error::Metadata`]; as
    /// [`Access::storage`].
    pub fn open(address: &ArrayAddress, access: &Access) -> Result<Self> {
        Self::found(&Place::of(address, access)?).map_err(|error| match error {
            Error::NoContainer { container, .. } => find::no_container(&container, access),
            error => error,
        })
    }

    /// Opens an array in a storage that has its container at a key.
    ///
    /// # Errors
    /// As [`ZarrArray::open`].
    pub fn open_within(storage: Arc<dyn Storage>, container: &str, address: &ArrayAddress) -> Result<Self> {
        Self::found(&Place::within(storage, container, address)?)
    }

    fn found(place: &Place) -> Result<Self> {
        Self::at(place, place.key(), Durability::Whole)?.ok_or_else(|| find::missing(place))
    }

    /// The array of a place of which the objects stand below another key. Nothing if there is none.
    fn at(place: &Place, key: String, durability: Durability) -> Result<Option<Self>> {
        let storage = &*place.storage;
        let broken = |reason: String| place.broken(reason);
        let Some((version, metadata, stamp)) = format::array_metadata(storage, &key)?.map_err(broken)? else {
            return Ok(None);
        };
        let attributes = match version {
            ZarrFormat::V2 => read_json(storage, &join(&key, ".zattrs"))?
                .map_err(broken)?
                .map(|(attributes, _)| attributes),
            ZarrFormat::V3 => metadata.get("attributes").cloned(),
        };
        let format = Format::parse(version, metadata, attributes).map_err(broken)?;
        let group = || format::group_attributes(storage, &place.group());
        let spec = placement::read(&format, place.name(), group).map_err(broken)?;
        Ok(Some(Self {
            place: place.clone(),
            key,
            spec,
            format,
            cache: Cache::new(CACHE),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            pending: (durability == Durability::Later).then(|| Pending::new(PENDING)),
            durability,
            stamp,
        }))
    }

    /// Creates an array that has the fill value everywhere, and the groups above it in its container. It is
    /// there whole or not at all. One that shall only be seen with its values is begun as a [`DraftArray`].
    ///
    /// # Errors
    /// As [`DraftArray::new`] and [`DraftArray::publish`].
    pub fn create(
        address: &ArrayAddress,
        access: &Access,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<Self> {
        DraftArray::new(address, access, spec, options)?.publish()
    }

    /// Its name.
    pub fn address(&self) -> &ArrayAddress {
        &self.place.address
    }

    /// Its attributes, those that place it among them.
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.format.attributes
    }

    /// Shape of its chunks, in values along all axes: what is decoded at a time.
    pub fn chunk_shape(&self) -> &[usize] {
        self.format.inner_shape()
    }

    /// Shape of its objects, shards or chunks, in values along all axes: what is written at a time.
    pub fn object_shape(&self) -> &[usize] {
        &self.format.chunk_shape
    }

    /// The format's version.
    pub fn format(&self) -> ZarrFormat {
        self.format.version
    }

    /// Keeps up to so many bytes of decoded chunks, instead of the default of 256 MiB.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache = Cache::new(bytes);
        self
    }

    fn broken(&self, chunk: &[u64]) -> impl Fn(String) -> Error {
        move |reason| Error::Chunk {
            address: Box::new(self.place.address.clone()),
            chunk: chunk.to_vec(),
            reason,
        }
    }

    /// Refuses if the array is not the one that was opened any more.
    fn check_is_there(&self) -> Result<()> {
        let now = self
            .place
            .storage
            .stamp(&format::metadata_key(self.format.version, &self.key))?;
        if now.as_ref() == Some(&self.stamp) {
            Ok(())
        } else {
            Err(Error::Gone {
                address: self.place.address.clone(),
            })
        }
    }

    fn chunk_key(&self, chunk: &[u64]) -> String {
        join(&self.key, &self.format.chunk_key(chunk))
    }

    /// A window of all axes, from its first spatial voxel.
    fn window(&self, begin: Vec<i64>, shape: Vec<usize>) -> Window {
        let channels = &self.spec.channels;
        Window {
            begin: std::iter::repeat_n(0, channels.len()).chain(begin).collect(),
            shape: channels.iter().copied().chain(shape).collect(),
        }
    }
}

impl ArrayRead for ZarrArray {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        let (begin, shape) = self.spec.window(roi)?;
        let window = self.window(begin, shape);
        with_dtype!(self.spec.dtype, T => self.read_window::<T>(&window, Vec::new()).map(T::wrap))
    }

    fn read_into(&self, roi: &Roi, buffer: &mut NdData) -> Result<()> {
        let (begin, shape) = self.spec.window(roi)?;
        let window = self.window(begin, shape);
        with_dtype!(self.spec.dtype, T => {
            let used = T::unwrap(std::mem::replace(buffer, NdData::U8(ArrayD::default(IxDyn(&[])))));
            // Memory of another type is of no use.
            let used = used.map_or_else(|_| Vec::new(), |array| array.into_raw_vec_and_offset().0);
            *buffer = T::wrap(self.read_window::<T>(&window, used)?);
        });
        Ok(())
    }
}

impl ArrayWrite for ZarrArray {
    fn write(&self, roi: &Roi, data: &NdData) -> Result<()> {
        let (begin, shape) = window_inside(&self.spec, roi)?;
        let window = self.window(begin.into_iter().map(|n| n as i64).collect(), shape);
        check_values(&self.spec, &window.shape, data)?;
        with_data!(data, array => self.write_window(&window, array))
    }
}

/// Values as the bytes that codecs work on.
trait Bytes: Sized {
    fn from_bytes(bytes: &[u8]) -> Self;
    fn copy_from_bytes(bytes: &[u8], to: &mut [Self]);
    fn copy_to_bytes(values: &[Self], to: &mut [u8]);
}

macro_rules! bytes {
    ($($T:ty),*) => {$(
        impl Bytes for $T {
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut value = [<$T>::default()];
                Self::copy_from_bytes(bytes, &mut value);
                value[0]
            }
            fn copy_from_bytes(bytes: &[u8], to: &mut [Self]) {
                let (values, _) = bytes.as_chunks::<{ size_of::<$T>() }>();
                to.iter_mut().zip(values).for_each(|(to, bytes)| *to = <$T>::from_ne_bytes(*bytes));
            }
            fn copy_to_bytes(values: &[Self], to: &mut [u8]) {
                let (to, _) = to.as_chunks_mut::<{ size_of::<$T>() }>();
                to.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_ne_bytes());
            }
        }
    )*};
}
bytes!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Bytes for bool {
    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first().is_some_and(|&byte| byte != 0)
    }
    fn copy_from_bytes(bytes: &[u8], to: &mut [Self]) {
        to.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte != 0);
    }
    fn copy_to_bytes(values: &[Self], to: &mut [u8]) {
        to.iter_mut()
            .zip(values)
            .for_each(|(to, &value)| *to = u8::from(value));
    }
}
