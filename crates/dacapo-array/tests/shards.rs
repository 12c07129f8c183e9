//! Sharded arrays: windows read and written beside an array in memory, and damage that is found.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use dacapo_array::storage::{Access, UNFINISHED};
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Codec, Coordinate, CreateOptions, DType,
    DraftArray, Error, MemoryArray, NdData, Roi, ZarrArray, ZarrFormat,
};
use ndarray::ArrayD;
use proptest::prelude::*;

fn address(dir: &std::path::Path) -> ArrayAddress {
    format!("{}/a.zarr/x", dir.display()).parse().unwrap()
}

fn options(codec: Codec) -> CreateOptions {
    CreateOptions {
        chunk_shape: Some(vec![1, 4, 4, 5]),
        shard_shape: Some(vec![2, 8, 12, 10]),
        format: ZarrFormat::V3,
        codec: Some(codec),
        fill: 7.0,
        ..CreateOptions::default()
    }
}

fn spec() -> ArraySpec {
    let voxel_size = Coordinate::splat(3, 2);
    ArraySpec::new(
        Roi::from_voxels(&[3, 0, -4], &[17, 13, 22], &voxel_size),
        voxel_size,
        DType::U16,
    )
    .with_channels(vec![3])
}

fn roi(begin: [i64; 3], shape: [usize; 3]) -> Roi {
    Roi::from_voxels(&begin, &shape, &Coordinate::splat(3, 2))
}

fn numbered(shape: [usize; 3], from: u16) -> NdData {
    let shape = [3, shape[0], shape[1], shape[2]];
    let mut next = from;
    NdData::U16(ArrayD::from_shape_fn(shape.to_vec(), |_| {
        next = next.wrapping_mul(25173).wrapping_add(13849);
        next
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn windows_are_those_of_an_array_in_memory(
        writes in prop::collection::vec(((3..20_i64, 0..13_i64, -4..18_i64), (1..9_usize, 1..9_usize, 1..12_usize)), 1..5),
        reads in prop::collection::vec(((-2..22_i64, -3..15_i64, -8..20_i64), (1..20_usize, 1..9_usize, 1..25_usize)), 1..5),
        codec in prop::sample::select(vec![Codec::None, Codec::Zstd { level: 1 }, Codec::BloscLz4 { level: 5 }]),
        pending in 0..20_000_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let access = Access::default();
        let array = ZarrArray::create(&address(dir.path()), &access, &spec(), &options(codec)).unwrap();
        prop_assert_eq!(array.chunk_shape(), [1, 4, 4, 5]);
        prop_assert_eq!(array.object_shape(), [2, 8, 12, 10]);
        let made: ArrayAddress = format!("{}/a.zarr/made", dir.path().display()).parse().unwrap();
        let draft = DraftArray::new(&made, &access, &spec(), &options(codec)).unwrap().with_pending(pending);
        let memory = MemoryArray::new(spec(), NdData::U16(ArrayD::from_elem(spec().shape(), 7))).unwrap();
        for (i, ((z, y, x), (d, h, w))) in writes.into_iter().enumerate() {
            let begin = [z, y, x];
            let end = [20, 13, 18];
            let shape = std::array::from_fn(|a| [d, h, w][a].min((end[a] - begin[a]) as usize));
            let data = numbered(shape, i as u16);
            array.write(&roi(begin, shape), &data).unwrap();
            draft.write(&roi(begin, shape), &data).unwrap();
            if i == 1 {
                prop_assert_eq!(draft.read_all().unwrap(), array.read_all().unwrap());
            }
            memory.write(&roi(begin, shape), &data).unwrap();
        }
        let made = draft.publish().unwrap();
        let fresh = ZarrArray::open(&address(dir.path()), &access).unwrap();
        let mut buffer = NdData::U16(ArrayD::from_elem(vec![4000], 9));
        for ((z, y, x), (d, h, w)) in reads {
            let roi = roi([z, y, x], [d, h, w]);
            let mut expected = memory.read_as::<u16>(&roi).unwrap();
            // Outside, an array in memory has zeros.
            let inside = spec().roi.intersect(&roi);
            for (index, value) in expected.indexed_iter_mut() {
                let voxel = Roi::from_voxels(
                    &[z + index[1] as i64, y + index[2] as i64, x + index[3] as i64],
                    &[1; 3],
                    &Coordinate::splat(3, 2),
                );
                if !inside.contains(&voxel) {
                    *value = 7;
                }
            }
            prop_assert_eq!(&array.read_as::<u16>(&roi).unwrap(), &expected);
            prop_assert_eq!(&fresh.read_as::<u16>(&roi).unwrap(), &expected);
            prop_assert_eq!(&made.read_as::<u16>(&roi).unwrap(), &expected);
            fresh.read_into(&roi, &mut buffer).unwrap();
            prop_assert_eq!(&buffer, &NdData::U16(expected));
        }
    }
}

#[test]
fn blocks_of_a_draft_by_threads_make_shards_that_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::default();
    let data = numbered([17, 13, 22], 5);
    let NdData::U16(all) = &data else { unreachable!() };
    // Blocks that fit neither chunks nor shards, with room for all, for some and for none of what is not whole.
    for (pending, edge) in [(1 << 20, 5), (3_000, 5), (0, 5), (1 << 20, 4)] {
        let options = CreateOptions {
            overwrite: true,
            ..options(Codec::Zstd { level: 1 })
        };
        let draft = DraftArray::new(&address(dir.path()), &access, &spec(), &options)
            .unwrap()
            .with_pending(pending);
        let grid = [17_usize, 13, 22].map(|length| length.div_ceil(edge));
        let blocks: Vec<[usize; 3]> = (0..grid.iter().product::<usize>())
            .map(|i| [i / grid[2] / grid[1], i / grid[2] % grid[1], i % grid[2]].map(|n| n * edge))
            .collect();
        std::thread::scope(|scope| {
            for half in 0..4 {
                let (blocks, draft) = (&blocks, &draft);
                scope.spawn(move || {
                    for begin in blocks.iter().skip(half).step_by(4) {
                        let end: [usize; 3] =
                            std::array::from_fn(|axis| (begin[axis] + edge).min([17, 13, 22][axis]));
                        let shape = std::array::from_fn(|axis| end[axis] - begin[axis]);
                        let [z, y, x] = *begin;
                        let block = all.slice(ndarray::s![.., z..end[0], y..end[1], x..end[2]]);
                        let place = [3 + z as i64, y as i64, x as i64 - 4];
                        draft
                            .write(&roi(place, shape), &NdData::U16(block.into_dyn().to_owned()))
                            .unwrap();
                    }
                });
            }
        });
        let array = draft.publish().unwrap();
        assert_eq!(
            array.read_all().unwrap(),
            data,
            "{pending} bytes, blocks of {edge}"
        );
        assert_eq!(array.stored().unwrap().chunks.len(), 2 * 3 * 2 * 3);
    }
}

#[test]
fn any_damaged_byte_of_a_shard_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::default();
    for codec in [
        Codec::None,
        Codec::Zstd { level: 1 },
        Codec::BloscLz4 { level: 5 },
        Codec::Blosc { level: 1 },
    ] {
        let options = CreateOptions {
            overwrite: true,
            ..options(codec)
        };
        let array = ZarrArray::create(&address(dir.path()), &access, &spec(), &options).unwrap();
        let whole = roi([3, 0, -4], [17, 13, 22]);
        array.write(&whole, &numbered([17, 13, 22], 1)).unwrap();
        let shard = dir.path().join("a.zarr/x/c/0/1/0/1");
        let bytes = std::fs::read(&shard).unwrap();
        for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&shard, &damaged).unwrap();
            let found = ZarrArray::open(&address(dir.path()), &access).unwrap().read_all();
            assert!(
                matches!(found, Err(Error::Chunk { .. })),
                "{codec:?}: byte {at} of {}",
                bytes.len()
            );
        }
        for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&shard, &bytes[..length]).unwrap();
            let found = ZarrArray::open(&address(dir.path()), &access).unwrap().read_all();
            assert!(
                matches!(found, Err(Error::Chunk { .. })),
                "{codec:?}: {length} bytes"
            );
        }
        std::fs::write(&shard, &bytes).unwrap();
        ZarrArray::open(&address(dir.path()), &access)
            .unwrap()
            .read_all()
            .unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(dir.path().join("a.zarr"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with(UNFINISHED))
    );
}

#[test]
fn what_the_cache_drops_while_it_is_read_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::default();
    let array = ZarrArray::create(&address(dir.path()), &access, &spec(), &options(Codec::None)).unwrap();
    let data = numbered([17, 13, 22], 3);
    array.write(&roi([3, 0, -4], [17, 13, 22]), &data).unwrap();
    let NdData::U16(all) = &data else { unreachable!() };
    // Room for a few chunks: each window drops what the one before kept, while it reads.
    for bytes in [400, 700, 1500] {
        let array = ZarrArray::open(&address(dir.path()), &access)
            .unwrap()
            .with_cache(bytes);
        for begin in (0..12_usize).cycle().take(60) {
            let (z, y) = (begin % 5, begin % 3);
            let window = roi([3 + z as i64, y as i64, -3], [12, 10, 20]);
            let expected = all.slice(ndarray::s![.., z..z + 12, y..y + 10, 1..21]).into_dyn();
            assert_eq!(array.read_as::<u16>(&window).unwrap(), expected);
        }
    }
}

#[test]
fn hostile_metadata_of_shards_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::default();
    ZarrArray::create(&address(dir.path()), &access, &spec(), &options(Codec::None)).unwrap();
    let file = dir.path().join("a.zarr/x/zarr.json");
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let hostile = [
        ("/chunk_grid", serde_json::json!("regular")),
        ("/chunk_grid/configuration", serde_json::json!([])),
        ("/codecs/0/configuration", serde_json::json!(7)),
        (
            "/codecs/0/configuration/chunk_shape",
            serde_json::json!([0, 0, 0, 0]),
        ),
        (
            "/codecs/0/configuration/chunk_shape",
            serde_json::json!([-1, 4, 4, 5]),
        ),
        ("/codecs/0/configuration/codecs", serde_json::json!({})),
        ("/shape", serde_json::json!([u64::MAX, u64::MAX, 1, 1])),
    ];
    for (place, value) in hostile {
        let mut metadata = good.clone();
        *metadata.pointer_mut(place).unwrap() = value.clone();
        std::fs::write(&file, metadata.to_string()).unwrap();
        let found = ZarrArray::open(&address(dir.path()), &access);
        assert!(matches!(found, Err(Error::Metadata { .. })), "{place} {value}");
    }
}
