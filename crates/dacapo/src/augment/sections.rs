//! What happens to single sections of serial-section microscopy: some slip or shift in their plane, which moves
//! raw and labels; some are folded, missing, lose their contrast or are stained, which only raw shows.

use ndarray::{Array4, ArrayView2, ArrayViewMut2, Axis};

use super::{Draw, Frame};
use crate::config::SectionsConfig;
use crate::random::{Purpose, Random};

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
    /// It is folded along a line.
    Folded(Fold),
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

/// A fold: a band of the section along a line is hidden in it. What lies beside it is drawn over the gap, less and less
/// up to [`REACH`] widths away; the line itself is dark, for there the section lies three times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fold {
    /// A place (y, x) that the line goes through, in voxels.
    through: [f32; 2],
    /// What stands on the line: of length 1 in voxels of y.
    normal: [f32; 2],
    /// Voxels of y in one of x.
    aspect: f32,
    /// Of the hidden band, in voxels of y.
    width: f32,
}

/// So many widths away from a fold, nothing of it is seen.
const REACH: f32 = 3.0;

/// What happens to the sections of a crop. As many numbers are drawn for each section whatever happens to it.
pub(super) fn draw(config: &SectionsConfig, frame: &Frame, draw: Draw) -> (Slips, Vec<Defect>) {
    let (mut random, mut folds) = (draw.random(Purpose::Sections), draw.random(Purpose::Folds));
    let [sections, height, width] = frame.shape;
    let most = i64::from(config.max_shift);
    let (mut slips, mut defects) = (Vec::with_capacity(sections), Vec::new());
    let mut shift = [0; 2];
    for section in 0..sections {
        let (sine, cosine) = folds.between([0.0, std::f32::consts::PI]).sin_cos();
        let fold = Fold {
            through: [height, width].map(|n| folds.between([0.0, n as f32])),
            normal: [sine, cosine],
            aspect: (frame.voxel_size[2] / frame.voxel_size[1]) as f32,
            width: folds.between(config.fold_width),
        };
        if folds.chance(config.folded) {
            let kind = DefectKind::Folded(fold);
            defects.push(Defect { section, kind });
        }
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
        has(
            config.low_contrast,
            DefectKind::LowContrast(contrast),
            &mut random,
        );
        has(config.stained, DefectKind::Stained { middle, radii }, &mut random);
        has(config.missing, DefectKind::Missing, &mut random);
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
            Self::Folded(fold) => fold.apply(section),
            Self::LowContrast(contrast) => {
                let mean = section.iter().map(|&v| f64::from(v)).sum::<f64>() / section.len().max(1) as f64;
                let mean = mean as f32;
                section.mapv_inplace(|value| mean + (value - mean) * contrast);
            }
            Self::Stained { middle, radii } => {
                for ((y, x), value) in section.indexed_iter_mut() {
                    let away = |at: usize, a: usize| ((at as f32 + 0.5 - middle[a]) / radii[a]).powi(2);
                    darken(value, (away(y, 0) + away(x, 1)).sqrt());
                }
            }
            Self::Missing => section.fill(BLACK),
        }
    }
}

/// Makes a voxel black whose distance from the middle of something is below its radius, which is 1: with a soft rim,
/// opaque in the inner three quarters.
fn darken(value: &mut f32, distance: f32) {
    let opaque = ((1.0 - distance) * 4.0).clamp(0.0, 1.0);
    *value += (BLACK - *value).min(0.0) * opaque;
}

impl Fold {
    fn apply(self, mut section: ArrayViewMut2<f32>) {
        let before = section.to_owned();
        let reach = REACH * self.width;
        for ((y, x), value) in section.indexed_iter_mut() {
            let away = [
                y as f32 + 0.5 - self.through[0],
                (x as f32 + 0.5 - self.through[1]) * self.aspect,
            ];
            let distance = away[0] * self.normal[0] + away[1] * self.normal[1];
            let left = (1.0 - distance.abs() / reach).max(0.0);
            if left > 0.0 {
                let shift = (self.width / 2.0 * left).copysign(distance);
                let source = [
                    y as f32 + shift * self.normal[0],
                    x as f32 + shift * self.normal[1] / self.aspect,
                ];
                *value = between_voxels(before.view(), source);
            }
            darken(value, distance.abs() / (self.width / 4.0));
        }
    }
}

/// The value at a place, in voxels from the middle of the first, linear between the voxels around it; beyond the border
/// that of the last voxel.
fn between_voxels(section: ArrayView2<f32>, place: [f32; 2]) -> f32 {
    let axis = |a: usize| {
        let last = section.shape()[a].saturating_sub(1);
        let at = place[a].clamp(0.0, last as f32);
        let first = (at as usize).min(last);
        (first, (first + 1).min(last), at - first as f32)
    };
    let ((y0, y1, ty), (x0, x1, tx)) = (axis(0), axis(1));
    let row = |y: usize| section[[y, x0]] + (section[[y, x1]] - section[[y, x0]]) * tx;
    row(y0) + (row(y1) - row(y0)) * ty
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        dims: 3,
        shape: [2000, 20, 30],
        voxel_size: [40.0, 4.0, 8.0],
        kinds: [0, 1, 2],
    };

    fn drawn(config: &SectionsConfig) -> (Slips, Vec<Defect>) {
        let sample = Draw {
            seed: 4,
            iteration: 1,
            sample: 0,
        };
        draw(config, &FRAME, sample)
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
            folded: 0.15,
            slipped: 0.3,
            ..SectionsConfig::default()
        };
        let (slips, defects) = drawn(&config);
        let count = |is: fn(&DefectKind) -> bool| defects.iter().filter(|d| is(&d.kind)).count();
        let near = |n: usize, p: f64| (n as f64 - 2000.0 * p).abs() < 5.0 * (2000.0 * p).sqrt();
        assert!(near(count(|k| matches!(k, DefectKind::Missing)), 0.1));
        assert!(near(count(|k| matches!(k, DefectKind::LowContrast(_))), 0.2));
        assert!(near(count(|k| matches!(k, DefectKind::Stained { .. })), 0.05));
        assert!(near(count(|k| matches!(k, DefectKind::Folded(_))), 0.15));
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
    fn a_fold_hides_a_band_and_stretches_what_is_beside_it() {
        // Values are their places across the fold.
        for (normal, aspect) in [([1.0, 0.0], 2.0), ([0.0, 1.0], 2.0), ([0.6, 0.8], 1.0)] {
            let across = |y: f32, x: f32| (y - 30.5) * normal[0] + (x - 40.5) * aspect * normal[1];
            let place = |y: usize, x: usize| across(y as f32 + 0.5, x as f32 + 0.5);
            let before = ndarray::Array2::from_shape_fn((60, 80), |(y, x)| place(y, x));
            let fold = Fold {
                through: [30.5, 40.5],
                normal,
                aspect,
                width: 4.0,
            };
            let mut after = before.clone();
            fold.apply(after.view_mut());
            let (mut dark, mut seen) = (0, 0);
            for ((y, x), &value) in after.indexed_iter() {
                let distance = place(y, x);
                let is_inside = (8..52).contains(&y) && (8..72).contains(&x);
                if distance.abs() >= 12.0 {
                    assert!((value - distance).abs() < 1e-3);
                } else if distance.abs() >= 1.0 && is_inside {
                    // From half the width at the line to nothing at three widths.
                    let expected = distance + (2.0 - distance.abs() / 6.0) * distance.signum();
                    assert!((value - expected).abs() < 1e-3, "{value} {expected}");
                    assert!(value.abs() > 2.0, "what is nearer is hidden");
                    seen += 1;
                }
                if distance.abs() < 0.7 {
                    assert!(value <= BLACK + 1e-5, "the line itself is dark");
                    dark += 1;
                }
            }
            assert!(dark > 0 && seen > 100);
        }
    }

    #[test]
    fn folds_draw_nothing_from_what_the_others_are_drawn_from() {
        let with = |folded: f64| {
            let config = SectionsConfig {
                missing: 0.1,
                stained: 0.2,
                shifted: 0.1,
                folded,
                ..SectionsConfig::default()
            };
            let (slips, mut defects) = drawn(&config);
            defects.retain(|defect| !matches!(defect.kind, DefectKind::Folded(_)));
            (slips, defects)
        };
        assert_eq!(with(0.0), with(0.5));
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
        let folded = apply(DefectKind::Folded(Fold {
            through: [10.5, 15.5],
            normal: [0.0, 1.0],
            aspect: 2.0,
            width: 4.0,
        }));
        assert_eq!(folded[[3, 15]], -0.5);
        assert_ne!(folded[[3, 17]], before[[3, 17]]);
        assert_eq!(folded[[3, 2]], before[[3, 2]]);
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
