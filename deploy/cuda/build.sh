#!/usr/bin/env bash
# Builds the program for NVIDIA GPUs on a machine that has none, from the packages of crates.io and PyPI alone.
#
#   deploy/cuda/build.sh            makes target/cuda/unmask: without the embedded model, stripped, at most 60 MB
#   deploy/cuda/build.sh --check    lints the feature's code and assembles its kernels; where no nvcc is found it says
#                                   so and does nothing
#   deploy/cuda/build.sh COMMAND …  runs a command (cargo test …) in the environment that the program is built in
#
# It needs Rust, a C and C++ compiler, and Python with venv, on Linux and x86-64. The first build takes about half an
# hour of one core, most of it candle's kernels.
#   CUDA_COMPUTE_CAP  the oldest GPU that must run it: 80 Ampere, 89 Ada, 90 Hopper (default)
#   CUDA_HOME         a toolkit that is there already; none is installed then
#   UNMASK_CUDA       where toolkit and objects are kept (default ~/.cache/unmask-cuda)
set -euo pipefail
cd "$(dirname "$0")/../.."

# The driver compiles the kernels at start, and takes none that are newer than itself: 580 and later know CUDA 13.0.
version='13.0.*'
packages=(cuda-nvcc cuda-crt nvvm cuda-runtime cuda-cccl cuda-nvrtc cublas)
largest=60000000
kept=${UNMASK_CUDA:-$HOME/.cache/unmask-cuda}
installed=$kept/toolkit/lib/nvidia/cu13
features=(--no-default-features --features "hub,cuda")

step() { printf '\n== %s\n' "$*"; }

if [ -n "${CUDA_HOME:-}" ]; then
    toolkit=$CUDA_HOME
elif [ -x "$installed/bin/nvcc" ]; then
    toolkit=$installed
elif [ "${1:-}" = --check ]; then
    echo "skipped: there is no nvcc, so the feature \`cuda\` was not compiled; deploy/cuda/build.sh installs one"
    exit 0
else
    step "toolkit"
    python3 -m venv "$kept/toolkit"
    pinned=("${packages[@]/%/==$version}")
    "$kept/toolkit/bin/pip" install --quiet "${pinned[@]/#/nvidia-}" 'nvidia-curand==10.4.*'
    ln -sfn "$(echo "$kept"/toolkit/lib/python3*/site-packages/nvidia)" "$kept/toolkit/lib/nvidia"
    toolkit=$installed
fi
export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit PATH=$toolkit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CARGO_TARGET_DIR=$kept/target
export UNMASK_CUDA_LIBRARIES=$kept/libraries

step "libraries to link against"
find_cudarc='import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))'
cudarc=$(cargo metadata --locked --all-features --format-version 1 | python3 -c "$find_cudarc")
deploy/cuda/late.sh "$toolkit" "$(dirname "$cudarc")" "$UNMASK_CUDA_LIBRARIES"

case "${1:-}" in
'') ;;
--check)
    step "kernels"
    # As the driver will: what asks for more than a GPU has would fail there, when it is first used.
    for kernels in crates/model/src/*/cuda/*.cu; do
        echo "$kernels"
        nvcc -cubin -std=c++17 -O3 -fmad=false -arch="sm_$CUDA_COMPUTE_CAP" -o /dev/null "$kernels"
    done
    step "lints with the feature cuda"
    exec cargo clippy --release --locked -p unmask-model -p unmask-api --all-targets "${features[@]}" -- -D warnings
    ;;
*) exec "$@" ;;
esac

step "program"
export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols
# candle mentions kernels for mixtures of experts, half of a program, in functions that nothing here calls. Only who
# sees the whole program knows that, and leaves them out.
export CARGO_PROFILE_RELEASE_LTO=thin
cargo build --release --locked -p unmask-api --bin unmask "${features[@]}"
mkdir -p target/cuda
cp "$CARGO_TARGET_DIR/release/unmask" target/cuda/unmask
size=$(stat -c %s target/cuda/unmask)
echo "target/cuda/unmask: $size bytes"
if [ "$size" -gt "$largest" ]; then
    echo "that is more than $largest" >&2
    exit 1
fi
# It starts where there is no CUDA, and says what is missing.
target/cuda/unmask --version
