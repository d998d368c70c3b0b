#!/usr/bin/env bash
# Checks the program on a host with a GPU: every kernel, golden data, batches against the CPU's and against canvases
# alone, and one table of figures beside PyTorch's in the same run.
#
#   deploy/cuda/check.sh     needs what build.sh needs, an NVIDIA driver for CUDA 13 or later, 60 GB of GPU memory, and
#                            14 GB of disk
set -euo pipefail
cd "$(dirname "$0")/../.."

kept=${UNMASK_CUDA:-$HOME/.cache/unmask-cuda}
deploy/cuda/build.sh
export LD_LIBRARY_PATH=$kept/toolkit/lib/nvidia/cu13/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

echo "== tests on the GPU"
export UNMASK_TEST_GPU=0
on_gpu() {
    deploy/cuda/build.sh cargo test --release --locked -p unmask-model --no-default-features --features cuda "$@" \
        --nocapture --test-threads 1
}
on_gpu --lib cuda::twin --
on_gpu --test golden --test in_candle --
on_gpu --test invariance _among_seven_others --
on_gpu --test memos --

echo "== versions"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
target/cuda/unmask --version
if ! [ -x "$kept/torch/bin/python" ]; then
    python3 -m venv "$kept/torch"
    "$kept/torch/bin/pip" install --quiet torch numpy
fi
# PyTorch brings libraries of its own.
"$kept/torch/bin/python" deploy/cuda/measure.py target/cuda/unmask
