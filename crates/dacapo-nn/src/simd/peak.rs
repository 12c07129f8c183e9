//! What the CPU does at most: multiplications with addition that wait for nothing, not even for memory.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::{InstructionSet, Job, Vector};

/// Sums that are worked on at once: enough for two units of five cycles' latency, with sixteen registers.
const SUMS: usize = 12;
/// Rounds between looks at the clock.
const ROUNDS: usize = 1 << 14;

struct Rounds<'a> {
    multiplications: &'a mut u64,
    result: &'a mut f32,
}

impl Job for Rounds<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: whoever runs a job has made sure of the instructions; there are no pointers but to an array of the
        // length of the longest vector.
        unsafe {
            let (factor, addend) = (V::splat(0.999), V::splat(std::hint::black_box(1e-3)));
            let mut sums = [addend; SUMS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = sum.fma(factor, addend);
                }
            }
            let mut total = sums[0];
            for sum in &sums[1..] {
                total = total.add(*sum);
            }
            let mut out = [0f32; 16];
            total.store(out.as_mut_ptr());
            *self.result += out[0];
        }
        *self.multiplications += (ROUNDS * SUMS * V::LANES) as u64;
    }
}

/// Multiplications (each with an addition) a second, on all threads of the current pool together.
pub(crate) fn measure(set: InstructionSet, time: Duration) -> f64 {
    let rate = |_| {
        let begin = Instant::now();
        let (mut multiplications, mut result) = (0, 0.0);
        while begin.elapsed() < time {
            set.run(Rounds {
                multiplications: &mut multiplications,
                result: &mut result,
            });
        }
        std::hint::black_box(result);
        multiplications as f64 / begin.elapsed().as_secs_f64()
    };
    (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(rate)
        .sum()
}
