//! Contacts of fragments and how they merge: beside naive references, by blocks, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis, array, s};
use proptest::prelude::*;

const OFFSETS: [Offset; 5] = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 2, -3], [3, -1, 0]];
/// Names of fragments, as far apart as they can be.
const NAMES: [u64; 4] = [1, 1 << 63, u64::MAX, 1 << 32];

fn fragments(shape: [usize; 3], edge: usize) -> Array3<u64> {
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let number = (z / edge * 7 + y / edge * 5 + x / edge) as u64;
        // Some background, and ids of any size.
        if number.is_multiple_of(11) {
            0
        } else {
            NAMES[number as usize % 4].wrapping_add(number)
        }
    })
}

fn random(shape: [usize; 3], noise: &mut Noise) -> Array4<f32> {
    Array4::from_shape_simple_fn((OFFSETS.len(), shape[0], shape[1], shape[2]), || noise.unit())
}

type Links = BTreeMap<(u64, u64), Vec<f32>>;

/// Every link by itself: simple, slow, correct.
fn links_naive(fragments: ArrayView3<u64>, affinities: ArrayView4<f32>) -> Links {
    let mut links = Links::new();
    for ((c, z, y, x), &affinity) in affinities.indexed_iter() {
        let at = [z, y, x];
        let q: [usize; 3] = std::array::from_fn(|a| at[a].wrapping_add_signed(OFFSETS[c][a] as isize));
        if let Some(&q) = fragments.get(q) {
            let p = fragments[at];
            if p != q && p != 0 && q != 0 && !affinity.is_nan() {
                links.entry((p.min(q), p.max(q))).or_default().push(affinity);
            }
        }
    }
    links
}

fn mean(links: &[f32]) -> f64 {
    links.iter().map(|&link| f64::from(link)).sum::<f64>() / links.len() as f64
}

fn maximum(links: &[f32]) -> f64 {
    links
        .iter()
        .map(|&link| f64::from(link))
        .fold(f64::NEG_INFINITY, f64::max)
}

fn quantile(links: &[f32], share: f64) -> f64 {
    let mut levels: Vec<f64> = links
        .iter()
        .map(|&link| (f64::from(link) * 255.0).round())
        .collect();
    levels.sort_by(f64::total_cmp);
    let index = (share * links.len() as f64).ceil().max(1.0) as usize - 1;
    levels[index] / 255.0
}

/// The best pair, looked for anew before each merge. Returns the smallest fragment of each one's segment.
fn merge_naive(
    links: &Links,
    score: impl Fn(&[f32]) -> f64,
    threshold: f64,
    limits: MergeLimits,
) -> HashMap<u64, u64> {
    let sizes: HashMap<u64, u64> = limits.sizes.iter().copied().collect();
    let mut segment: HashMap<u64, u64> = links.keys().flat_map(|&(a, b)| [(a, a), (b, b)]).collect();
    loop {
        let mut joint: BTreeMap<(u64, u64), Vec<f32>> = BTreeMap::new();
        for (&(a, b), links) in links {
            let (a, b) = (segment[&a], segment[&b]);
            if a != b {
                joint.entry((a.min(b), a.max(b))).or_default().extend(links);
            }
        }
        let size = |of: u64| -> u64 {
            let members = segment.iter().filter(|&(_, &segment)| segment == of);
            members
                .map(|(fragment, _)| sizes.get(fragment).copied().unwrap_or(0))
                .sum()
        };
        joint.retain(|&(a, b), links| {
            links.len() as u64 >= limits.least_links && size(a) + size(b) <= limits.most_voxels
        });
        let best = joint.iter().max_by(|x, y| score(x.1).total_cmp(&score(y.1)));
        match best {
            Some((&(a, b), links)) if score(links) >= threshold => {
                segment
                    .values_mut()
                    .filter(|segment| **segment == b)
                    .for_each(|segment| *segment = a);
            }
            _ => return segment,
        }
    }
}

/// Compares a history with separate runs at every threshold where something changes.
fn check<E: Evidence>(
    fragments: ArrayView3<u64>,
    affinities: ArrayView4<f32>,
    score: impl Fn(&E) -> f64,
    naive_score: impl Fn(&[f32]) -> f64,
    limits: MergeLimits,
) -> usize {
    let links = links_naive(fragments, affinities);
    let graph = ContactGraph::<E>::new(fragments, affinities, &OFFSETS).unwrap();
    let found: Vec<_> = graph
        .contacts()
        .iter()
        .map(|c| ((c.a, c.b), c.evidence.links()))
        .collect();
    let expected: Vec<_> = links
        .iter()
        .map(|(&pair, links)| (pair, links.len() as u64))
        .collect();
    assert_eq!(found, expected);
    for contact in graph.contacts() {
        let expected = naive_score(&links[&(contact.a, contact.b)]);
        assert!((score(&contact.evidence) - expected).abs() < 1e-9);
    }
    let history = MergeHistory::new(&graph, score, limits).unwrap();
    let mut thresholds: Vec<f64> = history.merges().iter().map(|merge| merge.score - 1e-7).collect();
    thresholds.extend([-1.0, 0.0, 0.3, 0.5, 0.7, 1.1]);
    for threshold in thresholds {
        let naive = merge_naive(&links, &naive_score, threshold, limits);
        let expected = fragments.mapv(|fragment| naive.get(&fragment).copied().unwrap_or(fragment));
        assert_eq!(
            history.segment(fragments, threshold).unwrap(),
            expected,
            "{threshold}"
        );
        let mut in_place = fragments.to_owned();
        history
            .segments(threshold)
            .unwrap()
            .apply(in_place.view_mut())
            .unwrap();
        assert_eq!(in_place, expected);
    }
    history.merges().len()
}

#[test]
fn one_history_holds_every_threshold_of_every_score() {
    let mut noise = Noise(1);
    for shape in [[8, 9, 10], [1, 14, 15], [10, 1, 12]] {
        let fragments = fragments(shape, 3);
        let affinities = random(shape, &mut noise);
        let sizes = unique(fragments.view());
        for limits in [
            MergeLimits::default(),
            MergeLimits {
                least_links: 12,
                ..MergeLimits::default()
            },
            MergeLimits {
                most_voxels: 100,
                sizes: &sizes,
                ..MergeLimits::default()
            },
        ] {
            let (f, a) = (fragments.view(), affinities.view());
            let merges = check(f, a, MeanAffinity::mean, mean, limits);
            assert!(merges > 3 || limits.least_links > 1, "{shape:?}, {limits:?}");
            check(f, a, MaximumAffinity::maximum, maximum, limits);
        }
    }
}

#[test]
fn quantiles_are_their_definition() {
    let mut noise = Noise(2);
    for count in [1, 2, 3, 10, 999] {
        let links: Vec<f32> = (0..count).map(|_| noise.unit()).collect();
        let mut histogram = AffinityHistogram::default();
        // In two parts, joined.
        let mut second = AffinityHistogram::default();
        for (i, &link) in links.iter().enumerate() {
            if i % 3 == 0 {
                second.add(link)
            } else {
                histogram.add(link)
            }
        }
        histogram.join(&second);
        for share in [0.0, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0] {
            assert!(
                (histogram.quantile(share) - quantile(&links, share)).abs() < 1e-12,
                "{count}, {share}"
            );
        }
    }
    assert!(AffinityHistogram::default().quantile(0.5).is_nan());
    // Levels are few, so scores are often equal: with two fragments a contact there is no tie.
    let fragments = array![[[1, 1, 2, 2, 3, 3]]];
    let affinities = Array4::from_shape_fn((5, 1, 1, 6), |(c, _, _, x)| (c * 6 + x) as f32 / 30.0);
    check(
        fragments.view(),
        affinities.view(),
        |e: &AffinityHistogram| e.quantile(0.5),
        |links| quantile(links, 0.5),
        MergeLimits::default(),
    );
}

#[test]
fn of_equal_scores_the_lower_fragments_merge_first() {
    // All contacts alike: no more than two voxels of the three may merge.
    let fragments = array![[[9, 7, 5, 3]]];
    let affinities = Array4::from_elem((1, 1, 1, 4), 0.5f32);
    let graph = ContactGraph::new(fragments.view(), affinities.view(), &[[0, 0, 1]]).unwrap();
    let sizes = unique(fragments.view());
    let limits = MergeLimits {
        most_voxels: 2,
        sizes: &sizes,
        ..MergeLimits::default()
    };
    let history = MergeHistory::new(&graph, MeanAffinity::mean, limits).unwrap();
    assert_eq!(
        history.segment(fragments.view(), 0.5).unwrap(),
        array![[[7, 7, 3, 3]]]
    );
}

#[test]
fn one_voxel_does_not_merge_two_neurons() {
    // A single link of 1 between two objects, and many of 0.2.
    let fragments = Array3::from_shape_fn((1, 20, 4), |(_, _, x)| 1 + x as u64 / 2);
    let mut affinities = Array4::from_elem((1, 1, 20, 4), 0.2f32);
    affinities[[0, 0, 3, 1]] = 1.0;
    let graph =
        ContactGraph::<MaximumAffinity>::new(fragments.view(), affinities.view(), &[[0, 0, 1]]).unwrap();
    let history = MergeHistory::new(&graph, MaximumAffinity::maximum, MergeLimits::default()).unwrap();
    assert_eq!(
        unique(history.segment(fragments.view(), 0.9).unwrap().view()).len(),
        1,
        "by its maximum it does"
    );
    let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &[[0, 0, 1]]).unwrap();
    let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
    assert_eq!(
        unique(history.segment(fragments.view(), 0.3).unwrap().view()).len(),
        2
    );
    // Where the contact is that voxel only, the limit decides.
    affinities.fill(f32::NAN);
    affinities[[0, 0, 3, 1]] = 1.0;
    let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &[[0, 0, 1]]).unwrap();
    for (least_links, count) in [(1, 1), (2, 2)] {
        let limits = MergeLimits {
            least_links,
            ..MergeLimits::default()
        };
        let history = MergeHistory::new(&graph, MeanAffinity::mean, limits).unwrap();
        assert_eq!(
            unique(history.segment(fragments.view(), 0.9).unwrap().view()).len(),
            count
        );
        let segments = graph
            .mutex_watershed(MeanAffinity::mean, 0.5, least_links)
            .unwrap();
        assert_eq!(segments.get(2), Some(if count == 1 { 1 } else { 2 }));
    }
}

/// All edges by magnitude, and a list of all pairs that were ever parted.
fn mutex_naive(links: &Links, bias: f64) -> HashMap<u64, u64> {
    let mut edges: Vec<_> = links
        .iter()
        .map(|(&pair, links)| (mean(links) - bias, pair))
        .collect();
    edges.sort_by(|x, y| y.0.abs().total_cmp(&x.0.abs()));
    let mut segment: HashMap<u64, u64> = links.keys().flat_map(|&(a, b)| [(a, a), (b, b)]).collect();
    let mut parted: Vec<(u64, u64)> = Vec::new();
    for (weight, (p, q)) in edges {
        let (a, b) = (segment[&p].min(segment[&q]), segment[&p].max(segment[&q]));
        let apart =
            |&(p, q): &(u64, u64)| (segment[&p].min(segment[&q]), segment[&p].max(segment[&q])) == (a, b);
        if weight < 0.0 {
            parted.push((p, q));
        } else if a != b && !parted.iter().any(apart) {
            segment
                .values_mut()
                .filter(|segment| **segment == b)
                .for_each(|segment| *segment = a);
        }
    }
    segment
}

#[test]
fn the_mutex_watershed_of_fragments_is_its_definition() {
    let mut noise = Noise(3);
    let shape = [9, 10, 11];
    let (fragments, affinities) = (fragments(shape, 2), random(shape, &mut noise));
    let links = links_naive(fragments.view(), affinities.view());
    let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &OFFSETS).unwrap();
    for bias in [0.0, 0.4, 0.5, 0.55, 1.0] {
        let naive = mutex_naive(&links, bias);
        let found = graph.mutex_watershed(MeanAffinity::mean, bias, 1).unwrap();
        for (fragment, segment) in naive {
            assert_eq!(found.get(fragment), Some(segment), "{bias}");
        }
    }
    assert!(graph.mutex_watershed(MeanAffinity::mean, f64::NAN, 1).is_err());
}

#[test]
fn threads_memory_order_and_the_type_of_affinities_change_nothing() {
    let mut noise = Noise(4);
    let shape = [20, 31, 33];
    let fragments = fragments(shape, 4);
    let bytes = random(shape, &mut noise).mapv(|value| (value * 255.0) as u8);
    let floats = bytes.mapv(|value| f32::from(value) / 255.0);
    let everything = || {
        let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), floats.view(), &OFFSETS).unwrap();
        let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
        let segments = history.segment(fragments.view(), 0.5).unwrap();
        (graph, history, segments)
    };
    let one = on_threads(1, everything);
    for threads in [2, 3] {
        assert!(on_threads(threads, everything) == one, "{threads} threads");
    }
    assert_eq!(
        ContactGraph::new(fragments.view(), bytes.view(), &OFFSETS).unwrap(),
        one.0
    );
    let turned = (fragments.t().to_owned(), floats.t().to_owned());
    assert_eq!(
        ContactGraph::new(turned.0.t(), turned.1.t(), &OFFSETS).unwrap(),
        one.0
    );
    // The other way round, links begin at the other end.
    let flip = s![..;-1, ..;-1, ..;-1];
    let mut ends = Array4::from_elem(floats.raw_dim(), f32::NAN);
    for ((c, z, y, x), &value) in floats.indexed_iter() {
        let q: [usize; 3] = std::array::from_fn(|a| [z, y, x][a].wrapping_add_signed(OFFSETS[c][a] as isize));
        if let Some(end) = ends.get_mut([c, q[0], q[1], q[2]]) {
            *end = value;
        }
    }
    let opposite = OFFSETS.map(|offset| offset.map(|n| -n));
    assert_eq!(
        ContactGraph::new(fragments.view(), ends.view(), &opposite).unwrap(),
        one.0
    );
    assert_eq!(
        ContactGraph::new(
            fragments.slice(flip),
            floats.slice(s![.., ..;-1, ..;-1, ..;-1]),
            &opposite
        )
        .unwrap(),
        one.0
    );
}

#[test]
fn nothing_and_what_means_nothing() {
    let (empty, none) = (
        Array3::<u64>::zeros((0, 3, 4)),
        Array4::<f32>::zeros((1, 0, 3, 4)),
    );
    let graph = ContactGraph::<MeanAffinity>::new(empty.view(), none.view(), &[[0, 0, 1]]).unwrap();
    let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
    assert_eq!(
        (
            history.merges().len(),
            history.segment(empty.view(), 0.5).unwrap()
        ),
        (0, empty)
    );
    let background = Array3::<u64>::zeros((2, 3, 4));
    let affinities = Array4::from_elem((2, 2, 3, 4), 1.0f32);
    let graph =
        |offsets: &[Offset]| ContactGraph::<MeanAffinity>::new(background.view(), affinities.view(), offsets);
    assert_eq!(graph(&[[0, 0, 1], [99, 0, i64::MIN]]).unwrap().contacts(), []);
    assert!(graph(&[[0, 0, 1]]).is_err());
    assert!(graph(&[[0, 0, 1], [0, 0, 0]]).is_err());
    let offsets = [[0, 0, 1], [0, 1, 0]];
    let small = background.slice(s![.., .., ..3]);
    assert!(ContactGraph::<MeanAffinity>::new(small, affinities.view(), &offsets).is_err());
    let outside = [0..2, 0..4, 0..4];
    assert!(
        ContactGraph::<MeanAffinity>::of_block(background.view(), affinities.view(), &offsets, outside)
            .is_err()
    );
    // Infinite affinities are clipped: the mean is a number.
    let fragments = array![[[1u64, 2]]];
    let infinite = Array4::from_elem((1, 1, 1, 2), f32::NEG_INFINITY);
    let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), infinite.view(), &[[0, 0, 1]]).unwrap();
    assert_eq!(graph.contacts()[0].evidence.mean(), -(2f64.powi(31)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Graphs of blocks with the context of the offsets, in any order, add up to that of the whole.
    #[test]
    fn graphs_add_up(seed in 0u64..1 << 48, edge in 1usize..5, block in [1usize..9, 1..9, 1..9], order in 0usize..1000) {
        let mut noise = Noise(seed);
        let shape = [7, 8, 9];
        let fragments = fragments(shape, edge);
        let affinities = random(shape, &mut noise);
        let whole = ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &OFFSETS).unwrap();
        let counts: [usize; 3] = std::array::from_fn(|a| shape[a].div_ceil(block[a]));
        let total = counts.iter().product::<usize>();
        let mut sum = ContactGraph::default();
        for i in 0..total {
            let n = (i + order) % total;
            let at = [n / (counts[1] * counts[2]), n / counts[2] % counts[1], n % counts[2]];
            let begin: [usize; 3] = std::array::from_fn(|a| at[a] * block[a]);
            let end: [usize; 3] = std::array::from_fn(|a| (begin[a] + block[a]).min(shape[a]));
            let low: [usize; 3] = std::array::from_fn(|a| begin[a].saturating_sub(3));
            let high: [usize; 3] = std::array::from_fn(|a| (end[a] + 3).min(shape[a]));
            let window = s![low[0]..high[0], low[1]..high[1], low[2]..high[2]];
            let inner = std::array::from_fn(|a| begin[a] - low[a]..end[a] - low[a]);
            let mut values = affinities.view();
            for axis in 0..3 {
                values.slice_axis_inplace(Axis(axis + 1), (low[axis]..high[axis]).into());
            }
            sum += &ContactGraph::of_block(fragments.slice(window), values, &OFFSETS, inner).unwrap();
        }
        prop_assert_eq!(sum, whole);
    }
}
