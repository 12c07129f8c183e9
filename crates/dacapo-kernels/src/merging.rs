//! A contingency table whose segments merge, with its variation of information kept up to date.

use crate::Voi;
use crate::entropy::information;
use crate::hash::IdMap;

/// What each segment shares with the true objects, which go by numbers; and the sums that the variation of information
/// follows from. As they are integers, they are what a table made anew would have.
///
/// What a segment adds to the sums is taken away when it first changes, and added anew when they are asked for: of
/// thousands of merges between, each is a sum of two sizes.
#[derive(Debug, Default)]
pub(crate) struct MergingTable {
    /// The voxels of each segment.
    sizes: Vec<u64>,
    /// The object that a segment shares all of these with, or [`MANY`].
    objects: Vec<u32>,
    /// What the others share with each object.
    many: IdMap<u32, IdMap<u32, u64>>,
    /// Segments that are not in the sums, and whether each one is.
    changed: Vec<u32>,
    has_changed: Vec<bool>,
    segments: i128,
    shared: i128,
    /// Information of small numbers, which are the most.
    known: Vec<i128>,
}

const MANY: u32 = u32::MAX;
const KNOWN: u64 = 4096;

impl MergingTable {
    /// So many segments that share nothing yet.
    pub fn new(segments: usize) -> Self {
        Self {
            sizes: vec![0; segments],
            objects: vec![0; segments],
            has_changed: vec![false; segments],
            known: (0..KNOWN).map(information).collect(),
            ..Self::default()
        }
    }

    /// Adds voxels of an object to a segment.
    pub fn add(&mut self, segment: usize, object: u32, voxels: u64) {
        if voxels == 0 {
            return;
        }
        self.change(segment);
        if self.sizes[segment] == 0 {
            self.objects[segment] = object;
        } else if self.objects[segment] == MANY {
            let objects = self.many.entry(segment as u32).or_default();
            *objects.entry(object).or_insert(0) += voxels;
        } else if self.objects[segment] != object {
            let mut objects = self.take_objects(segment);
            *objects.entry(object).or_insert(0) += voxels;
            self.put_objects(segment, objects);
        }
        self.sizes[segment] += voxels;
    }

    /// Makes one segment of two.
    pub fn merge(&mut self, from: usize, into: usize) {
        if self.sizes[from] == 0 {
            return;
        }
        self.change(from);
        self.change(into);
        if self.sizes[into] == 0 {
            self.objects[into] = self.objects[from];
            if let Some(objects) = self.many.remove(&(from as u32)) {
                self.many.insert(into as u32, objects);
            }
        } else if self.objects[from] != self.objects[into] || self.objects[into] == MANY {
            let (a, b) = (self.take_objects(from), self.take_objects(into));
            let (mut more, less) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (object, voxels) in less {
                *more.entry(object).or_insert(0) += voxels;
            }
            self.put_objects(into, more);
        }
        self.sizes[into] += std::mem::take(&mut self.sizes[from]);
    }

    /// What a segment shares with each object, taken out of it.
    fn take_objects(&mut self, segment: usize) -> IdMap<u32, u64> {
        let object = self.objects[segment];
        if object == MANY {
            return self.many.remove(&(segment as u32)).unwrap_or_default();
        }
        [(object, self.sizes[segment])].into_iter().collect()
    }

    fn put_objects(&mut self, segment: usize, objects: IdMap<u32, u64>) {
        self.objects[segment] = MANY;
        self.many.insert(segment as u32, objects);
    }

    /// Takes a segment out of the sums until they are asked for.
    #[inline]
    fn change(&mut self, segment: usize) {
        if !std::mem::replace(&mut self.has_changed[segment], true) {
            self.changed.push(segment as u32);
            if self.sizes[segment] > 0 {
                let [size, shared] = self.adds(segment);
                self.segments -= size;
                self.shared -= shared;
            }
        }
    }

    /// What a segment adds to the sums.
    fn adds(&self, segment: usize) -> [i128; 2] {
        let size = self.of(self.sizes[segment]);
        if self.objects[segment] != MANY {
            return [size, size];
        }
        let objects = self.many.get(&(segment as u32));
        let shared = objects.into_iter().flat_map(|objects| objects.values());
        [size, shared.map(|&voxels| self.of(voxels)).sum()]
    }

    #[inline]
    fn of(&self, n: u64) -> i128 {
        self.known
            .get(n as usize)
            .copied()
            .unwrap_or_else(|| information(n))
    }

    /// The variation of information, with objects of these sizes and a further segment that shares these numbers of
    /// voxels with them.
    pub fn voi(
        &mut self,
        objects: impl Iterator<Item = u64>,
        rest: impl Iterator<Item = u64>,
    ) -> Option<Voi> {
        for segment in std::mem::take(&mut self.changed) {
            self.has_changed[segment as usize] = false;
            if self.sizes[segment as usize] > 0 {
                let [size, shared] = self.adds(segment as usize);
                self.segments += size;
                self.shared += shared;
            }
        }
        let (mut of_objects, mut total) = (0, 0);
        for voxels in objects {
            of_objects += self.of(voxels);
            total += voxels;
        }
        let (mut shared, mut size) = (self.shared, 0);
        for voxels in rest {
            shared += self.of(voxels);
            size += voxels;
        }
        Voi::new(of_objects, self.segments + self.of(size), shared, total)
    }
}
