//! A graph made ready for one shape, and the buffers that it runs on.

use crate::Result;
use crate::cpu::graph::Graph;
use crate::cpu::params::Params;
use crate::ops::{BackwardStep, Kernel, Mode, Shape, Site};
use crate::simd::InstructionSet;

/// Buffers that are not in use. Fresh memory costs several times a pass over it, so buffers go round.
#[derive(Debug, Default)]
pub(crate) struct Arena(Vec<Vec<f32>>);

impl Arena {
    /// A buffer of at least `len` values, which are unspecified.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.len() >= len);
        match fits.min_by_key(|(_, buffer)| buffer.len()).map(|(i, _)| i) {
            Some(i) => self.0.swap_remove(i),
            None => vec![0.0; len],
        }
    }

    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        if !buffer.is_empty() {
            self.0.push(buffer);
        }
    }
}

/// A graph for one batch size and input shape.
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) mode: Mode,
    /// Of every buffer.
    shapes: Vec<Shape>,
    kernels: Vec<Box<dyn Kernel>>,
    /// The operation after which nobody reads a buffer.
    last_use: Vec<usize>,
    buffers: Buffers,
}

/// Values of a plan's buffers.
struct Buffers {
    /// Values that each needs.
    lens: Vec<usize>,
    /// At least as many; empty where they are not held, as those of the network's input.
    values: Vec<Vec<f32>>,
}

impl Buffers {
    fn read<'a>(&'a self, buffer: usize, input: &'a [f32]) -> &'a [f32] {
        if buffer == 0 {
            input
        } else {
            &self.values[buffer][..self.lens[buffer]]
        }
    }

    fn read_all<'a>(&'a self, buffers: &[usize], input: &'a [f32]) -> Vec<&'a [f32]> {
        buffers.iter().map(|&buffer| self.read(buffer, input)).collect()
    }
}

impl Plan {
    pub(crate) fn new(
        graph: &Graph,
        shapes: Vec<Shape>,
        batch: usize,
        mode: Mode,
        set: InstructionSet,
    ) -> Result<Self> {
        let mut kernels = Vec::with_capacity(graph.nodes.len());
        let mut last_use: Vec<usize> = (0..shapes.len()).collect();
        for (i, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&buffer| shapes[buffer]).collect();
            let site = Site {
                batch,
                inputs: &inputs,
                output: shapes[i + 1],
                first_param: node.first_param,
                set,
            };
            kernels.push(node.op.plan(&site)?);
            node.inputs.iter().for_each(|&buffer| last_use[buffer] = i);
        }
        let lens: Vec<usize> = shapes.iter().map(|shape| batch * shape.len()).collect();
        let buffers = Buffers {
            values: vec![Vec::new(); lens.len()],
            lens,
        };
        Ok(Self {
            batch,
            mode,
            shapes,
            kernels,
            last_use,
            buffers,
        })
    }

    pub(crate) fn input(&self) -> Shape {
        self.shapes[0]
    }

    pub(crate) fn output(&self) -> Shape {
        self.shapes[self.shapes.len() - 1]
    }

    /// Runs all operations and returns the network's output. When training, the buffers are held for
    /// [`Plan::backward`]; otherwise each goes back as soon as nobody reads it any more.
    pub(crate) fn forward<'a>(
        &'a mut self,
        graph: &Graph,
        params: &mut Params,
        arena: &mut Arena,
        input: &'a [f32],
    ) -> &'a [f32] {
        let Self { kernels, buffers, .. } = self;
        buffers
            .values
            .iter_mut()
            .for_each(|values| arena.give(std::mem::take(values)));
        for (i, (node, kernel)) in graph.nodes.iter().zip(kernels).enumerate() {
            let len = buffers.lens[i + 1];
            let mut output = arena.take(len);
            kernel.forward(
                &buffers.read_all(&node.inputs, input),
                &mut output[..len],
                params,
                self.mode,
            );
            buffers.values[i + 1] = output;
            if self.mode == Mode::Predict {
                for &buffer in &node.inputs {
                    if self.last_use[buffer] == i {
                        arena.give(std::mem::take(&mut buffers.values[buffer]));
                    }
                }
            }
        }
        self.buffers.read(graph.nodes.len(), input)
    }

    /// Runs all operations backwards from the output's gradient and leaves the parameters' gradients in
    /// `params`. A buffer that several operations read gets the sum of their gradients, in reverse order.
    pub(crate) fn backward(
        &mut self,
        graph: &Graph,
        params: &mut Params,
        arena: &mut Arena,
        input: &[f32],
        output_gradient: Vec<f32>,
    ) {
        let Self { kernels, buffers, .. } = self;
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; buffers.lens.len()];
        gradients[graph.nodes.len()] = Some(output_gradient);
        for (i, (node, kernel)) in graph.nodes.iter().zip(kernels).enumerate().rev() {
            let Some(mut gradient) = gradients[i + 1].take() else {
                continue;
            };
            let take = |&buffer: &usize| (buffer != 0).then(|| arena.take(buffers.lens[buffer]));
            let mut fresh: Vec<Option<Vec<f32>>> = node.inputs.iter().map(take).collect();
            let mut wanted: Vec<Option<&mut [f32]>> = fresh
                .iter_mut()
                .zip(&node.inputs)
                .map(|(fresh, &buffer)| fresh.as_mut().map(|fresh| &mut fresh[..buffers.lens[buffer]]))
                .collect();
            let step = BackwardStep {
                inputs: &buffers.read_all(&node.inputs, input),
                output: buffers.read(i + 1, input),
                gradient: &mut gradient[..buffers.lens[i + 1]],
                input_gradients: &mut wanted,
            };
            kernel.backward(step, params);
            for (fresh, &buffer) in fresh.into_iter().zip(&node.inputs) {
                let Some(fresh) = fresh else { continue };
                match &mut gradients[buffer] {
                    None => gradients[buffer] = Some(fresh),
                    Some(sum) => {
                        add(&mut sum[..buffers.lens[buffer]], &fresh);
                        arena.give(fresh);
                    }
                }
            }
            arena.give(gradient);
            arena.give(std::mem::take(&mut buffers.values[i + 1]));
        }
    }
}

fn add(sum: &mut [f32], other: &[f32]) {
    use rayon::prelude::*;
    sum.par_iter_mut()
        .with_min_len(1 << 14)
        .zip(other)
        .for_each(|(sum, other)| *sum += other);
}
