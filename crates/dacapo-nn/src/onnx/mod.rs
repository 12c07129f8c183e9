//! Networks as ONNX models, for programs that run those: what each operation is in ONNX's words, and the model around
//! them. Nothing here reads a model or runs one.
//!
//! Source: "Open Neural Network Exchange Intermediate Representation Specification" and the operators of opset 17,
//! onnx.ai; field numbers are those of `onnx.proto`.

mod ops;

use std::collections::BTreeMap;

use crate::cpu::average;
use crate::cpu::params::find_all;
use crate::ops::Shape;
use crate::protobuf::Message;
use crate::unet::Purpose;
use crate::{Activation, NamedTensor, NetworkSpec, OutputGroup, Result, UNetConfig};

pub(crate) use ops::ToOnnx;

/// The version of the format, and that of the operators.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// A trained network as an ONNX model: `raw` (batch, channels, voxels) in, `prediction` out, as
/// [`crate::Network::forward`] predicts. The batch may have any size; the input has `input` voxels along each spatial
/// axis, which the crops in a network of valid convolutions depend on. `metadata` is kept beside it.
///
/// # Errors
/// [`crate::Error::InputShape`] for an input that the network cannot take, [`crate::Error::Weights`] for tensors that
/// are not its own.
pub fn export_onnx(
    spec: &NetworkSpec,
    tensors: &[NamedTensor],
    input: &[usize],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    // What training alone has is left out.
    let architecture = UNetConfig {
        deep_supervision: false,
        dropout: 0.0,
        ..spec.architecture.clone()
    };
    architecture.output_shape(input)?;
    let graph = architecture.graph(Some(spec.out_channels()), Purpose::Train)?;
    let dims = architecture.dims();
    let shapes = architecture.buffer_shapes(&graph, input)?;
    // Predictions are made with the averages, where there are any.
    let has_average = tensors
        .iter()
        .any(|tensor| tensor.name.starts_with(average::PREFIX));
    let prefix = if has_average { average::PREFIX } else { "model/" };
    let values = find_all(graph.params.iter(), prefix, tensors)?;

    let mut model = Model::new(dims);
    for (param, values) in graph.params.iter().zip(values) {
        model.floats(&param.name, &param.shape, values);
    }
    // The names of the buffers' values.
    let mut names = vec!["raw".to_owned()];
    for (place, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<(&str, Shape)> = node
            .inputs
            .iter()
            .map(|&buffer| (names[buffer].as_str(), shapes[buffer]))
            .collect();
        let name = node.op.to_onnx(&inputs, shapes[place + 1], &mut model);
        names.push(name);
    }
    model.activate(&names[graph.output], &spec.outputs);
    Ok(model.finish(shapes[0], shapes[graph.output], metadata))
}

/// A model that is being written.
pub(crate) struct Model {
    dims: usize,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    /// Values that have got a name.
    named: usize,
}

impl Model {
    fn new(dims: usize) -> Self {
        Self {
            dims,
            nodes: Vec::new(),
            initializers: Vec::new(),
            named: 0,
        }
    }

    /// Those of three lengths that the network's axes have.
    fn spatial<T: Copy>(&self, zyx: [T; 3]) -> Vec<T> {
        zyx[3 - self.dims..].to_vec()
    }

    /// A name that nothing has yet.
    fn fresh(&mut self, kind: &str) -> String {
        self.named += 1;
        format!("{}_{}", kind.to_lowercase(), self.named)
    }

    /// Adds an operation; returns the name of what it gives.
    fn node(&mut self, kind: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = self.fresh(kind);
        self.node_to(kind, inputs, &output, attributes);
        output
    }

    /// Adds an operation whose result has this name.
    fn node_to(&mut self, kind: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) {
        // NodeProto: input 1, output 2, name 3, op_type 4, attribute 5.
        let node = inputs
            .iter()
            .fold(Message::new(), |node, input| node.text(1, input));
        let node = node.text(2, output).text(3, output).text(4, kind);
        self.nodes.push(node.messages(5, &attributes));
    }

    /// Adds a constant of floats under its name.
    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, FLOAT, shape, &bytes);
    }

    /// Adds a constant list of integers; returns its name.
    fn integers(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        let values: Vec<i64> = values.into_iter().collect();
        let name = self.fresh("integers");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&name, INT64, &[values.len()], &bytes);
        name
    }

    fn constant(&mut self, name: &str, kind: i64, shape: &[usize], bytes: &[u8]) {
        // TensorProto: dims 1, data_type 2, name 8, raw_data 9.
        let tensor = Message::new()
            .integers(1, shape.iter().map(|&n| n as i64))
            .integer(2, kind)
            .text(8, name)
            .bytes(9, bytes);
        self.initializers.push(tensor);
    }

    /// Adds what stands behind the last layer; its result is called `prediction`.
    fn activate(&mut self, last: &str, outputs: &[OutputGroup]) {
        let words = |activation| match activation {
            Activation::None => ("Identity", Vec::new()),
            Activation::Sigmoid => ("Sigmoid", Vec::new()),
            Activation::Softmax => ("Softmax", vec![integer("axis", 1)]),
        };
        if let [group] = outputs {
            let (kind, attributes) = words(group.activation);
            return self.node_to(kind, &[last], "prediction", attributes);
        }
        let axes = self.integers([1]);
        let mut begin = 0;
        let mut parts = Vec::new();
        for group in outputs {
            let end = begin + group.channels as i64;
            let (from, to) = (self.integers([begin]), self.integers([end]));
            let part = self.node("Slice", &[last, &from, &to, &axes], Vec::new());
            let (kind, attributes) = words(group.activation);
            parts.push(self.node(kind, &[&part], attributes));
            begin = end;
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node_to("Concat", &parts, "prediction", vec![integer("axis", 1)]);
    }

    fn finish(self, input: Shape, output: Shape, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let value = |name: &str, shape: Shape| {
            // TypeProto: tensor_type 1 (elem_type 1, shape 2 (dim 1: dim_value 1 or dim_param 2)).
            let lengths = [shape.channels].into_iter().chain(self.spatial(shape.voxels));
            let lengths = lengths.map(|n| Message::new().integer(1, n as i64));
            let batch = Message::new().text(2, "batch");
            let lengths: Vec<Message> = [batch].into_iter().chain(lengths).collect();
            let tensor = Message::new()
                .integer(1, FLOAT)
                .message(2, &Message::new().messages(1, &lengths));
            Message::new()
                .text(1, name)
                .message(2, &Message::new().message(1, &tensor))
        };
        // GraphProto: node 1, name 2, initializer 5, input 11, output 12.
        let graph = Message::new()
            .messages(1, &self.nodes)
            .text(2, "network")
            .messages(5, &self.initializers)
            .message(11, &value("raw", input))
            .message(12, &value("prediction", output));
        let entries: Vec<Message> = metadata
            .iter()
            .map(|(key, value)| Message::new().text(1, key).text(2, value))
            .collect();
        // ModelProto: ir_version 1, producer_name 2, producer_version 3, graph 7, opset_import 8, metadata_props 14.
        Message::new()
            .integer(1, IR_VERSION)
            .text(2, "dacapo")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, &graph)
            .message(8, &Message::new().text(1, "").integer(2, OPSET))
            .messages(14, &entries)
            .into_bytes()
    }
}

/// `AttributeProto.AttributeType`, with the field that has the value.
fn attribute(name: &str, kind: i64, value: impl FnOnce(Message) -> Message) -> Message {
    value(Message::new().text(1, name)).integer(20, kind)
}

fn float(name: &str, value: f32) -> Message {
    attribute(name, 1, |message| message.float(2, value))
}

fn integer(name: &str, value: i64) -> Message {
    attribute(name, 2, |message| message.integer(3, value))
}

fn text(name: &str, value: &str) -> Message {
    attribute(name, 3, |message| message.text(4, value))
}

fn integers(name: &str, values: impl IntoIterator<Item = usize>) -> Message {
    let values = values.into_iter().map(|n| n as i64);
    // `ints` is not packed in that schema's syntax.
    attribute(name, 7, |message| {
        values.fold(message, |message, n| message.integer(8, n))
    })
}
