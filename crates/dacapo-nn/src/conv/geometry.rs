//! Shapes of convolutions: what comes out of what, and what no convolution can have.

use crate::{Error, Result};

/// Elements of the longest vector, and of the longest row that is made of several.
const VECTOR: usize = 16;
const LONGEST: usize = 512;

/// Geometry of a convolution, in voxels (z, y, x); 2D is depth 1 with a kernel, stride and padding of 1, 1, 0 there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Shape of the input.
    pub input: [usize; 3],
    /// Shape of the kernel.
    pub kernel: [usize; 3],
    /// Steps between the places where the kernel is applied.
    pub stride: [usize; 3],
    /// Zeros added on each side of the input (of a transposed convolution: voxels cut off on each side of the
    /// output).
    pub padding: [usize; 3],
}

impl ConvGeometry {
    /// Shape of the convolution's output.
    ///
    /// # Errors
    /// Where a size, stride or channel count is zero, or the kernel is larger than the padded input.
    pub fn output(&self) -> Result<[usize; 3]> {
        self.check()?;
        let mut output = [0; 3];
        for (a, out) in output.iter_mut().enumerate() {
            let padded = self.input[a] + 2 * self.padding[a];
            let room = padded
                .checked_sub(self.kernel[a])
                .ok_or_else(|| Error::InputShape {
                    shape: self.input.to_vec(),
                    reason: format!("a kernel of {:?} does not fit", self.kernel),
                    nearest: None,
                })?;
            *out = room / self.stride[a] + 1;
        }
        Ok(output)
    }

    /// Shape of the output of the transposed convolution with this geometry (no output padding).
    ///
    /// # Errors
    /// As [`ConvGeometry::output`], and where the padding cuts off everything.
    pub fn transposed_output(&self) -> Result<[usize; 3]> {
        self.check()?;
        let mut output = [0; 3];
        for (a, out) in output.iter_mut().enumerate() {
            let full = (self.input[a] - 1) * self.stride[a] + self.kernel[a];
            *out = full
                .checked_sub(2 * self.padding[a])
                .filter(|&n| n > 0)
                .ok_or_else(|| Error::InputShape {
                    shape: self.input.to_vec(),
                    reason: format!("a padding of {:?} leaves nothing", self.padding),
                    nearest: None,
                })?;
        }
        Ok(output)
    }

    fn check(&self) -> Result<()> {
        let zero = |field, reason: &str| {
            Err(Error::Config {
                field,
                reason: reason.to_string(),
            })
        };
        if self.in_channels == 0 || self.out_channels == 0 {
            return zero(
                "channels",
                "a convolution needs at least one input and one output channel",
            );
        }
        if self.kernel.contains(&0) {
            return zero("kernel_size", "a kernel cannot have a size of 0");
        }
        if self.stride.contains(&0) {
            return zero("stride", "a stride cannot be 0");
        }
        if self.input.contains(&0) {
            return Err(Error::InputShape {
                shape: self.input.to_vec(),
                reason: "it is empty".to_string(),
                nearest: None,
            });
        }
        Ok(())
    }

    /// The same convolution with z and y joined, where the kernel does not reach along them: longer units of work. Where
    /// it does not reach along x either, rows are as long as they can be, of whole vectors if the voxels are.
    pub(super) fn joined(&self) -> Self {
        let flat = |a: usize| self.kernel[a] == 1 && self.stride[a] == 1 && self.padding[a] == 0;
        if !(flat(0) && flat(1)) {
            return self.clone();
        }
        let [depth, height, mut width] = self.input;
        let voxels = depth * height * width;
        if flat(2) && voxels.is_multiple_of(VECTOR) {
            let most = (1..=LONGEST / VECTOR).rfind(|n| (voxels / VECTOR).is_multiple_of(*n));
            width = VECTOR * most.unwrap_or(1);
        }
        Self {
            input: [1, voxels / width, width],
            ..self.clone()
        }
    }
}

/// A batch has at least one sample.
pub(super) fn check_batch(batch: usize) -> Result<()> {
    if batch == 0 {
        return Err(Error::Config {
            field: "batch_size",
            reason: "a batch needs at least one sample".to_string(),
        });
    }
    Ok(())
}
