//! What happens to single sections of serial-section microscopy: some slip or shift in their plane, which moves
//! raw and labels; some are missing, lose their contrast or are stained, which only raw shows.

use ndarray::{Array4, ArrayViewMut2, Axis};

use super::Frame;
use crate::config::SectionsConfig;
use crate::random::Random;

/// How far each section of a crop has moved in its plane, in voxels of raw along (y, x). What lies before the
/// first or after the last section moves as that does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slips(pub Vec<[i64; 2]>);

impl Slips {
    /// That of a section by its number in the crop.
    pub fn of(&self, section: i64) -> [i64; 2] {
        let last = self.0.len().saturating_sub(1) as i64;
        let place = section.clamp(0, last) as usize;
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Whether any section has moved.
    pub fn is_any(&self) -> bool {
        self.0.iter().any(|&by| by != [0, 0])
    }

    /// The farthest along each axis of the plane, to both sides.
    pub fn farthest(&self) -> [i64; 2] {
        std::array::from_fn(|a| self.0.iter().map(|by| by[a].abs()).max().unwrap_or(0))
    }
}

/// What is wrong with a section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defect {
    /// Which section of the crop.
    pub section: usize,
    /// What it is.
    pub kind: DefectKind,
}

/// Ways in which a section can be bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DefectKind {
    /// Only so much of the contrast about its mean is left.
    LowContrast(f32),
    /// A dark disc in world units, with a soft rim: middle (y, x) and radii along both in voxels.
    Stained {
        /// Of the disc.
        middle: [f32; 2],
        /// Along y and x.
        radii: [f32; 2],
    },
    /// All of it is black.
    Missing,
}

/// What happens to the sections of a crop. As many numbers are drawn for each section whatever happens to it.
pub(super) fn draw(config: &SectionsConfig, frame: &Frame, random: &mut Random) -> (Slips, Vec<Defect>) {
    let [sections, height, width] = frame.shape;
    let most = i64::from(config.max_shift);
    let (mut slips, mut defects) = (Vec::with_capacity(sections), Vec::new());
    let mut shift = [0; 2];
    for section in 0..sections {
        let mut has = |probability: f64, kind: DefectKind, random: &mut Random| {
            if random.chance(probability) {
                defects.push(Defect { section, kind });
            }
        };
        let contrast = random.between(config.contrast);
        let radius = random.between(config.stain_radius);
        let middle = [height, width].map(|n| random.between([0.0, n as f32]));
        let aspect = (frame.voxel_size[1] / frame.voxel_size[2]) as f32;
        let radii = [radius, radius * aspect];
        has(config.low_contrast, DefectKind::LowContrast(contrast), random);
        has(config.stained, DefectKind::Stained { middle, radii }, random);
        has(config.missing, DefectKind::Missing, random);
        let mut some =
            || -> [i64; 2] { std::array::from_fn(|_| random.below(2 * most as u64 + 1) as i64 - most) };
        let (step, slip) = (some(), some());
        if random.chance(config.shifted) {
            shift = std::array::from_fn(|a| (shift[a] + step[a]).clamp(-most, most));
        }
        let slipped = random.chance(config.slipped);
        slips.push(std::array::from_fn(|a| {
            let slip = if slipped { slip[a] } else { 0 };
            (shift[a] + slip).clamp(-most, most)
        }));
    }
    (Slips(slips), defects)
}

/// What black is in values that the network is shown.
const BLACK: f32 = -0.5;

impl Defect {
    /// Changes the section in every channel of (channels, z, y, x).
    pub fn apply(&self, values: &mut Array4<f32>) {
        for mut channel in values.outer_iter_mut() {
            let section = channel.index_axis_mut(Axis(0), self.section);
            self.kind.apply(section);
        }
    }
}

impl DefectKind {
    fn apply(self, mut section: ArrayViewMut2<f32>) {
        match self {
            Self::LowContrast(contrast) => {
                let mean = section.iter().map(|&v| f64::from(v)).sum::<f64>() / section.len().max(1) as f64;
                let mean = mean as f32;
                section.mapv_inplace(|value| mean + (value - mean) * contrast);
            }
            Self::Stained { middle, radii } => {
                for ((y, x), value) in section.indexed_iter_mut() {
                    let away = |at: usize, a: usize| ((at as f32 + 0.5 - middle[a]) / radii[a]).powi(2);
                    // Opaque in the inner three quarters of the radius.
                    let distance = (away(y, 0) + away(x, 1)).sqrt();
                    let opaque = ((1.0 - distance) * 4.0).clamp(0.0, 1.0);
                    *value += (BLACK - *value).min(0.0) * opaque;
                }
            }
            Self::Missing => section.fill(BLACK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    const FRAME: Frame = Frame {
        dims: 3,
        shape: [2000, 20, 30],
        voxel_size: [40.0, 4.0, 8.0],
        kinds: [0, 1, 2],
    };

    fn drawn(config: &SectionsConfig) -> (Slips, Vec<Defect>) {
        draw(config, &FRAME, &mut Random::new(4, 1, 0, Purpose::Sections))
    }

    #[test]
    fn without_probability_nothing_happens() {
        let (slips, defects) = drawn(&SectionsConfig::default());
        assert!(!slips.is_any() && defects.is_empty());
    }

    #[test]
    fn each_happens_as_often_as_said_and_none_moves_another() {
        let config = SectionsConfig {
            missing: 0.1,
            low_contrast: 0.2,
            stained: 0.05,
            slipped: 0.3,
            ..SectionsConfig::default()
        };
        let (slips, defects) = drawn(&config);
        let count = |is: fn(&DefectKind) -> bool| defects.iter().filter(|d| is(&d.kind)).count();
        let near = |n: usize, p: f64| (n as f64 - 2000.0 * p).abs() < 5.0 * (2000.0 * p).sqrt();
        assert!(near(count(|k| matches!(k, DefectKind::Missing)), 0.1));
        assert!(near(count(|k| matches!(k, DefectKind::LowContrast(_))), 0.2));
        assert!(near(count(|k| matches!(k, DefectKind::Stained { .. })), 0.05));
        // One slip in 81 is of no voxel.
        assert!(near(slips.0.iter().filter(|&&by| by != [0, 0]).count(), 0.3));
        assert!(slips.0.iter().flatten().all(|&n| n.abs() <= 4));
        assert_eq!(slips.farthest(), [4, 4]);
        let alone = SectionsConfig {
            missing: 0.1,
            ..SectionsConfig::default()
        };
        let missing = |defects: &[Defect]| -> Vec<usize> {
            let missing = defects.iter().filter(|d| d.kind == DefectKind::Missing);
            missing.map(|d| d.section).collect()
        };
        assert_eq!(missing(&drawn(&alone).1), missing(&defects));
    }

    #[test]
    fn a_slip_moves_one_section_and_a_shift_all_that_follow() {
        let rare = 0.01;
        let (slips, _) = drawn(&SectionsConfig {
            slipped: rare,
            ..SectionsConfig::default()
        });
        let neighbours = slips
            .0
            .windows(2)
            .filter(|pair| pair[0] != [0, 0] && pair[1] != [0, 0]);
        assert!(slips.is_any() && neighbours.count() <= 1);
        let (shifts, _) = drawn(&SectionsConfig {
            shifted: rare,
            ..SectionsConfig::default()
        });
        let changes = shifts.0.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((8..40).contains(&changes), "{changes}");
        let moved = shifts.0.iter().filter(|&&by| by != [0, 0]).count();
        assert!(moved > 1000, "{moved}");
        assert_eq!(shifts.of(-3), shifts.0[0]);
        assert_eq!(shifts.of(5000), shifts.0[1999]);
    }

    #[test]
    fn defects_change_their_section_alone() {
        let values = Array4::from_shape_fn((2, 5, 20, 30), |(_, z, y, x)| {
            ((z + y + x) % 7) as f32 / 7.0 - 0.4
        });
        let apply = |kind| {
            let mut changed = values.clone();
            Defect { section: 2, kind }.apply(&mut changed);
            for ((c, z, y, x), &value) in changed.indexed_iter() {
                assert!(z == 2 || value == values[[c, z, y, x]]);
            }
            changed.index_axis_move(Axis(0), 1).index_axis_move(Axis(0), 2)
        };
        let before = values
            .index_axis(Axis(0), 1)
            .index_axis_move(Axis(0), 2)
            .to_owned();
        assert!(apply(DefectKind::Missing).iter().all(|&v| v == -0.5));
        let deviation = |section: &ndarray::Array2<f32>| section.std(0.0);
        let faint = apply(DefectKind::LowContrast(0.25));
        assert!((deviation(&faint) - 0.25 * deviation(&before)).abs() < 1e-5);
        assert!((faint.mean().unwrap() - before.mean().unwrap()).abs() < 1e-5);
        let stained = apply(DefectKind::Stained {
            middle: [10.0, 12.0],
            radii: [4.0, 2.0],
        });
        assert_eq!(stained[[10, 12]], -0.5);
        assert_eq!(stained[[12, 12]], -0.5);
        assert_eq!(
            stained[[10, 15]],
            before[[10, 15]],
            "half as far along x, whose voxels are twice as long"
        );
        assert_eq!(stained[[0, 0]], before[[0, 0]]);
        let rim = stained[[13, 12]];
        assert!((-0.5..=before[[13, 12]]).contains(&rim));
    }
}
