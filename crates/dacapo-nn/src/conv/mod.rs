//! Convolutions on the CPU, and their gradients: planar `[N][C][D][H][W]` f32 in and out, weights as PyTorch lays
//! them out. What a network does with them does not live here.
//!
//! | kernel | method |
//! |---|---|
//! | 3 in z and y, or in z or y alone, stride 1 | [`winograd`]: tiles of 4 outputs, direct taps along x |
//! | 3 in y and x, 1 in z, stride 1, channels enough | [`winograd`]: tiles of 4 outputs along both |
//! | transposed, 4 taps with stride 2 and padding 1 along all axes | [`winograd`]: the 8 outputs of a voxel are channels |
//! | any other | [`direct`]: rows packed for the taps |
//!
//! Backward, tiles of a convolution along two axes are of 3 outputs along the first where there are few channels
//! ([`winograd`] says why).
//!
//! Both end in the same two inner loops ([`kernel`]).
//!
//! Work is split by the shape alone and partial sums are added in a fixed order: the same bits come out at any
//! number of threads. Threads are those of the current rayon pool.

mod axis;
mod direct;
mod geometry;
mod kernel;
mod pack;
mod scratch;
#[cfg(test)]
mod tests;
mod winograd;

pub use geometry::ConvGeometry;

use crate::Result;
use crate::simd::InstructionSet;
use direct::{Direct, Finish};
use pack::Gated;
use winograd::{Doubling, Passes, Winograd};

/// A convolution of one shape.
pub struct Convolution {
    sizes: Sizes,
    method: Method,
}

enum Method {
    Winograd {
        forward: Box<Winograd>,
        backward: Box<Winograd>,
    },
    Direct(Box<Direct>),
}

/// Element counts of the tensors, checked before anything else happens.
#[derive(Clone, Copy)]
struct Sizes {
    input: usize,
    output: usize,
    weights: usize,
    out_channels: usize,
}

impl Sizes {
    fn new(g: &ConvGeometry, output: [usize; 3], batch: usize) -> Self {
        Self {
            input: batch * g.in_channels * g.input.iter().product::<usize>(),
            output: batch * g.out_channels * output.iter().product::<usize>(),
            weights: g.out_channels * g.in_channels * g.kernel.iter().product::<usize>(),
            out_channels: g.out_channels,
        }
    }

    fn check_forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &[f32]) {
        assert_eq!(x.len(), self.input, "elements of the input");
        assert_eq!(w.len(), self.weights, "elements of the weights");
        assert_eq!(y.len(), self.output, "elements of the output");
        if let Some(bias) = bias {
            assert_eq!(bias.len(), self.out_channels, "elements of the bias");
        }
    }

    fn check_backward(&self, y_relu: Option<&[f32]>, dx: Option<&[f32]>, dw: &[f32], db: Option<&[f32]>) {
        assert_eq!(dw.len(), self.weights, "elements of the weights' gradient");
        if let Some(y) = y_relu {
            assert_eq!(y.len(), self.output, "elements of the ReLU's output");
        }
        if let Some(dx) = dx {
            assert_eq!(dx.len(), self.input, "elements of the input's gradient");
        }
        if let Some(db) = db {
            assert_eq!(db.len(), self.out_channels, "elements of the bias' gradient");
        }
    }
}

impl Convolution {
    /// Plans a convolution for `batch` samples.
    ///
    /// # Errors
    /// A geometry that no convolution can have ([`ConvGeometry::output`]).
    pub fn new(geometry: ConvGeometry, batch: usize) -> Result<Self> {
        Self::with(geometry, batch, InstructionSet::detect())
    }

    /// The same with an instruction set of choice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(geometry: ConvGeometry, batch: usize, set: InstructionSet) -> Result<Self> {
        geometry::check_batch(batch)?;
        let sizes = Sizes::new(&geometry, geometry.output()?, batch);
        let joined = geometry.joined();
        let output = joined.output()?;
        let tiles = |passes| Winograd::new(&joined, output, batch, set, passes).map(Box::new);
        let method = match (tiles(Passes::Forward), tiles(Passes::Backward)) {
            (Some(forward), Some(backward)) => Method::Winograd { forward, backward },
            _ => Method::Direct(Box::new(Direct::new(&joined, output, batch, set))),
        };
        Ok(Self { sizes, method })
    }

    /// `y = w ∗ x + bias`, then ReLU if `relu`. `x`: `[N][ci][D][H][W]`; `w`: `[co][ci][kz][ky][kx]`; all of `y`,
    /// `[N][co][D'][H'][W']`, is overwritten.
    ///
    /// # Panics
    /// Where a slice has not the length that the geometry asks for.
    pub fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        self.sizes.check_forward(x, w, bias, y);
        let finish = Finish {
            bias,
            relu,
            add: false,
        };
        match &self.method {
            Method::Winograd { forward, .. } => forward.forward(x, w, finish, y),
            Method::Direct(plan) => plan.forward(x, w, finish, y),
        }
    }

    /// The gradients, given that of the output (`gy`); `dx` (unless it is to `add` to what is there), `dw` and `db` are
    /// overwritten. `y_relu` is what the forward gave, if it applied ReLU.
    ///
    /// # Panics
    /// Where a slice has not the length that the geometry asks for, and if it cannot [add](Self::adds).
    #[allow(clippy::too_many_arguments, reason = "the tensors of a convolution")]
    pub fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        y_relu: Option<&[f32]>,
        gy: &[f32],
        dx: Option<&mut [f32]>,
        add: bool,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        self.sizes.check_forward(x, w, None, gy);
        self.sizes
            .check_backward(y_relu, dx.as_deref(), dw, db.as_deref());
        let gy = Gated {
            values: gy,
            gate: y_relu,
        };
        assert!(!add || self.adds(), "tiles overwrite the input's gradient");
        match &self.method {
            Method::Winograd { backward, .. } => backward.backward(x, w, gy, dx, dw, db),
            Method::Direct(plan) => {
                if let Some(dx) = dx {
                    let finish = Finish {
                        add,
                        ..Finish::default()
                    };
                    plan.adjoint(gy, w, finish, dx);
                }
                let x = Gated {
                    values: x,
                    gate: None,
                };
                plan.weight_gradient(x, gy, dw, db, None);
            }
        }
    }
}

impl Convolution {
    /// Whether the backward pass can add to a gradient of the input.
    pub fn adds(&self) -> bool {
        matches!(self.method, Method::Direct(_))
    }

    /// Multiplications in inner products: forward, or backward (to the input as well?).
    pub(crate) fn multiplications(&self, backward: Option<bool>) -> u64 {
        let (forward, adjoint, gradient) = match &self.method {
            Method::Winograd { forward, backward } => {
                let [gradient, adjoint] = backward.multiplications();
                (forward.multiplications()[0], adjoint, gradient)
            }
            Method::Direct(plan) => plan.multiplications(),
        };
        match backward {
            None => forward,
            Some(to_input) => gradient + if to_input { adjoint } else { 0 },
        }
    }

    /// Values of working memory that it takes on so many threads, forward alone or backward as well.
    pub(crate) fn scratch(&self, backward: bool, threads: usize) -> usize {
        match &self.method {
            Method::Winograd {
                forward,
                backward: plan,
            } => {
                let forward = forward.scratch_forward(threads);
                if backward {
                    forward.max(plan.scratch_backward(threads))
                } else {
                    forward
                }
            }
            Method::Direct(plan) => {
                let forward = plan.scratch_forward(threads);
                if !backward {
                    return forward;
                }
                forward
                    .max(plan.scratch_adjoint(threads))
                    .max(plan.scratch_gradient(threads))
            }
        }
    }
}

impl TransposedConvolution {
    /// As [`Convolution::adds`].
    pub fn adds(&self) -> bool {
        matches!(self.method, Transposed::Direct(_))
    }

    /// As [`Convolution::multiplications`].
    pub(crate) fn multiplications(&self, backward: Option<bool>) -> u64 {
        let (forward, adjoint, gradient) = match &self.method {
            Transposed::Doubling(plan) => {
                let [gradient, adjoint] = plan.multiplications();
                (gradient, adjoint, gradient)
            }
            Transposed::Direct(plan) => {
                let (adjoint, forward, gradient) = plan.multiplications();
                (forward, adjoint, gradient)
            }
        };
        match backward {
            None => forward,
            Some(to_input) => gradient + if to_input { adjoint } else { 0 },
        }
    }

    /// As [`Convolution::scratch`].
    pub(crate) fn scratch(&self, backward: bool, threads: usize) -> usize {
        let (forward, gradient) = match &self.method {
            Transposed::Doubling(plan) => (plan.scratch_forward(threads), plan.scratch_backward(threads)),
            Transposed::Direct(plan) => (plan.scratch_adjoint(threads), plan.scratch_gradient(threads)),
        };
        if backward { forward.max(gradient) } else { forward }
    }
}

/// A transposed convolution of one shape: the adjoint of the convolution that has its output as input.
pub struct TransposedConvolution {
    sizes: Sizes,
    batch: usize,
    set: InstructionSet,
    method: Transposed,
}

enum Transposed {
    Doubling(Box<Doubling>),
    Direct(Box<Direct>),
}

impl TransposedConvolution {
    /// Plans a transposed convolution for `batch` samples. The geometry's input is this operation's input; its
    /// output is [`ConvGeometry::transposed_output`].
    ///
    /// # Errors
    /// A geometry that no transposed convolution can have.
    pub fn new(geometry: ConvGeometry, batch: usize) -> Result<Self> {
        Self::with(geometry, batch, InstructionSet::detect())
    }

    /// The same with an instruction set of choice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(geometry: ConvGeometry, batch: usize, set: InstructionSet) -> Result<Self> {
        geometry::check_batch(batch)?;
        let output = geometry.transposed_output()?;
        let sizes = Sizes::new(&geometry, output, batch);
        let method = match Doubling::new(&geometry, batch, set) {
            Some(plan) => Transposed::Doubling(Box::new(plan)),
            None => {
                let adjoint = ConvGeometry {
                    in_channels: geometry.out_channels,
                    out_channels: geometry.in_channels,
                    input: output,
                    ..geometry
                };
                Transposed::Direct(Box::new(Direct::new(&adjoint, adjoint.output()?, batch, set)))
            }
        };
        Ok(Self {
            sizes,
            batch,
            set,
            method,
        })
    }

    /// As [`Convolution::forward`], with `w`: `[ci][co][kz][ky][kx]`, as PyTorch's `ConvTranspose3d` has it.
    ///
    /// # Panics
    /// Where a slice has not the length that the geometry asks for.
    pub fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        self.sizes.check_forward(x, w, bias, y);
        let finish = Finish {
            bias,
            relu,
            add: false,
        };
        match &self.method {
            Transposed::Doubling(plan) => plan.forward(x, w, finish, y),
            Transposed::Direct(plan) => {
                let x = Gated {
                    values: x,
                    gate: None,
                };
                plan.adjoint(x, w, finish, y);
            }
        }
    }

    /// As [`Convolution::backward`].
    ///
    /// # Panics
    /// Where a slice has not the length that the geometry asks for, and if it cannot [add](Self::adds).
    #[allow(clippy::too_many_arguments, reason = "the tensors of a convolution")]
    pub fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        y_relu: Option<&[f32]>,
        gy: &[f32],
        dx: Option<&mut [f32]>,
        add: bool,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        self.sizes.check_forward(x, w, None, gy);
        self.sizes
            .check_backward(y_relu, dx.as_deref(), dw, db.as_deref());
        let gy = Gated {
            values: gy,
            gate: y_relu,
        };
        assert!(!add || self.adds(), "tiles overwrite the input's gradient");
        match &self.method {
            Transposed::Doubling(plan) => plan.backward(x, w, gy, dx, dw, db),
            Transposed::Direct(plan) => {
                let forward = dx.map(|dx| (w, add, dx));
                let x = Gated {
                    values: x,
                    gate: None,
                };
                plan.weight_gradient(gy, x, dw, None, forward);
                if let Some(db) = db {
                    pack::channel_sums(self.set, gy, self.batch, db);
                }
            }
        }
    }
}
