//! A graph made ready for one shape, and the buffers that it runs on.

use std::ops::Range;

use super::arena::Arena;
use crate::Result;
use crate::cpu::graph::{Buffer, Graph, Node};
use crate::cpu::params::Params;
use crate::ops::{BackwardStep, Kernel, Mode, Pass, Shape, Site};
use crate::simd::InstructionSet;

/// Passes after which buffers have found their places: what is free then is not what was free at first.
const MOST_PASSES: usize = 4;

/// A graph for one batch size and input shape.
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) mode: Mode,
    output: Buffer,
    /// Of every buffer.
    shapes: Vec<Shape>,
    kernels: Vec<Box<dyn Kernel>>,
    schedule: Schedule,
    buffers: Buffers,
}

/// When values are computed and given back.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// For each operation, the buffers that nobody reads after it has run forward, backward, and forward once more.
    pub(crate) free_forward: Vec<Vec<Buffer>>,
    pub(crate) free_backward: Vec<Vec<Buffer>>,
    pub(crate) free_again: Vec<Vec<Buffer>>,
    /// For each operation, those that run forward once more before its backward pass: their values were not kept.
    pub(crate) again: Vec<Vec<usize>>,
}

impl Schedule {
    /// `needs`: for each buffer the first of the operations whose backward pass reads it. With `recompute`, segments
    /// keep nothing of what only they read.
    fn new(graph: &Graph, mode: Mode, needs: &[Option<usize>], recompute: bool) -> Self {
        let nodes = graph.nodes.len();
        let lists = || vec![Vec::new(); nodes];
        let mut schedule = Self {
            free_forward: lists(),
            free_backward: lists(),
            free_again: lists(),
            again: lists(),
        };
        let mut last_forward = vec![None; nodes + 1];
        for (i, node) in graph.nodes.iter().enumerate() {
            node.read().for_each(|buffer| last_forward[buffer] = Some(i));
        }
        if mode == Mode::Predict {
            schedule.free_each(&last_forward, |s| &mut s.free_forward, |_| true);
            return schedule;
        }
        let kept = kept(graph, recompute);
        let mut last_backward = needs.to_vec();
        let mut last_again = vec![None; nodes + 1];
        for span in segments(graph) {
            let again = run_again(graph, span.clone(), &kept, needs);
            for &i in &again {
                for buffer in graph.nodes[i].read() {
                    if kept[buffer] {
                        let last = last_backward[buffer].get_or_insert(span.end - 1);
                        *last = (*last).min(span.end - 1);
                    } else {
                        last_again[buffer] = Some(i);
                    }
                }
            }
            schedule.again[span.end - 1] = again;
        }
        schedule.free_each(&last_backward, |s| &mut s.free_backward, |_| true);
        schedule.free_each(
            &last_forward,
            |s| &mut s.free_forward,
            |buffer| !kept[buffer] || last_backward[buffer].is_none(),
        );
        schedule.free_each(
            &last_again,
            |s| &mut s.free_again,
            |buffer| last_backward[buffer].is_none(),
        );
        schedule
    }

    fn free_each(
        &mut self,
        last: &[Option<usize>],
        list: impl Fn(&mut Self) -> &mut Vec<Vec<Buffer>>,
        which: impl Fn(Buffer) -> bool,
    ) {
        for (buffer, last) in last.iter().enumerate() {
            if let (Some(node), true) = (last, which(buffer)) {
                list(self)[*node].push(buffer);
            }
        }
    }
}

/// The operations of each segment.
fn segments(graph: &Graph) -> impl Iterator<Item = Range<usize>> {
    let runs = graph.nodes.chunk_by(|a, b| a.segment == b.segment);
    runs.scan(0, |start, run| {
        let span = *start..*start + run.len();
        *start = span.end;
        Some(span)
    })
}

/// The buffers whose values stay from the forward to the backward pass, if that reads them: with `recompute`, those that
/// are read by another segment than they come from, and those from the segment of the network's output on, which the
/// backward pass begins with.
fn kept(graph: &Graph, recompute: bool) -> Vec<bool> {
    let mut kept = vec![!recompute; graph.nodes.len() + 1];
    let from = |buffer: Buffer| buffer.checked_sub(1).map(|node| graph.nodes[node].segment);
    let last = from(graph.output);
    kept[0] = true;
    for (i, node) in graph.nodes.iter().enumerate() {
        kept[i + 1] |= Some(node.segment) >= last;
        for buffer in node.read().filter(|&buffer| from(buffer) != Some(node.segment)) {
            kept[buffer] = true;
        }
    }
    kept
}

/// The operations of a segment that have to run again for the values that its backward pass needs.
fn run_again(graph: &Graph, span: Range<usize>, kept: &[bool], needs: &[Option<usize>]) -> Vec<usize> {
    let mut wanted: Vec<bool> = needs.iter().map(Option::is_some).collect();
    let mut again = Vec::new();
    for i in span.rev() {
        if wanted[i + 1] && !kept[i + 1] {
            again.push(i);
            graph.nodes[i].read().for_each(|buffer| wanted[buffer] = true);
        }
    }
    again.reverse();
    again
}

/// Values of a plan's buffers.
struct Buffers {
    /// Values that each needs.
    lens: Vec<usize>,
    /// At least as many; empty where they are not held, as those of the network's input.
    values: Vec<Vec<f32>>,
}

impl Buffers {
    fn read<'a>(&'a self, buffer: Buffer, input: &'a [f32]) -> &'a [f32] {
        if buffer == 0 {
            input
        } else {
            // Empty where the values are not held.
            let values = &self.values[buffer];
            &values[..self.lens[buffer].min(values.len())]
        }
    }

    fn read_all<'a>(&'a self, buffers: &[Buffer], input: &'a [f32]) -> Vec<&'a [f32]> {
        buffers.iter().map(|&buffer| self.read(buffer, input)).collect()
    }

    fn give(&mut self, buffers: &[Buffer], arena: &mut Arena) {
        for &buffer in buffers {
            arena.give(std::mem::take(&mut self.values[buffer]));
        }
    }
}

impl Plan {
    /// A plan for inputs of `shapes[0]`. With `recompute`, training keeps less and computes it once more.
    pub(crate) fn new(
        graph: &Graph,
        shapes: Vec<Shape>,
        batch: usize,
        mode: Mode,
        set: InstructionSet,
        recompute: bool,
    ) -> Result<Self> {
        let mut kernels = Vec::with_capacity(graph.nodes.len());
        // The first operation whose backward pass reads a buffer, which is the last that runs.
        let mut needed = vec![None; shapes.len()];
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
                needed[i + 1].get_or_insert(i);
            }
            if needs.inputs {
                node.read().for_each(|buffer| {
                    needed[buffer].get_or_insert(i);
                });
            }
            kernels.push(kernel);
        }
        let lens: Vec<usize> = shapes.iter().map(|shape| batch * shape.len()).collect();
        let buffers = Buffers {
            values: vec![Vec::new(); lens.len()],
            lens,
        };
        Ok(Self {
            batch,
            mode,
            output: graph.output,
            shapes,
            kernels,
            schedule: Schedule::new(graph, mode, &needed, recompute),
            buffers,
        })
    }

    pub(crate) fn input(&self) -> Shape {
        self.shapes[0]
    }

    pub(crate) fn output(&self) -> Shape {
        self.shapes[self.output]
    }

    /// What the last forward pass left in a buffer that no operation reads.
    pub(crate) fn value(&self, buffer: Buffer) -> &[f32] {
        self.buffers.read(buffer, &[])
    }

    /// Values that the buffers take after some passes, gradients among them.
    pub(crate) fn values_held(&self, graph: &Graph) -> usize {
        let mut arena = Arena::<usize>::default();
        let mut values = vec![0; self.buffers.lens.len()];
        let mut total = 0;
        for _ in 0..MOST_PASSES {
            self.pass_without_values(graph, &mut arena, &mut values);
            if arena.total() == total {
                break;
            }
            total = arena.total();
        }
        total
    }

    /// The passes below without the arithmetic.
    fn pass_without_values(&self, graph: &Graph, arena: &mut Arena<usize>, values: &mut [usize]) {
        let (lens, schedule) = (&self.buffers.lens, &self.schedule);
        let mut gradients: Vec<Option<usize>> = vec![None; lens.len()];
        let give = |values: &mut [usize], buffers: &[Buffer], arena: &mut Arena<usize>| {
            buffers
                .iter()
                .for_each(|&buffer| arena.give(std::mem::take(&mut values[buffer])));
        };
        values
            .iter_mut()
            .for_each(|value| arena.give(std::mem::take(value)));
        for i in 0..graph.nodes.len() {
            values[i + 1] = arena.take(lens[i + 1]);
            give(values, &schedule.free_forward[i], arena);
        }
        if self.mode == Mode::Predict {
            return;
        }
        for output in graph.outputs() {
            gradients[output] = Some(arena.take(lens[output]));
        }
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            for &again in &schedule.again[i] {
                values[again + 1] = arena.take(lens[again + 1]);
                give(values, &schedule.free_again[again], arena);
            }
            if let Some(gradient) = gradients[i + 1].take() {
                let add =
                    self.kernels[i].adds() && node.inputs.iter().any(|&buffer| gradients[buffer].is_some());
                let mut fresh = Vec::new();
                for buffer in node.read().filter(|&buffer| buffer != 0) {
                    let taken = gradients[buffer].take_if(|_| add);
                    fresh.push((buffer, taken.unwrap_or_else(|| arena.take(lens[buffer]))));
                }
                for (buffer, fresh) in fresh {
                    match gradients[buffer] {
                        None => gradients[buffer] = Some(fresh),
                        Some(_) => arena.give(fresh),
                    }
                }
                arena.give(gradient);
            }
            give(values, &schedule.free_backward[i], arena);
        }
    }

    /// Values that the operations keep beside their buffers, and take while they work on so many threads.
    pub(crate) fn working_memory(&self, threads: usize) -> usize {
        let kept: usize = self.kernels.iter().map(|kernel| kernel.kept(self.mode)).sum();
        let scratch = self
            .kernels
            .iter()
            .map(|kernel| kernel.scratch(self.mode, threads));
        kept + scratch.max().unwrap_or(0)
    }

    /// Runs all operations. Each buffer goes back as soon as nobody reads it any more: when training, that includes
    /// [`Plan::backward`]. `stream` tells the batches of a training apart.
    pub(crate) fn forward(
        &mut self,
        graph: &Graph,
        params: &mut Params,
        arena: &mut Arena,
        input: &[f32],
        stream: u64,
    ) {
        let Self {
            kernels,
            buffers,
            schedule,
            ..
        } = self;
        let pass = Pass {
            mode: self.mode,
            stream,
            again: false,
        };
        buffers
            .values
            .iter_mut()
            .for_each(|values| arena.give(std::mem::take(values)));
        for (i, (node, kernel)) in graph.nodes.iter().zip(kernels).enumerate() {
            run(i, node, &mut **kernel, buffers, params, arena, input, pass);
            buffers.give(&schedule.free_forward[i], arena);
        }
    }

    /// Runs all operations backwards from the gradients of outputs and leaves the parameters' gradients in
    /// `params`. A buffer that several operations read gets the sum of their gradients, in reverse order. `input` and
    /// `stream` are those of the forward pass.
    pub(crate) fn backward(
        &mut self,
        graph: &Graph,
        params: &mut Params,
        arena: &mut Arena,
        input: &[f32],
        stream: u64,
        outputs: Vec<(Buffer, Vec<f32>)>,
    ) {
        let Self {
            kernels,
            buffers,
            schedule,
            ..
        } = self;
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; buffers.lens.len()];
        for (buffer, gradient) in outputs {
            gradients[buffer] = Some(gradient);
        }
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            for &again in &schedule.again[i] {
                let pass = Pass {
                    mode: self.mode,
                    stream,
                    again: true,
                };
                let (node, kernel) = (&graph.nodes[again], &mut *kernels[again]);
                run(again, node, kernel, buffers, params, arena, input, pass);
                buffers.give(&schedule.free_again[again], arena);
            }
            if let Some(mut gradient) = gradients[i + 1].take() {
                let kernel = &mut kernels[i];
                let add = kernel.adds() && node.inputs.iter().any(|&buffer| gradients[buffer].is_some());
                let mut take = |(i, &buffer): (usize, &Buffer)| match gradients[buffer].take_if(|_| add) {
                    Some(sum) => Some(sum),
                    None => (buffer != 0 && node.op.reads(i)).then(|| arena.take(buffers.lens[buffer])),
                };
                let mut fresh: Vec<Option<Vec<f32>>> =
                    node.inputs.iter().enumerate().map(&mut take).collect();
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
            buffers.give(&schedule.free_backward[i], arena);
        }
    }
}

/// Runs an operation forward into a buffer out of the arena.
#[allow(clippy::too_many_arguments, reason = "the parts of a plan")]
fn run(
    i: usize,
    node: &Node,
    kernel: &mut dyn Kernel,
    buffers: &mut Buffers,
    params: &mut Params,
    arena: &mut Arena,
    input: &[f32],
    pass: Pass,
) {
    let len = buffers.lens[i + 1];
    let mut output = arena.take(len);
    kernel.forward(
        &buffers.read_all(&node.inputs, input),
        &mut output[..len],
        params,
        pass,
    );
    buffers.values[i + 1] = output;
}

pub(crate) fn add_to(sum: &mut [f32], other: &[f32]) {
    use rayon::prelude::*;
    sum.par_iter_mut()
        .with_min_len(1 << 14)
        .zip(other)
        .for_each(|(sum, other)| *sum += other);
}
