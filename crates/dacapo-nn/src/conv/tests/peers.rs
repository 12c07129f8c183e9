//! Gradients beside PyTorch's.

use super::{Case, case};
use crate::simd::InstructionSet;

/// Errors of PyTorch's float32 beside its float64, for layers as the examples have them.
#[derive(serde::Deserialize)]
struct Peer {
    channels: [usize; 2],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: usize,
    padding: usize,
    transposed: bool,
    /// Relative (L2): of the input's, the weights' and the bias' gradient.
    gradients: [f64; 3],
}

/// At most three times PyTorch's error. See `tests/data/conv/make.py`.
#[test]
fn gradients_are_nearly_as_exact_as_pytorchs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conv/errors.json");
    let peers: Vec<Peer> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for peer in peers {
        let case = Case {
            transposed: peer.transposed,
            ..case(peer.channels, peer.input, peer.kernel, peer.stride, peer.padding)
        };
        let t = case.tensors();
        // Plain code rounds once more, where an instruction multiplies and adds.
        let sets = InstructionSet::available();
        for set in sets.into_iter().filter(|set| set.name() != "plain") {
            let found = case.run(set, &t);
            let [output, gradients @ ..] = case.errors(&t, &found);
            let name = format!("{:?} {set:?}", case.geometry);
            assert!(output <= 5e-6, "output of {name}: {output:e}");
            for ((what, found), peer) in ["dx", "dw", "db"].iter().zip(gradients).zip(peer.gradients) {
                let times = found / peer;
                assert!(times <= 3.0, "{what} of {name}: {times:.2} times PyTorch's error");
            }
        }
    }
}
