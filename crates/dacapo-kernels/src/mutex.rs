//! The mutex watershed (Wolf et al. 2018), with one sort of the edges for any number of biases.

mod turns;

use ndarray::{Array3, ArrayView3, ArrayView4};

use crate::apart::ApartSets;
use crate::error::{countable, same_shape};
use crate::offsets::{Offset, check_offsets, rows, stride, volume};
use crate::ranges::{Pairs, sorted};
use crate::watershed::sortable;
use crate::{Error, Result, UnionFind};
use turns::{AHEAD, Edge, Run, take_next};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

/// What affinities can be: floats, or bytes that stand for 0 to 1.
pub trait Affinity: sealed::Sealed + Copy + Send + Sync {
    /// The affinity as a number: of a byte, its 255th part.
    fn value(self) -> f32;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else makes affinities")]
    fn sorted(edges: &Edges<Self>, channels: &[usize]) -> Sorted;
}

/// Segments by affinities less a bias for each offset: what is above 0 joins two voxels, what is below keeps
/// their segments apart, the largest magnitude first. A voxel all of whose affinities are at or below their
/// biases is background, 0, and so is what lies outside the mask. NaN is no affinity.
///
/// ```
/// use dacapo_kernels::mutex_watershed;
/// use ndarray::array;
///
/// let affinities = array![[[[0.9f32, 0.6, 0.9, 0.0]]], [[[0.05, 0.5, 0.0, 0.0]]]];
/// let segments = mutex_watershed(affinities.view(), &[[0, 0, 1], [0, 0, 2]], &[0.5, 0.5], None, None)?;
/// assert_eq!(segments, array![[[1, 1, 2, 2]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// Those of [`MutexEdges::new`] and [`MutexEdges::segment`].
pub fn mutex_watershed<A: Affinity>(
    affinities: ArrayView4<A>,
    offsets: &[Offset],
    bias: &[f32],
    strides: Option<&[[usize; 3]]>,
    mask: Option<ArrayView3<bool>>,
) -> Result<Array3<u64>> {
    let mut biases: Vec<f32> = Vec::new();
    let groups: Vec<usize> = bias
        .iter()
        .map(|bias| {
            let known = biases.iter().position(|known| known.to_bits() == bias.to_bits());
            known.unwrap_or_else(|| {
                biases.push(*bias);
                biases.len() - 1
            })
        })
        .collect();
    let edges = MutexEdges::new(affinities, offsets, &groups, strides, mask)?;
    let joined = edges.join(&biases)?;
    let shape = edges.shape;
    // They take most of the memory, and are not needed again.
    drop(edges);
    Ok(joined.labels(shape))
}

/// The edges of a mutex watershed, sorted once.
///
/// Edges whose offsets share a bias are a group, in which the order of the affinities is that of the edges
/// under any bias: from the top for those that join, from the bottom for those that part. Segmenting merges
/// these runs. Of edges of equal magnitude, joining ones are first, then those of the lower group, then those
/// whose affinity lies further from its group's bias before rounding, then by channel and voxel: joining ones
/// from the last to the first, parting ones from the first to the last.
///
/// An edge takes 8 bytes, or 4 of affinities that are bytes: these are counted into 256 levels.
pub struct MutexEdges {
    shape: [usize; 3],
    strides: Vec<isize>,
    groups: Vec<Sorted>,
}

/// The edges of a group, ascending.
pub(crate) enum Sorted {
    /// The affinity's bits, as [`sortable`] has them, above the place: one comparison.
    Each(Vec<u64>),
    /// Places, level by level of 256, and where each level begins.
    Levels { places: Vec<u32>, starts: Vec<usize> },
}

/// The affinities that are edges.
pub(crate) struct Edges<'a, A> {
    shape: [usize; 3],
    affinities: &'a [A],
    offsets: &'a [Offset],
    strides: Option<&'a [[usize; 3]]>,
    open: Option<Vec<bool>>,
}

impl<A: Affinity> Edges<'_, A> {
    /// Those of some channels, by channel and voxel: the place, channel × voxels + voxel, and the affinity.
    fn for_each(&self, channels: &[usize], mut each: impl FnMut(u32, A)) {
        let voxels: usize = self.shape.iter().product();
        for &channel in channels {
            let values = &self.affinities[channel * voxels..][..voxels];
            let [step_z, step_y, step_x] = self.strides.map_or([1; 3], |strides| strides[channel]);
            for (row, other) in rows(self.shape, &self.offsets[channel], 0..self.shape[0]) {
                let (line, x) = (row.start / self.shape[2], row.start % self.shape[2]);
                let (z, y) = (line / self.shape[1], line % self.shape[1]);
                if z % step_z != 0 || y % step_y != 0 {
                    continue;
                }
                for i in (x.next_multiple_of(step_x) - x..row.len()).step_by(step_x) {
                    let p = row.start + i;
                    let is_open = self.open.as_ref().is_none_or(|open| open[p] && open[other + i]);
                    if is_open && !values[p].value().is_nan() {
                        each((channel * voxels + p) as u32, values[p]);
                    }
                }
            }
        }
    }
}

/// The first step of sorting floats divides them among so many ranges.
const RANGES: u16 = 2048;

impl Affinity for f32 {
    fn value(self) -> f32 {
        self
    }

    #[allow(private_interfaces, reason = "nobody else makes affinities")]
    fn sorted(edges: &Edges<Self>, channels: &[usize]) -> Sorted {
        Sorted::Each(sorted(&Channels { edges, channels }, RANGES))
    }
}

/// The edges of some channels, by their affinities.
struct Channels<'a> {
    edges: &'a Edges<'a, f32>,
    channels: &'a [usize],
}

impl Pairs for Channels<'_> {
    fn for_each(&self, mut each: impl FnMut(u32, u32)) {
        self.edges
            .for_each(self.channels, |place, value| each(sortable(value), place));
    }
}

impl Affinity for u8 {
    fn value(self) -> f32 {
        f32::from(self) / 255.0
    }

    #[allow(private_interfaces, reason = "nobody else makes affinities")]
    fn sorted(edges: &Edges<Self>, channels: &[usize]) -> Sorted {
        let mut starts = vec![0; 257];
        edges.for_each(channels, |_, value| starts[usize::from(value) + 1] += 1);
        for level in 0..256 {
            starts[level + 1] += starts[level];
        }
        let mut places = vec![0; starts[256]];
        let mut next = starts.clone();
        edges.for_each(channels, |place, value| {
            let at = &mut next[usize::from(value)];
            places[*at] = place;
            *at += 1;
        });
        Sorted::Levels { places, starts }
    }
}

impl MutexEdges {
    /// Sorts the edges of all channels; `groups` says for each channel which bias it will have. Of a channel with
    /// strides (z, y, x), only voxels whose places are multiples of these have edges. NaN is no edge.
    ///
    /// # Errors
    /// If offsets, groups, strides, channels and shapes do not fit each other, or a stride is 0; [`Error::TooLarge`]
    /// from 2³² affinities on.
    pub fn new<A: Affinity>(
        affinities: ArrayView4<A>,
        offsets: &[Offset],
        groups: &[usize],
        strides: Option<&[[usize; 3]]>,
        mask: Option<ArrayView3<bool>>,
    ) -> Result<Self> {
        check_offsets(offsets)?;
        let channels = affinities.shape()[0];
        let stride_count = strides.map_or(channels, <[_]>::len);
        for (what, expected) in [
            ("offsets", offsets.len()),
            ("biases", groups.len()),
            ("strides", stride_count),
        ] {
            if channels != expected {
                return Err(Error::Channels {
                    channels,
                    expected,
                    what,
                });
            }
        }
        if strides.is_some_and(|strides| strides.as_flattened().contains(&0)) {
            let (name, value, expected) = ("a stride", 0.0, "at least 1");
            return Err(Error::Parameter {
                name,
                value,
                expected,
            });
        }
        countable("affinities", affinities.len())?;
        let shape = volume(&affinities.shape()[1..]);
        // Sets have a bit for something else.
        countable("voxels, counted twice,", shape.iter().product::<usize>() * 2)?;
        let open: Option<Vec<bool>> = match mask {
            Some(mask) => {
                same_shape("mask", mask.shape(), &shape)?;
                Some(mask.iter().copied().collect())
            }
            None => None,
        };
        let standard = affinities.as_standard_layout();
        let Some(values) = standard.as_slice() else {
            unreachable!("standard layout is contiguous")
        };
        let edges = Edges {
            shape,
            affinities: values,
            offsets,
            strides,
            open,
        };
        let count = groups.iter().max().map_or(0, |&most| most + 1);
        let groups = (0..count).map(|group| {
            let channels: Vec<usize> = (0..channels)
                .filter(|&channel| groups[channel] == group)
                .collect();
            A::sorted(&edges, &channels)
        });
        Ok(Self {
            shape,
            groups: groups.collect(),
            strides: offsets.iter().map(|offset| stride(shape, offset)).collect(),
        })
    }

    /// Segments with one bias a group; biases beyond are not used. Segments are numbered from 1 in the order of their
    /// first voxels. Any number of biases can be tried at the cost of one sort, side by side.
    ///
    /// # Errors
    /// If there are fewer biases than groups, or one is not finite.
    pub fn segment(&self, biases: &[f32]) -> Result<Array3<u64>> {
        Ok(self.join(biases)?.labels(self.shape))
    }

    fn join(&self, biases: &[f32]) -> Result<Joined> {
        if biases.len() < self.groups.len() {
            let (channels, expected) = (self.groups.len(), biases.len());
            return Err(Error::Channels {
                channels,
                expected,
                what: "biases",
            });
        }
        if let Some(&bias) = biases.iter().find(|bias| !bias.is_finite()) {
            let (name, value, expected) = ("bias", f64::from(bias), "finite");
            return Err(Error::Parameter {
                name,
                value,
                expected,
            });
        }
        let mut runs: Vec<Run> = Vec::new();
        for joins in [true, false] {
            let groups = self.groups.iter().zip(biases);
            runs.extend(groups.map(|(edges, &bias)| Run::new(edges, bias, joins)));
        }
        let voxels: usize = self.shape.iter().product();
        let mut sets = ApartSets::new(voxels as u32);
        // Whether a voxel has an edge that would join it, be it in vain.
        let mut foreground = Bits::new(voxels);
        let (mut edges, mut ends) = (Vec::with_capacity(AHEAD), Vec::with_capacity(AHEAD));
        loop {
            edges.clear();
            while edges.len() < AHEAD && take_next(&mut runs, &mut edges) {}
            if edges.is_empty() {
                break;
            }
            // What is known of many edges is looked up before any is used, step by step: it lies anywhere, and
            // memory answers many questions in the time of one.
            ends.clear();
            ends.extend(edges.iter().map(|edge: &Edge| {
                // Division of 32 bits is the faster one.
                let (channel, p) = (edge.place / voxels as u32, (edge.place % voxels as u32) as usize);
                let q = p.wrapping_add_signed(self.strides[channel as usize]);
                if edge.joins {
                    foreground.set(p);
                    foreground.set(q);
                }
                [p as u32, q as u32]
            }));
            sets.find_all(ends.as_flattened_mut());
            for (edge, &[a, b]) in edges.iter().zip(&ends) {
                if edge.joins {
                    sets.join(a, b)
                } else {
                    sets.part(a, b)
                }
            }
        }
        Ok(Joined {
            sets: sets.into_sets(),
            foreground,
        })
    }
}

/// What the edges have made of the voxels.
struct Joined {
    sets: UnionFind,
    foreground: Bits,
}

/// A bit for each voxel: they are set in any order, so it matters that they stay in the cache.
struct Bits(Vec<u64>);

impl Bits {
    /// So many that are not set.
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    #[inline]
    fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    #[inline]
    fn is_set(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }
}

impl Joined {
    /// Numbers the sets of foreground in the order of their first voxels.
    fn labels(mut self, [depth, height, width]: [usize; 3]) -> Array3<u64> {
        let mut numbers = vec![0u32; depth * height * width];
        let (mut count, mut voxel) = (0, 0);
        Array3::from_shape_simple_fn((depth, height, width), || {
            let this = voxel;
            voxel += 1;
            if !self.foreground.is_set(this) {
                return 0;
            }
            let number = &mut numbers[self.sets.find(this as u32) as usize];
            if *number == 0 {
                count += 1;
                *number = count;
            }
            u64::from(*number)
        })
    }
}
