//! Element-wise functions of one input.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Needs, Op, Site};
use crate::Result;
use crate::cpu::params::Params;
use crate::math::sigmoid;

/// Values that one task works on.
const CHUNK: usize = 1 << 14;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Sigmoid,
}

/// Applies a function to every value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activate(pub(crate) Function);

impl Op for Activate {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, _: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(*self))
    }
}

impl Kernel for Activate {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Mode) {
        let Function::Sigmoid = self.0;
        output
            .par_chunks_mut(CHUNK)
            .zip(inputs[0].par_chunks(CHUNK))
            .for_each(|(y, x)| {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = sigmoid(x);
                }
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: true,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let Function::Sigmoid = self.0;
        let chunks = step.output.par_chunks(CHUNK).zip(step.gradient.par_chunks(CHUNK));
        input_gradient
            .par_chunks_mut(CHUNK)
            .zip(chunks)
            .for_each(|(gx, (y, gy))| {
                for ((gx, &y), &gy) in gx.iter_mut().zip(y).zip(gy) {
                    *gx = gy * y * (1.0 - y);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Activate(Function::Sigmoid), &[(2, [2, 3, 4])], 2);
    }
}
