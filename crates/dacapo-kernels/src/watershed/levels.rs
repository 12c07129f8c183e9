//! The flood of landscapes that have few heights: with a queue for each.

/// So many heights are few.
const LEVELS: usize = 256;

/// Voxels of a height that wait, from the first that is left.
#[derive(Default)]
struct Queue {
    voxels: Vec<(u32, u32)>,
    next: usize,
}

/// Labels what is flooded: what is 0 and not closed. Those of the seeds are there already.
pub(super) fn flood(levels: &[u8], labels: &mut [u32], steps: &[isize]) {
    let mut queues: Vec<Queue> = (0..LEVELS).map(|_| Queue::default()).collect();
    let mut open = vec![0u64; labels.len().div_ceil(64)];
    for (p, (&label, &level)) in labels.iter().zip(levels).enumerate() {
        if label == 0 {
            open[p / 64] |= 1 << (p % 64);
        } else if label != super::CLOSED {
            queues[usize::from(level)].voxels.push((p as u32, label));
        }
    }
    let mut level = 0;
    while level < LEVELS {
        let queue = &mut queues[level];
        let Some(&(p, label)) = queue.voxels.get(queue.next) else {
            queue.next = 0;
            queue.voxels.clear();
            level += 1;
            continue;
        };
        queue.next += 1;
        let mut found = 0u32;
        for (i, &step) in steps.iter().enumerate() {
            let q = (p as usize).wrapping_add_signed(step);
            found |= ((open[q / 64] >> (q % 64)) as u32 & 1) << i;
        }
        while found != 0 {
            let q = (p as usize).wrapping_add_signed(steps[found.trailing_zeros() as usize]);
            found &= found - 1;
            open[q / 64] &= !(1 << (q % 64));
            labels[q] = label;
            let reached = usize::from(levels[q]);
            queues[reached].voxels.push((q as u32, label));
            level = level.min(reached);
        }
    }
}
