//! A made-up electron microscopy volume with its labels: crooked cells that touch, dark membranes between
//! them, texture and organelles inside, noise. For demonstrations and tests; it is no model of tissue.

use std::sync::Arc;

use ndarray::{Array3, Axis};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_array::storage::{Access, Location, Moved, Storage, unfinished};
use dacapo_array::{
    ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, Decimal, NdData, Roi, ZarrArray,
};

use crate::random::{Purpose, Random};
use crate::{Error, Result};

/// A synthetic volume: datasets `raw` (uint8), `labels` (uint64) and `classes` (uint8) of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticConfig {
    /// The Zarr container, made beside the config where it is missing.
    pub container: String,
    /// Voxels along z, y, x.
    pub shape: [usize; 3],
    /// World units along z, y, x.
    pub voxel_size: [f64; 3],
    /// Mean diameter of a cell, in world units.
    pub cell_diameter: f64,
    /// Thickness of the membranes, in world units.
    pub membrane: f64,
    /// Standard deviation of the noise, as a part of the range from black to white.
    pub noise: f32,
    /// Determines everything else.
    pub seed: u64,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            container: "synthetic.zarr".to_owned(),
            shape: [128; 3],
            voxel_size: [8.0; 3],
            cell_diameter: 200.0,
            membrane: 24.0,
            noise: 0.07,
            seed: 1,
        }
    }
}

/// What was made up.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticVolume {
    /// Intensities (z, y, x).
    pub raw: Array3<u8>,
    /// Cells (z, y, x), numbered from 1 without gaps.
    pub labels: Array3<u64>,
    /// What a voxel is of (z, y, x): 1 of a membrane, 2 of an organelle, 0 of the rest of a cell.
    pub classes: Array3<u8>,
}

/// The volume that `config` describes: the same for the same config, at any number of threads.
pub fn generate(config: &SyntheticConfig) -> SyntheticVolume {
    let extent: [f32; 3] = std::array::from_fn(|a| config.shape[a] as f32 * config.voxel_size[a] as f32);
    let diameter = config.cell_diameter as f32;
    let mut random = Random::new(config.seed, 0, 0, Purpose::Synthetic);
    let mut field = |spacing: f32| Field::draw(extent, spacing, &mut random);
    let bend = [
        field(0.7 * diameter),
        field(0.7 * diameter),
        field(0.7 * diameter),
    ];
    let organelles = field(0.28 * diameter);
    let texture = field(0.06 * diameter);
    let cells = Cells::draw(extent, diameter, &mut random);
    let noise = Random::new(config.seed, 0, 0, Purpose::Noise);

    let mut raw = Array3::zeros(config.shape);
    let mut labels = Array3::zeros(config.shape);
    let mut classes = Array3::zeros(config.shape);
    let planes = raw
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(labels.axis_iter_mut(Axis(0)))
        .zip(classes.axis_iter_mut(Axis(0)));
    planes
        .enumerate()
        .for_each(|(z, ((mut raw, mut labels), mut classes))| {
            let mut noise = noise.clone().jump((z as u32) << 20);
            for y in 0..config.shape[1] {
                for x in 0..config.shape[2] {
                    let index = [z, y, x];
                    let at: [f32; 3] =
                        std::array::from_fn(|a| (index[a] as f32 + 0.5) * config.voxel_size[a] as f32);
                    let bent = std::array::from_fn(|a| at[a] + 0.35 * diameter * bend[a].at(at));
                    let (cell, border) = cells.nearest(bent);
                    // 0 at a membrane's middle, 1 where it ends.
                    let inside = (border / (0.5 * config.membrane as f32)).min(1.5);
                    let inside = smooth((inside - 0.5).clamp(0.0, 1.0));
                    let dark = smooth((3.0 * organelles.at(at) - 0.6).clamp(0.0, 1.0)) * inside;
                    let body = 0.62 + 0.08 * cells.shade(cell) - 0.16 * dark + 0.06 * texture.at(at);
                    let value = 0.22 + (body - 0.22) * inside + config.noise * noise.normal_pair()[0];
                    raw[[y, x]] = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
                    labels[[y, x]] = cell as u64 + 1;
                    classes[[y, x]] = match () {
                        () if inside < 0.5 => 1,
                        () if dark > 0.5 => 2,
                        () => 0,
                    };
                }
            }
        });
    number_from_one(&mut labels);
    SyntheticVolume { raw, labels, classes }
}

/// Where the volume is kept: what is around its container, and the container's name there.
fn place(config: &SyntheticConfig, access: &Access) -> Result<(Location, Arc<dyn Storage>, String)> {
    let container: Location = config.container.parse()?;
    match (container.parent(), container.name()) {
        (Some(parent), Some(name)) => {
            let storage = access.storage(&parent)?;
            Ok((parent, storage, name.to_owned()))
        }
        _ => Err(dacapo_array::Error::Location {
            text: container.to_string(),
            reason: "it is no container".to_owned(),
        }
        .into()),
    }
}

/// Whether there is anything in the place of the volume.
pub(crate) fn is_there(config: &SyntheticConfig, access: &Access) -> Result<bool> {
    let (_, storage, name) = place(config, access)?;
    Ok(storage.kind(&name)?.is_some())
}

/// Writes the volume to the config's container, whole or not at all. Returns whether it had to: one that is
/// there already is kept.
///
/// # Errors
/// [`Error::SyntheticDiffers`] if the container is there and was not made from this config.
pub fn write_if_missing(config: &SyntheticConfig, access: &Access) -> Result<bool> {
    let (parent, storage, name) = place(config, access)?;
    let recipe = serde_json::to_value(config).map_err(|e| Error::Yaml {
        message: e.to_string(),
    })?;
    let recipe = without_container(recipe);
    if storage.kind(&name)?.is_some() {
        let container = parent.join(&name);
        let labels = ZarrArray::open(&address(&container, "labels"), access)?;
        let found = labels.attributes().get("synthetic").cloned().unwrap_or_default();
        return if found == recipe {
            Ok(false)
        } else {
            Err(Error::SyntheticDiffers { container })
        };
    }
    let volume = generate(config);
    let aside = unfinished() + ".zarr";
    let written = write(&parent.join(&aside), access, config, &recipe, volume).and_then(|()| {
        storage.sync_tree(&aside)?;
        Ok(storage.move_tree(&aside, &name, false)?)
    });
    if !matches!(written, Ok(Moved::Moved)) {
        // Whatever is left is of no use, and named so; the first error matters more than this one.
        let _ = storage.remove_tree(&aside);
    }
    // Another process may have made the same meanwhile.
    written.map(|moved| moved == Moved::Moved)
}

/// How an array of the volume lies in the world.
pub(crate) fn spec(config: &SyntheticConfig, dtype: DType) -> Result<ArraySpec> {
    let voxel_size = config.voxel_size.iter().map(|&size| Decimal::try_from(size));
    let voxel_size = Coordinate::new(voxel_size.collect::<Result<Vec<_>, _>>()?);
    let roi = Roi::from_voxels(&[0; 3], &config.shape, &voxel_size);
    Ok(ArraySpec::new(roi, voxel_size, dtype))
}

fn address(container: &Location, dataset: &str) -> ArrayAddress {
    ArrayAddress {
        container: container.clone(),
        dataset: dataset.to_owned(),
    }
}

fn without_container(mut recipe: serde_json::Value) -> serde_json::Value {
    if let Some(map) = recipe.as_object_mut() {
        map.shift_remove("container");
    }
    recipe
}

fn write(
    container: &Location,
    access: &Access,
    config: &SyntheticConfig,
    recipe: &serde_json::Value,
    volume: SyntheticVolume,
) -> Result<()> {
    let attributes = [("synthetic".to_owned(), recipe.clone())].into_iter().collect();
    let options = CreateOptions {
        attributes,
        ..CreateOptions::default()
    };
    let arrays = [
        ("raw", NdData::U8(volume.raw.into_dyn())),
        ("labels", NdData::U64(volume.labels.into_dyn())),
        ("classes", NdData::U8(volume.classes.into_dyn())),
    ];
    for (name, data) in arrays {
        let spec = spec(config, data.dtype())?;
        ZarrArray::create(&address(container, name), access, &spec, &options)?.write(&spec.roi, &data)?;
    }
    Ok(())
}

/// Cells as the points nearest to one of scattered seeds, some of them joined with a neighbour so that they
/// are not all convex.
///
/// One seed lies in each box of a regular lattice (S. Worley, "A cellular texture basis function", 1996): the
/// nearest is then in one of the 27 boxes around a point, or so rarely not that it does not show.
struct Cells {
    boxes: [usize; 3],
    size: f32,
    seeds: Vec<[f32; 3]>,
    /// By seed: the cell that it belongs to.
    cell: Vec<usize>,
    shades: Vec<f32>,
}

impl Cells {
    fn draw(extent: [f32; 3], size: f32, random: &mut Random) -> Self {
        // Two more boxes on each side, so that every point has neighbours all around.
        let boxes = extent.map(|length| (length / size).ceil() as usize + 4);
        let count = boxes.iter().product();
        let (mut seeds, mut joined, mut shades) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let place = unravel(index, boxes);
            seeds.push(std::array::from_fn(|a| {
                (place[a] as f32 - 2.0 + 0.5 + random.between([-0.35, 0.35])) * size
            }));
            joined.push(random.coin().then(|| random.below(3) as usize));
            shades.push(random.between([-1.0, 1.0]));
        }
        // A seed may join the next one along an axis, if that one stays itself.
        let strides = [boxes[1] * boxes[2], boxes[2], 1];
        let cell = (0..count).map(|index| match joined[index] {
            Some(axis) if unravel(index, boxes)[axis] + 1 < boxes[axis] => {
                let next = index + strides[axis];
                if joined[next].is_none() { next } else { index }
            }
            _ => index,
        });
        let cell = cell.collect();
        Self {
            boxes,
            size,
            seeds,
            cell,
            shades,
        }
    }

    /// The cell at a point, and its distance to the nearest border with another one.
    fn nearest(&self, at: [f32; 3]) -> (usize, f32) {
        let home: [usize; 3] = std::array::from_fn(|a| {
            let place = (at[a] / self.size).floor() as i64 + 2;
            place.clamp(1, self.boxes[a] as i64 - 2) as usize
        });
        let squared = |seed: usize| {
            let [z, y, x]: [f32; 3] = std::array::from_fn(|a| self.seeds[seed][a] - at[a]);
            z * z + y * y + x * x
        };
        let around = |visit: &mut dyn FnMut(usize)| {
            for z in home[0] - 1..=home[0] + 1 {
                for y in home[1] - 1..=home[1] + 1 {
                    let row = (z * self.boxes[1] + y) * self.boxes[2];
                    (row + home[2] - 1..=row + home[2] + 1).for_each(&mut *visit);
                }
            }
        };
        let mut nearest = (f32::INFINITY, 0);
        around(&mut |seed| {
            let distance = squared(seed);
            if distance < nearest.0 {
                nearest = (distance, seed);
            }
        });
        let (distance, seed) = nearest;
        let mut border = f32::INFINITY;
        around(&mut |other| {
            if self.cell[other] != self.cell[seed] {
                let apart: f32 = (0..3)
                    .map(|a| (self.seeds[other][a] - self.seeds[seed][a]).powi(2))
                    .sum();
                border = border.min((squared(other) - distance) / (2.0 * apart.sqrt()));
            }
        });
        (self.cell[seed], border)
    }

    fn shade(&self, cell: usize) -> f32 {
        self.shades[cell]
    }
}

/// A smooth random function of a point, between -1 and 1: numbers on a lattice, blended between.
struct Field {
    points: [usize; 3],
    spacing: f32,
    values: Vec<f32>,
}

impl Field {
    fn draw(extent: [f32; 3], spacing: f32, random: &mut Random) -> Self {
        let points = extent.map(|length| (length / spacing).ceil() as usize + 2);
        let values = (0..points.iter().product())
            .map(|_| random.between([-1.0, 1.0]))
            .collect();
        Self {
            points,
            spacing,
            values,
        }
    }

    fn at(&self, at: [f32; 3]) -> f32 {
        let scaled = at.map(|x| x / self.spacing);
        let low: [usize; 3] = std::array::from_fn(|a| (scaled[a] as usize).min(self.points[a] - 2));
        let part: [f32; 3] = std::array::from_fn(|a| smooth((scaled[a] - low[a] as f32).clamp(0.0, 1.0)));
        let mix = |from: f32, to: f32, part: f32| from + (to - from) * part;
        let row = |z: usize, y: usize| {
            let start = ((low[0] + z) * self.points[1] + low[1] + y) * self.points[2] + low[2];
            mix(self.values[start], self.values[start + 1], part[2])
        };
        mix(
            mix(row(0, 0), row(0, 1), part[1]),
            mix(row(1, 0), row(1, 1), part[1]),
            part[0],
        )
    }
}

/// From 0 to 1 without a kink at either end.
fn smooth(x: f32) -> f32 {
    x * x * (3.0 - 2.0 * x)
}

fn unravel(index: usize, shape: [usize; 3]) -> [usize; 3] {
    [
        index / (shape[1] * shape[2]),
        index / shape[2] % shape[1],
        index % shape[2],
    ]
}

fn number_from_one(labels: &mut Array3<u64>) {
    let mut used: Vec<u64> = labels.iter().copied().collect();
    used.par_sort_unstable();
    used.dedup();
    labels.par_mapv_inplace(|label| used.partition_point(|&other| other < label) as u64 + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> SyntheticConfig {
        SyntheticConfig {
            shape: [40, 48, 56],
            ..SyntheticConfig::default()
        }
    }

    #[test]
    fn a_seed_makes_one_volume_on_any_number_of_threads() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| generate(&small()))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(
            generate(&SyntheticConfig { seed: 2, ..small() }).raw,
            generate(&small()).raw
        );
    }

    #[test]
    fn membranes_are_dark_and_cells_are_of_the_size_asked() {
        let config = SyntheticConfig {
            shape: [96; 3],
            ..SyntheticConfig::default()
        };
        let SyntheticVolume { raw, labels, classes } = generate(&config);
        let (mut border, mut body) = (Vec::new(), Vec::new());
        for z in 1..95 {
            for y in 1..95 {
                for x in 1..95 {
                    let label = labels[[z, y, x]];
                    let neighbours = [[z - 1, y, x], [z, y - 1, x], [z, y, x - 1]];
                    let is_border = neighbours.iter().any(|&n| labels[n] != label);
                    if is_border { &mut border } else { &mut body }.push(f64::from(raw[[z, y, x]]));
                }
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!(
            mean(&border) + 50.0 < mean(&body),
            "{} {}",
            mean(&border),
            mean(&body)
        );
        // Membranes and organelles are darker than the rest, and there are enough of both to learn from.
        let of_class = |class: u8| -> Vec<f64> {
            let voxels = raw.iter().zip(&classes).filter(|(_, of)| **of == class);
            voxels.map(|(&value, _)| f64::from(value)).collect()
        };
        let [rest, membrane, organelle] = [0, 1, 2].map(of_class);
        assert!(mean(&membrane) < mean(&organelle) && mean(&organelle) + 15.0 < mean(&rest));
        let share = |voxels: &[f64]| voxels.len() as f64 / raw.len() as f64;
        assert!(
            share(&membrane) > 0.05 && share(&organelle) > 0.01,
            "{} {}",
            share(&membrane),
            share(&organelle)
        );
        let cells = *labels.iter().max().unwrap() as f64;
        let diameter = ((96.0_f64 * 8.0).powi(3) / cells).cbrt();
        assert!((150.0..350.0).contains(&diameter), "{cells} cells of {diameter}");
        let mut seen: Vec<u64> = labels.iter().copied().collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (1..=cells as u64).collect::<Vec<_>>());
    }

    #[test]
    fn writing_happens_once_and_refuses_another_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let container = dir.path().join("made.zarr").to_string_lossy().into_owned();
        let config = SyntheticConfig { container, ..small() };
        assert!(write_if_missing(&config, &Access::default()).unwrap());
        assert!(!write_if_missing(&config, &Access::default()).unwrap());
        let other = SyntheticConfig { seed: 9, ..config };
        assert!(matches!(
            write_if_missing(&other, &Access::default()),
            Err(Error::SyntheticDiffers { .. })
        ));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
