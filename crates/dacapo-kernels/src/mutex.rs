//! The mutex watershed (Wolf et al. 2018), with one sort of the edges for any number of biases.

use ndarray::{Array3, ArrayView3, ArrayView4};
use rayon::prelude::*;

use crate::error::{countable, same_shape};
use crate::offsets::{Offset, check_offsets, rows, stride, volume};
use crate::union_find::UnionFind;
use crate::watershed::sortable;
use crate::{Error, Result};

/// Segments by affinities less a bias for each offset: what is above 0 joins two voxels, what is below keeps
/// their segments apart, the largest magnitude first. A voxel all of whose affinities are at or below their
/// biases is background, 0, and so is what lies outside the mask.
///
/// # Errors
/// If offsets, biases, channels and shapes do not fit each other, or a bias is not finite.
pub fn mutex_watershed(
    affinities: ArrayView4<f32>,
    offsets: &[Offset],
    bias: &[f32],
    mask: Option<ArrayView3<bool>>,
) -> Result<Array3<u64>> {
    let mut biases: Vec<f32> = Vec::new();
    let groups: Vec<usize> = bias
        .iter()
        .map(|bias| {
            biases
                .iter()
                .position(|known| known.to_bits() == bias.to_bits())
                .unwrap_or_else(|| {
                    biases.push(*bias);
                    biases.len() - 1
                })
        })
        .collect();
    MutexEdges::new(affinities, offsets, &groups, mask)?.segment(&biases)
}

/// The edges of a mutex watershed, sorted once.
///
/// Edges whose offsets share a bias are a group, in which the order of the affinities is that of the edges
/// under any bias: from the top for those that join, from the bottom for those that part. Segmenting merges
/// these runs. Of edges of equal magnitude, joining ones are first, then those of the lower group, then those
/// whose affinity lies further from its group's bias before rounding, then by channel and voxel: joining ones
/// from the last to the first, parting ones from the first to the last.
pub struct MutexEdges {
    shape: [usize; 3],
    strides: Vec<isize>,
    /// By group, ascending.
    groups: Vec<Vec<Edge>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    /// The affinity, as bits that sort as it does.
    order: u32,
    /// Channel × voxels + voxel.
    place: u32,
}

impl Edge {
    fn affinity(self) -> f32 {
        let bits = self.order;
        f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
    }
}

impl MutexEdges {
    /// Sorts the edges of all channels; `groups` says for each channel which bias it will have. NaN is no edge.
    ///
    /// # Errors
    /// If offsets, groups, channels and shapes do not fit each other; [`Error::TooLarge`] from 2³² affinities
    /// on.
    pub fn new(
        affinities: ArrayView4<f32>,
        offsets: &[Offset],
        groups: &[usize],
        mask: Option<ArrayView3<bool>>,
    ) -> Result<Self> {
        check_offsets(offsets)?;
        for (what, expected) in [("offsets", offsets.len()), ("biases", groups.len())] {
            let channels = affinities.shape()[0];
            if channels != expected {
                return Err(Error::Channels {
                    channels,
                    expected,
                    what,
                });
            }
        }
        countable("affinities", affinities.len())?;
        let shape = volume(&affinities.shape()[1..]);
        let open: Option<Vec<bool>> = match mask {
            Some(mask) => {
                same_shape("mask", mask.shape(), &shape)?;
                Some(mask.iter().copied().collect())
            }
            None => None,
        };
        let voxels: usize = shape.iter().product();
        let count = groups.iter().max().map_or(0, |&most| most + 1);
        let edges = (0..count).map(|group| {
            let mut edges = Vec::new();
            let channels = offsets.iter().zip(affinities.outer_iter()).enumerate();
            for (channel, (offset, values)) in channels.filter(|&(channel, _)| groups[channel] == group) {
                let values = values.as_standard_layout();
                let Some(values) = values.as_slice() else {
                    unreachable!("standard layout is contiguous")
                };
                for (row, other) in rows(shape, offset, 0..shape[0]) {
                    for (p, q) in row.zip(other..) {
                        let is_open = open.as_ref().is_none_or(|open| open[p] && open[q]);
                        if is_open && !values[p].is_nan() {
                            let place = (channel * voxels + p) as u32;
                            edges.push(Edge {
                                order: sortable(values[p]),
                                place,
                            });
                        }
                    }
                }
            }
            edges.par_sort_unstable();
            edges
        });
        Ok(Self {
            shape,
            groups: edges.collect(),
            strides: offsets.iter().map(|offset| stride(shape, offset)).collect(),
        })
    }

    /// Segments with one bias a group; biases beyond are not used. Segments are numbered from 1 in the order of their first voxels.
    ///
    /// # Errors
    /// If there are fewer biases than groups, or one is not finite.
    pub fn segment(&self, biases: &[f32]) -> Result<Array3<u64>> {
        if biases.len() < self.groups.len() {
            let (channels, expected) = (self.groups.len(), biases.len());
            return Err(Error::Channels {
                channels,
                expected,
                what: "biases",
            });
        }
        if let Some(&bias) = biases.iter().find(|bias| !bias.is_finite()) {
            let value = f64::from(bias);
            return Err(Error::Parameter {
                name: "bias",
                value,
                expected: "finite",
            });
        }
        let mut runs: Vec<Run> = Vec::new();
        for joins in [true, false] {
            runs.extend(
                self.groups
                    .iter()
                    .zip(biases)
                    .map(|(edges, &bias)| Run::new(edges, bias, joins)),
            );
        }
        let voxels: usize = self.shape.iter().product();
        let mut segments = Segments::new(voxels);
        loop {
            let mut next = 0;
            for i in 1..runs.len() {
                if runs[i].magnitude > runs[next].magnitude {
                    next = i;
                }
            }
            let Some(run) = runs.get_mut(next).filter(|run| run.magnitude > 0.0) else {
                break;
            };
            let (joins, edge) = (run.joins, run.advance());
            let p = edge.place as usize % voxels;
            let q = p.wrapping_add_signed(self.strides[edge.place as usize / voxels]);
            segments.add(p as u32, q as u32, joins);
        }
        Ok(segments.labels(self.shape))
    }
}

/// The edges of a group on one side of its bias, largest magnitude first.
struct Run<'a> {
    left: &'a [Edge],
    bias: f32,
    joins: bool,
    /// That of the next edge; 0 at the end.
    magnitude: f32,
}

impl<'a> Run<'a> {
    fn new(edges: &'a [Edge], bias: f32, joins: bool) -> Self {
        let mut run = Self {
            left: edges,
            bias,
            joins,
            magnitude: 0.0,
        };
        run.measure();
        run
    }

    fn measure(&mut self) {
        let next = if self.joins {
            self.left.last()
        } else {
            self.left.first()
        };
        self.magnitude = next.map_or(0.0, |edge| {
            let above = edge.affinity() - self.bias;
            if self.joins { above } else { -above }
        });
    }

    /// Takes the next edge of a run that has one.
    fn advance(&mut self) -> Edge {
        let end = self.left.len() - 1;
        let edge;
        (edge, self.left) = if self.joins {
            (self.left[end], &self.left[..end])
        } else {
            (self.left[0], &self.left[1..])
        };
        self.measure();
        edge
    }
}

/// Voxels joined so far, and which segments are apart.
struct Segments {
    sets: UnionFind,
    /// For the name of each segment, an ordered list of the segments that it must stay apart from, in a slot of
    /// `apart`. Most voxels never need one. A slot moves with the segment that has the longer list.
    slot: Vec<u32>,
    apart: Vec<Vec<u32>>,
    /// Whether a voxel has an edge that would join it, be it in vain.
    foreground: Vec<bool>,
}

const NO_SLOT: u32 = u32::MAX;

impl Segments {
    fn new(voxels: usize) -> Self {
        Self {
            sets: UnionFind::new(voxels as u32),
            slot: vec![NO_SLOT; voxels],
            apart: Vec::new(),
            foreground: vec![false; voxels],
        }
    }

    fn add(&mut self, p: u32, q: u32, joins: bool) {
        if joins {
            self.foreground[p as usize] = true;
            self.foreground[q as usize] = true;
        }
        let (a, b) = (self.sets.find(p), self.sets.find(q));
        if a == b || self.are_apart(a, b) {
            return;
        }
        if joins {
            self.join(a, b);
        } else {
            self.part(a, b);
            self.part(b, a);
        }
    }

    fn list(&self, segment: u32) -> &[u32] {
        match self.slot[segment as usize] {
            NO_SLOT => &[],
            slot => &self.apart[slot as usize],
        }
    }

    fn are_apart(&self, a: u32, b: u32) -> bool {
        let (of_a, of_b) = (self.list(a), self.list(b));
        if of_a.len() <= of_b.len() {
            of_a.binary_search(&b).is_ok()
        } else {
            of_b.binary_search(&a).is_ok()
        }
    }

    fn part(&mut self, segment: u32, from: u32) {
        let slot = &mut self.slot[segment as usize];
        if *slot == NO_SLOT {
            *slot = self.apart.len() as u32;
            self.apart.push(Vec::new());
        }
        let list = &mut self.apart[*slot as usize];
        if let Err(place) = list.binary_search(&from) {
            list.insert(place, from);
        }
    }

    fn unpart(&mut self, segment: u32, from: u32) {
        let slot = self.slot[segment as usize];
        if slot != NO_SLOT {
            let list = &mut self.apart[slot as usize];
            if let Ok(place) = list.binary_search(&from) {
                list.remove(place);
            }
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        // The segment with the shorter list gives up its name: only what that list names has to hear of it.
        let (stays, goes) = if self.list(a).len() < self.list(b).len() {
            (b, a)
        } else {
            (a, b)
        };
        self.sets.join(goes, stays);
        let slot = std::mem::replace(&mut self.slot[goes as usize], NO_SLOT);
        if slot != NO_SLOT {
            for other in std::mem::take(&mut self.apart[slot as usize]) {
                self.unpart(other, goes);
                self.part(other, stays);
                self.part(stays, other);
            }
        }
    }

    fn labels(mut self, [depth, height, width]: [usize; 3]) -> Array3<u64> {
        let mut numbers = vec![0; self.foreground.len()];
        let mut count = 0;
        let mut voxel = 0;
        Array3::from_shape_simple_fn((depth, height, width), || {
            let this = voxel;
            voxel += 1;
            if !self.foreground[this] {
                return 0;
            }
            let number = &mut numbers[self.sets.find(this as u32) as usize];
            if *number == 0 {
                count += 1;
                *number = count;
            }
            *number
        })
    }
}
