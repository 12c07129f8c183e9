//! Reading TIFF files: their pages as an array, strip by strip or tile by tile.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tiff::decoder::ifd::Value;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::{CompressionMethod, PlanarConfiguration, SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::description::{Description, Layout};
use crate::formats::blocks::{BlockArray, Blocks};
use crate::formats::placement::Placement;
use crate::formats::rows::{self, Rows};
use crate::formats::values::{self, Order};
use crate::{ArrayRead, DType, Element, Error, NdData, Result};

/// What a strip or tile may decode to, whatever the file's size.
const LEAST_LIMIT: u64 = 64 << 20;
/// No compression makes more of a byte than this, but of all-equal pages of Zstandard.
const MOST_RATIO: u64 = 4096;
/// A strip or tile may decode to so much at most.
const MOST_CHUNK: u64 = 4 << 30;
/// Strips are read together up to so many bytes.
const BAND: usize = 1 << 20;
/// Files of more pages are refused.
const MOST_PAGES: usize = 1 << 22;

type Decoding = Decoder<BufReader<File>>;

/// What all pages of an array have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formats) struct Page {
    pub(in crate::formats) height: usize,
    pub(in crate::formats) width: usize,
    /// Values of a pixel.
    pub(in crate::formats) samples: usize,
    pub(in crate::formats) dtype: DType,
    /// Height and width of its strips or tiles.
    chunk: [usize; 2],
    /// Whether samples lie in planes of their own.
    planar: bool,
    tiled: bool,
    compressed: bool,
}

impl Page {
    /// Height and width of what is decoded at a time: a tile, or some strips.
    fn block(&self) -> [usize; 2] {
        if self.tiled {
            return self.chunk;
        }
        let [rows, width] = self.chunk;
        let bytes = rows * width * self.samples * self.dtype.size();
        let strips = (BAND / bytes.max(1)).max(1);
        [rows.saturating_mul(strips).min(self.height).max(1), width]
    }
}

/// A TIFF file; several threads decode at once, each with a decoder of its own.
pub(in crate::formats) struct TiffFile {
    path: PathBuf,
    idle: Mutex<Vec<Decoding>>,
    /// The directory that each page has in the file.
    pages: Vec<usize>,
    /// Of the first page, and so of all.
    pub(in crate::formats) page: Page,
}

fn decoder(path: &Path) -> Result<Decoding> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let bytes = rows::length(&file, path)?;
    let limit = usize::try_from(bytes.saturating_mul(MOST_RATIO).clamp(LEAST_LIMIT, MOST_CHUNK));
    let limit = limit.unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    limits.ifd_value_size = limit;
    // The first page is read before limits can be set: by the library's own, which suffice for it.
    let decoder = Decoder::new(BufReader::new(file)).map_err(broken(path))?;
    Ok(decoder.with_limits(limits))
}

fn broken(path: &Path) -> impl Fn(TiffError) -> Error {
    move |error| match error {
        TiffError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io("read", path)(source)
        }
        TiffError::IoError(_) => Error::file(path, "it is cut off"),
        TiffError::LimitsExceeded => Error::file(path, "it claims more values than it can hold"),
        other => Error::file(path, other.to_string()),
    }
}

/// What the page that a decoder stands at is like.
fn page(decoder: &mut Decoding, path: &Path) -> Result<Page> {
    let fail = |reason: String| Err(Error::file(path, reason));
    let (width, height) = decoder.dimensions().map_err(broken(path))?;
    let color = decoder.colortype().map_err(broken(path))?;
    let samples = match color {
        ColorType::Gray(_)
        | ColorType::RGB(_)
        | ColorType::GrayA(_)
        | ColorType::RGBA(_)
        | ColorType::Multiband { .. } => usize::from(color.num_samples()),
        _ => {
            return fail(format!(
                "pixels of kind {color:?} are not supported; convert it to grey"
            ));
        }
    };
    let format = decoder.find_tag(Tag::SampleFormat).map_err(broken(path))?;
    let format = match format
        .map(Value::into_u16_vec)
        .transpose()
        .map_err(broken(path))?
    {
        Some(formats) if formats.is_empty() || formats.iter().any(|f| *f != formats[0]) => {
            return fail("its samples are of several types".into());
        }
        Some(formats) => SampleFormat::from_u16_exhaustive(formats[0]),
        None => SampleFormat::Uint,
    };
    let dtype = match (&format, color.bit_depth()) {
        (SampleFormat::Uint, 8) => DType::U8,
        (SampleFormat::Uint, 16) => DType::U16,
        (SampleFormat::Uint, 32) => DType::U32,
        (SampleFormat::Uint, 64) => DType::U64,
        (SampleFormat::Int, 8) => DType::I8,
        (SampleFormat::Int, 16) => DType::I16,
        (SampleFormat::Int, 32) => DType::I32,
        (SampleFormat::Int, 64) => DType::I64,
        (SampleFormat::IEEEFP, 32) => DType::F32,
        (SampleFormat::IEEEFP, 64) => DType::F64,
        (format, bits) => return fail(format!("samples of {bits} bits as {format:?} are not supported")),
    };
    let unsigned = |decoder: &mut Decoding, tag| decoder.find_tag_unsigned::<u32>(tag).map_err(broken(path));
    let planar =
        unsigned(decoder, Tag::PlanarConfiguration)? == Some(u32::from(PlanarConfiguration::Planar.to_u16()));
    let compressed = unsigned(decoder, Tag::Compression)?
        .is_some_and(|method| method != u32::from(CompressionMethod::None.to_u16()));
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let page = Page {
        height: height as usize,
        width: width as usize,
        samples,
        dtype,
        // A strip of 2³² − 1 rows is a whole page.
        chunk: [
            (chunk_height as usize).min(height as usize).max(1),
            chunk_width as usize,
        ],
        planar: planar && samples > 1,
        tiled: decoder.get_chunk_type() == ChunkType::Tile,
        compressed,
    };
    let page = Page {
        chunk: if page.tiled {
            [chunk_height as usize, chunk_width as usize]
        } else {
            page.chunk
        },
        ..page
    };
    if page.height == 0 || page.width == 0 || page.chunk.contains(&0) {
        return fail(format!("it has pages of {height} by {width} pixels"));
    }
    let bytes = [page.height, page.width, page.samples]
        .into_iter()
        .try_fold(dtype.size() as u64, |bytes, n| bytes.checked_mul(n as u64));
    let there = rows::length(decoder.inner().get_ref(), path)?;
    let most = if page.compressed {
        there.saturating_mul(MOST_RATIO).max(LEAST_LIMIT)
    } else {
        there
    };
    if bytes.is_none_or(|bytes| bytes > most) {
        return fail(format!(
            "it claims pages of {height} by {width} pixels, more than its {there} bytes can hold"
        ));
    }
    Ok(page)
}

impl TiffFile {
    /// Opens a file and looks at all of its pages. Smaller copies of pages are left out.
    ///
    /// # Errors
    /// [`Error::File`] if it is none, its pages are not alike, or of pixels that arrays cannot have.
    pub(in crate::formats) fn open(path: &Path) -> Result<Self> {
        let mut decoder = decoder(path)?;
        let mut pages = Vec::new();
        let mut first = None;
        for directory in 0.. {
            let kind = decoder
                .find_tag_unsigned::<u32>(Tag::NewSubfileType)
                .map_err(broken(path))?;
            if kind.is_none_or(|kind| kind & 1 == 0) {
                let this = page(&mut decoder, path)?;
                match first {
                    None => first = Some(this),
                    Some(first)
                        if Page {
                            chunk: this.chunk,
                            compressed: this.compressed,
                            ..first
                        } != this =>
                    {
                        let size =
                            |page: &Page| format!("{} by {} ({})", page.height, page.width, page.dtype);
                        return Err(Error::file(
                            path,
                            format!(
                                "its pages are not alike: page {} is {}, the first {}",
                                pages.len(),
                                size(&this),
                                size(&first)
                            ),
                        ));
                    }
                    // One grid of blocks serves all pages.
                    Some(first) if first.chunk != this.chunk => {
                        return Err(Error::file(
                            path,
                            "its pages are cut into strips or tiles of several sizes",
                        ));
                    }
                    Some(_) => {}
                }
                pages.push(directory);
            }
            if !decoder.more_images() {
                break;
            }
            if pages.len() >= MOST_PAGES {
                return Err(Error::file(path, format!("it has more than {MOST_PAGES} pages")));
            }
            decoder.next_image().map_err(broken(path))?;
        }
        let page = first.ok_or_else(|| Error::file(path, "it has no page"))?;
        Ok(Self {
            path: path.to_owned(),
            idle: Mutex::new(vec![decoder]),
            pages,
            page,
        })
    }

    /// Pages of the file.
    pub(in crate::formats) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The whole of a page.
    pub(in crate::formats) fn read_page(&self) -> Result<NdData> {
        let Page {
            height,
            width,
            samples,
            dtype,
            ..
        } = self.page;
        let [rows, columns] = self.page.block();
        let mut joined = crate::memory::filled(&[samples * height * width * dtype.size()], 0u8)?
            .into_raw_vec_and_offset()
            .0;
        for y in 0..height.div_ceil(rows) {
            for x in 0..width.div_ceil(columns) {
                let block = self.decode(0, y, x)?;
                let [_, h, w] = *block.shape() else { continue };
                let bytes = values::to_bytes(&block, Order::NATIVE);
                for (i, row) in bytes.chunks_exact(w * dtype.size()).enumerate() {
                    let at = ((i / h * height + y * rows + i % h) * width + x * columns) * dtype.size();
                    joined[at..at + row.len()].copy_from_slice(row);
                }
            }
        }
        values::from_bytes(dtype, &[samples, height, width], &joined, Order::NATIVE)
    }

    /// A block of a page: samples, rows, columns.
    fn decode(&self, page: usize, y: usize, x: usize) -> Result<NdData> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = match idle {
            Some(decoder) => decoder,
            None => decoder(&self.path)?,
        };
        let decoded = self.decode_with(&mut decoder, page, y, x);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(decoder);
        decoded
    }

    fn decode_with(&self, decoder: &mut Decoding, page: usize, y: usize, x: usize) -> Result<NdData> {
        let broken = broken(&self.path);
        decoder.seek_to_image(self.pages[page]).map_err(&broken)?;
        let Page {
            height,
            width,
            samples,
            dtype,
            chunk,
            planar,
            ..
        } = self.page;
        let block = self.page.block();
        let across = width.div_ceil(chunk[1]);
        let per_plane = across * height.div_ceil(chunk[0]);
        let planes = if planar { samples } else { 1 };
        let in_chunk = if planar { 1 } else { samples };
        let rows = block[0].min(height - y * block[0]);
        let columns = block[1].min(width - x * block[1]);
        let strips = rows.div_ceil(chunk[0]);
        let mut bytes = Vec::new();
        for plane in 0..planes {
            for strip in 0..strips {
                let index = plane * per_plane + (y * (block[0] / chunk[0]) + strip) * across + x;
                let index =
                    u32::try_from(index).map_err(|_| Error::file(&self.path, "it has too many strips"))?;
                let data = typed(decoder.read_chunk(index).map_err(&broken)?, dtype)
                    .ok_or_else(|| Error::file(&self.path, format!("page {page} is not of {dtype}")))?;
                bytes.extend(values::to_bytes(&data, Order::NATIVE));
            }
        }
        let data = values::from_bytes(dtype, &[planes, rows, columns, in_chunk], &bytes, Order::NATIVE)
            .map_err(|_| {
                Error::file(
                    &self.path,
                    format!("page {page} does not have the pixels that it should"),
                )
            })?;
        // Either the planes or the samples in them are one.
        let turned = values::permuted(data, &[0, 3, 1, 2]);
        values::from_bytes(
            dtype,
            &[samples, rows, columns],
            &values::to_bytes(&turned, Order::NATIVE),
            Order::NATIVE,
        )
    }
}

/// What was decoded, if it is of the type.
fn typed(decoded: DecodingResult, dtype: DType) -> Option<NdData> {
    fn wrap<T: Element>(values: Vec<T>) -> NdData {
        T::wrap(ndarray::Array1::from_vec(values).into_dyn())
    }
    let data = match decoded {
        DecodingResult::U8(values) => wrap(values),
        DecodingResult::U16(values) => wrap(values),
        DecodingResult::U32(values) => wrap(values),
        DecodingResult::U64(values) => wrap(values),
        DecodingResult::I8(values) => wrap(values),
        DecodingResult::I16(values) => wrap(values),
        DecodingResult::I32(values) => wrap(values),
        DecodingResult::I64(values) => wrap(values),
        DecodingResult::F32(values) => wrap(values),
        DecodingResult::F64(values) => wrap(values),
        DecodingResult::F16(_) => return None,
    };
    (data.dtype() == dtype).then_some(data)
}

/// The pages of a file as blocks of an array.
struct Stack {
    file: TiffFile,
    layout: Layout,
}

impl Blocks for Stack {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let axes = &self.layout.axes;
        let leading = usize::from(self.file.page.samples > 1);
        let page = axes
            .iter()
            .zip(&index[leading..])
            .map(|((_, _, stride), i)| stride * i)
            .sum();
        let [.., y, x] = *index else { return Ok(None) };
        let block = self.file.decode(page, y, x)?;
        let samples = (leading == 1).then_some(self.file.page.samples);
        let shape: Vec<usize> = samples
            .into_iter()
            .chain(axes.iter().map(|_| 1))
            .chain(block.shape()[1..].iter().copied())
            .collect();
        let dtype = block.dtype();
        values::from_bytes(
            dtype,
            &shape,
            &values::to_bytes(&block, Order::NATIVE),
            Order::NATIVE,
        )
        .map(Some)
    }
}

/// Opens a file as an array: its pages along z, and as its description says.
///
/// # Errors
/// As [`TiffFile::open`]; [`Error::File`] if the description names other pages than there are.
pub(in crate::formats) fn open(path: &Path, placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    let file = TiffFile::open(path)?;
    let page = file.page;
    let described = description(path, page)?;
    let pages = file.pages();
    let layout = match described.layout {
        Some(layout) if layout.pages() == Some(pages) => layout,
        Some(layout) if described.is_imagej && pages == 1 => {
            return raw_stack(path, &file, layout, described.placement, placement);
        }
        Some(_) if described.is_imagej => {
            return Err(Error::file(
                path,
                format!("it has {pages} pages, its description names others"),
            ));
        }
        other => {
            if other.is_some() {
                tracing::warn!(
                    "{}: its description does not fit its {pages} pages, which are taken for slices",
                    path.display()
                );
            }
            Layout::stack(pages)
        }
    };
    let (shape, names) = axes(&layout, page);
    let found = fitting(described.placement, names);
    let spec = placement.spec(found, &shape, page.dtype)?;
    let samples = (page.samples > 1).then_some(page.samples);
    let ones = layout.axes.iter().map(|_| 1);
    let block = samples.into_iter().chain(ones).chain(page.block()).collect();
    Ok(Box::new(BlockArray::new(spec, block, Stack { file, layout })))
}

/// What the description of the first page says.
fn description(path: &Path, page: Page) -> Result<Description> {
    let mut decoder = decoder(path)?;
    // A description that is no text says nothing.
    let text = match decoder.find_tag(Tag::ImageDescription) {
        Ok(Some(Value::Ascii(text))) => text,
        _ => String::new(),
    };
    let mut rational = |tag| match decoder.find_tag(tag) {
        Ok(Some(Value::Rational(n, d))) => Some((n, d)),
        _ => None,
    };
    let resolution = [rational(Tag::XResolution), rational(Tag::YResolution)];
    Ok(Description::parse(&text, resolution, [page.height, page.width]))
}

/// Shape and names of all axes.
fn axes(layout: &Layout, page: Page) -> (Vec<usize>, Vec<String>) {
    let samples = (page.samples > 1).then(|| ("c^".to_owned(), page.samples));
    let leading = layout
        .axes
        .iter()
        .map(|(name, length, _)| (name.clone(), *length));
    let own = [("y".to_owned(), page.height), ("x".to_owned(), page.width)];
    let (names, shape): (Vec<_>, Vec<_>) = samples.into_iter().chain(leading).chain(own).unzip();
    (shape, names)
}

/// The placement with these axes, without what does not fit them.
fn fitting(placement: Placement, names: Vec<String>) -> Placement {
    let dims = names.iter().filter(|name| !name.ends_with('^')).count();
    Placement {
        voxel_size: placement.voxel_size.filter(|size| size.dims() == dims),
        offset: placement.offset.filter(|offset| offset.dims() == dims),
        units: placement.units.filter(|units| units.len() == dims),
        axis_names: Some(names),
    }
}

/// ImageJ's stacks above 4 GB: one directory, then all pages one after another.
fn raw_stack(
    path: &Path,
    file: &TiffFile,
    layout: Layout,
    found: Placement,
    placement: &Placement,
) -> Result<Box<dyn ArrayRead>> {
    let page = file.page;
    let refuse = |reason: &str| Error::file(path, format!("its description names a stack, {reason}"));
    if page.compressed || page.tiled || page.samples != 1 {
        return Err(refuse("but there is one page"));
    }
    let mut decoder = decoder(path)?;
    let offsets = decoder.get_tag_u64_vec(Tag::StripOffsets).map_err(broken(path))?;
    let order = match decoder.byte_order() {
        tiff::tags::ByteOrder::LittleEndian => Order::Little,
        tiff::tags::ByteOrder::BigEndian => Order::Big,
    };
    let start = offsets
        .first()
        .copied()
        .ok_or_else(|| refuse("but there are no values"))?;
    // Slowest first; channels are the fastest of ImageJ's axes.
    let mut by_stride = layout.axes.clone();
    by_stride.sort_by_key(|&(_, _, stride)| std::cmp::Reverse(stride));
    let lengths = by_stride.iter().map(|&(_, length, _)| length);
    let rows = Rows {
        file: File::open(path).map_err(Error::io("open", path))?,
        path: path.to_owned(),
        start,
        shape: lengths.chain([page.height, page.width]).collect(),
        dtype: page.dtype,
        order,
    };
    rows.check()?;
    let (shape, names) = axes(&layout, page);
    let spec = placement.spec(fitting(found, names), &shape, page.dtype)?;
    let order = by_stride
        .iter()
        .map(|axis| {
            layout
                .axes
                .iter()
                .position(|other| other == axis)
                .unwrap_or_default()
        })
        .collect();
    let block = layout
        .axes
        .iter()
        .map(|_| 1)
        .chain([page.height, page.width])
        .collect();
    Ok(Box::new(BlockArray::new(spec, block, Raw { rows, order })))
}

/// Pages that stand one after another.
struct Raw {
    rows: Rows,
    /// For each leading axis of the file, which of the array it is.
    order: Vec<usize>,
}

impl Blocks for Raw {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let [height, width] = [
            self.rows.shape[self.order.len()],
            self.rows.shape[self.order.len() + 1],
        ];
        let leading = self.order.iter().map(|&axis| index[axis]..index[axis] + 1);
        let part: Vec<_> = leading.chain([0..height, 0..width]).collect();
        self.rows.read(&part).map(Some)
    }
}
