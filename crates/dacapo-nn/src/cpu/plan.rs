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
    /// A buffer of at least `len` values, which are unspecified: the smallest that fits, but none of more than twice
    /// the length, which something large will soon need.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, buffer)| (len..=2 * len).contains(&buffer.len()));
        match fits.min_by_key(|(_, buffer)| buffer.len()).map(|(i, _)| i) {
            Some(i) => self.0.swap_remove(i),
            // With some room, so that a little more fits there later. Pages that are never touched cost nothing.
            None => vec![0.0; len.next_multiple_of(len.next_power_of_two().div_ceil(8).max(1))],
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
    /// For each operation, the buffers that nobody reads after it has run forward, and backward.
    free_forward: Vec<Vec<usize>>,
    free_backward: Vec<Vec<usize>>,
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
            // Empty where the values are not held.
            let values = &self.values[buffer];
            &values[..self.lens[buffer].min(values.len())]
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
        // The last operation that reads a buffer, forward and (in reverse) backward.
        let mut last_forward = vec![None; shapes.len()];
        let mut last_backward = vec![None; shapes.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&buffer| shapes[buffer]).collect();
            let site = Site {
                batch,
                inputs: &inputs,
                output: shapes[i + 1],
                first_param: node.first_param,
                set,
            };
            let kernel = node.op.plan(&site)?;
            let needs = kernel.needs();
            if needs.output {
                last_backward[i + 1].get_or_insert(i);
            }
            for &buffer in &node.inputs {
                last_forward[buffer] = Some(i);
                if needs.inputs {
                    last_backward[buffer].get_or_insert(i);
                }
            }
            kernels.push(kernel);
        }
        let mut free_forward = vec![Vec::new(); kernels.len()];
        let mut free_backward = free_forward.clone();
        for (buffer, (forward, backward)) in last_forward.iter().zip(&last_backward).enumerate() {
            match (mode, forward, backward) {
                (Mode::Train, _, Some(node)) => free_backward[*node].push(buffer),
                (Mode::Train, Some(node), None) | (Mode::Predict, Some(node), _) => {
                    free_forward[*node].push(buffer);
                }
                (_, None, _) => {}
            }
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
            free_forward,
            free_backward,
            buffers,
        })
    }

    pub(crate) fn input(&self) -> Shape {
        self.shapes[0]
    }

    pub(crate) fn output(&self) -> Shape {
        self.shapes[self.shapes.len() - 1]
    }

    /// Runs all operations and returns the network's output. Each buffer goes back as soon as nobody reads it any
    /// more: when training, that includes [`Plan::backward`].
    pub(crate) fn forward<'a>(
        &'a mut self,
        graph: &Graph,
        params: &mut Params,
        arena: &mut Arena,
        input: &'a [f32],
    ) -> &'a [f32] {
        let Self {
            kernels,
            buffers,
            free_forward,
            ..
        } = self;
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
            for &buffer in &free_forward[i] {
                arena.give(std::mem::take(&mut buffers.values[buffer]));
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
        let Self {
            kernels,
            buffers,
            free_backward,
            ..
        } = self;
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; buffers.lens.len()];
        gradients[graph.nodes.len()] = Some(output_gradient);
        for (i, (node, kernel)) in graph.nodes.iter().zip(kernels).enumerate().rev() {
            if let Some(mut gradient) = gradients[i + 1].take() {
                let add = kernel.adds() && node.inputs.iter().any(|&buffer| gradients[buffer].is_some());
                let mut take = |&buffer: &usize| match gradients[buffer].take_if(|_| add) {
                    Some(sum) => Some(sum),
                    None => (buffer != 0).then(|| arena.take(buffers.lens[buffer])),
                };
                let mut fresh: Vec<Option<Vec<f32>>> = node.inputs.iter().map(&mut take).collect();
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
                    add,
                };
                kernel.backward(step, params);
                for (fresh, &buffer) in fresh.into_iter().zip(&node.inputs) {
                    let Some(fresh) = fresh else { continue };
                    match &mut gradients[buffer] {
                        None => gradients[buffer] = Some(fresh),
                        Some(sum) => {
                            add_to(&mut sum[..buffers.lens[buffer]], &fresh);
                            arena.give(fresh);
                        }
                    }
                }
                arena.give(gradient);
            }
            for &buffer in &free_backward[i] {
                arena.give(std::mem::take(&mut buffers.values[buffer]));
            }
        }
    }
}

fn add_to(sum: &mut [f32], other: &[f32]) {
    use rayon::prelude::*;
    sum.par_iter_mut()
        .with_min_len(1 << 14)
        .zip(other)
        .for_each(|(sum, other)| *sum += other);
}
