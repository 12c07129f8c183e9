//! Arrays on disk in the Zarr format, version 2 or 3. Codecs and metadata are those of the `zarrs` crate;
//! files, windows, the cache of decoded chunks and the locks are ours (ARCHITECTURE.md says why).

mod cache;
mod draft;
mod files;
mod find;
mod format;
mod placement;
mod stored;
mod windows;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::ArrayD;
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::dtype::{with_data, with_dtype};
use crate::memory::{check_values, filled, window_inside};
use crate::{ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Element, Error, NdData, Result, Roi};
use cache::{Cache, Decoded, Lookup};
use files::Durability;
use format::{Format, Node};
use windows::Window;

pub use draft::DraftArray;
pub use find::{list_arrays, open_array};
pub use format::{Codec, ZarrFormat};
pub use stored::{Missing, Stored};

/// How an array is created.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOptions {
    /// Chunk shape in values along all axes, channels among them; derived from the array's shape by default.
    /// Writes of whole chunks are the fastest.
    pub chunk_shape: Option<Vec<usize>>,
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
            chunk_shape: None,
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
/// Chunks share so many locks.
const LOCKS: usize = 64;

/// An open Zarr array.
///
/// Reading decodes whole chunks, on all threads of the current rayon pool, and keeps some of them decoded.
/// Writing replaces each chunk in one step; writes to one chunk through the same open array take turns, so
/// that none is lost. Chunks that other processes write are seen when they are read for the first time.
pub struct ZarrArray {
    address: ArrayAddress,
    dir: PathBuf,
    spec: ArraySpec,
    format: Format,
    cache: Cache,
    locks: Vec<Mutex<()>>,
    durability: Durability,
}

impl std::fmt::Debug for ZarrArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZarrArray({}, {:?})", self.address, self.spec)
    }
}

impl ZarrArray {
    /// Opens an array.
    ///
    /// # Errors
    /// [`Error::NoContainer`] or [`Error::NoArray`], naming what is there instead; [`Error::Metadata`].
    pub fn open(address: &ArrayAddress) -> Result<Self> {
        address.check()?;
        let dir = address.path();
        let broken = |reason| Error::Metadata {
            address: address.clone(),
            reason,
        };
        match format::node(&dir).map_err(broken)? {
            Node::Array(version, metadata) => {
                let format = Format::parse(&dir, version, metadata).map_err(broken)?;
                Self::over(address, format)
            }
            Node::Group | Node::Nothing => Err(find::missing(address)),
        }
    }

    fn over(address: &ArrayAddress, format: Format) -> Result<Self> {
        let dir = address.path();
        Self::at(dir, address, format, Durability::Synced)
    }

    /// The array of which the files stand in `dir`.
    fn at(dir: PathBuf, address: &ArrayAddress, format: Format, durability: Durability) -> Result<Self> {
        let path = address.path();
        let group = path.parent().map(format::group_attributes).unwrap_or_default();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let spec = placement::read(&format, Some((&group, name))).map_err(|reason| Error::Metadata {
            address: address.clone(),
            reason,
        })?;
        Ok(Self {
            address: address.clone(),
            dir,
            spec,
            format,
            cache: Cache::new(CACHE),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            durability,
        })
    }

    /// Creates an array that has the fill value everywhere, and the groups above it in its container. It is
    /// there whole or not at all. One that shall only be seen with its values is begun as a [`DraftArray`].
    ///
    /// # Errors
    /// As [`DraftArray::new`] and [`DraftArray::publish`].
    pub fn create(address: &ArrayAddress, spec: &ArraySpec, options: &CreateOptions) -> Result<Self> {
        DraftArray::new(address, spec, options)?.publish()
    }

    /// Its name.
    pub fn address(&self) -> &ArrayAddress {
        &self.address
    }

    /// Its attributes, those that place it among them.
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.format.attributes
    }

    /// Shape of its chunks (of its shards, if it has such), in values along all axes.
    pub fn chunk_shape(&self) -> &[usize] {
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
            address: self.address.clone(),
            chunk: chunk.to_vec(),
            reason,
        }
    }

    fn chunk_path(&self, chunk: &[u64]) -> PathBuf {
        self.dir.join(self.format.chunk_key(chunk))
    }

    fn decode(&self, chunk: &[u64]) -> Result<Decoded> {
        match files::read(&self.chunk_path(chunk))? {
            Some(bytes) => Ok(Some(Arc::new(
                self.format.decode(bytes).map_err(self.broken(chunk))?,
            ))),
            None => Ok(None),
        }
    }

    /// A window of all axes, from its first spatial voxel.
    fn window(&self, begin: Vec<i64>, shape: Vec<usize>) -> Window {
        let channels = &self.spec.channels;
        Window {
            begin: std::iter::repeat_n(0, channels.len()).chain(begin).collect(),
            shape: channels.iter().copied().chain(shape).collect(),
        }
    }

    fn read_window<T: Element + Bytes>(&self, window: &Window) -> Result<ArrayD<T>> {
        let Format {
            shape,
            chunk_shape,
            fill,
            ..
        } = &self.format;
        let values = Mutex::new(
            filled(&window.shape, T::from_bytes(fill))?
                .into_raw_vec_and_offset()
                .0,
        );
        window
            .chunks(shape, chunk_shape)
            .into_par_iter()
            .try_for_each(|chunk| {
                let shared = window.shared(&chunk, shape, chunk_shape);
                let decoded = match self.cache.get(&chunk) {
                    Lookup::Found(decoded) => decoded,
                    Lookup::Missing(ticket) => {
                        let decoded = self.decode(&chunk)?;
                        if !shared.is_whole(&chunk, shape, chunk_shape) {
                            self.cache.put(&chunk, decoded.clone(), ticket);
                        }
                        decoded
                    }
                };
                if let Some(decoded) = decoded {
                    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
                    shared.rows(&window.shape, chunk_shape, |to, from, length| {
                        T::copy_from_bytes(
                            &decoded[from * size_of::<T>()..(from + length) * size_of::<T>()],
                            &mut values[to..to + length],
                        );
                    });
                }
                Ok(())
            })?;
        let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
        ArrayD::from_shape_vec(window.shape.clone(), values).map_err(|error| Error::Shape {
            reason: error.to_string(),
        })
    }

    fn write_window<T: Element + Bytes>(&self, window: &Window, data: &ArrayD<T>) -> Result<()> {
        let Format {
            shape,
            chunk_shape,
            fill,
            ..
        } = &self.format;
        let data = data.as_standard_layout();
        let values = data.as_slice().unwrap_or_default();
        let chunks = window.chunks(shape, chunk_shape);
        let dirs: std::collections::BTreeSet<PathBuf> = chunks
            .iter()
            .filter_map(|chunk| self.chunk_path(chunk).parent().map(Path::to_owned))
            .collect();
        dirs.iter().try_for_each(|dir| files::create_dirs(dir))?;
        chunks.par_iter().try_for_each(|chunk| {
            let shared = window.shared(chunk, shape, chunk_shape);
            let mut hasher = DefaultHasher::new();
            chunk.hash(&mut hasher);
            let lock = &self.locks[hasher.finish() as usize % LOCKS];
            let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let before = if shared.is_whole(chunk, shape, chunk_shape) {
                None
            } else {
                self.decode(chunk)?
            };
            let mut bytes = match before {
                Some(before) => Arc::unwrap_or_clone(before),
                None => fill.repeat(self.format.chunk_bytes() / fill.len()),
            };
            shared.rows(&window.shape, chunk_shape, |from, to, length| {
                T::copy_to_bytes(
                    &values[from..from + length],
                    &mut bytes[to * size_of::<T>()..(to + length) * size_of::<T>()],
                );
            });
            let encoded = self.format.encode(&bytes).map_err(self.broken(chunk))?;
            // Whatever happens to the file: nobody reads the old values from the cache.
            self.cache.forget(chunk);
            let written = files::write(&self.chunk_path(chunk), &encoded, self.durability);
            self.cache.forget(chunk);
            written
        })?;
        match self.durability {
            Durability::Synced => dirs.iter().try_for_each(|dir| files::sync_dir(dir)),
            Durability::Later => Ok(()),
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
        with_dtype!(self.spec.dtype, T => self.read_window::<T>(&window).map(T::wrap))
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
