#!/bin/sh
# Makes the pictures of augmentation.md: the same crop of the test fixture, varied by one augmentation at a time.
#
#     docs/augmentation.sh            # builds the program, if it is not named: DACAPO=target/release/dacapo
set -eu
cd "$(dirname "$0")/.."
dacapo=${DACAPO:-cargo run --release --quiet --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

picture() {
    # Nothing but what is asked for.
    augment=$2
    for off in 'flips: false' 'transposes: false' 'intensity_scale: [1, 1]' 'intensity_shift: [0, 0]' 'noise: 0'; do
        case $2 in
            *"${off%%:*}:"*) ;;
            *) augment="$augment${augment:+, }$off" ;;
        esac
    done
    cat > "$work/$1.yaml" <<YAML
name: $1
seed: 1
num_iterations: 1
data:
  train: [{name: fib25, raw: $PWD/tests/fixtures/fib25_96.zarr/raw, labels: $PWD/tests/fixtures/fib25_96.zarr/labels}]
task: {kind: affinities, neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
architecture: {kind: unet, input_shape: [48, 48, 48], padding: same, downsample_factors: [[2, 2, 2]]}
trainer:
  augment: {$augment}
YAML
    $dacapo train "$work/$1.yaml" --preview 1 --out "$work/$1" > "$work/$1.txt"
    cp "$work/$1/0001.png" "docs/pictures/augment-$1.png"
}

picture none ''
picture flips 'flips: true, transposes: true'
picture rotation 'elastic: {control_point_spacing: [16, 16, 16], jitter_sigma: [0, 0, 0], rotation: [30, 30], outside: mirror}'
picture elastic 'elastic: {control_point_spacing: [12, 12, 12], jitter_sigma: [0, 3, 3], outside: mirror}'
picture scale 'elastic: {control_point_spacing: [16, 16, 16], jitter_sigma: [0, 0, 0], scale: [1.6, 1.6], outside: mirror}'
picture uniform 'elastic: {control_point_spacing: [16, 16, 16], jitter_sigma: [1, 1, 1], rotate: uniform, outside: mirror}'
picture contrast 'intensity_scale: [1.5, 1.5], intensity_shift: [0.1, 0.1]'
picture gamma 'gamma: [2, 2]'
picture poisson 'poisson: {counts: [15, 15]}'
picture noise 'noise: 0.3'
picture blur 'blur: {sigma: [1.5, 1.5]}'
picture sections 'sections: {missing: 0.06, low_contrast: 0.08, stained: 0.15, slipped: 0.1, shifted: 0.05, max_shift: 5}'
picture folds 'sections: {folded: 1, fold_width: [6, 10]}'
