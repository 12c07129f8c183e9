//! Concatenation of channels, with the centre crops that keep a valid U-Net translation equivariant.

use rayon::prelude::*;

use super::rows::Centred;
use super::{BackwardStep, Kernel, Mode, Op, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Channels of the first input, then of the second; both cropped about their centres.
///
/// The output is as large as the second input, or with `equivariant` the largest `n * factor + crop` in it:
/// then the convolutions that follow, which take `crop` voxels away, leave a whole number of strides, and
/// the network's output moves with its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concat {
    pub(crate) equivariant: Option<Equivariance>,
}

/// What the output of a [`Concat`] has to be a multiple of, in voxels a axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Equivariance {
    pub(crate) factor: [usize; 3],
    pub(crate) crop: [usize; 3],
}

impl Op for Concat {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let mut length = inputs[1];
        if let Some(Equivariance { factor, crop }) = self.equivariant {
            let strides = length.saturating_sub(crop[axis]) / factor[axis];
            if strides == 0 {
                return Err(format!(
                    "{length} voxels are left before the last convolutions of a level"
                ));
            }
            length = strides * factor[axis] + crop[axis];
        }
        if inputs[0] < length {
            return Err(format!(
                "a skip connection has {} voxels where {length} are needed",
                inputs[0]
            ));
        }
        Ok(length)
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let parts = site
            .inputs
            .iter()
            .map(|&shape| (shape, Centred::new(shape, site.output)))
            .collect();
        Ok(Box::new(ConcatKernel {
            parts,
            output: site.output,
        }))
    }
}

struct ConcatKernel {
    parts: Vec<(Shape, Centred)>,
    output: Shape,
}

impl ConcatKernel {
    /// The input that output channel `channel` comes from, and which of its channels.
    fn source(&self, mut channel: usize) -> (usize, usize) {
        let mut input = 0;
        while channel >= self.parts[input].0.channels {
            channel -= self.parts[input].0.channels;
            input += 1;
        }
        (input, channel)
    }
}

impl Kernel for ConcatKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Mode) {
        let this = &*self;
        output
            .par_chunks_mut(this.output.volume())
            .enumerate()
            .for_each(|(i, to)| {
                let (entry, channel) = (i / this.output.channels, i % this.output.channels);
                let (input, channel) = this.source(channel);
                let (shape, fit) = &this.parts[input];
                let from = (entry * shape.channels + channel) * shape.volume();
                fit.copy(&inputs[input][from..from + shape.volume()], to);
            });
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let gradient = &*step.gradient;
        let volume = self.output.volume();
        let mut first_channel = 0;
        for ((shape, fit), input_gradient) in self.parts.iter().zip(step.input_gradients.iter_mut()) {
            if let Some(input_gradient) = input_gradient {
                input_gradient
                    .par_chunks_mut(shape.volume())
                    .enumerate()
                    .for_each(|(i, to)| {
                        let (entry, channel) = (i / shape.channels, i % shape.channels);
                        let from = (entry * self.output.channels + first_channel + channel) * volume;
                        fit.reversed().copy(&gradient[from..from + volume], to);
                    });
            }
            first_channel += shape.channels;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        let equivariant = Some(Equivariance {
            factor: [2; 3],
            crop: [1, 2, 2],
        });
        check(
            &Concat { equivariant: None },
            &[(2, [4, 5, 6]), (1, [2, 3, 4])],
            2,
        );
        check(&Concat { equivariant }, &[(2, [6, 7, 8]), (3, [4, 5, 6])], 2);
    }

    #[test]
    fn crops_to_whole_strides() {
        let op = Concat {
            equivariant: Some(Equivariance {
                factor: [4; 3],
                crop: [4; 3],
            }),
        };
        assert_eq!(op.length(0, &[40, 18]), Ok(16));
        assert!(op.length(0, &[40, 7]).unwrap_err().contains("7 voxels"));
        assert!(op.length(0, &[10, 18]).unwrap_err().contains("skip"));
    }
}
