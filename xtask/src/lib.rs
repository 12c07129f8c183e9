//! Nothing but tests: `cargo test -p xtask` checks the tree.
