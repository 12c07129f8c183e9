//! Writing TIFF files that ImageJ, tifffile and others read: a page a slice and channel, uncompressed.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use ndarray::{Axis, Slice};
use tiff::TiffError;
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, Gray32, Gray32Float, GrayI16};
use tiff::encoder::{Rational, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue};
use tiff::tags::Tag;

use super::description::describe;
use crate::formats::aside::Aside;
use crate::formats::parts::{OnPart, PART, go_through, parts, voxels};
use crate::{ArrayRead, ArraySpec, DType, Element, Error, Result, Roi};

/// Files with more bytes of values are written as BigTIFF, which ImageJ itself reads through Bio-Formats only.
const MOST_CLASSIC: u64 = (4 << 30) - (64 << 20);
/// Bytes of a strip, about.
const STRIP: usize = 16 << 20;

/// Writes an array of two or three spatial axes and at most one channel axis. Labels of 64 bits are written
/// with 32 if all of them fit, booleans as 0 and 1.
///
/// # Errors
/// [`Error::Unsupported`] for values and axes that TIFF readers do not know; [`Error::Taken`]; [`Error::Io`];
/// [`Error::Interrupted`].
pub(in crate::formats) fn write(
    array: &dyn ArrayRead,
    path: &Path,
    overwrite: bool,
    on_part: OnPart<'_>,
) -> Result<()> {
    match array.spec().dtype {
        DType::Bool | DType::U8 => write_as::<Gray8>(array, path, overwrite, on_part),
        DType::U16 => write_as::<Gray16>(array, path, overwrite, on_part),
        DType::U32 => write_as::<Gray32>(array, path, overwrite, on_part),
        DType::I16 => write_as::<GrayI16>(array, path, overwrite, on_part),
        DType::F32 => write_as::<Gray32Float>(array, path, overwrite, on_part),
        DType::U64 | DType::I64 => {
            check_fits(array, on_part)?;
            write_as::<Gray32>(array, path, overwrite, on_part)
        }
        dtype => Err(Error::Unsupported {
            what: format!("a TIFF of {dtype}"),
            hint: "write a .npy file, or a Zarr array".into(),
        }),
    }
}

/// Refuses numbers above 32 bits before anything is written.
fn check_fits(array: &dyn ArrayRead, on_part: OnPart<'_>) -> Result<()> {
    let spec = array.spec();
    let parts = parts(spec, &vec![1; spec.spatial_dims()], PART);
    go_through(&parts, on_part, |roi| match array.read(roi)?.cast::<u32>() {
        Err(Error::Cast { value, .. }) => Err(Error::Unsupported {
            what: format!(
                "a TIFF of {} with the value {}, for which 32 bits are too few",
                spec.dtype,
                value.unwrap_or_default()
            ),
            hint: "write a .npy file, or a Zarr array, or number the labels anew".into(),
        }),
        cast => cast.map(drop),
    })
}

fn write_as<C>(array: &dyn ArrayRead, path: &Path, overwrite: bool, on_part: OnPart<'_>) -> Result<()>
where
    C: ColorType,
    C::Inner: Element,
    [C::Inner]: TiffValue,
{
    let spec = array.spec();
    let shape = spec.shape();
    if shape.contains(&0) {
        return Err(Error::Unsupported {
            what: format!("a TIFF of {shape:?} values"),
            hint: "there is nothing to write".into(),
        });
    }
    // Refuses axes that TIFF does not have.
    describe(spec, 1)?;
    let bytes = shape.iter().product::<usize>() * size_of::<C::Inner>();
    let (aside, file) = Aside::file(path, overwrite)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    if (bytes as u64) < MOST_CLASSIC {
        let encoder = TiffEncoder::new(&mut file).map_err(broken(path))?;
        pages::<C, TiffKindStandard>(encoder, array, path, on_part)?;
    } else {
        let encoder = TiffEncoder::new_big(&mut file).map_err(broken(path))?;
        pages::<C, TiffKindBig>(encoder, array, path, on_part)?;
    }
    // Dropping the buffer instead would lose the error of a full disk.
    file.flush().map_err(Error::io("write", path))?;
    aside.finish()
}

fn broken(path: &Path) -> impl Fn(TiffError) -> Error {
    move |error| match error {
        TiffError::IoError(source) => Error::io("write", path)(source),
        other => Error::file(path, other.to_string()),
    }
}

/// How an array is cut into pages.
struct Pages {
    /// 0 where there is no such axis.
    channel_axes: usize,
    channels: usize,
    slices: usize,
    height: usize,
    width: usize,
    rows_per_strip: usize,
}

impl Pages {
    fn new(spec: &ArraySpec, value: usize) -> Self {
        let shape = spec.shape();
        let channel_axes = spec.channels.len();
        let (height, width) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        Self {
            channel_axes,
            channels: spec.channels.iter().product(),
            slices: if spec.spatial_dims() == 3 {
                shape[channel_axes]
            } else {
                1
            },
            height,
            width,
            rows_per_strip: (STRIP / (width * value).max(1)).clamp(1, height),
        }
    }
}

fn pages<C, K>(
    mut encoder: TiffEncoder<&mut BufWriter<File>, K>,
    array: &dyn ArrayRead,
    path: &Path,
    on_part: OnPart<'_>,
) -> Result<()>
where
    C: ColorType,
    C::Inner: Element,
    [C::Inner]: TiffValue,
    K: TiffKind,
{
    let spec = array.spec();
    let pages = Pages::new(spec, size_of::<C::Inner>());
    let (text, resolution) = describe(spec, pages.channels)?;
    let page_bytes = pages.channels * pages.height * pages.width * spec.dtype.size();
    let is_volume = spec.spatial_dims() == 3;
    if page_bytes <= 4 * PART {
        // Some slices at a time, with all of their channels.
        let slices = (PART / page_bytes.max(1)).max(1);
        let step = [usize::from(is_volume).max(1) * slices, pages.height, pages.width];
        let parts = parts(spec, &step[3 - spec.spatial_dims()..], 0);
        let mut first = true;
        return go_through(&parts, on_part, |roi| {
            let data = array.read(roi)?.cast::<C::Inner>()?;
            let slices = if is_volume {
                data.len_of(Axis(pages.channel_axes))
            } else {
                1
            };
            for z in 0..slices {
                for c in 0..pages.channels {
                    let mut page = data.view();
                    if is_volume {
                        page.slice_axis_inplace(Axis(pages.channel_axes), Slice::from(z..z + 1));
                    }
                    if pages.channel_axes > 0 {
                        page.slice_axis_inplace(Axis(0), Slice::from(c..c + 1));
                    }
                    let values: Vec<C::Inner> = page.iter().copied().collect();
                    let said = std::mem::take(&mut first).then_some(text.as_str());
                    write_page::<C, K>(&mut encoder, &pages, said, resolution, path, |strip, _| {
                        let at = strip * pages.rows_per_strip * pages.width;
                        let end = values.len().min(at + pages.rows_per_strip * pages.width);
                        Ok(values[at..end].to_vec())
                    })?;
                }
            }
            Ok(())
        });
    }
    // Pages that are too large to be held are read strip by strip, for each channel anew.
    let every: Vec<(usize, usize)> = (0..pages.slices)
        .flat_map(|z| (0..pages.channels).map(move |c| (z, c)))
        .collect();
    let strips = pages.height.div_ceil(pages.rows_per_strip);
    let total = every.len() * strips;
    let mut done = 0;
    for (i, &(z, c)) in every.iter().enumerate() {
        let said = (i == 0).then_some(text.as_str());
        write_page::<C, K>(&mut encoder, &pages, said, resolution, path, |strip, rows| {
            if on_part(done, total).is_break() {
                return Err(Error::Interrupted);
            }
            done += 1;
            let (begin, shape) = ([z, strip * pages.rows_per_strip, 0], [1, rows, pages.width]);
            let skip = 3 - spec.spatial_dims();
            let roi: Roi = voxels(spec, &begin[skip..], &shape[skip..]);
            let mut data = array.read(&roi)?.cast::<C::Inner>()?;
            if pages.channel_axes > 0 {
                data.slice_axis_inplace(Axis(0), Slice::from(c..c + 1));
            }
            Ok(data.iter().copied().collect())
        })?;
    }
    let _ = on_part(total, total);
    Ok(())
}

/// Writes a page of which `strip(index, rows)` has the values.
fn write_page<C, K>(
    encoder: &mut TiffEncoder<impl Write + Seek, K>,
    pages: &Pages,
    text: Option<&str>,
    [x, y]: [(u32, u32); 2],
    path: &Path,
    mut strip: impl FnMut(usize, usize) -> Result<Vec<C::Inner>>,
) -> Result<()>
where
    C: ColorType,
    [C::Inner]: TiffValue,
    K: TiffKind,
{
    let side = |n: usize| {
        u32::try_from(n).map_err(|_| Error::file(path, format!("a side of {n} pixels is too long")))
    };
    let mut image = encoder
        .new_image::<C>(side(pages.width)?, side(pages.height)?)
        .map_err(broken(path))?;
    image
        .rows_per_strip(side(pages.rows_per_strip)?)
        .map_err(broken(path))?;
    image.x_resolution(Rational { n: x.0, d: x.1 });
    image.y_resolution(Rational { n: y.0, d: y.1 });
    if let Some(text) = text {
        image
            .encoder()
            .write_tag(Tag::ImageDescription, text)
            .map_err(broken(path))?;
    }
    for index in 0..pages.height.div_ceil(pages.rows_per_strip) {
        let rows = pages
            .rows_per_strip
            .min(pages.height - index * pages.rows_per_strip);
        image.write_strip(&strip(index, rows)?).map_err(broken(path))?;
    }
    image.finish().map_err(broken(path))
}
