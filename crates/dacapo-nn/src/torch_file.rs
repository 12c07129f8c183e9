//! Tensors in the files that PyTorch's `torch.save` writes: a zip archive of a pickle, which says what each tensor
//! is, and the numbers of each storage. The pickle is read as data ([`crate::pickle`]); files are opened elsewhere.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use crate::pickle::{self, Pickle, Value};
use crate::{Error, NamedTensor, Result};

/// How deep a tensor may stand in what was saved.
const DEEPEST: usize = 32;
/// Places that are looked at for tensors.
const MOST_PLACES: usize = 1 << 20;
/// All tensors together may have so many values for each byte of the file: some share their numbers.
const MOST_SHARED: u64 = 16;
/// What every zip archive that has something in it begins with.
const ZIP: &[u8] = b"PK\x03\x04";

/// A file that `torch.save` wrote, with the tensors in it.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut file = dacapo_nn::TorchFile::open(std::fs::File::open("weights.pt")?)?;
/// for tensor in file.tensors().to_vec() {
///     println!("{} {:?}", tensor.name, file.read(&tensor)?.data);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TorchFile<R> {
    zip: ZipArchive<R>,
    /// The folder in which everything stands.
    folder: String,
    big_endian: bool,
    pickle: Pickle,
    tensors: Vec<TorchTensor>,
}

/// A tensor of a [`TorchFile`], without its values.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchTensor {
    /// The keys, attributes and indices that lead to it, joined by `/`: `model/head.weight`.
    pub name: String,
    /// Lengths of its axes; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type of its values in the file.
    pub dtype: TorchType,
    storage: String,
    offset: u64,
    strides: Vec<u64>,
}

/// The types of values that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum TorchType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl TorchType {
    /// By the class of a typed storage, or the name of a dtype.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" | "float64" => Self::F64,
            "FloatStorage" | "float32" => Self::F32,
            "HalfStorage" | "float16" => Self::F16,
            "BFloat16Storage" | "bfloat16" => Self::BF16,
            "LongStorage" | "int64" => Self::I64,
            "IntStorage" | "int32" => Self::I32,
            "ShortStorage" | "int16" => Self::I16,
            "CharStorage" | "int8" => Self::I8,
            "uint64" => Self::U64,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
            "ByteStorage" | "uint8" => Self::U8,
            "BoolStorage" | "bool" => Self::Bool,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// One value of `size` bytes, the least first.
    fn value(self, bytes: &[u8]) -> f32 {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, ..] = eight;
        match self {
            Self::F64 => f64::from_le_bytes(eight) as f32,
            Self::F32 => f32::from_le_bytes([a, b, c, d]),
            Self::F16 => half::f16::from_le_bytes([a, b]).to_f32(),
            Self::BF16 => half::bf16::from_le_bytes([a, b]).to_f32(),
            Self::I64 => i64::from_le_bytes(eight) as f32,
            Self::I32 => i32::from_le_bytes([a, b, c, d]) as f32,
            Self::I16 => i16::from_le_bytes([a, b]).into(),
            Self::I8 => i8::from_le_bytes([a]).into(),
            Self::U64 => u64::from_le_bytes(eight) as f32,
            Self::U32 => u32::from_le_bytes([a, b, c, d]) as f32,
            Self::U16 => u16::from_le_bytes([a, b]).into(),
            Self::U8 => a.into(),
            Self::Bool => f32::from(u8::from(a != 0)),
        }
    }
}

impl TorchTensor {
    /// Whether both are the same values of one storage, under two names.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let Self { shape, dtype, .. } = self;
        (&self.storage, self.offset, &self.strides, shape, dtype)
            == (
                &other.storage,
                other.offset,
                &other.strides,
                &other.shape,
                &other.dtype,
            )
    }

    /// How many values it has; nothing if that is more than can be counted.
    fn len(&self) -> Option<u64> {
        let lengths = self.shape.iter().map(|&length| length as u64);
        lengths.fold(Some(1), |n, length| n?.checked_mul(length))
    }

    /// The end of what it uses of its storage, in values.
    fn end(&self) -> Option<u64> {
        if self.len()? == 0 {
            return Some(0);
        }
        let axes = self.shape.iter().zip(&self.strides);
        let last = axes.fold(Some(self.offset), |at, (&length, &stride)| {
            at?.checked_add((length as u64 - 1).checked_mul(stride)?)
        });
        last?.checked_add(1)
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::TorchFile(reason.into()))
}

impl<R: Read + Seek> TorchFile<R> {
    /// Reads what is in a file, but for the numbers.
    ///
    /// # Errors
    /// [`Error::TorchFile`] if it is no zip archive of PyTorch, names tensors that are not in it, or was written
    /// before PyTorch 1.6; [`Error::Pickle`].
    pub fn open(mut reader: R) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::TorchFile(error.to_string());
        let mut begin = Vec::new();
        let length = reader.seek(SeekFrom::End(0)).map_err(|error| failed(&error))?;
        reader
            .rewind()
            .and_then(|()| reader.by_ref().take(16).read_to_end(&mut begin))
            .map_err(|error| failed(&error))?;
        if !begin.starts_with(ZIP) {
            // The first of an old file's pickles is a long, its magic number.
            return refuse(if begin.starts_with(b"\x80\x02\x8a\x0a") {
                "it was written before PyTorch 1.6, or with _use_new_zipfile_serialization=False; load and save it \
                 again with a later PyTorch"
            } else {
                "it is no zip archive"
            });
        }
        let mut zip = ZipArchive::new(reader).map_err(|error| failed(&error))?;
        let pickles: Vec<String> = zip
            .file_names()
            .filter_map(|name| name.strip_suffix("/data.pkl"))
            .filter(|folder| !folder.contains('/'))
            .map(str::to_owned)
            .collect();
        let [folder] = &pickles[..] else {
            return refuse("there is no data.pkl in the archive, or more than one");
        };
        let folder = folder.clone();
        if zip.index_for_name(&format!("{folder}/constants.pkl")).is_some() {
            return refuse("it is a TorchScript program, not a state dict");
        }
        let order = match zip.index_for_name(&format!("{folder}/byteorder")) {
            Some(_) => entry(&mut zip, &folder, "byteorder")?,
            None => b"little".to_vec(),
        };
        let big_endian = match &order[..] {
            b"little" => false,
            b"big" => true,
            _ => return refuse("its byte order is neither little nor big"),
        };
        let pickle = pickle::read(&entry(&mut zip, &folder, "data.pkl")?)?;
        let mut tensors = Vec::new();
        let mut places = 0;
        collect(pickle.root(), String::new(), 0, &mut places, &mut tensors)?;
        let mut file = Self {
            zip,
            folder,
            big_endian,
            pickle,
            tensors,
        };
        file.check(length)?;
        Ok(file)
    }

    /// Refuses tensors that are not in their storages.
    fn check(&mut self, length: u64) -> Result<()> {
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        let mut values = 0_u64;
        for tensor in &self.tensors {
            let fail = |reason: String| Error::TorchFile(format!("tensor `{}`: {reason}", tensor.name));
            let size = match sizes.get(tensor.storage.as_str()) {
                Some(&size) => size,
                None => {
                    let name = format!("{}/data/{}", self.folder, tensor.storage);
                    let index = self.zip.index_for_name(&name);
                    let index = index.ok_or_else(|| fail(format!("`{name}` is not in the archive")))?;
                    let entry = self.zip.by_index_raw(index);
                    let size = entry.map_err(|error| fail(error.to_string()))?.size();
                    sizes.insert(&tensor.storage, size);
                    size
                }
            };
            let there = size / tensor.dtype.size() as u64;
            if tensor.end().is_none_or(|end| end > there) {
                return Err(fail(format!(
                    "shape {:?} with strides {:?} from {} is not within the {there} values of storage {}",
                    tensor.shape, tensor.strides, tensor.offset, tensor.storage
                )));
            }
            values = values.saturating_add(tensor.len().unwrap_or(u64::MAX));
            if values > length.saturating_mul(MOST_SHARED) {
                return Err(fail(
                    "its tensors have many more values than the file has bytes".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// What was saved; of a tensor it says only what it is.
    pub fn pickle(&self) -> &Pickle {
        &self.pickle
    }

    /// All tensors, in the order in which they stand in what was saved. One that stands there twice is there twice.
    pub fn tensors(&self) -> &[TorchTensor] {
        &self.tensors
    }

    /// The values of a tensor as f32, which rounds some of the larger types.
    ///
    /// # Errors
    /// [`Error::TorchFile`] if they cannot be read, or fail their checksum.
    pub fn read(&mut self, tensor: &TorchTensor) -> Result<NamedTensor> {
        let mut bytes = entry(&mut self.zip, &self.folder, &format!("data/{}", tensor.storage))?;
        let size = tensor.dtype.size();
        if self.big_endian {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        let torn = || Error::TorchFile(format!("tensor `{}`: its storage is too short", tensor.name));
        let len = tensor
            .len()
            .and_then(|len| usize::try_from(len).ok())
            .ok_or_else(torn)?;
        if tensor.end().is_none_or(|end| end > (bytes.len() / size) as u64) {
            return Err(torn());
        }
        let mut data = Vec::with_capacity(len);
        let mut index = vec![0_usize; tensor.shape.len()];
        let mut at = tensor.offset as usize;
        while data.len() < len {
            data.push(tensor.dtype.value(&bytes[at * size..(at + 1) * size]));
            // The next place, the last axis first. The stride of an axis that ends may lead anywhere, and back.
            for axis in (0..index.len()).rev() {
                let stride = tensor.strides[axis] as usize;
                index[axis] += 1;
                at = at.wrapping_add(stride);
                if index[axis] < tensor.shape[axis] {
                    break;
                }
                at = at.wrapping_sub(stride.wrapping_mul(index[axis]));
                index[axis] = 0;
            }
        }
        Ok(NamedTensor {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            data,
        })
    }
}

/// The bytes of an entry of the archive, which has to be stored as it is: it is then no larger than the file.
fn entry<R: Read + Seek>(zip: &mut ZipArchive<R>, folder: &str, name: &str) -> Result<Vec<u8>> {
    let name = format!("{folder}/{name}");
    let fail =
        |reason: &dyn std::fmt::Display| Error::TorchFile(format!("`{name}` in the archive: {reason}"));
    let index = zip.index_for_name(&name).ok_or_else(|| fail(&"there is none"))?;
    let method = zip
        .by_index_raw(index)
        .map_err(|error| fail(&error))?
        .compression();
    if method != CompressionMethod::Stored {
        return Err(fail(&format!("it is compressed ({method})")));
    }
    let mut bytes = Vec::new();
    let mut entry = zip.by_index(index).map_err(|error| fail(&error))?;
    let size = entry.size();
    entry.read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    if bytes.len() as u64 != size {
        return Err(fail(&"it is shorter than it should be"));
    }
    Ok(bytes)
}

/// Finds the tensors in a value. What contains itself is left at a fixed depth.
fn collect(
    value: Value<'_>,
    name: String,
    depth: usize,
    places: &mut usize,
    tensors: &mut Vec<TorchTensor>,
) -> Result<()> {
    *places += 1;
    if depth > DEEPEST || *places > MOST_PLACES {
        return refuse(format!(
            "what was saved is nested deeper than {DEEPEST}, or has more than {MOST_PLACES} parts"
        ));
    }
    if let Some(tensor) = tensor(value, &name)? {
        tensors.push(tensor);
        return Ok(());
    }
    let below = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}/{key}")
        }
    };
    if value.class() == Some(("torch._utils", "_rebuild_parameter")) {
        return match value.args().and_then(|args| args.item(0)) {
            Some(data) => collect(data, name, depth + 1, places, tensors),
            None => Ok(()),
        };
    }
    let attributes = value.state().filter(|_| value.pairs().is_none());
    if let Some(pairs) = attributes.unwrap_or(value).pairs() {
        for (key, inner) in pairs {
            let key = match (key.as_text(), key.as_int()) {
                (Some(text), _) => text.to_owned(),
                (None, Some(number)) => number.to_string(),
                (None, None) => continue,
            };
            collect(inner, below(&key), depth + 1, places, tensors)?;
        }
    } else if let Some(items) = value.items() {
        for (index, inner) in items.enumerate() {
            collect(inner, below(&index.to_string()), depth + 1, places, tensors)?;
        }
    }
    Ok(())
}

/// The tensor that a value is; nothing if it is something else.
fn tensor(value: Value<'_>, name: &str) -> Result<Option<TorchTensor>> {
    let Some(("torch._utils", function @ ("_rebuild_tensor_v2" | "_rebuild_tensor_v3"))) = value.class()
    else {
        return Ok(None);
    };
    let read = || -> Option<std::result::Result<TorchTensor, String>> {
        // (storage, offset, shape, strides, requires gradient, hooks, and in v3 the dtype)
        let args = value.args()?;
        // ("storage", class, key, device, values)
        let storage = args.item(0)?.persistent()?;
        if storage.item(0)?.as_text()? != "storage" {
            return None;
        }
        let (_, class) = storage.item(1)?.global()?;
        let class = if function == "_rebuild_tensor_v3" {
            args.item(6)?.global()?.1
        } else {
            class
        };
        let Some(dtype) = TorchType::of(class) else {
            return Some(Err(format!("values of type {class} are not read")));
        };
        let numbers = |value: Value<'_>| -> Option<Vec<u64>> {
            value
                .items()?
                .map(|item| u64::try_from(item.as_int()?).ok())
                .collect()
        };
        let shape = numbers(args.item(2)?)?;
        let shape: Option<Vec<usize>> = shape.into_iter().map(|length| length.try_into().ok()).collect();
        let (shape, strides) = (shape?, numbers(args.item(3)?)?);
        if shape.len() != strides.len() {
            return None;
        }
        Some(Ok(TorchTensor {
            name: name.to_owned(),
            shape,
            dtype,
            storage: storage.item(2)?.as_text()?.to_owned(),
            offset: u64::try_from(args.item(1)?.as_int()?).ok()?,
            strides,
        }))
    };
    match read() {
        Some(Ok(tensor)) => Ok(Some(tensor)),
        Some(Err(reason)) => refuse(format!("tensor `{name}`: {reason}")),
        None => refuse(format!(
            "tensor `{name}` is not described as PyTorch describes tensors"
        )),
    }
}
