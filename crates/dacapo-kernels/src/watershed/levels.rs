//! The flood of landscapes that have few heights: with a queue for each.

use super::{Bits, CLOSED};

/// So many heights are few.
const LEVELS: usize = 256;

/// The level of each voxel, if there are few: their order is that of the heights. What is closed has any.
pub(super) fn of(heights: &[u32]) -> Option<Vec<u8>> {
    if heights
        .iter()
        .all(|&height| height < LEVELS as u32 || height == CLOSED)
    {
        return Some(heights.iter().map(|&height| height as u8).collect());
    }
    let (mut known, mut last) = (Vec::new(), CLOSED);
    for &height in heights {
        if height == last || height == CLOSED {
            continue;
        }
        last = height;
        if let Err(place) = known.binary_search(&height) {
            if known.len() == LEVELS {
                return None;
            }
            known.insert(place, height);
        }
    }
    let level = |height| known.partition_point(|&lower| lower < height) as u8;
    Some(heights.iter().map(|&height| level(height)).collect())
}

/// Voxels that wait, and their labels: from `next` on.
#[derive(Default)]
struct Queue {
    voxels: Vec<(u32, u32)>,
    next: usize,
}

/// Labels what is flooded. Those of the seeds are there already, and what is closed has any.
pub(super) fn flood(levels: &[u8], labels: &mut [u32], steps: &[isize]) {
    let mut queues: [Queue; LEVELS] = std::array::from_fn(|_| Queue::default());
    // A bit for each voxel stays in the cache, where labels would not: those are written only.
    let mut open = Bits::new(labels.len());
    for (p, (&label, &level)) in labels.iter().zip(levels).enumerate() {
        if label == 0 {
            open.insert(p);
        } else if label != CLOSED {
            queues[usize::from(level)].voxels.push((p as u32, label));
        }
    }
    let mut lowest = 0;
    while lowest < LEVELS {
        let queue = &mut queues[lowest];
        let Some(&(p, label)) = queue.voxels.get(queue.next) else {
            queue.voxels.clear();
            queue.next = 0;
            lowest += 1;
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
            let level = usize::from(levels[q]);
            queues[level].voxels.push((q as u32, label));
            lowest = lowest.min(level);
        }
    }
}
