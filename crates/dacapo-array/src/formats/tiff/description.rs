//! What the description of a TIFF's first page says of all pages: as ImageJ writes it, as OME-TIFF has it, as
//! tifffile writes shapes. Decoding pixels is done elsewhere.

use std::collections::HashMap;

use crate::formats::placement::Placement;
use crate::{ArraySpec, Coordinate, Decimal, Error, Result};

/// Pages as an array: axes in front of y and x, and which page a place along them is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Channel axes first: name, length, and pages from one index to the next.
    pub(super) axes: Vec<(String, usize, usize)>,
}

impl Layout {
    /// From axes in the order of the pages, the last the fastest; of one letter each (`t`, `z`, `c`).
    fn new(slowest_first: &[(char, usize)]) -> Self {
        let mut stride: usize = 1;
        let mut axes = Vec::new();
        for &(name, length) in slowest_first.iter().rev() {
            axes.push((name, length, stride));
            // What overflows has no number of pages either.
            stride = stride.saturating_mul(length);
        }
        axes.sort_by_key(|&(name, ..)| "tczyx".find(name));
        let name = |name: char| {
            if name == 'z' {
                "z".to_owned()
            } else {
                format!("{name}^")
            }
        };
        Self {
            axes: axes
                .into_iter()
                .map(|(n, length, stride)| (name(n), length, stride))
                .collect(),
        }
    }

    /// One page, or a stack of them.
    pub(super) fn stack(pages: usize) -> Self {
        Self::new(&[('z', pages)][usize::from(pages == 1)..])
    }

    /// Pages that it names; nothing where that is too large a number.
    pub(super) fn pages(&self) -> Option<usize> {
        self.axes
            .iter()
            .try_fold(1usize, |pages, &(_, length, _)| pages.checked_mul(length))
    }
}

/// What is known before the pages are looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    /// If it says so.
    pub(super) layout: Option<Layout>,
    pub(super) placement: Placement,
    /// Whether one directory may stand for a whole stack, as ImageJ writes those above 4 GB.
    pub(super) is_imagej: bool,
}

/// Pixels per unit along x and y, as numerator and denominator.
pub(super) type Resolution = [Option<(u32, u32)>; 2];

impl Description {
    /// Reads the text of the first page's description.
    pub(super) fn parse(text: &str, resolution: Resolution, page: [usize; 2]) -> Self {
        if text.starts_with("ImageJ=") {
            imagej(text, resolution)
        } else if text.contains("<OME") {
            ome(text)
        } else {
            shaped(text, page).unwrap_or_default()
        }
    }
}

fn imagej(text: &str, resolution: Resolution) -> Description {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let lines: HashMap<&str, &str> = lines.map(|(key, value)| (key.trim(), value.trim())).collect();
    let count = |key: &str| lines.get(key).and_then(|value| value.parse::<usize>().ok());
    let (frames, slices, channels) = (count("frames"), count("slices"), count("channels"));
    let mut axes = Vec::new();
    axes.extend(frames.filter(|&n| n > 1).map(|n| ('t', n)));
    axes.extend(slices.map(|n| ('z', n)));
    axes.extend(channels.filter(|&n| n > 1).map(|n| ('c', n)));
    if axes.is_empty() {
        axes.extend(count("images").filter(|&n| n > 1).map(|n| ('z', n)));
    }
    let layout = Layout::new(&axes);
    let has_z = axes.iter().any(|&(name, _)| name == 'z');

    let number = |key: &str| lines.get(key).and_then(|value| value.parse::<Decimal>().ok());
    let size = |per_unit: Option<(u32, u32)>| per_unit.and_then(|(n, d)| pixel_size(n, d));
    let [x, y] = resolution.map(size);
    let x = x.unwrap_or(Decimal::ONE);
    let mut sizes = vec![y.unwrap_or(x), x];
    let mut origins = vec![number("yorigin"), number("xorigin")];
    let unit = short_unit(lines.get("unit").copied().unwrap_or_default());
    let other = |key: &str| {
        lines
            .get(key)
            .map_or_else(|| unit.clone(), |unit| short_unit(unit))
    };
    let mut units = vec![other("yunit"), unit.clone()];
    if has_z {
        sizes.insert(0, number("spacing").unwrap_or(Decimal::ONE));
        origins.insert(0, number("zorigin"));
        units.insert(0, other("zunit"));
    }
    // Without any of these the numbers are what ImageJ shows for pixels.
    let placed = lines.contains_key("unit") || lines.contains_key("spacing") || x != Decimal::ONE;
    let known = placed && sizes.iter().all(|size| size.is_positive());
    let offset = known && origins.iter().any(Option::is_some);
    // An origin is the pixel that lies at 0.
    let at = |(origin, size): (&Option<Decimal>, &Decimal)| {
        Decimal::ZERO - origin.unwrap_or(Decimal::ZERO) * *size
    };
    Description {
        placement: Placement {
            offset: offset.then(|| Coordinate::new(origins.iter().zip(&sizes).map(at))),
            voxel_size: known.then(|| Coordinate::new(sizes)),
            units: known.then_some(units),
            axis_names: None,
        },
        layout: layout.pages().is_some_and(|n| n > 0).then_some(layout),
        is_imagej: true,
    }
}

fn ome(text: &str) -> Description {
    let pixels = text
        .split_once("<Pixels")
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or("", |(pixels, _)| pixels);
    let attribute = |name: &str| {
        let (_, rest) = pixels.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let length = |name: &str| attribute(name)?.parse::<usize>().ok().filter(|&n| n > 0);
    let order = attribute("DimensionOrder").unwrap_or("XYCZT");
    let mut axes = Vec::new();
    for name in order.chars().rev().filter(|name| "ZCT".contains(*name)) {
        let n = length(&format!("Size{name}")).unwrap_or(1);
        // A stack of one slice is a stack where its depth is known.
        if n > 1 || (name == 'Z' && attribute("PhysicalSizeZ").is_some()) {
            axes.push((name.to_ascii_lowercase(), n));
        }
    }
    let has_z = axes.iter().any(|&(name, _)| name == 'z');
    let physical: &[&str] = if has_z { &["Z", "Y", "X"] } else { &["Y", "X"] };
    let size = |axis: &&str| attribute(&format!("PhysicalSize{axis}"))?.parse::<Decimal>().ok();
    let unit = |axis: &&str| short_unit(attribute(&format!("PhysicalSize{axis}Unit")).unwrap_or("µm"));
    let sizes: Option<Vec<Decimal>> = physical.iter().map(size).collect();
    let sizes = sizes.filter(|sizes| sizes.iter().all(|size| size.is_positive()));
    Description {
        placement: Placement {
            units: sizes.as_ref().map(|_| physical.iter().map(unit).collect()),
            voxel_size: sizes.map(Coordinate::new),
            ..Placement::default()
        },
        layout: Some(Layout::new(&axes)).filter(|layout| layout.pages().is_some()),
        is_imagej: false,
    }
}

/// `{"shape": [2, 5, 64, 64]}`: axes by themselves.
fn shaped(text: &str, page: [usize; 2]) -> Option<Description> {
    let description: serde_json::Value = serde_json::from_str(text).ok()?;
    let shape: Vec<usize> = serde_json::from_value(description.get("shape")?.clone()).ok()?;
    let leading = shape.len().checked_sub(2).filter(|&n| (1..=3).contains(&n))?;
    let names = ["z", "cz", "tcz"][leading - 1];
    if shape[leading..] != page || shape.contains(&0) {
        return None;
    }
    let axes: Vec<(char, usize)> = names.chars().zip(shape).collect();
    Some(Description {
        layout: Some(Layout::new(&axes)).filter(|layout| layout.pages().is_some()),
        ..Description::default()
    })
}

/// The size of a pixel of which `n / d` are a unit. Programs write 1 / 4.6 as 217391 / 1000000: of the numbers
/// that are rounded to the same, the shortest.
fn pixel_size(n: u32, d: u32) -> Option<Decimal> {
    if n == 0 || d == 0 {
        return None;
    }
    let quotient = Decimal::from(d) / Decimal::from(n);
    let is_exact = quotient * Decimal::from(n) == Decimal::from(d);
    if is_exact || n < 10_000 {
        return Some(quotient);
    }
    let (n, d) = (f64::from(n), f64::from(d));
    let (low, high) = (d / (n + 0.5), d / (n - 0.5));
    (0..9)
        .filter_map(|places| Decimal::try_from(format!("{:.places$}", d / n).parse::<f64>().ok()?).ok())
        .find(|short| (low..=high).contains(&short.to_f64()))
        .or(Some(quotient))
}

/// Pixels per unit for a size of pixels, exact where two 32-bit numbers can say it.
fn per_unit(size: Decimal) -> (u32, u32) {
    const BILLION: i64 = 1_000_000_000;
    // The size as a fraction, as far as it fits.
    let mut scale = BILLION;
    loop {
        let scaled = (size * Decimal::from(scale)).to_integer();
        if let Some(n) = scaled.filter(|&n| n > 0) {
            let (mut a, mut b) = (n, scale);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            if let (Ok(units), Ok(pixels)) = (u32::try_from(n / a), u32::try_from(scale / a)) {
                return (pixels, units);
            }
        }
        if scale == 1 {
            break;
        }
        scale /= 10;
    }
    let size = size.to_f64();
    if size >= 1.0 {
        (((f64::from(u32::MAX) / size) as u32).max(1), u32::MAX)
    } else {
        (u32::MAX, ((f64::from(u32::MAX) * size) as u32).max(1))
    }
}

fn short_unit(unit: &str) -> String {
    let known = [
        ("", ["pixel", "pixels", "px"]),
        ("um", ["micron", "µm", "\\u00B5m"]),
        ("um", ["μm", "microns", "micrometer"]),
        ("nm", ["nanometer", "nanometers", "nanometre"]),
        ("mm", ["millimeter", "millimeters", "millimetre"]),
        ("Å", ["angstrom", "\\u00C5", "A"]),
    ];
    known
        .iter()
        .find(|(_, names)| names.contains(&unit))
        .map_or(unit, |(short, _)| short)
        .to_owned()
}

/// The description and the resolution (pixels per unit along x and y) that ImageJ reads back as this spec, of
/// which the channels are `channels` in all.
///
/// # Errors
/// [`Error::Unsupported`] for axes that ImageJ does not have.
pub(super) fn describe(spec: &ArraySpec, channels: usize) -> Result<(String, [(u32, u32); 2])> {
    let dims = spec.spatial_dims();
    if !(2..=3).contains(&dims) || spec.channels.len() > 1 {
        return Err(Error::Unsupported {
            what: format!(
                "a TIFF of {} channel and {dims} spatial axes",
                spec.channels.len()
            ),
            hint: "write a .npy file, or a Zarr array".into(),
        });
    }
    let slices = if dims == 3 {
        spec.shape()[spec.channels.len()]
    } else {
        1
    };
    let mut lines = vec!["ImageJ=1.54f".to_owned(), format!("images={}", slices * channels)];
    lines.extend((!spec.channels.is_empty()).then(|| format!("channels={channels}")));
    lines.extend((dims == 3).then(|| format!("slices={slices}")));
    lines.extend((channels > 1).then(|| "hyperstack=true\nmode=grayscale".to_owned()));
    // The last of these is x.
    let axes: Vec<_> = (0..dims).rev().zip(["x", "y", "z"]).collect();
    let unit = &spec.units[dims - 1];
    // What ImageJ takes a line break for must not be in a unit.
    let clean = |unit: &str| unit.replace(['\n', '\r', '=', '\0'], " ");
    lines.extend((!unit.is_empty()).then(|| format!("unit={}", clean(unit))));
    for (axis, name) in &axes {
        let other = &spec.units[*axis];
        lines.extend((other != unit).then(|| format!("{name}unit={}", clean(other))));
    }
    let sizes: Vec<Decimal> = spec.voxel_size.iter().copied().collect();
    lines.extend((dims == 3).then(|| format!("spacing={}", sizes[0])));
    for (axis, name) in &axes {
        let origins: Vec<Decimal> = spec.roi.begin().iter().copied().collect();
        let origin = Decimal::ZERO - origins[*axis] / sizes[*axis];
        lines.extend((origin != Decimal::ZERO).then(|| format!("{name}origin={origin}")));
    }
    lines.push("loop=false".into());
    let text = lines.join("\n") + "\n";
    // Descriptions are 7-bit; ImageJ escapes what is not.
    let escaped = text
        .chars()
        .map(|c| match c {
            c if c.is_ascii() => c.to_string(),
            c => format!("\\u{:04X}", u32::from(c)),
        })
        .collect();
    Ok((escaped, [per_unit(sizes[dims - 1]), per_unit(sizes[dims - 2])]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Roi};

    #[test]
    fn imagej_reads_back_what_is_described() {
        for (size, begin) in [
            ([40, 4, 4].map(|n| n.to_string()), [0, 0, 0]),
            (["4.6", "4.6", "10"].map(str::to_owned), [3, -5, 7]),
            (
                ["0.333333333", "123456.789", "0.000000001"].map(str::to_owned),
                [1, 1, 1],
            ),
        ] {
            let voxel_size = Coordinate::new(size.iter().map(|n| n.parse::<Decimal>().unwrap()));
            for dims in [2, 3] {
                let voxel_size = Coordinate::new(voxel_size.iter().skip(3 - dims));
                let roi = Roi::from_voxels(&begin[3 - dims..], &[5, 6, 7][3 - dims..], &voxel_size);
                let spec = ArraySpec::new(roi.clone(), voxel_size.clone(), DType::U8);
                let (text, [x, y]) = describe(&spec, 1).unwrap();
                let read = Description::parse(&text, [Some(x), Some(y)], [6, 7]);
                assert_eq!(read.placement.voxel_size, Some(voxel_size), "{text}");
                let offset = read.placement.offset;
                assert_eq!(offset.unwrap_or(Coordinate::splat(dims, 0)), roi.offset, "{text}");
                assert_eq!(read.placement.units, Some(vec!["nm".to_owned(); dims]));
                let layout = read.layout.unwrap();
                assert_eq!(
                    layout.axes,
                    if dims == 3 {
                        vec![("z".to_owned(), 5, 1)]
                    } else {
                        vec![]
                    }
                );
            }
        }
    }

    #[test]
    fn pixel_sizes_are_what_was_meant() {
        for (n, d, size) in [
            (217_391, 1_000_000, "4.6"),
            (5, 23, "4.6"),
            (1, 10, "10"),
            (3, 1, "0.333333333"),
            (250_000, 1_000_000, "4"),
            (9_803_922, 1_000_000, "0.102"),
        ] {
            assert_eq!(pixel_size(n, d).unwrap().to_string(), size);
        }
        assert_eq!(pixel_size(0, 1), None);
        assert_eq!(pixel_size(1, 0), None);
    }

    #[test]
    fn hyperstacks_have_their_channels_in_front() {
        let text = "ImageJ=1.54f\nimages=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\n";
        let read = Description::parse(text, [None, None], [5, 6]);
        let axes = [("t^", 4, 6), ("c^", 2, 1), ("z", 3, 2)];
        assert_eq!(
            read.layout.unwrap().axes,
            axes.map(|(name, length, stride)| (name.to_owned(), length, stride))
        );
        assert_eq!(read.placement, Placement::default());
    }

    #[test]
    fn ome_has_its_own_order() {
        let text = r#"<?xml version="1.0"?><OME><Image><Pixels ID="p" DimensionOrder="XYZCT" SizeX="6" SizeY="5"
            SizeZ="3" SizeC="2" SizeT="1" PhysicalSizeX="0.1" PhysicalSizeY="0.1" PhysicalSizeZ="40"
            PhysicalSizeZUnit="nm"></Pixels>"#;
        let read = Description::parse(&text.replace('\n', " "), [None, None], [5, 6]);
        let axes = [("c^", 2, 3), ("z", 3, 1)];
        assert_eq!(
            read.layout.unwrap().axes,
            axes.map(|(name, length, stride)| (name.to_owned(), length, stride))
        );
        assert_eq!(read.placement.units.unwrap(), ["nm", "um", "um"]);
        assert_eq!(read.placement.voxel_size.unwrap().to_string(), "(40, 0.1, 0.1)");
    }

    #[test]
    fn nonsense_says_nothing() {
        for text in [
            "",
            "ImageJ=",
            "<OME",
            "{\"shape\": [5, 6]}",
            "{\"shape\": [-1, 5, 6]}",
            "{\"shape\": [0, 5, 6]}",
        ] {
            let read = Description::parse(text, [None, None], [5, 6]);
            assert_eq!(read.placement, Placement::default(), "{text}");
        }
        let huge = "ImageJ=1\nslices=18446744073709551615\nchannels=3\n";
        assert_eq!(Description::parse(huge, [None, None], [5, 6]).layout, None);
    }
}
