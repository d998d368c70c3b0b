#!/usr/bin/env bash
# Builds the program for NVIDIA GPUs on a machine that has none, from the packages of crates.io and PyPI alone.
#
#   deploy/cuda/build.sh          makes target/cuda/unmask: without the embedded model, stripped, below 60 MB
#   deploy/cuda/build.sh --check  compiles and lints the feature and tests nothing; says so and does nothing where there
#                                 is neither nvcc nor an earlier build's toolkit
#
# It needs Rust, a C compiler, and Python with venv; Linux on x86-64. The first build takes about half an hour of one
# core, most of it candle's kernels.
#   CUDA_COMPUTE_CAP  the oldest GPU that must run it: 80 Ampere, 89 Ada, 90 Hopper (default)
#   CUDA_HOME         a toolkit that is there already; none is installed then
#   UNMASK_CUDA       where toolkit and objects are kept (default ~/.cache/unmask-cuda)
set -euo pipefail
cd "$(dirname "$0")/../.."

# What the driver compiles at start must not be newer than the driver: 580 and later have CUDA 13.0.
version='13.0.*'
packages=(nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-nvrtc nvidia-cublas)
largest=60000000
kept=${UNMASK_CUDA:-$HOME/.cache/unmask-cuda}
installed=$kept/toolkit/lib/nvidia/cu13
check=false
if [ "${1:-}" = --check ]; then check=true; fi

step() { printf '\n== %s\n' "$*"; }

if [ -n "${CUDA_HOME:-}" ]; then
    toolkit=$CUDA_HOME
elif [ -x "$installed/bin/nvcc" ]; then
    toolkit=$installed
elif $check; then
    echo "skipped: there is no nvcc here, so nothing of the feature \`cuda\` was compiled; deploy/cuda/build.sh installs one"
    exit 0
else
    step "toolkit"
    python3 -m venv "$kept/toolkit"
    "$kept/toolkit/bin/pip" install --quiet "${packages[@]/%/==$version}" 'nvidia-curand==10.4.*'
    ln -sfn "$(cd "$kept"/toolkit/lib/python3*/site-packages/nvidia && pwd)" "$kept/toolkit/lib/nvidia"
    toolkit=$installed
fi
export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit PATH=$toolkit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CARGO_TARGET_DIR=$kept/target
nvcc --version | tail -2

if $check; then
    step "lints with the feature cuda"
    cargo clippy --release --locked -p unmask-model -p unmask-api --all-targets --no-default-features --features hub,cuda \
        -- -D warnings
    exit 0
fi

step "libraries to link against"
# The manifest of the crate that declares CUDA's functions.
find_cudarc='import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))'
cudarc=$(dirname "$(cargo metadata --locked --all-features --format-version 1 | python3 -c "$find_cudarc")")
deploy/cuda/late.sh "$toolkit" "$cudarc" "$kept/libraries"

step "program"
export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols
cargo rustc --release --locked -p unmask-api --bin unmask --no-default-features --features hub,cuda \
    -- -L "native=$kept/libraries"

mkdir -p target/cuda
cp "$CARGO_TARGET_DIR/release/unmask" target/cuda/unmask
size=$(stat -c %s target/cuda/unmask)
printf '\ntarget/cuda/unmask: %d bytes\n' "$size"
if [ "$size" -gt "$largest" ]; then
    echo "more than $largest" >&2
    exit 1
fi
# It must start where there is no CUDA at all.
target/cuda/unmask --version
