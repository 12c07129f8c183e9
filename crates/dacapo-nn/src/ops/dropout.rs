//! Dropout (Srivastava et al. 2014) from counter-based randomness: whether a value is dropped is a function of the
//! network's seed, the batch's number, the layer and the value's place, so nothing is kept for the backward pass.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Needs, Op, Pass, Site};
use crate::Result;
use crate::cpu::params::Params;
use crate::init::mix;

/// Values that one task works on. Even: two values share a random number.
const CHUNK: usize = 1 << 14;

/// In training, sets a share of the values to 0 and scales the others up, so that the mean stays; otherwise does
/// nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// Share that is dropped, at least 0 and below 1.
    pub(crate) rate: f64,
    /// Tells the network's layers apart.
    pub(crate) layer: u64,
}

impl Dropout {
    /// Random numbers of 32 bits below it drop their value.
    pub(crate) fn limit(&self) -> u32 {
        (self.rate * f64::from(u32::MAX)).round() as u32
    }

    /// Factor of the values that stay.
    pub(crate) fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }

    /// Where the layer's random numbers begin in a batch of a stream ([`Pass::stream`]): those of values 2i and 2i + 1
    /// are the lower and the upper half of `mix` of this + i.
    pub(crate) fn counter(&self, stream: u64) -> u64 {
        mix(stream ^ mix(self.layer))
    }
}

impl Op for Dropout {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, _: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(DropoutKernel { op: *self, stream: 0 }))
    }
}

struct DropoutKernel {
    op: Dropout,
    /// Of the last forward pass.
    stream: u64,
}

impl DropoutKernel {
    /// Drops values, or scales them.
    fn apply(&self, values: &mut [f32]) {
        let counter = self.op.counter(self.stream);
        let (limit, scale) = (self.op.limit(), self.op.scale());
        let factor = |bits: u32| if bits < limit { 0.0 } else { scale };
        let chunks = values.par_chunks_mut(CHUNK);
        chunks.enumerate().for_each(|(i, values)| {
            let first = (i * CHUNK / 2) as u64;
            for (pair, values) in values.chunks_mut(2).enumerate() {
                let bits = mix(counter.wrapping_add(first + pair as u64));
                values[0] *= factor(bits as u32);
                if let [_, value] = values {
                    *value *= factor((bits >> 32) as u32);
                }
            }
        });
    }
}

impl Kernel for DropoutKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, pass: Pass) {
        output.copy_from_slice(inputs[0]);
        if pass.mode == Mode::Train {
            self.stream = pass.stream;
            self.apply(output);
        }
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: false,
        }
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        self.apply(step.gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    fn dropped(rate: f64, layer: u64, stream: u64, from: &[f32]) -> Vec<f32> {
        let op = Dropout { rate, layer };
        let kernel = DropoutKernel { op, stream };
        let mut values = from.to_vec();
        kernel.apply(&mut values);
        values
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Dropout { rate: 0.4, layer: 1 }, &[(3, [3, 3, 5])], 1);
    }

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        let from = vec![1.0; 200_001];
        for rate in [0.0, 0.1, 0.5, 0.9] {
            let to = dropped(rate, 3, 7, &from);
            let share = to.iter().filter(|&&y| y == 0.0).count() as f64 / from.len() as f64;
            // Five standard deviations of a binomial's share.
            let tolerance = 5.0 * (rate * (1.0 - rate) / from.len() as f64).sqrt();
            assert!((share - rate).abs() <= tolerance, "{share} of {rate}");
            let kept = (1.0 / (1.0 - rate)) as f32;
            assert!(to.iter().all(|&y| y == 0.0 || y == kept), "{rate}");
        }
    }

    /// Neighbours, and the same place in another layer or batch, are dropped independently.
    #[test]
    fn places_layers_and_batches_are_independent() {
        let from = vec![1.0; 100_000];
        let a = dropped(0.5, 3, 7, &from);
        let shifted: Vec<f32> = a[1..].iter().chain(&a[..1]).copied().collect();
        for other in [dropped(0.5, 4, 7, &from), dropped(0.5, 3, 8, &from), shifted] {
            let both = a
                .iter()
                .zip(&other)
                .filter(|&(&a, &b)| a == 0.0 && b == 0.0)
                .count();
            assert!((24_000..26_000).contains(&both), "{both}");
        }
        assert_eq!(a, dropped(0.5, 3, 7, &from));
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let from: Vec<f32> = (0..100_003).map(|i| i as f32).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| dropped(0.3, 1, 2, &from))
        };
        let one = run(1);
        [2, 3, 8].iter().for_each(|&threads| assert!(run(threads) == one));
    }
}
