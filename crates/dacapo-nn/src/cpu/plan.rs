//! A graph made ready for one shape: its passes as a list of steps over places in one slab of memory.

use std::ops::Range;

use super::slab::{Parts, Place, RoomId, Rooms};
use crate::Result;
use crate::cpu::graph::{Buffer, Graph};
use crate::cpu::params::Params;
use crate::ops::{BackwardStep, Kernel, Mode, Needs, Pass, Shape, Site};
use crate::simd::InstructionSet;

/// A graph for one batch size and input shape.
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) mode: Mode,
    output: Buffer,
    /// Of every buffer.
    shapes: Vec<Shape>,
    kernels: Vec<Box<dyn Kernel>>,
    forward: Vec<Step>,
    /// Backward, and forward once more for what was not kept.
    backward: Vec<Step>,
    /// Of the outputs: where their values are after the forward pass, and where their gradients belong.
    outputs: Vec<(Buffer, RoomId, Option<RoomId>)>,
    places: Vec<Place>,
    slab: usize,
}

/// One operation, forward or backward.
#[derive(Debug)]
struct Step {
    node: usize,
    inputs: Vec<Source>,
    /// Written forward, read backward.
    output: Source,
    /// Backward only.
    gradients: Option<Gradients>,
}

/// Where values come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// The network's input.
    Input,
    Room(RoomId),
    /// They are not needed.
    Nothing,
}

/// The gradients of a backward step.
#[derive(Debug)]
struct Gradients {
    of_output: RoomId,
    of_inputs: Vec<Option<Wanted>>,
    /// The operation adds to its input's gradient.
    add: bool,
    /// What the output's gradient is added to afterwards, if the operation left there that of its first input.
    sum: Option<RoomId>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    room: RoomId,
    /// What the gradient is added to afterwards.
    sum: Option<RoomId>,
}

/// Writes down the steps of a graph's passes.
struct Compiler<'a> {
    graph: &'a Graph,
    lens: &'a [usize],
    needs: &'a [Needs],
    rooms: Rooms,
    /// Where the values of each buffer are, once they are there.
    values: Vec<RoomId>,
    /// Steps so far.
    step: usize,
}

impl Compiler<'_> {
    fn use_values(&mut self, buffer: Buffer) -> Source {
        if buffer == 0 {
            return Source::Input;
        }
        let room = self.values[buffer];
        self.rooms.used(room, self.step);
        Source::Room(room)
    }

    fn forward(&mut self, node: usize) -> Step {
        let read = &self.graph.nodes[node];
        let inputs = (read.inputs.iter().enumerate())
            .map(|(i, &buffer)| match read.op.reads(i) {
                true => self.use_values(buffer),
                false => Source::Nothing,
            })
            .collect();
        let room = self.rooms.open(self.lens[node + 1], self.step);
        self.values[node + 1] = room;
        self.step += 1;
        Step {
            node,
            inputs,
            output: Source::Room(room),
            gradients: None,
        }
    }

    /// `gradients`: those of each buffer, where there are any yet.
    fn backward(
        &mut self,
        node: usize,
        gradients: &mut [Option<RoomId>],
        kernel: &dyn Kernel,
    ) -> Option<Step> {
        let of_output = gradients[node + 1].take()?;
        self.rooms.used(of_output, self.step);
        let (read, needs) = (&self.graph.nodes[node], self.needs[node]);
        let output = if needs.output {
            self.use_values(node + 1)
        } else {
            Source::Nothing
        };
        let (mut inputs, mut of_inputs, mut add, mut left) = (Vec::new(), Vec::new(), false, None);
        for (i, &buffer) in read.inputs.iter().enumerate() {
            let reads = read.op.reads(i);
            inputs.push(if reads && needs.inputs {
                self.use_values(buffer)
            } else {
                Source::Nothing
            });
            if !reads || buffer == 0 {
                of_inputs.push(None);
                continue;
            }
            if let Some(sum) = gradients[buffer] {
                self.rooms.used(sum, self.step);
            }
            if i == 0 && kernel.in_place() {
                left = gradients[buffer];
                gradients[buffer].get_or_insert(of_output);
                of_inputs.push(None);
                continue;
            }
            let wanted = match gradients[buffer] {
                Some(room) if kernel.adds() => {
                    add = true;
                    Wanted { room, sum: None }
                }
                sum => {
                    let room = self.rooms.open(self.lens[buffer], self.step);
                    gradients[buffer].get_or_insert(room);
                    Wanted { room, sum }
                }
            };
            of_inputs.push(Some(wanted));
        }
        self.step += 1;
        Some(Step {
            node,
            inputs,
            output,
            gradients: Some(Gradients {
                of_output,
                of_inputs,
                add,
                sum: left,
            }),
        })
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

/// For each operation, those that run forward once more before its backward pass: segments keep nothing of what only
/// they read, but for those from that of the network's output on, which the backward pass begins with.
fn run_again(graph: &Graph, needs: &[Needs]) -> Vec<Vec<usize>> {
    let mut again = vec![Vec::new(); graph.nodes.len()];
    let from = |buffer: Buffer| buffer.checked_sub(1).map(|node| graph.nodes[node].segment);
    let last = from(graph.output);
    let mut kept = vec![false; graph.nodes.len() + 1];
    let mut wanted = kept.clone();
    for (i, node) in graph.nodes.iter().enumerate() {
        for buffer in node.read().filter(|&buffer| from(buffer) != Some(node.segment)) {
            kept[buffer] = true;
        }
        if needs[i].inputs {
            node.read().for_each(|buffer| wanted[buffer] = true);
        }
        wanted[i + 1] |= needs[i].output;
    }
    for span in segments(graph) {
        let (segment, end) = (Some(graph.nodes[span.start].segment), span.end);
        if segment >= last {
            break;
        }
        for i in span.rev() {
            if wanted[i + 1] && !kept[i + 1] {
                again[end - 1].insert(0, i);
                graph.nodes[i].read().for_each(|buffer| wanted[buffer] = true);
            }
        }
    }
    again
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
        let nodes = graph.nodes.iter().enumerate();
        let kernels = nodes
            .map(|(i, node)| {
                let inputs: Vec<Shape> = node.inputs.iter().map(|&buffer| shapes[buffer]).collect();
                node.op.plan(&Site {
                    batch,
                    inputs: &inputs,
                    output: shapes[i + 1],
                    first_param: node.first_param,
                    set,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let needs: Vec<Needs> = kernels.iter().map(|kernel| kernel.needs()).collect();
        let lens: Vec<usize> = shapes.iter().map(|shape| batch * shape.len()).collect();
        let mut compiler = Compiler {
            graph,
            lens: &lens,
            needs: &needs,
            rooms: Rooms::default(),
            values: vec![0; lens.len()],
            step: 0,
        };
        let forward: Vec<Step> = (0..kernels.len()).map(|node| compiler.forward(node)).collect();
        // The outputs are looked at, and the loss gives their gradients.
        let mut gradients = vec![None; lens.len()];
        let mut outputs = Vec::new();
        for buffer in graph.outputs() {
            compiler.use_values(buffer);
            if mode == Mode::Train {
                gradients[buffer] = Some(compiler.rooms.open(lens[buffer], compiler.step));
            }
            outputs.push((buffer, compiler.values[buffer], gradients[buffer]));
        }
        compiler.step += 1;
        let mut backward = Vec::new();
        if mode == Mode::Train {
            let again = match recompute {
                true => run_again(graph, &needs),
                false => vec![Vec::new(); kernels.len()],
            };
            for node in (0..kernels.len()).rev() {
                backward.extend(again[node].iter().map(|&node| compiler.forward(node)));
                backward.extend(compiler.backward(node, &mut gradients, &*kernels[node]));
            }
        }
        let (places, slab) = compiler.rooms.place();
        Ok(Self {
            batch,
            mode,
            output: graph.output,
            shapes,
            kernels,
            forward,
            backward,
            outputs,
            places,
            slab,
        })
    }

    pub(crate) fn input(&self) -> Shape {
        self.shapes[0]
    }

    pub(crate) fn output(&self) -> Shape {
        self.shapes[self.output]
    }

    /// Values that the slab has, in which the passes run.
    pub(crate) fn slab(&self) -> usize {
        self.slab
    }

    /// Values that the operations keep beside the slab, and take while they work on so many threads.
    pub(crate) fn working_memory(&self, threads: usize) -> usize {
        let kept: usize = self.kernels.iter().map(|kernel| kernel.kept(self.mode)).sum();
        let scratch = self
            .kernels
            .iter()
            .map(|kernel| kernel.scratch(self.mode, threads));
        kept + scratch.max().unwrap_or(0)
    }

    /// Runs all operations. `slab` is at least as long as [`Plan::slab`] says; `stream` tells the batches of a training
    /// apart.
    pub(crate) fn forward(&mut self, params: &mut Params, slab: &mut [f32], input: &[f32], stream: u64) {
        self.forward_with(params, slab, input, stream, |_| ());
    }

    /// The same, with a call of `done` after every operation.
    pub(crate) fn forward_with(
        &mut self,
        params: &mut Params,
        slab: &mut [f32],
        input: &[f32],
        stream: u64,
        mut done: impl FnMut(usize),
    ) {
        let pass = Pass {
            mode: self.mode,
            stream,
            again: false,
        };
        for step in &self.forward {
            let kernel = &mut *self.kernels[step.node];
            step.forward(kernel, &self.places, params, slab, input, pass);
            done(step.node);
        }
    }

    /// What the forward pass gave in an output.
    pub(crate) fn value<'a>(&self, slab: &'a mut [f32], buffer: Buffer) -> &'a [f32] {
        let output = self.outputs.iter().find(|output| output.0 == buffer);
        output.map_or(&[], |output| {
            Parts::new(slab, vec![self.places[output.1]]).take(self.places[output.1])
        })
    }

    /// The same when training, with the room for its gradient.
    pub(crate) fn value_and_gradient<'a>(
        &self,
        slab: &'a mut [f32],
        buffer: Buffer,
    ) -> Option<(&'a [f32], &'a mut [f32])> {
        let &(_, value, gradient) = self.outputs.iter().find(|output| output.0 == buffer)?;
        let [value, gradient] = [value, gradient?].map(|room| self.places[room]);
        let mut parts = Parts::new(slab, vec![value, gradient]);
        Some((parts.take(value), parts.take(gradient)))
    }

    /// Runs all operations backwards from the gradients of the outputs and leaves the parameters' gradients in
    /// `params`. A buffer that several operations read gets the sum of their gradients, in reverse order. Slab, `input`
    /// and `stream` are those of the forward pass.
    pub(crate) fn backward(&mut self, params: &mut Params, slab: &mut [f32], input: &[f32], stream: u64) {
        self.backward_with(params, slab, input, stream, |_| ());
    }

    /// The same, with a call of `done` after every operation.
    pub(crate) fn backward_with(
        &mut self,
        params: &mut Params,
        slab: &mut [f32],
        input: &[f32],
        stream: u64,
        mut done: impl FnMut(usize),
    ) {
        let pass = Pass {
            mode: self.mode,
            stream,
            again: true,
        };
        for step in &self.backward {
            let kernel = &mut *self.kernels[step.node];
            match &step.gradients {
                None => step.forward(kernel, &self.places, params, slab, input, pass),
                Some(gradients) => step.backward(kernel, gradients, &self.places, params, slab, input),
            }
            done(step.node);
        }
    }

    /// Multiplications that each operation does in inner products, forward and backward.
    pub(crate) fn multiplications(&self) -> Vec<[u64; 2]> {
        let mut counts = vec![[0; 2]; self.kernels.len()];
        for step in self.forward.iter().chain(&self.backward) {
            let kernel = &self.kernels[step.node];
            match &step.gradients {
                None => counts[step.node][0] += kernel.multiplications(None),
                Some(gradients) => {
                    let to_input = gradients.of_inputs.iter().any(Option::is_some);
                    counts[step.node][1] += kernel.multiplications(Some(to_input));
                }
            }
        }
        counts
    }
}

impl Step {
    fn forward(
        &self,
        kernel: &mut dyn Kernel,
        places: &[Place],
        params: &mut Params,
        slab: &mut [f32],
        input: &[f32],
        pass: Pass,
    ) {
        let rooms = self.inputs.iter().chain([&self.output]).filter_map(Source::room);
        let mut parts = Parts::new(slab, rooms.map(|room| places[room]).collect());
        if let Source::Room(room) = self.output {
            let output = parts.take(places[room]);
            let inputs: Vec<&[f32]> = self
                .inputs
                .iter()
                .map(|s| s.read(&parts, places, input))
                .collect();
            kernel.forward(&inputs, output, params, pass);
        }
    }

    fn backward(
        &self,
        kernel: &mut dyn Kernel,
        gradients: &Gradients,
        places: &[Place],
        params: &mut Params,
        slab: &mut [f32],
        input: &[f32],
    ) {
        let read = self.inputs.iter().chain([&self.output]).filter_map(Source::room);
        let wanted = || gradients.of_inputs.iter().flatten();
        let written = wanted()
            .flat_map(|wanted| [Some(wanted.room), wanted.sum])
            .flatten();
        let rooms = read
            .chain(written)
            .chain([gradients.of_output])
            .chain(gradients.sum);
        let mut parts = Parts::new(slab, rooms.map(|room| places[room]).collect());
        let gradient = parts.take(places[gradients.of_output]);
        let mut fresh: Vec<Option<&mut [f32]>> = (gradients.of_inputs.iter())
            .map(|wanted| wanted.map(|wanted| parts.take(places[wanted.room])))
            .collect();
        let mut wanted: Vec<Option<&mut [f32]>> =
            fresh.iter_mut().map(|fresh| fresh.as_deref_mut()).collect();
        let inputs: Vec<&[f32]> = self
            .inputs
            .iter()
            .map(|s| s.read(&parts, places, input))
            .collect();
        let step = BackwardStep {
            inputs: &inputs,
            output: self.output.read(&parts, places, input),
            gradient,
            input_gradients: &mut wanted,
            add: gradients.add,
        };
        kernel.backward(step, params);
        if let Some(sum) = gradients.sum {
            add_to(parts.take(places[sum]), gradient);
        }
        for (wanted, fresh) in gradients.of_inputs.iter().zip(fresh) {
            if let (Some(Wanted { sum: Some(sum), .. }), Some(fresh)) = (wanted, fresh) {
                add_to(parts.take(places[*sum]), fresh);
            }
        }
    }
}

impl Source {
    fn room(&self) -> Option<RoomId> {
        match self {
            Self::Room(room) => Some(*room),
            Self::Input | Self::Nothing => None,
        }
    }

    fn read<'a>(&self, parts: &'a Parts<'_>, places: &[Place], input: &'a [f32]) -> &'a [f32] {
        match self {
            Self::Input => input,
            Self::Room(room) => parts.get(places[*room]),
            Self::Nothing => &[],
        }
    }
}

pub(crate) fn add_to(sum: &mut [f32], other: &[f32]) {
    use rayon::prelude::*;
    sum.par_iter_mut()
        .with_min_len(1 << 14)
        .zip(other)
        .for_each(|(sum, other)| *sum += other);
}
