//! A network as a list of operations over numbered buffers, for any shape.

use crate::cpu::params::ParamSpec;
use crate::ops::{Op, Shape};

/// Number of a buffer: 0 is the network's input, `i + 1` the output of operation `i`.
pub(crate) type Buffer = usize;

/// One operation and the buffers that it reads.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Box<dyn Op>,
    pub(crate) inputs: Vec<Buffer>,
    /// Place of its first parameter among the graph's.
    pub(crate) first_param: usize,
    /// Which segment of the graph it belongs to, counted from 0: segments are where values may be dropped and
    /// computed again.
    pub(crate) segment: usize,
}

impl Node {
    /// The buffers of which the values matter.
    pub(crate) fn read(&self) -> impl Iterator<Item = Buffer> {
        let read = self.inputs.iter().enumerate();
        read.filter(|&(i, _)| self.op.reads(i)).map(|(_, &buffer)| buffer)
    }
}

/// An output that only the loss sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auxiliary {
    pub(crate) buffer: Buffer,
    /// Its part of the loss.
    pub(crate) share: f64,
}

/// A normalisation that is done by the convolution before it: the names of their parameters, without what they end in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fold {
    pub(crate) conv: String,
    pub(crate) norm: String,
}

/// Operations in the order in which they run.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// What the network gives.
    pub(crate) output: Buffer,
    /// Its part of the loss.
    pub(crate) share: f64,
    pub(crate) auxiliary: Vec<Auxiliary>,
    pub(crate) folds: Vec<Fold>,
    /// Of every buffer.
    channels: Vec<usize>,
    pub(crate) params: Vec<ParamSpec>,
    segment: usize,
}

impl Graph {
    /// A graph without operations.
    pub(crate) fn new(in_channels: usize) -> Self {
        Self {
            nodes: Vec::new(),
            output: 0,
            share: 1.0,
            auxiliary: Vec::new(),
            folds: Vec::new(),
            channels: vec![in_channels],
            params: Vec::new(),
            segment: 0,
        }
    }

    /// The operations that follow are a segment of their own.
    pub(crate) fn begin_segment(&mut self) {
        self.segment += 1;
    }

    /// Appends an operation, whose inputs are different buffers; returns the buffer that it writes.
    pub(crate) fn push(&mut self, op: impl Op + 'static, inputs: &[Buffer]) -> Buffer {
        let channels: Vec<usize> = inputs.iter().map(|&buffer| self.channels[buffer]).collect();
        self.channels.push(op.channels(&channels));
        let first_param = self.params.len();
        self.params.extend(op.params());
        self.nodes.push(Node {
            op: Box::new(op),
            inputs: inputs.to_vec(),
            first_param,
            segment: self.segment,
        });
        self.nodes.len()
    }

    /// The buffers that the loss sees.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = Buffer> {
        std::iter::once(self.output).chain(self.auxiliary.iter().map(|a| a.buffer))
    }

    /// Channels of a buffer.
    pub(crate) fn channels(&self, buffer: Buffer) -> usize {
        self.channels[buffer]
    }

    /// Lengths of every buffer along one axis, from the input's length.
    ///
    /// # Errors
    /// What does not fit, and where.
    pub(crate) fn lengths(&self, axis: usize, input: usize) -> Result<Vec<usize>, String> {
        let mut lengths = vec![input];
        for node in &self.nodes {
            let inputs: Vec<usize> = node.inputs.iter().map(|&buffer| lengths[buffer]).collect();
            lengths.push(node.op.length(axis, &inputs)?);
        }
        Ok(lengths)
    }

    /// Shapes of every buffer.
    ///
    /// # Errors
    /// The axis (0 to 2: z, y, x) that does not fit, and why.
    pub(crate) fn shapes(&self, input: [usize; 3]) -> Result<Vec<Shape>, (usize, String)> {
        let mut shapes: Vec<Shape> = self
            .channels
            .iter()
            .map(|&channels| Shape {
                channels,
                voxels: [0; 3],
            })
            .collect();
        for (axis, &length) in input.iter().enumerate() {
            let lengths = self.lengths(axis, length).map_err(|reason| (axis, reason))?;
            shapes
                .iter_mut()
                .zip(lengths)
                .for_each(|(shape, length)| shape.voxels[axis] = length);
        }
        Ok(shapes)
    }
}
