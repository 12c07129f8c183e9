//! Basins: the voxels from which water runs to the same minimum, and how high it stands before it is flooded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Bits, CLOSED};
use crate::UnionFind;

/// The basins of a landscape. From each voxel a path that never rises leads to the minimum of its basin; so the lowest
/// pass between a voxel and the seeds, which is its own height at least, is the higher one of that and of its basin's.
pub(super) struct Basins {
    /// The basin of each voxel: the last one where it is closed.
    pub of: Vec<u32>,
    /// The lowest pass between a basin's minimum and the seeds; [`CLOSED`] where there is none.
    pub passes: Vec<u32>,
    /// The lake that a basin is part of: what is flooded at once, when the water reaches the pass.
    pub lakes: Vec<u32>,
    /// The lowest neighbour of a voxel; itself where none is lower.
    pub below: Vec<u32>,
    /// Voxels that have neighbours in other basins, not above themselves, or several that are the lowest.
    pub divides: Bits,
}

impl Basins {
    pub fn new(heights: &[u32], seeds: &[u32], steps: &[isize]) -> Self {
        let mut divides = Bits::new(heights.len());
        let (below, flat) = descents(heights, steps, &mut divides);
        let (of, count) = number(drained(below.clone(), &flat, heights, steps), heights);
        let mut passes = vec![CLOSED; count as usize + 1];
        for ((&seed, &height), &basin) in seeds.iter().zip(heights).zip(&of) {
            if seed != 0 {
                let pass = &mut passes[basin as usize];
                *pass = height.min(*pass);
            }
        }
        let saddles = lowest(saddles(heights, steps, &of, count, &mut divides), count);
        spread(&saddles, &mut passes);
        let mut lakes = UnionFind::new(count + 1);
        for &(height, [a, b]) in &saddles {
            if height < passes[a as usize] && height < passes[b as usize] {
                lakes.union(a, b);
            }
        }
        let lakes = lakes.into_names();
        Self {
            of,
            passes,
            lakes,
            below,
            divides,
        }
    }
}

/// For each voxel its lowest neighbour, itself if none is lower. Returns also those that have one of their own height
/// and none that is lower.
fn descents(heights: &[u32], steps: &[isize], divides: &mut Bits) -> (Vec<u32>, Vec<u32>) {
    let mut below: Vec<u32> = (0..heights.len() as u32).collect();
    let mut flat = Vec::new();
    for (p, &height) in heights.iter().enumerate() {
        if height == CLOSED {
            continue;
        }
        // The first and the last one of the lowest.
        let (mut first, mut last) = (u64::MAX, u64::MAX);
        for &step in steps {
            let q = p.wrapping_add_signed(step);
            let key = u64::from(heights[q]) << 32;
            first = first.min(key | q as u64);
            last = last.min(key | u64::from(!(q as u32)));
        }
        let lowest = (first >> 32) as u32;
        if lowest < height {
            below[p] = first as u32;
        }
        if first as u32 != !(last as u32) && lowest < height {
            divides.insert(p);
        }
        if lowest == height {
            divides.insert(p);
            flat.push(p as u32);
        }
    }
    (below, flat)
}

/// Lets what is flat drain as a whole, to one of the places where it does.
fn drained(below: Vec<u32>, flat: &[u32], heights: &[u32], steps: &[isize]) -> UnionFind {
    let mut basins = UnionFind::from_parents(below);
    for &p in flat {
        let height = heights[p as usize];
        for &step in steps {
            let q = (p as usize).wrapping_add_signed(step);
            if heights[q] != height {
                continue;
            }
            let (a, b) = (basins.find(p), basins.find(q as u32));
            if heights[a as usize] == height {
                basins.join(a, b);
            } else if heights[b as usize] == height {
                basins.join(b, a);
            }
        }
    }
    basins
}

/// Numbers the basins from 0, and says how many there are: that of what is closed.
fn number(basins: UnionFind, heights: &[u32]) -> (Vec<u32>, u32) {
    let minima = basins.into_names();
    let mut numbers = vec![0; minima.len()];
    let mut count = 0;
    for (p, (&minimum, &height)) in (0..).zip(minima.iter().zip(heights)) {
        if p == minimum && height != CLOSED {
            numbers[p as usize] = count;
            count += 1;
        }
    }
    let basins = minima
        .iter()
        .zip(heights)
        .map(|(&minimum, &height)| match height {
            CLOSED => count,
            _ => numbers[minimum as usize],
        });
    (basins.collect(), count)
}

/// A height at which two basins meet.
type Saddle = (u32, [u32; 2]);

/// Where basins meet: the lowest place of each two, and others.
fn saddles(heights: &[u32], steps: &[isize], basins: &[u32], closed: u32, divides: &mut Bits) -> Vec<Saddle> {
    let forward: Vec<usize> = steps.iter().filter_map(|&step| step.try_into().ok()).collect();
    let mut recent = vec![(CLOSED, [0; 2]); RECENT];
    let mut saddles = Vec::new();
    for (p, (&height, &basin)) in heights.iter().zip(basins).enumerate() {
        if basin == closed {
            continue;
        }
        for &step in &forward {
            let q = p + step;
            let other = basins[q];
            if other == basin || other == closed {
                continue;
            }
            // The higher one, or both.
            divides.insert(if height >= heights[q] { p } else { q });
            divides.insert(if height <= heights[q] { q } else { p });
            let height = height.max(heights[q]);
            let pair = [basin.min(other), basin.max(other)];
            let spread = (u64::from(pair[0]) << 32 | u64::from(pair[1])).wrapping_mul(FACTOR);
            let known = &mut recent[(spread >> (u64::BITS - RECENT.trailing_zeros())) as usize];
            if known.1 == pair {
                known.0 = height.min(known.0);
            } else {
                saddles.push(std::mem::replace(known, (height, pair)));
            }
        }
    }
    saddles.extend(recent);
    saddles.retain(|(_, [a, b])| a != b);
    saddles
}

/// So many pairs of basins are remembered with the lowest height at which they met: what stays in the cache.
const RECENT: usize = 1 << 14;
/// Fractional digits of e, odd.
const FACTOR: u64 = 0xb7e1_5162_8aed_2a6b;

/// Of the saddles those over which water gets from each basin to each other by the lowest way.
fn lowest(mut saddles: Vec<Saddle>, count: u32) -> Vec<Saddle> {
    saddles.sort_unstable_by_key(|&(height, _)| height);
    let mut joined = UnionFind::new(count);
    saddles.retain(|&(_, [a, b])| {
        let (a, b) = (joined.find(a), joined.find(b));
        joined.join(a.max(b), a.min(b));
        a != b
    });
    saddles
}

/// Spreads passes over the saddles, the lowest first.
fn spread(saddles: &[Saddle], passes: &mut [u32]) {
    let mut starts = vec![0; passes.len() + 1];
    for basin in saddles.iter().flat_map(|(_, pair)| pair) {
        starts[*basin as usize + 1] += 1;
    }
    for basin in 0..passes.len() {
        starts[basin + 1] += starts[basin];
    }
    let (mut next, mut beside) = (starts.clone(), vec![(0, 0); 2 * saddles.len()]);
    for &(height, [a, b]) in saddles {
        for (from, to) in [(a, b), (b, a)] {
            let at = &mut next[from as usize];
            beside[*at] = (to, height);
            *at += 1;
        }
    }
    let reached = passes.iter().zip(0..).filter(|(pass, _)| **pass != CLOSED);
    let mut waiting: BinaryHeap<_> = reached.map(|(&pass, basin)| Reverse((pass, basin))).collect();
    while let Some(Reverse((pass, basin))) = waiting.pop() {
        let basin: usize = basin;
        if pass > passes[basin] {
            continue;
        }
        for &(other, height) in &beside[starts[basin]..starts[basin + 1]] {
            let (known, pass) = (&mut passes[other as usize], pass.max(height));
            if pass < *known {
                *known = pass;
                waiting.push(Reverse((pass, other as usize)));
            }
        }
    }
}
