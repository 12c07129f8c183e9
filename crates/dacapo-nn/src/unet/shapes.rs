//! The shapes that a U-Net takes, and how many parameters it has. What memory that needs is its engine's affair.

use super::build::Purpose;
use super::config::UNetConfig;
use crate::cpu::graph::Graph;
use crate::ops::Shape;
use crate::{Error, Result};

/// How far from a shape a fitting one is looked for, in voxels.
const SEARCH: usize = 1024;

impl UNetConfig {
    /// Spatial output shape for a spatial input shape, in voxels.
    ///
    /// ```
    /// let unet = dacapo_nn::UNetConfig::default();
    /// assert_eq!(unet.output_shape(&[92, 92, 92]).unwrap(), [52, 52, 52]);
    /// let error = unet.output_shape(&[93, 92, 92]).unwrap_err();
    /// assert!(error.to_string().contains("nearest that it can take is [92, 92, 92]"));
    /// ```
    ///
    /// # Errors
    /// [`Error::InputShape`] with the nearest shape that fits; [`Error::Config`] where the architecture
    /// itself makes no sense.
    pub fn output_shape(&self, input: &[usize]) -> Result<Vec<usize>> {
        let graph = self.graph(None, Purpose::Predict)?;
        if input.len() != self.dims() {
            return Err(Error::InputShape {
                shape: input.to_vec(),
                reason: format!("it has {} axes, not {}", input.len(), self.dims()),
                nearest: None,
            });
        }
        let length = |axis, length| self.length(&graph, axis, length);
        let lengths: std::result::Result<Vec<usize>, String> = (0..input.len())
            .map(|axis| {
                length(axis, input[axis]).map_err(|reason| format!("in {}, {reason}", self.axis(axis)))
            })
            .collect();
        lengths.map_err(|reason| {
            let fits = |axis: usize| {
                let wanted = input[axis];
                let near = (0..SEARCH).flat_map(|d| [wanted.saturating_sub(d), wanted + d]);
                near.into_iter().find(|&n| n > 0 && length(axis, n).is_ok())
            };
            let nearest = (0..input.len()).map(fits).collect();
            Error::InputShape {
                shape: input.to_vec(),
                reason,
                nearest,
            }
        })
    }

    /// Shapes of all buffers of one of its graphs, for a spatial input shape.
    ///
    /// # Errors
    /// As [`UNetConfig::output_shape`].
    pub(crate) fn buffer_shapes(&self, graph: &Graph, input: &[usize]) -> Result<Vec<Shape>> {
        self.output_shape(input)?;
        graph
            .shapes(self.zyx(input))
            .map_err(|(_, reason)| Error::InputShape {
                shape: input.to_vec(),
                reason,
                nearest: None,
            })
    }

    /// Shapes that it takes, with the shapes that it gives, in voxels, from the smallest to about `most` along the
    /// longest axis. Axes are in the proportions of `input_shape`, as far as the network allows.
    ///
    /// ```
    /// let shapes = dacapo_nn::UNetConfig::default().shapes(92).unwrap();
    /// assert_eq!(shapes.first().unwrap(), &(vec![44; 3], vec![4; 3]));
    /// assert_eq!(shapes.last().unwrap(), &(vec![92; 3], vec![52; 3]));
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] where the architecture makes no sense.
    pub fn shapes(&self, most: usize) -> Result<Vec<(Vec<usize>, Vec<usize>)>> {
        let graph = self.graph(None, Purpose::Predict)?;
        let lengths: Vec<Vec<(usize, usize)>> = (0..self.dims())
            .map(|axis| {
                let fits = |n| Some((n, self.length(&graph, axis, n).ok()?));
                (1..=most).filter_map(fits).collect()
            })
            .collect();
        if lengths.iter().any(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let longest = (0..self.dims())
            .max_by_key(|&axis| self.input_shape[axis])
            .unwrap_or(0);
        let mut shapes: Vec<(Vec<usize>, Vec<usize>)> = lengths[longest]
            .iter()
            .map(|&(length, _)| {
                let along = |axis: usize| {
                    let wanted = (length * self.input_shape[axis]) as f64 / self.input_shape[longest] as f64;
                    let distance = |(n, _): &(usize, usize)| (*n as f64 - wanted).abs();
                    let nearest = lengths[axis]
                        .iter()
                        .min_by(|a, b| distance(a).total_cmp(&distance(b)));
                    nearest.copied().unwrap_or_default()
                };
                (0..self.dims()).map(along).unzip()
            })
            .collect();
        shapes.dedup();
        Ok(shapes)
    }

    /// Trained parameters, with a head of `out_channels`.
    ///
    /// # Errors
    /// [`Error::Config`] where the architecture makes no sense.
    pub fn parameters(&self, out_channels: usize) -> Result<usize> {
        let graph = self.graph(Some(out_channels), Purpose::Train)?;
        let trained = graph.params.iter().filter(|param| param.trainable);
        Ok(trained.map(|param| param.shape.iter().product::<usize>()).sum())
    }

    /// The output's length along an axis for an input's, or why there is none.
    fn length(&self, graph: &Graph, axis: usize, length: usize) -> std::result::Result<usize, String> {
        let lengths = graph.lengths(3 - self.dims() + axis, length)?;
        Ok(lengths[graph.output])
    }

    fn axis(&self, axis: usize) -> &'static str {
        ["z", "y", "x"][3 - self.dims() + axis]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_shape_fits() {
        let anisotropic = UNetConfig {
            input_shape: vec![20, 100, 100],
            downsample_factors: vec![vec![1, 2, 2]; 2],
            kernel_size_down: Some(vec![vec![vec![1, 3, 3]; 2]; 3]),
            kernel_size_up: Some(vec![vec![vec![1, 3, 3]; 2]; 2]),
            ..UNetConfig::default()
        };
        for architecture in [UNetConfig::default(), anisotropic] {
            let shapes = architecture.shapes(150).unwrap();
            assert!(shapes.len() > 10, "{shapes:?}");
            for (input, output) in &shapes {
                assert_eq!(&architecture.output_shape(input).unwrap(), output);
            }
            assert!(shapes.windows(2).all(|w| w[0] != w[1]));
            // None of them is far from the proportions that were asked for.
            let (input, _) = &shapes[shapes.len() - 1];
            let ratio = input[0] as f64 / input[2] as f64;
            let wanted = architecture.input_shape[0] as f64 / architecture.input_shape[2] as f64;
            assert!((ratio - wanted).abs() < 0.1, "{input:?}");
        }
    }

    #[test]
    fn parameters_are_counted() {
        let one_level = UNetConfig {
            downsample_factors: Vec::new(),
            num_fmaps: 2,
            ..UNetConfig::default()
        };
        // Two convolutions and the head, each with a bias.
        let expected = (27 * 2 + 2) + (27 * 4 + 2) + (2 * 3 + 3);
        assert_eq!(one_level.parameters(3).unwrap(), expected);
    }
}
