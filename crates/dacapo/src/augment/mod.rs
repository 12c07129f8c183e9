//! How crops are varied. What is drawn for a sample is an [`Augmentation`]: a deformation of space, changes of
//! what is seen, and a turn of the grid, in this order. All is drawn from counter-based generators, a function of
//! (seed, iteration, sample); nothing here reads data.

mod blur;
mod elastic;
mod intensity;
mod poisson;
mod resample;
mod sections;
mod symmetry;

use ndarray::Array4;

use crate::config::{AugmentConfig, IntensityRange};
use crate::random::{Purpose, Random};

pub use blur::Blur;
pub use elastic::{Deformation, needed};
pub use intensity::IntensityChange;
pub use resample::{Grid, Lattice};
pub use sections::{Defect, Slips};
pub use symmetry::Symmetry;

/// Which sample of a run this is: all that randomness may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The run's.
    pub seed: u64,
    /// The step.
    pub iteration: u64,
    /// Its place in the batch.
    pub sample: u32,
}

impl Draw {
    fn random(self, purpose: Purpose) -> Random {
        Random::new(self.seed, self.iteration, self.sample, purpose)
    }
}

/// The crop of raw that is varied; of 2D data, the first axis has one voxel.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Spatial axes of the data: 2 or 3.
    pub dims: usize,
    /// Voxels of raw along each axis.
    pub shape: [usize; 3],
    /// World units of a voxel along each axis.
    pub voxel_size: [f64; 3],
    /// Axes with the same number may be exchanged.
    pub kinds: [usize; 3],
}

/// Everything that is done to one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Where voxels are taken from, if they are moved at all. Raw and labels alike.
    pub deformation: Option<Deformation>,
    /// The turn that comes last. Raw and labels alike.
    pub symmetry: Symmetry,
    blur: Option<Blur>,
    intensity: IntensityChange,
    defects: Vec<Defect>,
    draw: Draw,
}

impl Augmentation {
    /// What is done to the sample of `draw`.
    pub fn draw(config: &AugmentConfig, frame: &Frame, draw: Draw) -> Self {
        let mut random = draw.random(Purpose::Augment);
        let symmetry = Symmetry::draw(config, frame.kinds, &mut random);
        let intensity = IntensityChange::draw(config, &mut random);
        let blur = config
            .blur
            .as_ref()
            .and_then(|blur| Blur::draw(blur, frame, &mut random));
        let sections = config
            .sections
            .as_ref()
            .map(|sections| sections::draw(sections, frame, draw));
        let (slips, defects) = sections.unwrap_or_default();
        Self {
            deformation: Deformation::draw(config.elastic.as_ref(), slips, frame, draw),
            symmetry,
            blur,
            intensity,
            defects,
            draw,
        }
    }

    /// Makes of raw values (channels, z, y, x) what the network is shown before it is turned: -0.5…0.5 for
    /// intensities in the range, changed as was drawn.
    pub fn expose(&self, values: &mut Array4<f32>, range: IntensityRange) {
        if let Some(blur) = &self.blur {
            blur.apply(values);
        }
        self.intensity.apply(values, range, self.draw);
        for defect in &self.defects {
            defect.apply(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    /// A crop of which no two axes may be exchanged.
    pub(super) fn frame(dims: usize, shape: [usize; 3], voxel_size: [f64; 3]) -> Frame {
        Frame {
            dims,
            shape,
            voxel_size,
            kinds: [0, 1, 2],
        }
    }
}
