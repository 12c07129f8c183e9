//! A network in libtorch: what it has learnt on the device, and the passes for the batches that come from the host.

use tch::Kind;

use super::Setting;
use super::loss::loss;
use super::pass::{Computation, Forward, segments};
use super::weights::{Learnt, Weights, download, shape_of, upload};
use crate::cpu::graph::{Buffer, Graph};
use crate::engine::{clipping, expect_input, expect_shape, finite};
use crate::ops::{Mode, Pass, Shape};
use crate::state::{State, stream};
use crate::unet::Purpose;
use crate::{Activation, Batch, Error, NamedTensor, Network, NetworkSpec, Norm, Result, Step, Tensor};

/// What losses are multiplied with at first where gradients are computed in 16 bits of IEEE 754, at most; and after how
/// many batches without an overflow it is tried to double it. Powers of 2, so that only underflows are changed
/// (Micikevicius et al. 2017; the figures are PyTorch's).
const FIRST_SCALE: f64 = 65536.0;
const DOUBLED_AFTER: u32 = 2000;

pub(super) struct TorchNetwork {
    spec: NetworkSpec,
    setting: Setting,
    training: Graph,
    predicting: Graph,
    learnt: Learnt,
    /// What predictions are made with, where that is not what is trained; empty until it is needed.
    predicting_weights: Option<Weights>,
    prediction: Tensor,
    /// Losses of the batches since the last update, and the sum of their gradients.
    losses: Vec<f64>,
    gradients: Option<tch::Tensor>,
    /// What gradients are multiplied with on their way, in 16 bits of IEEE 754 only.
    scale: f64,
    /// Batches since the scale has changed.
    batches: u32,
}

impl TorchNetwork {
    pub(super) fn new(spec: &NetworkSpec, setting: Setting) -> Result<Self> {
        let graph = |purpose| spec.architecture.graph(Some(spec.out_channels()), purpose);
        let training = graph(Purpose::Train)?;
        spec.architecture.output_shape(&spec.architecture.input_shape)?;
        Ok(Self {
            learnt: Learnt::upload(&State::new(spec, &training)?, setting.device)?,
            spec: spec.clone(),
            predicting: graph(Purpose::Predict)?,
            training,
            setting,
            predicting_weights: None,
            prediction: Tensor::default(),
            losses: Vec::new(),
            gradients: None,
            scale: FIRST_SCALE,
            batches: 0,
        })
    }

    /// A tensor from the host, as it should lie.
    fn upload(&self, tensor: &Tensor) -> Result<tch::Tensor> {
        let values = upload(&tensor.data, self.setting.device)?;
        Ok(self.setting.lay(&values.f_reshape(shape_of(&tensor.shape))?)?)
    }

    /// Shapes of a graph's buffers for an input.
    fn shapes(&self, graph: &Graph, input: &Tensor) -> Result<Vec<Shape>> {
        expect_input(&self.spec.architecture, input)?;
        self.spec.architecture.buffer_shapes(graph, &input.shape[2..])
    }

    /// Shape of a buffer as tensors have it.
    fn tensor_shape(&self, batch: usize, shape: Shape) -> Vec<usize> {
        let mut lengths = vec![batch, shape.channels];
        lengths.extend_from_slice(&shape.voxels[3 - self.spec.architecture.dims()..]);
        lengths
    }

    /// Forward and backward: the batch's loss and its gradients.
    fn learn(&mut self, batch: &Batch) -> Result<(f64, tch::Tensor)> {
        let shapes = self.shapes(&self.training, &batch.input)?;
        let shape = self.tensor_shape(batch.input.shape[0], shapes[self.training.output]);
        expect_shape("the target", &batch.target, &shape)?;
        expect_shape("the weight", &batch.weight, &shape)?;
        let computation = Computation {
            graph: &self.training,
            shapes: &shapes,
            params: self.learnt.weights.views(),
            setting: self.setting,
            pass: Pass {
                mode: Mode::Train,
                stream: stream(self.spec.seed, self.learnt.steps(), self.losses.len()),
                again: false,
            },
        };
        let forward = computation.forward(self.upload(&batch.input)?, self.spec.recompute)?;
        self.prediction = Tensor {
            data: download(&forward.value(self.training.output)?)?,
            shape,
        };
        let (loss, gradients) = self.loss(&forward, batch)?;
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        if self.setting.kind != Kind::Half {
            return Ok((loss, computation.backward(&forward, gradients, false)?));
        }
        loop {
            let scaled = gradients
                .iter()
                .map(|(buffer, gradient)| Ok((*buffer, gradient.f_mul_scalar(self.scale)?)));
            let scaled = scaled.collect::<Result<Vec<_>>>()?;
            let found = computation.backward(&forward, scaled, self.scale > 1.0)?;
            if self.scale > 1.0 && !all_finite(&found)? {
                // The same batch with gradients that are smaller on their way.
                (self.scale, self.batches) = (self.scale / 2.0, 0);
                continue;
            }
            let found = found.f_div_scalar(self.scale)?;
            self.batches += 1;
            if self.batches == DOUBLED_AFTER {
                (self.scale, self.batches) = ((self.scale * 2.0).min(FIRST_SCALE), 0);
            }
            return Ok((loss, found));
        }
    }

    /// The loss of all heads, and its gradients by their outputs.
    fn loss(&self, forward: &Forward, batch: &Batch) -> Result<(f64, Vec<(Buffer, tch::Tensor)>)> {
        let (target, weight) = (self.upload(&batch.target)?, self.upload(&batch.weight)?);
        let auxiliary = self.training.auxiliary.iter().map(|a| (a.buffer, a.share));
        let heads = std::iter::once((self.training.output, self.training.share)).chain(auxiliary);
        let (mut sum, mut gradients) = (0.0, Vec::new());
        for (buffer, share) in heads {
            let value = forward.value(buffer)?.f_detach()?.f_set_requires_grad(true)?;
            let loss = loss(&self.spec.outputs, &value, &target, &weight)?.f_mul_scalar(share)?;
            sum += loss.f_double_value(&[])?;
            let found = tch::Tensor::f_run_backward(&[&loss], &[&value], false, false)?;
            gradients.extend(found.into_iter().map(|gradient| (buffer, gradient)));
        }
        Ok((sum, gradients))
    }

    fn apply(&mut self, gradients: &tch::Tensor, count: usize, learning_rate: f64) -> Result<f64> {
        let gradients = gradients.f_div_scalar(count as f64)?;
        let gradient_norm = gradients
            .f_norm_scalaropt_dtype(2.0, Kind::Double)?
            .f_double_value(&[])?;
        let scale = clipping(&self.spec, gradient_norm)?;
        self.learnt.update(&self.spec, &gradients, learning_rate, scale)?;
        Ok(gradient_norm)
    }

    /// Whether predictions are made with other weights than those that are trained.
    fn predicts_with_others(&self) -> bool {
        self.spec.ema.is_some() || self.spec.architecture.effective_norm() == Norm::Batch
    }

    fn state(&self) -> Result<State> {
        self.learnt.download(&self.spec, &self.training.params)
    }

    /// What stands behind the last layer, group after group.
    fn activated(&self, values: &tch::Tensor) -> Result<tch::Tensor> {
        let (mut first, mut parts) = (0, Vec::new());
        for group in &self.spec.outputs {
            let part = values.f_narrow(1, first, group.channels as i64)?;
            first += group.channels as i64;
            parts.push(match group.activation {
                Activation::None => part,
                Activation::Sigmoid => part.f_sigmoid()?,
                Activation::Softmax => part.f_softmax(1, None::<Kind>)?,
            });
        }
        Ok(tch::Tensor::f_cat(&parts, 1)?)
    }
}

fn all_finite(values: &tch::Tensor) -> Result<bool> {
    Ok(values.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

impl Network for TorchNetwork {
    fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    fn forward(&mut self, input: &Tensor, output: &mut Tensor) -> Result<()> {
        let shapes = self.shapes(&self.predicting, input)?;
        finite("input", &input.data)?;
        if self.predicts_with_others() && self.predicting_weights.is_none() {
            let params = self.state()?.to_predict_with(&self.predicting);
            self.predicting_weights = Some(Weights::of(&params, self.setting.device)?);
        }
        let _guard = tch::no_grad_guard();
        let computation = Computation {
            graph: &self.predicting,
            shapes: &shapes,
            params: self
                .predicting_weights
                .as_ref()
                .unwrap_or(&self.learnt.weights)
                .views(),
            setting: self.setting,
            pass: Pass {
                mode: Mode::Predict,
                stream: 0,
                again: false,
            },
        };
        let mut values = self.upload(input)?;
        for segment in &segments(&self.predicting, false) {
            if let Some(output) = computation.run(segment, vec![values.shallow_clone()])?.pop() {
                values = output;
            }
        }
        let values = values.f_to_kind(Kind::Float)?;
        let checked = match all_finite(&values)? {
            true => Ok(()),
            false => finite("prediction", &download(&values)?),
        };
        output.data = download(&self.activated(&values)?)?;
        output.shape = self.tensor_shape(input.shape[0], shapes[self.predicting.output]);
        checked
    }

    fn accumulate(&mut self, batch: &Batch) -> Result<f64> {
        self.predicting_weights = None;
        let sum = self.learn(batch).and_then(|(loss, gradients)| {
            let sum = match &self.gradients {
                Some(sum) => sum.f_add(&gradients)?,
                None => gradients,
            };
            Ok((loss, sum))
        });
        match sum {
            Ok((loss, sum)) => {
                self.losses.push(loss);
                self.gradients = Some(sum);
                Ok(loss)
            }
            Err(error) => {
                self.losses.clear();
                self.gradients = None;
                Err(error)
            }
        }
    }

    fn update(&mut self, learning_rate: f64) -> Result<Step> {
        let Some(gradients) = self.gradients.take() else {
            return Err(Error::NoGradients);
        };
        self.predicting_weights = None;
        let losses = std::mem::take(&mut self.losses);
        let gradient_norm = self.apply(&gradients, losses.len(), learning_rate)?;
        Ok(Step {
            loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            gradient_norm,
        })
    }

    fn prediction(&self) -> &Tensor {
        &self.prediction
    }

    fn export(&self) -> Result<Vec<NamedTensor>> {
        Ok(self.state()?.export())
    }

    fn import(&mut self, tensors: &[NamedTensor]) -> Result<()> {
        let mut state = State::new(&self.spec, &self.training)?;
        state.import(&self.spec, tensors)?;
        self.learnt = Learnt::upload(&state, self.setting.device)?;
        self.predicting_weights = None;
        self.losses.clear();
        self.gradients = None;
        Ok(())
    }
}
