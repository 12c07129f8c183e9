# What is done often. `just` lists it.

default:
    @just --list

# Everything that needs no other program.
test:
    cargo test --workspace

# What runs before a change lands.
ci:
    .ci/run

# Format and lint.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Measure beside PyTorch (see bench/README.md).
bench *arguments:
    cd bench && cargo build --release && python run.py {{arguments}}
