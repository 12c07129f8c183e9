//! Whose turn it is: of edges that are sorted group by group, the next ones under a bias for each.

use super::{Affinity, Sorted};

/// The edges of a group on one side of its bias, largest magnitude first.
pub(super) struct Run<'a> {
    left: Left<'a>,
    bias: f32,
    joins: bool,
    /// That of the next edge; 0 at the end.
    magnitude: f32,
}

enum Left<'a> {
    Each(&'a [u64]),
    /// The places from `low` to `high` are left. The next one is of `level`.
    Levels {
        places: &'a [u32],
        starts: &'a [usize],
        low: usize,
        high: usize,
        level: usize,
    },
}

/// An edge whose turn it is.
pub(super) struct Edge {
    /// Channel × voxels + voxel.
    pub place: u32,
    /// Or parts.
    pub joins: bool,
}

/// The ends of so many edges are looked up at once, at most.
pub(super) const AHEAD: usize = 64;

/// Takes the next edges of the run whose turn it is, as many as are before those of all others; false if there are none.
/// Of equal magnitudes, the first run is first.
pub(super) fn take_next(runs: &mut [Run], edges: &mut Vec<Edge>) -> bool {
    let mut next = 0;
    for i in 1..runs.len() {
        if runs[i].magnitude > runs[next].magnitude {
            next = i;
        }
    }
    if runs.get(next).is_none_or(|run| run.magnitude <= 0.0) {
        return false;
    }
    let most = |runs: &[Run]| runs.iter().fold(0.0, |most: f32, run| most.max(run.magnitude));
    let (before, behind) = (most(&runs[..next]), most(&runs[next + 1..]));
    runs[next].take(before, behind, edges);
    true
}

impl<'a> Run<'a> {
    pub fn new(edges: &'a Sorted, bias: f32, joins: bool) -> Self {
        let left = match edges {
            Sorted::Each(edges) => Left::Each(edges),
            Sorted::Levels { places, starts } => {
                let level = if joins { 255 } else { 0 };
                Left::Levels {
                    places,
                    starts,
                    low: 0,
                    high: places.len(),
                    level,
                }
            }
        };
        let mut run = Self {
            left,
            bias,
            joins,
            magnitude: 0.0,
        };
        run.measure();
        run
    }

    fn measure(&mut self) {
        let next = match &mut self.left {
            Left::Each(edges) => {
                let next = if self.joins { edges.last() } else { edges.first() };
                next.map(|edge| affinity((edge >> 32) as u32))
            }
            Left::Levels {
                starts,
                low,
                high,
                level,
                ..
            } => (low < high).then(|| {
                // The level of the place before `high`, or at `low`.
                if self.joins {
                    while starts[*level] >= *high {
                        *level -= 1;
                    }
                } else {
                    while starts[*level + 1] <= *low {
                        *level += 1;
                    }
                }
                (*level as u8).value()
            }),
        };
        self.magnitude = next.map_or(0.0, |affinity| self.magnitude_of(affinity));
    }

    fn magnitude_of(&self, affinity: f32) -> f32 {
        let above = affinity - self.bias;
        if self.joins { above } else { -above }
    }

    /// Takes the next edges of a run that has some, as long as their magnitude is above `before` and not below
    /// `behind`, as that of the first one is, and there is room.
    fn take(&mut self, before: f32, behind: f32, edges: &mut Vec<Edge>) {
        let (had, room, joins) = (edges.len(), AHEAD - edges.len(), self.joins);
        let edge = |place| Edge { place, joins };
        let of = |&pair: &u64| edge(pair as u32);
        let counts = |pair: &&u64| {
            let magnitude = self.magnitude_of(affinity((*pair >> 32) as u32));
            magnitude > before && magnitude >= behind
        };
        match (&self.left, joins) {
            (Left::Each(left), true) => {
                edges.extend(left.iter().rev().take(room).take_while(counts).map(of));
            }
            (Left::Each(left), false) => {
                edges.extend(left.iter().take(room).take_while(counts).map(of));
            }
            (
                Left::Levels {
                    places,
                    starts,
                    high,
                    level,
                    ..
                },
                true,
            ) => {
                let begin = starts[*level].max(high.saturating_sub(room));
                edges.extend(places[begin..*high].iter().rev().map(|&place| edge(place)));
            }
            (
                Left::Levels {
                    places,
                    starts,
                    low,
                    level,
                    ..
                },
                false,
            ) => {
                let end = starts[*level + 1].min(low + room);
                edges.extend(places[*low..end].iter().map(|&place| edge(place)));
            }
        }
        let taken = edges.len() - had;
        match (&mut self.left, self.joins) {
            (Left::Each(left), true) => *left = &left[..left.len() - taken],
            (Left::Each(left), false) => *left = &left[taken..],
            (Left::Levels { high, .. }, true) => *high -= taken,
            (Left::Levels { low, .. }, false) => *low += taken,
        }
        self.measure();
    }
}

/// The number whose [`sortable`](crate::watershed::sortable) bits these are.
fn affinity(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}
