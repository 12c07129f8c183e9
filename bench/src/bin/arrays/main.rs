//! Times work on arrays: `arrays OP CASE DIR`. Prints one JSON object; `arrays.py` sets it beside TensorStore's
//! and zarr-python's, and beside what no program can beat: `copy` (in memory), `encode` and `decode` (the codec alone,
//! over chunks that lie in memory), `file` and `file-read` (one plain file of what is stored), `files` (one for each chunk);
//! and `plain-write` and `plain-read`, the codec and plain files in one program ([`plain`]).
//!
//! `data` makes what is written: real EM, the fixture of the tests mirrored to 512³ u8, and 10 × 256³ f32 made
//! of it as a network's predictions look. A case is VOLUME-CODEC: `em` or `prediction`; `raw`, `zstd`,
//! `blosc-lz4`, `shard`.

mod plain;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use dacapo::array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Codec, Coordinate, CreateOptions, DType,
    DraftArray, NdData, Roi, ZarrArray, ZarrFormat, list_arrays, open_array, storage::Access,
};
use dacapo_bench::{Random, cpu_seconds, memory};
use ndarray::{ArrayD, ArrayView3, Axis, Slice};
use plain::{ChunkCodec, EDGE, PlainFiles};
use rayon::prelude::*;

const EM: usize = 512;
const PREDICTION: [usize; 4] = [10, 256, 256, 256];
const WINDOWS: usize = 200;
const WINDOW: usize = 96;
/// Along each axis, of the arrays whose chunks and entries are counted.
const CHUNKS: i64 = 22;
const ARRAYS: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, op, case, dir] = &arguments[..] else {
        eprintln!("usage: arrays OP CASE DIR");
        std::process::exit(2);
    };
    let dir = Path::new(dir);
    if op == "data" {
        return make_data(dir);
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build_global()
        .unwrap();
    let case = Case::new(case, dir);
    let mut prepared = case.prepare(op);
    // The most so far was what was prepared.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let bytes = prepared();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let extra = memory("VmHWM") - before;
    println!(
        "{}",
        serde_json::json!({"wall": wall, "cpu": cpu, "bytes": bytes, "memory": extra})
    );
}

struct Case {
    dir: PathBuf,
    address: ArrayAddress,
    spec: ArraySpec,
    options: CreateOptions,
    access: Access,
}

impl Case {
    fn new(name: &str, dir: &Path) -> Self {
        let (volume, codec) = name.split_once('-').expect("VOLUME-CODEC");
        let voxel_size = Coordinate::splat(3, 8);
        let (shape, dtype, channels) = match volume {
            "em" => ([EM; 3], DType::U8, vec![]),
            _ => ([PREDICTION[1]; 3], DType::F32, vec![PREDICTION[0]]),
        };
        let mut chunk_shape = vec![EDGE; 3];
        let mut shard_shape = vec![256; 3];
        if !channels.is_empty() {
            chunk_shape.insert(0, 1);
            shard_shape.insert(0, 1);
        }
        let spec = ArraySpec::new(Roi::from_voxels(&[0; 3], &shape, &voxel_size), voxel_size, dtype)
            .with_channels(channels);
        let options = CreateOptions {
            chunk_shape: Some(chunk_shape),
            shard_shape: (codec == "shard").then_some(shard_shape),
            format: ZarrFormat::V3,
            codec: Some(match codec {
                "raw" => Codec::None,
                "blosc-lz4" => Codec::BloscLz4 { level: 5 },
                _ => Codec::Zstd { level: 1 },
            }),
            overwrite: true,
            ..CreateOptions::default()
        };
        Self {
            dir: dir.to_owned(),
            address: address(dir, name),
            spec,
            options,
            access: Access::default(),
        }
    }

    fn data(&self) -> NdData {
        let shape = self.spec.shape();
        if self.spec.dtype == DType::U8 {
            NdData::U8(ArrayD::from_shape_vec(shape, fs::read(self.dir.join("em.bin")).unwrap()).unwrap())
        } else {
            let bytes = fs::read(self.dir.join("prediction.bin")).unwrap();
            let values = bytes
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            NdData::F32(ArrayD::from_shape_vec(shape, values).unwrap())
        }
    }

    fn bytes(&self) -> usize {
        self.spec.shape().iter().product::<usize>() * self.spec.dtype.size()
    }

    /// The values of each chunk, as bytes.
    fn chunks(&self) -> Vec<Vec<u8>> {
        let (data, channels) = (self.data(), self.channels());
        let begins = blocks(self.length(), EDGE).into_iter();
        begins
            .flat_map(|begin| chunks(&data, begin, EDGE, channels))
            .collect()
    }

    /// Of the volume, along each axis.
    fn length(&self) -> usize {
        self.spec.shape()[self.spec.channels.len()]
    }

    fn channels(&self) -> usize {
        self.spec.channels.iter().product()
    }

    fn plain(&self) -> PlainFiles {
        PlainFiles {
            dir: self.dir.join("plain"),
            codec: self.codec(),
            channels: self.channels(),
            length: self.length(),
            edge: self
                .options
                .shard_shape
                .as_ref()
                .map_or(EDGE, |shape| shape[shape.len() - 1]),
            value: self.spec.dtype.size(),
        }
    }

    fn codec(&self) -> ChunkCodec {
        ChunkCodec::new(self.options.codec.unwrap(), self.spec.dtype)
    }

    fn open(&self) -> ZarrArray {
        ZarrArray::open(&self.address, &self.access).unwrap()
    }

    /// Does what is not to be measured, and gives the rest.
    fn prepare(self, op: &str) -> Box<dyn FnMut() -> usize> {
        let bytes = self.bytes();
        if ["write", "blocks"].contains(&op) {
            // How long deleting takes is `remove`'s to say.
            plain::clear(self.address.location().path().unwrap());
        }
        match op {
            "write" => {
                let data = self.data();
                Box::new(move || {
                    let draft =
                        DraftArray::new(&self.address, &self.access, &self.spec, &self.options).unwrap();
                    draft.write(&self.spec.roi, &data).unwrap();
                    draft.publish().unwrap();
                    bytes
                })
            }
            "blocks" => {
                let data = self.data();
                Box::new(move || {
                    let draft =
                        DraftArray::new(&self.address, &self.access, &self.spec, &self.options).unwrap();
                    // As a prediction comes: block after block, each by one of two threads.
                    let blocks = blocks(self.length(), EDGE);
                    rayon::scope(|scope| {
                        for half in 0..2 {
                            let (blocks, draft, data, spec) = (&blocks, &draft, &data, &self.spec);
                            scope.spawn(move |_| {
                                for begin in blocks.iter().skip(half).step_by(2) {
                                    let corner = begin.map(|voxel| voxel as i64);
                                    let block = Roi::from_voxels(&corner, &[EDGE; 3], &spec.voxel_size);
                                    draft.write(&block, &cut(data, *begin, EDGE)).unwrap();
                                }
                            });
                        }
                    });
                    draft.publish().unwrap();
                    bytes
                })
            }
            "read" => Box::new(move || {
                std::hint::black_box(self.open().read_all().unwrap());
                bytes
            }),
            "windows" => Box::new(move || {
                let array = self.open();
                let length = self.length();
                let mut random = Random(1);
                for _ in 0..WINDOWS {
                    let begin = [0; 3].map(|_: i64| random.below(length - WINDOW) as i64);
                    let roi = Roi::from_voxels(&begin, &[WINDOW; 3], &self.spec.voxel_size);
                    std::hint::black_box(array.read(&roi).unwrap());
                }
                WINDOWS * WINDOW.pow(3) * self.spec.dtype.size() * self.channels()
            }),
            "remove" => {
                let (base, array) = many_chunks(&self.dir);
                Box::new(move || {
                    let store = dacapo::LocalStore::new(base.clone());
                    let _ = dacapo_store::ArrayStore::remove(&store.arrays, &array).unwrap();
                    CHUNKS.pow(3) as usize
                })
            }
            "open" => {
                let addresses = many_arrays(&self.dir);
                Box::new(move || {
                    for address in &addresses {
                        std::hint::black_box(open_array(address, &self.access).unwrap());
                    }
                    addresses.len()
                })
            }
            "list" => {
                let container = many_arrays(&self.dir)[0].container.clone();
                Box::new(move || {
                    let arrays = list_arrays(&container, &self.access).unwrap();
                    assert_eq!(arrays.len(), ARRAYS);
                    ARRAYS
                })
            }
            "rename" => {
                let (base, array) = many_chunks(&self.dir);
                Box::new(move || {
                    let store = dacapo::LocalStore::new(base.clone());
                    store.arrays.remove_kept(&array).unwrap().unwrap();
                    CHUNKS.pow(3) as usize
                })
            }
            "encode" | "decode" => {
                let chunks = self.chunks();
                let codec = self.codec();
                let encoded: Vec<Vec<u8>> = chunks.par_iter().map(|chunk| codec.encode(chunk)).collect();
                let is_encoding = op == "encode";
                Box::new(move || {
                    if is_encoding {
                        chunks.par_iter().for_each(|chunk| {
                            std::hint::black_box(codec.encode(chunk));
                        });
                    } else {
                        encoded.par_iter().for_each(|chunk| {
                            std::hint::black_box(codec.decode(chunk));
                        });
                    }
                    bytes
                })
            }
            "copy" => {
                let from = vec![1u8; bytes];
                let mut to = vec![0u8; bytes];
                Box::new(move || {
                    to.copy_from_slice(&from);
                    std::hint::black_box(&to);
                    bytes
                })
            }
            "file" => {
                let codec = self.codec();
                let encoded = self
                    .chunks()
                    .par_iter()
                    .map(|chunk| codec.encode(chunk).len())
                    .sum();
                let from = vec![1u8; encoded];
                let path = self.dir.join("file.bin");
                Box::new(move || {
                    let mut file = File::create(&path).unwrap();
                    file.write_all(&from).unwrap();
                    file.sync_data().unwrap();
                    bytes
                })
            }
            "files" => {
                let codec = self.codec();
                let chunks: Vec<Vec<u8>> = self
                    .chunks()
                    .par_iter()
                    .map(|chunk| codec.encode(chunk))
                    .collect();
                let dir = self.dir.join("files");
                plain::clear(&dir);
                Box::new(move || {
                    let directories = chunks.par_chunks(64).enumerate();
                    let files = directories.flat_map(|(i, chunks)| {
                        let dir = dir.join(i.to_string());
                        fs::create_dir_all(&dir).unwrap();
                        let files = chunks.par_iter().enumerate().map(move |(j, chunk)| {
                            let path = dir.join(j.to_string());
                            fs::write(&path, chunk).unwrap();
                            path
                        });
                        files.collect::<Vec<_>>()
                    });
                    plain::sync(&files.collect::<Vec<_>>());
                    bytes
                })
            }
            "plain-write" => {
                let (data, files) = (self.data(), self.plain());
                plain::clear(&files.dir);
                Box::new(move || {
                    files.write(&data);
                    bytes
                })
            }
            "plain-read" => {
                let files = self.plain();
                plain::clear(&files.dir);
                files.write(&self.data());
                Box::new(move || {
                    std::hint::black_box(files.read());
                    bytes
                })
            }
            "file-read" => {
                let path = self.dir.join("file.bin");
                let mut to = vec![0u8; bytes];
                Box::new(move || {
                    File::open(&path).unwrap().read_exact(&mut to).unwrap();
                    bytes
                })
            }
            _ => panic!("no operation {op}"),
        }
    }
}

fn address(dir: &Path, name: &str) -> ArrayAddress {
    format!("{}/ours.zarr/{name}", dir.display()).parse().unwrap()
}

/// Where the blocks of a volume begin.
fn blocks(length: usize, edge: usize) -> Vec<[usize; 3]> {
    let at = |i: usize| i * edge;
    let n = length / edge;
    (0..n * n * n)
        .map(|i| [at(i / n / n), at(i / n % n), at(i % n)])
        .collect()
}

/// The chunk of each channel, as bytes.
fn chunks(data: &NdData, begin: [usize; 3], edge: usize, channels: usize) -> Vec<Vec<u8>> {
    let bytes = match cut(data, begin, edge) {
        NdData::U8(values) => values.into_raw_vec_and_offset().0,
        NdData::F32(values) => bytemuck::cast_slice(values.as_slice().unwrap()).to_vec(),
        _ => unreachable!("the two types of the cases"),
    };
    bytes
        .chunks_exact(bytes.len() / channels)
        .map(<[u8]>::to_vec)
        .collect()
}

/// A block, all channels of it.
fn cut(data: &NdData, begin: [usize; 3], edge: usize) -> NdData {
    // Row by row: a copy value by value would take as long as the compression.
    fn part<T: Copy>(array: &ArrayD<T>, begin: [usize; 3], edge: usize) -> ArrayD<T> {
        let mut view = array.view();
        let leading = view.ndim() - 3;
        for (axis, begin) in begin.into_iter().enumerate() {
            view.slice_axis_inplace(
                Axis(leading + axis),
                Slice::from(begin as isize..begin as isize + edge as isize),
            );
        }
        let mut values = Vec::with_capacity(view.len());
        for row in view.rows() {
            values.extend_from_slice(row.to_slice().unwrap());
        }
        ArrayD::from_shape_vec(view.shape(), values).unwrap()
    }
    match data {
        NdData::U8(array) => NdData::U8(part(array, begin, edge)),
        NdData::F32(array) => NdData::F32(part(array, begin, edge)),
        _ => unreachable!("the two types of the cases"),
    }
}

/// An array of some 10,000 chunks in a store.
fn many_chunks(dir: &Path) -> (PathBuf, dacapo_store::LocalArrayIdentifier) {
    let base = dir.join("base");
    let store = dacapo::LocalStore::new(base.clone());
    let array =
        dacapo_store::ArrayStore::validation_prediction_array(&store.arrays, "run", 1, "many").unwrap();
    let voxel_size = Coordinate::splat(3, 1);
    let shape = [4 * CHUNKS as usize; 3];
    let spec = ArraySpec::new(
        Roi::from_voxels(&[0; 3], &shape, &voxel_size),
        voxel_size,
        DType::U8,
    );
    let options = CreateOptions {
        chunk_shape: Some(vec![4; 3]),
        overwrite: true,
        ..CreateOptions::default()
    };
    let draft = dacapo_store::ArrayStore::draft(&store.arrays, &array, &spec, &options).unwrap();
    draft
        .write(&spec.roi, &NdData::U8(ArrayD::from_elem(spec.shape(), 1)))
        .unwrap();
    draft.publish().unwrap();
    (base, array)
}

fn many_arrays(dir: &Path) -> Vec<ArrayAddress> {
    let voxel_size = Coordinate::splat(3, 1);
    let spec = ArraySpec::new(
        Roi::from_voxels(&[0; 3], &[64; 3], &voxel_size),
        voxel_size,
        DType::U8,
    );
    let options = CreateOptions {
        format: ZarrFormat::V3,
        ..CreateOptions::default()
    };
    let addresses: Vec<ArrayAddress> = (0..ARRAYS)
        .map(|i| {
            format!("{}/many.zarr/{}/{i}", dir.display(), i / 100)
                .parse()
                .unwrap()
        })
        .collect();
    for address in &addresses {
        if ZarrArray::open(address, &Access::default()).is_err() {
            ZarrArray::create(address, &Access::default(), &spec, &options).unwrap();
        }
    }
    addresses
}

/// Mirrors the fixture to fill 512³, so that every chunk of 64³ is real EM; and makes predictions of it.
fn make_data(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/fib25_96.zarr/raw");
    let tile = open_array(&fixture.parse().unwrap(), &Access::default()).unwrap();
    let tile = tile.read_as::<u8>(&tile.spec().roi).unwrap();
    let side = tile.shape()[0];
    let mirrored = |i: usize| {
        if (i / side).is_multiple_of(2) {
            i % side
        } else {
            side - 1 - i % side
        }
    };
    let tile: ArrayView3<u8> = tile.view().into_dimensionality().unwrap();
    let at = |z: usize, y: usize, x: usize| tile[[mirrored(z), mirrored(y), mirrored(x)]];
    let mut em = Vec::with_capacity(EM.pow(3));
    for z in 0..EM {
        for y in 0..EM {
            em.extend((0..EM).map(|x| at(z, y, x)));
        }
    }
    fs::write(dir.join("em.bin"), em).unwrap();
    let [channels, depth, height, width] = PREDICTION;
    let mut file = std::io::BufWriter::new(File::create(dir.join("prediction.bin")).unwrap());
    let mut random = Random(2);
    for c in 0..channels {
        for z in 0..depth {
            for y in 0..height {
                for x in 0..width {
                    // Neighbours of different distance, as affinities have; certain in most places.
                    let mean =
                        (f32::from(at(z, y, x)) + f32::from(at(z + c, y, x)) + f32::from(at(z, y + c, x)))
                            / 3.0;
                    let noise = random.below(1000) as f32 / 1000.0;
                    let value = 1.0 / (1.0 + (-(mean - 90.0 + noise) / 6.0).exp());
                    file.write_all(&value.to_le_bytes()).unwrap();
                }
            }
        }
    }
    file.flush().unwrap();
}
