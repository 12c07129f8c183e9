//! The order in which voxels are flooded, as far as it decides who floods them.
//!
//! A voxel is flooded by its earliest neighbour. It is flooded when the water stands at its pass: at its height, or, in
//! a lake, at that of the pass the lake is flooded over, all at once behind one voxel of its shore. Of those that the
//! water reaches at the same height, the ones come first that are seeds or have neighbours that were flooded lower; then
//! those that are beside them, directly or across a lake, and so on: their depth. Of the same depth they come in the
//! order of the voxels of depth 0 that they descend from, and these in the order of the neighbours that flooded them.
//! What is flooded by the same voxel has the same label, and no order among itself.

use super::basins::Basins;
use super::{Bits, CLOSED, NONE};
use crate::UnionFind;

/// Labels what is flooded. Those of the seeds are there already.
pub(super) fn flood(mut heights: Vec<u32>, mut basins: Basins, labels: &mut [u32], steps: &[isize]) {
    let sources = std::mem::take(&mut basins.below);
    let under = submerge(&mut heights, &mut basins, steps);
    let mut order = Order {
        depths: vec![0; heights.len()],
        passes: heights,
        under,
        seeds: labels,
        lake_depths: vec![NONE; basins.lakes.len()],
        sources,
        entrances: vec![NONE; basins.lakes.len()],
        basins,
        steps,
    };
    order.find();
    let sources = UnionFind::from_parents(order.into_sources()).into_names();
    for (p, source) in sources.into_iter().enumerate() {
        labels[p] = labels[source as usize];
    }
}

/// Raises the heights of what is flooded to the water that stands there then: [`CLOSED`] where it never does. Returns
/// what was lower, and is in a lake. Where the water comes to a voxel and to lakes at once, its neighbours divide too.
fn submerge(heights: &mut [u32], basins: &mut Basins, steps: &[isize]) -> Bits {
    let mut under = Bits::new(heights.len());
    for (p, (height, &basin)) in heights.iter_mut().zip(&basins.of).enumerate() {
        let pass = basins.passes[basin as usize];
        if *height == pass && pass != CLOSED {
            basins.divides.insert(p);
            for &step in steps {
                basins.divides.insert(p.wrapping_add_signed(step));
            }
        } else if *height < pass {
            under.insert(p);
            *height = pass;
        }
    }
    under
}

struct Order<'a> {
    /// How high the water stands when a voxel is flooded; [`CLOSED`] where it never is.
    passes: Vec<u32>,
    /// The voxels that lie below the water then.
    under: Bits,
    basins: Basins,
    seeds: &'a [u32],
    depths: Vec<u32>,
    /// That of the voxel behind which a lake is flooded.
    lake_depths: Vec<u32>,
    /// The neighbour that floods a voxel of depth 0; the voxel of depth 0 that a deeper one descends from.
    sources: Vec<u32>,
    /// The voxel behind which a lake is flooded.
    entrances: Vec<u32>,
    steps: &'a [isize],
}

/// What several voxels may flood, in the order in which it is decided: a lake after the voxels of its pass and depth.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    pass: u32,
    depth: u32,
    is_lake: bool,
    /// The voxel, or the lake.
    place: u32,
}

impl<'a> Order<'a> {
    fn find(&mut self) {
        let (mut open, deep, mut shores) = self.scan();
        shores.sort_unstable();
        shores.dedup();
        self.measure_depths(&deep, &shores);
        open.extend(deep.iter().map(|&place| Open {
            pass: self.pass(place as usize),
            depth: self.depths[place as usize],
            is_lake: false,
            place,
        }));
        for shore in shores.chunk_by(|a, b| a.0 == b.0) {
            let (lake, p) = shore[0];
            if let [_] = shore {
                self.entrances[lake as usize] = p;
                continue;
            }
            open.push(Open {
                pass: self.pass(p as usize),
                depth: self.lake_depths[lake as usize],
                is_lake: true,
                place: lake,
            });
        }
        open.sort_unstable();
        for Open {
            depth,
            is_lake,
            place,
            pass,
        } in open
        {
            if is_lake {
                let begin = shores.partition_point(|&(lake, _)| lake < place);
                let shore = shores[begin..].iter().take_while(|&&(lake, _)| lake == place);
                let depths = shore
                    .map(|&(_, p)| p)
                    .filter(|&p| self.depths[p as usize] == depth);
                self.entrances[place as usize] = self.earliest(depths);
                continue;
            }
            let p = place as usize;
            let neighbours = self.neighbours(p);
            self.sources[p] = if depth == 0 {
                let least = neighbours.clone().map(|q| self.pass(q)).min().unwrap_or(CLOSED);
                let lowest = neighbours.filter(|&q| self.pass(q) == least);
                self.earliest(lowest.map(|q| self.flooded_behind(q)))
            } else {
                let before = neighbours.filter(|&q| self.pass(q) == pass && self.depth(q) == depth - 1);
                let source = self.earliest(before.map(|q| self.flooded_behind(q)));
                match depth {
                    1 => source,
                    _ => self.sources[source as usize],
                }
            };
        }
    }

    /// Finds the sources of voxels of depth 0 that have but one neighbour to be flooded by. Returns those that have
    /// several, the voxels that are deeper, and which lake may be flooded behind which voxel.
    fn scan(&mut self) -> (Vec<Open>, Vec<u32>, Vec<(u32, u32)>) {
        let (mut open, mut deep, mut shores) = (Vec::new(), Vec::new(), Vec::new());
        for p in self.basins.divides.iter() {
            let pass = self.pass(p);
            if pass == CLOSED || self.is_lake(p) {
                continue;
            }
            // The first and the last one of the lowest.
            let (mut first, mut last) = (u64::MAX, u64::MAX);
            let mut is_even = false;
            for &step in self.steps {
                let q = p.wrapping_add_signed(step);
                let other = self.pass(q);
                let key = u64::from(other) << 32;
                first = first.min(key | q as u64);
                last = last.min(key | u64::from(!(q as u32)));
                is_even |= other == pass;
            }
            let neighbours = self.neighbours(p);
            if is_even {
                let lakes = neighbours
                    .clone()
                    .filter(|&q| self.pass(q) == pass && self.is_lake(q));
                shores.extend(lakes.map(|q| (self.lake(q), p as u32)));
            }
            if self.seeds[p] != 0 {
                continue;
            }
            let (least, first, last) = ((first >> 32) as u32, first as u32, !(last as u32));
            if least == pass {
                self.depths[p] = NONE;
                deep.push(p as u32);
                continue;
            }
            self.sources[p] = first;
            let lake = |q: usize| self.is_lake(q).then(|| self.lake(q));
            let of_first = lake(first as usize);
            let is_other = |q: usize| q != first as usize && (of_first.is_none() || lake(q) != of_first);
            if first != last && neighbours.clone().any(|q| self.pass(q) == least && is_other(q)) {
                open.push(Open {
                    pass,
                    depth: 0,
                    is_lake: false,
                    place: p as u32,
                });
            }
        }
        (open, deep, shores)
    }

    /// Measures the depths of lakes and of voxels that are deep.
    fn measure_depths(&mut self, deep: &[u32], shores: &[(u32, u32)]) {
        let shore = |of: u32| {
            let begin = shores.partition_point(|&(lake, _)| lake < of);
            shores[begin..].iter().take_while(move |&&(lake, _)| lake == of)
        };
        let mut queue = Vec::new();
        for &(lake, p) in shores {
            if self.depths[p as usize] == 0 {
                self.lake_depths[lake as usize] = 0;
            }
        }
        for &p in deep {
            let pass = self.pass(p as usize);
            let mut neighbours = self.neighbours(p as usize);
            if neighbours.any(|q| self.pass(q) == pass && self.depth(q) == 0) {
                queue.push(p);
            }
        }
        queue.iter().for_each(|&p| self.depths[p as usize] = 1);
        let mut next = 0;
        while next < queue.len() {
            let p = queue[next];
            next += 1;
            let (pass, depth) = (self.pass(p as usize), self.depths[p as usize]);
            for q in self.neighbours(p as usize) {
                if self.pass(q) != pass || self.depth(q) != NONE {
                    continue;
                }
                if !self.is_lake(q) {
                    self.depths[q] = depth + 1;
                    queue.push(q as u32);
                    continue;
                }
                let lake = self.lake(q);
                self.lake_depths[lake as usize] = depth;
                for &(_, q) in shore(lake) {
                    if self.depths[q as usize] == NONE {
                        self.depths[q as usize] = depth + 1;
                        queue.push(q);
                    }
                }
            }
        }
    }

    fn neighbours(&self, p: usize) -> impl Iterator<Item = usize> + Clone + use<'a> {
        let steps: &'a [isize] = self.steps;
        steps.iter().map(move |&step| p.wrapping_add_signed(step))
    }

    fn pass(&self, p: usize) -> u32 {
        self.passes[p]
    }

    /// Whether a voxel that is flooded lies below the water then.
    fn is_lake(&self, p: usize) -> bool {
        self.under.contains(p)
    }

    fn lake(&self, p: usize) -> u32 {
        self.basins.lakes[self.basins.of[p] as usize]
    }

    fn depth(&self, p: usize) -> u32 {
        match self.is_lake(p) {
            true => self.lake_depths[self.lake(p) as usize],
            false => self.depths[p],
        }
    }

    /// The voxel of a shore behind which a voxel is flooded, if it is not on one itself.
    fn flooded_behind(&self, p: usize) -> u32 {
        match self.is_lake(p) {
            true => self.entrances[self.lake(p) as usize],
            false => p as u32,
        }
    }

    fn earliest(&self, voxels: impl Iterator<Item = u32>) -> u32 {
        voxels
            .reduce(|a, b| if self.is_earlier(b, a) { b } else { a })
            .unwrap_or(NONE)
    }

    /// Of voxels that are in no lake.
    fn is_earlier(&self, a: u32, b: u32) -> bool {
        let (mut a, mut b) = (a as usize, b as usize);
        loop {
            let key = |p: usize| (self.pass(p), self.depths[p]);
            if a == b || key(a) != key(b) {
                return key(a) < key(b);
            }
            if self.depths[a] > 0 {
                (a, b) = (self.sources[a] as usize, self.sources[b] as usize);
                if a == b {
                    return false;
                }
            }
            match (self.seeds[a] != 0, self.seeds[b] != 0) {
                (true, true) => return a < b,
                (false, false) => {}
                (is_first, _) => return is_first,
            }
            let behind = |p: usize| self.flooded_behind(self.sources[p] as usize) as usize;
            (a, b) = (behind(a), behind(b));
        }
    }

    /// For each voxel that has a label, or gets none, itself; for each other one that it is flooded by, or one before.
    fn into_sources(mut self) -> Vec<u32> {
        let (lakes, entrances) = (&self.basins.lakes, &self.entrances);
        let behind: Vec<_> = lakes.iter().map(|&lake| entrances[lake as usize]).collect();
        for (p, source) in self.sources.iter_mut().enumerate() {
            if self.under.contains(p) {
                *source = behind[self.basins.of[p] as usize];
            }
            if self.seeds[p] != 0 || *source == NONE {
                *source = p as u32;
            }
        }
        self.sources
    }
}
