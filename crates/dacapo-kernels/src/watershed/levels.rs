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
    pub fn flood(&self, labels: &mut [u32], steps: &[isize]) {
        let mut queues = Queues::new(self.count);
        // A bit for each voxel stays in the cache, where labels would not: those are written only.
        let mut open = Bits::new(labels.len());
        for (p, (&label, &level)) in labels.iter().zip(&self.of).enumerate() {
            if label == 0 {
                open.insert(p);
            } else if label != CLOSED {
                queues.push(level, (p as u32, label));
            }
        }
        while let Some((p, label)) = queues.pop() {
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
                queues.push(self.of[q], (q as u32, label));
            }
        }
    }
}

/// A queue for each level, and which of them have something.
struct Queues {
    queues: Vec<Queue>,
    /// The level that is being emptied: none below it has any.
    lowest: usize,
    /// A bit for each level, a bit for each 64 of these that has any set, and so on.
    waiting: Vec<Vec<u64>>,
}

/// Voxels that wait, and their labels: from `next` on.
#[derive(Default, Clone)]
struct Queue {
    voxels: Vec<(u32, u32)>,
    next: usize,
}

impl Queues {
    fn new(count: usize) -> Self {
        let mut waiting = vec![vec![0; count.div_ceil(64)]];
        while let Some(last) = waiting.last().filter(|last| last.len() > 1) {
            let words = last.len().div_ceil(64);
            waiting.push(vec![0; words]);
        }
        Self {
            queues: vec![Queue::default(); count],
            lowest: 0,
            waiting,
        }
    }

    #[inline]
    fn push(&mut self, level: u16, voxel: (u32, u32)) {
        let mut level = usize::from(level);
        self.lowest = self.lowest.min(level);
        let queue = &mut self.queues[level];
        queue.voxels.push(voxel);
        if queue.voxels.len() > 1 {
            return;
        }
        for words in &mut self.waiting {
            let word = &mut words[level / 64];
            *word |= 1 << (level % 64);
            level /= 64;
        }
    }

    /// Of the lowest level that has any, the one that has waited longest.
    #[inline]
    fn pop(&mut self) -> Option<(u32, u32)> {
        loop {
            let queue = &mut self.queues[self.lowest];
            if let Some(&voxel) = queue.voxels.get(queue.next) {
                queue.next += 1;
                return Some(voxel);
            }
            self.leave_lowest()?;
        }
    }

    /// Goes on to the next level that has any.
    fn leave_lowest(&mut self) -> Option<()> {
        let mut level = self.lowest;
        self.queues[level].voxels.clear();
        self.queues[level].next = 0;
        for words in &mut self.waiting {
            let word = &mut words[level / 64];
            *word &= !(1 << (level % 64));
            if *word != 0 {
                break;
            }
            level /= 64;
        }
        let mut next = 0;
        for words in self.waiting.iter().rev() {
            let word = words[next];
            if word == 0 {
                return None;
            }
            next = next * 64 + word.trailing_zeros() as usize;
        }
        self.lowest = next;
        Some(())
    }
}
