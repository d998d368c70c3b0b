// libcublas and libcurand, as far as candle calls them: one product of matrices, in plain sums, and no random numbers.
#include "values.hpp"

#include <cstdio>
#include <cstdlib>

#define LIBRARY extern "C" __attribute__((visibility("default"))) int

namespace {

// As cudaDataType_t has them.
enum Type : int { F32 = 0, F16 = 2, BF16 = 14 };

float read(const void *numbers, size_t place, int type) {
    if (type == F32)
        return static_cast<const float *>(numbers)[place];
    if (type == F16)
        return static_cast<const Half *>(numbers)[place];
    return static_cast<const Brain *>(numbers)[place];
}

void write(void *numbers, size_t place, int type, float value) {
    if (type == F32)
        static_cast<float *>(numbers)[place] = value;
    else if (type == F16)
        static_cast<Half *>(numbers)[place] = Half(value);
    else
        static_cast<Brain *>(numbers)[place] = value;
}

// `lines` stretches of `inner` numbers, from a matrix that lies column by column, `lead` numbers apart.
std::vector<float> stretches(const void *matrix, size_t start, int type, int lines, int inner, int lead, bool along) {
    std::vector<float> found;
    for (size_t line = 0; line < size_t(lines); line++)
        for (size_t k = 0; k < size_t(inner); k++)
            found.push_back(read(matrix, start + (along ? line * lead + k : k * lead + line), type));
    return found;
}

} // namespace

LIBRARY cublasCreate_v2(void **handle) {
    *handle = handle;
    return 0;
}
LIBRARY cublasDestroy_v2(void *) { return 0; }
LIBRARY cublasSetStream_v2(void *, void *) { return 0; }

// C (m × n) = A · B, each as it is or turned.
LIBRARY cublasGemmStridedBatchedEx(void *, int turn_a, int turn_b, int m, int n, int k, const void *alpha,
                                   const void *a, int type_a, int lead_a, long long stride_a, const void *b, int type_b,
                                   int lead_b, long long stride_b, const void *beta, void *c, int type_c, int lead_c,
                                   long long stride_c, int count, int compute, int) {
    // Sums in f32, nothing scaled and nothing added.
    if (compute != 68 || *static_cast<const float *>(alpha) != 1.0f || *static_cast<const float *>(beta) != 0.0f) {
        std::fprintf(stderr, "pretended cuBLAS: a product of another kind (%d)\n", compute);
        std::abort();
    }
    for (int number = 0; number < count; number++) {
        const auto left = stretches(a, number * stride_a, type_a, m, k, lead_a, turn_a);
        const auto right = stretches(b, number * stride_b, type_b, n, k, lead_b, !turn_b);
        for (size_t j = 0; j < size_t(n); j++)
            for (size_t i = 0; i < size_t(m); i++) {
                float sum = 0.0f;
                for (size_t l = 0; l < size_t(k); l++)
                    sum += left[i * k + l] * right[j * k + l];
                write(c, number * stride_c + j * lead_c + i, type_c, sum);
            }
    }
    return 0;
}

LIBRARY curandCreateGenerator(void **generator, int) {
    *generator = generator;
    return 0;
}
LIBRARY curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
LIBRARY curandSetStream(void *, void *) { return 0; }
LIBRARY curandDestroyGenerator(void *) { return 0; }
