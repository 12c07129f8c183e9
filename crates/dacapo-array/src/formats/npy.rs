//! NumPy's `.npy` files: read by window, written part by part. Arrays of records, of text and of objects are
//! none that have voxels.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

use crate::dtype::with_dtype;
use crate::memory::{Typed, filled};
use crate::{ArrayRead, ArraySpec, DType, Element, Error, NdData, Result, Roi};

use super::aside::Aside;
use super::blocks::{self, part, part_mut};
use super::parts::{OnPart, PART, go_through, parts};
use super::placement::Placement;
use super::rows::{self, Rows};
use super::values::{self, Order};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers longer than this are not read.
const MOST_HEADER: u64 = 1 << 20;

/// An array in a `.npy` file. A window reads its rows, no more.
#[derive(Debug)]
pub(super) struct NpyArray {
    spec: ArraySpec,
    rows: Rows,
    /// Whether the first axis of the array is the fastest in the file, not the last.
    fortran: bool,
}

/// What a header says.
struct Header {
    dtype: DType,
    order: Order,
    fortran: bool,
    shape: Vec<usize>,
}

impl NpyArray {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::File`] if it is none, or too short, or of values that arrays cannot have; [`Error::Spec`] if the
    /// placement does not fit; [`Error::Io`].
    pub(super) fn open(path: &Path, placement: &Placement) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let (header, start) = header(&mut file, path)?;
        let mut shape = header.shape.clone();
        if header.fortran {
            shape.reverse();
        }
        let rows = Rows {
            file,
            path: path.to_owned(),
            start,
            shape,
            dtype: header.dtype,
            order: header.order,
        };
        rows.check()?;
        let spec = placement.spec(Placement::default(), &header.shape, header.dtype)?;
        Ok(Self {
            spec,
            rows,
            fortran: header.fortran,
        })
    }

    fn read_part(&self, array: &[Range<usize>]) -> Result<NdData> {
        if self.fortran {
            let turned: Vec<_> = array.iter().rev().cloned().collect();
            Ok(values::reversed(self.rows.read(&turned)?))
        } else {
            self.rows.read(array)
        }
    }
}

impl ArrayRead for NpyArray {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        let (begin, shape) = blocks::window(&self.spec, roi)?;
        let (inside, at) = blocks::shared(&begin, &shape, &self.spec.shape());
        let found = self.read_part(&inside)?;
        if found.shape() == shape && !self.fortran {
            return Ok(found);
        }
        with_dtype!(self.spec.dtype, T => {
            let mut window = filled(&shape, T::default())?;
            if let Some(found) = T::of(&found) {
                let whole: Vec<_> = found.shape().iter().map(|&n| 0..n).collect();
                part_mut(window.view_mut(), &at).assign(&part(found.view(), &whole));
            }
            Ok(T::wrap(window))
        })
    }
}

/// Reads a file's header; also the byte at which the values begin.
fn header(file: &mut File, path: &Path) -> Result<(Header, u64)> {
    let fail = |reason: &str| Error::file(path, reason);
    let read = |file: &mut File, count: usize| -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes)
            .map_err(|_| fail("its header is cut off"))?;
        Ok(bytes)
    };
    let there = rows::length(file, path)?;
    let first = read(file, 8)?;
    if !first.starts_with(MAGIC) {
        return Err(fail("it is no .npy file: it does not begin as one"));
    }
    let (length, before) = match first[6] {
        1 => {
            let bytes = read(file, 2)?;
            (u64::from(u16::from_le_bytes([bytes[0], bytes[1]])), 10)
        }
        2 | 3 => {
            let bytes = read(file, 4)?;
            (
                u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
                12,
            )
        }
        version => return Err(fail(&format!("its .npy version {version} is not known"))),
    };
    if length > MOST_HEADER || before + length > there {
        return Err(fail("its header is cut off"));
    }
    let text = String::from_utf8(read(file, length as usize)?).map_err(|_| fail("its header is no text"))?;
    let header = parse(&text).map_err(|reason| fail(&reason))?;
    Ok((header, before + length))
}

/// Reads the Python dictionary of a header.
fn parse(text: &str) -> std::result::Result<Header, String> {
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    let garbled = || format!("its header `{}` makes no sense", text.trim_end());
    let mut rest = text.trim().strip_prefix('{').ok_or_else(garbled)?;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if rest.starts_with('}') {
            break;
        }
        let (key, after) = quoted(rest).ok_or_else(garbled)?;
        let value = after
            .trim_start()
            .strip_prefix(':')
            .ok_or_else(garbled)?
            .trim_start();
        rest = match key {
            "descr" if value.starts_with('[') => {
                return Err("its values are records; save one field of them by itself".into());
            }
            "descr" => {
                let (name, after) = quoted(value).ok_or_else(garbled)?;
                dtype = Some(value_type(name)?);
                after
            }
            "fortran_order" => {
                let known = [("True", true), ("False", false)];
                let (name, value_found) = known
                    .into_iter()
                    .find(|(name, _)| value.starts_with(name))
                    .ok_or_else(garbled)?;
                fortran = Some(value_found);
                &value[name.len()..]
            }
            "shape" => {
                let (inside, after) = value
                    .strip_prefix('(')
                    .and_then(|value| value.split_once(')'))
                    .ok_or_else(garbled)?;
                let lengths = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|length| !length.is_empty());
                let lengths: std::result::Result<Vec<usize>, _> = lengths
                    .map(|length| length.trim_end_matches('L').parse())
                    .collect();
                shape = Some(lengths.map_err(|_| format!("its shape ({inside}) is none"))?);
                after
            }
            _ => return Err(garbled()),
        };
    }
    match (dtype, fortran, shape) {
        (Some(_), Some(_), Some(shape)) if shape.is_empty() => Err("it holds one number, no array".into()),
        (Some((dtype, order)), Some(fortran), Some(shape)) => Ok(Header {
            dtype,
            order,
            fortran,
            shape,
        }),
        _ => Err(garbled()),
    }
}

/// A text in quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// NumPy's name of a type, `<f4`.
fn value_type(name: &str) -> std::result::Result<(DType, Order), String> {
    let order = match name.chars().next() {
        Some('>') => Order::Big,
        Some('=') => Order::NATIVE,
        _ => Order::Little,
    };
    let dtype = match name.trim_start_matches(['<', '>', '=', '|']) {
        "b1" => DType::Bool,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "f4" => DType::F32,
        "f8" => DType::F64,
        _ => {
            return Err(format!(
                "values of NumPy's type `{name}` are not supported; convert them with astype first"
            ));
        }
    };
    Ok((dtype, order))
}

fn type_name(dtype: DType) -> String {
    let kind = match dtype {
        DType::Bool => 'b',
        DType::F32 | DType::F64 => 'f',
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => 'i',
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 'u',
    };
    let order = if dtype.size() == 1 { '|' } else { '<' };
    format!("{order}{kind}{}", dtype.size())
}

/// Writes an array to a file, in C order, little endian. The file has no place for voxel size and offset.
pub(super) fn write(array: &dyn ArrayRead, path: &Path, overwrite: bool, on_part: OnPart<'_>) -> Result<()> {
    let spec = array.spec();
    let shape = spec.shape();
    let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        type_name(spec.dtype),
        lengths.join(", ")
    );
    // Values begin at a multiple of 64 bytes, the header ends in a new line.
    while !(MAGIC.len() + 4 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| Error::file(path, "its shape has too many axes"))?;
    let start = [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
    let bytes = shape.iter().product::<usize>() * spec.dtype.size();
    let (aside, mut file) = Aside::file(path, overwrite)?;
    file.write_all(&start)
        .and_then(|()| file.set_len((start.len() + bytes) as u64))
        .map_err(Error::io("write", path))?;
    let rows = Rows {
        file,
        path: path.to_owned(),
        start: start.len() as u64,
        shape: shape.clone(),
        dtype: spec.dtype,
        order: Order::Little,
    };
    let parts = parts(spec, &vec![1; spec.spatial_dims()], PART);
    go_through(&parts, on_part, |roi| {
        let (begin, size) = blocks::window(spec, roi)?;
        rows.write(&blocks::shared(&begin, &size, &shape).0, &array.read(roi)?)
    })?;
    aside.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy_are_read() {
        let header = parse("{'descr': '>u2', 'fortran_order': True, 'shape': (3, 4), }     \n").unwrap();
        assert_eq!(
            (header.dtype, header.order, header.fortran),
            (DType::U16, Order::Big, true)
        );
        assert_eq!(header.shape, [3, 4]);
        assert_eq!(
            parse("{'shape': (7,), 'fortran_order': False, 'descr': '|b1'}")
                .unwrap()
                .shape,
            [7]
        );
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        for (bad, says) in [
            ("", "makes no sense"),
            ("{", "makes no sense"),
            ("{'descr': '<f4', 'fortran_order': False}", "makes no sense"),
            (
                "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}",
                "makes no sense",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}",
                "shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
                "shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                "one number",
            ),
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (2,)}", "`<f2`"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "`|O`"),
            (
                "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
                "records",
            ),
            ("{'descr': '", "makes no sense"),
            ("{é: 1}", "makes no sense"),
        ] {
            let error = parse(bad).err().unwrap();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
