//! Names that callers choose, checked once and turned into one path component each. What stands at which
//! path is the array store's affair; paths of several components are [`crate::identifiers`].
//!
//! A name is any text. As a component it is written so:
//!
//! - Printable ASCII stays as it is, and with it `agglomerate(threshold=0.6)` or
//!   `WatershedPostProcessorParameters(id=2, bias=0.5, context=(32, 32, 32))`.
//! - Any other byte of its UTF-8 is written `%XX` (upper-case hexadecimal), and so are `%` itself, `/`, `\`,
//!   the wildcards and quotes `* ? " < > |`, a leading dot or space, a trailing dot or space, the dot of a
//!   trailing `.zarr` or `.n5` (which would read as a container), and the first byte of a name that the
//!   format or the layout has taken at that level (`zarr.json`, a leading `__`, `inputs`, …).
//! - The empty name, and one of more than [`MAX_COMPONENT`] bytes as written, are refused.
//!
//! Components are therefore ASCII: no file system can confuse two Unicode normal forms, because none ever
//! reaches one. Upper and lower case are kept as they are, since DaCapo's own names need both; a store refuses
//! to create a name beside its twin of another case ([`crate::Error::Twin`]), so that a base directory means
//! the same on a file system that ignores case.
//!
//! Run names are typed and browsed by people, so they are never encoded: what would need it is refused.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

/// Longest component in bytes, as written: below the 255 of file systems, so that a program can still put a
/// suffix of its own behind it.
pub const MAX_COMPONENT: usize = 200;

/// What a name stands for; decides which words are taken at its level.
pub trait Kind: Clone + fmt::Debug + Eq + Ord + std::hash::Hash {
    /// The words that errors use.
    const WHAT: &'static str;
    /// Whether a name that would have to be encoded is refused instead.
    const VERBATIM: bool = false;
    /// Whether the layout uses this lower-cased word itself where such a name stands.
    fn taken(word: &str) -> bool;
}

macro_rules! kinds {
    ($($kind:ident, $alias:ident, $what:literal, $verbatim:literal, $taken:expr, $doc:literal;)*) => {$(
        #[doc = concat!("Marks a ", $what, ".")]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {}
        impl Kind for $kind {
            const WHAT: &'static str = $what;
            const VERBATIM: bool = $verbatim;
            fn taken(word: &str) -> bool {
                let taken: fn(&str) -> bool = $taken;
                taken(word)
            }
        }
        #[doc = $doc]
        pub type $alias = Name<$kind>;
    )*};
}

kinds! {
    Run, RunName, "run name", true, |word| matches!(word, "configs" | "stats"),
        "A run: a directory of the base directory, beside DaCapo's `configs` and `stats`.";
    Dataset, DatasetName, "dataset name", false, |word| word == "inputs",
        "A dataset that is validated: `<iteration>/<dataset>/…`.";
    Parameters, ParametersName, "parameters name", false, |_| false,
        "A set of post-processing parameters: `…/output/<parameters>`.";
    Index, IndexName, "index", false, |word| matches!(word, "raw" | "gt"),
        "A dataset whose inputs are stored: `inputs/<index>/{raw,gt}`, beside `inputs/{raw,gt}`.";
    Best, BestName, "name of a best array", false, |word| word == "inputs" || is_number(word),
        "A level of `[<index>/]<criterion>`, which stands beside `inputs` and the iterations.";
}

/// A criterion, such as `voi`, by which the best array is kept.
pub type CriterionName = BestName;

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A checked name and the path component that it is written as.
///
/// ```
/// use dacapo_store::{DatasetName, RunName};
/// assert_eq!(DatasetName::new("crop 2")?.component(), "crop 2");
/// assert_eq!(DatasetName::new("a/b")?.component(), "a%2Fb");
/// assert_eq!(DatasetName::from_component("a%2Fb")?.as_str(), "a/b");
/// assert!(RunName::new("../other").is_err());
/// # Ok::<(), dacapo_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K: Kind> {
    text: String,
    component: String,
    kind: PhantomData<K>,
}

impl<K: Kind> Name<K> {
    /// Checks `text` and writes it as a component.
    ///
    /// # Errors
    /// [`Error::Name`] for an empty or too long name, and for a run name that is not a plain file name.
    pub fn new(text: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Name {
            what: K::WHAT,
            name: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(refuse("it is empty".to_owned()));
        }
        let mut component = String::with_capacity(text.len());
        for (position, character) in text.char_indices() {
            match why_encoded::<K>(text, position, character) {
                None => component.push(character),
                Some(why) if K::VERBATIM => return Err(refuse(why)),
                Some(_) => {
                    let mut utf8 = [0; 4];
                    for byte in character.encode_utf8(&mut utf8).bytes() {
                        component.push_str(&format!("%{byte:02X}"));
                    }
                }
            }
        }
        if component.len() > MAX_COMPONENT {
            let length = component.len();
            return Err(refuse(format!(
                "it takes {length} bytes on disk, and {MAX_COMPONENT} are allowed"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            component,
            kind: PhantomData,
        })
    }

    /// The name that [`component`](Self::component) wrote.
    ///
    /// # Errors
    /// [`Error::Name`] if no name is written so: another program made the file.
    pub fn from_component(component: &str) -> Result<Self> {
        decode(component)
            .and_then(|text| Self::new(&text).ok())
            .filter(|name| name.component == component)
            .ok_or_else(|| Error::Name {
                what: K::WHAT,
                name: component.to_owned(),
                reason: "no name is written like this on disk".to_owned(),
            })
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as it stands in a path.
    pub fn component(&self) -> &str {
        &self.component
    }
}

/// Why the character at `position` cannot stand in a component; nothing if it can.
fn why_encoded<K: Kind>(text: &str, position: usize, character: char) -> Option<String> {
    let first = position == 0;
    let last = position + character.len_utf8() == text.len();
    let escaped = character.escape_default();
    match character {
        '/' | '\\' | '%' | '*' | '?' | '"' | '<' | '>' | '|' => {
            Some(format!("`{character}` may not stand in it"))
        }
        _ if character.is_ascii_control() => Some(format!("the control character {escaped} stands in it")),
        _ if !character.is_ascii() => Some(format!(
            "`{character}` ({escaped}) is not ASCII, which file systems write in different ways"
        )),
        '.' if first => Some("it begins with a dot".to_owned()),
        '.' if last => Some("it ends with a dot".to_owned()),
        '.' if is_container_suffix(&text[position..]) => Some("it ends like a container".to_owned()),
        ' ' if first || last => Some("it begins or ends with a space".to_owned()),
        '_' if first && text.starts_with("__") => Some("Zarr keeps names that begin with `__`".to_owned()),
        _ if first => {
            let word = text.to_ascii_lowercase();
            (word == "zarr.json" || K::taken(&word)).then(|| "the store uses this word itself".to_owned())
        }
        _ => None,
    }
}

/// Whether a path component that ends so is taken for a container.
pub(crate) fn is_container_suffix(suffix: &str) -> bool {
    suffix.eq_ignore_ascii_case(".zarr") || suffix.eq_ignore_ascii_case(".n5")
}

fn decode(component: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

impl<K: Kind> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K: Kind> FromStr for Name<K> {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl<K: Kind> Serialize for Name<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Name<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in [
            "crop2",
            "WatershedPostProcessorParameters(id=2, bias=0.5, context=(32, 32, 32))",
            "agglomerate(threshold=0.6)",
            "mutex_watershed(short=0.5, long=0.5)",
            "a.b",
            "_a",
            "7",
            "run:0",
        ] {
            assert_eq!(DatasetName::new(name).unwrap().component(), name);
            assert_eq!(ParametersName::new(name).unwrap().component(), name);
            assert_eq!(RunName::new(name).unwrap().component(), name);
        }
    }

    #[test]
    fn unsafe_names_are_encoded_and_as_runs_refused() {
        for (name, component) in [
            ("a/b", "a%2Fb"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("../../x", "%2E.%2F..%2Fx"),
            ("/etc/passwd", "%2Fetc%2Fpasswd"),
            ("a\0b", "a%00b"),
            ("a\nb", "a%0Ab"),
            (".zarray", "%2Ezarray"),
            ("trailing ", "trailing%20"),
            (" ", "%20"),
            ("100%", "100%25"),
            ("Z\u{fc}rich", "Z%C3%BCrich"),
            ("Zu\u{308}rich", "Zu%CC%88rich"),
            ("snapshot.zarr", "snapshot%2Ezarr"),
            ("zarr.json", "%7Aarr.json"),
            ("__hidden", "%5F_hidden"),
        ] {
            assert_eq!(DatasetName::new(name).unwrap().component(), component);
            let refused = RunName::new(name).unwrap_err().to_string();
            assert!(refused.starts_with("run name "), "{refused}");
        }
    }

    #[test]
    fn words_of_the_layout_are_taken_only_where_they_would_meet() {
        assert_eq!(DatasetName::new("inputs").unwrap().component(), "%69nputs");
        assert_eq!(DatasetName::new("10").unwrap().component(), "10");
        assert_eq!(IndexName::new("0").unwrap().component(), "0");
        assert_eq!(IndexName::new("RAW").unwrap().component(), "%52AW");
        assert_eq!(BestName::new("10").unwrap().component(), "%310");
        assert_eq!(CriterionName::new("voi").unwrap().component(), "voi");
        assert!(RunName::new("configs").is_err() && RunName::new("Stats").is_err());
        assert!(RunName::new("inputs").is_ok() && DatasetName::new("configs").is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_refused_with_the_reason() {
        let reason = |name: &str| DatasetName::new(name).unwrap_err().to_string();
        assert_eq!(reason(""), "dataset name \"\" is refused: it is empty");
        let long = reason(&"x".repeat(300));
        assert!(
            long.ends_with("it takes 300 bytes on disk, and 200 are allowed"),
            "{long}"
        );
        assert_eq!(
            RunName::new("a/b").unwrap_err().to_string(),
            "run name \"a/b\" is refused: `/` may not stand in it"
        );
    }

    #[test]
    fn what_this_store_never_writes_does_not_decode() {
        for component in [
            "", "a/b", "%2f", "%41", "%", "%4", "%C3", "inputs", ".zattrs", "%6", "a%",
        ] {
            assert!(DatasetName::from_component(component).is_err(), "{component}");
        }
    }

    /// Names as people type them, and names that were made to break things.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{1,40}",
            "[./%_ a-cA-C0-9\\\\]{1,8}",
            any::<String>(),
            prop::sample::select(vec![
                "inputs",
                "raw",
                "gt",
                "zarr.json",
                "a.zarr",
                "a.N5",
                "..",
                "12"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn check<K: Kind>(text: &str) -> Result<(), TestCaseError> {
        let Ok(name) = Name::<K>::new(text) else {
            return Ok(());
        };
        let component = name.component();
        prop_assert!(component.is_ascii() && component.len() <= MAX_COMPONENT);
        prop_assert!(!component.contains(['/', '\\', '\0']) && !component.starts_with('.'));
        let word = component.to_ascii_lowercase();
        prop_assert!(word != "zarr.json" && !K::taken(&word) && !word.ends_with(".zarr"));
        prop_assert_eq!(Name::<K>::from_component(component).unwrap(), name);
        Ok(())
    }

    proptest! {
        #[test]
        fn components_are_safe_and_decode_to_their_name(text in name()) {
            check::<Run>(&text)?;
            check::<Dataset>(&text)?;
            check::<Parameters>(&text)?;
            check::<Index>(&text)?;
            check::<Best>(&text)?;
        }

        #[test]
        fn no_two_names_meet(texts in prop::collection::vec(name(), 2..40)) {
            let mut seen = HashMap::new();
            for text in texts {
                let Ok(name) = BestName::new(&text) else { continue };
                // Apart from the case of letters, names stay apart even where a file system ignores case.
                let first = seen.entry(name.component().to_ascii_lowercase()).or_insert_with(|| text.clone());
                prop_assert!(first.eq_ignore_ascii_case(&text));
            }
        }
    }
}
