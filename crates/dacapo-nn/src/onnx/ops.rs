//! What each operation is in ONNX's words.

use super::{Model, float, integer, integers, text};
use crate::ops::{
    Activate, Add, Align, BatchNorm, Concat, Conv, Dropout, EPSILON, Function, GroupNorm, LEAK, MaxPool,
    Multiply, Shape, Softmax, TransposedConv, Trilinear, Upsample,
};
use crate::protobuf::Message;

/// An operation that can be said in ONNX's words.
pub(crate) trait ToOnnx {
    /// Adds the operation to a model, for inputs with their names and shapes; returns the name of its output.
    fn to_onnx(&self, inputs: &[(&str, Shape)], output: Shape, model: &mut Model) -> String;
}

impl ToOnnx for Conv {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        convolution(self, "Conv", inputs[0].0, model)
    }
}

impl ToOnnx for TransposedConv {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        convolution(&self.0, "ConvTranspose", inputs[0].0, model)
    }
}

fn convolution(conv: &Conv, kind: &str, input: &str, model: &mut Model) -> String {
    let padding = model.spatial(conv.padding);
    let attributes = vec![
        integers("kernel_shape", model.spatial(conv.kernel)),
        integers("strides", model.spatial(conv.stride)),
        // All the begins, then all the ends.
        integers("pads", padding.iter().chain(&padding).copied()),
    ];
    let (weight, bias) = (format!("{}.weight", conv.name), format!("{}.bias", conv.name));
    let done = model.node(kind, &[input, &weight, &bias], attributes);
    relu(conv.relu, done, model)
}

fn relu(is_asked_for: bool, value: String, model: &mut Model) -> String {
    if is_asked_for {
        model.node("Relu", &[&value], Vec::new())
    } else {
        value
    }
}

impl ToOnnx for BatchNorm {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        let of = |suffix| format!("{}.{suffix}", self.name);
        let parameters = ["weight", "bias", "running_mean", "running_var"].map(of);
        let [weight, bias, mean, variance] = parameters.each_ref().map(String::as_str);
        let done = model.node(
            "BatchNormalization",
            &[inputs[0].0, weight, bias, mean, variance],
            vec![float("epsilon", EPSILON as f32)],
        );
        relu(self.relu, done, model)
    }
}

impl ToOnnx for GroupNorm {
    /// Each group as one channel, normalised by its own statistics; then the channels' scales and shifts.
    fn to_onnx(&self, inputs: &[(&str, Shape)], output: Shape, model: &mut Model) -> String {
        let groups = model.integers([0, self.groups as i64, -1]);
        let grouped = model.node("Reshape", &[inputs[0].0, &groups], Vec::new());
        let (ones, zeros) = (model.fresh("ones"), model.fresh("zeros"));
        model.floats(&ones, &[self.groups], &vec![1.0; self.groups]);
        model.floats(&zeros, &[self.groups], &vec![0.0; self.groups]);
        let epsilon = vec![float("epsilon", EPSILON as f32)];
        let normal = model.node("InstanceNormalization", &[&grouped, &ones, &zeros], epsilon);
        let lengths = model.spatial(output.voxels).into_iter().map(|n| n as i64);
        let channels = self.channels as i64;
        let shape = model.integers([0, channels].into_iter().chain(lengths));
        let normal = model.node("Reshape", &[&normal, &shape], Vec::new());
        let each = [1, channels]
            .into_iter()
            .chain(std::iter::repeat_n(1, model.dims));
        let each = model.integers(each);
        let mut of_channels = |suffix: &str| {
            let name = format!("{}.{suffix}", self.name);
            model.node("Reshape", &[&name, &each], Vec::new())
        };
        let (scale, shift) = (of_channels("weight"), of_channels("bias"));
        let scaled = model.node("Mul", &[&normal, &scale], Vec::new());
        let done = model.node("Add", &[&scaled, &shift], Vec::new());
        relu(self.relu, done, model)
    }
}

impl ToOnnx for MaxPool {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        let factor = model.spatial(self.factor);
        let attributes = vec![
            integers("kernel_shape", factor.clone()),
            integers("strides", factor),
        ];
        model.node("MaxPool", &[inputs[0].0], attributes)
    }
}

impl ToOnnx for Activate {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        let x = inputs[0].0;
        match self.0 {
            Function::Relu => model.node("Relu", &[x], Vec::new()),
            Function::LeakyRelu => model.node("LeakyRelu", &[x], vec![float("alpha", LEAK)]),
            Function::Sigmoid => model.node("Sigmoid", &[x], Vec::new()),
            // x · (1 + erf(x / √2)) / 2: this version has no operator of that name.
            Function::Gelu => {
                let mut constant = |value: f32| {
                    let name = model.fresh("constant");
                    model.floats(&name, &[], &[value]);
                    name
                };
                let (scale, one, half) = (
                    constant(std::f32::consts::FRAC_1_SQRT_2),
                    constant(1.0),
                    constant(0.5),
                );
                let scaled = model.node("Mul", &[x, &scale], Vec::new());
                let erf = model.node("Erf", &[&scaled], Vec::new());
                let sum = model.node("Add", &[&erf, &one], Vec::new());
                let share = model.node("Mul", &[&sum, &half], Vec::new());
                model.node("Mul", &[x, &share], Vec::new())
            }
        }
    }
}

impl ToOnnx for Softmax {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        model.node("Softmax", &[inputs[0].0], vec![integer("axis", 1)])
    }
}

impl ToOnnx for Dropout {
    /// Nothing is dropped from predictions.
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, _: &mut Model) -> String {
        inputs[0].0.to_owned()
    }
}

impl ToOnnx for Multiply {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        model.node("Mul", &[inputs[0].0, inputs[1].0], Vec::new())
    }
}

impl ToOnnx for Add {
    fn to_onnx(&self, inputs: &[(&str, Shape)], output: Shape, model: &mut Model) -> String {
        let second = centred(inputs[1].0, inputs[1].1.voxels, output.voxels, model);
        let sum = model.node("Add", &[inputs[0].0, &second], Vec::new());
        relu(self.relu, sum, model)
    }
}

impl ToOnnx for Upsample {
    fn to_onnx(&self, inputs: &[(&str, Shape)], _: Shape, model: &mut Model) -> String {
        repeated(inputs[0].0, self.factor, model)
    }
}

impl ToOnnx for Concat {
    fn to_onnx(&self, inputs: &[(&str, Shape)], output: Shape, model: &mut Model) -> String {
        let [(skip, skip_shape), (below, below_shape)] = [inputs[0], inputs[1]];
        let large: [usize; 3] = std::array::from_fn(|a| below_shape.voxels[a] * self.factor[a]);
        let below = repeated(below, self.factor, model);
        let below = centred(&below, large, output.voxels, model);
        let skip = centred(skip, skip_shape.voxels, output.voxels, model);
        model.node("Concat", &[&skip, &below], vec![integer("axis", 1)])
    }
}

impl ToOnnx for Trilinear {
    fn to_onnx(&self, inputs: &[(&str, Shape)], output: Shape, model: &mut Model) -> String {
        let (input, shape) = inputs[0];
        let places = match self.align {
            Align::Corners => "align_corners",
            Align::Parts | Align::InnerParts => "half_pixel",
        };
        let attributes = vec![
            text("mode", "linear"),
            text("coordinate_transformation_mode", places),
        ];
        let large = std::array::from_fn(|a| shape.voxels[a] * self.factor[a]);
        let value = resized(input, self.factor, attributes, model);
        centred(&value, large, output.voxels, model)
    }
}

/// Every voxel as a block of `factor` voxels.
fn repeated(input: &str, factor: [usize; 3], model: &mut Model) -> String {
    if factor == [1; 3] {
        return input.to_owned();
    }
    let attributes = vec![
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    resized(input, factor, attributes, model)
}

fn resized(input: &str, factor: [usize; 3], attributes: Vec<Message>, model: &mut Model) -> String {
    let scales: Vec<f32> = [1, 1]
        .into_iter()
        .chain(model.spatial(factor))
        .map(|n| n as f32)
        .collect();
    let name = model.fresh("scales");
    model.floats(&name, &[scales.len()], &scales);
    // Without a region of interest.
    model.node("Resize", &[input, "", &name], attributes)
}

/// A box fitted to another one about its centre: cropped with the smaller part of an odd difference in front, padded
/// with the larger part in front.
fn centred(input: &str, from: [usize; 3], to: [usize; 3], model: &mut Model) -> String {
    let mut value = input.to_owned();
    if (0..3).any(|a| from[a] > to[a]) {
        let begin: [usize; 3] = std::array::from_fn(|a| from[a].saturating_sub(to[a]) / 2);
        let end: [usize; 3] = std::array::from_fn(|a| begin[a] + from[a].min(to[a]));
        let signed = |lengths: Vec<usize>| lengths.into_iter().map(|n| n as i64);
        let (begin, end) = (model.spatial(begin), model.spatial(end));
        let (begin, end) = (model.integers(signed(begin)), model.integers(signed(end)));
        let axes = model.integers(2..2 + model.dims as i64);
        value = model.node("Slice", &[&value, &begin, &end, &axes], Vec::new());
    }
    if (0..3).any(|a| from[a] < to[a]) {
        let before: [usize; 3] = std::array::from_fn(|a| to[a].saturating_sub(from[a]).div_ceil(2));
        let after: [usize; 3] = std::array::from_fn(|a| to[a].saturating_sub(from[a]) / 2);
        let (before, after) = (model.spatial(before), model.spatial(after));
        let pads = [0, 0].into_iter().chain(before).chain([0, 0]).chain(after);
        let pads = model.integers(pads.map(|n| n as i64));
        value = model.node("Pad", &[&value, &pads], Vec::new());
    }
    value
}
