// Passes over one row by all threads of a block. What a pass computes depends on the row alone: every thread sees the
// elements thread, thread + THREADS, …, and sums are added in one order.
//
// nvcc compiles the first half. A C++ compiler takes the second, which does the same thread by thread in the same order
// of additions: so what is built on these passes is tested where there is no GPU.
#pragma once

#include <cmath>
#include <cstdint>

constexpr uint32_t THREADS = 512;
constexpr uint32_t WARP = 32;
constexpr uint32_t WARPS = THREADS / WARP;
// Sums that one pass makes at the same time.
constexpr uint32_t SUMS = 32;

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")

DEVICE uint32_t bits_of(float value) { return __float_as_uint(value); }
DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }

struct Block {
    // WARPS + 1 times SUMS.
    double *shared;

    DEVICE bool first() const { return threadIdx.x == 0; }

    // f(i) for all i below n. What it writes is seen by the passes that follow.
    template <typename F> DEVICE void each(uint32_t n, F f) {
        for (uint32_t i = threadIdx.x; i < n; i += THREADS)
            f(i);
        __syncthreads();
    }

    // The largest f(i), at least 0.
    template <typename F> DEVICE uint64_t largest(uint32_t n, F f) {
        uint64_t found = 0;
        for (uint32_t i = threadIdx.x; i < n; i += THREADS)
            found = max(found, uint64_t(f(i)));
        for (uint32_t step = WARP / 2; step > 0; step /= 2)
            found = max(found, uint64_t(__shfl_xor_sync(~0u, (unsigned long long)found, step)));
        uint64_t *slots = reinterpret_cast<uint64_t *>(shared);
        if (threadIdx.x % WARP == 0)
            slots[threadIdx.x / WARP] = found;
        __syncthreads();
        for (uint32_t warp = 0; warp < WARPS; warp++)
            found = max(found, slots[warp]);
        __syncthreads();
        return found;
    }

    // f(i, sums) adds to any of SUMS sums, which start at 0; all threads get the totals.
    template <typename F> DEVICE void totals(uint32_t n, F f, double *out) {
        double sums[SUMS];
UNROLL
        for (uint32_t j = 0; j < SUMS; j++)
            sums[j] = 0.0;
        for (uint32_t i = threadIdx.x; i < n; i += THREADS)
            f(i, sums);
        // Threads of a warp exchange halves of what they hold, until thread j has all of sum j.
UNROLL
        for (uint32_t step = WARP / 2; step > 0; step /= 2) {
            const bool upper = threadIdx.x & step;
UNROLL
            for (uint32_t j = 0; j < step; j++) {
                const double sent = upper ? sums[j] : sums[j + step];
                const double kept = upper ? sums[j + step] : sums[j];
                sums[j] = kept + __shfl_xor_sync(~0u, sent, step);
            }
        }
        shared[threadIdx.x] = sums[0];
        __syncthreads();
        double *total = shared + WARPS * SUMS;
        if (threadIdx.x < SUMS) {
            double sum = 0.0;
            for (uint32_t warp = 0; warp < WARPS; warp++)
                sum += shared[warp * SUMS + threadIdx.x];
            total[threadIdx.x] = sum;
        }
        __syncthreads();
UNROLL
        for (uint32_t j = 0; j < SUMS; j++)
            out[j] = total[j];
        __syncthreads();
    }
};

#else

#include <cstring>

#define DEVICE inline
#define UNROLL

DEVICE uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

DEVICE float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Block {
    bool first() const { return true; }

    template <typename F> void each(uint32_t n, F f) {
        for (uint32_t i = 0; i < n; i++)
            f(i);
    }

    template <typename F> uint64_t largest(uint32_t n, F f) {
        uint64_t found = 0;
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t value = f(i);
            found = value > found ? value : found;
        }
        return found;
    }

    template <typename F> void totals(uint32_t n, F f, double *out) {
        static double sums[THREADS][SUMS];
        std::memset(sums, 0, sizeof sums);
        for (uint32_t thread = 0; thread < THREADS; thread++)
            for (uint32_t i = thread; i < n; i += THREADS)
                f(i, sums[thread]);
        for (uint32_t first = 0; first < THREADS; first += WARP)
            for (uint32_t step = WARP / 2; step > 0; step /= 2)
                for (uint32_t thread = first; thread < first + step; thread++)
                    for (uint32_t j = 0; j < SUMS; j++)
                        sums[thread][j] += sums[thread + step][j];
        for (uint32_t j = 0; j < SUMS; j++) {
            out[j] = 0.0;
            for (uint32_t first = 0; first < THREADS; first += WARP)
                out[j] += sums[first][j];
        }
    }
};

#endif
