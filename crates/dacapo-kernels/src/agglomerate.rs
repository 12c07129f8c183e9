//! Merging fragments in the order of their mean affinity: one history that holds every threshold.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip};

use crate::Result;
use crate::contacts::{Contact, contacts};
use crate::offsets::Offset;
use crate::union_find::UnionFind;

/// Two regions that became one, each given by a fragment in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// A fragment of the one.
    pub a: u64,
    /// A fragment of the other.
    pub b: u64,
    /// The mean affinity of their contact when they merged.
    pub mean: f64,
}

/// Every merge of fragments that touch, in the order in which they happen as the threshold falls.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeHistory {
    merges: Vec<Merge>,
}

/// The history of merging `fragments` by the affinities of some offsets.
///
/// # Errors
/// If offsets, channels and shapes do not fit each other.
pub fn agglomerate(
    fragments: ArrayView3<u64>,
    affinities: ArrayView4<f32>,
    offsets: &[Offset],
) -> Result<MergeHistory> {
    Ok(MergeHistory::new(&contacts(fragments, affinities, offsets)?))
}

/// The sum and number of the affinities across a contact.
type Evidence = (f64, u64);

/// A contact that may be next; out of date if it has grown or gone since.
struct Candidate {
    mean: f64,
    a: u32,
    b: u32,
    count: u64,
}

impl Candidate {
    fn new(a: u32, b: u32, (sum, count): Evidence) -> Self {
        let mean = sum / count as f64;
        Self {
            mean,
            a: a.min(b),
            b: a.max(b),
            count,
        }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let names = (other.a, other.b).cmp(&(self.a, self.b));
        self.mean
            .total_cmp(&other.mean)
            .then(names)
            .then(self.count.cmp(&other.count))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl MergeHistory {
    /// Merges the pair with the highest mean affinity, adds up the contacts of the two with each neighbour, and
    /// so on until nothing touches. The mean does not rise on the way: that of a joint contact lies between
    /// those it is made of.
    ///
    /// Of equal means, the one of lower fragments is first, where a region goes by one of its fragments: that of
    /// the part that had more neighbours when the parts merged, the lower one if they had the same number.
    pub fn new(contacts: &[Contact]) -> Self {
        let contacts = || {
            contacts
                .iter()
                .filter(|contact| contact.a != contact.b && contact.count > 0)
        };
        let mut ids: Vec<u64> = contacts().flat_map(|contact| [contact.a, contact.b]).collect();
        ids.sort_unstable();
        ids.dedup();
        let numbers: HashMap<u64, u32> = ids.iter().copied().zip(0..).collect();

        let mut neighbours: Vec<HashMap<u32, Evidence>> = vec![HashMap::new(); ids.len()];
        for contact in contacts() {
            let (a, b) = (numbers[&contact.a], numbers[&contact.b]);
            for (from, to) in [(a, b), (b, a)] {
                add(&mut neighbours[from as usize], to, (contact.sum, contact.count));
            }
        }
        let mut heap = BinaryHeap::new();
        for (a, table) in (0..).zip(&neighbours) {
            let later = table.iter().filter(|&(&b, _)| a < b);
            heap.extend(later.map(|(&b, &evidence)| Candidate::new(a, b, evidence)));
        }

        let mut merges = Vec::new();
        while let Some(Candidate { mean, a, b, count }) = heap.pop() {
            let current = neighbours[a as usize].get(&b);
            if current.is_none_or(|current| current.1 != count) {
                continue;
            }
            merges.push(Merge {
                a: ids[a as usize],
                b: ids[b as usize],
                mean,
            });
            // The region with fewer neighbours moves into the other: each contact moves O(log n) times.
            let more = neighbours[b as usize].len() > neighbours[a as usize].len();
            let (stays, goes) = if more { (b, a) } else { (a, b) };
            let moved = std::mem::take(&mut neighbours[goes as usize]);
            neighbours[stays as usize].remove(&goes);
            for (other, evidence) in moved.into_iter().filter(|&(other, _)| other != stays) {
                neighbours[other as usize].remove(&goes);
                let joint = add(&mut neighbours[stays as usize], other, evidence);
                neighbours[other as usize].insert(stays, joint);
                heap.push(Candidate::new(stays, other, joint));
            }
        }
        Self { merges }
    }

    /// The merges, highest mean first.
    pub fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The segments that fragments make when every pair merges whose mean affinity is at least `threshold`.
    /// A segment has the id of its smallest fragment.
    pub fn segment(&self, fragments: ArrayView3<u64>, threshold: f64) -> Array3<u64> {
        let merges = self.merges.iter().take_while(|merge| merge.mean >= threshold);
        let pairs: Vec<[u64; 2]> = merges.map(|merge| [merge.a, merge.b]).collect();
        let mut ids = pairs.concat();
        ids.sort_unstable();
        ids.dedup();
        let numbers: HashMap<u64, u32> = ids.iter().copied().zip(0..).collect();
        let mut sets = UnionFind::new(ids.len() as u32);
        for [a, b] in pairs {
            sets.union(numbers[&a], numbers[&b]);
        }
        // Numbers are in the order of ids, so the smallest number of a set is its smallest id.
        let segments: HashMap<u64, u64> = ids
            .iter()
            .zip(0..)
            .map(|(&id, number)| (id, ids[sets.find(number) as usize]))
            .collect();

        let mut segmentation = Array3::zeros(fragments.raw_dim());
        let planes = segmentation.axis_iter_mut(Axis(0)).into_par_iter();
        planes
            .zip(fragments.axis_iter(Axis(0)))
            .for_each(|(mut plane, fragments)| {
                let mut last = (0, 0);
                Zip::from(&mut plane)
                    .and(&fragments)
                    .for_each(|segment, &fragment| {
                        if fragment != last.0 {
                            last = (fragment, segments.get(&fragment).copied().unwrap_or(fragment));
                        }
                        *segment = last.1;
                    });
            });
        segmentation
    }
}

fn add(table: &mut HashMap<u32, Evidence>, to: u32, (sum, count): Evidence) -> Evidence {
    let evidence = table.entry(to).or_default();
    *evidence = (evidence.0 + sum, evidence.1 + count);
    *evidence
}
