//! The flood of landscapes that have few heights: with a queue for each.

use super::{Bits, CLOSED};
use crate::hash::IdMap;

/// So many heights are few.
const FEW: usize = 1 << u16::BITS;

/// The heights of a landscape by number, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Levels {
    /// That of each voxel. What is closed has any.
    pub of: Vec<u16>,
    /// How many there are.
    pub count: usize,
}

impl Levels {
    /// The levels of heights, if those are few.
    pub fn new(heights: &[u32]) -> Option<Self> {
        // Those of bytes are low as they are.
        let is_low = |height: u32| height < FEW as u32 || height == CLOSED;
        if heights.iter().fold(true, |all, &height| all & is_low(height)) {
            let open = heights.iter().filter(|&&height| height != CLOSED);
            let count = open.max().map_or(1, |&highest| highest as usize + 1);
            let of = heights.iter().map(|&height| height as u16).collect();
            return Some(Self { of, count });
        }
        let mut known: IdMap<u32, u16> = IdMap::default();
        let mut of = Vec::with_capacity(heights.len());
        let mut last = (CLOSED, 0);
        for &height in heights {
            if height != last.0 && height != CLOSED {
                let next = known.len();
                last = (height, *known.entry(height).or_insert(next as u16));
                if known.len() > FEW {
                    return None;
                }
            }
            of.push(last.1);
        }
        let mut sorted: Vec<(u32, u16)> = known.into_iter().collect();
        sorted.sort_unstable();
        let mut levels = vec![0; sorted.len().max(1)];
        for (level, (_, number)) in sorted.iter().enumerate() {
            levels[usize::from(*number)] = level as u16;
        }
        of.iter_mut()
            .for_each(|number| *number = levels[usize::from(*number)]);
        Some(Self {
            of,
            count: levels.len(),
        })
    }

    /// Labels what is flooded. Those of the seeds are there already.
    pub fn flood(self, labels: &mut [u32], steps: &[isize]) {
        if self.count <= 1 << u8::BITS {
            // Of half the bytes twice as many stay in the cache.
            let of: Vec<u8> = self.of.iter().map(|&level| level as u8).collect();
            drop(self.of);
            flood(&of, self.count, labels, steps);
        } else {
            flood(&self.of, self.count, labels, steps);
        }
    }
}

fn flood<L: Copy + Into<usize>>(levels: &[L], count: usize, labels: &mut [u32], steps: &[isize]) {
    let mut queues = vec![Queue::default(); count];
    // The levels whose queues may have something.
    let mut waiting = Bits::new(count);
    // A bit for each voxel stays in the cache, where labels would not: those are written only.
    let mut open = Bits::new(labels.len());
    for (p, (&label, &level)) in labels.iter().zip(levels).enumerate() {
        if label == 0 {
            open.insert(p);
        } else if label != CLOSED {
            let level: usize = level.into();
            queues[level].voxels.push((p as u32, label));
            waiting.insert(level);
        }
    }
    let mut lowest = 0;
    loop {
        let queue = &mut queues[lowest];
        let Some(&(p, label)) = queue.voxels.get(queue.next) else {
            queue.voxels.clear();
            queue.next = 0;
            waiting.remove(lowest);
            // There is none below.
            let Some(next) = waiting.first_from(lowest) else {
                return;
            };
            lowest = next;
            continue;
        };
        queue.next += 1;
        let neighbour = |i: usize| (p as usize).wrapping_add_signed(steps[i]);
        let mut reached = 0u32;
        for i in 0..steps.len() {
            reached |= u32::from(open.contains(neighbour(i))) << i;
        }
        while reached != 0 {
            let q = neighbour(reached.trailing_zeros() as usize);
            reached &= reached - 1;
            open.remove(q);
            labels[q] = label;
            let level: usize = levels[q].into();
            queues[level].voxels.push((q as u32, label));
            waiting.insert(level);
            lowest = lowest.min(level);
        }
    }
}

/// Voxels that wait, and their labels: from `next` on.
#[derive(Default, Clone)]
struct Queue {
    voxels: Vec<(u32, u32)>,
    next: usize,
}
