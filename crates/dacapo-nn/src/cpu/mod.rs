//! The CPU engine: networks as lists of operations over planar f32 buffers, run on a pool of threads, the
//! same bits at any number of them.

use std::sync::Arc;

use crate::cpu::graph::Graph;
use crate::cpu::params::{Params, find_all};
use crate::cpu::plan::{Arena, Plan};
use crate::engine::{activate, expect_shape};
use crate::loss::loss_and_gradient;
use crate::ops::Mode;
use crate::optimizer::Optimizer;
use crate::simd::InstructionSet;
use crate::{Batch, Engine, Error, NamedTensor, Network, NetworkSpec, Result, Step, Tensor};

pub(crate) mod graph;
pub(crate) mod params;
mod plan;

/// Plans that a network keeps: one to train, and a few shapes to predict.
const PLANS: usize = 4;

/// Builds networks that run on this machine's CPU.
#[derive(Debug, Clone)]
pub struct CpuEngine {
    pool: Arc<rayon::ThreadPool>,
    set: InstructionSet,
}

impl CpuEngine {
    /// An engine with its own threads: as many as asked for, by default one a core. It computes with the best
    /// instructions that the CPU has.
    ///
    /// # Errors
    /// [`Error::Engine`] if the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::with_instructions(threads, InstructionSet::detect())
    }

    /// The same with an instruction set of choice.
    ///
    /// # Errors
    /// [`Error::Engine`] if the threads cannot be started.
    pub fn with_instructions(threads: Option<usize>, set: InstructionSet) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|i| format!("dacapo-nn-{i}"))
            .build()
            .map_err(|error| Error::Engine(error.to_string()))?;
        Ok(Self {
            pool: Arc::new(pool),
            set,
        })
    }
}

impl Engine for CpuEngine {
    fn build(&self, spec: &NetworkSpec) -> Result<Box<dyn Network>> {
        spec.optimizer.validate()?;
        let graph = spec.architecture.graph(Some(spec.out_channels()))?;
        spec.architecture.output_shape(&spec.architecture.input_shape)?;
        let params = Params::initialise(&graph.params, spec.seed);
        Ok(Box::new(CpuNetwork {
            optimizer: Optimizer::new(spec.optimizer.clone(), &params),
            spec: spec.clone(),
            pool: Arc::clone(&self.pool),
            set: self.set,
            graph,
            params,
            arena: Arena::default(),
            plans: Vec::new(),
            prediction: Tensor::default(),
        }))
    }
}

struct CpuNetwork {
    spec: NetworkSpec,
    pool: Arc<rayon::ThreadPool>,
    set: InstructionSet,
    graph: Graph,
    params: Params,
    optimizer: Optimizer,
    arena: Arena,
    /// The one used last comes last.
    plans: Vec<Plan>,
    prediction: Tensor,
}

impl CpuNetwork {
    /// Takes the plan for an input out of `plans`, or makes it.
    fn plan(&mut self, input: &Tensor, mode: Mode) -> Result<Plan> {
        let architecture = &self.spec.architecture;
        let dims = architecture.dims();
        let mut expected = vec![
            input.shape.first().copied().unwrap_or(1).max(1),
            architecture.fmaps_in,
        ];
        expected.extend(input.shape.get(2..).unwrap_or_default());
        expected.resize(2 + dims, 1);
        expect_shape("the input", input, &expected)?;
        let voxels = [
            if dims == 2 { 1 } else { input.shape[2] },
            input.shape[dims],
            input.shape[dims + 1],
        ];
        let matches =
            |plan: &Plan| plan.batch == input.shape[0] && plan.mode == mode && plan.input().voxels == voxels;
        if let Some(i) = self.plans.iter().position(matches) {
            return Ok(self.plans.remove(i));
        }
        architecture.output_shape(&input.shape[2..])?;
        let shapes = self
            .graph
            .shapes(voxels)
            .map_err(|(_, reason)| Error::InputShape {
                shape: input.shape[2..].to_vec(),
                reason,
                nearest: None,
            })?;
        Plan::new(&self.graph, shapes, input.shape[0], mode, self.set)
    }

    fn keep(&mut self, plan: Plan) {
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        self.plans.push(plan);
    }

    /// Shape of a plan's output as tensors have it.
    fn tensor_shape(&self, plan: &Plan) -> Vec<usize> {
        let output = plan.output();
        let mut shape = vec![plan.batch, output.channels];
        shape.extend_from_slice(&output.voxels[3 - self.spec.architecture.dims()..]);
        shape
    }

    fn step(&mut self, plan: &mut Plan, batch: &Batch, learning_rate: f64) -> Result<Step> {
        let shape = self.tensor_shape(plan);
        expect_shape("the target", &batch.target, &shape)?;
        expect_shape("the weight", &batch.weight, &shape)?;
        let (graph, params, arena) = (&self.graph, &mut self.params, &mut self.arena);
        let output = plan.forward(graph, params, arena, &batch.input.data);
        self.prediction.reshape_uninit(&shape);
        self.prediction.data.copy_from_slice(output);
        let len = output.len();
        let mut gradient = arena.take(len);
        let loss = loss_and_gradient(
            &self.spec.outputs,
            shape[0],
            &self.prediction.data,
            &batch.target.data,
            &batch.weight.data,
            &mut gradient[..len],
        );
        if !loss.is_finite() {
            arena.give(gradient);
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        plan.backward(graph, params, arena, &batch.input.data, gradient);
        let gradient_norm = Optimizer::gradient_norm(params);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                what: "gradient norm",
                value: gradient_norm,
            });
        }
        let scale = match self.spec.clip_gradient_norm {
            Some(limit) if gradient_norm > limit => limit / gradient_norm,
            _ => 1.0,
        };
        self.optimizer.update(params, learning_rate, scale);
        Ok(Step { loss, gradient_norm })
    }
}

impl Network for CpuNetwork {
    fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    fn forward(&mut self, input: &Tensor, output: &mut Tensor) -> Result<()> {
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            let mut plan = self.plan(input, Mode::Predict)?;
            output.reshape_uninit(&self.tensor_shape(&plan));
            let values = plan.forward(&self.graph, &mut self.params, &mut self.arena, &input.data);
            output.data.copy_from_slice(values);
            activate(&self.spec.outputs, plan.batch, &mut output.data);
            self.keep(plan);
            Ok(())
        })
    }

    fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<Step> {
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            let mut plan = self.plan(&batch.input, Mode::Train)?;
            let result = self.step(&mut plan, batch, learning_rate);
            self.keep(plan);
            result
        })
    }

    fn prediction(&self) -> &Tensor {
        &self.prediction
    }

    fn export(&self) -> Vec<NamedTensor> {
        let mut tensors = self.params.export("model/");
        tensors.extend(self.optimizer.export(&self.params));
        tensors
    }

    fn import(&mut self, tensors: &[NamedTensor]) -> Result<()> {
        let values = find_all(self.params.0.iter().map(|param| &param.spec), "model/", tensors)?;
        let known = |name: &str| self.params.0.iter().any(|param| param.spec.name == name);
        let unknown = tensors
            .iter()
            .filter_map(|t| t.name.strip_prefix("model/"))
            .find(|name| !known(name));
        if let Some(name) = unknown {
            return Err(Error::Weights(format!(
                "`model/{name}` is unknown to the network"
            )));
        }
        let optimizer = Optimizer::import(self.spec.optimizer.clone(), &self.params, tensors)?;
        let values: Vec<Vec<f32>> = values.into_iter().map(<[f32]>::to_vec).collect();
        self.params
            .0
            .iter_mut()
            .zip(values)
            .for_each(|(param, value)| param.value = value);
        self.optimizer = optimizer;
        Ok(())
    }
}
