//! Concatenation of channels, with the centre crops that keep a valid U-Net translation equivariant, and the
//! nearest-neighbour upsampling in front of it: what is only read once is not stored.

use rayon::prelude::*;

use super::repeat::Repeated;
use super::rows::Centred;
use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Channels of the first input, then of the second, of which every voxel becomes a block of `factor` voxels; both
/// cropped about their centres.
///
/// The output is as large as the upsampled second input, or with `equivariant` the largest `n * factor + crop` in
/// it: then the convolutions that follow, which take `crop` voxels away, leave a whole number of strides, and
/// the network's output moves with its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concat {
    pub(crate) factor: [usize; 3],
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
        let mut length = inputs[1] * self.factor[axis];
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
        let [skip, below] = [site.inputs[0], site.inputs[1]];
        Ok(Box::new(ConcatKernel {
            skip,
            crop: Centred::new(skip, site.output),
            below,
            repeated: Repeated::new(below.voxels, self.factor, site.output.voxels),
            output: site.output,
        }))
    }
}

struct ConcatKernel {
    skip: Shape,
    crop: Centred,
    below: Shape,
    repeated: Repeated,
    output: Shape,
}

impl Kernel for ConcatKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let Self {
            skip,
            crop,
            below,
            repeated,
            output: shape,
        } = &*self;
        output
            .par_chunks_mut(shape.volume())
            .enumerate()
            .for_each(|(i, to)| {
                let (entry, channel) = (i / shape.channels, i % shape.channels);
                match channel.checked_sub(skip.channels) {
                    None => crop.copy(plane(inputs[0], skip, entry, channel), to),
                    Some(channel) => repeated.copy(plane(inputs[1], below, entry, channel), to),
                }
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: false,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Self {
            skip,
            crop,
            below,
            repeated,
            output,
        } = &*self;
        let gradient = &*step.gradient;
        let [to_skip, to_below] = step.input_gradients else {
            return;
        };
        if let Some(to_skip) = to_skip {
            let back = crop.reversed();
            let channels = to_skip.par_chunks_mut(skip.volume()).enumerate();
            channels.for_each(|(i, to)| {
                let (entry, channel) = (i / skip.channels, i % skip.channels);
                back.copy(plane(gradient, output, entry, channel), to);
            });
        }
        if let Some(to_below) = to_below {
            let channels = to_below.par_chunks_mut(below.volume()).enumerate();
            channels.for_each(|(i, to)| {
                let (entry, channel) = (i / below.channels, i % below.channels);
                repeated.sum(plane(gradient, output, entry, skip.channels + channel), to);
            });
        }
    }
}

/// One channel of one batch entry.
fn plane<'a>(values: &'a [f32], shape: &Shape, entry: usize, channel: usize) -> &'a [f32] {
    let volume = shape.volume();
    &values[(entry * shape.channels + channel) * volume..][..volume]
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
        let concat = |factor, equivariant| Concat { factor, equivariant };
        check(&concat([1; 3], None), &[(2, [4, 5, 6]), (1, [2, 3, 4])], 2);
        check(&concat([1; 3], equivariant), &[(2, [6, 7, 8]), (3, [4, 5, 6])], 2);
        check(&concat([1, 3, 2], None), &[(1, [4, 9, 7]), (2, [3, 2, 3])], 2);
        check(&concat([2; 3], equivariant), &[(1, [6, 7, 8]), (2, [2, 3, 3])], 1);
    }

    #[test]
    fn crops_to_whole_strides() {
        let op = Concat {
            factor: [1; 3],
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
