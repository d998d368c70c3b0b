// A block for each row.
#include "row.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    read_rows(const Row *rows, const uint32_t *lists, const float *logits, uint32_t vocabulary, float *work, Found *found,
              Alternative *alternatives, uint32_t most_alternatives) {
    __shared__ double shared[(WARPS + 1) * SUMS];
    Block block = {shared};
    const size_t row = blockIdx.x;
    read_row(block, rows[row], lists, logits, vocabulary, work + row * vocabulary, found + row,
             alternatives + row * most_alternatives);
}
