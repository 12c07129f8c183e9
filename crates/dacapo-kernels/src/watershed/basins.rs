//! Basins: the voxels from which water runs to the same minimum, and how high it stands before it is flooded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{CLOSED, NONE};
use crate::UnionFind;

/// The basins of a landscape. From each voxel a path that never rises leads to the minimum of its basin; so the lowest
/// pass between a voxel and the seeds, which is its own height at least, is the higher one of that and of its basin's.
pub(super) struct Basins {
    /// The basin of each voxel; [`NONE`] where it is closed.
    pub of: Vec<u32>,
    /// The lowest pass between a basin's minimum and the seeds; [`CLOSED`] where there is none.
    pub passes: Vec<u32>,
    /// The lake that a basin is part of: what is flooded at once, when the water reaches the pass.
    pub lakes: Vec<u32>,
}

impl Basins {
    pub fn new(heights: &[u32], seeds: &[u32], steps: &[isize]) -> Self {
        let (of, count) = number(descents(heights, steps));
        let (saddles, passes) = saddles(heights, seeds, steps, &of, count);
        let passes = spread(&saddles, passes);
        let mut lakes = UnionFind::new(count);
        for &(a, b, height) in &saddles {
            if height < passes[a as usize] && height < passes[b as usize] {
                lakes.union(a, b);
            }
        }
        let lakes = (0..count).map(|basin| lakes.find(basin)).collect();
        Self { of, passes, lakes }
    }
}

/// For each voxel one that it drains to: the lowest neighbour, or one of the same height; itself at a minimum, and
/// [`NONE`] where it is closed.
fn descents(heights: &[u32], steps: &[isize]) -> Vec<u32> {
    let mut below: Vec<u32> = vec![NONE; heights.len()];
    let mut flat = Vec::new();
    for (p, &height) in heights.iter().enumerate() {
        if height == CLOSED {
            continue;
        }
        let mut lowest = u64::MAX;
        for &step in steps {
            let q = p.wrapping_add_signed(step);
            lowest = lowest.min(u64::from(heights[q]) << 32 | q as u64);
        }
        let lowest_height = (lowest >> 32) as u32;
        below[p] = if lowest_height < height { lowest as u32 } else { p as u32 };
        if lowest_height == height {
            flat.push(p as u32);
        }
    }
    // What is flat drains as a whole to one of the places where it does.
    let find = |below: &mut [u32], mut p: u32| loop {
        let next = below[p as usize];
        if next == p {
            return p;
        }
        below[p as usize] = below[next as usize];
        p = next;
    };
    for p in flat {
        let height = heights[p as usize];
        for &step in steps {
            let q = (p as usize).wrapping_add_signed(step);
            if heights[q] != height {
                continue;
            }
            let (a, b) = (find(&mut below, p), find(&mut below, q as u32));
            if heights[a as usize] == height {
                below[a as usize] = b;
            } else if heights[b as usize] == height {
                below[b as usize] = a;
            }
        }
    }
    below
}

/// Numbers the basins, and says how many there are.
fn number(below: Vec<u32>) -> (Vec<u32>, u32) {
    let mut basins = vec![NONE; below.len()];
    let mut count = 0;
    let mut way = Vec::new();
    for p in 0..below.len() {
        if below[p] == NONE {
            continue;
        }
        let mut here = p;
        while basins[here] == NONE {
            way.push(here);
            if below[here] as usize == here {
                break;
            }
            here = below[here] as usize;
        }
        let basin = if basins[here] == NONE {
            count += 1;
            count - 1
        } else {
            basins[here]
        };
        way.drain(..).for_each(|here| basins[here] = basin);
    }
    (basins, count)
}

/// Two basins, and the lowest height at which they meet.
type Saddle = (u32, u32, u32);

/// The saddles between basins, and the height of the lowest seed of each.
fn saddles(
    heights: &[u32],
    seeds: &[u32],
    steps: &[isize],
    basins: &[u32],
    count: u32,
) -> (Vec<Saddle>, Vec<u32>) {
    let forward: Vec<usize> = steps.iter().filter_map(|&step| usize::try_from(step).ok()).collect();
    let mut found = vec![(0, 0, CLOSED); RECENT];
    let mut saddles = Vec::new();
    let mut passes = vec![CLOSED; count as usize];
    for (p, &height) in heights.iter().enumerate() {
        if height == CLOSED {
            continue;
        }
        let basin = basins[p];
        if seeds[p] != 0 {
            let pass = &mut passes[basin as usize];
            *pass = height.min(*pass);
        }
        for &step in &forward {
            let q = p + step;
            let other = basins[q];
            if other == basin || other == NONE {
                continue;
            }
            let height = height.max(heights[q]);
            let (a, b) = (basin.min(other), basin.max(other));
            let hash = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0xb7e1_5162_8aed_2a6b);
            let saddle = &mut found[(hash >> (u64::BITS - RECENT.trailing_zeros())) as usize];
            if (saddle.0, saddle.1) == (a, b) {
                saddle.2 = height.min(saddle.2);
            } else {
                saddles.push(*saddle);
                *saddle = (a, b, height);
            }
        }
    }
    saddles.extend(found);
    saddles.retain(|saddle| saddle.0 != saddle.1);
    (saddles, passes)
}

const RECENT: usize = 1 << 14;

/// Spreads passes over the saddles, the lowest first.
fn spread(saddles: &[Saddle], mut passes: Vec<u32>) -> Vec<u32> {
    let mut starts = vec![0; passes.len() + 1];
    for &(a, b, _) in saddles {
        starts[a as usize + 1] += 1;
        starts[b as usize + 1] += 1;
    }
    for basin in 0..passes.len() {
        starts[basin + 1] += starts[basin];
    }
    let (mut next, mut beside) = (starts.clone(), vec![(0, 0); 2 * saddles.len()]);
    for &(a, b, height) in saddles {
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
    passes
}
