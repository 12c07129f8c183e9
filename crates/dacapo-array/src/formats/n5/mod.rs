//! N5 containers: folders of `attributes.json` and blocks. Axes stand in the opposite order there, fastest
//! first, in shapes, block places and positions alike.

mod attributes;
mod block;
mod read;
mod write;

pub(super) use read::{is_dataset, open};
pub(super) use write::write;

/// The name of a container and the dataset in it, where a path or URL has a component that ends in `.n5`.
pub(super) fn split(path: &std::path::Path) -> Option<(String, String)> {
    let text = path.to_str()?.trim_end_matches('/');
    let parts: Vec<&str> = text.split('/').collect();
    let at = parts.iter().rposition(|part| part.ends_with(".n5"))?;
    Some((parts[..=at].join("/"), parts[at + 1..].join("/")))
}
