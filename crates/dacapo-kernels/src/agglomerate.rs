//! Merging fragments in the order of the score of their contacts: one history that holds every threshold.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use ndarray::{Array3, ArrayView3};

use crate::hash::IdMap;
use crate::merging::MergingTable;
use crate::{ContactGraph, ContingencyTable, Evidence, Remap, Result, UnionFind, Voi};

/// Two regions that became one, each given by a fragment in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// A fragment of the one.
    pub a: u64,
    /// A fragment of the other.
    pub b: u64,
    /// The score of their contact when they merged.
    pub score: f64,
}

/// What keeps regions from merging, whatever their score.
#[derive(Debug, Clone, Copy)]
pub struct MergeLimits<'a> {
    /// Contacts of fewer links say nothing, until others join them: one voxel does not merge two neurons.
    pub least_links: u64,
    /// No merge makes a region of more voxels.
    pub most_voxels: u64,
    /// The fragments and their voxels, as [`crate::unique`] has them; those that are not listed have none. Only needed
    /// for `most_voxels`.
    pub sizes: &'a [(u64, u64)],
}

impl Default for MergeLimits<'_> {
    /// No limits.
    fn default() -> Self {
        Self {
            least_links: 1,
            most_voxels: u64::MAX,
            sizes: &[],
        }
    }
}

/// Every merge of fragments that touch, in the order in which they happen as the threshold falls.
///
/// ```
/// use dacapo_kernels::{ContactGraph, MeanAffinity, MergeHistory, MergeLimits};
/// use ndarray::array;
///
/// let (fragments, affinities) = (array![[[4, 4, 7, 9]]], array![[[[1.0f32, 0.6, 0.2, 0.0]]]]);
/// let graph = ContactGraph::new(fragments.view(), affinities.view(), &[[0, 0, 1]])?;
/// let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default())?;
/// assert_eq!(history.segment(fragments.view(), 0.5)?, array![[[4, 4, 4, 9]]]);
/// assert_eq!(history.segment(fragments.view(), 0.1)?, array![[[4, 4, 4, 4]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MergeHistory {
    merges: Vec<Merge>,
}

/// A contact that may be next, ordered by score and, of the same, by names; out of date if it has grown or gone since.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Sorts as the score does.
    score: i64,
    names: Reverse<[u32; 2]>,
    links: u64,
}

impl Candidate {
    fn new(a: u32, b: u32, score: f64, links: u64) -> Self {
        // As `f64::total_cmp` has it.
        let bits = score.to_bits() as i64;
        Self {
            score: bits ^ ((bits >> 63) as u64 >> 1) as i64,
            names: Reverse([a.min(b), a.max(b)]),
            links,
        }
    }
}

impl MergeHistory {
    /// Merges the pair with the highest score of those that the limits allow, adds up the contacts of the two with
    /// each neighbour, and so on until nothing is left. `score` makes a number of what is known of a contact: its mean,
    /// its maximum or a quantile, none of which is NaN where there are links.
    ///
    /// Without limits the score does not rise on the way: that of a joint contact lies between those it is made of.
    /// With `least_links` it can, where a contact has grown.
    ///
    /// Of equal scores, the one of lower fragments is first, where a region goes by one of its fragments: that of
    /// the part that had more neighbours when the parts merged, the lower one if they had the same number.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] from 2³² fragments on.
    pub fn new<E: Evidence>(
        graph: &ContactGraph<E>,
        score: impl Fn(&E) -> f64,
        limits: MergeLimits,
    ) -> Result<Self> {
        let (ids, numbers) = graph.numbers()?;
        let mut sizes = vec![0u64; ids.len()];
        for (id, voxels) in limits.sizes {
            if let Some(&number) = numbers.get(id) {
                sizes[number as usize] = *voxels;
            }
        }
        let mut neighbours: Vec<IdMap<u32, E>> = vec![IdMap::default(); ids.len()];
        let mut candidates = Vec::with_capacity(graph.contacts().len());
        for contact in graph.contacts() {
            let (a, b) = (numbers[&contact.a], numbers[&contact.b]);
            neighbours[a as usize].insert(b, contact.evidence.clone());
            neighbours[b as usize].insert(a, contact.evidence.clone());
            candidates.push(Candidate::new(
                a,
                b,
                score(&contact.evidence),
                contact.evidence.links(),
            ));
        }
        let mut heap = BinaryHeap::from(candidates);

        let mut merges = Vec::new();
        while let Some(Candidate { names, links, .. }) = heap.pop() {
            let Reverse([a, b]) = names;
            let current = neighbours[a as usize].get(&b);
            let Some(current) = current.filter(|current| current.links() == links) else {
                continue;
            };
            let value = score(current);
            let size = sizes[a as usize].saturating_add(sizes[b as usize]);
            if links < limits.least_links || size > limits.most_voxels {
                continue;
            }
            merges.push(Merge {
                a: ids[a as usize],
                b: ids[b as usize],
                score: value,
            });
            // The region with fewer neighbours moves into the other: each contact moves O(log n) times.
            let more = neighbours[b as usize].len() > neighbours[a as usize].len();
            let (stays, goes) = if more { (b, a) } else { (a, b) };
            sizes[stays as usize] = size;
            let moved = std::mem::take(&mut neighbours[goes as usize]);
            neighbours[stays as usize].remove(&goes);
            for (other, evidence) in moved.into_iter().filter(|&(other, _)| other != stays) {
                neighbours[other as usize].remove(&goes);
                let joint = neighbours[stays as usize].entry(other).or_default();
                joint.join(&evidence);
                heap.push(Candidate::new(stays, other, score(joint), joint.links()));
                let joint = joint.clone();
                neighbours[other as usize].insert(stays, joint);
            }
        }
        Ok(Self { merges })
    }

    /// The merges, in their order.
    pub fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The merges that happen until the best score is below `threshold`.
    pub(crate) fn until(&self, threshold: f64) -> &[Merge] {
        let is_below = |merge: &Merge| merge.score.partial_cmp(&threshold).is_none_or(Ordering::is_lt);
        let end = self.merges.iter().position(is_below);
        &self.merges[..end.unwrap_or(self.merges.len())]
    }

    /// Which segment each fragment is in when every pair merges whose score is at least `threshold`. A segment has
    /// the id of its smallest fragment. At a threshold of NaN nothing merges.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] from 2³² fragments on.
    pub fn segments(&self, threshold: f64) -> Result<Remap> {
        let merges = self.until(threshold).iter();
        Remap::joining(&merges.map(|merge| (merge.a, merge.b)).collect::<Vec<_>>())
    }

    /// The variation of information at each threshold, of the table of true objects and fragments: as if each had been
    /// segmented and compared by itself, to the last bit.
    pub fn sweep(&self, table: &ContingencyTable, thresholds: &[f64]) -> Vec<Option<Voi>> {
        let numbered =
            |sizes: &[(u64, u64)]| -> IdMap<u64, u32> { sizes.iter().map(|&(id, _)| id).zip(0..).collect() };
        let (objects, fragments) = (table.objects(), table.segments());
        let (object, mut fragment) = (numbered(&objects), numbered(&fragments));
        // Fragments without voxels that count can be between others.
        for merge in &self.merges {
            for id in [merge.a, merge.b] {
                let next = fragment.len() as u32;
                fragment.entry(id).or_insert(next);
            }
        }
        let mut rows = MergingTable::new(fragment.len());
        for overlap in table.overlaps() {
            rows.add(
                fragment[&overlap.segment] as usize,
                object[&overlap.truth],
                overlap.voxels,
            );
        }
        let mut order: Vec<usize> = (0..thresholds.len()).collect();
        order.sort_by(|&a, &b| thresholds[b].total_cmp(&thresholds[a]));
        let mut sets = UnionFind::new(fragment.len() as u32);
        let mut done = 0;
        let mut scores = vec![None; thresholds.len()];
        for index in order {
            let end = self.until(thresholds[index]).len();
            for merge in &self.merges[done..end.max(done)] {
                let (a, b) = (sets.find(fragment[&merge.a]), sets.find(fragment[&merge.b]));
                if a != b {
                    let into = sets.union(a, b);
                    rows.merge(a.max(b) as usize, into as usize);
                }
            }
            done = end.max(done);
            scores[index] = rows.voi(objects.iter().map(|&(_, voxels)| voxels), std::iter::empty());
        }
        scores
    }

    /// The segments that fragments make at a threshold: see [`segments`](Self::segments).
    ///
    /// # Errors
    /// Those of [`segments`](Self::segments).
    pub fn segment(&self, fragments: ArrayView3<u64>, threshold: f64) -> Result<Array3<u64>> {
        let mut segmentation = fragments.as_standard_layout().into_owned();
        self.segments(threshold)?.apply(segmentation.view_mut())?;
        Ok(segmentation)
    }
}
