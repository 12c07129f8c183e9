//! Convolutions of any shape, drawn at random.

use super::{Case, case, pool};
use crate::conv::ConvGeometry;
use crate::simd::InstructionSet;
use proptest::prelude::*;

fn same_bits(case: &Case) {
    let t = case.tensors();
    for set in InstructionSet::available() {
        let results = [1, 2, 3, 8].map(|threads| pool(threads).install(|| case.run(set, &t)));
        let same = results[1..].iter().all(|r| *r == results[0]);
        assert!(same, "{:?} {set:?}", case.geometry);
    }
}

/// A length that a kernel fits into, with the padding.
fn fitting(kernel: usize, padding: usize) -> std::ops::Range<usize> {
    kernel.saturating_sub(2 * padding).max(1)..14
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Any,
    Tiled,
    Doubling,
}

/// Any convolution: sizes odd and even, also below a vector's, channels that fill no group, batches; in planes as well.
fn any_case() -> impl Strategy<Value = Case> {
    let kernel = prop::sample::select(vec![1usize, 2, 3, 5]);
    let axis = (kernel, 1usize..=2, 0usize..=2).prop_flat_map(|(kernel, stride, padding)| {
        let padding = padding.min(kernel / 2);
        (
            fitting(kernel, padding),
            Just(kernel),
            Just(stride),
            Just(padding),
        )
    });
    let axes = [axis.clone(), axis.clone(), axis];
    // Most of them of the kinds that have tiles.
    let kind = prop::sample::select(vec![Kind::Any, Kind::Tiled, Kind::Tiled, Kind::Doubling]);
    let sizes = (1usize..=9, 1usize..=9, 1usize..=4);
    (axes, kind, sizes, any::<[bool; 3]>()).prop_map(
        |(axes, kind, (ci, co, batch), [flat, relu, transposed])| {
            let mut geometry = ConvGeometry {
                in_channels: ci,
                out_channels: co,
                input: [0, 1, 2].map(|a| axes[a].0),
                kernel: [0, 1, 2].map(|a| axes[a].1),
                stride: [0, 1, 2].map(|a| axes[a].2),
                padding: [0, 1, 2].map(|a| axes[a].3),
            };
            if kind == Kind::Doubling {
                geometry.kernel = [4; 3];
                geometry.stride = [2; 3];
                geometry.padding = [1; 3];
                for n in &mut geometry.input[..2] {
                    *n = n.next_multiple_of(4) - *n % 2;
                }
            }
            if kind == Kind::Tiled {
                geometry.input = geometry.input.map(|n| n.max(3));
                geometry.kernel = [3; 3];
                geometry.stride = [1; 3];
                geometry.padding = geometry.padding.map(|p| p.min(1));
            }
            if flat && kind != Kind::Doubling {
                (geometry.input[0], geometry.kernel[0]) = (1, 1);
                (geometry.stride[0], geometry.padding[0]) = (1, 0);
            }
            let transposed = (transposed || kind == Kind::Doubling) && geometry.transposed_output().is_ok();
            Case {
                geometry,
                batch,
                relu,
                transposed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_shape_is_as_exact(case in any_case()) {
        case.check_all();
    }

    #[test]
    fn any_shape_has_the_same_bits_on_any_threads(case in any_case()) {
        same_bits(&case);
    }
}

/// Planes with channels enough for tiles along x, of which rows are shorter and longer than any vector.
fn any_planes() -> impl Strategy<Value = Case> {
    let width = prop_oneof![3usize..=13, 15usize..=19, 30usize..=35, 62usize..=68];
    let input = (1usize..=4, 3usize..=13, width);
    (
        input,
        16usize..=21,
        16usize..=21,
        1usize..=4,
        0usize..=2,
        any::<bool>(),
    )
        .prop_map(|((depth, height, width), ci, co, batch, padding, relu)| {
            let case = case([ci, co], [depth, height, width], [1, 3, 3], 1, padding);
            Case {
                batch,
                relu,
                ..flat(case)
            }
        })
}

/// Without padding along z.
fn flat(mut case: Case) -> Case {
    case.geometry.padding[0] = 0;
    case
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_planes_are_as_exact(case in any_planes()) {
        case.check_all();
    }

    #[test]
    fn any_planes_have_the_same_bits_on_any_threads(case in any_planes()) {
        same_bits(&case);
    }
}
