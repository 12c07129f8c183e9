//! Each lazy array beside the plain computation over the whole, read as a whole, by odd blocks and past its borders.

use std::sync::Arc;

use ndarray::{Array2, ArrayD, Axis, IxDyn, Slice, concatenate};
use proptest::prelude::*;

use super::values::Number;
use super::*;
use crate::dtype::{with_data, with_dtype};
use crate::{
    ArrayRead, ArrayReadExt, ArraySpec, Coordinate, DType, Decimal, Element, MemoryArray, NdData, Roi,
};

/// Some numbers that look random: the same for the same seed.
fn number(seed: u64, index: usize) -> u64 {
    let mut x =
        (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (index as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ x >> 32
}

/// An array with values from 0 to `most`, negative ones too where the type has them.
fn made(spec: ArraySpec, most: u64, seed: u64) -> Arc<dyn ArrayRead> {
    let shape = spec.shape();
    let mut index = 0;
    let data = with_dtype!(spec.dtype, T => {
        let signed = !matches!(spec.dtype, DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64);
        let mut next = || {
            index += 1;
            let value = (number(seed, index) % (most + 1)) as f64;
            let negative = signed && number(seed, index) >> 40 & 1 == 1;
            let value = if negative { -value } else { value };
            let value = if spec.dtype.is_float() { value / 3.0 } else { value };
            <T as Number>::nearest(value)
        };
        T::wrap(ArrayD::from_shape_simple_fn(IxDyn(&shape), &mut next))
    });
    Arc::new(MemoryArray::new(spec, data).unwrap())
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A grid of `shape` voxels from `begin` voxels.
fn grid(begin: &[i64], shape: &[usize], size: &str, dtype: DType) -> ArraySpec {
    let size = Coordinate::splat(shape.len(), decimal(size));
    ArraySpec::new(Roi::from_voxels(begin, shape, &size), size, dtype)
}

fn labels(begin: &[i64], shape: &[usize], seed: u64) -> Arc<dyn ArrayRead> {
    made(grid(begin, shape, "4", DType::U64), 5, seed)
}

/// A part of what an array should be, zeros outside.
fn part(expected: &NdData, leading: usize, begin: &[i64], shape: &[usize]) -> NdData {
    with_data!(expected, values => {
        let full = [&values.shape()[..leading], shape].concat();
        Element::wrap(ArrayD::from_shape_fn(full, |index| {
            let mut at = index.clone();
            for (axis, &begin) in begin.iter().enumerate() {
                let place = index[leading + axis] as i64 + begin;
                if place < 0 || place as usize >= values.shape()[leading + axis] {
                    return Default::default();
                }
                at[leading + axis] = place as usize;
            }
            values[at]
        }))
    })
}

/// That an array is what it should be, however it is read.
#[track_caller]
fn check(array: &dyn ArrayRead, expected: &NdData) {
    let spec = array.spec();
    spec.check().unwrap();
    assert_eq!(spec.dtype, expected.dtype());
    assert_eq!(spec.shape(), expected.shape());
    assert_eq!(&array.read_all().unwrap(), expected, "the whole");
    let leading = spec.channels.len();
    let voxels = spec.shape()[leading..].to_vec();
    let window = |begin: &[i64], shape: &[usize]| {
        let roi = Roi::from_voxels(begin, shape, &spec.voxel_size).shift(spec.roi.begin());
        let expected = part(expected, leading, begin, shape);
        assert_eq!(
            array.read(&roi).unwrap(),
            expected,
            "{shape:?} from {begin:?} of {voxels:?}"
        );
    };
    // Blocks of odd lengths, the last ones past the border.
    let blocks: Vec<usize> = (0..voxels.len()).map(|axis| [3, 2, 5][axis % 3]).collect();
    let counts: Vec<usize> = voxels
        .iter()
        .zip(&blocks)
        .map(|(n, block)| n.div_ceil(*block))
        .collect();
    for index in 0..counts.iter().product() {
        let mut rest: usize = index;
        let begin: Vec<i64> = counts
            .iter()
            .zip(&blocks)
            .map(|(count, block)| {
                let at = rest % count * block;
                rest /= count;
                at as i64
            })
            .collect();
        window(&begin, &blocks);
    }
    // Around it, in front of it, apart from it, and nothing.
    let larger: Vec<usize> = voxels.iter().map(|n| n + 3).collect();
    window(&vec![-2; voxels.len()], &larger);
    window(&vec![-1; voxels.len()], &vec![1; voxels.len()]);
    window(&vec![100; voxels.len()], &vec![2; voxels.len()]);
    window(&vec![0; voxels.len()], &vec![0; voxels.len()]);
    // Between its voxels there is nothing to read.
    let half = &spec.voxel_size / &Coordinate::splat(voxels.len(), 2);
    assert!(array.read(&spec.roi.shift(&half)).is_err());
}

fn reals(array: &Arc<dyn ArrayRead>) -> ArrayD<f64> {
    with_data!(array.read_all().unwrap(), values => values.mapv(Number::to_f64))
}

fn ids(array: &Arc<dyn ArrayRead>) -> ArrayD<u64> {
    array.read_all().unwrap().cast().unwrap()
}

#[track_caller]
fn refused<T>(made: crate::Result<T>, words: &str) {
    let text = made.err().expect("it was not refused").to_string();
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

#[test]
fn intensities_are_a_linear_map() {
    for dtype in DType::ALL {
        let source = made(grid(&[2, -1, 3], &[7, 5, 6], "4.6", dtype), 200, 1);
        for clip in [false, true] {
            let lazy = Intensities::new(source.clone(), 20.0, 120.0, clip).unwrap();
            let expected = reals(&source).mapv(|v| {
                let scaled = (v - 20.0) / 100.0;
                (if clip { scaled.clamp(0.0, 1.0) } else { scaled }) as f32
            });
            check(&lazy, &NdData::F32(expected));
        }
    }
    let source = labels(&[0], &[4], 1);
    refused(Intensities::new(source.clone(), 1.0, 1.0, true), "min below max");
    refused(Intensities::new(source, f64::NAN, 1.0, true), "min below max");
}

#[test]
fn percentiles_are_those_of_numpy() {
    for (dtype, shape) in DType::ALL
        .into_iter()
        .zip([[9, 8, 70], [2, 3, 1]].into_iter().cycle())
    {
        let source = made(grid(&[0, 0, 1], &shape, "8", dtype), 60_000, 3);
        let mut sorted: Vec<f64> = reals(&source).into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        // By NumPy's definition of its default, "linear".
        let percentile = |percent: f64| {
            let at = (sorted.len() - 1) as f64 * percent / 100.0;
            let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        for (low, high) in [(1.0, 99.0), (0.0, 100.0), (33.3, 50.0)] {
            let lazy = Percentiles::new(source.clone(), low, high, true).unwrap();
            let (min, max) = (percentile(low), percentile(high));
            assert_eq!(lazy.range().unwrap(), [min, max], "{dtype}");
            let expected = reals(&source).mapv(|v| {
                let scaled = if max > min { (v - min) / (max - min) } else { 0.0 };
                scaled.clamp(0.0, 1.0) as f32
            });
            check(&lazy, &NdData::F32(expected));
        }
    }
    let source = labels(&[0], &[4], 1);
    refused(
        Percentiles::new(source.clone(), 50.0, 50.0, true),
        "lower one first",
    );
    refused(Percentiles::new(source, -1.0, 50.0, true), "from 0 to 100");
    let nan = NdData::F32(ArrayD::from_elem(vec![3], f32::NAN));
    let nan = MemoryArray::new(grid(&[0], &[3], "1", DType::F32), nan).unwrap();
    refused(
        Percentiles::new(Arc::new(nan), 1.0, 99.0, true).unwrap().range(),
        "no number",
    );
    let mut some = ArrayD::from_elem(vec![5], f32::NAN);
    (some[[1]], some[[4]]) = (-2.0, 4.0);
    let some = MemoryArray::new(grid(&[0], &[5], "1", DType::F32), NdData::F32(some)).unwrap();
    let some = Percentiles::new(Arc::new(some), 0.0, 50.0, true).unwrap();
    assert_eq!(some.range().unwrap(), [-2.0, 1.0], "NaN is not counted");
}

#[test]
fn binarised_is_one_channel_a_group() {
    for dtype in DType::ALL {
        let source = made(grid(&[0, 2, 1], &[4, 6, 7], "8", dtype), 5, 4);
        let any = reals(&source).mapv(|v| v != 0.0);
        check(
            &Binarize::new(source.clone(), &[vec![]]).unwrap(),
            &NdData::Bool(any.clone()),
        );
        let groups = [vec![1, 2], vec![], vec![2, 3, 3], vec![77]];
        if dtype.is_float() {
            refused(Binarize::new(source, &groups), "take integers");
            continue;
        }
        let channels: Vec<ArrayD<bool>> = groups
            .iter()
            .map(|group| {
                let is_in = |v: f64| {
                    if group.is_empty() {
                        v != 0.0
                    } else {
                        group.contains(&(v as u64)) && v >= 0.0
                    }
                };
                reals(&source).mapv(is_in).insert_axis(Axis(0))
            })
            .collect();
        let views: Vec<_> = channels.iter().map(|channel| channel.view()).collect();
        let expected = concatenate(Axis(0), &views).unwrap();
        check(&Binarize::new(source, &groups).unwrap(), &NdData::Bool(expected));
    }
    refused(Binarize::new(labels(&[0], &[4], 1), &[]), "without a group");
    let channels = made(grid(&[0], &[4], "8", DType::U8).with_channels(vec![2]), 5, 1);
    refused(Binarize::new(channels, &[vec![1]]), "one channel");
}

#[test]
fn classes_are_numbers_of_groups() {
    for dtype in [DType::Bool, DType::U8, DType::I32, DType::U64] {
        let source = made(grid(&[0, 2, 1], &[4, 6, 7], "8", dtype), 9, 5);
        let expected = reals(&source).mapv(|v| match v as i64 {
            1 | 2 => 1u8,
            0 => 0,
            4 => 3,
            _ => 2,
        });
        let lazy = Classes::new(source, &[vec![1, 2], vec![], vec![4, 2]]).unwrap();
        check(&lazy, &NdData::U8(expected));
    }
    let source = labels(&[0, 0], &[5, 6], 6);
    let expected = ids(&source).mapv(|id| u8::from(id == 3));
    check(
        &Classes::new(source.clone(), &[vec![3]]).unwrap(),
        &NdData::U8(expected),
    );
    refused(Classes::new(source.clone(), &[]), "0 groups");
    refused(Classes::new(source, &vec![vec![1]; 256]), "256 groups");
}

#[test]
fn annotations_that_are_missing_are_not_known() {
    let source = labels(&[1, 1, 1], &[5, 6, 7], 7);
    let there = ids(&source).mapv(|id| id > 0);
    let nowhere = there.mapv(|_| false);
    let channels = [&there, &nowhere, &there].map(|channel| channel.view().insert_axis(Axis(0)));
    let lazy = Annotated::new(source.clone(), &[vec![1], vec![2, 3], vec![]], &[3, 9]).unwrap();
    check(&lazy, &NdData::Bool(concatenate(Axis(0), &channels).unwrap()));
    check(
        &Annotated::new(source.clone(), &[vec![1]], &[]).unwrap(),
        &NdData::Bool(there),
    );
    refused(Annotated::new(source, &[], &[]), "without a group");
}

#[test]
fn casts_keep_values_or_name_the_lost_one() {
    for (from, to) in [
        (DType::U8, DType::F32),
        (DType::Bool, DType::U64),
        (DType::I16, DType::F64),
    ] {
        let source = made(grid(&[0, 1], &[5, 7], "8", from), 100, 8);
        let expected = with_dtype!(to, T => T::wrap(source.read_all().unwrap().cast().unwrap()));
        check(&Cast::new(source, to), &expected);
    }
    let lazy = Cast::new(made(grid(&[0], &[20], "8", DType::U16), 60_000, 1), DType::U8);
    assert!(matches!(lazy.read_all(), Err(crate::Error::Cast { .. })));
}

#[test]
fn constants_are_constant_inside() {
    for dtype in DType::ALL {
        let spec = grid(&[-1, 2], &[5, 4], "4.6", dtype).with_channels(vec![2]);
        let expected = with_dtype!(dtype, T => {
            T::wrap(ArrayD::from_elem(vec![2, 5, 4], <T as Number>::nearest(1.0)))
        });
        check(&Constant::new(spec.clone(), 1.0).unwrap(), &expected);
        let ones = NdData::U8(ArrayD::ones(vec![5, 4]));
        check(&Constant::ones(&spec).unwrap(), &ones);
    }
    let spec = grid(&[0], &[5], "8", DType::U8);
    assert!(matches!(
        Constant::new(spec.clone(), 256.0),
        Err(crate::Error::Cast { .. })
    ));
    assert!(Constant::new(spec, 0.5).is_err());
}

#[test]
fn channels_are_chosen_in_order() {
    let source = made(
        grid(&[0, 1], &[5, 6], "8", DType::U16).with_channels(vec![2, 2]),
        900,
        9,
    );
    let all: ArrayD<u16> = source.read_all().unwrap().into_typed().unwrap();
    let all = all.into_shape_with_order(vec![4, 5, 6]).unwrap();
    let expected = all.select(Axis(0), &[3, 0, 3]);
    check(
        &Channels::new(source.clone(), vec![3, 0, 3]).unwrap(),
        &NdData::U16(expected),
    );
    let one = all.index_axis(Axis(0), 2).to_owned();
    check(
        &Channels::new(source.clone(), vec![2]).unwrap(),
        &NdData::U16(one),
    );
    refused(Channels::new(source.clone(), vec![4]), "channel 4");
    refused(Channels::new(source, vec![]), "no channel");
}

/// Three overlapping boxes on one grid, with the same voxel of world space at (0, 0, 0).
fn boxes(dtype: DType, most: u64) -> Vec<Arc<dyn ArrayRead>> {
    let places = [
        ([0, 0, 0], [5, 6, 7]),
        ([2, -1, 1], [6, 5, 4]),
        ([1, 1, 1], [3, 9, 5]),
    ];
    let each = places.into_iter().enumerate();
    each.map(|(i, (begin, shape))| made(grid(&begin, &shape, "4.6", dtype), most, 20 + i as u64))
        .collect()
}

/// The values of all boxes in a region in voxels, 0 where there are none.
fn in_region(boxes: &[Arc<dyn ArrayRead>], begin: [i64; 3], shape: [usize; 3]) -> Vec<ArrayD<f64>> {
    boxes
        .iter()
        .map(|array| {
            let own = array
                .spec()
                .roi
                .begin()
                .exact_div(&array.spec().voxel_size)
                .unwrap();
            let begin: Vec<i64> = begin.iter().zip(own).map(|(a, b)| a - b).collect();
            let values = NdData::F64(reals(array));
            part(&values, 0, &begin, &shape).into_typed().unwrap()
        })
        .collect()
}

#[test]
fn concatenated_channels_are_where_all_parts_are() {
    for dtype in DType::ALL {
        let mut parts = boxes(dtype, 100);
        parts[1] = made(parts[1].spec().clone().with_channels(vec![2]), 100, 3);
        let expected = with_dtype!(dtype, T => {
            let channels: Vec<ArrayD<T>> = parts
                .iter()
                .map(|part| {
                    let roi = Roi::from_voxels(&[2, 1, 1], &[2, 3, 4], &part.spec().voxel_size);
                    let values: ArrayD<T> = part.read(&roi).unwrap().into_typed().unwrap();
                    let count = values.len() / 24;
                    values.into_shape_with_order(vec![count, 2, 3, 4]).unwrap()
                })
                .collect();
            let views: Vec<_> = channels.iter().map(|channel| channel.view()).collect();
            T::wrap(concatenate(Axis(0), &views).unwrap())
        });
        check(&Concat::new(parts).unwrap(), &expected);
    }
    // A channel that is missing is defined: what a constant says.
    let there = labels(&[0, 0], &[4, 5], 1);
    let missing = Constant::new(there.spec().clone(), 7.0).unwrap();
    let both = Concat::new(vec![there.clone(), Arc::new(missing)]).unwrap();
    let values = ids(&there);
    let sevens = values.mapv(|_| 7);
    let views = [
        values.view().insert_axis(Axis(0)),
        sevens.view().insert_axis(Axis(0)),
    ];
    check(&both, &NdData::U64(concatenate(Axis(0), &views).unwrap()));
}

#[test]
fn any_of_and_layers_see_the_first_part_that_is_not_0() {
    for dtype in DType::ALL {
        let parts = boxes(dtype, 1);
        let values = in_region(&parts, [0, -1, 0], [8, 11, 7]);
        let first = ArrayD::from_shape_fn(values[0].raw_dim(), |index| {
            values
                .iter()
                .position(|v| v[&index] != 0.0)
                .map_or(0, |i| i as u8 + 1)
        });
        check(&Layers::new(parts.clone()).unwrap(), &NdData::U8(first.clone()));
        check(&AnyOf::new(parts).unwrap(), &NdData::Bool(first.mapv(|v| v != 0)));
    }
    let channels = made(
        grid(&[0, 0], &[4, 5], "8", DType::U8).with_channels(vec![3]),
        1,
        2,
    );
    let values: ArrayD<u8> = channels.read_all().unwrap().into_typed().unwrap();
    let any = values.map_axis(Axis(0), |lane| lane.iter().any(|&v| v != 0));
    check(&AnyOf::new(vec![channels]).unwrap(), &NdData::Bool(any));
    refused(AnyOf::new(vec![]), "of nothing");
}

#[test]
fn sums_are_exact_or_refused() {
    for dtype in DType::ALL {
        let parts = boxes(dtype, 40);
        if dtype == DType::Bool {
            refused(Sum::new(parts), "booleans");
            continue;
        }
        let values = in_region(&parts, [0, -1, 0], [8, 11, 7]);
        let expected = with_dtype!(dtype, T => {
            T::wrap(ArrayD::from_shape_fn(values[0].raw_dim(), |index| {
                let zero = T::default();
                values.iter().fold(zero, |sum, v| Number::add(sum, <T as Number>::nearest(v[&index])).unwrap())
            }))
        });
        check(&Sum::new(parts).unwrap(), &expected);
    }
    let large = Constant::new(grid(&[0], &[4], "8", DType::U8), 200.0).unwrap();
    let large: Arc<dyn ArrayRead> = Arc::new(large);
    let error = Sum::new(vec![large.clone(), large])
        .unwrap()
        .read_all()
        .unwrap_err();
    assert!(error.to_string().contains("200 + 200"), "{error}");
}

#[test]
fn merged_objects_never_meet() {
    let mut parts = boxes(DType::U32, 3);
    parts[2] = made(grid(&[1, 1, 1], &[3, 9, 5], "4.6", DType::U8), 250, 5);
    let values = in_region(&parts, [0, -1, 0], [8, 11, 7]);
    let expected = ArrayD::from_shape_fn(values[0].raw_dim(), |index| {
        let first = values.iter().position(|v| v[&index] != 0.0);
        first.map_or(0, |i| (values[i][&index] as u64 - 1) * 3 + i as u64 + 1)
    });
    check(&Merge::new(parts).unwrap(), &NdData::U64(expected));

    let whole = |value: u64| -> Arc<dyn ArrayRead> {
        let data = NdData::U64(ArrayD::from_elem(vec![2], value));
        Arc::new(MemoryArray::new(grid(&[0], &[2], "8", DType::U64), data).unwrap())
    };
    let error = Merge::new(vec![whole(u64::MAX), whole(1)])
        .unwrap()
        .read_all()
        .unwrap_err();
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
    let negative = NdData::I8(ArrayD::from_elem(vec![2], -1));
    let negative = MemoryArray::new(grid(&[0], &[2], "8", DType::I8), negative).unwrap();
    assert!(Merge::new(vec![Arc::new(negative)]).unwrap().read_all().is_err());
    let floats = made(grid(&[0], &[2], "8", DType::F32), 1, 1);
    refused(Merge::new(vec![whole(1), floats]), "take integers");
}

#[test]
fn parts_that_do_not_fit_are_told_apart() {
    let at = |begin: i64, size: &str, dtype| made(grid(&[begin, 0], &[4, 5], size, dtype), 3, 1);
    let first = || at(0, "8", DType::U8);
    refused(
        Concat::new(vec![first(), at(0, "4", DType::U8)]),
        "array 2, of (4, 4); resample",
    );
    refused(
        Sum::new(vec![first(), first(), at(0, "8", DType::U16)]),
        "array 3, uint16; cast",
    );
    refused(
        Concat::new(vec![first(), at(9, "8", DType::U8)]),
        "do not overlap",
    );
    let between = made(
        ArraySpec::new(
            Roi::new(Coordinate::new([4, 0]), Coordinate::new([32, 40])),
            Coordinate::new([8, 8]),
            DType::U8,
        ),
        3,
        1,
    );
    refused(AnyOf::new(vec![first(), between]), "between each other's voxels");
    let volume = made(grid(&[0, 0, 0], &[4, 4, 4], "8", DType::U8), 3, 1);
    refused(Layers::new(vec![first(), volume]), "3 spatial axes");
    let channels = made(
        grid(&[0, 0], &[4, 5], "8", DType::U8).with_channels(vec![2]),
        3,
        1,
    );
    refused(
        Sum::new(vec![first(), channels.clone()]),
        "channels [] and, as array 2, [2]",
    );
    refused(Merge::new(vec![first(), channels]), "one channel");
    let in_um = grid(&[0, 0], &[4, 5], "8", DType::U8).with_units(vec!["um".into(), "um".into()]);
    refused(
        Concat::new(vec![first(), made(in_um, 3, 1)]),
        "in nm,nm and, as array 2, in um,um",
    );
}

/// Order 0 and 1 along one axis by their definitions, in floats: all test sizes divide without rounding.
fn resampled(values: &ArrayD<f64>, axis: usize, from: f64, to: f64, order: usize) -> ArrayD<f64> {
    let length = values.len_of(Axis(axis));
    let count = (length as f64 * from / to + 1e-9).floor() as usize;
    let at = |index: f64| index.clamp(0.0, length as f64 - 1.0) as usize;
    let lanes: Vec<ArrayD<f64>> = (0..count)
        .map(|i| {
            let lane = |index: usize| values.index_axis(Axis(axis), index).to_owned();
            let (begin, end) = (i as f64 * to / from, (i + 1) as f64 * to / from);
            let middle = (begin + end) / 2.0;
            if order == 0 {
                return lane(at((middle + 1e-9).floor()));
            }
            if to > from {
                let mut sum = lane(0) * 0.0;
                for j in 0..length {
                    let covered = (end.min(j as f64 + 1.0) - begin.max(j as f64)).max(0.0);
                    sum = sum + lane(j) * covered;
                }
                return sum / (end - begin);
            }
            let low = (middle - 0.5).floor();
            let part = middle - 0.5 - low;
            lane(at(low)) * (1.0 - part) + lane(at(low + 1.0)) * part
        })
        .collect();
    let views: Vec<_> = lanes
        .iter()
        .map(|lane| lane.view().insert_axis(Axis(axis)))
        .collect();
    concatenate(Axis(axis), &views).unwrap()
}

#[test]
fn resampling_is_what_it_is_defined_as() {
    let sizes = [
        ["8", "8", "8"],
        ["4", "4", "4"],
        ["16", "16", "16"],
        ["24", "8", "2"],
        ["12", "5", "20"],
    ];
    for dtype in DType::ALL {
        let spec = grid(&[3, -2, 1], &[9, 8, 7], "8", dtype).with_channels(vec![2]);
        let source = made(spec, 200, 11);
        for (size, order) in sizes.iter().flat_map(|size| [(size, 0), (size, 1)]) {
            let interpolation = [Interpolation::Nearest, Interpolation::Linear][order];
            let to = Coordinate::new(size.map(decimal));
            let lazy = Resample::new(source.clone(), &to, interpolation);
            if order == 1 && matches!(dtype, DType::Bool | DType::U64 | DType::I64) {
                refused(lazy, "order 0");
                continue;
            }
            let lazy = lazy.unwrap();
            let mut expected = reals(&source);
            for (axis, to) in to.to_f64().into_iter().enumerate() {
                expected = resampled(&expected, 1 + axis, 8.0, to, order);
            }
            assert_eq!(lazy.spec().roi.begin(), source.spec().roi.begin());
            if order == 0 {
                let expected = with_dtype!(dtype, T => T::wrap(expected.mapv(<T as Number>::nearest)));
                check(&lazy, &expected);
            } else {
                // The same up to the order of additions: and the same however it is read.
                let read = lazy.read_all().unwrap();
                check(&lazy, &read);
                let found = with_data!(read, values => values.mapv(Number::to_f64));
                let step = if dtype.is_float() { 0.0 } else { 0.5 };
                let differs = found
                    .iter()
                    .zip(&expected)
                    .find(|(a, b)| (**a - **b).abs() > step + 1e-4);
                assert_eq!(differs, None, "{dtype} {size:?}");
            }
        }
    }
}

#[test]
fn a_mean_by_two_is_the_next_level_of_a_pyramid() {
    let source = made(grid(&[0, 0, 0], &[8, 6, 10], "4", DType::F64), 200, 12);
    let lazy = Resample::new(source.clone(), &Coordinate::splat(3, 8), Interpolation::Linear).unwrap();
    let whole = source.read_all().unwrap();
    let level = crate::Reduce::Mean.apply(&whole, &[2, 2, 2]).unwrap();
    let (found, level): (ArrayD<f64>, ArrayD<f64>) = (
        lazy.read_all().unwrap().into_typed().unwrap(),
        level.into_typed().unwrap(),
    );
    assert!(found.iter().zip(&level).all(|(a, b)| (a - b).abs() < 1e-9));
}

#[test]
fn decimal_sizes_are_resampled_without_drift() {
    // 4.6 nm a million voxels out, to 9.2 and to 2.3 nm: each new voxel has the values of those that it covers.
    let far = grid(&[1_000_000, 0], &[40, 6], "4.6", DType::U16);
    let source = made(far, 60_000, 13);
    let values: ArrayD<u16> = source.read_all().unwrap().into_typed().unwrap();
    let coarse = Resample::new(
        source.clone(),
        &Coordinate::splat(2, decimal("9.2")),
        Interpolation::Nearest,
    )
    .unwrap();
    assert_eq!(coarse.spec().roi.begin()[0], decimal("4600000"));
    let mut expected = values.clone();
    for axis in 0..2 {
        expected.slice_axis_inplace(Axis(axis), Slice::new(1, None, 2));
    }
    check(&coarse, &NdData::U16(expected.as_standard_layout().into_owned()));
    let fine = Resample::new(
        source,
        &Coordinate::splat(2, decimal("2.3")),
        Interpolation::Nearest,
    )
    .unwrap();
    let expected = ArrayD::from_shape_fn(vec![80, 12], |i| values[[i[0] / 2, i[1] / 2]]);
    check(&fine, &NdData::U16(expected));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let source = labels(&[0, 0], &[4, 5], 1);
    let to = |size: &[i64]| {
        Resample::new(
            source.clone(),
            &Coordinate::new(size.iter().copied()),
            Interpolation::Nearest,
        )
    };
    refused(to(&[4, 4, 4]), "2 spatial axes");
    refused(to(&[4, 0]), "not positive");
    refused(to(&[4, 21]), "no whole voxel");
    assert!(to(&[16, 20]).is_ok());
}

#[test]
fn they_compose_in_any_order() {
    let source = labels(&[0, 0, 0], &[8, 8, 8], 14);
    let finer = |array| -> Arc<dyn ArrayRead> {
        Arc::new(Resample::new(array, &Coordinate::splat(3, 2), Interpolation::Nearest).unwrap())
    };
    let binary = |array| -> Arc<dyn ArrayRead> { Arc::new(Binarize::new(array, &[vec![1, 2]]).unwrap()) };
    let roi = Roi::from_voxels(&[1, 2, 3], &[5, 6, 4], &Coordinate::splat(3, 4));
    let crop = |array| -> Arc<dyn ArrayRead> { Arc::new(Crop::new(array, &roi).unwrap()) };
    let one = crop(binary(finer(source.clone())));
    let two = binary(finer(crop(source.clone())));
    let three = finer(crop(binary(source.clone())));
    let expected = one.read_all().unwrap();
    let values = ids(&source);
    let plain = ArrayD::from_shape_fn(vec![10, 12, 8], |i| {
        [1, 2].contains(&values[[i[0] / 2 + 1, i[1] / 2 + 2, i[2] / 2 + 3]])
    });
    assert_eq!(expected, NdData::Bool(plain));
    for array in [one, two, three] {
        check(&*array, &expected);
    }
}

/// An array that counts how much of it is read at most.
struct Watched(Arc<dyn ArrayRead>, std::sync::atomic::AtomicUsize);

impl ArrayRead for Watched {
    fn spec(&self) -> &ArraySpec {
        self.0.spec()
    }

    fn read(&self, roi: &Roi) -> crate::Result<NdData> {
        let data = self.0.read(roi)?;
        let voxels = data.shape().iter().product();
        self.1.fetch_max(voxels, std::sync::atomic::Ordering::Relaxed);
        Ok(data)
    }
}

#[test]
fn no_more_is_read_than_is_asked_for() {
    let source = Arc::new(Watched(labels(&[0, 0, 0], &[40, 40, 40], 1), Default::default()));
    let finer: Arc<dyn ArrayRead> =
        Arc::new(Resample::new(source.clone(), &Coordinate::splat(3, 2), Interpolation::Nearest).unwrap());
    let merged = Merge::new(vec![Arc::new(Classes::new(finer, &[vec![]]).unwrap())]).unwrap();
    merged
        .read(&Roi::from_voxels(
            &[10, 11, 12],
            &[6, 6, 6],
            &Coordinate::splat(3, 2),
        ))
        .unwrap();
    assert!(source.1.load(std::sync::atomic::Ordering::Relaxed) <= 4 * 4 * 4);
}

proptest! {
    #[test]
    fn any_window_is_a_part_of_the_whole(
        shape in prop::array::uniform2(2usize..9),
        offset in prop::array::uniform2(-5i64..5),
        sizes in prop::array::uniform2(10i64..95),
        begin in prop::array::uniform2(-4i64..12),
        window in prop::array::uniform2(1usize..9),
        seed in 0u64..100,
    ) {
        // Voxels of 4.6, to sizes in tenths.
        let source = made(grid(&offset, &shape, "4.6", DType::F32), 100, seed);
        let to = Coordinate::new(sizes.map(|n| Decimal::from(n) / Decimal::from(10)));
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            let Ok(lazy) = Resample::new(source.clone(), &to, interpolation) else { continue };
            let whole = lazy.read_all().unwrap();
            let roi = Roi::from_voxels(&begin, &window, &to).shift(lazy.spec().roi.begin());
            prop_assert_eq!(lazy.read(&roi).unwrap(), part(&whole, 0, &begin, &window));
            // Means and interpolations stay between the smallest and the largest value.
            let values: ArrayD<f32> = whole.into_typed().unwrap();
            let source: ArrayD<f32> = source.read_all().unwrap().into_typed().unwrap();
            let (low, high) = source.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            prop_assert!(values.iter().all(|&v| v >= low - 1e-3 && v <= high + 1e-3));
        }
    }
}

#[test]
fn planes_are_arrays_too() {
    let source = labels(&[2, 3], &[5, 7], 15);
    let expected: Array2<bool> = ids(&source).mapv(|id| id != 0).into_dimensionality().unwrap();
    check(
        &Binarize::new(source, &[vec![]]).unwrap(),
        &NdData::Bool(expected.into_dyn()),
    );
}
