//! A contingency table whose segments merge, with its variation of information kept up to date.

use crate::Voi;
use crate::entropy::information;
use crate::hash::IdMap;

/// What each segment shares with the true objects, which go by numbers; and the sums that the variation of information
/// follows from. As they are integers, they are what a table made anew would have.
#[derive(Debug, Default)]
pub(crate) struct MergingTable {
    rows: Vec<Row>,
    segments: i128,
    shared: i128,
    /// Information of small numbers, which are the most.
    known: Vec<i128>,
}

/// What a segment shares with the objects.
#[derive(Debug, Default)]
#[allow(
    clippy::box_collection,
    reason = "most are of one object: the others must not make these larger"
)]
enum Row {
    /// Nothing that counts.
    #[default]
    Empty,
    /// Voxels of one object.
    One(u32, u64),
    /// Voxels of several, and how many together.
    Many(Box<IdMap<u32, u64>>, u64),
}

const KNOWN: u64 = 4096;

impl MergingTable {
    /// So many segments that share nothing yet.
    pub fn new(segments: usize) -> Self {
        let rows = std::iter::repeat_with(Row::default).take(segments).collect();
        Self {
            rows,
            segments: 0,
            shared: 0,
            known: (0..KNOWN).map(information).collect(),
        }
    }

    /// Adds voxels of an object to a segment.
    pub fn add(&mut self, segment: usize, object: u32, voxels: u64) {
        // As a segment of its own, which merges.
        self.segments += self.of(voxels);
        self.shared += self.of(voxels);
        let row = std::mem::take(&mut self.rows[segment]);
        self.rows[segment] = self.merged(row, Row::One(object, voxels));
    }

    /// Makes one segment of two.
    pub fn merge(&mut self, from: usize, into: usize) {
        let (a, b) = (
            std::mem::take(&mut self.rows[from]),
            std::mem::take(&mut self.rows[into]),
        );
        self.rows[into] = self.merged(a, b);
    }

    fn merged(&mut self, a: Row, b: Row) -> Row {
        let size = a.size() + b.size();
        self.segments += self.of(size) - self.of(a.size()) - self.of(b.size());
        match (a, b) {
            (Row::Empty, row) | (row, Row::Empty) => row,
            (Row::One(object, n), Row::One(other, m)) if object == other => {
                self.shared += self.of(n + m) - self.of(n) - self.of(m);
                Row::One(object, n + m)
            }
            (a, b) => {
                let (more, less) = if a.len() < b.len() { (b, a) } else { (a, b) };
                let mut more = match more {
                    Row::Many(objects, _) => objects,
                    Row::One(object, n) => Box::new([(object, n)].into_iter().collect::<IdMap<_, _>>()),
                    Row::Empty => Box::default(),
                };
                let mut shared = 0;
                let mut add = |object: u32, m: u64| {
                    let n = more.entry(object).or_insert(0);
                    shared += self.of(*n + m) - self.of(*n) - self.of(m);
                    *n += m;
                };
                match less {
                    Row::Many(objects, _) => objects.into_iter().for_each(|(object, m)| add(object, m)),
                    Row::One(object, m) => add(object, m),
                    Row::Empty => {}
                }
                self.shared += shared;
                Row::Many(more, size)
            }
        }
    }

    fn of(&self, n: u64) -> i128 {
        self.known
            .get(n as usize)
            .copied()
            .unwrap_or_else(|| information(n))
    }

    /// The variation of information, with objects of these sizes and a further segment that shares these numbers of
    /// voxels with them.
    pub fn voi(&self, objects: impl Iterator<Item = u64>, rest: impl Iterator<Item = u64>) -> Option<Voi> {
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

impl Row {
    fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::One(_, voxels) | Self::Many(_, voxels) => *voxels,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(..) => 1,
            Self::Many(objects, _) => objects.len(),
        }
    }
}
