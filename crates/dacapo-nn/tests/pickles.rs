//! Pickles that Python wrote, and those that nobody should have written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::Path;

use dacapo_nn::Error;
use dacapo_nn::pickle::{Kind, NumpyArray, Value, read};
use proptest::prelude::*;

fn file(protocol: u8) -> Vec<u8> {
    let name = format!("tests/data/pickle/protocol{protocol}.pkl");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_protocol_says_the_same() {
    for protocol in 0..=5 {
        let pickle = read(&file(protocol)).unwrap();
        let root = pickle.root();
        let get = |key: &str| {
            root.get(key)
                .unwrap_or_else(|| panic!("{key} in protocol {protocol}"))
        };
        let list = |key: &str| get(key).items().unwrap().collect::<Vec<Value<'_>>>();
        assert_eq!(get("none").kind(), Kind::None);
        assert_eq!(
            list("truth").iter().map(|v| v.as_bool()).collect::<Vec<_>>(),
            [Some(true), Some(false)]
        );
        let ints: Vec<Option<i64>> = list("ints").iter().map(|v| v.as_int()).collect();
        let expected = [0, 255, 65535, -1, (1 << 31) - 1, i64::MIN, i64::MAX].map(Some);
        assert_eq!(ints[..7], expected, "protocol {protocol}");
        let big = ["1180591620717411303424", "0x400000000000000000"];
        assert!(matches!(list("ints")[7].kind(), Kind::BigInt(digits) if big.contains(&digits)));
        let floats: Vec<Option<f64>> = list("floats").iter().map(|v| v.as_f64()).collect();
        assert_eq!(floats, [Some(0.5), Some(-1e300), Some(f64::INFINITY)]);
        assert_eq!(get("text").as_text(), Some("zürich 😀 \\ ' \n"));
        assert_eq!(get("bytes").as_bytes().unwrap().as_ref(), b"\x00\xff'");
        let lengths: Vec<usize> = list("tuples").iter().map(|t| t.items().unwrap().len()).collect();
        assert_eq!(lengths, [0, 1, 2, 3, 4]);
        assert_eq!(list("set")[0].as_int(), Some(7));
        assert_eq!(list("twice")[1].item(0).unwrap().as_text(), Some("shared"));
        let inner = get("loop").item(0).unwrap().item(0).unwrap().item(0).unwrap();
        assert_eq!(inner.kind(), Kind::List);
        assert_eq!(get("class").global(), Some(("collections", "OrderedDict")));
        let object = get("object");
        assert_eq!(object.class(), Some(("__main__", "Weights")));
        let model = object.state().unwrap().get("model").unwrap();
        assert_eq!(model.get("b").unwrap().item(0).unwrap().as_f64(), Some(2.5));
        assert_eq!(model.pairs().unwrap().len(), 2);
        let scalars: Vec<Option<f64>> = list("scalars").iter().map(|v| v.as_f64()).collect();
        assert_eq!(scalars, [0.25, 0.25, -3.0, 1.0].map(Some), "protocol {protocol}");
        assert_eq!(list("scalars")[2].as_int(), Some(-3));
        for key in ["array", "columns"] {
            let array = NumpyArray::of(get(key)).unwrap_or_else(|| panic!("{key} in protocol {protocol}"));
            assert_eq!(array.shape, [2, 3]);
            assert_eq!(array.values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{key}");
        }
    }
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn errors_say_where_and_what() {
    let begin = "not a pickle that can be read: at byte ";
    for (bytes, rest) in [
        (
            &b""[..],
            "0, the next opcode: it needs 1 more bytes, and 0 are left",
        ),
        (b"]\xffe.", "1, an opcode: there is none of byte 0xff"),
        (b"\x80\x06N.", "0, PROTO: protocol 6 is not known, only 0 to 5"),
        (b"(K\x01.", "3, STOP: more than one value is left"),
        (
            b"K\x01",
            "2, the next opcode: it needs 1 more bytes, and 0 are left",
        ),
        (b"h\x05.", "0, BINGET: nothing was kept as 5"),
        (b"Na.", "1, APPEND: there is no value for it"),
        (b"N(a.", "2, APPEND: there is no value for it"),
        (b"NNa.", "2, APPEND: what it would append to is no list"),
        (b"}(Nu.", "3, SETITEMS: a key has no value"),
        (b"NNb.", "2, BUILD: what it would build is no object"),
        (b"X\x01\x00\x00\x00\xff.", "0, BINUNICODE: its text is not UTF-8"),
        (b"Ix\n.", "0, INT: \"x\" is no whole number"),
        (
            b"\x82\x01.",
            "0, EXT1: it names a class by a number of the program that wrote it",
        ),
        (
            b"\x97.",
            "0, NEXT_BUFFER: it refers to a buffer outside of the pickle",
        ),
    ] {
        assert_eq!(error(bytes), format!("{begin}{rest}"));
    }
}

#[test]
fn what_python_would_run_is_a_name() {
    let pickle = read(b"cos\nsystem\n(S'echo harm'\ntR.").unwrap();
    let root = pickle.root();
    assert_eq!(root.class(), Some(("os", "system")));
    assert_eq!(root.args().unwrap().item(0).unwrap().as_text(), Some("echo harm"));
    let pickle = read(b"(ios\nsystem\n.").unwrap();
    assert_eq!(pickle.root().class(), Some(("os", "system")));
}

#[test]
fn lengths_that_are_not_there_reserve_nothing() {
    for begin in [&b"\x8d"[..], b"\x8e", b"\x96", b"\x95"] {
        let bytes = [begin, &[0xff; 8], b"."].concat();
        assert!(matches!(read(&bytes), Err(Error::Pickle { .. })));
    }
    for begin in [b"X", b"B", b"T", b"\x8b"] {
        let bytes = [&begin[..], &[0xff, 0xff, 0xff, 0x7f], b"."].concat();
        assert!(matches!(read(&bytes), Err(Error::Pickle { .. })));
    }
}

#[test]
fn a_pickle_of_millions_of_opcodes_ends_soon() {
    // Lists in lists, as deep as can be written; each dropped without recursion.
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    assert!(read(&deep).is_ok());
    assert!(error(&vec![b'('; 2_000_000]).contains("nested deeper"));
    assert!(error(&vec![b'N'; 20_000_000]).contains("wait on its stack"));
    // Tuples that double what is in them: 2^1000 entries, if anybody followed them all.
    let mut doubled = b"]".to_vec();
    for _ in 0..1000 {
        doubled.extend(b"2\x86");
    }
    doubled.push(b'.');
    assert!(read(&doubled).is_ok());
    // One that asks for more memory than it may.
    let mut dicts = vec![b'}'; 30_000_000];
    dicts.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = b'0');
    assert!(error(&dicts).contains("take more than"));
}

/// A file with a few bytes changed, some left out and some there twice.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6);
    (0..=5_u8, edits).prop_map(|(protocol, edits)| {
        let mut bytes = file(protocol);
        for (index, byte, how) in edits {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, byte),
                _ => {
                    let copy = bytes[at..].to_vec();
                    bytes.splice(at..at, copy.into_iter().take(byte.into()));
                }
            }
        }
        bytes
    })
}

/// Asks every question of the values that are near.
fn look(value: Value<'_>, depth: usize) {
    let _ = (
        value.kind(),
        value.as_int(),
        value.as_f64(),
        value.as_bytes(),
        value.class(),
        value.global(),
    );
    let _ = (NumpyArray::of(value), format!("{value:?}"));
    if depth == 0 {
        return;
    }
    let inner = [value.args(), value.state(), value.persistent(), value.get("text")];
    inner
        .into_iter()
        .flatten()
        .for_each(|value| look(value, depth - 1));
    value
        .items()
        .into_iter()
        .flatten()
        .take(9)
        .for_each(|value| look(value, depth - 1));
    for (key, value) in value.pairs().into_iter().flatten().take(9) {
        look(key, depth - 1);
        look(value, depth - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(pickle) = read(&bytes) {
            look(pickle.root(), 4);
        }
    }

    #[test]
    fn opcodes_in_any_order_are_read_or_refused(
        bytes in prop::collection::vec(prop::sample::select(&b"(.012K\x01NQRab}eh\x00]ojq\x05st)u\x85\x86\x93\x94\x81\x92\x8f\x90\x91"[..]), 0..60)
    ) {
        if let Ok(pickle) = read(&bytes) {
            look(pickle.root(), 4);
        }
    }

    #[test]
    fn damaged_files_are_read_or_refused(bytes in mutated()) {
        if let Ok(pickle) = read(&bytes) {
            look(pickle.root(), 4);
        }
    }
}
