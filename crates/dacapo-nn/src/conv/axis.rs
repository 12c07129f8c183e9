//! One axis of a direct convolution: which inputs meet which elements of the kernel, forward and in the adjoint,
//! with any stride and padding.

use super::geometry::ConvGeometry;

/// One axis of a pass. The output's elements of a phase are the steps m; step m reads the inputs
/// `m · stride + start + t`, t in a range of the phase within `0..taps`.
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) stride: usize,
    pub(super) start: isize,
    /// Inputs that a step spans, over all phases.
    pub(super) taps: usize,
    /// Steps of the first phase; later ones have as many or one less.
    pub(super) steps: usize,
    /// Elements of the output.
    pub(super) len: usize,
    pub(super) phases: Vec<AxisPhase>,
}

/// The outputs `offset + step · m` of an axis.
pub(super) struct AxisPhase {
    pub(super) offset: usize,
    pub(super) step: usize,
    /// Number of outputs.
    pub(super) steps: usize,
    /// The taps t, each with its element of the kernel.
    pub(super) taps: Vec<(usize, usize)>,
}

impl Axis {
    /// The convolution itself: one phase, all taps.
    pub(super) fn forward(g: &ConvGeometry, output: [usize; 3], axis: usize) -> Self {
        let (taps, len) = (g.kernel[axis], output[axis]);
        Self {
            input: g.input[axis],
            stride: g.stride[axis],
            start: -(g.padding[axis] as isize),
            taps,
            steps: len,
            len,
            phases: vec![AxisPhase {
                offset: 0,
                step: 1,
                steps: len,
                taps: (0..taps).map(|t| (t, t)).collect(),
            }],
        }
    }

    /// The convolution's input i meets the kernel's element k at the output o = (i + padding − k) / stride; the
    /// inputs of one phase, i = stride · m + r, all meet the k ≡ r + padding, at o = m + (r + padding − k) / stride.
    pub(super) fn adjoint(g: &ConvGeometry, output: [usize; 3], axis: usize) -> Self {
        let (stride, kernel, len) = (g.stride[axis], g.kernel[axis], g.input[axis]);
        let place = |r: usize| {
            let position = r + g.padding[axis];
            let elements = (position % stride..kernel).step_by(stride);
            let output = move |k| (position as isize - k as isize).div_euclid(stride as isize);
            elements.map(|k| (output(k), k)).collect::<Vec<_>>()
        };
        let places: Vec<_> = (0..stride.min(len)).map(place).collect();
        let outputs = || places.iter().flatten().map(|(o, _)| *o);
        let start = outputs().min().unwrap_or(0);
        let phases = places.iter().enumerate().map(|(r, taps)| AxisPhase {
            offset: r,
            step: stride,
            steps: (len - r).div_ceil(stride),
            taps: taps
                .iter()
                .rev()
                .map(|&(o, k)| ((o - start) as usize, k))
                .collect(),
        });
        Self {
            input: output[axis],
            stride: 1,
            start,
            taps: outputs().max().map_or(0, |last| (last - start) as usize + 1),
            steps: len.div_ceil(stride),
            len,
            phases: phases.collect(),
        }
    }

    /// Phases of the stride that any tap meets.
    pub(super) fn strides(&self) -> usize {
        self.stride.min(self.taps)
    }

    /// Packed elements before those of an output's last tap.
    pub(super) fn reach(&self) -> usize {
        self.taps.saturating_sub(1) / self.stride
    }
}
