//! Sum of two buffers, the other fitted centrally to the first: residual connections and gates.

use rayon::prelude::*;

use super::rows::Centred;
use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// First input + second input, the second cropped or padded with zeros about its centre to the first's
/// shape; a ReLU behind it where asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Add {
    pub(crate) relu: bool,
}

impl Op for Add {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let [first, second] = [site.inputs[0], site.inputs[1]];
        Ok(Box::new(AddKernel {
            first,
            second,
            fit: Centred::new(second, first),
            relu: self.relu,
        }))
    }
}

struct AddKernel {
    first: Shape,
    second: Shape,
    fit: Centred,
    relu: bool,
}

/// Values of a task over tensors that are alike.
const CHUNK: usize = 1 << 14;

impl AddKernel {
    /// The second needs no fitting.
    fn alike(&self) -> bool {
        self.first.voxels == self.second.voxels
    }
}

impl Kernel for AddKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let (a, b) = (self.first.volume(), self.second.volume());
        let channels = inputs[0].par_chunks(a).zip(inputs[1].par_chunks(b));
        output
            .par_chunks_mut(a)
            .zip(channels)
            .for_each(|(sum, (first, second))| {
                let relu = |v: f32| if self.relu && v < 0.0 { 0.0 } else { v };
                if self.alike() {
                    let pairs = first.iter().zip(second);
                    let sums = sum.iter_mut().zip(pairs);
                    return sums.for_each(|(sum, (x, y))| *sum = relu(x + y));
                }
                sum.copy_from_slice(first);
                self.fit.rows(second, sum, |from, to| {
                    to.iter_mut().zip(from).for_each(|(y, x)| *y += x)
                });
                if self.relu {
                    sum.iter_mut().for_each(|y| *y = relu(*y));
                }
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: self.relu,
        }
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let (a, b) = (self.first.volume(), self.second.volume());
        if let (true, [_, Some(second)]) = (self.alike(), &mut *step.input_gradients) {
            // In one pass, since it is memory that is waited for.
            let pairs = step
                .gradient
                .par_chunks_mut(CHUNK)
                .zip(second.par_chunks_mut(CHUNK));
            if !self.relu {
                return pairs.for_each(|(gradient, second)| second.copy_from_slice(gradient));
            }
            let chunks = pairs.zip(step.output.par_chunks(CHUNK));
            return chunks.for_each(|((gradient, second), output)| {
                let pairs = gradient.iter_mut().zip(second).zip(output);
                pairs.for_each(|((g, second), &y)| {
                    *g = if y > 0.0 { *g } else { 0.0 };
                    *second = *g;
                });
            });
        }
        if self.relu {
            step.gradient
                .par_chunks_mut(a)
                .zip(step.output.par_chunks(a))
                .for_each(|(gradient, output)| {
                    gradient
                        .iter_mut()
                        .zip(output)
                        .for_each(|(g, &y)| *g = if y > 0.0 { *g } else { 0.0 });
                });
        }
        if let [_, Some(second)] = step.input_gradients {
            let back = self.fit.reversed();
            second
                .par_chunks_mut(b)
                .zip(step.gradient.par_chunks(a))
                .for_each(|(to, from)| back.copy(from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Add { relu: false }, &[(2, [2, 3, 4]), (2, [2, 3, 4])], 2);
        check(&Add { relu: true }, &[(2, [2, 3, 4]), (2, [4, 5, 8])], 1);
        check(&Add { relu: true }, &[(2, [4, 5, 6]), (2, [2, 2, 4])], 1);
    }
}
