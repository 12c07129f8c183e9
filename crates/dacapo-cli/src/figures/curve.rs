//! Curves over iterations: as SVG, and as a line of blocks for the terminal.

use std::path::Path;

use crate::report::misused;
use plotters::prelude::*;

/// A curve.
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Along x and y.
    pub points: Vec<(f64, f64)>,
    /// Whether single points are marked.
    pub marked: bool,
}

/// Curves with common axes.
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: &'static str,
    /// The curves.
    pub series: Vec<Series>,
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Refuses files that are called something else than SVG.
pub fn check_svg(path: &Path) -> anyhow::Result<()> {
    let is_svg = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    if !is_svg {
        let (path, other) = (path.display(), path.with_extension("svg"));
        misused!("{path} would be an SVG: call it {}", other.display());
    }
    Ok(())
}

/// Draws panels below each other and saves them as SVG.
pub fn draw(path: &Path, panels: &[Panel]) -> anyhow::Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("cannot draw {}: {error}", path.display());
    let root = SVGBackend::new(path, (800, 320 * panels.len() as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let points = || panel.series.iter().flat_map(|series| &series.points);
        let first = points().map(|point| point.0).fold(0.0, f64::min);
        let last = points().map(|point| point.0).fold(1.0, f64::max);
        let decimals = if last > 10.0 { 0 } else { 1 };
        let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), p| {
            (low.min(p.1), high.max(p.1))
        });
        let (low, high) = if low <= high {
            (low.min(0.0), high * 1.05 + 1e-9)
        } else {
            (0.0, 1.0)
        };
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(52)
            .build_cartesian_2d(first..last, low..high)
            .map_err(|e| failed(&e))?;
        chart
            .configure_mesh()
            .x_desc(panel.x)
            .x_label_formatter(&|x| format!("{x:.decimals$}"))
            .light_line_style(BLACK.mix(0.05))
            .bold_line_style(BLACK.mix(0.12))
            .draw()
            .map_err(|e| failed(&e))?;
        for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(line)
                .map_err(|e| failed(&e))?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            if series.marked {
                let dots = series
                    .points
                    .iter()
                    .map(|&point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(dots).map_err(|e| failed(&e))?;
            }
        }
        if panel.series.len() > 1 {
            let legend = chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .draw();
            legend.map_err(|e| failed(&e))?;
        }
    }
    root.present().map_err(|e| failed(&e))
}

/// Values as a line of `width` blocks, each the mean of its share of them.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let width = width.min(finite.len());
    let means: Vec<f64> = (0..width)
        .map(|i| {
            let share = &finite[i * finite.len() / width..(i + 1) * finite.len() / width];
            share.iter().sum::<f64>() / share.len().max(1) as f64
        })
        .collect();
    let (low, high) = means
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &m| (low.min(m), high.max(m)));
    let block = |mean: &f64| {
        let height = if high > low {
            (mean - low) / (high - low)
        } else {
            0.0
        };
        BLOCKS[((height * 7.0).round() as usize).min(7)]
    };
    means.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_go_from_low_to_high() {
        assert_eq!(sparkline(&[0.0, 7.0, 14.0], 3), "▁▅█");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▁▁");
        assert_eq!(sparkline(&[f64::NAN], 10), "");
        assert_eq!(
            sparkline(&(0..100).map(f64::from).collect::<Vec<_>>(), 8),
            "▁▂▃▄▅▆▇█"
        );
    }

    #[test]
    fn curves_are_drawn_even_without_points() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.svg");
        let series = |points| Series {
            name: "loss".into(),
            points,
            marked: true,
        };
        let panel = |points| Panel {
            title: "loss".into(),
            x: "iteration",
            series: vec![series(points)],
        };
        draw(&path, &[panel(vec![]), panel(vec![(1.0, 0.5), (2.0, 0.25)])]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("iteration") && text.contains("<circle"));
    }
}
