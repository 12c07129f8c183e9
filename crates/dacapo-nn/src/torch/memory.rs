//! How much memory a network takes in libtorch, before it is built: what libtorch keeps for the backward pass, from the
//! graph. What cuDNN works in, and what libtorch holds back of memory that is free again, comes on top.

use tch::Kind;

use super::Setting;
use super::pass::{Segment, segments};
use crate::cpu::graph::Graph;
use crate::ops::Shape;
use crate::unet::Purpose;
use crate::{Memory, NetworkSpec, Result};

/// What libtorch keeps of an operation for its backward pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    pub(super) inputs: bool,
    pub(super) output: bool,
    /// Beside them: bytes for each value of the output.
    pub(super) more: usize,
    /// A copy of the input in 32 bits, where values have 16.
    pub(super) wide_input: bool,
}

/// The memory of networks of `spec` for inputs of `shape`.
pub(super) fn estimate(
    spec: &NetworkSpec,
    shape: &[usize],
    batch: usize,
    setting: Setting,
) -> Result<Memory> {
    let graph = |purpose| spec.architecture.graph(Some(spec.out_channels()), purpose);
    let (training, predicting) = (graph(Purpose::Train)?, graph(Purpose::Predict)?);
    let weights = |trained: bool| -> usize {
        let specs = training.params.iter().filter(|param| param.trainable || !trained);
        specs.map(|param| param.shape.iter().product::<usize>()).sum()
    };
    // Values; gradient and two moments; the average and the weights that predictions are made with.
    let copies = if spec.ema.is_some() { 2 } else { 0 };
    let parameters = WIDE * (weights(false) * (1 + copies) + weights(true) * 3);
    let value = if setting.kind == Kind::Float {
        WIDE
    } else {
        WIDE / 2
    };
    let sizes = |graph| Sizes::new(spec, graph, shape, batch, value);
    let (train, predict) = (sizes(&training)?, sizes(&predicting)?);
    Ok(Memory {
        parameters: parameters as u64,
        training: (parameters + train.training(spec.recompute)) as u64,
        prediction: (parameters + predict.prediction()) as u64,
    })
}

/// Bytes of a value of 32 bits.
const WIDE: usize = size_of::<f32>();

/// A graph for inputs of a shape.
struct Sizes<'a> {
    graph: &'a Graph,
    shapes: Vec<Shape>,
    batch: usize,
    /// Bytes of a value between convolutions.
    value: usize,
}

impl<'a> Sizes<'a> {
    fn new(
        spec: &NetworkSpec,
        graph: &'a Graph,
        shape: &[usize],
        batch: usize,
        value: usize,
    ) -> Result<Self> {
        Ok(Self {
            graph,
            shapes: spec.architecture.buffer_shapes(graph, shape)?,
            batch,
            value,
        })
    }

    /// Values of a buffer.
    fn len(&self, buffer: usize) -> usize {
        self.batch * self.shapes[buffer].len()
    }

    /// Bytes of what a segment keeps for its backward pass.
    fn kept(&self, segment: &Segment) -> usize {
        let mut is_kept = vec![false; self.shapes.len()];
        let mut bytes = 0;
        for place in segment.nodes.clone() {
            let node = &self.graph.nodes[place];
            let kept = node.op.keeps();
            bytes += kept.more * self.len(place + 1);
            is_kept[place + 1] |= kept.output;
            for buffer in node.read() {
                is_kept[buffer] |= kept.inputs;
                if kept.wide_input && self.value != WIDE {
                    bytes += WIDE * self.len(buffer);
                }
            }
        }
        let values = (0..self.shapes.len()).filter(|&buffer| is_kept[buffer]);
        bytes + values.map(|buffer| self.value * self.len(buffer)).sum::<usize>()
    }

    /// Bytes of a training step beside the parameters.
    fn training(&self, recompute: bool) -> usize {
        let segments = segments(self.graph, recompute);
        let kept = segments.iter().map(|segment| self.kept(segment)).max();
        let between: usize = match recompute {
            true => segments
                .iter()
                .flat_map(|s| &s.outputs)
                .map(|&buffer| self.value * self.len(buffer))
                .sum(),
            false => 0,
        };
        // Prediction, target, weight, the gradient, and about as much while the loss is computed.
        let tensors = WIDE * (self.len(0) + 8 * self.len(self.graph.output));
        // A gradient, what it is computed from, and a copy of either in another layout.
        let largest = (0..self.shapes.len()).map(|buffer| self.len(buffer)).max();
        tensors + between + kept.unwrap_or(0) + 3 * self.value * largest.unwrap_or(0)
    }

    /// Bytes of a prediction beside the parameters.
    fn prediction(&self) -> usize {
        let mut last_reader = vec![0; self.shapes.len()];
        for (place, node) in self.graph.nodes.iter().enumerate() {
            node.read().for_each(|buffer| last_reader[buffer] = place);
        }
        last_reader[self.graph.output] = self.graph.nodes.len();
        let lives = |buffer: &usize, place: usize| *buffer <= place + 1 && last_reader[*buffer] >= place;
        let at = |place: usize| -> usize {
            let living = (0..self.shapes.len()).filter(|buffer| lives(buffer, place) || *buffer == place + 1);
            // With one more copy of what is written, in another layout or before it is cropped.
            living.map(|buffer| self.len(buffer)).sum::<usize>() + self.len(place + 1)
        };
        let most = (0..self.graph.nodes.len()).map(at).max().unwrap_or(0);
        WIDE * (self.len(0) + 2 * self.len(self.graph.output)) + self.value * most
    }
}
