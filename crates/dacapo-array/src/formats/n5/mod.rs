//! N5 containers: folders of `attributes.json` and blocks. Axes stand in the opposite order there, fastest
//! first, in shapes, block places and positions alike.

mod attributes;
mod block;
mod read;
mod write;

pub(super) use read::{is_dataset, open};
pub(super) use write::write;

/// The name of a container and the dataset in it, where a path has a component that ends in `.n5`.
pub(super) fn split(path: &std::path::Path) -> Option<(std::path::PathBuf, String)> {
    let parts: Vec<_> = path.components().collect();
    let is_container = |part: &std::path::Component<'_>| part.as_os_str().to_string_lossy().ends_with(".n5");
    let at = parts.iter().rposition(is_container)?;
    let dataset: Option<Vec<&str>> = parts[at + 1..]
        .iter()
        .map(|part| part.as_os_str().to_str())
        .collect();
    Some((parts[..=at].iter().collect(), dataset?.join("/")))
}
