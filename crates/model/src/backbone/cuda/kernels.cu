// A kernel for each type, and for heads of up to 64 and up to 128 numbers.
#include "attention.cuh"
#include "attention_f32.cuh"
#include "product.cuh"

#define PRODUCT(NAME, TYPE)                                                                                            \
    extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)                                                   \
        NAME(const TYPE *left, const TYPE *right, TYPE *out, uint32_t rows, uint32_t columns, uint32_t inner,          \
             uint32_t in_chunks) {                                                                                     \
        product(left, right, out, rows, columns, inner, in_chunks);                                                    \
    }

PRODUCT(product_bf16, Bf16)
PRODUCT(product_f16, F16)
PRODUCT(product_f32, float)

#define ATTENTION(NAME, TYPE, ...)                                                                                     \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                    \
        NAME(const TYPE *query, uint32_t query_stride, const TYPE *key, uint32_t key_stride, const TYPE *value,        \
             uint32_t value_stride, TYPE *out, uint32_t out_stride, const Tile *tiles, const uint32_t *seen,           \
             uint32_t width, uint32_t repeat, float scale, uint32_t in_chunks) {                                       \
        __VA_ARGS__({query, query_stride}, {key, key_stride}, {value, value_stride}, {out, out_stride}, tiles, seen,   \
                    {width, repeat, scale, in_chunks});                                                                \
    }

ATTENTION(attention_bf16_64, Bf16, attend<Bf16, 64>)
ATTENTION(attention_bf16_128, Bf16, attend<Bf16, 128>)
ATTENTION(attention_f16_64, F16, attend<F16, 64>)
ATTENTION(attention_f16_128, F16, attend<F16, 128>)
ATTENTION(attention_f32_64, float, attend_f32<64>)
ATTENTION(attention_f32_128, float, attend_f32<128>)
