// What the kernels beside this file are written in: threads of a block, warps of 32 that multiply small matrices
// together, and copies into shared memory that arrive later.
//
// nvcc compiles this file. A C++ compiler takes simulated.cuh, where every thread runs on a processor and the
// instructions do what the PTX manual says they do: so the kernels are tested where there is no GPU.
#pragma once

#include <cstdint>

constexpr uint32_t WARP = 32;

// The two 16-bit types, as they are stored.
struct Bf16 {
    uint16_t bits;
};
struct F16 {
    uint16_t bits;
};

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define SHARED __shared__ __align__(16)
// For all i below a constant count, unrolled: what they index stays in registers.
#define EACH(I, COUNT) _Pragma("unroll") for (uint32_t I = 0; I < (COUNT); I++)

DEVICE uint32_t thread_number() { return threadIdx.x; }
DEVICE uint32_t block_x() { return blockIdx.x; }
DEVICE uint32_t block_y() { return blockIdx.y; }

// All threads of the block have come here, and see what the others have written.
DEVICE void barrier() { __syncthreads(); }
// The same for the threads of a warp.
DEVICE void warp_barrier() { __syncwarp(); }

// The value that the lane passes whose number differs in the bits of `mask`.
DEVICE float shuffle_xor(float value, uint32_t mask) { return __shfl_xor_sync(~0u, value, mask); }

DEVICE float exponential_2(float value) { return exp2f(value); }

DEVICE uint32_t shared_address(const void *pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

// Copies 16 bytes to shared memory, or zeros when they are not `wanted`. They are there after wait_for_copies in the
// same thread, and for the others after a barrier.
DEVICE void copy_16(void *to, const void *from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(wanted ? 16 : 0)
                 : "memory");
}

// Ends a group of copies.
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups but the newest PENDING.
template <int PENDING> DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of 8 × 8 numbers of 16 bits: lane i names row i % 8 of matrix i / 8, 16 bytes in shared memory. Of
// matrix j it gets elements 2 (i % 4) and the next of row i / 4.
DEVICE void load_matrices(uint32_t (&out)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of the matrices turned, rows for columns.
DEVICE void load_matrices_turned(uint32_t (&out)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#define MULTIPLY(TYPE)                                                                                                 \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "                                        \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                     \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                              \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]))

// sum (16 × 8) += left (16 × 16) · right (16 × 8). With g = lane / 4 and t = 2 (lane % 4), a lane holds of the sum
// (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1); of left, in pairs, (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8); of
// right, in pairs, (t, g), (t + 8, g).
template <typename T> DEVICE void multiply(float (&sum)[4], const uint32_t (&left)[4], const uint32_t *right);
template <> DEVICE void multiply<Bf16>(float (&sum)[4], const uint32_t (&left)[4], const uint32_t *right) {
    MULTIPLY("bf16");
}
template <> DEVICE void multiply<F16>(float (&sum)[4], const uint32_t (&left)[4], const uint32_t *right) {
    MULTIPLY("f16");
}

#undef MULTIPLY

// Two numbers, rounded to the nearest, ties to even.
template <typename T> DEVICE uint32_t pack(float low, float high);
template <> DEVICE uint32_t pack<Bf16>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
template <> DEVICE uint32_t pack<F16>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#else
#include "simulated.cuh"
#endif

DEVICE uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Units that `count` takes.
DEVICE uint32_t units(uint32_t count, uint32_t unit) { return (count + unit - 1) / unit; }

// 16 bytes, as they are copied.
struct alignas(16) Chunk {
    uint32_t words[4];
};

// The same as numbers in f32, which are read and written at once.
struct alignas(16) Four {
    float numbers[4];
};

// The numbers of type T in a chunk.
template <typename T> constexpr uint32_t NUMBERS = sizeof(Chunk) / sizeof(T);

// The first `count` numbers at `from`, and zeros up to a chunk's end. In `chunks`, count is 0 or a whole chunk's, and
// `from` lies on a chunk's border.
template <typename T> DEVICE void fetch(Chunk *to, const T *from, uint32_t count, bool chunks) {
    if (chunks) {
        copy_16(to, from, count > 0);
        return;
    }
    T *numbers = reinterpret_cast<T *>(to);
    for (uint32_t i = 0; i < NUMBERS<T>; i++)
        numbers[i] = i < count ? from[i] : T{};
}
