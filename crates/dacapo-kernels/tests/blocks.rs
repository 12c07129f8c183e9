//! Segmenting by blocks beside segmenting in memory: the same components bit for bit, nearly the same objects, whatever
//! the blocks, their order and the workers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail loudly, and show figures"
)]

mod common;

use std::sync::Mutex;

use common::{Fixture, Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut3, Axis, Slice};
use proptest::prelude::*;
use rayon::prelude::*;

const ALL: [Connectivity; 3] = [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners];

/// A volume cut into blocks, as a driver has it.
#[derive(Clone, Copy)]
struct Grid {
    shape: [usize; 3],
    block: [usize; 3],
}

impl Grid {
    fn of<T>(volume: ArrayView3<T>, block: [usize; 3]) -> Self {
        let (depth, height, width) = volume.dim();
        Self {
            shape: [depth, height, width],
            block,
        }
    }

    fn counts(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.shape[axis].div_ceil(self.block[axis]))
    }

    fn len(&self) -> usize {
        self.counts().iter().product()
    }

    fn at(&self, index: usize) -> [usize; 3] {
        let [_, rows, columns] = self.counts();
        [index / (rows * columns), index / columns % rows, index % columns]
    }

    /// A block with so many voxels around it, before and behind, as far as the volume goes; and where it is in that.
    fn with_context(&self, index: usize, before: usize, behind: usize) -> Window {
        let at = self.at(index);
        let begin: [usize; 3] = std::array::from_fn(|a| at[a] * self.block[a]);
        let end: [usize; 3] = std::array::from_fn(|a| (begin[a] + self.block[a]).min(self.shape[a]));
        let low: [usize; 3] = std::array::from_fn(|a| begin[a].saturating_sub(before));
        let high: [usize; 3] = std::array::from_fn(|a| (end[a] + behind).min(self.shape[a]));
        Window {
            block: std::array::from_fn(|a| begin[a]..end[a]),
            outer: std::array::from_fn(|a| low[a]..high[a]),
            inner: std::array::from_fn(|a| begin[a] - low[a]..end[a] - low[a]),
        }
    }

    fn touch(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.at(a), self.at(b));
        (0..3).all(|axis| a[axis].abs_diff(b[axis]) <= 1)
    }
}

type Ranges = [std::ops::Range<usize>; 3];

struct Window {
    block: Ranges,
    outer: Ranges,
    inner: Ranges,
}

fn cut<'a, T>(mut view: ArrayView3<'a, T>, ranges: &Ranges) -> ArrayView3<'a, T> {
    view.slice_each_axis_inplace(|axis| Slice::from(ranges[axis.axis.index()].clone()));
    view
}

fn cut_mut<'a, T>(mut view: ArrayViewMut3<'a, T>, ranges: &Ranges) -> ArrayViewMut3<'a, T> {
    view.slice_each_axis_inplace(|axis| Slice::from(ranges[axis.axis.index()].clone()));
    view
}

fn cut_channels<'a, T>(mut view: ArrayView4<'a, T>, ranges: &Ranges) -> ArrayView4<'a, T> {
    for (axis, range) in ranges.iter().enumerate() {
        view.slice_axis_inplace(Axis(axis + 1), Slice::from(range.clone()));
    }
    view
}

/// Some order of the numbers below `n`.
fn shuffled(n: usize, noise: &mut Noise) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_cached_key(|_| noise.bits());
    order
}

fn components_by_blocks<T: Label>(
    labels: ArrayView3<T>,
    block: [usize; 3],
    connectivity: Connectivity,
    noise: &mut Noise,
) -> Array3<u64> {
    let grid = Grid::of(labels, block);
    let order = shuffled(grid.len(), noise);
    let found: Vec<BlockComponents> = order
        .iter()
        .map(|&index| {
            let window = grid.with_context(index, 0, 1);
            let origin = window.block.each_ref().map(|range| range.start as u64);
            block_components(cut(labels, &window.outer), origin, connectivity).unwrap()
        })
        .collect();
    let mut join = ComponentJoin::default();
    let places: Vec<usize> = found
        .iter()
        .map(|block| join.add(&block.faces).unwrap())
        .collect();
    let mut pairs: Vec<(usize, usize)> = (0..order.len())
        .flat_map(|a| (0..order.len()).map(move |b| (a, b)))
        .collect();
    pairs.retain(|&(a, b)| a != b && grid.touch(order[a], order[b]));
    pairs.sort_by_cached_key(|_| noise.bits());
    for (a, b) in pairs {
        join.join((places[a], &found[a].faces), (places[b], &found[b].faces));
    }
    let tables = join.finish();
    let mut whole = Array3::zeros(labels.raw_dim());
    for (i, &index) in order.iter().enumerate() {
        let window = grid.with_context(index, 0, 1);
        let mut numbers = cut(found[i].numbers.view(), &window.inner).mapv(u64::from);
        remap_by_table(numbers.view_mut(), &tables[places[i]]).unwrap();
        cut_mut(whole.view_mut(), &window.block).assign(&numbers);
    }
    whole
}

fn runs(shape: [usize; 3], kinds: u64, smooth: f32, noise: &mut Noise) -> Array3<u64> {
    let mut last = 0;
    Array3::from_shape_simple_fn(shape, || {
        if noise.unit() >= smooth {
            last = noise.below(kinds) << 61;
        }
        last
    })
}

#[test]
fn components_by_blocks_are_those_in_memory_bit_for_bit() {
    let mut noise = Noise(1);
    let fib25: Array3<u16> = Fixture::open("fib25_labels").volume("labels");
    for connectivity in ALL {
        let expected: Array3<u64> = connected_components(fib25.view(), connectivity).unwrap();
        for block in [[64, 64, 64], [33, 17, 50], [96, 96, 7]] {
            let found = components_by_blocks(fib25.view(), block, connectivity, &mut noise);
            assert!(found == expected, "{block:?}, {connectivity:?}");
        }
    }
    // Blocks of one voxel, and volumes of one plane, row or column.
    for (shape, block) in [
        ([4, 5, 6], [1, 1, 1]),
        ([1, 13, 12], [1, 5, 4]),
        ([13, 1, 12], [2, 1, 1]),
        ([1, 1, 20], [1, 1, 3]),
        ([20, 1, 1], [7, 1, 1]),
        ([5, 5, 5], [100, 100, 100]),
    ] {
        for kinds in [2, 3] {
            let labels = runs(shape, kinds, 0.4, &mut noise);
            for connectivity in ALL {
                let expected: Array3<u64> = connected_components(labels.view(), connectivity).unwrap();
                let found = components_by_blocks(labels.view(), block, connectivity, &mut noise);
                assert_eq!(found, expected, "{shape:?}, {block:?}, {connectivity:?}");
            }
        }
    }
    assert_eq!(ComponentJoin::default().finish(), Vec::<Vec<u64>>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn components_by_any_blocks_are_those_in_memory(
        seed in 0u64..1 << 48,
        shape in [1usize..8, 1..9, 1..10],
        block in [1usize..9, 1..9, 1..9],
        kinds in 2u64..4,
        smooth in 0f32..0.8,
        level in 0usize..3,
    ) {
        let mut noise = Noise(seed);
        let labels = runs(shape, kinds, smooth, &mut noise);
        let expected: Array3<u64> = connected_components(labels.view(), ALL[level]).unwrap();
        prop_assert_eq!(components_by_blocks(labels.view(), block, ALL[level], &mut noise), expected);
    }
}

const OFFSETS: [Offset; 9] = [
    [-1, 0, 0],
    [0, -1, 0],
    [0, 0, -1],
    [-3, 0, 0],
    [0, -3, 0],
    [0, 0, -3],
    [-9, 0, 0],
    [0, -9, 0],
    [0, 0, -9],
];

/// What a network might say of the labels: smoothed and with noise.
fn predicted(labels: &Array3<u64>, noise: &mut Noise) -> Array4<f32> {
    let ideal = affinities(labels.view(), &OFFSETS, Background::Nothing).unwrap();
    let mut predicted = ideal.mapv(f32::from);
    for mut channel in predicted.outer_iter_mut() {
        let grain = gaussian(channel.mapv(|_| noise.unit() - 0.5), 1.0).unwrap();
        let smooth = gaussian(channel.to_owned(), 1.0).unwrap();
        channel.assign(&(8.0 * (smooth - 0.5) + 12.0 * grain).mapv(|logit| 1.0 / (1.0 + (-logit).exp())));
    }
    predicted
}

/// How blocks become fragments.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Watershed,
    MutexWatershed,
}

const SHORT: usize = 6;
const CONTEXT: usize = 12;

fn segment(affinities: ArrayView4<f32>, method: Method) -> Array3<u64> {
    match method {
        Method::Watershed => {
            let short = affinities.slice_axis(Axis(0), Slice::from(..SHORT));
            fragments(short, &OFFSETS[..SHORT], None, &FragmentParameters::default()).unwrap()
        }
        Method::MutexWatershed => mutex_watershed(affinities, &OFFSETS, &[0.5; 9], None, None).unwrap(),
    }
}

/// Fragments, the graph of their contacts, one solution, one pass: as a driver does it, blocks in any order on the
/// threads there are.
fn objects_by_blocks(
    affinities: ArrayView4<f32>,
    block: usize,
    method: Method,
    solve: impl Fn(&ContactGraph<MeanAffinity>) -> Remap,
    order: &[usize],
) -> Array3<u64> {
    let first = affinities.index_axis(Axis(0), 0);
    let grid = Grid::of(first, [block; 3]);
    let capacity = (block + 2 * CONTEXT).pow(3) as u64;
    // Each block with its context, by its number.
    let mut seen: Vec<(usize, Array3<u64>)> = order
        .par_iter()
        .map(|&index| {
            let window = grid.with_context(index, CONTEXT, CONTEXT);
            let mut found = segment(cut_channels(affinities, &window.outer), method);
            number_block(found.view_mut(), index as u64, capacity).unwrap();
            (index, found)
        })
        .collect();
    let mut fragments = Array3::<u64>::zeros(first.raw_dim());
    for (index, found) in &seen {
        let window = grid.with_context(*index, CONTEXT, CONTEXT);
        cut_mut(fragments.view_mut(), &window.block).assign(&cut(found.view(), &window.inner));
    }
    let mut pairs: Vec<(u64, u64)> = Vec::new();
    for (i, (a, in_a)) in seen.iter().enumerate() {
        for (b, in_b) in seen[..i].iter().filter(|(b, _)| grid.touch(*a, *b)) {
            let outer = [a, b].map(|&index| grid.with_context(index, CONTEXT, CONTEXT).outer);
            let common: Ranges = std::array::from_fn(|axis| {
                outer[0][axis].start.max(outer[1][axis].start)..outer[0][axis].end.min(outer[1][axis].end)
            });
            let within = |outer: &Ranges| -> Ranges {
                std::array::from_fn(|axis| {
                    common[axis].start - outer[axis].start..common[axis].end - outer[axis].start
                })
            };
            pairs.extend(
                same_fragments(
                    cut(in_a.view(), &within(&outer[0])),
                    cut(in_b.view(), &within(&outer[1])),
                )
                .unwrap(),
            );
        }
    }
    seen.clear();
    let same = Remap::joining(&pairs).unwrap();
    let short = affinities.slice_axis(Axis(0), Slice::from(..SHORT));
    let graph = order
        .par_iter()
        .map(|&index| {
            let window = grid.with_context(index, 3, 3);
            let (ids, values) = (
                cut(fragments.view(), &window.outer),
                cut_channels(short, &window.outer),
            );
            ContactGraph::of_block(ids, values, &OFFSETS[..SHORT], window.inner).unwrap()
        })
        .reduce(ContactGraph::default, |mut sum, part| {
            sum += &part;
            sum
        });
    // The same as that of the volume.
    assert_eq!(
        graph,
        ContactGraph::new(fragments.view(), short, &OFFSETS[..SHORT]).unwrap()
    );
    let segments = same.then(&solve(&graph.joined(&same)));
    let volume = Mutex::new(fragments);
    order.par_iter().for_each(|&index| {
        let window = grid.with_context(index, 0, 0);
        segments
            .apply(cut_mut(volume.lock().unwrap().view_mut(), &window.block))
            .unwrap();
    });
    volume.into_inner().unwrap()
}

fn merged(graph: &ContactGraph<MeanAffinity>) -> Remap {
    let limits = MergeLimits {
        least_links: 4,
        ..MergeLimits::default()
    };
    MergeHistory::new(graph, MeanAffinity::mean, limits)
        .unwrap()
        .segments(0.7)
        .unwrap()
}

fn voi(truth: &Array3<u64>, segments: &Array3<u64>) -> f64 {
    let mut table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
    table.retain(|overlap| overlap.truth != 0);
    table.voi().unwrap().sum()
}

type Solve<'a> = &'a (dyn Fn(&ContactGraph<MeanAffinity>) -> Remap + Sync);

#[test]
fn objects_by_blocks_are_nearly_those_in_memory_in_any_order() {
    let truth: Array3<u64> = Fixture::open("fib25_labels")
        .volume::<u16>("labels")
        .mapv(u64::from);
    let truth = truth.slice(ndarray::s![..64, .., ..]).to_owned();
    compare_blocks_with_memory(&truth, [32, 50], true);
}

#[test]
#[ignore = "takes minutes, and DACAPO_FIB25_LABELS: the labels of FIB-25, sample 2, from 1 on as `labels` (u16) in an .npz"]
fn objects_by_blocks_are_nearly_those_in_memory_in_all_of_fib25() {
    let path = std::env::var("DACAPO_FIB25_LABELS").unwrap();
    let truth: Array3<u16> = Fixture::at(&path).volume("labels");
    compare_blocks_with_memory(&truth.mapv(u64::from), [64, 100], false);
}

fn compare_blocks_with_memory(truth: &Array3<u64>, blocks: [usize; 2], in_any_order: bool) {
    let mut noise = Noise(7);
    let predicted = predicted(truth, &mut noise);
    let short = predicted.slice_axis(Axis(0), Slice::from(..SHORT));
    let by_mutex =
        |graph: &ContactGraph<MeanAffinity>| graph.mutex_watershed(MeanAffinity::mean, 0.7, 4).unwrap();

    let whole = segment(predicted.view(), Method::Watershed);
    let graph = ContactGraph::new(whole.view(), short, &OFFSETS[..SHORT]).unwrap();
    let mut in_memory = whole.clone();
    merged(&graph).apply(in_memory.view_mut()).unwrap();
    let agglomerated = voi(truth, &in_memory);
    let mut in_memory = whole.clone();
    by_mutex(&graph).apply(in_memory.view_mut()).unwrap();
    let parted = voi(truth, &in_memory);
    let mutex = voi(truth, &segment(predicted.view(), Method::MutexWatershed));
    let fragments_alone = voi(truth, &whole);
    assert!(
        agglomerated < fragments_alone - 0.3,
        "there is something to merge: {agglomerated}, {fragments_alone}"
    );

    for block in blocks {
        let count = Grid::of(truth.view(), [block; 3]).len();
        let forward: Vec<usize> = (0..count).collect();
        let cases: [(Method, Solve, f64); 3] = [
            (Method::Watershed, &merged, agglomerated),
            (Method::Watershed, &by_mutex, parted),
            (Method::MutexWatershed, &merged, mutex),
        ];
        for (i, (method, solve, expected)) in cases.into_iter().enumerate() {
            let found = objects_by_blocks(predicted.view(), block, method, solve, &forward);
            let by_blocks = voi(truth, &found);
            println!("case {i}, blocks of {block}: {by_blocks:.4} bits, {expected:.4} in memory");
            assert!(
                by_blocks < expected + 0.05,
                "case {i}, {block}: {by_blocks} instead of {expected}"
            );
            if in_any_order && block == blocks[1] {
                for threads in [1, 2, 3] {
                    let order = shuffled(count, &mut noise);
                    let again = on_threads(threads, || {
                        objects_by_blocks(predicted.view(), block, method, solve, &order)
                    });
                    assert!(again == found, "case {i}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn ids_of_blocks_cannot_collide() {
    let labels = Array3::from_shape_fn((2, 3, 4), |(z, y, x)| {
        ((z * 3 + y) * 4 + x) as u64 % 5 * (1 << 61)
    });
    let numbered = |block, capacity| {
        let mut labels = labels.clone();
        number_block(labels.view_mut(), block, capacity).map(|count| (count, labels))
    };
    let (count, first) = numbered(0, 24).unwrap();
    assert_eq!((count, first.iter().max()), (4, Some(&4)));
    let (_, last) = numbered(3, 4).unwrap();
    let ids: Vec<u64> = unique(last.view()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [0, 13, 14, 15, 16]);
    // The next block's begin behind them.
    assert_eq!(unique(numbered(4, 4).unwrap().1.view())[1].0, 17);
    // Which labels are one stays.
    let pairs: Vec<_> = labels
        .iter()
        .zip(&last)
        .map(|(&a, &b)| (a == 0, a >> 61, b.saturating_sub(12)))
        .collect();
    assert!(
        pairs
            .iter()
            .all(|&(zero, old, new)| if zero { new == 0 } else { old == new })
    );
    assert_eq!(
        numbered(0, 3),
        Err(Error::BlockIds {
            block: 0,
            capacity: 3,
            count: 4
        })
    );
    assert!(numbered(1 << 62, 4).is_err());
    assert!(numbered(u64::MAX, 1 << 20).is_err());
    let mut empty = Array3::zeros((0, 1, 1));
    assert_eq!(number_block(empty.view_mut(), 5, 0), Ok(0));
}

#[test]
fn the_same_fragment_shares_more_than_half() {
    let a = ndarray::array![[[1u64, 1, 1, 2, 2, 0, 7, 7, 7, 9]]];
    let b = ndarray::array![[[4u64, 4, 5, 5, 0, 6, 3, 3, 3, 0]]];
    // 1 and 4 share 2 of 3 voxels, 2 and 5 share 1 of 3, 7 and 3 all; background is no fragment.
    assert_eq!(same_fragments(a.view(), b.view()).unwrap(), [(1, 4), (7, 3)]);
    let half = ndarray::array![[[1u64, 1, 0, 0]]];
    let other = ndarray::array![[[8u64, 8, 8, 8]]];
    assert_eq!(
        same_fragments(half.view(), other.view()).unwrap(),
        [],
        "half is not enough"
    );
    assert!(same_fragments(a.view(), half.view()).is_err());
    let graph = |ids: &[u64]| {
        let fragments = Array3::from_shape_vec((1, 1, ids.len()), ids.to_vec()).unwrap();
        let affinities = Array4::from_shape_fn((1, 1, 1, ids.len()), |(_, _, _, x)| x as f32 / 8.0);
        ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &[[0, 0, 1]]).unwrap()
    };
    let same = Remap::joining(&[(1, 4), (9, 4)]).unwrap();
    assert_eq!(
        graph(&[1, 4, 2, 9, 3, 2, 1]).joined(&same),
        graph(&[1, 1, 2, 1, 3, 2, 1])
    );
}
