//! Nearest-neighbour upsampling.

use rayon::prelude::*;

use super::repeat::Repeated;
use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Every voxel becomes a block of `factor` voxels. With a second input, cropped about the centre to its shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upsample {
    pub(crate) factor: [usize; 3],
}

impl Op for Upsample {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let length = inputs[0] * self.factor[axis];
        match inputs.get(1) {
            None => Ok(length),
            Some(&wanted) if wanted <= length => Ok(wanted),
            Some(wanted) => Err(format!(
                "upsampling gives {length} voxels where {wanted} are needed"
            )),
        }
    }

    fn reads(&self, input: usize) -> bool {
        input == 0
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(UpsampleKernel {
            repeated: Repeated::new(site.inputs[0].voxels, self.factor, site.output.voxels),
            input: site.inputs[0],
            output: site.output,
        }))
    }
}

struct UpsampleKernel {
    repeated: Repeated,
    input: Shape,
    output: Shape,
}

impl Kernel for UpsampleKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let repeated = self.repeated;
        let channels = inputs[0].par_chunks(self.input.volume());
        output
            .par_chunks_mut(self.output.volume())
            .zip(channels)
            .for_each(|(to, from)| repeated.copy(from, to));
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: false,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let repeated = self.repeated;
        let channels = step.gradient.par_chunks(self.output.volume());
        input_gradient
            .par_chunks_mut(self.input.volume())
            .zip(channels)
            .for_each(|(to, from)| repeated.sum(from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Upsample { factor: [2; 3] }, &[(2, [2, 3, 4])], 2);
        check(&Upsample { factor: [1, 3, 2] }, &[(1, [2, 2, 3])], 1);
        check(&Upsample { factor: [2; 3] }, &[(2, [2, 3, 4]), (1, [4, 2, 5])], 2);
    }
}
