//! Values as they are typed on the command line: regions, sizes, lists of names.

use crate::report::misused;
use dacapo::array::{Coordinate, Decimal, Roi, ZarrFormat};
use dacapo::kernels::Connectivity;

fn number(text: &str) -> Result<Decimal, String> {
    text.trim().parse::<Decimal>().map_err(|error| error.to_string())
}

/// Reads `0:100,20:40`, with or without brackets.
pub fn roi(text: &str) -> Result<Roi, String> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    let corner = |axis: &str| -> Result<(Decimal, Decimal), String> {
        let (begin, end) = axis
            .split_once(':')
            .ok_or_else(|| format!("`{axis}` is not begin:end"))?;
        let (begin, end) = (number(begin)?, number(end)?);
        if begin < end {
            Ok((begin, end))
        } else {
            Err(format!("`{axis}` is empty"))
        }
    };
    let corners: Vec<(Decimal, Decimal)> = text.split(',').map(corner).collect::<Result<_, _>>()?;
    let begin = Coordinate::new(corners.iter().map(|corner| corner.0));
    Ok(Roi::between(
        &begin,
        &Coordinate::new(corners.iter().map(|corner| corner.1)),
    ))
}

/// Reads `40,4.6,4.6`, with or without parentheses.
pub fn coordinate(text: &str) -> Result<Coordinate, String> {
    let text = text.trim_start_matches('(').trim_end_matches(')');
    let numbers: Vec<Decimal> = text.split(',').map(number).collect::<Result<_, _>>()?;
    Ok(Coordinate::new(numbers))
}

/// Reads a voxel size: as [`coordinate`], of numbers above 0.
pub fn voxel_size(text: &str) -> Result<Coordinate, String> {
    let size = coordinate(text)?;
    match size.iter().all(|size| size.is_positive()) {
        true => Ok(size),
        false => Err("sizes are above 0".into()),
    }
}

/// Reads gigabytes, as bytes.
pub fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * 1e9) as u64),
        _ => Err("that is no number of gigabytes above 0".to_owned()),
    }
}

/// Reads the version of a Zarr format.
pub fn format(text: &str) -> Result<ZarrFormat, String> {
    match text {
        "2" => Ok(ZarrFormat::V2),
        "3" => Ok(ZarrFormat::V3),
        _ => Err("there are versions 2 and 3".to_owned()),
    }
}

/// Which voxels are neighbours, by how many there are in data of so many axes; those over faces where nothing is said.
pub fn connectivity(count: Option<u32>, dims: usize) -> anyhow::Result<Connectivity> {
    let Some(count) = count else {
        return Ok(Connectivity::Faces);
    };
    match (dims, count) {
        (2, 4 | 8) | (3, 6 | 18 | 26) => Ok(Connectivity::from_neighbors(count)?),
        (2, _) => misused!("a voxel of an image has 4 or 8 neighbours, not --connectivity {count}"),
        _ => misused!("a voxel of a volume has 6, 18 or 26 neighbours, not --connectivity {count}"),
    }
}

/// Refuses options that the chosen method does not have: what each is called, whether it is given, and what it is for.
pub fn check_vain(options: &[(&str, bool, &str)]) -> anyhow::Result<()> {
    match options.iter().find(|(_, is_vain, _)| *is_vain) {
        Some((option, _, about)) => misused!("{option} is about {about}"),
        None => Ok(()),
    }
}

/// Reads a number that is finite.
pub fn finite(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("`{text}` is no number")),
    }
}

/// Reads a number of things, from 0.
pub fn count(text: &str) -> Result<usize, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{text}` is no whole number from 0"))
}

/// Reads a number of voxels, from 1.
pub fn length(text: &str) -> Result<usize, String> {
    match count(text) {
        Ok(length) if length > 0 => Ok(length),
        _ => Err(format!("`{text}` is no whole number from 1")),
    }
}

/// Reads an offset in voxels: `-1,0,0`.
pub fn offset(text: &str) -> Result<Vec<i64>, String> {
    let number = |number: &str| {
        let parsed = number.trim().parse::<i64>();
        parsed.map_err(|error| format!("`{number}`: {error}"))
    };
    text.split(',').map(number).collect()
}

/// Reads `1,2,2`, or one number for all axes: voxels along z, y and x.
pub fn voxels(text: &str) -> Result<[usize; 3], String> {
    let numbers: Vec<usize> = text.split(',').map(count).collect::<Result<_, _>>()?;
    match numbers.as_slice() {
        [all] => Ok([*all; 3]),
        [y, x] => Ok([0, *y, *x]),
        [z, y, x] => Ok([*z, *y, *x]),
        _ => Err("there are at most 3 axes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rois_are_read_as_they_are_printed() {
        let text = "[1200:1700, 0:2500, 4.6:9.2]";
        assert_eq!(roi(text).unwrap().to_string(), text);
        assert_eq!(roi("-4:4").unwrap().to_string(), "[-4:4]");
        for bad in ["", "1", "2:1", "a:b", "1:2:3"] {
            assert!(roi(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn neighbours_are_counted_as_there_are_axes() {
        let found = |count, dims| connectivity(Some(count), dims).ok();
        assert_eq!(found(8, 2), Some(Connectivity::Edges));
        assert_eq!(found(18, 3), Some(Connectivity::Edges));
        assert_eq!(found(26, 3), Some(Connectivity::Corners));
        for (count, dims) in [(8, 3), (4, 3), (26, 2), (6, 2), (5, 3)] {
            assert_eq!(found(count, dims), None, "{count} of {dims} axes");
        }
        assert_eq!(connectivity(None, 2).unwrap(), Connectivity::Faces);
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        assert_eq!(
            (finite("-0.5"), count("0"), length("3")),
            (Ok(-0.5), Ok(0), Ok(3))
        );
        for bad in ["nan", "inf", "-inf", "x"] {
            assert!(finite(bad).is_err(), "{bad}");
        }
        assert!(count("-1").is_err() && length("0").is_err() && voxels("-1").is_err());
    }

    #[test]
    fn coordinates_are_read_as_they_are_printed() {
        let text = "(40, 4.6, -3)";
        assert_eq!(coordinate(text).unwrap().to_string(), text);
        for bad in ["", "4,", "4,x", "0,4", "4,-4"] {
            assert!(voxel_size(bad).is_err(), "{bad}");
        }
    }
}
