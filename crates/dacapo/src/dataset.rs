//! Opening the datasets of a config, and refusing those that cannot be learned from. Reading windows of them
//! lives in [`crate::window`].

use std::sync::Arc;

use ndarray::{Array3, Array4, Axis};

use dacapo_array::{ArrayRead, ArrayReadExt, Coordinate, DType, Roi};

use crate::config::{ArraySource, DatasetConfig, IntensityRange};
use crate::places::{Places, blocks_of};
use crate::plan::Shapes;
use crate::sources::{Files, Role, open};
use crate::window::Lookup;
use crate::{Error, Result};

/// Raw data and labels, open and known to fit each other and the network.
pub struct Dataset {
    /// Its name in the config.
    pub name: String,
    /// The image.
    pub raw: Arc<dyn ArrayRead>,
    /// What the config calls it.
    pub raw_address: String,
    /// The objects.
    pub labels: Arc<dyn ArrayRead>,
    /// What the config calls them.
    pub labels_address: String,
    /// Where it is not 0, the labels are annotated.
    pub mask: Option<Arc<dyn ArrayRead>>,
    /// What may be used: where raw and labels overlap, within the config's roi.
    pub roi: Roi,
    /// How often crops are taken from it, relative to others.
    pub weight: f64,
    /// Raw values that become -0.5 and 0.5.
    pub intensity: IntensityRange,
    /// Where its crops are.
    pub(crate) places: Places,
}

/// The arrays of a dataset, open, and known to fit each other, whatever network there is.
pub(crate) struct Arrays {
    pub raw: Arc<dyn ArrayRead>,
    pub labels: Arc<dyn ArrayRead>,
    pub mask: Option<Arc<dyn ArrayRead>>,
    /// Where raw and labels overlap, within the config's roi.
    pub roi: Roi,
}

impl Arrays {
    /// Opens the arrays that `config` names.
    ///
    /// # Errors
    /// [`Error::Several`] where more than one of them cannot be opened; each thing that can be wrong with them has a
    /// variant of [`Error`].
    pub fn open(config: &DatasetConfig, files: &dyn Files) -> Result<Self> {
        let dataset = || config.name.clone();
        let mut errors = Vec::new();
        let mut array = |role: Role, source: &ArraySource| {
            let opened = open(source, role, files).map_err(|failure| Error::Dataset {
                dataset: dataset(),
                role: role.name(),
                part: failure.part,
                source: Box::new(failure.error),
            });
            opened.map_err(|error| errors.push(error)).ok()
        };
        let raw = array(Role::Raw, &config.raw);
        let labels = array(Role::Labels, &config.labels);
        let mask = config.mask.as_ref().and_then(|mask| array(Role::Mask, mask));
        let (Some(raw), Some(labels), true) = (raw, labels, errors.is_empty()) else {
            return Err(Error::all(errors));
        };
        let mut errors = Vec::new();
        let expected = raw.spec().spatial_dims();
        let annotations = [("labels", Some(&labels)), ("mask", mask.as_ref())];
        for (what, array) in annotations
            .into_iter()
            .filter_map(|(what, array)| Some((what, array?)))
        {
            let spec = array.spec();
            if spec.spatial_dims() != expected {
                errors.push(Error::Dimensions {
                    dataset: dataset(),
                    what,
                    found: spec.spatial_dims(),
                    expected,
                });
            }
            let found = spec.channels.iter().product();
            if found != 1 {
                errors.push(Error::LabelChannels {
                    dataset: dataset(),
                    what,
                    found,
                });
            }
        }
        let dtype = labels.spec().dtype;
        if dtype.is_float() {
            errors.push(Error::LabelType {
                dataset: dataset(),
                dtype,
            });
        }
        if !errors.is_empty() {
            return Err(Error::all(errors));
        }
        let overlap = raw.spec().roi.intersect(&labels.spec().roi);
        let within = |roi: &Roi| (roi.dims() == expected).then(|| overlap.intersect(roi));
        let roi = config.roi.as_ref().map_or(Some(overlap.clone()), within);
        let Some(roi) = roi else {
            return Err(Error::Dimensions {
                dataset: dataset(),
                what: "roi",
                found: config.roi.as_ref().map_or(0, Roi::dims),
                expected,
            });
        };
        if roi.is_empty() {
            let roi_of = |array: &Arc<dyn ArrayRead>| Box::new(array.spec().roi.clone());
            return Err(Error::NoOverlap {
                dataset: dataset(),
                raw: roi_of(&raw),
                labels: roi_of(&labels),
                roi: config.roi.clone().map(Box::new),
            });
        }
        Ok(Self {
            raw,
            labels,
            mask,
            roi,
        })
    }
}

/// Labels on the prediction's grid, and where they are known.
pub struct Labelled {
    /// Objects (z, y, x), 0 where unknown.
    pub labels: Array3<u64>,
    /// Where the labels are annotated (z, y, x).
    pub known: Array3<bool>,
}

impl Dataset {
    /// Opens the arrays that `config` names.
    ///
    /// # Errors
    /// As [`Arrays::open`], and what does not fit the network.
    pub(crate) fn open(
        config: &DatasetConfig,
        intensity: Option<IntensityRange>,
        shapes: &Shapes,
        files: &dyn Files,
    ) -> Result<Self> {
        let dataset = config.name.clone();
        let Arrays {
            raw,
            labels,
            mask,
            roi,
        } = Arrays::open(config, files)?;
        let (found, expected) = (raw.spec().spatial_dims(), shapes.dims());
        if found != expected {
            return Err(Error::Dimensions {
                dataset,
                what: "raw",
                found,
                expected,
            });
        }
        let mut errors = Vec::new();
        let expected = shapes.input_channels;
        let found = raw.spec().channels.iter().product();
        if found != expected {
            let dataset = dataset.clone();
            errors.push(Error::Channels {
                dataset,
                found,
                expected,
            });
        }
        let prediction = shapes.output_voxel_size(&raw.spec().voxel_size);
        let voxels = &labels.spec().voxel_size;
        let divides = |(a, b)| {
            let (a, b) = (Coordinate::new([a]), Coordinate::new([b]));
            a.is_multiple_of(&b) || b.is_multiple_of(&a)
        };
        if !voxels
            .iter()
            .copied()
            .zip(prediction.iter().copied())
            .all(divides)
        {
            errors.push(Error::VoxelSizes {
                dataset: dataset.clone(),
                labels: voxels.clone(),
                prediction,
            });
        }
        let intensity = intensity.or_else(|| default_range(raw.spec().dtype));
        if intensity.is_none() {
            errors.push(Error::IntensityRange {
                dataset: dataset.clone(),
                dtype: raw.spec().dtype,
            });
        }
        let places = Places::of(config, raw.spec(), mask.as_deref(), &roi, shapes);
        let (intensity, places) = match (intensity, places) {
            (Some(intensity), Ok(places)) if errors.is_empty() => (intensity, places),
            (_, places) => {
                errors.extend(places.err());
                return Err(Error::all(errors));
            }
        };
        Ok(Self {
            name: dataset,
            raw,
            raw_address: config.raw.to_string(),
            labels,
            labels_address: config.labels.to_string(),
            mask,
            roi,
            weight: config.weight,
            intensity,
            places,
        })
    }

    /// Finds a labelled voxel, looking block by block.
    ///
    /// # Errors
    /// [`Error::NothingLabelled`] if there is none; [`Error::EmptyMask`] if nothing is annotated.
    pub(crate) fn check_labelled(&self) -> Result<()> {
        let voxel_size = &self.labels.spec().voxel_size;
        let mut is_annotated = self.mask.is_none();
        for block in blocks_of(&*self.labels, &self.roi, BLOCK) {
            let shape = block.voxels(voxel_size).unwrap_or_default();
            let found = self.labelled(block.begin(), &shape, voxel_size)?;
            let mut voxels = found.labels.iter().zip(&found.known);
            is_annotated |= voxels.clone().any(|(_, &known)| known);
            if voxels.any(|(&label, &known)| known && label != 0) {
                return Ok(());
            }
        }
        let (dataset, roi) = (self.name.clone(), self.roi.clone());
        Err(match is_annotated {
            // Labels that are coarser than all of the Roi have no whole voxel in it.
            false if self.mask_is_empty()? => Error::EmptyMask { dataset, roi },
            _ => Error::NothingLabelled { dataset, roi },
        })
    }

    /// Whether no voxel of the mask is set.
    fn mask_is_empty(&self) -> Result<bool> {
        let Some(mask) = &self.mask else { return Ok(false) };
        for block in blocks_of(&**mask, &self.roi, BLOCK) {
            if mask.read_as::<u64>(&block)?.iter().any(|&value| value != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`labelled`], of its arrays and Roi.
    pub(crate) fn labelled(
        &self,
        begin: &Coordinate,
        shape: &[usize],
        voxel_size: &Coordinate,
    ) -> Result<Labelled> {
        labelled(
            &*self.labels,
            self.mask.as_deref(),
            &self.roi,
            begin,
            shape,
            voxel_size,
        )
    }

    /// A window of raw as it is stored (channels, z, y, x), from `begin` voxels of the raw array; mirrored past its
    /// border.
    pub(crate) fn raw(&self, begin: &[i64], shape: &[usize]) -> Result<Array4<f32>> {
        Lookup::mirrored(self.raw.spec(), begin, shape).read_floats(&*self.raw)
    }
}

/// Labels of `shape` voxels of `voxel_size` from the world position `begin`: of the nearest voxel where the labels
/// have another voxel size, unknown outside of the Roi and the mask.
pub(crate) fn labelled(
    labels: &dyn ArrayRead,
    mask: Option<&dyn ArrayRead>,
    roi: &Roi,
    begin: &Coordinate,
    shape: &[usize],
    voxel_size: &Coordinate,
) -> Result<Labelled> {
    let lookup = |array: &dyn ArrayRead| Lookup::nearest(array.spec(), roi, begin, shape, voxel_size);
    let at = lookup(labels);
    let values = at.read::<u64>(labels)?.index_axis_move(Axis(0), 0);
    let mut known = at.known();
    if let Some(mask) = mask {
        let set = lookup(mask).read::<u64>(mask)?.index_axis_move(Axis(0), 0);
        known.zip_mut_with(&set, |known, &value| *known &= value != 0);
    }
    Ok(Labelled {
        labels: values,
        known,
    })
}

/// Raw as the network takes it: mirrored past its border, the intensity range mapped to -0.5…0.5.
pub(crate) fn read_input(
    raw: &dyn ArrayRead,
    intensity: IntensityRange,
    begin: &[i64],
    shape: &[usize],
) -> Result<Array4<f32>> {
    let mut values = Lookup::mirrored(raw.spec(), begin, shape).read_floats(raw)?;
    if let Some(values) = values.as_slice_mut() {
        intensity.map(values);
    }
    Ok(values)
}

impl IntensityRange {
    /// Maps raw values to those that the network takes: the range to -0.5…0.5.
    pub(crate) fn map(&self, values: &mut [f32]) {
        let factor = (1.0 / (self.max - self.min)) as f32;
        let low = self.min as f32;
        for value in values {
            *value = (*value - low) * factor - 0.5;
        }
    }
}

/// The range of a type's values, where it has a sensible one.
pub(crate) fn default_range(dtype: DType) -> Option<IntensityRange> {
    let max = match dtype {
        DType::U8 => f64::from(u8::MAX),
        DType::U16 => f64::from(u16::MAX),
        DType::F32 | DType::F64 | DType::Bool => 1.0,
        _ => return None,
    };
    Some(IntensityRange { min: 0.0, max })
}

/// Labels are looked through in blocks of this many voxels along each axis.
pub(crate) const BLOCK: usize = 128;
