//! What each operation is in libtorch. Tensors have batch, channels, then the network's own axes: z is left out in 2D.

use tch::{Kind, Result, Tensor};

use super::Setting;
use super::memory::Kept;
use crate::ops::batch_norm::MOMENTUM;
use crate::ops::{
    Activate, Add, Align, BatchNorm, Concat, Conv, Dropout, EPSILON, Function, GroupNorm, MaxPool, Mode,
    Multiply, Pass, Shape, Softmax, TransposedConv, Trilinear, Upsample,
};

/// Factors of upsampling are those that the lengths of its output say.
const BY_SIZE: Option<f64> = None;

/// Where an operation stands in a pass.
#[derive(Debug)]
pub(crate) struct TorchSite<'a> {
    pub(super) setting: Setting,
    /// The operation's own.
    pub(super) params: &'a [Tensor],
    pub(super) output: Shape,
    pub(super) pass: Pass,
}

/// An operation that libtorch can do.
pub(crate) trait ToTorch {
    /// The operation on the inputs of which it reads the values.
    ///
    /// # Errors
    /// What libtorch says, memory that is missing above all.
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor>;

    /// What libtorch keeps for the backward pass.
    fn keeps(&self) -> Kept {
        Kept::default()
    }
}

impl ToTorch for Conv {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        convolution(self, false, inputs[0], site)
    }

    fn keeps(&self) -> Kept {
        Kept {
            inputs: true,
            output: self.relu,
            ..Kept::default()
        }
    }
}

impl ToTorch for TransposedConv {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        convolution(&self.0, true, inputs[0], site)
    }

    fn keeps(&self) -> Kept {
        Kept {
            inputs: true,
            output: self.0.relu,
            ..Kept::default()
        }
    }
}

fn convolution(conv: &Conv, transposed: bool, input: &Tensor, site: &TorchSite<'_>) -> Result<Tensor> {
    let Setting { kind, .. } = site.setting;
    let weight = site.setting.lay(&site.params[0].f_to_kind(kind)?)?;
    let bias = site.params[1].f_to_kind(kind)?;
    let axes = |lengths: [usize; 3]| spatial(conv.dims, lengths);
    let done = input.f_to_kind(kind)?.f_convolution(
        &weight,
        Some(&bias),
        axes(conv.stride),
        axes(conv.padding),
        axes([1; 3]),
        transposed,
        axes([0; 3]),
        1,
    )?;
    relu(conv.relu, done)
}

/// In place: what stands before it needs no output for its gradient.
fn relu(is_asked_for: bool, mut values: Tensor) -> Result<Tensor> {
    if is_asked_for {
        values.f_relu_()
    } else {
        Ok(values)
    }
}

/// What a normalisation in 32 bits keeps for its backward pass, with a ReLU behind it or without.
fn kept_by_norm(relu: bool) -> Kept {
    Kept {
        inputs: true,
        output: relu,
        wide_input: true,
        ..Kept::default()
    }
}

impl ToTorch for BatchNorm {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|i| &site.params[i]);
        let training = site.pass.mode == Mode::Train;
        // The running statistics have a batch that comes again already.
        let running = |tensor| (!training || !site.pass.again).then_some(tensor);
        let done = inputs[0].f_to_kind(Kind::Float)?.f_batch_norm(
            Some(weight),
            Some(bias),
            running(mean),
            running(variance),
            training,
            MOMENTUM,
            EPSILON,
            true,
        )?;
        relu(self.relu, done.f_to_kind(site.setting.kind)?)
    }

    fn keeps(&self) -> Kept {
        kept_by_norm(self.relu)
    }
}

impl ToTorch for GroupNorm {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        let [weight, bias] = [0, 1].map(|i| &site.params[i]);
        let input = inputs[0].f_to_kind(Kind::Float)?;
        let groups = self.groups as i64;
        let done = input.f_group_norm(groups, Some(weight), Some(bias), EPSILON, true)?;
        relu(self.relu, done.f_to_kind(site.setting.kind)?)
    }

    fn keeps(&self) -> Kept {
        kept_by_norm(self.relu)
    }
}

impl ToTorch for MaxPool {
    fn to_torch(&self, inputs: &[&Tensor], _: &TorchSite<'_>) -> Result<Tensor> {
        let input = inputs[0];
        let axes = |lengths: [usize; 3]| spatial(dims(input), lengths);
        let (factor, stride) = (axes(self.factor), axes(self.factor));
        match dims(input) {
            2 => input.f_max_pool2d(factor, stride, axes([0; 3]), axes([1; 3]), false),
            _ => input.f_max_pool3d(factor, stride, axes([0; 3]), axes([1; 3]), false),
        }
    }

    /// The winners have 64 bits.
    fn keeps(&self) -> Kept {
        Kept {
            inputs: true,
            more: size_of::<i64>(),
            ..Kept::default()
        }
    }
}

impl ToTorch for Activate {
    fn to_torch(&self, inputs: &[&Tensor], _: &TorchSite<'_>) -> Result<Tensor> {
        match self.0 {
            Function::Relu => inputs[0].f_relu(),
            // Its slope is the one that libtorch takes by default.
            Function::LeakyRelu => inputs[0].f_leaky_relu(),
            Function::Gelu => inputs[0].f_gelu("none"),
            Function::Sigmoid => inputs[0].f_sigmoid(),
        }
    }

    fn keeps(&self) -> Kept {
        let by_input = matches!(self.0, Function::LeakyRelu | Function::Gelu);
        Kept {
            inputs: by_input,
            output: !by_input,
            ..Kept::default()
        }
    }
}

impl ToTorch for Softmax {
    fn to_torch(&self, inputs: &[&Tensor], _: &TorchSite<'_>) -> Result<Tensor> {
        inputs[0].f_softmax(1, None::<Kind>)
    }

    fn keeps(&self) -> Kept {
        Kept {
            output: true,
            ..Kept::default()
        }
    }
}

impl ToTorch for Dropout {
    /// Drops the values that the CPU engine drops.
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        let input = inputs[0];
        if site.pass.mode == Mode::Predict {
            return Ok(input.shallow_clone());
        }
        let len: i64 = input.size().iter().product();
        let counter = self.counter(site.pass.stream) as i64;
        let places = Tensor::f_arange((len + 1) / 2, (Kind::Int64, input.device()))?;
        let bits = mix(&places.f_add_scalar(counter)?)?;
        let halves = [bits.f_bitwise_and(i64::from(u32::MAX))?, shifted(&bits, 32)?];
        let bits = Tensor::f_stack(&halves, 1)?
            .f_reshape([-1])?
            .f_narrow(0, 0, len)?;
        let kept = bits.f_ge(i64::from(self.limit()))?.f_reshape(input.size())?;
        let factor = kept
            .f_to_kind(input.f_kind()?)?
            .f_mul_scalar(f64::from(self.scale()))?;
        input.f_mul(&factor)
    }

    /// The factors.
    fn keeps(&self) -> Kept {
        Kept {
            more: size_of::<f32>(),
            ..Kept::default()
        }
    }
}

/// [`crate::init::mix`] of each value, whose 64 bits stand for an unsigned number.
fn mix(values: &Tensor) -> Result<Tensor> {
    let z = values.f_add_scalar(0x9e37_79b9_7f4a_7c15_u64 as i64)?;
    let z = z.f_bitwise_xor_tensor(&shifted(&z, 30)?)?;
    let z = z.f_mul_scalar(0xbf58_476d_1ce4_e5b9_u64 as i64)?;
    let z = z.f_bitwise_xor_tensor(&shifted(&z, 27)?)?;
    let z = z.f_mul_scalar(0x94d0_49bb_1331_11eb_u64 as i64)?;
    z.f_bitwise_xor_tensor(&shifted(&z, 31)?)
}

/// Shifted right with zeros in front, where libtorch repeats the sign.
fn shifted(values: &Tensor, by: i64) -> Result<Tensor> {
    let signed = values.f_bitwise_right_shift_tensor_scalar(by)?;
    signed.f_bitwise_and((u64::MAX >> by) as i64)
}

impl ToTorch for Multiply {
    fn to_torch(&self, inputs: &[&Tensor], _: &TorchSite<'_>) -> Result<Tensor> {
        inputs[0].f_mul(inputs[1])
    }

    fn keeps(&self) -> Kept {
        Kept {
            inputs: true,
            ..Kept::default()
        }
    }
}

impl ToTorch for Add {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        relu(
            self.relu,
            inputs[0].f_add(&centred(inputs[1], site.output.voxels)?)?,
        )
    }

    fn keeps(&self) -> Kept {
        Kept {
            output: self.relu,
            ..Kept::default()
        }
    }
}

impl ToTorch for Upsample {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        centred(&repeated(inputs[0], self.factor)?, site.output.voxels)
    }
}

impl ToTorch for Concat {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        let skip = centred(inputs[0], site.output.voxels)?;
        let below = centred(&repeated(inputs[1], self.factor)?, site.output.voxels)?;
        Tensor::f_cat(&[skip, below], 1)
    }
}

impl ToTorch for Trilinear {
    fn to_torch(&self, inputs: &[&Tensor], site: &TorchSite<'_>) -> Result<Tensor> {
        let (input, corners) = (inputs[0], self.align == Align::Corners);
        let size = enlarged(input, self.factor);
        let large = match dims(input) {
            2 => input.f_upsample_bilinear2d(size, corners, BY_SIZE, BY_SIZE)?,
            _ => input.f_upsample_trilinear3d(size, corners, BY_SIZE, BY_SIZE, BY_SIZE)?,
        };
        centred(&large, site.output.voxels)
    }
}

/// Spatial axes of a tensor.
fn dims(tensor: &Tensor) -> usize {
    tensor.dim() - 2
}

/// Those of three lengths that a network's axes have.
fn spatial(dims: usize, zyx: [usize; 3]) -> Vec<i64> {
    zyx[3 - dims..].iter().map(|&n| n as i64).collect()
}

/// The spatial lengths of a tensor times `factor`.
fn enlarged(input: &Tensor, factor: [usize; 3]) -> Vec<i64> {
    let lengths = input.size().into_iter().skip(2);
    let factors = spatial(dims(input), factor);
    lengths.zip(factors).map(|(n, factor)| n * factor).collect()
}

/// Every voxel as a block of `factor` voxels.
fn repeated(input: &Tensor, factor: [usize; 3]) -> Result<Tensor> {
    if factor == [1; 3] {
        return Ok(input.shallow_clone());
    }
    // The nearest by the centres of voxels: no place is on the border between two.
    let size = enlarged(input, factor);
    match dims(input) {
        2 => input.f_internal_upsample_nearest_exact2d(size, BY_SIZE, BY_SIZE),
        _ => input.f_internal_upsample_nearest_exact3d(size, BY_SIZE, BY_SIZE, BY_SIZE),
    }
}

/// A box fitted to another one about its centre: cropped with the smaller part of an odd difference in front, padded
/// with the larger part in front.
fn centred(input: &Tensor, voxels: [usize; 3]) -> Result<Tensor> {
    let wanted = spatial(dims(input), voxels);
    let mut values = input.shallow_clone();
    for (axis, &length) in wanted.iter().enumerate() {
        let axis = axis as i64 + 2;
        let found = values.size()[axis as usize];
        if found > length {
            values = values.f_narrow(axis, (found - length) / 2, length)?;
        }
    }
    let missing = wanted.iter().zip(values.size().into_iter().skip(2));
    // Before and behind, the last axis first.
    let pads = missing.rev().flat_map(|(wanted, found)| {
        let missing = wanted - found;
        [missing - missing / 2, missing / 2]
    });
    let pads: Vec<i64> = pads.collect();
    if pads.iter().all(|&pad| pad == 0) {
        return Ok(values);
    }
    values.f_constant_pad_nd(pads)
}

impl Setting {
    /// The same values as the setting wants them to lie in memory.
    pub(super) fn lay(&self, tensor: &Tensor) -> Result<Tensor> {
        if !self.channels_last {
            return Ok(tensor.shallow_clone());
        }
        let last = tensor.dim() as i64 - 1;
        // Batch, axes, channels one after another in memory; batch, channels, axes by their numbers.
        let side_by_side: Vec<i64> = [0].into_iter().chain(2..=last).chain([1]).collect();
        let as_before: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
        tensor
            .f_permute(side_by_side)?
            .f_contiguous()?
            .f_permute(as_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_mixed_as_on_the_host() {
        let values: Vec<i64> = [0, 1, -1, i64::MAX, i64::MIN, 0x0123_4567_89ab_cdef].into();
        let mixed = mix(&Tensor::from_slice(&values)).unwrap();
        let expected: Vec<i64> = values
            .iter()
            .map(|&value| crate::init::mix(value as u64) as i64)
            .collect();
        assert_eq!(Vec::<i64>::try_from(&mixed).unwrap(), expected);
    }

    #[test]
    fn odd_differences_are_cropped_and_padded_as_on_the_cpu() {
        let row = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).reshape([1, 1, 1, 4]);
        let fitted =
            |length| Vec::<f32>::try_from(centred(&row, [1, 1, length]).unwrap().reshape([-1])).unwrap();
        assert_eq!(fitted(1), [2.0]);
        assert_eq!(fitted(3), [1.0, 2.0, 3.0]);
        assert_eq!(fitted(7), [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0]);
    }

    #[test]
    fn channels_lie_side_by_side_and_values_stay() {
        let setting = Setting {
            device: tch::Device::Cpu,
            kind: Kind::Float,
            channels_last: true,
        };
        let values =
            Tensor::arange(2 * 3 * 4 * 5 * 6, (Kind::Float, tch::Device::Cpu)).reshape([2, 3, 4, 5, 6]);
        let laid = setting.lay(&values).unwrap();
        assert_eq!(laid.stride(), [360, 1, 90, 18, 3]);
        assert!(laid.equal(&values));
    }
}
