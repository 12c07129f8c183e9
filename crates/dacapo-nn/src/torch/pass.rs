//! A graph's passes in libtorch: forward node by node, backward by what libtorch has recorded; segment by segment where
//! values are computed again instead of kept.

use std::ops::Range;

use tch::{Kind, Result, Tensor};

use super::Setting;
use super::ops::TorchSite;
use crate::cpu::graph::{Buffer, Graph};
use crate::ops::{Pass, Shape};

/// Nodes that run together, and what crosses their borders.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) nodes: Range<usize>,
    pub(super) inputs: Vec<Buffer>,
    pub(super) outputs: Vec<Buffer>,
}

/// A graph's segments, or all of it as one.
pub(super) fn segments(graph: &Graph, apart: bool) -> Vec<Segment> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        match ranges.last_mut() {
            Some(last) if !apart || graph.nodes[last.start].segment == node.segment => last.end = place + 1,
            _ => ranges.push(place..place + 1),
        }
    }
    let segment = |nodes: Range<usize>| {
        // Node i writes buffer i + 1.
        let inside = nodes.start + 1..nodes.end + 1;
        let read = |nodes: &[crate::cpu::graph::Node]| -> Vec<Buffer> {
            let mut read: Vec<Buffer> = nodes.iter().flat_map(|node| node.read()).collect();
            read.sort_unstable();
            read.dedup();
            read
        };
        let mut inputs = read(&graph.nodes[nodes.clone()]);
        inputs.retain(|buffer| !inside.contains(buffer));
        let mut outputs = read(&graph.nodes[nodes.end..]);
        outputs.extend(graph.outputs());
        outputs.retain(|buffer| inside.contains(buffer));
        outputs.sort_unstable();
        outputs.dedup();
        Segment {
            nodes,
            inputs,
            outputs,
        }
    };
    ranges.into_iter().map(segment).collect()
}

/// A graph for inputs of a shape.
pub(super) struct Computation<'a> {
    pub(super) graph: &'a Graph,
    /// Of every buffer.
    pub(super) shapes: &'a [Shape],
    /// Of the graph, in its order.
    pub(super) params: &'a [Tensor],
    pub(super) setting: Setting,
    pub(super) pass: Pass,
}

/// A segment that has run, for its backward pass.
#[derive(Debug)]
struct Live {
    /// Its inputs whose gradients are wanted.
    leaves: Vec<(Buffer, Tensor)>,
    outputs: Vec<Tensor>,
}

/// A forward pass of a training, for its backward pass.
#[derive(Debug)]
pub(super) struct Forward {
    segments: Vec<Segment>,
    /// What crosses borders, by buffer.
    known: Vec<Option<Tensor>>,
    last: Live,
}

impl Computation<'_> {
    /// Runs a segment: its outputs.
    pub(super) fn run(&self, segment: &Segment, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut values: Vec<Option<Tensor>> = self.shapes.iter().map(|_| None).collect();
        for (&buffer, tensor) in segment.inputs.iter().zip(inputs) {
            values[buffer] = Some(tensor);
        }
        let mut last_reader = vec![0; values.len()];
        for place in segment.nodes.clone() {
            self.graph.nodes[place]
                .read()
                .for_each(|buffer| last_reader[buffer] = place);
        }
        for place in segment.nodes.clone() {
            let node = &self.graph.nodes[place];
            let inputs: Vec<&Tensor> = node.read().filter_map(|buffer| values[buffer].as_ref()).collect();
            let site = TorchSite {
                setting: self.setting,
                params: &self.params[node.first_param..],
                output: self.shapes[place + 1],
                pass: self.pass,
            };
            let output = node.op.to_torch(&inputs, &site)?;
            values[place + 1] = Some(output);
            for buffer in node.read() {
                if last_reader[buffer] == place && !segment.outputs.contains(&buffer) {
                    values[buffer] = None;
                }
            }
        }
        let outputs = segment.outputs.iter();
        Ok(outputs.filter_map(|&buffer| values[buffer].take()).collect())
    }

    /// Runs a segment so that it can run backward.
    fn live(&self, segment: &Segment, known: &[Option<Tensor>]) -> Result<Live> {
        let (mut leaves, mut inputs) = (Vec::new(), Vec::new());
        for &buffer in &segment.inputs {
            let Some(value) = &known[buffer] else { continue };
            if buffer == 0 {
                inputs.push(value.shallow_clone());
                continue;
            }
            let leaf = value.f_detach()?.f_set_requires_grad(true)?;
            inputs.push(leaf.shallow_clone());
            leaves.push((buffer, leaf));
        }
        let outputs = self.run(segment, inputs)?;
        Ok(Live { leaves, outputs })
    }

    /// A training's forward pass; with `recompute` only what crosses the borders of segments is kept, but for the last.
    pub(super) fn forward(&self, input: Tensor, recompute: bool) -> Result<Forward> {
        let segments = segments(self.graph, recompute);
        let mut known: Vec<Option<Tensor>> = self.shapes.iter().map(|_| None).collect();
        known[0] = Some(input);
        let mut last = None;
        for (i, segment) in segments.iter().enumerate() {
            let outputs = if i + 1 == segments.len() {
                let live = self.live(segment, &known)?;
                let outputs = live.outputs.iter().map(Tensor::f_detach).collect::<Result<_>>()?;
                last = Some(live);
                outputs
            } else {
                let inputs = segment.inputs.iter().filter_map(|&buffer| known[buffer].as_ref());
                let inputs = inputs.map(Tensor::shallow_clone).collect();
                tch::no_grad(|| self.run(segment, inputs))?
            };
            for (&buffer, output) in segment.outputs.iter().zip(outputs) {
                known[buffer] = Some(output);
            }
        }
        let last = last.unwrap_or(Live {
            leaves: Vec::new(),
            outputs: Vec::new(),
        });
        Ok(Forward {
            segments,
            known,
            last,
        })
    }

    /// The gradients of all trained parameters, one after another, from those of buffers. With `once_more` the pass can
    /// run backward another time.
    pub(super) fn backward(
        &self,
        forward: &Forward,
        gradients: Vec<(Buffer, Tensor)>,
        once_more: bool,
    ) -> Result<Tensor> {
        let mut wanted: Vec<Option<Tensor>> = self.shapes.iter().map(|_| None).collect();
        for (buffer, gradient) in gradients {
            wanted[buffer] = Some(gradient);
        }
        let again = Computation {
            pass: Pass {
                again: true,
                ..self.pass
            },
            ..*self
        };
        let mut of_params: Vec<Option<Tensor>> = self.params.iter().map(|_| None).collect();
        for (i, segment) in forward.segments.iter().enumerate().rev() {
            let is_last = i + 1 == forward.segments.len();
            let anew = if is_last {
                None
            } else {
                Some(again.live(segment, &forward.known)?)
            };
            let live = anew.as_ref().unwrap_or(&forward.last);
            // A number whose gradient by each output is the one that is wanted.
            let mut number: Option<Tensor> = None;
            for (&buffer, output) in segment.outputs.iter().zip(&live.outputs) {
                let Some(gradient) = wanted[buffer].take() else {
                    continue;
                };
                let term = output
                    .f_to_kind(Kind::Float)?
                    .f_mul(&gradient)?
                    .f_sum(Kind::Float)?;
                number = Some(match number {
                    Some(number) => number.f_add(&term)?,
                    None => term,
                });
            }
            let Some(number) = number else { continue };
            let params = self.trained_params(segment);
            let leaves = live.leaves.iter().map(|(_, leaf)| leaf);
            let sources: Vec<&Tensor> = leaves.chain(params.iter().map(|&i| &self.params[i])).collect();
            let found = Tensor::f_run_backward(&[&number], &sources, once_more && is_last, false)?;
            let (of_leaves, found) = found.split_at(live.leaves.len());
            for ((buffer, _), gradient) in live.leaves.iter().zip(of_leaves).filter(|(_, g)| g.defined()) {
                let gradient = gradient.f_to_kind(Kind::Float)?;
                wanted[*buffer] = Some(match wanted[*buffer].take() {
                    Some(sum) => sum.f_add(&gradient)?,
                    None => gradient,
                });
            }
            for (&place, gradient) in params.iter().zip(found).filter(|(_, g)| g.defined()) {
                of_params[place] = Some(gradient.f_reshape([-1])?);
            }
        }
        let specs = self.graph.params.iter().zip(self.params).zip(of_params);
        let trained = specs.filter(|((spec, _), _)| spec.trainable);
        let flat = trained.map(|((_, param), gradient)| match gradient {
            Some(gradient) => Ok(gradient),
            None => param.f_detach()?.f_zeros_like()?.f_reshape([-1]),
        });
        Tensor::f_cat(&flat.collect::<Result<Vec<_>>>()?, 0)
    }

    /// Places of the trained parameters of a segment.
    fn trained_params(&self, segment: &Segment) -> Vec<usize> {
        let first = |node: usize| match self.graph.nodes.get(node) {
            Some(node) => node.first_param,
            None => self.graph.params.len(),
        };
        let places = first(segment.nodes.start)..first(segment.nodes.end);
        places
            .filter(|&place| self.graph.params[place].trainable)
            .collect()
    }
}

impl Forward {
    /// Values of a buffer that crosses a border, or that is an output.
    pub(super) fn value(&self, buffer: Buffer) -> Result<Tensor> {
        match &self.known[buffer] {
            Some(value) => value.f_to_kind(Kind::Float),
            None => Err(tch::TchError::Shape(format!("buffer {buffer} was not kept"))),
        }
    }
}
