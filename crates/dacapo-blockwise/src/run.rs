//! Running a closure over a grid, on a few threads, and never calling it done when it is not.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{Block, BlockGrid};

/// Watches a run, and may end it. `()` does neither.
pub trait BlockObserver: Sync {
    /// `done` of `total` blocks are finished, failed ones among them. Called once a block, with `done` ascending.
    fn finished(&self, done: usize, total: usize) {
        let _ = (done, total);
    }

    /// Whether no further block shall begin. Asked before each.
    fn cancelled(&self) -> bool {
        false
    }
}

impl BlockObserver for () {}

/// How a run ended in which no block failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a cancelled run is not a finished one"]
pub enum Outcome {
    /// Every block is done.
    Finished {
        /// How many there were.
        blocks: usize,
    },
    /// The observer ended it between blocks.
    Cancelled {
        /// Blocks that are done.
        done: usize,
        /// Blocks that there are.
        total: usize,
    },
}

/// A run in which blocks failed.
#[derive(Debug)]
pub struct Failed<E> {
    /// The blocks that failed, in the order of the grid, each with its error. Never empty.
    pub blocks: Vec<(Block, E)>,
    /// Blocks that are done.
    pub done: usize,
    /// Blocks that there are. Those neither done nor failed were never begun: the run was cancelled.
    pub total: usize,
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, total, .. } = self;
        write!(f, "{} of {total} blocks failed", blocks.len())?;
        match blocks.first() {
            Some((block, error)) => {
                write!(
                    f,
                    "; the first, block {} at {}: {error}",
                    block.index, block.write_roi
                )
            }
            None => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Failed<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.blocks.first().map(|(_, error)| error as _)
    }
}

/// Calls `work` once for each block of `grid`, on `threads` threads (at least one, and no more than blocks), which
/// begin blocks in the order of the grid. With one thread everything happens on the caller's.
///
/// A block that fails does not keep the others from running. Where its error means that all will fail, as a full
/// disk does, let the observer cancel from there.
///
/// `work` may use rayon: blocks are not run inside its pool, so that a block that waits for its parts never
/// begins another one meanwhile, and memory stays that of `threads` blocks.
///
/// # Errors
/// [`Failed`] if any block failed, cancelled or not.
///
/// # Panics
/// If `work` does, once the blocks that have begun are done.
pub fn run_blocks<E: Send>(
    grid: &BlockGrid,
    threads: usize,
    observer: &dyn BlockObserver,
    work: impl Fn(&Block) -> Result<(), E> + Sync,
) -> Result<Outcome, Failed<E>> {
    let total = grid.len();
    let next = AtomicUsize::new(0);
    let finished = Mutex::new((0, Vec::new()));
    let worker = || {
        while !observer.cancelled() {
            let Some(block) = grid.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let result = work(&block);
            // The observer is called under the lock, so that it sees the count ascend.
            let mut finished = finished.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, failed) = &mut *finished;
            *count += 1;
            if let Err(error) = result {
                tracing::warn!(block = block.index, write_roi = %block.write_roi, "a block failed");
                failed.push((block, error));
            }
            observer.finished(*count, total);
        }
    };
    match threads.min(total) {
        0 | 1 => worker(),
        threads => thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(worker);
            }
        }),
    }
    let (count, mut blocks) = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = count - blocks.len();
    if !blocks.is_empty() {
        blocks.sort_unstable_by_key(|(block, _)| block.index);
        return Err(Failed { blocks, done, total });
    }
    Ok(if done == total {
        Outcome::Finished { blocks: total }
    } else {
        Outcome::Cancelled { done, total }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use dacapo_array::{Coordinate, Roi};

    use super::*;

    fn grid() -> BlockGrid {
        let total = Roi::new(Coordinate::new([0, 0]), Coordinate::new([50, 30]));
        let none = Coordinate::new([0, 0]);
        BlockGrid::new(
            total,
            Coordinate::new([10, 10]),
            none.clone(),
            none,
            Coordinate::new([1, 1]),
        )
        .unwrap()
    }

    /// Keeps what it was told, and cancels once `stop_at` blocks are finished.
    struct Watch {
        seen: Mutex<Vec<(usize, usize)>>,
        stop_at: usize,
        stopped: AtomicBool,
    }

    impl Watch {
        fn stopping_at(stop_at: usize) -> Self {
            Self {
                seen: Mutex::default(),
                stop_at,
                stopped: AtomicBool::new(stop_at == 0),
            }
        }
    }

    impl BlockObserver for Watch {
        fn finished(&self, done: usize, total: usize) {
            self.seen.lock().unwrap().push((done, total));
            if done >= self.stop_at {
                self.stopped.store(true, Ordering::SeqCst);
            }
        }
        fn cancelled(&self) -> bool {
            self.stopped.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn every_block_is_worked_on_once_and_reported() {
        for threads in [0, 1, 2, 7, 100] {
            let seen = Mutex::new(Vec::new());
            let watch = Watch::stopping_at(usize::MAX);
            let outcome = run_blocks(&grid(), threads, &watch, |block| {
                seen.lock().unwrap().push(block.index);
                Ok::<(), ()>(())
            });
            assert_eq!(outcome.unwrap(), Outcome::Finished { blocks: 15 });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..15).collect::<Vec<_>>());
            let reported = watch.seen.into_inner().unwrap();
            assert_eq!(reported, (1..=15).map(|done| (done, 15)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn failures_are_collected_in_order_and_never_success() {
        for threads in [1, 3] {
            let work = |block: &Block| {
                if block.index % 4 == 3 {
                    Err(std::io::Error::other(format!("no {}", block.index)))
                } else {
                    Ok(())
                }
            };
            let failed = run_blocks(&grid(), threads, &(), work).unwrap_err();
            let indices: Vec<_> = failed.blocks.iter().map(|(block, _)| block.index).collect();
            assert_eq!((indices, failed.done, failed.total), (vec![3, 7, 11], 12, 15));
            assert_eq!(
                failed.to_string(),
                "3 of 15 blocks failed; the first, block 3 at [10:20, 0:10]: no 3"
            );
            let all = run_blocks(&grid(), threads, &(), |_| Err::<(), _>("no")).unwrap_err();
            assert_eq!((all.blocks.len(), all.done), (15, 0));
        }
    }

    #[test]
    fn a_cancelled_run_is_not_a_finished_one() {
        let ok = |_: &Block| Ok::<(), ()>(());
        let cancelled = run_blocks(&grid(), 1, &Watch::stopping_at(4), ok).unwrap();
        assert_eq!(cancelled, Outcome::Cancelled { done: 4, total: 15 });
        let at_once = run_blocks(&grid(), 3, &Watch::stopping_at(0), ok).unwrap();
        assert_eq!(at_once, Outcome::Cancelled { done: 0, total: 15 });
        // Cancelled behind the last block: nothing is missing.
        let late = run_blocks(&grid(), 1, &Watch::stopping_at(15), ok).unwrap();
        assert_eq!(late, Outcome::Finished { blocks: 15 });
        let failed = run_blocks(&grid(), 1, &Watch::stopping_at(4), |_| Err::<(), _>("no")).unwrap_err();
        assert_eq!((failed.blocks.len(), failed.done, failed.total), (4, 0, 15));
    }

    #[test]
    fn blocks_run_at_the_same_time() {
        let barrier = std::sync::Barrier::new(2);
        let total = Roi::new(Coordinate::new([0]), Coordinate::new([2]));
        let (one, none) = (Coordinate::new([1]), Coordinate::new([0]));
        let grid = BlockGrid::new(total, one.clone(), none.clone(), none, one).unwrap();
        let outcome = run_blocks(&grid, 2, &(), |_| {
            barrier.wait();
            Ok::<(), ()>(())
        });
        assert_eq!(outcome.unwrap(), Outcome::Finished { blocks: 2 });
    }
}
