//! Folders of images, one a slice, in natural order (`slice2` before `slice10`), and single PNG files.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, DecodingError};

use super::blocks::{BlockArray, Blocks};
use super::placement::Placement;
use super::rows;
use super::tiff::TiffFile;
use super::values::{self, Order};
use crate::{ArrayRead, DType, Error, NdData, Result};

/// PNG compresses with deflate, which makes no more of a byte than this.
const MOST_RATIO: u64 = 1100;

/// Kinds of images that slices can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Tiff,
}

impl Kind {
    /// By the end of a name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "tif" | "tiff" => Some(Self::Tiff),
            _ => None,
        }
    }
}

/// What all slices have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    height: usize,
    width: usize,
    samples: usize,
    dtype: DType,
}

/// Images as blocks of an array.
struct Slices {
    kind: Kind,
    paths: Vec<PathBuf>,
    slice: Slice,
    /// Whether they are along an axis z.
    is_stack: bool,
}

impl Blocks for Slices {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let leading = usize::from(self.slice.samples > 1);
        let path = &self.paths[if self.is_stack { index[leading] } else { 0 }];
        let (slice, data) = read(self.kind, path)?;
        if slice != self.slice {
            let says = |s: &Slice| format!("{} by {} pixels of {} {}", s.height, s.width, s.samples, s.dtype);
            let reason = format!(
                "it is {}, the first of its folder {}",
                says(&slice),
                says(&self.slice)
            );
            return Err(Error::file(path, reason));
        }
        let shape = shape(slice, self.is_stack.then_some(1));
        values::from_bytes(
            slice.dtype,
            &shape,
            &values::to_bytes(&data, Order::NATIVE),
            Order::NATIVE,
        )
        .map(Some)
    }
}

/// Lengths of all axes: samples, slices, rows, columns.
fn shape(slice: Slice, slices: Option<usize>) -> Vec<usize> {
    let samples = (slice.samples > 1).then_some(slice.samples);
    let page = [slice.height, slice.width];
    samples.into_iter().chain(slices).chain(page).collect()
}

/// Images of a folder by kind, in natural order.
pub(super) fn list(dir: &Path) -> Result<Vec<(Kind, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
        // Some systems leave hidden companions of files, with the same ending.
        if let Some(kind) = Kind::of(&path)
            && !name.starts_with('.')
            && path.is_file()
        {
            found.push((kind, path));
        }
    }
    found.sort_by(|a, b| natural(&a.1.to_string_lossy(), &b.1.to_string_lossy()));
    Ok(found)
}

/// Opens a folder of images as a stack along z.
///
/// # Errors
/// [`Error::File`] if there are no images or of several kinds, or the first is of pixels that arrays cannot
/// have. The others are looked at when they are read.
pub(super) fn open_folder(dir: &Path, placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    let images = list(dir)?;
    let Some((kind, first)) = images.first().cloned() else {
        return Err(Error::file(dir, "there are no .png or .tif files in it"));
    };
    if images.iter().any(|(other, _)| *other != kind) {
        return Err(Error::file(
            dir,
            "there are both .png and .tif files in it; give it one kind",
        ));
    }
    let paths: Vec<PathBuf> = images.into_iter().map(|(_, path)| path).collect();
    if let Some((before, after)) = gap(&paths) {
        tracing::warn!(
            "{}: the numbers of its slices jump from {} to {}; they are taken as neighbours",
            dir.display(),
            before.display(),
            after.display()
        );
    }
    open(kind, paths, read(kind, &first)?.0, true, placement)
}

/// Opens a PNG file as an array of y and x.
///
/// # Errors
/// As [`open_folder`].
pub(super) fn open_png(path: &Path, placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    let slice = read(Kind::Png, path)?.0;
    open(Kind::Png, vec![path.to_owned()], slice, false, placement)
}

fn open(
    kind: Kind,
    paths: Vec<PathBuf>,
    slice: Slice,
    is_stack: bool,
    placement: &Placement,
) -> Result<Box<dyn ArrayRead>> {
    let shape = shape(slice, is_stack.then_some(paths.len()));
    let axes = ["c^", "z", "y", "x"];
    let names = axes
        .into_iter()
        .filter(|&axis| (axis != "c^" || slice.samples > 1) && (axis != "z" || is_stack))
        .map(str::to_owned)
        .collect();
    let found = Placement {
        axis_names: Some(names),
        ..Placement::default()
    };
    let spec = placement.spec(found, &shape, slice.dtype)?;
    let mut block = shape;
    if is_stack {
        block[usize::from(slice.samples > 1)] = 1;
    }
    let slices = Slices {
        kind,
        paths,
        slice,
        is_stack,
    };
    Ok(Box::new(BlockArray::new(spec, block, slices)))
}

/// An image as samples, rows, columns.
fn read(kind: Kind, path: &Path) -> Result<(Slice, NdData)> {
    match kind {
        Kind::Png => read_png(path),
        Kind::Tiff => {
            let file = TiffFile::open(path)?;
            if file.pages() != 1 {
                let reason = format!(
                    "it has {} pages, in a folder of slices it is to have one",
                    file.pages()
                );
                return Err(Error::file(path, reason));
            }
            let page = file.page;
            let slice = Slice {
                height: page.height,
                width: page.width,
                samples: page.samples,
                dtype: page.dtype,
            };
            Ok((slice, file.read_page()?))
        }
    }
}

fn read_png(path: &Path) -> Result<(Slice, NdData)> {
    let broken = |error: DecodingError| match error {
        DecodingError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io("read", path)(source)
        }
        DecodingError::IoError(_) => Error::file(path, "it is cut off"),
        other => Error::file(path, other.to_string()),
    };
    let file = File::open(path).map_err(Error::io("open", path))?;
    let there = rows::length(&file, path)?;
    let most = usize::try_from(there.saturating_mul(MOST_RATIO)).unwrap_or(usize::MAX);
    let limits = png::Limits {
        bytes: most.max(1 << 20),
    };
    let decoder = png::Decoder::new_with_limits(BufReader::new(file), limits);
    let mut reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    let (height, width) = (info.height as usize, info.width as usize);
    let samples = match info.color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => {
            return Err(Error::file(
                path,
                "its pixels are numbers of a palette; save it as grey, or as RGB",
            ));
        }
    };
    let dtype = match info.bit_depth {
        BitDepth::One => DType::Bool,
        BitDepth::Eight => DType::U8,
        BitDepth::Sixteen => DType::U16,
        depth => {
            return Err(Error::file(
                path,
                format!("greys of {} bits are not supported", depth as u8),
            ));
        }
    };
    let bytes = reader.output_buffer_size().filter(|&bytes| bytes <= most);
    let Some(bytes) = bytes else {
        let reason = format!("it claims {height} by {width} pixels, more than its {there} bytes can hold");
        return Err(Error::file(path, reason));
    };
    let mut decoded = vec![0; bytes];
    reader.next_frame(&mut decoded).map_err(broken)?;
    if dtype == DType::Bool {
        // Rows begin at whole bytes.
        let row = |row: &[u8]| -> Vec<u8> { (0..width).map(|x| row[x / 8] >> (7 - x % 8) & 1).collect() };
        decoded = decoded.chunks_exact(width.div_ceil(8)).flat_map(row).collect();
    }
    let data = values::from_bytes(dtype, &[height, width, samples], &decoded, Order::Big)?;
    let slice = Slice {
        height,
        width,
        samples,
        dtype,
    };
    Ok((slice, values::permuted(data, &[2, 0, 1])))
}

/// The order that people mean: digits by the number that they are.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let number = |text: &'_ str| text.bytes().take_while(u8::is_ascii_digit).count();
        match (number(a), number(b)) {
            (0, _) | (_, 0) => {
                let (mut left, mut right) = (a.chars(), b.chars());
                match (left.next(), right.next()) {
                    (Some(x), Some(y)) if x == y => (a, b) = (left.as_str(), right.as_str()),
                    (x, y) => return x.cmp(&y),
                }
            }
            (m, n) => {
                let (x, y) = (a[..m].trim_start_matches('0'), b[..n].trim_start_matches('0'));
                // Of equal numbers, that with more zeros in front comes first.
                let order = x.len().cmp(&y.len()).then(x.cmp(y));
                if order.is_ne() {
                    return order;
                }
                if m != n {
                    return n.cmp(&m);
                }
                (a, b) = (&a[m..], &b[n..]);
            }
        }
    }
}

/// The last number in a name.
fn number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let begin = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + stem[at..].chars().next().map_or(1, char::len_utf8));
    stem[begin..end].parse().ok()
}

/// Two slices between which others seem to be missing: steps of the numbers that are not the usual one.
fn gap(paths: &[PathBuf]) -> Option<(&Path, &Path)> {
    let numbers: Option<Vec<u64>> = paths.iter().map(|path| number(path)).collect();
    let numbers = numbers?;
    let steps = || numbers.windows(2).map(|pair| pair[1].checked_sub(pair[0]));
    let usual = steps().collect::<Option<Vec<_>>>()?.into_iter().min()?;
    let at = steps().position(|step| step != Some(usual))?;
    Some((&paths[at], &paths[at + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count() {
        let mut names = [
            "s10.png", "s2.png", "s1.png", "s02.png", "a.png", "s10a.png", "t1.png", "s",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "a.png", "s", "s1.png", "s02.png", "s2.png", "s10.png", "s10a.png", "t1.png"
            ]
        );
        let huge = ["9".repeat(40), "10".repeat(40)];
        assert_eq!(natural(&huge[0], &huge[1]), Ordering::Less);
    }

    #[test]
    fn missing_slices_are_noticed() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert!(gap(&paths(&["s1.png", "s2.png", "s3.png"])).is_none());
        assert!(gap(&paths(&["s10.png", "s20.png", "s30.png"])).is_none());
        assert!(gap(&paths(&["a.png", "b.png"])).is_none());
        assert!(gap(&paths(&["z9.png"])).is_none());
        let found = paths(&["é1_8bit.png", "é2_8bit.png", "é4_8bit.png"]);
        assert!(gap(&found).is_none(), "the last number is what is alike");
        let found = paths(&["s1.png", "s2.png", "s4.png", "s5.png"]);
        assert_eq!(gap(&found).unwrap().1, Path::new("s4.png"));
    }
}
