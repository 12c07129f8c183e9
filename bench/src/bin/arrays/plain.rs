//! What a program would do that writes and reads the same chunks as plain files of its own: no metadata, no checksums, no
//! locks, nothing that survives a kill. The codec and the files share two cores here as they do in a store.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use dacapo::array::{Codec, DType, NdData};
use rayon::prelude::*;
use zarrs::array::{
    ArrayBytes, ArrayToBytesCodecTraits, CodecChain, CodecOptions, DataType, FillValue, data_type,
};
use zarrs::metadata::v3::MetadataV3;

/// Of a chunk, along each axis.
pub const EDGE: usize = 64;

/// A codec as it comes, without anything around it.
pub struct ChunkCodec {
    chain: CodecChain,
    shape: Vec<NonZeroU64>,
    dtype: DataType,
    fill: FillValue,
}

impl ChunkCodec {
    pub fn new(codec: Codec, dtype: DType) -> Self {
        let mut codecs = vec![serde_json::json!({"name": "bytes", "configuration": {"endian": "little"}})];
        codecs.extend(match codec {
            Codec::None => None,
            Codec::BloscLz4 { level } => Some(serde_json::json!({"name": "blosc", "configuration": {
                "cname": "lz4", "clevel": level, "shuffle": "shuffle", "typesize": dtype.size(), "blocksize": 0,
            }})),
            _ => Some(serde_json::json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}})),
        });
        let codecs: Vec<MetadataV3> = codecs
            .into_iter()
            .map(|codec| serde_json::from_value(codec).unwrap())
            .collect();
        let (dtype, fill) = match dtype {
            DType::U8 => (data_type::uint8(), FillValue::from(0u8)),
            _ => (data_type::float32(), FillValue::from(0f32)),
        };
        Self {
            chain: CodecChain::from_metadata(&codecs).unwrap(),
            shape: vec![NonZeroU64::new(64).unwrap(); 3],
            dtype,
            fill,
        }
    }

    pub fn encode(&self, chunk: &[u8]) -> Vec<u8> {
        let options = CodecOptions::default().with_concurrent_target(1);
        let chunk = ArrayBytes::new_flen(chunk);
        let encoded = self
            .chain
            .encode(chunk, &self.shape, &self.dtype, &self.fill, &options);
        encoded.unwrap().into_owned()
    }

    pub fn decode(&self, chunk: &[u8]) -> Vec<u8> {
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded = self
            .chain
            .decode(chunk.into(), &self.shape, &self.dtype, &self.fill, &options);
        decoded.unwrap().into_fixed().unwrap().into_owned()
    }
}

/// Chunks in plain files, of an array whose edges have `length` voxels.
pub struct PlainFiles {
    pub dir: PathBuf,
    pub codec: ChunkCodec,
    pub channels: usize,
    pub length: usize,
    /// Of the cube that shares a file: a chunk's, or a shard's.
    pub edge: usize,
    /// Bytes.
    pub value: usize,
}

impl PlainFiles {
    fn path(&self, channel: usize, [z, y, x]: [usize; 3]) -> PathBuf {
        self.dir.join(format!("{channel}/{z}/{y}/{x}"))
    }

    /// Where a file begins whose chunks are encoded one behind the other, each behind its length.
    fn begins(&self) -> Vec<[usize; 3]> {
        super::blocks(self.length, self.edge)
    }

    /// Encodes and writes them, on all threads, and has them synced by eight that wait.
    pub fn write(&self, data: &NdData) {
        let files = self.begins().into_par_iter().flat_map(|begin| {
            let mut files = vec![Vec::new(); self.channels];
            for within in super::blocks(self.edge, EDGE) {
                let begin = [0, 1, 2].map(|axis| begin[axis] + within[axis]);
                let chunks = super::chunks(data, begin, EDGE, self.channels);
                for (file, chunk) in files.iter_mut().zip(chunks) {
                    let encoded = self.codec.encode(&chunk);
                    file.extend_from_slice(&encoded.len().to_le_bytes());
                    file.extend_from_slice(&encoded);
                }
            }
            let write = |(channel, bytes)| {
                let path = self.path(channel, begin);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, bytes).unwrap();
                path
            };
            files.into_iter().enumerate().map(write).collect::<Vec<_>>()
        });
        sync(&files.collect::<Vec<_>>());
    }

    /// Reads all of them into an array, each thread a part of it from its first byte to its last.
    pub fn read(&self) -> Vec<u8> {
        let (row, plane) = (self.length * self.value, self.length.pow(2) * self.value);
        let mut values = vec![0; self.channels * self.length * plane];
        let slabs = values.par_chunks_mut(self.edge * plane).enumerate();
        slabs.for_each(|(slab, values)| {
            let of_channel = self.length / self.edge;
            let (channel, z) = (slab / of_channel, slab % of_channel * self.edge);
            for begin in self.begins().into_iter().filter(|begin| begin[0] == z) {
                let file = fs::read(self.path(channel, begin)).unwrap();
                let mut rest = &file[..];
                for within in super::blocks(self.edge, EDGE) {
                    let (length, behind) = rest.split_first_chunk().unwrap();
                    let (encoded, behind) = behind.split_at(usize::from_le_bytes(*length));
                    rest = behind;
                    let chunk = self.codec.decode(encoded);
                    let (y, x) = (begin[1] + within[1], begin[2] + within[2]);
                    for (i, from) in chunk.chunks_exact(EDGE * self.value).enumerate() {
                        let at = (within[0] + i / EDGE) * plane + (y + i % EDGE) * row + x * self.value;
                        values[at..][..from.len()].copy_from_slice(from);
                    }
                }
            }
        });
        values
    }
}

/// Has files that were written on the disk. The threads only wait: more of them than there are cores.
pub fn sync(files: &[PathBuf]) {
    let waiting = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let sync = |path: &PathBuf| File::open(path).unwrap().sync_data().unwrap();
    waiting.install(|| files.par_iter().for_each(sync));
}

/// Deletes what is there, and waits until the disk has nothing else to do.
pub fn clear(dir: &Path) {
    fs::remove_dir_all(dir).ok();
    std::process::Command::new("sync").status().unwrap();
}
